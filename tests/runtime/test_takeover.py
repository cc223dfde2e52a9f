"""When a run is taken from the driver that holds it, and when that is refused."""

from __future__ import annotations

import json
import logging
import os
import pickle
import socket
from dataclasses import replace

import pytest

from matensemble.errors import RunFailedError, RunOwnedError
from matensemble.model import RunState
from matensemble.owner import Owner, present_owner
from matensemble.records import RecordKind, read_records
from matensemble.runs import look_at
from matensemble.runtime.journal import FileJournal
from matensemble.runtime.owner import POLL_SECONDS, SILENCE_SECONDS, claim
from matensemble.runtime.resumption import take_over_journal
from matensemble.runtime.scheduler.instructions import Record
from matensemble.runtime.testing import ManualClock
from matensemble.status import RunStatus
from matensemble.workdir import RunDir

STARTED_AT = "2026-01-01T00:00:00+00:00"


class Scene:
    """A run, a clock, and a driver whose life is told step by step.

    `at(seconds, act)` does something while a claim waits; time moves only by waiting.
    """

    def __init__(self, root):
        self.run = RunDir(root)
        self.clock = ManualClock()
        self.acts = []
        self.waits = []

    def own(self, **fields):
        """Let a driver hold the run: this process, unless told otherwise."""
        owner = replace(Owner.of_this_process(fields.pop("epoch", 1), STARTED_AT), **fields)
        path = self.run.owner_path if owner.epoch == 1 else self.run.claim_path(owner.epoch)
        path.write_text(json.dumps(owner.to_json()))
        return owner

    def beat(self, beat, epoch=1, updated_at=None):
        status = RunStatus(
            run="r", state=RunState.RUNNING, epoch=epoch, beat=beat, updated_at=updated_at
        )
        self.run.status_path.write_text(json.dumps(status.to_json()))

    def at(self, seconds, act):
        self.acts.append((seconds, act))

    def wait(self, seconds):
        self.waits.append(seconds)
        self.clock.advance(seconds)
        due = [act for when, act in self.acts if when <= self.clock.monotonic()]
        self.acts = [(when, act) for when, act in self.acts if when > self.clock.monotonic()]
        for act in due:
            act()

    def claim(self, **options):
        return claim(self.run, self.clock, wait=self.wait, **options)


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


def own_of_unknown_host(scene):
    scene.own(host="elsewhere")


def own_frozen(scene):
    """This process stands for it: it is there and publishes nothing."""
    scene.own()


def own_unreadable(scene):
    scene.run.owner_path.write_text("")


UNSURE = pytest.mark.parametrize("own", [own_of_unknown_host, own_frozen, own_unreadable])


# --- dead -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"pid": 2**22 + 1},
        {"boot_id": "another"},
        {"released_at": STARTED_AT, "host": "elsewhere"},
        pytest.param(
            {"process_started": 1},
            marks=pytest.mark.skipif(
                Owner.of_this_process(1, STARTED_AT).process_started is None,
                reason="this system does not say when a process started",
            ),
        ),
    ],
    ids=str,
)
def test_a_dead_driver_is_replaced_at_once(scene, fields):
    owner = scene.own(**fields)
    scene.beat(7)
    lease = scene.claim()
    assert (lease.epoch, lease.previous) == (2, owner)
    assert scene.waits == []


def test_a_driver_that_dies_while_it_is_watched_is_replaced(scene):
    scene.own(host="elsewhere")
    scene.at(5, lambda: scene.own(host="elsewhere", released_at=STARTED_AT))
    assert scene.claim().epoch == 2
    assert scene.clock.monotonic() == 5


# --- silent -----------------------------------------------------------------------------------


@UNSURE
@pytest.mark.parametrize("beats", [None, 40])
def test_a_silent_driver_is_replaced_after_half_a_minute(scene, own, beats, caplog):
    own(scene)
    if beats is not None:
        scene.beat(beats)
    with caplog.at_level(logging.WARNING):
        lease = scene.claim()
    assert lease.epoch == 2
    assert scene.clock.monotonic() == pytest.approx(SILENCE_SECONDS, abs=POLL_SECONDS)
    watched, taken = caplog.messages
    assert "watching its heartbeat for up to 30 s" in watched
    assert "no sign of life for 30 s" in taken


def test_a_silence_may_be_shorter(scene):
    own_frozen(scene)
    assert scene.claim(silence=3).epoch == 2
    assert scene.clock.monotonic() == 3


