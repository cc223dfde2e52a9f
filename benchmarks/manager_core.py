"""S5: cost of the manager's core, journal on, with an executor that runs nothing.

The executor ends each chore as soon as it is submitted, and nothing is written a chore but the
journal, so what is measured is scheduling, journalling, status and the reading of the saved chores.
The floor, in the same process: a generic decoder over the saved headers, and a generic encoder with
a checksum over four small records a chore; what any journalled design would pay.

    python benchmarks/manager_core.py            # 10^4 and 10^5
    python benchmarks/manager_core.py 1000000
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue

from row import HEADER, Row, print_rows

from matensemble.model import RunState
from matensemble.runtime.engine import Engine
from matensemble.runtime.executors.base import Orphan
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.inbox import Inbox
from matensemble.runtime.journal import FileJournal
from matensemble.runtime.recorder import Recorder
from matensemble.runtime.scheduler.events import AllocationLearned, ChoreRestored
from matensemble.runtime.scheduler.instructions import Submit
from matensemble.runtime.scheduler.policy import Policy
from matensemble.runtime.scheduler.resources import Allocation, Node
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.runtime.spawner import Spawner
from matensemble.runtime.testing import FakeExecutor
from matensemble.strategy import AdaptiveStrategy
from matensemble.workflow import (
    Manifest,
    Workflow,
    create_run_dir,
    present_versions,
    utc_now,
    write_workflow,
)

SHAPES = ("fan", "chain", "layers")
TARGET_MICROSECONDS = 60.0
TARGET_BYTES = 400.0
TARGET_MEGABYTES = 2000.0
ALLOCATION = Allocation(tuple(Node(f"n{i}", 64) for i in range(100)))


class PaperPreparer:
    """Makes requests without touching a file."""

    def prepare(self, order: Submit) -> LaunchRequest:
        """Return a request that no process will ever see."""
        chore = order.chore
        here = Path()
        return LaunchRequest(
            chore.id, order.attempt, chore.name, ("true",), here, here, here, chore.resources, {}
        )


def headers(shape: str, count: int) -> Iterator[str]:
    """Yield the headers of `count` executables: independent, one chain, or layers of 1,000."""
    for number in range(1, count + 1):
        header = {"id": f"chore-x-{number:04d}", "name": "x", "kind": "executable"}
        header["command"] = ["true"]
        back = {"fan": 0, "chain": 1, "layers": 1000}[shape]
        if back and number > back:
            header["deps"] = [f"chore-x-{number - back:04d}"]
        yield json.dumps(header)


def save(shape: str, count: int, basedir: Path) -> Workflow:
    """Return a saved workflow of `count` executables."""
    run_dir = create_run_dir(basedir)
    manifest = Manifest(
        name=shape,
        created_at=utc_now(),
        versions=present_versions(),
        num_chores=count,
        next_number=count + 1,
        groups={"x": count},
    )
    write_workflow(run_dir, manifest, headers(shape, count), io.BytesIO(), {})
    return Workflow.read(run_dir)


def make_engine(
    workflow: Workflow,
    journal: FileJournal,
    executor: FakeExecutor,
    restored: Iterable[ChoreRestored] | None = None,
    orphans: Sequence[Orphan] = (),
) -> tuple[Engine, Inbox]:
    """Return an engine that is ready to run a workflow, and where it takes events."""
    inbox: Inbox = SimpleQueue()
    executor.open(inbox.put, orphans)
    state = SchedulerState(Policy())
    state.handle(AllocationLearned(executor.allocation))
    logger = logging.getLogger("benchmark")
    recorder = Recorder(
        workflow.run, executor_name="fake", epoch=journal.epoch, log_delay=5.0, logger=logger
    )
    engine = Engine(
        workflow,
        state,
        executor,
        journal=journal,
        recorder=recorder,
        preparer=PaperPreparer(),
        spawner=Spawner(workflow, state),
        inbox=inbox,
        buffer_time=1.0,
        logger=logger,
        restored=restored,
    )
    return engine, inbox


def run(shape: str, count: int, basedir: Path) -> dict[str, float]:
    """Run one workflow and return its figures."""
    workflow = save(shape, count, basedir)
    journal = FileJournal(workflow.run.journal_path)
    engine, _ = make_engine(workflow, journal, FakeExecutor(ALLOCATION, auto=True))
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    strategy = AdaptiveStrategy(engine)
    assert engine.run(strategy) is RunState.COMPLETED
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    journal.close()
    size = workflow.run.journal_path.stat().st_size
    return {
        "wall_us": wall / count * 1e6,
        "cpu_us": cpu / count * 1e6,
        "floor_us": floor(min(count, 100_000)),
        "journal_bytes": size / count,
        "memory_mb": peak_megabytes(),
    }


def peak_megabytes() -> float:
    """Return the peak of resident memory of this process (macOS counts in bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def floor(count: int) -> float:
    """Return µs of CPU a chore for decoding its header and encoding four records."""
    lines = list(headers("layers", count))
    start = time.process_time()
    for number, line in enumerate(lines):
        chore = json.loads(line)
        for kind in ("intent", "submitted", "started", "completed"):
            record = {"s": number, "t": time.time(), "k": kind, "c": chore["id"]}
            text = json.dumps(record, separators=(",", ":")).encode()
            b'%b,"z":"%08x"}' % (text, zlib.crc32(text))
    return (time.process_time() - start) / count * 1e6


def measure(shape: str, count: int) -> dict[str, float]:
    """Return the figures of one run, made in a process of its own."""
    command = [sys.executable, __file__, str(count), "--one", shape]
    answer = subprocess.run(command, capture_output=True, check=True).stdout
    figures: dict[str, float] = json.loads(answer)
    return figures


def rows(counts: list[int]) -> Iterator[Row]:
    """Yield time, journal and memory of each shape and size."""
    for shape in SHAPES:
        first = 0.0
        for count in counts:
            figures = measure(shape, count)
            cpu = figures["cpu_us"]
            first = first or cpu
            what = f"manager core, {count:,} chores: {shape}"
            ratio = cpu / figures["floor_us"]
            yield Row("S5", what, cpu, "µs", ratio, TARGET_MICROSECONDS, is_ratio_limited=False)
        if len(counts) > 1:
            yield Row("S5", f"  growth from {counts[0]:,}", cpu / first, "×")
        size = figures["journal_bytes"]
        yield Row("S5", "  journal", size, "bytes", None, TARGET_BYTES, is_ratio_limited=False)
        memory = figures["memory_mb"]
        yield Row(
            "S5", "  resident memory", memory, "MB", None, TARGET_MEGABYTES, is_ratio_limited=False
        )


def main() -> None:
    """Print the table; each figure is measured in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        with tempfile.TemporaryDirectory() as directory:
            print(json.dumps(run(arguments.one, arguments.counts[0], Path(directory))))
        return
    print(HEADER)
    print_rows(rows(arguments.counts))


if __name__ == "__main__":
    main()
