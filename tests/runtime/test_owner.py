"""One driver a run directory: how a claim is written, kept and given back."""

from __future__ import annotations

import errno
import json
import os

import pytest

from matensemble.owner import Owner, present_owner, read_owner
from matensemble.runtime.owner import claim
from matensemble.runtime.testing import ManualClock
from matensemble.workdir import RunDir


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path)


@pytest.fixture
def clock():
    return ManualClock()


def take_over(run, clock):
    """Claim, whoever drives it, without waiting."""
    return claim(run, clock, takeover=True, wait=clock.advance)


def names(run):
    return sorted(path.name for path in run.root.iterdir())


def fail(monkeypatch, name, code, *, although_done=False, only=lambda *arguments: True):
    """Let a function of `os` fail, perhaps after it has done its work."""
    real = getattr(os, name)

    def do(*arguments, **options):
        if not only(*arguments):
            return real(*arguments, **options)
        if although_done:
            real(*arguments, **options)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, name, do)


# --- the first claim --------------------------------------------------------------------------


def test_a_claim_names_who_drives(run, clock):
    lease = claim(run, clock)
    assert (lease.epoch, lease.previous) == (1, None)
    owner = json.loads(run.owner_path.read_text())
    assert owner["pid"] == os.getpid()
    assert owner["epoch"] == owner["format"] == 1
    assert owner["started_at"] == "2026-01-01T00:00:00+00:00"
    assert owner["released_at"] is None
    assert names(run) == ["owner.json"]
    assert run.owner_path.stat().st_mode & 0o777 == 0o600


def test_a_claim_that_cannot_be_written_leaves_nothing(run, clock, monkeypatch):
    fail(monkeypatch, "fsync", errno.ENOSPC)
    with pytest.raises(OSError, match="No space"):
        claim(run, clock)
    assert names(run) == []


def test_a_link_that_fails_for_good_is_told(run, clock, monkeypatch):
    fail(monkeypatch, "link", errno.EIO)
    with pytest.raises(OSError) as caught:
        claim(run, clock)
    assert caught.value.errno == errno.EIO
    assert names(run) == []


# --- the next ones ----------------------------------------------------------------------------


def test_a_takeover_claims_the_next_epoch_and_shows_it(run, clock):
    claim(run, clock)
    first = present_owner(run)
    clock.advance(60)
    second = take_over(run, clock)
    assert (second.epoch, second.previous) == (2, first)
    assert names(run) == ["owner-2.json", "owner.json"]
    assert run.owner_path.read_bytes() == run.claim_path(2).read_bytes()
    assert read_owner(run.owner_path).started_at == "2026-01-01T00:01:00+00:00"
    assert run.claim_path(2).stat().st_mode & 0o777 == 0o600
    assert take_over(run, clock).epoch == 3


def test_who_is_killed_before_it_shows_its_claim_blocks_nobody(run, clock, monkeypatch):
    first = claim(run, clock)
    with monkeypatch.context() as patch:
        fail(patch, "replace", errno.EIO, only=lambda _, to: os.fspath(to).endswith("owner.json"))
        with pytest.raises(OSError, match="Input/output"):
            take_over(run, clock)
    assert read_owner(run.owner_path).epoch == 1
    assert present_owner(run).epoch == 2
    assert first.is_deposed()
    third = take_over(run, clock)
    assert third.epoch == 3
    assert third.previous.epoch == 2
    assert read_owner(run.owner_path).epoch == 3


# --- network file systems, and those without links --------------------------------------------


@pytest.mark.parametrize("code", [errno.EEXIST, errno.EIO, errno.ETIMEDOUT])
def test_a_link_that_was_made_is_ours_whatever_the_answer_says(run, clock, monkeypatch, code):
    fail(monkeypatch, "link", code, although_done=True)
    assert claim(run, clock).epoch == 1
    assert take_over(run, clock).epoch == 2
    assert names(run) == ["owner-2.json", "owner.json"]