def test_what_a_replaced_driver_publishes_is_nobody_s_heartbeat(scene):
    """Epoch 1 was replaced by epoch 2, which died elsewhere; epoch 1 was only frozen."""
    scene.own(host="elsewhere")
    scene.own(epoch=2, host="elsewhere")
    for second in range(1, 40):
        scene.at(second, lambda beat=second: scene.beat(beat, epoch=1))
    lease = scene.claim()
    assert lease.epoch == 3
    assert scene.clock.monotonic() == pytest.approx(SILENCE_SECONDS, abs=POLL_SECONDS)


def test_a_status_that_goes_and_comes_back_is_no_heartbeat(scene):
    own_frozen(scene)
    scene.beat(40)
    scene.at(4, lambda: scene.run.status_path.write_text("{"))
    scene.at(8, lambda: scene.beat(40))
    scene.at(12, scene.run.status_path.unlink)
    scene.at(16, lambda: scene.beat(40))
    assert scene.claim().epoch == 2


def test_a_pause_of_this_process_is_no_silence_of_the_other(scene):
    """Both were stopped together: a suspended machine, a frozen container."""
    scene.own(host="elsewhere")
    scene.beat(1)
    scene.at(3, lambda: scene.clock.advance(3600))
    scene.at(3605, lambda: scene.beat(2))
    with pytest.raises(RunOwnedError):
        scene.claim()


def test_a_step_of_the_wall_clock_changes_nothing(scene):
    scene.own(host="elsewhere", started_at="2038-01-01T00:00:00+00:00")
    scene.clock = ManualClock(time=0.0)
    assert scene.claim().epoch == 2
    assert scene.clock.monotonic() == pytest.approx(SILENCE_SECONDS, abs=POLL_SECONDS)


# --- alive ------------------------------------------------------------------------------------


@UNSURE
def test_a_driver_that_publishes_keeps_its_run(scene, own):
    own(scene)
    before = scene.run.owner_path.read_bytes()
    scene.beat(40)
    scene.at(20, lambda: scene.beat(41))
    with pytest.raises(RunOwnedError):
        scene.claim()
    assert scene.clock.monotonic() == 20
    assert scene.run.owner_path.read_bytes() == before
    assert not scene.run.claim_path(2).exists()
    assert {path.name for path in scene.run.root.iterdir()} == {"owner.json", "status.json"}


def test_a_driver_that_is_about_to_publish_for_the_first_time_keeps_its_run(scene):
    own_frozen(scene)
    scene.at(10, lambda: scene.beat(1))
    with pytest.raises(RunOwnedError):
        scene.claim()


def test_a_driver_of_a_version_without_beats_is_seen_by_its_other_changes(scene):
    scene.own(host="elsewhere")
    scene.beat(0, updated_at="2026-01-01T00:00:00+00:00")
    scene.at(5, lambda: scene.beat(0, updated_at="2025-12-31T23:00:00+00:00"))
    with pytest.raises(RunOwnedError):
        scene.claim()


def test_the_refusal_says_who_since_when_and_what_to_do(scene):
    scene.own(host="node3", pid=77)
    scene.clock.advance(600)
    scene.at(601, lambda: scene.beat(2))
    with pytest.raises(RunOwnedError) as caught:
        scene.claim()
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.directory, error.host, error.pid) == (str(scene.run.root), "node3", 77)
    assert error.age == pytest.approx(601)
    for words in ("process 77 on node3", "10 min ago", "Wait", "kill 77", "--takeover"):
        assert words in str(error)


def test_the_refusal_by_somebody_who_cannot_be_read(scene):
    own_unreadable(scene)
    scene.at(1, lambda: scene.beat(1))
    with pytest.raises(RunOwnedError, match="cannot be identified") as caught:
        scene.claim()
    assert (caught.value.host, caught.value.pid, caught.value.age) == (None, None, None)


def test_the_refusal_by_an_owner_with_a_nonsensical_start(scene):
    scene.own(host="elsewhere", started_at="yesterday")
    scene.at(1, lambda: scene.beat(1))
    with pytest.raises(RunOwnedError) as caught:
        scene.claim()
    assert caught.value.age is None


# --- somebody else is faster ------------------------------------------------------------------


