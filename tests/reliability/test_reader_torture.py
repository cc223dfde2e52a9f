"""Readers beside a writer that is as fast as it can: nobody ever sees a part of anything.

``MATENSEMBLE_LONG=1`` replaces the status 100,000 times.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from matensemble import disk
from matensemble.model import RunState
from matensemble.records import RecordKind
from matensemble.runtime.clock import SYSTEM_CLOCK
from matensemble.runtime.journal import FileJournal
from matensemble.runtime.scheduler.instructions import Record
from matensemble.status import Counts, RunStatus
from matensemble.workdir import RunDir

IS_LONG = bool(os.environ.get("MATENSEMBLE_LONG"))
NUM_REPLACEMENTS = 100_000 if IS_LONG else 2_000
NUM_RECORDS = 200_000 if IS_LONG else 10_000
NUM_READERS = 8
TIMEOUT = 1800 if IS_LONG else 90
pytestmark = [pytest.mark.slow, pytest.mark.timeout(TIMEOUT)]

READ_STATUS = """
import os, sys
os.nice(10)  # a machine with few cores is to be the writer's
from pathlib import Path
from matensemble.status import read_status
path, seen, distinct = Path(sys.argv[1]), (0, 0, 0), 0
print("ready", flush=True)
while True:
    status = read_status(path)
    now = (status.epoch, status.beat, status.sequence)
    assert now >= seen, f"{now} after {seen}"
    assert status.counts.total == status.beat == sum(g.total for g in status.groups.values())
    distinct += now != seen
    seen = now
    if status.state.is_terminal:
        break
print(distinct)
"""

FOLLOW_JOURNAL = """
import sys
from pathlib import Path
from matensemble.records import scan_journal
path, offset, sequence = Path(sys.argv[1]), 0, 0
print("ready", flush=True)
is_over, rounds = False, 0
while not is_over:
    rounds += 1
    for offset, record in scan_journal(path, start=offset):
        assert record.sequence == sequence + 1, f"{record.sequence} after {sequence}"
        sequence = record.sequence
        is_over = record.kind == "run_state"
print(sequence)
"""


class Readers:
    """Processes that read a file until it tells them to stop."""

    def __init__(self, script: str, path: Path) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-W", "error", "-c", script, str(path)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(NUM_READERS)
        ]
        for process in self._processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"

    def answers(self) -> list[int]:
        """Return what each says at its end, which must be a good one."""
        answers = []
        for process in self._processes:
            out, problems = process.communicate(timeout=TIMEOUT)
            assert process.returncode == 0, problems
            answers.append(int(out))
        return answers


def status_of(number: int, state: RunState) -> bytes:
    one, other = Counts(total=number // 2), Counts(total=number - number // 2)
    status = RunStatus(
        run="run",
        state=state,
        epoch=1 + number // 1000,
        sequence=number,
        beat=number,
        counts=Counts(total=number),
        groups={"a" * (number % 500 + 1): one, "other": other},
    )
    return json.dumps(status.to_json()).encode()


def test_nobody_sees_a_part_of_a_status(tmp_path):
    run = RunDir(tmp_path)
    disk.write_atomic(run.status_path, status_of(0, RunState.RUNNING))
    readers = Readers(READ_STATUS, run.status_path)
    for number in range(1, NUM_REPLACEMENTS):
        disk.write_atomic(run.status_path, status_of(number, RunState.RUNNING))
    disk.write_atomic(run.status_path, status_of(NUM_REPLACEMENTS, RunState.COMPLETED))
    seen = readers.answers()
    print(f"{NUM_REPLACEMENTS} replacements; the readers saw {seen}")
    assert min(seen) > 10
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_who_follows_a_journal_misses_nothing_and_sees_no_part(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    first = Record(RecordKind.RUN_STARTED, fields={"format": 1})
    journal = FileJournal.begin(path, 1, first, SYSTEM_CLOCK)
    write = os.write

    def in_pieces(descriptor: int, data: bytes) -> int:
        """Take only a part, as a full disk or a signal may bring it about."""
        return write(descriptor, data[: max(1, len(data) * 2 // 3)])

    monkeypatch.setattr(os, "write", in_pieces)
    readers = Readers(FOLLOW_JOURNAL, path)
    for number in range(NUM_RECORDS):
        journal.append(
            Record(RecordKind.SUBMITTED, "chore-a-0001", fields={"j": "x" * (number % 90)})
        )
        if number % 3 == 0:
            journal.flush()
    journal.append(Record(RecordKind.RUN_STATE, fields={"state": "completed"}))
    journal.close()
    assert readers.answers() == [NUM_RECORDS + 2] * NUM_READERS
