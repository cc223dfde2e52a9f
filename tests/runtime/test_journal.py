"""Records reach the file in order, whole, and before anything else is done."""

from __future__ import annotations

import errno
import os

import pytest

from matensemble.records import RecordKind, decode_journal_line
from matensemble.runtime.journal import MAX_LINES, FileJournal
from matensemble.runtime.scheduler.instructions import Record
from matensemble.runtime.testing import ManualClock


def records(path):
    return [decode_journal_line(line) for line in path.read_bytes().splitlines()]


def test_what_was_flushed_is_in_the_file(tmp_path):
    clock = ManualClock(monotonic=1000.0)
    journal = FileJournal(tmp_path / "j", epoch=3, clock=clock)
    journal.append(Record(RecordKind.SUBMIT_INTENT, "c", 2))
    assert (tmp_path / "j").read_bytes() == b""
    journal.flush()
    clock.advance(1.5)
    journal.append(Record(RecordKind.FAILED, "c", 2, {"r": "signal", "x": -9, "d": 'say "ä"'}))
    journal.flush()
    first, second = records(tmp_path / "j")
    assert (first.sequence, first.epoch, first.kind, first.attempt) == (1, 3, "intent", 2)
    assert first.monotonic == 0
    assert second.monotonic == 1.5
    assert second.fields == {"r": "signal", "x": -9, "d": 'say "ä"'}
    journal.close()


def test_the_file_is_private_under_any_umask(tmp_path):
    old = os.umask(0)
    try:
        FileJournal(tmp_path / "j").close()
    finally:
        os.umask(old)
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600


def test_a_journal_is_never_begun_twice(tmp_path):
    FileJournal(tmp_path / "j").close()
    with pytest.raises(FileExistsError):
        FileJournal(tmp_path / "j")


def test_close_writes_the_rest_and_may_be_repeated(tmp_path):
    journal = FileJournal(tmp_path / "j")
    journal.append(Record(RecordKind.CANCELLED, "c"))
    journal.close()
    journal.close()
    assert [r.kind for r in records(tmp_path / "j")] == ["cancelled"]


def test_a_full_disk_is_an_error_and_not_a_lost_record(tmp_path, monkeypatch):
    journal = FileJournal(tmp_path / "j")
    journal.append(Record(RecordKind.CANCELLED, "c"))

    def full(descriptor, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            journal.flush()
    journal.flush()
    assert [r.chore_id for r in records(tmp_path / "j")] == ["c"]
    journal.close()


def test_a_million_records_of_one_event_do_not_pile_up(tmp_path, monkeypatch):
    whole, sizes = os.write, []

    def write(descriptor, data):
        sizes.append(data.count(b"\n"))
        if len(sizes) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    journal = FileJournal(tmp_path / "j")
    for _ in range(2 * MAX_LINES + 1):
        journal.append(Record(RecordKind.CANCELLED, "c"))
    assert [record.sequence for record in records(tmp_path / "j")] == [*range(1, MAX_LINES + 1)]
    journal.flush()
    assert sizes == [MAX_LINES, MAX_LINES, MAX_LINES + 1]  # what the disk refused, once more
    assert [record.sequence for record in records(tmp_path / "j")] == [*range(1, 2 * MAX_LINES + 2)]
    journal.close()


def test_a_write_in_pieces_is_continued(tmp_path, monkeypatch):
    journal = FileJournal(tmp_path / "j")
    journal.append(Record(RecordKind.CANCELLED, "c"))
    whole = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: whole(descriptor, data[:7]))
    journal.flush()
    journal.close()
    assert len(records(tmp_path / "j")) == 1


def test_a_disk_that_refuses_the_end_is_an_error_and_leaves_nothing_open(tmp_path, monkeypatch):
    def refuse(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    journal = FileJournal(tmp_path / "j")
    journal.append(Record(RecordKind.RUN_STATE, fields={"state": "completed"}))
    descriptor = journal._descriptor
    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(OSError, match="No space"):
        journal.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    journal.close()  # there is nothing left to do
