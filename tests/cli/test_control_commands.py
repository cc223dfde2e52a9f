"""The subcommands that control a run: what they ask for, and what they say came of it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from matensemble import control
from matensemble.cli import main
from matensemble.model import RunState
from matensemble.records import RecordKind
from matensemble.status import RunStatus
from matensemble.subcommands import inquiry
from matensemble.workdir import RunDir

A, B, FIT = "chore-energy-0001", "chore-energy-0002", "chore-fit-0003"

MakeStatus = Callable[..., RunStatus]
WriteStatus = Callable[[RunDir, RunStatus], None]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def requests(run: RunDir) -> list[dict[str, Any]]:
    if not run.control_dir.exists():
        return []
    paths = sorted(run.control_dir.glob("request-*.json"))
    return [json.loads(path.read_text()) for path in paths]


@pytest.fixture
def over(saved: RunDir, journal: Any, make_status: MakeStatus, write_status: WriteStatus) -> RunDir:
    """A run that is over: one chore completed, one failed, and `fit` was skipped for it."""
    journal.write(RecordKind.COMPLETED, A)
    journal.write(RecordKind.FAILED, B, {"r": "signal", "x": -9})
    journal.write(RecordKind.SKIPPED, FIT, {"u": B})
    journal.write(RecordKind.RUN_STATE, fields={"state": "failed"})
    write_status(saved, make_status(state=RunState.FAILED))
    return saved


@pytest.fixture
def driven(
    saved: RunDir,
    journal: Any,
    make_status: MakeStatus,
    write_status: WriteStatus,
    monkeypatch: pytest.MonkeyPatch,
) -> RunDir:
    """A run whose driver seems to be this process, which is taken to be alive."""
    write_status(saved, make_status(host=socket.gethostname(), pid=os.getpid()))
    monkeypatch.setattr("matensemble.runs.SILENCE_SECONDS", float("inf"))
    return saved


# --- with a driver ----------------------------------------------------------------------------


def answer_with(
    monkeypatch: pytest.MonkeyPatch, *, done: bool = True, text: str = "well"
) -> list[control.Request]:
    """Let a driver answer each request at once; return what it will have been asked."""
    asked: list[control.Request] = []

    def leave(run: RunDir, request: control.Request) -> None:
        asked.append(request)
        control.leave_request(run, request)
        answer = control.Answer(id=request.id, done=done, text=text)
        control.answer_path(run, request.id).write_text(json.dumps(answer.to_json()))

    monkeypatch.setattr(inquiry, "leave_request", leave)
    return asked


@pytest.mark.parametrize(
    ("arguments", "verb", "args"),
    [
        (["pause"], "pause", {}),
        (["unpause"], "unpause", {}),
        (["cancel", "--all"], "cancel", {"everything": True}),
        (["cancel", "energy", FIT], "cancel", {"groups": ["energy"], "chores": [FIT]}),
        (["cancel", "f"], "cancel", {"chores": [FIT]}),
        (["retry", "--failed"], "retry", {"failed": True}),
        (["retry", "--reason", "out_of_memory"], "retry", {"reason": "out_of_memory"}),
        (
            ["prioritise", "energy", "--nice", "-5"],
            "prioritise",
            {"groups": ["energy"], "nice": -5},
        ),
        (["add-time", FIT, "30m"], "add-time", {"chores": [FIT], "seconds": 1800.0}),
        (["add-time", FIT, "90"], "add-time", {"chores": [FIT], "seconds": 90.0}),
    ],
)
def test_what_is_asked(
    driven: RunDir,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    verb: str,
    args: dict[str, Any],
) -> None:
    asked = answer_with(monkeypatch, text="done \x1b[2Jwell")
    answer = call(arguments[0], driven.root.parent, *arguments[1:])
    assert (answer.exit_code, answer.stdout) == (0, "done well\n")
    assert [(request.verb.value, request.args()) for request in asked] == [(verb, args)]


def test_what_cannot_be_done_is_an_error(driven: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, done=False, text="the run is not paused")
    answer = call("unpause", driven.root)
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert answer.stderr == "the run is not paused\n"


def test_no_answer_leaves_the_request_in_the_queue(
    driven: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inquiry, "wait_for_answer", lambda run, request_id: None)
    answer = call("pause", driven.root)
    assert answer.exit_code == 3
    assert "not answered within 10 s; it stays in the queue" in answer.stderr
    assert [request["verb"] for request in requests(driven)] == ["pause"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words", "num_left"),
    [
        (["pause"], 1, "nothing was done: the run is over, it is failed", 0),
        (["retry", B], 0, "1 chore will run again", 1),
    ],
)
def test_a_driver_that_ends_meanwhile(
    over: RunDir,
    make_status: MakeStatus,
    write_status: WriteStatus,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    exit_code: int,
    words: str,
    num_left: int,
) -> None:
    status = make_status(state=RunState.FAILED)
    write_status(over, replace(status, state=RunState.RUNNING, host=socket.gethostname(),
                               pid=os.getpid()))  # fmt: skip
    monkeypatch.setattr("matensemble.runs.SILENCE_SECONDS", float("inf"))

    def end(run: RunDir, request_id: str) -> None:
        write_status(over, status)

    monkeypatch.setattr(inquiry, "wait_for_answer", end)
    answer = call(arguments[0], over.root, *arguments[1:])
    assert answer.exit_code == exit_code
    assert words in answer.output
    assert len(requests(over)) == num_left


# --- without one ------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["pause"], ["unpause"], ["add-time", FIT, "5m"]])
def test_what_needs_a_driver_says_that_there_is_none(over: RunDir, arguments: list[str]) -> None:
    answer = call(arguments[0], over.root, *arguments[1:])
    assert answer.exit_code == 1
    assert answer.stderr == "nothing was done: the run is over, it is failed\n"
    assert requests(over) == []


def test_a_run_that_was_not_started(saved: RunDir) -> None:
    assert call("pause", saved.root).stderr == "nothing was done: the run was not started\n"
    answer = call("cancel", saved.root, "energy")
    assert answer.stdout == (
        f"2 chores will be cancelled when the run goes on: matensemble run {saved.root}\n"
    )
    answer = call("retry", saved.root, "--failed")
    assert (answer.exit_code, answer.stderr) == (1, "nothing was done:\nno chore failed\n")


def test_a_lost_driver_is_named(
    saved: RunDir, journal: Any, make_status: MakeStatus, write_status: WriteStatus
) -> None:
    write_status(saved, make_status())  # of long ago
    answer = call("pause", saved.root)
    assert answer.exit_code == 1
    assert "the driver of the run seems lost: no sign of life" in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--failed"], "1 chore will run again, and 1 skipped because of it"),
        (["--reason", "signal"], "1 chore will run again, and 1 skipped because of it"),
        ([FIT], "2 chores will run again"),
        ([B], "1 chore will run again, and 1 skipped because of it"),
    ],
)
def test_retry_prepares_and_resume_runs(over: RunDir, arguments: list[str], words: str) -> None:
    answer = call("retry", over.root, *arguments)
    assert answer.exit_code == 0
    assert answer.stdout == f"{words}: matensemble resume {over.root}\n"
    (request,) = requests(over)
    assert request["verb"] == "retry"
    assert request["by"]["pid"] == os.getpid()


def test_what_can_be_done_is_done_and_the_rest_is_said(over: RunDir) -> None:
    answer = call("retry", over.root, "energy")
    assert answer.exit_code == 0
    assert f"{A}: completed, the result is there" in answer.stderr
    answer = call("retry", over.root, A)
    assert answer.exit_code == 1
    assert f"{A}: completed, the result is there" in answer.stderr
    assert len(requests(over)) == 1


def test_an_interrupted_run_keeps_requests_for_its_next_driver(
    saved: RunDir, journal: Any, make_status: MakeStatus, write_status: WriteStatus
) -> None:
    journal.write(RecordKind.COMPLETED, A)
    journal.write(RecordKind.RUN_STATE, fields={"state": "interrupted"})
    write_status(saved, make_status(state=RunState.INTERRUPTED))
    answer = call("prioritise", saved.root, "energy", "--nice", "2")
    assert answer.stdout == (
        f"1 chore will have nice 2 when the run goes on: matensemble resume {saved.root}\n"
    )
    answer = call("cancel", saved.root, "--all")
    assert answer.stdout.startswith("2 chores will be cancelled when the run goes on: ")
    assert [request["verb"] for request in requests(saved)] == ["prioritise", "cancel"]


# --- usage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["cancel"], "or give --all"),
        (["cancel", "energy", "--all"], "or give --all"),
        (["retry"], "or give --failed, or --reason R"),
        (["retry", "energy", "--failed"], "or give --failed, or --reason R"),
        (["retry", "--reason", "whim"], "'whim' is not one of"),
        (["prioritise", "energy"], "Missing option '--nice'"),
        (["prioritise", "--nice", "1"], "Missing argument"),
        (["add-time", "energy", "soon"], "time='soon' is not possible"),
        (["cancel", "gold"], "no id and no name of a chore begins with 'gold'"),
        (["cancel", "chore"], "fits 3 chores"),
    ],
)
def test_wrong_usage(over: RunDir, arguments: list[str], problem: str) -> None:
    answer = call(arguments[0], over.root, *arguments[1:])
    assert answer.exit_code == 2
    assert problem in answer.stderr
    assert requests(over) == []


def test_a_folder_that_others_can_write_is_not_used(over: RunDir) -> None:
    over.control_dir.mkdir()
    Path(over.control_dir).chmod(0o777)
    answer = call("retry", over.root, "--failed")
    assert answer.exit_code == 2
    assert "can be written by others" in answer.stderr
    assert requests(over) == []