@pytest.mark.parametrize(
    "code", [errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK]
)
def test_without_links_a_claim_is_created(run, clock, monkeypatch, code):
    fail(monkeypatch, "link", code)
    lease = claim(run, clock)
    assert lease.epoch == 1
    assert take_over(run, clock).epoch == 2
    assert names(run) == ["owner-2.json", "owner.json"]
    assert run.owner_path.read_bytes() == run.claim_path(2).read_bytes()
    assert lease.is_deposed()


def test_without_links_who_comes_second_is_refused_too(run, clock, monkeypatch):
    """Between its look and its claim somebody else is faster."""
    fail(monkeypatch, "link", errno.EPERM)
    others = []

    def look(real=present_owner):
        seen = real(run)
        if not others:
            others.append("a claim that is being written")
            run.owner_path.touch()
        return seen

    monkeypatch.setattr("matensemble.runtime.owner.present_owner", lambda _: look())
    lease = claim(run, clock, wait=clock.advance)
    assert lease.epoch == 2
    assert lease.previous == Owner(epoch=1)
    assert clock.monotonic() >= 30  # it was silent for so long


def test_without_links_a_claim_that_cannot_be_written_leaves_no_name(run, clock, monkeypatch):
    fail(monkeypatch, "link", errno.EPERM)
    calls = []
    fail(monkeypatch, "fsync", errno.ENOSPC, only=lambda _: calls.append(_) or len(calls) > 1)
    with pytest.raises(OSError, match="No space"):
        claim(run, clock)
    assert len(calls) == 2
    assert names(run) == []


# --- the lease --------------------------------------------------------------------------------


def test_who_drives_is_not_deposed(run, clock):
    lease = claim(run, clock)
    assert not lease.is_deposed()
    lease = take_over(run, clock)
    assert not lease.is_deposed()


@pytest.mark.parametrize("seen", ["claim", "owner.json"])
def test_who_was_replaced_notices_by_either_file(run, clock, seen):
    lease = claim(run, clock)
    mine = run.owner_path.read_bytes()
    take_over(run, clock)
    if seen == "claim":
        run.owner_path.write_bytes(mine)
    else:
        run.claim_path(2).unlink()
    assert lease.is_deposed()


def test_an_owner_file_that_is_behind_deposes_nobody(run, clock):
    claim(run, clock)
    lease = take_over(run, clock)
    before = run.claim_path(2).read_text().replace('"epoch": 2', '"epoch": 1')
    run.owner_path.write_text(before)
    assert not lease.is_deposed()


def test_a_file_system_that_cannot_be_asked_deposes_nobody(run, clock, monkeypatch):
    lease = claim(run, clock)
    run.owner_path.write_text("{")
    assert not lease.is_deposed()
    run.owner_path.unlink()
    assert not lease.is_deposed()
    with monkeypatch.context() as patch:
        fail(patch, "stat", errno.EIO)
        assert not lease.is_deposed()


def test_a_run_that_was_given_back_is_taken_at_once(run, clock):
    claim(run, clock).release()
    assert read_owner(run.owner_path).released_at == "2026-01-01T00:00:00+00:00"
    lease = claim(run, clock, wait=lambda _: pytest.fail("there is nothing to wait for"))
    assert lease.epoch == 2
    assert lease.previous.released_at is not None
    lease.release()
    assert present_owner(run).epoch == 2
    assert present_owner(run).released_at is not None
    assert read_owner(run.claim_path(2)).released_at is None  # a claim is made once
    assert claim(run, clock).epoch == 3


def test_who_was_replaced_gives_nothing_back(run, clock):
    lease = claim(run, clock)
    take_over(run, clock)
    lease.release()
    assert read_owner(run.owner_path).epoch == 2
    assert present_owner(run).released_at is None


def test_what_is_given_back_too_late_frees_nothing(run, clock, monkeypatch):
    """The takeover happens between the look and the write."""
    lease = claim(run, clock)
    monkeypatch.setattr(type(lease), "is_deposed", lambda self: take_over(run, clock) is None)
    lease.release()
    assert read_owner(run.owner_path).epoch == 1
    assert present_owner(run).epoch == 2
    assert present_owner(run).released_at is None
