"""Requests and answers as files: what is written is what is read, and only by those who may."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from matensemble import control
from matensemble.control import (
    Answer,
    Request,
    Selection,
    Verb,
    answer_path,
    leave_request,
    make_request,
    take_answer,
    wait_for_answer,
    withdraw_request,
)
from matensemble.errors import FormatError, RunDirectoryError
from matensemble.model import Reason
from matensemble.workdir import RunDir

NAMES = st.lists(st.text(max_size=20), max_size=4).map(tuple)
SELECTIONS = st.builds(
    Selection,
    chores=NAMES,
    groups=NAMES,
    failed=st.booleans(),
    reason=st.none() | st.sampled_from(Reason),
    everything=st.booleans(),
)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


@given(SELECTIONS, st.sampled_from(Verb), st.integers(-1000, 1000), st.floats(0.1, 1e6))
def test_a_request_survives_its_encoding(
    selection: Selection, verb: Verb, nice: int, seconds: float
) -> None:
    request = make_request(
        verb,
        selection,
        nice=nice if verb is Verb.PRIORITISE else None,
        seconds=seconds if verb is Verb.ADD_TIME else None,
    )
    assert Request.from_json(json.loads(json.dumps(request.to_json()))) == request


@given(st.recursive(st.none() | st.floats() | st.text(), st.lists) | st.just({"format": 1}))
def test_anything_else_is_a_format_error(data: Any) -> None:
    for read in (Request.from_json, Answer.from_json):
        with pytest.raises(FormatError):
            read(data)


def test_requests_sort_by_their_time() -> None:
    ids = [make_request(Verb.PAUSE).id for _ in range(50)]
    stamps = [request_id.partition("-")[0] for request_id in ids]
    assert stamps == sorted(stamps)
    assert len(set(ids)) == 50
    assert all(control.REQUEST_NAME.fullmatch(f"request-{request_id}.json") for request_id in ids)


def test_a_request_says_who_asks() -> None:
    by = make_request(Verb.PAUSE).by
    assert (by["uid"], by["pid"]) == (os.geteuid(), os.getpid())
    assert by["user"]
    assert by["host"]


def test_a_user_without_an_entry_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", fail)
    assert make_request(Verb.PAUSE).by["user"] == str(os.geteuid())


def test_the_directory_is_private_and_checked(run: RunDir) -> None:
    request = make_request(Verb.PAUSE)
    leave_request(run, request)
    assert run.control_dir.stat().st_mode & 0o777 == 0o700
    run.control_dir.chmod(0o720)
    with pytest.raises(RunDirectoryError, match="can be written by others"):
        leave_request(run, make_request(Verb.PAUSE))
    assert len(list(run.control_dir.iterdir())) == 1


def test_a_link_in_the_place_of_the_directory_is_refused(run: RunDir, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    run.control_dir.symlink_to(elsewhere)
    with pytest.raises(RunDirectoryError, match="is no directory"):
        leave_request(run, make_request(Verb.PAUSE))
    assert list(elsewhere.iterdir()) == []


def test_the_run_of_somebody_else_is_not_controlled(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.control_dir.mkdir(mode=0o700)
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    with pytest.raises(RunDirectoryError, match="only the owner controls a run"):
        leave_request(run, make_request(Verb.PAUSE))


def test_a_run_that_is_gone_or_read_only_is_named(run: RunDir) -> None:
    with pytest.raises(RunDirectoryError, match="cannot be written"):
        leave_request(RunDir(run.root / "gone"), make_request(Verb.PAUSE))


def test_a_request_that_nobody_would_read_is_not_written(run: RunDir) -> None:
    many = Selection(chores=tuple(f"chore-energy-{i:07d}" for i in range(5000)))
    with pytest.raises(RunDirectoryError, match="name groups instead"):
        leave_request(run, make_request(Verb.CANCEL, many))
    assert not run.control_dir.exists()


def test_an_answer_is_waited_for_and_removed(run: RunDir) -> None:
    request = make_request(Verb.PAUSE)
    leave_request(run, request)
    answer = Answer(id=request.id, done=True, text="paused", num_chores=2, chores=("a", "b"))

    def reply() -> None:
        answer_path(run, request.id).write_text(json.dumps(answer.to_json()))

    timer = threading.Timer(0.02, reply)
    timer.start()
    assert wait_for_answer(run, request.id, timeout=10) == answer
    timer.join()
    assert take_answer(run, request.id) is None


def test_no_answer_is_none_and_the_request_stays(run: RunDir) -> None:
    request = make_request(Verb.PAUSE)
    leave_request(run, request)
    assert wait_for_answer(run, request.id, timeout=0) is None
    assert withdraw_request(run, request)
    assert not withdraw_request(run, request)
