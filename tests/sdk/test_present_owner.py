"""Who drives a run: the claim that counts, and whether its process lives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from matensemble import owner
from matensemble.errors import FormatError
from matensemble.owner import Life, Owner, is_running, judge, present_owner, read_owner
from matensemble.workdir import RunDir

STARTED_AT = "2026-01-01T00:00:00+00:00"


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path)


@pytest.fixture
def me():
    return Owner.of_this_process(1, STARTED_AT)


@pytest.fixture
def other():
    """A process of this host that can be stopped and killed."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process
        if process.poll() is None:
            process.kill()


def write(path, content):
    path.write_text(json.dumps(content.to_json()) if isinstance(content, Owner) else content)


# --- the format -------------------------------------------------------------------------------


def test_a_claim_survives_the_file_and_fields_of_later_versions(run, me):
    data = me.to_json() | {"mood": "good"}
    run.owner_path.write_text(json.dumps(data))
    assert read_owner(run.owner_path) == me
    assert me.describe() == f"process {os.getpid()} on {me.host}"


def test_the_allocation_is_named(monkeypatch):
    monkeypatch.setenv("FLUX_URI", "local:///run/flux")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    mine = Owner.of_this_process(3, STARTED_AT)
    assert (mine.epoch, mine.flux_uri, mine.slurm_job_id) == (3, "local:///run/flux", "4711")


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"epoch": 0},
        {"epoch": "1"},
        {"epoch": True},
        {"pid": None},
        {"pid": -1},
        {"host": 7},
        {"started_at": 7},
    ],
    ids=str,
)
def test_what_is_no_claim_is_refused(me, change):
    with pytest.raises(FormatError, match=r"owner\.json"):
        Owner.from_json(me.to_json() | change)


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "{}", '"owner"', '{"format": 1}'])
def test_damage_is_refused(run, content):
    run.owner_path.write_text(content)
    with pytest.raises(FormatError, match=r"owner\.json"):
        read_owner(run.owner_path)


# --- which claim counts -----------------------------------------------------------------------


def test_nobody(run):
    assert present_owner(run) is None


def test_a_claim_that_owner_json_does_not_show_yet_counts(run, me):
    write(run.owner_path, me)
    assert present_owner(run) == me
    later = replace(me, epoch=2, pid=4242)
    write(run.claim_path(2), later)
    assert present_owner(run) == later


def test_an_older_claim_that_came_late_does_not_count(run, me):
    """A taker that was stopped before it replaced `owner.json`, and continued long after."""
    for epoch in (2, 3):
        write(run.claim_path(epoch), replace(me, epoch=epoch))
    write(run.owner_path, replace(me, epoch=2))
    assert present_owner(run) == replace(me, epoch=3)


def test_that_a_run_was_given_back_stands_in_owner_json_alone(run, me):
    write(run.claim_path(2), replace(me, epoch=2))
    released = replace(me, epoch=2, released_at=STARTED_AT)
    write(run.owner_path, released)
    assert present_owner(run) == released


def test_owner_json_may_be_gone_where_a_claim_is_left(run, me):
    write(run.claim_path(7), replace(me, epoch=7))
    assert present_owner(run) == replace(me, epoch=7)


@pytest.mark.parametrize("content", ["", '{"format": 99}', "{"])
def test_of_a_claim_that_cannot_be_read_the_epoch_is_known(run, me, content):
    write(run.owner_path, content)
    assert present_owner(run) == Owner(epoch=1)
    write(run.claim_path(2), content)
    assert present_owner(run) == Owner(epoch=2)
    write(run.owner_path, me)
    assert present_owner(run) == Owner(epoch=2)
    assert not present_owner(run).is_known
    assert "cannot be identified" in present_owner(run).describe()


def test_a_claim_counts_by_its_name(run, me):
    write(run.owner_path, me)
    write(run.claim_path(2), replace(me, epoch=9))
    assert present_owner(run) == Owner(epoch=2)


