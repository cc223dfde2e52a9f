"""What the end of an attempt means, decided by looking at files."""

from __future__ import annotations

import json
import signal

import pytest

from matensemble import wire
from matensemble.chore import Chore
from matensemble.model import ChoreType, Reason
from matensemble.runtime.executors.base import JobEnded
from matensemble.runtime.settlement import settle
from matensemble.workdir import RunDir


@pytest.fixture
def run(tmp_path):
    (tmp_path / "out" / "c").mkdir(parents=True)
    return RunDir(tmp_path)


def python(**fields):
    return Chore("c", "c", ChoreType.PYTHON, callable="c", **fields)


def program(**fields):
    return Chore("c", "c", ChoreType.EXECUTABLE, command=("c",), **fields)


def ended(exit_code=0, reason=None, detail="", attempt=1):
    return JobEnded("c", attempt, exit_code, reason, detail)


def write_result(run, attempt=1):
    wire.write_result(run.chore_file("c", "result.pickle"), wire.dumps(1), attempt)


def write_error(run, **fields):
    run.chore_file("c", "error.json").write_text(json.dumps(fields))


def test_a_python_chore_completes_with_an_intact_result(run):
    write_result(run)
    finished = settle(run, python(), ended())
    assert finished.reason is None
    assert not run.chore_file("c", "stderr").exists()


def test_a_clean_exit_without_a_result_is_a_failure(run):
    finished = settle(run, python(), ended())
    assert finished.reason is Reason.RESULT_MISSING
    assert "os._exit" in run.chore_file("c", "stderr").read_text()


def test_a_result_of_another_attempt_does_not_count(run):
    write_result(run, attempt=1)
    assert settle(run, python(), ended(attempt=2)).reason is Reason.RESULT_MISSING


def test_a_truncated_result_is_corrupt(run):
    write_result(run)
    path = run.chore_file("c", "result.pickle")
    path.write_bytes(path.read_bytes()[:-1])
    assert settle(run, python(), ended()).reason is Reason.RESULT_CORRUPT


def test_the_workers_record_gives_reason_and_detail(run):
    write_error(run, reason="import_error", type="ModuleNotFoundError", message="no x", attempt=1)
    finished = settle(run, python(), ended(1))
    assert finished.reason is Reason.IMPORT_ERROR
    assert finished.detail == "ModuleNotFoundError: no x"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"reason": "nonsense"}', '{"reason": "exception", "attempt": 7}']
)
def test_an_unreadable_or_foreign_record_does_not_hide_the_exit_code(run, content):
    run.chore_file("c", "error.json").write_text(content)
    finished = settle(run, python(), ended(9))
    assert finished.reason is Reason.NONZERO_EXIT
    assert finished.exit_code == 9


def test_a_signal_is_named(run):
    finished = settle(run, program(), ended(-11))
    assert finished.reason is Reason.SIGNAL
    assert finished.detail.startswith("ended by SIGSEGV: compiled code crashed")
    assert "memory" in settle(run, program(), ended(-9)).detail
    assert settle(run, program(), ended(-signal.SIGUSR1)).detail == "ended by SIGUSR1"
    assert settle(run, program(), ended(-77)).detail == "ended by signal 77"


def test_success_codes_are_the_chores_own(run):
    assert settle(run, program(success_codes=(0, 134)), ended(134)).reason is None
    assert settle(run, program(), ended(134)).reason is Reason.NONZERO_EXIT
    assert settle(run, program(success_codes=(3,)), ended(0)).reason is Reason.NONZERO_EXIT


def test_declared_outputs_must_exist(run):
    chore = program(outputs={"log": "sub/log.txt"})
    finished = settle(run, chore, ended())
    assert finished.reason is Reason.RESULT_MISSING
    assert "'log' (sub/log.txt)" in finished.detail
    run.chore_file("c", "sub").mkdir()
    run.chore_file("c", "sub/log.txt").touch()
    assert settle(run, chore, ended()).reason is None


def test_what_the_executor_knows_comes_first(run):
    write_result(run)
    finished = settle(run, python(), ended(-9, Reason.DURATION_EXCEEDED, "ran  longer\nthan 3 s"))
    assert finished.reason is Reason.DURATION_EXCEEDED
    assert finished.detail == "ran longer than 3 s"


