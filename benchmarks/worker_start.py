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
from dataclasses import dataclass
from pathlib import Path

import cloudpickle

from matensemble import light_pickle, wire
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
        wire.make_dir(path)
    wire.write_result(
        run.chore_file("chore-up-0001", "result.pickle"), wire.dumps({"minimum": -3.5}), 1
    )
    from matensemble.model import OutputReference

    reference = OutputReference("chore-up-0001")
    call, _ = wire.freeze(((reference, 0.02), {}))
    command, _ = wire.freeze((["true", reference["minimum"]], {"in.data": "text"}))
    wire.write_atomic(run.arguments_path, call, command)
    for name, function in (("light", energy), ("real", Energy())):
        wire.write_atomic(run.registry_dir / name, cloudpickle.dumps(function, 5))
        write_record(run, name, "python", (0, len(call)), callable=name)
    write_record(run, "program", "executable", (len(call), len(command)))
    return run


def write_record(
    run: RunDir, name: str, kind: str, place: tuple[int, int], **fields: object
) -> None:
    """Write the record of a chore as the driver does."""
    wire.make_dir(run.chore_dir(f"chore-{name}-0001"))
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
    wire.write_atomic(path, wire.encode_record(record))


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


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40, help="runs of each case (default: 40)")
    rounds = parser.parse_args().rounds
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
    print_table(cases, {name: statistics.median(values) for name, values in seconds.items()})


def print_table(cases: list[Case], medians: dict[str, float]) -> None:
    """Print medians, ratios to the floor and targets."""
    python = ".".join(map(str, sys.version_info[:3]))
    compared = "" if light_pickle.can_load(cloudpickle.__version__) else " (unknown: no light path)"
    print(f"S6: one worker run; Python {python}, cloudpickle {cloudpickle.__version__}{compared}")
    print(f"{'':34}{'median ms':>10}{'ratio':>8}{'target':>8}")
    for case in cases:
        ratio = medians[case.name] / medians[FLOOR]
        target = "" if case.target is None else f"≤ {case.target}"
        mark = "" if case.target is None else ("  ok" if ratio <= case.target else "  MISSED")
        print(f"{case.name:34}{medians[case.name] * 1e3:10.1f}{ratio:8.2f}{target:>8}{mark}")


if __name__ == "__main__":
    main()
