"""S1 and S2: chores as Flux jobs, against bare ``flux submit`` of the cheapest program.

    flux start python benchmarks/flux_jobs.py [--chores N] [--rounds N]

Every round runs each case once, in turn, in the same instance; ratios of the median rates are
what counts. Ours is timed from the start of a saved run to its end, results on disk; bare
``flux submit`` from its start until all jobs have ended.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from matensemble.manager import FluxManager
from matensemble.model import RunState
from matensemble.pipeline import Pipeline
from matensemble.protocols import RunOptions
from matensemble.status import read_status


def energy(strain: float) -> float:
    """Stand for a function that costs nothing and needs nothing."""
    return strain**2


class Energy:
    """Stand for a class of the user's script, which only the real cloudpickle can load."""

    def __call__(self, strain: float) -> float:
        """Return what `energy` returns."""
        return strain**2


def ours(record: Callable[[Pipeline, int], None], num_chores: int, basedir: str) -> float:
    """Run a pipeline of `num_chores` and return its chores a second."""
    pipe = Pipeline(basedir)
    record(pipe, num_chores)
    run_dir = pipe.save()
    start = time.perf_counter()
    FluxManager(run_dir, RunOptions(executor="flux", workers="job")).run()
    seconds = time.perf_counter() - start
    assert read_status(Path(run_dir) / "status.json").state is RunState.COMPLETED
    return num_chores / seconds


def bare(command: list[str], num_chores: int) -> float:
    """Submit a command `num_chores` times and return the jobs a second."""
    start = time.perf_counter()
    subprocess.run(
        ["flux", "submit", "--quiet", "--wait", f"--cc=1-{num_chores}", *command],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return num_chores / (time.perf_counter() - start)


def functions(pipe: Pipeline, count: int) -> None:
    """Record functions that the light loader can build."""
    pipe.chore(name="energy")(energy).map(range(count))


def instances(pipe: Pipeline, count: int) -> None:
    """Record callables that need the real library."""
    pipe.chore(name="energy")(Energy()).map(range(count))


def programs(pipe: Pipeline, count: int) -> None:
    """Record executables."""
    for _ in range(count):
        pipe.exec("true")


def measure(num_chores: int, rounds: int) -> dict[str, float]:
    """Return the median rate of each case, in chores a second."""
    floor = [sys.executable, "-c", "import cloudpickle"]
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as basedir:
        cases: dict[str, Callable[[], float]] = {
            "bare import cloudpickle": lambda: bare(floor, num_chores),
            "function": lambda: ours(functions, num_chores, basedir),
            "instance": lambda: ours(instances, num_chores, basedir),
            "bare true": lambda: bare(["true"], num_chores),
            "executable": lambda: ours(programs, num_chores, basedir),
        }
        for _ in range(rounds):
            for name, case in cases.items():
                rates.setdefault(name, []).append(case())
    return {name: statistics.median(values) for name, values in rates.items()}


def main() -> None:
    """Print the rates, or JSON for `benchmarks/__main__.py`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chores", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    # Byte code as it is where packages are installed, for both sides alike.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    rates = measure(arguments.chores, arguments.rounds)
    if arguments.json:
        print(json.dumps(rates))
        return
    for name, rate in rates.items():
        print(f"{name:26} {rate:8.1f} /s")
    print(f"S1 function / floor  {rates['function'] / rates['bare import cloudpickle']:.2f}")
    print(f"S1 instance / floor  {rates['instance'] / rates['bare import cloudpickle']:.2f}")
    print(f"S2 executable / true {rates['executable'] / rates['bare true']:.2f}")


if __name__ == "__main__":
    main()
