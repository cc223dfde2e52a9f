"""The whole life of a huge pipeline, phase by phase: CPU time and peak memory of each.

A pipeline of executables is recorded through the public API, its graph made, saved, read back, run
on an executor without processes with the journal on, its results mapped, its status shown, and
resumed from the first half of its journal. Then what people ask of it while everything waits:
cancel it, interrupt it, let its root fail. Each phase is a process of its own, so its peak is its
own. What one phase needs of another (the recorded pipeline for its graph) is not in its time.

    python benchmarks/million.py                        # 10^6 chores; takes some minutes
    python benchmarks/million.py 100000 --shape chain
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from manager_core import ALLOCATION, TARGET_MEGABYTES, make_engine, peak_megabytes
from row import HEADER, Row, print_rows

from matensemble.errors import RunInterruptedError
from matensemble.model import RunState
from matensemble.pipeline import Pipeline
from matensemble.records import JOURNAL_FORMAT, RecordKind
from matensemble.results import Results
from matensemble.runtime.clock import SYSTEM_CLOCK
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.journal import FileJournal
from matensemble.runtime.outcomes import results_of
from matensemble.runtime.resumption import Legacy, take_over_journal
from matensemble.runtime.scheduler.events import (
    CancelRequested,
    InterruptRequested,
    RetryRequested,
)
from matensemble.runtime.scheduler.instructions import Record
from matensemble.runtime.testing import FakeExecutor, Outcome
from matensemble.strategy import AdaptiveStrategy
from matensemble.workdir import RunDir
from matensemble.workflow import Workflow

WIDTH = 1000
SHAPES = {
    "fan": "independent",
    "chain": "each after the one before",
    "layers": f"each after one of the {WIDTH} before",
    "fan-out": "all after the first",
    "fan-in": "the last after all",
    "gather": "the last gathers all",
}
SMALL = 10
"""The last three shapes have this many times fewer chores."""


class Phase(NamedTuple):
    """One thing that is done with a pipeline."""

    what: str
    work: Callable[[str, int, Path], float]
    """Takes shape, number of chores and directory, and returns seconds of CPU."""
    shapes: tuple[str, ...] = tuple(SHAPES)


def record(shape: str, count: int, basedir: Path) -> Pipeline:
    """Return a pipeline of `count` chores, recorded through the public API."""
    pipe = Pipeline(basedir)
    recorded: list[Any] = []
    for number in range(count):
        after: list[Any] = []
        inputs: dict[str, Any] = {}
        is_last = number == count - 1
        if shape == "chain" and number:
            after = [recorded[-1]]
        elif shape == "layers" and number >= WIDTH:
            after = [recorded[-WIDTH]]
        elif shape == "fan-out" and number:
            after = [recorded[0]]
        elif shape == "fan-in" and is_last:
            after = recorded
        elif shape == "gather" and is_last:
            inputs = {"table": pipe.gather("x")}
        name = "last" if is_last and shape in ("fan-in", "gather") else "x"
        recorded.append(pipe.exec(["true"], name=name, after=after, inputs=inputs))
    return pipe


# --- phases -----------------------------------------------------------------------------------


def measure_recording(shape: str, count: int, basedir: Path) -> float:
    """Record."""
    start = time.process_time()
    record(shape, count, basedir)
    return time.process_time() - start


def measure_graph(shape: str, count: int, basedir: Path) -> float:
    """Return the time of `Pipeline.graph`."""
    pipe = record(shape, count, basedir)
    start = time.process_time()
    assert len(pipe.graph()) == count
    return time.process_time() - start


def measure_saving(shape: str, count: int, basedir: Path) -> float:
    """Return the time of `Pipeline.save`; leaves the run directory for the phases behind."""
    pipe = record(shape, count, basedir)
    start = time.process_time()
    saved = pipe.save()
    seconds = time.process_time() - start
    (basedir / "saved").symlink_to(saved.name)
    return seconds


def measure_reading(shape: str, count: int, basedir: Path) -> float:
    """Return the time of reading all chores, and keep them."""
    start = time.process_time()
    assert len(list(Workflow.read(basedir / "saved").chores())) == count
    return time.process_time() - start


def measure_run(shape: str, count: int, basedir: Path) -> float:
    """Run to the end; then make the results mapping and look at every outcome."""
    workflow = Workflow.read(basedir / "saved")
    journal = begin(workflow.run, 1)
    engine, _ = make_engine(workflow, journal, FakeExecutor(ALLOCATION, auto=True))
    strategy = AdaptiveStrategy(engine)
    start = time.process_time()
    assert engine.run(strategy) is RunState.COMPLETED
    journal.close()
    results = results_of(workflow.run, engine.state)
    assert sum(results.outcome(chore_id).exit_code == 0 for chore_id in results) == count
    return time.process_time() - start


def measure_results(shape: str, count: int, basedir: Path) -> float:
    """Return the time of reading all outcomes of a finished run from its files."""
    start = time.process_time()
    results = Results.read(basedir / "saved")
    assert len(results.group("x")) >= count - 1
    return time.process_time() - start


def measure_status(shape: str, count: int, basedir: Path) -> float:
    """Return the time of `matensemble status`."""
    command = [sys.executable, "-m", "matensemble.cli", "status", str(basedir / "saved")]
    before = os.times()
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    after = os.times()
    assert f"{count:,}" in answer or str(count) in answer
    return after.children_user + after.children_system - before[2] - before[3]


def measure_resuming(shape: str, count: int, basedir: Path) -> float:
    """Resume from the first half of the journal, and run the rest."""
    run = RunDir((basedir / "saved").resolve())
    os.truncate(run.journal_path, run.journal_path.stat().st_size // 2)
    start = time.process_time()
    workflow = Workflow.read(run)
    replay, accepted = take_over_journal(run, 2)
    legacy = Legacy(workflow, replay, accepted)
    orphans = legacy.orphans()
    assert not legacy.find_revoked(logging.getLogger("benchmark"))
    assert accepted is not None
    journal = begin(run, 2, accepted._asdict())
    executor = FakeExecutor(ALLOCATION, auto=True)
    engine, _ = make_engine(workflow, journal, executor, legacy.restored(), orphans)
    assert engine.run(AdaptiveStrategy(engine)) is RunState.COMPLETED
    assert 0 < executor.num_submitted < count
    return time.process_time() - start


def measure_cancelling(shape: str, count: int, basedir: Path) -> float:
    """Cancel the whole run before anything has started."""
    workflow, journal = anew(basedir)
    engine, inbox = make_engine(workflow, journal, FakeExecutor(ALLOCATION))
    inbox.put(CancelRequested())
    start = time.process_time()
    assert engine.run(AdaptiveStrategy(engine)) is RunState.CANCELLED
    return time.process_time() - start


def measure_interrupt(shape: str, count: int, basedir: Path) -> float:
    """Interrupt a run before anything has started, as Ctrl-C does."""
    workflow, journal = anew(basedir)
    engine, inbox = make_engine(workflow, journal, FakeExecutor(ALLOCATION))
    inbox.put(InterruptRequested("Ctrl-C"))
    start = time.process_time()
    try:
        engine.run(AdaptiveStrategy(engine))
    except RunInterruptedError:
        return time.process_time() - start
    raise AssertionError("the run was not interrupted")


def measure_cascade(shape: str, count: int, basedir: Path) -> float:
    """Let the first chore fail, and all others with it."""
    workflow, journal = anew(basedir)
    executor = FakeExecutor(ALLOCATION, script=fail_first)
    engine, _ = make_engine(workflow, journal, executor)
    start = time.process_time()
    assert engine.run(AdaptiveStrategy(engine)) is RunState.FAILED
    seconds = time.process_time() - start
    assert engine.state.counts().failed == count
    return seconds


def measure_retry(shape: str, count: int, basedir: Path) -> float:
    """Let the tenth part fail, ask for all of it again, and let it succeed."""
    workflow, journal = anew(basedir)
    executor = FakeExecutor(ALLOCATION, script=fail_some)
    engine, _ = make_engine(workflow, journal, executor)
    strategy = AdaptiveStrategy(engine)
    assert engine.run(strategy) is RunState.FAILED
    failed = tuple(e.chore.id for e in engine.state if e.state.is_terminal and e.reason)
    start = time.process_time()
    engine.amend([RetryRequested(failed)])
    while not engine.state.is_finished:
        strategy.process_futures(1.0)
    assert engine.state.counts().completed == count
    return time.process_time() - start


# --- what the phases share --------------------------------------------------------------------


def fail_first(request: LaunchRequest) -> Outcome:
    """Fail what has the first number."""
    return Outcome(1 if request.chore_id.endswith("-0001") else 0)


def fail_some(request: LaunchRequest) -> Outcome:
    """Fail each tenth chore, once."""
    return Outcome(1 if request.attempt == 1 and request.chore_id.endswith("0") else 0)


def begin(run: RunDir, epoch: int, previous: dict[str, Any] | None = None) -> FileJournal:
    """Return a new journal with its first record."""
    fields = {"format": JOURNAL_FORMAT, "run": run.root.name, "executor": "fake", "nodes": []}
    if previous is not None:
        fields["previous"] = previous
    first = Record(RecordKind.RUN_STARTED, fields=fields)
    return FileJournal.begin(run.journal_path, epoch, first, SYSTEM_CLOCK)


def anew(basedir: Path) -> tuple[Workflow, FileJournal]:
    """Return the saved workflow as if it had never been started, and its first journal."""
    run = RunDir((basedir / "saved").resolve())
    for path in run.root.glob("journal*.jsonl"):
        path.unlink()
    return Workflow.read(run), begin(run, 1)


PHASES = {
    "record": Phase("recorded", measure_recording),
    "graph": Phase("Pipeline.graph", measure_graph),
    "save": Phase("checked and saved", measure_saving),
    "read": Phase("read back", measure_reading),
    "run": Phase("run, and its results mapped", measure_run),
    "results": Phase("Results.read", measure_results),
    "status": Phase("matensemble status, in all", measure_status),
    "resume": Phase("resumed from half of its journal", measure_resuming),
    "cancel": Phase("cancelled while all waits", measure_cancelling, ("fan", "chain")),
    "interrupt": Phase("interrupted while all waits", measure_interrupt, ("fan", "chain")),
    "cascade": Phase("its first chore fails, and so all", measure_cascade, ("chain", "fan-out")),
    "retry": Phase("a tenth failed, retried and run", measure_retry, ("fan",)),
}


def measure(name: str, shape: str, count: int, basedir: Path) -> tuple[float, float]:
    """Return seconds and peak megabytes of a phase, made in a process of its own."""
    command = [sys.executable, __file__, str(count), "--shape", shape]
    command += ["--phase", name, "--basedir", str(basedir)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    seconds, megabytes = json.loads(answer)
    return seconds, megabytes


def rows(count: int, shapes: list[str]) -> Iterator[Row]:
    """Yield time and memory of each phase of each shape."""
    for shape in shapes:
        number = count if shape in tuple(SHAPES)[:3] else count // SMALL
        basedir = Path(tempfile.mkdtemp())
        try:
            for name, phase in PHASES.items():
                if shape not in phase.shapes:
                    continue
                seconds, megabytes = measure(name, shape, number, basedir)
                what = f"{shape}, {number:,}: {phase.what}"
                yield Row("S5", what, seconds / number * 1e6, "µs")
                limit = TARGET_MEGABYTES
                yield Row("", "  peak", megabytes, "MB", None, limit, is_ratio_limited=False)
        finally:
            shutil.rmtree(basedir)


def main() -> None:
    """Print the table; each figure is measured in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--shape", choices=SHAPES, action="append")
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    parser.add_argument("--basedir", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    shapes = arguments.shape or list(SHAPES)
    if arguments.phase:
        logging.getLogger("benchmark").setLevel(logging.CRITICAL)  # what fails here is to fail
        phase = PHASES[arguments.phase]
        seconds = phase.work(shapes[0], arguments.count, arguments.basedir)
        print(json.dumps([seconds, peak_megabytes()]))
        return
    print(HEADER)
    print_rows(rows(arguments.count, shapes))


if __name__ == "__main__":
    main()
