"""S6: what one worker run costs, against importing cloudpickle in the same interpreter.

``python benchmarks/worker_start.py [--rounds N]`` prints one table. A run is a whole process, from
its start to its committed result. The cases take turns in each round, and medians are compared, so
that a noisy host hits all of them alike; only the ratios mean something. Byte code comes from a
cache of its own, as it does where the packages are installed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
from row import HEADER, Row, print_rows

from matensemble import disk, light_pickle, wire
from matensemble.workdir import RunDir

FLOOR = "python -c 'import cloudpickle'"
AS_CODE = "from matensemble.runtime_worker import main; raise SystemExit(main())"


@dataclass(frozen=True)
class Case:
    """One command and the ratio to the floor that it may cost."""

    name: str
    argv: tuple[str, ...]
    target: float | None = None


def energy(parameters: dict[str, float], strain: float) -> float:
    """Stand for a function that costs nothing."""
    return parameters["minimum"] + strain**2


class Energy:
    """Stand for a class of the user's script, which only the real library can load."""

    def __call__(self, parameters: dict[str, float], strain: float) -> float:
        """Return what `energy` returns."""
        return parameters["minimum"] + strain**2


def write_campaign(root: Path) -> RunDir:
    """Write a run directory with one completed chore and three that use its result."""
    run = RunDir(root)
    for path in (root, run.out_dir, run.registry_dir, run.chore_dir("chore-up-0001")):
        disk.make_dir(path)
    wire.write_result(
        run.chore_file("chore-up-0001", "result.pickle"), wire.dumps({"minimum": -3.5}), 1
    )
    from matensemble.model import OutputReference

    reference = OutputReference("chore-up-0001")
    call, _ = wire.freeze(((reference, 0.02), {}))
    command, _ = wire.freeze((["true", reference["minimum"]], {"in.data": "text"}))
    disk.write_atomic(run.arguments_path, call, command)
    if __name__ != "__main__":  # as if a user's script held the two
        cloudpickle.register_pickle_by_value(sys.modules[__name__])
    for name, function in (("light", energy), ("real", Energy())):
        disk.write_atomic(run.registry_dir / name, cloudpickle.dumps(function, 5))
        write_record(run, name, "python", (0, len(call)), callable=name)
    write_record(run, "program", "executable", (len(call), len(command)))
    return run


def write_record(
    run: RunDir, name: str, kind: str, place: tuple[int, int], **fields: object
) -> None:
    """Write the record of a chore as the driver does."""
    disk.make_dir(run.chore_dir(f"chore-{name}-0001"))
    record = {
        "id": f"chore-{name}-0001",
        "name": name,
        "kind": kind,
        "attempt": 1,
        "num_tasks": 1,
        "deps": [{"id": "chore-up-0001", "kind": "python"}],
        "arguments": ("workflow.args", *place),
        "cloudpickle": cloudpickle.__version__,
        **fields,
    }
    path = run.chore_file(f"chore-{name}-0001", "chore.pickle")
    disk.write_atomic(path, wire.encode_record(record))


def list_cases(run: RunDir) -> list[Case]:
    """Return the floor first, then what is compared with it."""

    def worker(name: str, *start: str) -> tuple[str, ...]:
        chore_id = f"chore-{name}-0001"
        spec_file = str(run.chore_file(chore_id, "chore.pickle"))
        return (sys.executable, "-P", *start, "--chore-id", chore_id, "--spec-file", spec_file)

    module = ("-m", "matensemble.runtime_worker")
    return [
        Case(FLOOR, (sys.executable, "-c", "import cloudpickle")),
        Case("python -c pass", (sys.executable, "-c", "pass")),
        Case("worker -m, function", worker("light", *module), 0.6),
        Case("worker -c, function", worker("light", "-c", AS_CODE), 0.6),
        Case("worker -m, class (real library)", worker("real", *module), 1.1),
        Case("worker -c, class (real library)", worker("real", "-c", AS_CODE), 1.1),
        Case("worker -m, program `true`", worker("program", *module)),
        Case("worker -c, program `true`", worker("program", "-c", AS_CODE)),
    ]


def measure(case: Case, run: RunDir, environment: dict[str, str]) -> float:
    """Return the seconds that one run takes."""
    started = time.perf_counter()
    subprocess.run(case.argv, check=True, cwd=run.out_dir, env=environment)
    return time.perf_counter() - started


def medians(rounds: int) -> dict[str, tuple[Case, float]]:
    """Return the median seconds of each case; the cases take turns."""
    with tempfile.TemporaryDirectory() as folder:
        run = write_campaign(Path(folder, "run"))
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = f"{folder}/cache"
        cases = list_cases(run)
        for case in cases:
            measure(case, run, environment)  # fills the cache of byte code
        seconds: dict[str, list[float]] = {case.name: [] for case in cases}
        for _ in range(rounds):
            for case in cases:
                seconds[case.name].append(measure(case, run, environment))
        value = wire.load_result(
            run.chore_file("chore-light-0001", "result.pickle"), "chore-light-0001"
        )
        assert value == -3.5 + 0.02**2
    return {case.name: (case, statistics.median(seconds[case.name])) for case in cases}


def rows(rounds: int) -> Iterator[Row]:
    """Yield each case with its ratio to the floor."""
    measured = medians(rounds)
    floor = measured[FLOOR][1]
    for name, (case, seconds) in measured.items():
        yield Row("S6", name, seconds * 1e3, "ms", seconds / floor, case.target)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40, help="runs of each case (default: 40)")
    if not light_pickle.can_load(cloudpickle.__version__):
        print(f"cloudpickle {cloudpickle.__version__} is not known: there is no light path")
    print(HEADER)
    print_rows(rows(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
