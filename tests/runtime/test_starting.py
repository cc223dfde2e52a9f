"""Signs of life of a driver that has begun nothing yet."""

from __future__ import annotations

import json
from dataclasses import replace
from queue import SimpleQueue

import pytest

from matensemble.model import RunState
from matensemble.runtime import starting
from matensemble.runtime.starting import StartingBeat
from matensemble.runtime.testing import ManualClock
from matensemble.status import Counts, RunStatus
from matensemble.workdir import RunDir

LAST = RunStatus(
    run="run",
    state=RunState.INTERRUPTED,
    epoch=1,
    beat=40,
    counts=Counts(total=9, completed=3, pending=6),
    rate=2.0,
    host="elsewhere",
    started_at="2025-12-31T10:00:00+00:00",
    ended_at="2025-12-31T12:00:00+00:00",
    ends_at="2025-12-31T12:00:10+00:00",
    detail="the allocation ends now",
)


@pytest.fixture
def written(monkeypatch):
    """What is written where the status belongs."""
    written: SimpleQueue[RunStatus] = SimpleQueue()

    def write(path, content):
        written.put(RunStatus.from_json(json.loads(content), str(path)))

    monkeypatch.setattr(starting.disk, "write_atomic", write)
    monkeypatch.setattr(starting, "BEAT_SECONDS", 0.001)
    return written


def test_the_last_status_is_shown_as_that_of_a_driver_which_knows_no_end_yet(tmp_path, written):
    (tmp_path / "status.json").write_text(json.dumps(LAST.to_json()))
    beat = StartingBeat(RunDir(tmp_path), 2, ManualClock())
    try:
        first, second = written.get(timeout=10), written.get(timeout=10)
    finally:
        beat.stop()
    assert (first.epoch, first.state, first.detail) == (2, RunState.RUNNING, "starting")
    assert (first.counts, first.rate) == (LAST.counts, 0.0)
    assert (first.ended_at, first.ends_at) == (None, None)
    assert first.started_at == first.updated_at == "2026-01-01T00:00:00+00:00"
    assert second == replace(first, beat=2)


def test_nothing_is_written_any_more_once_it_has_stopped(tmp_path, written):
    beat = StartingBeat(RunDir(tmp_path), 1, ManualClock())
    assert written.get(timeout=10).counts == Counts()
    beat.stop()
    while not written.empty():
        written.get_nowait()
    beat.stop()
    assert written.empty()
