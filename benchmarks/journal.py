"""J: what the journal costs a chore, and what it costs to take a run over from it.

Written: the records of one plain chore (intent, submitted, started, completed), in pieces of 64
chores as a busy driver writes them. Read: the same journal taken over, folded, and the state
restored from it, half of the chores having completed. The floor, in the same process: a generic
encoder with a checksum over the same fields.

    python benchmarks/journal.py [CHORES]
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from manager_core import headers
from row import HEADER, Row, print_rows

from matensemble.records import JOURNAL_FORMAT, RecordKind
from matensemble.runtime.clock import SYSTEM_CLOCK
from matensemble.runtime.journal import FileJournal
from matensemble.runtime.resumption import Legacy, take_over_journal
from matensemble.runtime.scheduler.events import AllocationLearned
from matensemble.runtime.scheduler.instructions import Record
from matensemble.runtime.scheduler.resources import Allocation, Node
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.workflow import (
    Manifest,
    Workflow,
    create_run_dir,
    present_versions,
    utc_now,
    write_workflow,
)

PIECE = 64
TARGET_MICROSECONDS = 10.0
TARGET_BYTES = 400.0


def save(basedir: Path, count: int) -> Workflow:
    """Return a saved run of `count` executables in layers of 1,000."""
    run = create_run_dir(basedir)
    manifest = Manifest(
        name="benchmark",
        created_at=utc_now(),
        versions=present_versions(),
        num_chores=count,
        next_number=count + 1,
        groups={"x": count},
    )
    write_workflow(run, manifest, headers("layers", count), io.BytesIO(), {})
    return Workflow.read(run)


def records(chore_id: str, number: int) -> list[Record]:
    """Return what the journal says of a plain chore."""
    return [
        Record(RecordKind.SUBMIT_INTENT, chore_id),
        Record(RecordKind.SUBMITTED, chore_id, 1, {"j": f"0dc704f3.{number}"}),
        Record(RecordKind.STARTED, chore_id, 1, {"h": "node0123"}),
        Record(RecordKind.COMPLETED, chore_id),
    ]


def write(workflow: Workflow, chore_ids: list[str]) -> int:
    """Write the journal of half of the chores; return its bytes."""
    fields = {"format": JOURNAL_FORMAT, "run": "benchmark", "executor": "none", "nodes": []}
    first = Record(RecordKind.RUN_STARTED, fields=fields)
    journal = FileJournal.begin(workflow.run.journal_path, 1, first, SYSTEM_CLOCK)
    for start in range(0, len(chore_ids), PIECE):
        for number, chore_id in enumerate(chore_ids[start : start + PIECE], start):
            for record in records(chore_id, number):
                journal.append(record)
        journal.flush()
    journal.close()
    return workflow.run.journal_path.stat().st_size


def encode_generically(chore_ids: list[str]) -> None:
    """Encode the same records as a design without an encoder of its own would."""
    for sequence, chore_id in enumerate(chore_ids):
        for record in records(chore_id, sequence):
            line = {"s": sequence, "e": 1, "t": time.time(), "m": time.monotonic()}
            line |= {"k": record.kind.value, "c": chore_id, **(record.fields or {})}
            data = json.dumps(line, separators=(",", ":")).encode()
            b'%b,"z":"%08x"}\n' % (data, zlib.crc32(data))


def restore(legacy: Legacy) -> None:
    """Bring a scheduler to where the journal leaves the run."""
    state = SchedulerState()
    nodes = tuple(Node(f"n{i}", 64) for i in range(100))
    state.handle(AllocationLearned(Allocation(nodes)))
    for event in legacy.restored():
        state.handle(event)


def microseconds(work: Callable[[], object], count: int) -> float:
    """Return µs of CPU for each of `count` chores."""
    start = time.process_time()
    work()
    return (time.process_time() - start) / count * 1e6


def rows(count: int) -> Iterator[Row]:
    """Yield what a journal of `count` chores costs."""
    with tempfile.TemporaryDirectory() as directory:
        workflow = save(Path(directory), 2 * count)
        chore_ids = [f"chore-x-{number:04d}" for number in range(1, count + 1)]
        floor = microseconds(lambda: encode_generically(chore_ids), count)
        start = time.process_time()
        size = write(workflow, chore_ids)
        cpu = (time.process_time() - start) / count * 1e6
        what = f"journal of {count:,} chores: written"
        yield Row("J", what, cpu, "µs", cpu / floor, TARGET_MICROSECONDS, is_ratio_limited=False)
        yield Row("J", "  size", size / count, "bytes", None, TARGET_BYTES, is_ratio_limited=False)
        start = time.process_time()
        replay, accepted = take_over_journal(workflow.run, 2)
        cpu = (time.process_time() - start) / count * 1e6
        yield Row("J", "  taken over and folded", cpu, "µs", cpu / floor)
        legacy = Legacy(workflow, replay, accepted)
        cpu = microseconds(lambda: restore(legacy), 2 * count)
        yield Row("J", f"  {2 * count:,} chores restored", cpu, "µs", cpu / floor)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=100_000)
    print(HEADER)
    print_rows(rows(parser.parse_args().count))


if __name__ == "__main__":
    main()
