"""All benchmarks in one table: ``python benchmarks [--quick]``.

Each figure stands beside its floor, measured in the same run, because machines differ and are
shared. What needs a Flux broker runs inside a ``flux start`` of its own; without a `flux` on the
PATH it is left out, and that is said.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import authoring
import journal
import manager_core
import worker_start
from row import HEADER, Row, print_rows

HERE = Path(__file__).parent


def flux_rows(num_chores: int, rounds: int) -> Iterator[Row]:
    """Yield S1 and S2, measured inside a broker of their own."""
    command = ["flux", "start", sys.executable, str(HERE / "flux_jobs.py"), "--json"]
    command += ["--chores", str(num_chores), "--rounds", str(rounds)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    rates: dict[str, float] = json.loads(answer.splitlines()[-1])
    floor = rates["bare import cloudpickle"]
    unit = "jobs/s"
    yield Row("S1", "flux submit python -c 'import cloudpickle'", floor, unit, 1.0)
    for name, limit in (("function", 1.4), ("instance", 1.0)):
        what = f"Python chores, {name}, one Flux job each"
        yield Row("S1", what, rates[name], unit, rates[name] / floor, limit, at_least=True)
    floor = rates["bare true"]
    yield Row("S2", "flux submit true", floor, unit, 1.0)
    ratio = rates["executable"] / floor
    what = "executables, one Flux job each"
    yield Row("S2", what, rates["executable"], unit, ratio, 1.0, at_least=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, in a minute")
    quick = parser.parse_args().quick
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(HEADER)
    if shutil.which("flux"):
        print_rows(flux_rows(50 if quick else 200, 1 if quick else 3))
    else:
        print("S1  left out: there is no flux on the PATH")
        print("S2  left out: there is no flux on the PATH")
    scale = 10 if quick else 1
    print_rows(authoring.rows(20_000 // scale, 200_000 // scale, rounds=1 if quick else 3))
    print_rows(manager_core.rows([10_000 // scale, 1_000_000 // (10 * scale)]))
    print_rows(journal.rows(100_000 // scale))
    print_rows(worker_start.rows(rounds=5 if quick else 40))


if __name__ == "__main__":
    main()
