"""`logs`: what a chore printed, which chore is meant, and why there is nothing to show."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from matensemble.cli import main
from matensemble.errors import FormatError
from matensemble.history import ChoreHistory
from matensemble.model import ChoreState
from matensemble.records import RecordKind, encode_journal_record, journal_stamp
from matensemble.subcommands import logs as logs_module
from matensemble.workdir import RunDir

ENERGY, FIT = "chore-energy-0001", "chore-fit-0003"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["logs", *map(str, arguments)])


def print_to(run: RunDir, chore_id: str, name: str, data: bytes) -> None:
    run.chore_dir(chore_id).mkdir(exist_ok=True)
    with run.chore_file(chore_id, name).open("ab") as file:
        file.write(data)


def test_a_pipe_gets_the_bytes_as_they_are(saved: RunDir) -> None:
    data = b"\x1b[31mred\xff\x00\r\n"
    print_to(saved, ENERGY, "stdout", data)
    print_to(saved, ENERGY, "stderr", b"trouble\n")
    assert call(saved.root, ENERGY).stdout_bytes == data
    assert call(saved.root, ENERGY, "--stderr").stdout_bytes == b"trouble\n"
    assert call(saved.root.parent, ENERGY).stdout_bytes == data  # the newest run of a folder


def test_a_terminal_gets_text_that_commands_nothing(
    saved: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(logs_module.sys, "stdout", screen)
    write = logs_module._make_writer()
    for piece in (b"\x1b[31mred\x1b[0m \xce", b"\xbb \x1b]0;title\x07\n"):  # a letter in two pieces
        write(piece)
    assert screen.getvalue() == "red λ \n"


@pytest.mark.parametrize("text", [FIT, "fit", "chore-f", "f"])
def test_a_chore_is_found_by_what_fits_it_only(saved: RunDir, text: str) -> None:
    print_to(saved, FIT, "stdout", b"fitted\n")
    assert call(saved.root, text).stdout == "fitted\n"


def test_a_chore_that_a_strategy_added_is_found(saved: RunDir, journal: Any) -> None:
    header = {"id": "chore-extra-0004", "name": "extra", "kind": "executable", "command": ["a"]}
    journal.write(RecordKind.CHORE_ADDED, "chore-extra-0004", {"header": header, "parent": FIT})
    print_to(saved, "chore-extra-0004", "stdout", b"more\n")
    assert call(saved.root, "extra").stdout == "more\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("energy", "'energy' fits 2 chores, name one of them: chore-energy-0001, chore-energy-0"),
        ("chore", "fits 3 chores"),
        ("gold", "groups: energy, fit"),
        ("../../secret", "no id and no name"),
    ],
)
def test_what_fits_none_or_several_is_refused(saved: RunDir, text: str, problem: str) -> None:
    answer = call(saved.root, text)
    assert answer.exit_code == 2
    assert problem in answer.stderr


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([], "has not started yet"),
        (
            [(RecordKind.SKIPPED, {"u": ENERGY})],
            f"{FIT} was skipped: {ENERGY}, which it depends on, has no result",
        ),
        (
            [(RecordKind.FAILED, {"r": "exceeds_allocation", "d": "wants 512 cores"})],
            f"{FIT} has no stdout: it is failed: exceeds_allocation: wants 512 cores",
        ),
        ([(RecordKind.RUN_STATE, {"state": "interrupted"})], "never ran: the run was interrupted"),
        ([(RecordKind.SUBMIT_INTENT, None)], "has no stdout: it is submitted"),
        (
            [(RecordKind.SUBMIT_INTENT, {"p": 1}), (RecordKind.COMPLETED, {"el": 0.01, "h": "n1"})],
            f"{FIT} (completed) has no stdout; a warm worker keeps one only where something was",
        ),
        (
            [
                (RecordKind.SUBMIT_INTENT, {"p": 1}),
                (RecordKind.REQUEUED, {"r": "exception"}),
                (RecordKind.SUBMIT_INTENT, None),
            ],
            "has no stdout: it is submitted",
        ),
    ],
)
def test_a_chore_without_output_says_why(
    saved: RunDir,
    journal: Any,
    records: list[tuple[RecordKind, dict[str, Any] | None]],
    words: str,
) -> None:
    for kind, fields in records:
        journal.write(kind, None if kind is RecordKind.RUN_STATE else FIT, fields)
    answer = call(saved.root, FIT)
    assert answer.exit_code == 0
    assert answer.stdout == ""
    assert words in answer.stderr


def test_empty_output_is_told_apart_from_none(saved: RunDir, journal: Any) -> None:
    print_to(saved, FIT, "stdout", b"")
    journal.write(RecordKind.COMPLETED, FIT)
    assert call(saved.root, FIT).stderr == f"{FIT} (completed) printed nothing to stdout\n"
    journal.write(RecordKind.FAILED, FIT, {"r": "signal", "x": -9, "d": "ended by SIGKILL"})
    assert call(saved.root, FIT).stderr == (
        f"{FIT} (failed: signal (exit code -9): ended by SIGKILL) printed nothing to stdout; "
        "try --stderr\n"
    )


def test_an_earlier_attempt_is_shown_on_request(saved: RunDir, journal: Any) -> None:
    for attempt in (1, 2):
        journal.write(RecordKind.SUBMIT_INTENT, FIT, attempt=attempt)
    earlier = saved.attempt_dir(FIT, 1)
    earlier.mkdir(parents=True)
    (earlier / "stdout").write_bytes(b"first\n")
    print_to(saved, FIT, "stdout", b"second\n")
    assert call(saved.root, FIT, "--attempt", "1").stdout == "first\n"
    assert call(saved.root, FIT, "--attempt", "2").stdout == "second\n"
    answer = call(saved.root, FIT, "--attempt", "1", "--stderr")
    assert answer.stderr == f"attempt 1 of {FIT} left nothing in stderr\n"
    answer = call(saved.root, FIT, "--attempt", "3")
    assert answer.exit_code == 2
    assert f"no attempt 3 of {FIT}; the latest is 2" in answer.stderr


def test_a_torn_last_record_is_left_for_later(saved: RunDir, journal: Any) -> None:
    line = encode_journal_record(2, journal_stamp(1, 0.0, 0.0), RecordKind.COMPLETED, FIT)
    history = ChoreHistory(saved, FIT)
    for piece, state in ((line[:20], ChoreState.BLOCKED), (line[20:], ChoreState.COMPLETED)):
        with saved.journal_path.open("ab") as file:
            file.write(piece)
        history.read()
        assert history.state is state


def test_a_takeover_is_followed_and_what_came_behind_it_is_void(
    saved: RunDir, journal: Any
) -> None:
    history = ChoreHistory(saved, FIT)
    journal.write(RecordKind.SUBMIT_INTENT, FIT)
    history.read()
    assert history.state is ChoreState.SUBMITTED
    successor = journal.replace()
    stale = encode_journal_record(3, journal_stamp(1, 0.0, 0.0), RecordKind.COMPLETED, FIT)
    with saved.journal_of(1).open("ab") as file:
        file.write(stale)
    history.read()
    assert history.state is ChoreState.SUBMITTED
    successor.write(RecordKind.REQUEUED, FIT, {"d": "its driver was lost"})
    history.read()
    assert (history.state, history.because) == (ChoreState.BLOCKED, "its driver was lost")
    successor.replace().write(RecordKind.SUBMIT_INTENT, FIT, attempt=2)
    history.read()
    assert history.state is ChoreState.SUBMITTED
    assert history.standing.attempt == 2


def test_a_takeover_under_way_is_no_error(saved: RunDir, journal: Any) -> None:
    history = ChoreHistory(saved, FIT)
    journal.write(RecordKind.STARTED, FIT, {"h": "node1"})
    history.read()
    saved.journal_path.rename(saved.journal_of(1))
    history.read()
    assert history.because == "on node1"


def test_damage_is_named_and_a_lost_tail_is_not(saved: RunDir, journal: Any) -> None:
    journal.write(RecordKind.SUBMIT_INTENT, FIT)
    with saved.journal_path.open("ab") as file:
        file.write(b'{"s":3,"k":"completed","c":"' + FIT.encode() + b'","z":"00000000"}\n')
    history = ChoreHistory(saved, FIT)
    history.read()  # what a lost node leaves at the end
    assert history.state is ChoreState.SUBMITTED
    journal.write(RecordKind.STARTED, FIT)
    with pytest.raises(FormatError, match="is damaged"):
        history.read()


def test_a_record_of_nonsense_is_named(saved: RunDir, journal: Any) -> None:
    journal.write(RecordKind.RUN_STATE, None, {"state": "asleep"})
    result = call(saved.root, FIT)
    assert result.exit_code != 0
    assert "journal.jsonl" in result.stderr
    assert "record 2 of epoch 1 is no run_state" in result.stderr
    assert not isinstance(result.exception, ValueError)


def test_follow_shows_what_comes_until_the_chore_has_ended(
    saved: RunDir, journal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first() -> None:
        journal.write(RecordKind.STARTED, FIT)
        print_to(saved, FIT, "stdout", b"one\n")

    def again() -> None:
        attempt_1 = saved.chore_dir(FIT) / "stdout of attempt 1"
        saved.chore_file(FIT, "stdout").rename(attempt_1)
        print_to(saved, FIT, "stdout", b"two\n")

    def last() -> None:
        print_to(saved, FIT, "stdout", b"three\n")
        journal.write(RecordKind.COMPLETED, FIT)

    steps = iter([first, lambda: None, again, last])
    monkeypatch.setattr("time.sleep", lambda seconds: next(steps)())
    answer = call(saved.root, FIT, "--follow")
    assert answer.exit_code == 0
    assert answer.stderr == f"{FIT} has not started yet; waiting\n"
    assert answer.stdout == "one\ntwo\nthree\n"


def test_follow_ends_when_the_driver_is_lost(
    saved: RunDir,
    journal: Any,
    make_status: Callable[..., Any],
    write_status: Callable[[RunDir, Any], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    journal.write(RecordKind.STARTED, FIT)
    print_to(saved, FIT, "stdout", b"one\n")
    write_status(saved, make_status())  # of long ago
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    answer = call(saved.root, FIT, "-f")
    assert answer.stdout == "one\n"
    assert "the driver seems lost" in answer.stderr


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error(
    saved: RunDir, start: Callable[..., subprocess.Popen[str]]
) -> None:
    print_to(saved, FIT, "stdout", b"line\n" * 200_000)
    process = start("-m", "matensemble.cli", "logs", str(saved.root), FIT)
    assert process.stdout is not None
    assert process.stdout.readline() == "line\n"
    process.stdout.close()
    assert process.wait(30) in (0, 1)
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
