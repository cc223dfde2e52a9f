"""What is seen of a run from outside: its status, who drives it, and whether that one is lost."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from matensemble import runs
from matensemble.errors import RunDirectoryError
from matensemble.model import RunState
from matensemble.owner import Owner
from matensemble.runs import look_at, read_status_of
from matensemble.status import RunStatus
from matensemble.workdir import RunDir

GONE = 2**22 + 1
"""A process number that no process has."""


def ago(seconds):
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds")


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path)


@pytest.fixture
def naps(monkeypatch):
    """The naps that were taken; time passes by them alone."""
    taken = []
    monkeypatch.setattr(runs.time, "monotonic", lambda: sum(taken))
    monkeypatch.setattr(runs.time, "sleep", taken.append)
    return taken


def publish(run, state=RunState.RUNNING, epoch=1, updated=0, **fields):
    values = {"host": "elsewhere", "pid": 4242, "updated_at": ago(updated)} | fields
    status = RunStatus(run="r", state=state, epoch=epoch, **values)
    run.status_path.write_text(json.dumps(status.to_json()))
    return status


def own(run, epoch=1, started=0, **fields):
    owner = replace(Owner.of_this_process(epoch, ago(started)), **fields)
    run.owner_path.write_text(json.dumps(owner.to_json()))
    if epoch > 1:
        run.claim_path(epoch).write_text(json.dumps(owner.to_json()))
    return owner


def assert_silent(run, who):
    """For the 100 s of these tests, and the moment that they take."""
    assert re.fullmatch(f"no sign of life for [12] min( [0-9]+ s)? from {who}", look_at(run).lost)


def test_a_run_that_was_not_started(run, naps):
    assert look_at(run) == (None, None, None)
    assert look_at(run).successor is None
    assert read_status_of(run) is None
    assert naps == []


def test_a_run_that_goes_well(run, naps):
    owner, status = own(run), publish(run)
    assert look_at(run) == (status, owner, None)
    assert look_at(run).successor is None
    assert naps == []


@pytest.mark.parametrize("state", [state for state in RunState if state.is_terminal])
def test_a_run_that_has_ended_is_not_lost(run, state):
    own(run, pid=GONE)
    publish(run, state, updated=9999)
    assert look_at(run).lost is None
    own(run, pid=GONE, released_at=ago(1))
    assert look_at(run).lost is None


def test_a_driver_whose_process_is_gone_is_lost(run):
    own(run, pid=GONE)
    publish(run)
    assert look_at(run).lost == f"its process {GONE} on this host is gone"


def test_a_process_number_that_was_used_again_does_not_hide_that(run):
    owner = own(run)
    if owner.process_started is None:
        pytest.skip("this system does not say when a process started")
    own(run, process_started=owner.process_started + 1)
    publish(run, pid=os.getpid(), host=owner.host)
    assert look_at(run).lost == f"its process {os.getpid()} on this host is gone"


def test_a_driver_that_is_silent_is_lost_here_and_elsewhere(run):
    publish(run, updated=100)
    owner = own(run)
    assert_silent(run, f"process {owner.pid} on {owner.host}")
    own(run, host="elsewhere", pid=7)
    assert_silent(run, "process 7 on elsewhere")


def test_a_driver_that_left_without_a_last_word_is_lost(run):
    own(run, host="elsewhere", pid=7, released_at=ago(1))
    publish(run)
    assert look_at(run).lost == "process 7 on elsewhere gave it back without a last word"


def test_a_claim_that_cannot_be_read_leaves_the_word_to_the_status(run):
    run.owner_path.write_text("")
    publish(run)
    assert look_at(run).lost is None
    publish(run, updated=100)
    assert_silent(run, "process 4242 on elsewhere")


# --- taken over -------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.INTERRUPTED])
def test_a_successor_that_has_published_nothing_is_waited_for_and_then_named(run, naps, state):
    status, owner = publish(run, state, updated=9999), own(run, epoch=2)
    look = look_at(run)
    assert look == (status, owner, None)
    assert look.successor == owner
    assert sum(naps) == pytest.approx(1.0)
    naps.clear()
    assert look_at(run, patience=0) == look
    assert naps == []


def test_the_status_of_the_successor_is_taken_as_soon_as_it_is_there(run, monkeypatch):
    publish(run, RunState.INTERRUPTED)
    owner = own(run, epoch=2)
    naps = []

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 2:
            publish(run, epoch=2)

    monkeypatch.setattr(runs.time, "sleep", nap)
    look = look_at(run)
    assert look.status.epoch == 2
    assert (look.owner, look.successor) == (owner, None)
    assert len(naps) == 2


@pytest.mark.parametrize("state", [None, RunState.RUNNING, RunState.INTERRUPTED])
def test_a_successor_that_died_before_its_first_word_is_lost(run, naps, state):
    own(run, epoch=2, pid=GONE)
    if state is not None:
        publish(run, state)
    look = look_at(run)
    assert look.lost == f"its process {GONE} on this host is gone"
    assert look.successor is None
    assert naps == []


def test_a_successor_elsewhere_that_never_says_a_word_is_lost(run, naps):
    publish(run, RunState.INTERRUPTED)
    own(run, epoch=2, host="elsewhere", pid=7, started=100)
    assert_silent(run, "process 7 on elsewhere")


def test_a_successor_that_gave_up_leaves_the_run_as_it_was(run, naps):
    own(run, epoch=2, released_at=ago(1))
    status = publish(run, RunState.INTERRUPTED)
    look = look_at(run)
    assert (look.status, look.lost, look.successor) == (status, None, None)
    publish(run, RunState.RUNNING)
    assert "gave it back without a last word" in look_at(run).lost
    assert naps == []


def test_a_first_driver_that_has_not_published_yet_is_named(run, naps):
    owner = own(run)
    assert look_at(run) == (None, owner, None)
    assert look_at(run).successor == owner
    assert naps == []  # there is nothing to show instead


def test_what_cannot_be_read_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="cannot be read"):
        look_at(RunDir(tmp_path / "file"))
