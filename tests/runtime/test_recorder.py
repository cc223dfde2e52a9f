"""The status is written when it is due, costs nothing when it is not, and is always whole."""

from __future__ import annotations

import json
import logging
import threading

import pytest

from matensemble.chore import Chore
from matensemble.errors import FormatError
from matensemble.model import ChoreType, Reason, RunState
from matensemble.runtime.recorder import HEARTBEAT_SECONDS, PUBLISH_INTERVAL_SECONDS, Recorder
from matensemble.runtime.scheduler.events import (
    AllocationLearned,
    ChoreAdded,
    ChoreFinished,
    StartsConsidered,
)
from matensemble.runtime.scheduler.resources import Allocation, Node
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.runtime.testing import ManualClock
from matensemble.status import MAX_ROOT_FAILURES, read_status
from matensemble.workdir import RunDir


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def state():
    state = SchedulerState()
    state.handle(AllocationLearned(Allocation((Node("n", 100, 2),))))
    return state


def make(tmp_path, clock, **options):
    return Recorder(
        RunDir(tmp_path),
        executor_name="fake",
        epoch=2,
        log_delay=options.pop("log_delay", 5.0),
        logger=logging.getLogger("matensemble.test"),
        clock=clock,
        **options,
    )


def fail(state, count):
    for i in range(count):
        state.handle(ChoreAdded(Chore(f"c{i}", "g", ChoreType.PYTHON)))
    state.handle(StartsConsidered())
    for i in range(count):
        state.handle(ChoreFinished(f"c{i}", 1, Reason.EXCEPTION, 1, "oops"))


def test_the_status_holds_what_the_contract_names(tmp_path, clock, state):
    fail(state, 30)
    make(tmp_path, clock).publish(state, RunState.RUNNING, 7, force=True)
    status = read_status(tmp_path / "status.json")
    assert (status.state, status.sequence, status.epoch) == (RunState.RUNNING, 7, 2)
    assert status.counts.failed == status.groups["g"].failed == 30
    assert status.total_cores == 100
    assert status.free_cores == 70  # the failed ones still hold theirs
    assert status.total_gpus == status.free_gpus == 2
    assert len(status.root_failures) == MAX_ROOT_FAILURES
    assert status.num_root_failures == 30
    assert status.started_at == status.updated_at == "2026-01-01T00:00:00+00:00"
    assert status.ended_at is None
    assert status.ends_at is None
    assert json.loads((tmp_path / "status.json").read_text())["format"] == 1


@pytest.mark.parametrize(
    ("seconds", "ends_at"),
    [(5400.4, "2026-01-01T01:30:00+00:00"), (0.0, "2026-01-01T00:00:00+00:00"), (1e18, None)],
)
def test_the_end_of_the_allocation_is_published_as_an_instant_that_stays(
    tmp_path, clock, state, seconds, ends_at
):
    recorder = make(tmp_path, clock, ends_at=clock.monotonic() + seconds)
    clock.advance(60.0)
    recorder.publish(state, RunState.RUNNING, 1)
    status = read_status(tmp_path / "status.json")
    assert (status.ends_at, status.updated_at) == (ends_at, "2026-01-01T00:01:00+00:00")


def test_publications_are_throttled_and_a_heartbeat_remains(tmp_path, clock, state):
    seen = []
    recorder = make(tmp_path, clock, listeners=(seen.append,))
    recorder.publish(state, RunState.RUNNING, 1)
    recorder.publish(state, RunState.RUNNING, 2)
    assert len(seen) == 1
    clock.advance(PUBLISH_INTERVAL_SECONDS)
    recorder.publish(state, RunState.RUNNING, 2)
    assert [status.sequence for status in seen] == [1, 2]
    clock.advance(PUBLISH_INTERVAL_SECONDS)
    recorder.publish(state, RunState.RUNNING, 2)  # nothing happened since
    assert len(seen) == 2
    clock.advance(HEARTBEAT_SECONDS)
    recorder.publish(state, RunState.RUNNING, 2)
    assert len(seen) == 3
    assert [status.beat for status in seen] == [1, 2, 3]  # that one is alive, whatever happened