def test_who_comes_while_this_one_waits_is_watched_in_its_turn(scene):
    scene.own(host="elsewhere")
    scene.at(10, lambda: scene.own(epoch=2, host="node4", pid=8))
    scene.at(35, lambda: scene.beat(1, epoch=2))
    with pytest.raises(RunOwnedError) as caught:
        scene.claim()
    assert caught.value.host == "node4"
    assert scene.clock.monotonic() == 35


def test_who_loses_the_race_looks_at_the_winner(scene, monkeypatch):
    scene.own(pid=2**22 + 1)
    winner = []

    def look(run):
        seen = present_owner(run)
        if not winner:
            winner.append(scene.own(epoch=2, host="node4", pid=8))
        return seen

    monkeypatch.setattr("matensemble.runtime.owner.present_owner", look)
    scene.at(3, lambda: scene.beat(1, epoch=2))
    with pytest.raises(RunOwnedError) as caught:
        scene.claim()
    assert caught.value.host == "node4"
    assert {path.name for path in scene.run.root.iterdir()} == {
        "owner.json",
        "owner-2.json",
        "status.json",
    }


# --- on request -------------------------------------------------------------------------------


@UNSURE
def test_a_takeover_on_request_does_not_wait_and_says_so_loudly(scene, own, caplog):
    own(scene)
    scene.beat(40)
    with caplog.at_level(logging.WARNING):
        lease = scene.claim(takeover=True)
    assert lease.epoch == 2
    assert scene.waits == []
    (word,) = caplog.messages
    assert "--takeover" in word
    assert ("ALIVE" in word) == (own is own_frozen)


def test_a_takeover_of_a_dead_driver_is_nothing_to_shout_about(scene, caplog):
    scene.own(pid=2**22 + 1)
    assert scene.claim(takeover=True).epoch == 2
    assert caplog.messages == []


def test_a_takeover_is_meant_for_the_driver_that_was_there(scene, monkeypatch):
    """Of two that insist at once, the second does not replace the first."""
    scene.own(host="elsewhere")
    winner = []

    def look(run):
        seen = present_owner(run)
        if not winner:
            winner.append(scene.own(epoch=2, host="node4", pid=8))
        return seen

    monkeypatch.setattr("matensemble.runtime.owner.present_owner", look)
    scene.at(3, lambda: scene.beat(1, epoch=2))
    with pytest.raises(RunOwnedError) as caught:
        scene.claim(takeover=True)
    assert caught.value.host == "node4"


def test_who_removed_the_claim_of_a_living_driver_is_refused_as_well(scene):
    """`rm owner.json` is what people do to a lock; the journal still says that the run began."""
    scene.run.journal_path.touch()
    scene.beat(5)
    scene.at(4, lambda: scene.beat(6))
    with pytest.raises(RunOwnedError):
        scene.claim()
    lease = scene.claim()  # the other one ended meanwhile
    assert lease.epoch == 2


# --- replaced before it began -------------------------------------------------------------------


def test_who_was_stopped_before_it_moved_the_journal_leaves_that_of_its_successor_alone(scene):
    def begin(epoch, previous=None):
        fields = {"format": 1} if previous is None else {"format": 1, "previous": previous}
        first = Record(RecordKind.RUN_STARTED, fields=fields)
        return FileJournal.begin(scene.run.journal_path, epoch, first, scene.clock)

    begin(1).close()
    scene.own(epoch=2)  # stopped here, until the next one has begun
    _, accepted = take_over_journal(scene.run, 3)
    successor = begin(3, accepted._asdict())
    with pytest.raises(RunFailedError, match="another driver has taken the run over"):
        take_over_journal(scene.run, 2)
    successor.append(Record(RecordKind.COMPLETED, "chore-a-0001"))
    successor.close()
    assert [record.epoch for record in read_records(scene.run)] == [1, 3, 3]


# --- what a reader sees -----------------------------------------------------------------------


def test_a_stale_driver_that_publishes_once_more_is_passed_over(scene, monkeypatch):
    """Frozen, replaced, continued: it overwrites the status before it looks at its lease."""
    monkeypatch.setattr("matensemble.runs.time.sleep", lambda _: scene.beat(3, epoch=2))
    stale = scene.claim()
    assert scene.claim(takeover=True).epoch == 2
    scene.beat(41, epoch=1)
    assert stale.is_deposed()
    look = look_at(scene.run)
    assert (look.status.epoch, look.status.beat) == (2, 3)
    assert look.owner.pid == os.getpid()
    assert look.owner.host == socket.gethostname()
    assert look.successor is None