def test_who_removes_the_claims_of_a_run_that_has_a_journal_does_not_free_it(run):
    run.journal_path.touch()
    assert present_owner(run) == Owner(epoch=1)
    run.journal_of(1).touch()
    run.journal_of(4).touch()
    assert present_owner(run) == Owner(epoch=5)
    run.journal_path.unlink()
    assert present_owner(run) == Owner(epoch=4)


def test_only_the_names_of_claims_and_journals_count(run, me):
    for name in ("owner-0.json", "owner-02.json", "owner-x.json", "my-owner-9.json"):
        write(run.root / name, replace(me, epoch=9))
    assert present_owner(run) is None


def test_a_claim_newer_than_the_listing_is_found(run, me, monkeypatch):
    write(run.owner_path, me)
    write(run.claim_path(2), replace(me, epoch=2))
    monkeypatch.setattr(owner, "_epochs_in_names", lambda _: (0, 0))
    assert present_owner(run) == replace(me, epoch=2)


def test_a_directory_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(OSError):
        present_owner(RunDir(tmp_path / "gone"))


# --- alive or dead ----------------------------------------------------------------------------


def test_this_process_is_alive(me):
    assert judge(me) is Life.ALIVE


def test_who_gave_the_run_back_counts_as_dead(me):
    assert judge(replace(me, released_at=STARTED_AT)) is Life.DEAD
    assert judge(replace(me, host="elsewhere", released_at=STARTED_AT)) is Life.DEAD


def test_of_another_host_or_container_nothing_is_known(me):
    assert judge(replace(me, host="elsewhere")) is Life.UNKNOWN
    assert judge(replace(me, pid_namespace="pid:[1]")) is Life.UNKNOWN
    assert judge(replace(me, pid_namespace="pid:[1]", boot_id="another")) is Life.UNKNOWN
    assert judge(Owner(epoch=1)) is Life.UNKNOWN


def test_nothing_survives_a_boot(me):
    assert judge(replace(me, boot_id="another")) is Life.DEAD


def test_a_name_that_every_host_has_says_nothing(me, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "localhost")
    named = replace(me, host="localhost")
    assert judge(replace(named, boot_id="another")) is Life.UNKNOWN
    monkeypatch.setattr(owner, "_boot_id", lambda: "this")
    assert judge(replace(named, boot_id="this")) is Life.ALIVE
    monkeypatch.setattr(owner, "_boot_id", lambda: None)
    assert judge(replace(named, boot_id=None)) is Life.UNKNOWN


def test_a_process_number_that_was_used_again_is_another_process(me):
    if me.process_started is None:
        pytest.skip("this system does not say when a process started")
    assert judge(replace(me, process_started=me.process_started + 1)) is Life.DEAD
    assert judge(replace(me, process_started=None)) is Life.ALIVE


@pytest.mark.slow
def test_a_stopped_process_is_alive(me, other):
    started = replace(me, pid=other.pid, process_started=None)
    assert judge(started) is Life.ALIVE
    other.send_signal(signal.SIGSTOP)
    os.waitpid(other.pid, os.WUNTRACED)
    assert judge(started) is Life.ALIVE


@pytest.mark.slow
def test_a_killed_process_is_dead_also_before_it_is_buried(me, other):
    started = replace(me, pid=other.pid, process_started=None)
    other.kill()
    if sys.platform == "linux":
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and still listed
        assert judge(started) is Life.DEAD
    other.wait()
    assert judge(started) is Life.DEAD


def test_where_the_system_does_not_list_processes_the_number_must_do(me, monkeypatch):
    monkeypatch.setattr(owner, "_look_up", lambda pid: None)
    assert Owner.of_this_process(1, STARTED_AT).process_started is None
    assert is_running(os.getpid(), process_started=1)


@pytest.mark.parametrize("pid", [0, -1, 2**70])
def test_numbers_that_no_process_has(pid):
    assert not is_running(pid)


def test_a_process_of_somebody_else_is_there(monkeypatch):
    def refuse(pid, number):
        raise PermissionError

    monkeypatch.setattr("os.kill", refuse)
    assert is_running(os.getpid())
