"""MatEnsemble at the work that `peers` gives to other systems, in a process of its own.

Owns how our side is timed, from journal records, because what counts is when the last result was on
the disk and journalled. `measure` starts this file as `peers.measure` starts the others::

    python benchmarks/ours.py calls --cold 4000 --warm 16000
    flux start python benchmarks/ours.py programs --executor flux

``cold`` is everything from the first recorded chore to the last completion, the start of warm
workers included. ``warm`` leaves out the time in which they start: chores that keep every slot busy
for a moment come first, and the time between their first and last record does not count. All
results are read back and compared, which is not timed. Run directories stay, see `scratch`.
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from peers import KINDS, PeerError, nap, square

from matensemble.model import OutputReference
from matensemble.pipeline import Pipeline
from matensemble.records import JournalRecord, RecordKind, read_records
from matensemble.workdir import RunDir

WARM_UP_SECONDS = 0.5
"""How long each warm-up chore keeps its slot, so that no slot serves two of them."""

Record = Callable[[Pipeline, Sequence[OutputReference[Any]]], Sequence[OutputReference[Any]]]
"""Records chores that come after others, and returns them."""


@dataclass(frozen=True)
class Setting:
    """Where and how ours runs."""

    slots: int
    """Cores, each of which is a slot of a warm worker."""
    executor: str = "local"
    workers: Literal["auto", "pool", "job"] = "pool"


def run(
    setting: Setting,
    basedir: str,
    record: Record,
    check: Callable[[list[Any]], bool],
    *,
    warm: bool,
) -> float:
    """Run a pipeline and return its seconds; raises PeerError where it is not what was asked for.

    Parameters
    ----------
    setting
        Where.
    basedir
        Where the run directory goes.
    record
        Records the chores that count.
    check
        Whether their results are right.
    warm
        Whether to start the workers first, and not to count that.
    """
    began_at = time.time()
    pipe = Pipeline(basedir)
    before = _record_warm_up(pipe, setting.slots) if warm else []
    references = record(pipe, before)
    future = pipe.submit(
        executor=setting.executor,
        cores=setting.slots if setting.executor == "local" else None,
        workers=setting.workers,
    )
    results = future.result()
    assert pipe.run_dir is not None
    if not check([results[reference.chore_id] for reference in references]):
        raise PeerError(f"wrong results in {pipe.run_dir}")
    records = list(read_records(RunDir(pipe.run_dir)))
    intents = [one for one in records if one.kind == RecordKind.SUBMIT_INTENT]
    if setting.workers == "pool" and not all(one.fields.get("p") for one in intents):
        raise PeerError("not everything ran on warm workers")
    # The wall-clock time of a record has two decimals, its monotonic time more.
    offset = statistics.fmean(one.wall - one.monotonic for one in records)
    seconds = _last_completion(records) + offset - began_at
    if warm:
        seconds -= (
            _last_completion(records, {one.chore_id for one in before}) - intents[0].monotonic
        )
    return seconds


def _record_warm_up(pipe: Pipeline, slots: int) -> list[OutputReference[Any]]:
    """Record a chore for each slot, and one that comes after them."""
    first = pipe.chore(name="start")(nap)
    started = [first(WARM_UP_SECONDS) for _ in range(slots)]
    return [pipe.chore(name="started")(nap).options(after=started)(0.0)]


def _last_completion(records: list[JournalRecord], chore_ids: set[str] | None = None) -> float:
    """Return when the last of some chores, or of all, had completed; seconds of the driver."""
    completed = RecordKind.COMPLETED
    return max(
        one.monotonic
        for one in records
        if one.kind == completed and (chore_ids is None or one.chore_id in chore_ids)
    )


# --- what is run ----------------------------------------------------------------------------------


def calls(count: int) -> tuple[Record, Callable[[list[Any]], bool]]:
    """Return no-op functions."""

    def record(pipe: Pipeline, after: Sequence[OutputReference[Any]]) -> list[OutputReference[Any]]:
        chore = pipe.chore(name="square")(square).options(after=after)
        return [chore(number) for number in range(count)]

    return record, lambda values: values == [number**2 for number in range(count)]


def programs(count: int) -> tuple[Record, Callable[[list[Any]], bool]]:
    """Return executables that do nothing."""

    def record(pipe: Pipeline, after: Sequence[OutputReference[Any]]) -> list[OutputReference[Any]]:
        return [pipe.exec("true", after=after) for _ in range(count)]

    return record, lambda values: all(value.stdout_path.exists() for value in values)


def graph(steps: Sequence[tuple[float, Sequence[int], str]]) -> tuple[Record, Callable[..., bool]]:
    """Return a graph: seconds, positions of the upstream chores, and group of each."""

    def record(pipe: Pipeline, _: Sequence[OutputReference[Any]]) -> list[OutputReference[Any]]:
        groups = {name: pipe.chore(name=name)(nap) for name in {step[2] for step in steps}}
        references: list[OutputReference[Any]] = []
        for seconds, upstream, name in steps:
            references.append(groups[name](seconds, *[references[place] for place in upstream]))
        return references

    return record, lambda values: values == [step[0] for step in steps]


def measure_here(setting: Setting, kind: str, cold: int, warm: int, file: str) -> dict[str, float]:
    """Return the figures that `peers.measure_here` returns."""
    basedir = tempfile.mkdtemp()  # see `scratch`
    run(setting, basedir, *calls(1), warm=False)  # imports whatever is imported late
    if kind == "graph":
        work = graph(json.loads(Path(file).read_text()))
        return {"makespan": run(setting, basedir, *work, warm=False)}
    make = calls if kind == "calls" else programs
    return {
        "cold": run(setting, basedir, *make(cold), warm=False),
        "warm": run(setting, basedir, *make(warm), warm=True),
    }


def main() -> None:
    """Print our figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--cold", type=int, default=1000, help="chores from a cold start")
    parser.add_argument("--warm", type=int, default=1000, help="chores from a warm start")
    parser.add_argument("--slots", type=int, default=os.cpu_count())
    parser.add_argument("--executor", choices=("local", "flux"), default="local")
    parser.add_argument("--workers", choices=("auto", "pool", "job"), default="pool")
    parser.add_argument(
        "--file", default="", help="a graph: JSON, [[seconds, [position …], group] …]"
    )
    asked = parser.parse_args()
    setting = Setting(asked.slots, asked.executor, asked.workers)
    try:
        figures: dict[str, Any] = dict(
            measure_here(setting, asked.kind, asked.cold, asked.warm, asked.file)
        )
    except PeerError as error:
        figures = {"missing": str(error)}
    print("\n" + json.dumps(figures))


def measure(
    setting: Setting, kind: str, *, cold: int = 0, warm: int = 0, file: str = ""
) -> dict[str, float]:
    """Return our figures, measured in a process of its own; raises PeerError without any."""
    command = [sys.executable, __file__, kind, "--file", file]
    command += ["--cold", str(cold), "--warm", str(warm)]
    command += ["--slots", str(setting.slots), "--executor", setting.executor]
    command += ["--workers", setting.workers]
    # Byte code as it is where packages are installed.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise PeerError((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])
    figures = json.loads(done.stdout.splitlines()[-1])
    if "missing" in figures:
        raise PeerError(figures["missing"])
    return cast("dict[str, float]", figures)


if __name__ == "__main__":
    main()