@pytest.mark.parametrize(
    ("seconds", "pause"), [(0.01, PUBLISH_INTERVAL_SECONDS), (0.1, 2.0), (3.0, HEARTBEAT_SECONDS)]
)
def test_publications_that_take_long_are_made_less_often(tmp_path, clock, state, seconds, pause):
    seen = []

    def take_long(status):
        seen.append(status.sequence)
        clock.advance(seconds)

    recorder = make(tmp_path, clock, listeners=(take_long,))
    recorder.publish(state, RunState.RUNNING, 1)
    began = clock.monotonic() - seconds
    clock.advance(pause - seconds - 0.001)
    recorder.publish(state, RunState.RUNNING, 2)
    assert seen == [1]
    clock.advance(0.002)
    recorder.publish(state, RunState.RUNNING, 3)
    assert seen == [1, 3]
    assert clock.monotonic() - began <= HEARTBEAT_SECONDS + seconds + 0.1
    recorder.publish(state, RunState.COMPLETED, 4)  # another state does not wait
    assert seen == [1, 3, 4]


def test_the_counts_of_groups_follow_every_move(tmp_path, clock, state):
    recorder = make(tmp_path, clock)
    state.handle(ChoreAdded(Chore("other", "h", ChoreType.PYTHON)))
    for count in range(1, 4):
        state.handle(ChoreAdded(Chore(f"c{count}", "g", ChoreType.PYTHON)))
        recorder.publish(state, RunState.RUNNING, count, force=True)
        status = read_status(tmp_path / "status.json")
        assert (status.groups["g"].pending, status.groups["h"].total) == (count, 1)
    state.handle(StartsConsidered())
    state.handle(ChoreFinished("c2", 1, Reason.EXCEPTION, 1, "oops"))
    recorder.publish(state, RunState.RUNNING, 4, force=True)
    status = read_status(tmp_path / "status.json")
    assert (status.groups["g"].pending, status.groups["g"].failed) == (2, 1)
    assert status.groups["h"].failed == 0


def test_lines_in_the_log_are_apart_by_the_delay(tmp_path, clock, state, caplog):
    caplog.set_level(logging.INFO)
    recorder = make(tmp_path, clock, log_delay=10.0)
    for second in range(25):
        state.handle(ChoreAdded(Chore(f"c{second}", "g", ChoreType.PYTHON)))
        recorder.publish(state, RunState.RUNNING, second + 1)
        clock.advance(1.0)
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "running: pending 1, running 0, completed 0, failed 0, cancelled 0",
        "running: pending 11, running 0, completed 0, failed 0, cancelled 0",
        "running: pending 21, running 0, completed 0, failed 0, cancelled 0",
    ]


def test_the_rate_follows_what_ends(tmp_path, clock, state):
    recorder = make(tmp_path, clock)
    recorder.publish(state, RunState.RUNNING, 1)
    clock.advance(10)
    fail(state, 30)
    recorder.publish(state, RunState.RUNNING, 2)
    assert read_status(tmp_path / "status.json").rate == pytest.approx(3.0)
    clock.advance(600)
    recorder.publish(state, RunState.RUNNING, 3)
    assert read_status(tmp_path / "status.json").rate < 0.01


@pytest.mark.slow
def test_a_reader_never_sees_a_part(tmp_path, clock, state):
    recorder = make(tmp_path, clock)
    recorder.publish(state, RunState.RUNNING, 1, force=True)
    done = threading.Event()
    problems: list[Exception] = []
    sequences: list[int] = []

    def read():
        while not done.is_set():
            try:
                sequences.append(read_status(tmp_path / "status.json").sequence)
            except (FormatError, OSError) as error:
                problems.append(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for sequence in range(2, 400):
        recorder.publish(state, RunState.RUNNING, sequence, force=True)
    done.set()
    for reader in readers:
        reader.join()
    assert not problems
    assert len(set(sequences)) > 1


def test_listeners_hear_of_a_status_that_the_disk_does_not_take(tmp_path, clock, state, caplog):
    told = []
    recorder = make(tmp_path, clock, listeners=(told.append,))
    RunDir(tmp_path).status_path.mkdir()  # which no file replaces
    with caplog.at_level(logging.INFO):
        assert not recorder.publish(state, RunState.DEGRADED, 1, detail="No space left on device")
    assert [(status.state, status.detail) for status in told] == [
        (RunState.DEGRADED, "No space left on device")
    ]
    assert "degraded" in caplog.text
