"""All benchmarks in one table: ``python benchmarks [--quick] [--only S3 S9] [--results FILE]``.

Each figure stands beside its floor, measured in the same run, because machines differ and are
shared. What needs a Flux broker runs inside a ``flux start`` of its own; without a `flux` on the
PATH it is left out, and so are other systems that ``--peers-python`` does not have. ``--results``
keeps the figures for `report`, which puts them into the documentation.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import authoring
import journal
import makespan
import manager_core
import small_chores
import status_cost
import worker_start
from results import Results, describe_machine
from row import HEADER, LeftOut, Row, told
from scratch import scratch

HERE = Path(__file__).parent

Rows = Iterable[Row | LeftOut]


class Size(NamedTuple):
    """How much is measured."""

    is_quick: bool
    peers_python: str
    """Interpreter that has the other systems."""

    @property
    def rounds(self) -> int:
        """How often each case of a comparison runs; medians count."""
        return 1 if self.is_quick else 3

    @property
    def scale(self) -> int:
        """What sizes are divided by."""
        return 10 if self.is_quick else 1


def flux_jobs(size: Size) -> Iterator[Row]:
    """Yield S1 and S2, measured inside a broker of their own."""
    command = ["flux", "start", sys.executable, str(HERE / "flux_jobs.py"), "--json"]
    command += ["--chores", "50" if size.is_quick else "200", "--rounds", str(size.rounds)]
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


def small_local(size: Size) -> Rows:
    """Return S3 and S9 on this machine."""
    return small_chores.rows("local", size.rounds, 1 / size.scale, size.peers_python)


def small_flux(size: Size) -> Rows:
    """Return S3 and S9 inside a broker."""
    return small_chores.rows("flux", size.rounds, 1 / size.scale, size.peers_python)


def authored(size: Size) -> Rows:
    """Return S4."""
    return authoring.rows(20_000 // size.scale, 200_000 // size.scale, rounds=size.rounds)


def managed(size: Size) -> Rows:
    """Return S5."""
    return manager_core.rows([10_000 // size.scale, 1_000_000 // size.scale**2])


def journalled(size: Size) -> Rows:
    """Return J."""
    return journal.rows(100_000 // size.scale)


def started(size: Size) -> Rows:
    """Return S6."""
    return worker_start.rows(rounds=5 if size.is_quick else 40)


def whole(size: Size) -> Rows:
    """Return S7."""
    graphs = makespan.graphs_of(2.0, 0.3) if size.is_quick else makespan.graphs_of(10.0, 1.0)
    return makespan.rows(graphs, size.rounds, size.peers_python)


def published(_: Size) -> Rows:
    """Return S8."""
    return status_cost.rows()


class Section(NamedTuple):
    """Benchmarks that are measured together."""

    targets: tuple[str, ...]
    measure: Callable[[Size], Rows]
    needs_flux: bool = False


SECTIONS = (
    Section(("S1", "S2"), flux_jobs, needs_flux=True),
    Section(("S3", "S9"), small_local),
    Section(("S3", "S9"), small_flux, needs_flux=True),
    Section(("S4",), authored),
    Section(("S5",), managed),
    Section(("J",), journalled),
    Section(("S6",), started),
    Section(("S7",), whole),
    Section(("S8",), published),
)
TARGETS = sorted({target for section in SECTIONS for target in section.targets})


def rows_of(section: Section, size: Size) -> Rows:
    """Return what a section measures, or why it cannot."""
    if section.needs_flux and not shutil.which("flux"):
        why = "there is no flux on the PATH"
        return [LeftOut(target, "on Flux", why) for target in section.targets]
    return section.measure(size)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=TARGETS, metavar="TARGET")
    parser.add_argument("--peers-python", default=sys.executable, metavar="PATH")
    parser.add_argument("--results", type=Path, metavar="FILE", help="where to keep the figures")
    asked = parser.parse_args()
    size = Size(asked.quick, asked.peers_python)
    print(f"{describe_machine()}, Python {platform.python_version()}")
    print(HEADER)
    rows: list[Row | LeftOut] = []
    with scratch():
        for section in SECTIONS:
            if set(section.targets) & set(asked.only):
                rows += told(rows_of(section, size))
    if asked.results:
        Results.of(rows, asked.peers_python).save(asked.results)


if __name__ == "__main__":
    main()