def test_a_cancelled_chore_is_not_annotated(run):
    settle(run, program(), ended(-15, Reason.CANCELLED))
    assert not run.chore_file("c", "stderr").exists()


def test_the_annotation_follows_what_the_chore_wrote(run):
    path = run.chore_file("c", "stderr")
    path.write_text("last words")
    settle(run, program(), ended(2))
    said, _, note = path.read_text().partition("\n")
    assert said == "last words"
    assert note.startswith("[matensemble] c failed: nonzero_exit (exit code 2)")


@pytest.mark.parametrize(
    ("stderr", "stdout", "detail"),
    [
        (b"", b"", ""),
        (b"\n \n", b"step 1\n", ""),
        (b"x\nno such file\n\n", b"step 1\n", "no such file"),
        (b"ERROR: no such file\n=== aborted ===\n", b"", "ERROR: no such file"),
        (b"=== aborted ===\n", b"ERROR: bad style\nlast line: x\n", "ERROR: bad style"),
        (b"error\n" + b"x" * 10_000 + b"\nend \xff", b"", "end \N{REPLACEMENT CHARACTER}"),
    ],
)
def test_a_program_that_fails_is_quoted(run, stderr, stdout, detail):
    run.chore_file("c", "stderr").write_bytes(stderr)
    run.chore_file("c", "stdout").write_bytes(stdout)
    finished = settle(run, program(), ended(2))
    assert (finished.reason, finished.detail) == (Reason.NONZERO_EXIT, detail)


def test_an_annotation_never_follows_a_link_or_blocks(run, tmp_path):
    import os

    target = tmp_path / "precious"
    target.write_text("mine")
    run.chore_file("c", "stderr").symlink_to(target)
    settle(run, program(), ended(2))
    assert target.read_text() == "mine"
    run.chore_file("c", "stderr").unlink()
    os.mkfifo(run.chore_file("c", "stderr"))
    assert settle(run, program(), ended(2)).reason is Reason.NONZERO_EXIT


def test_an_endless_detail_is_cut(run):
    finished = settle(run, program(), ended(1, Reason.SUBMIT_ERROR, "x" * 10_000))
    assert len(finished.detail) == 500


def test_a_failure_that_looks_like_a_success_is_told_by_its_record(run):
    write_error(run, reason="exception", type="ValueError", message="no", attempt=1)
    finished = settle(run, python(success_codes=(0, 1)), ended(1))
    assert finished.reason is Reason.EXCEPTION


def test_a_record_without_an_attempt_counts(run):
    write_error(run, reason="io_error", type="FormatError", message="no record", attempt=None)
    assert settle(run, python(), ended(1)).reason is Reason.IO_ERROR


@pytest.mark.parametrize("name", ["error.json", "result.pickle"])
def test_a_pipe_that_a_chore_left_does_not_stop_the_driver(run, name):
    import os

    os.mkfifo(run.chore_file("c", name))
    assert settle(run, python(), ended(0)).reason is not None
    assert settle(run, python(), ended(1)).reason is Reason.NONZERO_EXIT


def test_a_record_nested_without_measure_does_not_stop_the_driver(run):
    run.chore_file("c", "error.json").write_text("[" * 100_000)
    assert settle(run, python(), ended(1)).reason is Reason.NONZERO_EXIT


def test_an_output_that_cannot_be_looked_at_is_an_io_error(run):
    finished = settle(run, program(outputs={"x": "a" * 300}), ended())
    assert finished.reason is Reason.IO_ERROR
    assert "'x'" in finished.detail


def test_a_detail_commands_no_terminal_and_can_be_encoded(run):
    write_error(run, reason="exception", type="E", message="\x1b]0;pwned\x07 \udcff", attempt=1)
    detail = settle(run, python(), ended(1)).detail
    assert "\x1b" not in detail
    detail.encode()


def test_a_duration_that_was_exceeded_is_named(run):
    from matensemble.model import Resources

    chore = program(resources=Resources(duration="2m"))
    finished = settle(run, chore, ended(-15, Reason.DURATION_EXCEEDED))
    assert finished.detail.startswith("longer than its duration of 120 s")
