"""What the end of an attempt means, decided by looking at files."""

from __future__ import annotations

import errno
import json
import os
import signal
from types import SimpleNamespace

import pytest

from matensemble import wire
from matensemble.chore import Chore
from matensemble.model import ChoreType, Reason, Resources
from matensemble.references import Gather
from matensemble.runtime.executors.base import JobEnded
from matensemble.runtime.settlement import find_damage, salvage, settle
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
    chore = program(resources=Resources(duration="2m"))
    finished = settle(run, chore, ended(-15, Reason.DURATION_EXCEEDED))
    assert finished.detail.startswith("longer than its duration of 120 s")


# --- what is told beside the reason ----------


def bound_result(run, attempt=1, chore_id="c"):
    path = run.chore_file("c", "result.pickle")
    wire.write_result(path, wire.dumps(1), attempt, chore_id=chore_id)


@pytest.mark.parametrize(
    ("told", "expected"),
    [("ConvergenceError", "ConvergenceError"), ("solve.<locals>.Stuck", "Stuck"), (None, "None")],
)
def test_the_type_of_an_exception_is_told_as_users_write_it(run, told, expected):
    write_error(run, reason="exception", type=told, message="no", attempt=1)
    assert settle(run, python(), ended(1)).error_type == expected
    assert settle(run, program(), ended(1)).error_type == ""


def graph_of(**groups):
    def entry(chore_id):
        return SimpleNamespace(chore=SimpleNamespace(name=groups[chore_id]))

    return SimpleNamespace(entry=entry)


@pytest.mark.parametrize(
    ("named", "culprit"),
    [
        *(("up", "up"), ("before", "before"), ("g1", "g1"), ("other", None), ("gone", None)),
        *((None, None), (["up"], None), ({"id": "up"}, None)),
    ],
)
def test_only_a_chore_that_is_depended_on_can_be_the_culprit(run, named, culprit):
    write_error(run, reason="result_corrupt", type="E", message="", attempt=1, upstream=named)
    chore = python(deps=("up", Gather("g")), after=("before",))
    graph = graph_of(g1="g", other="x")
    assert settle(run, chore, ended(1), graph).culprit == culprit
    if named == "g1":
        assert settle(run, chore, ended(1)).culprit is None


@pytest.mark.parametrize(
    ("fields", "number"),
    [
        ({"reason": "io_error", "errno": errno.ENOSPC}, errno.ENOSPC),
        ({"reason": "io_error"}, None),
        ({"reason": "io_error", "errno": "28"}, None),
        ({"reason": "exception", "errno": errno.ENOSPC}, None),
    ],
)
def test_the_errno_of_a_disk_is_handed_on_and_then_nothing_more_is_written(run, fields, number):
    write_error(run, type="OSError", message="no space", attempt=1, **fields)
    assert settle(run, python(), ended(1)).errno == number
    assert run.chore_file("c", "stderr").exists() == (number is None)


def test_a_worker_that_could_not_even_write_why_is_an_io_error(run):
    finished = settle(run, python(), ended(74))
    assert (finished.reason, finished.errno) == (Reason.IO_ERROR, errno.EIO)
    assert settle(run, program(), ended(74)).reason is Reason.NONZERO_EXIT
    finished = settle(run, program(), ended(74, Reason.IO_ERROR, "no room for its directory"))
    assert (finished.reason, finished.errno) == (Reason.IO_ERROR, errno.EIO)
    write_error(run, reason="exception", type="SystemExit", message="74", attempt=1)
    assert settle(run, python(), ended(74)).reason is Reason.EXCEPTION


# --- results that do not count ----------


@pytest.mark.parametrize("attempt", [1, 3])
def test_what_is_no_result_is_kept_under_a_name_that_nobody_reads(run, attempt):
    bound_result(run, attempt)
    path = run.chore_file("c", "result.pickle")
    content = path.read_bytes()[: -1 if attempt == 1 else None]
    path.write_bytes(content)
    finished = settle(run, python(), ended())
    assert finished.reason in (Reason.RESULT_CORRUPT, Reason.RESULT_MISSING)
    assert not path.exists()
    assert run.chore_file("c", "result.pickle.damaged").read_bytes() == content


def test_a_disk_that_takes_no_new_name_changes_no_verdict(run, monkeypatch):
    run.chore_file("c", "result.pickle").write_bytes(b"x")

    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(os, "rename", refuse)
    assert settle(run, python(), ended()).reason is Reason.RESULT_CORRUPT


# --- network file systems ----------


def test_what_is_missing_may_only_be_late(run):
    chore = program(outputs={"log": "log.txt"})
    assert settle(run, python(), ended(), may_lag=True) is None
    assert settle(run, chore, ended(), may_lag=True) is None
    assert not run.chore_file("c", "stderr").exists()
    bound_result(run, attempt=1)
    assert settle(run, python(), ended(attempt=2), may_lag=True) is None, "the file before"
    assert run.chore_file("c", "result.pickle").exists()
    bound_result(run, attempt=2)
    run.chore_file("c", "log.txt").touch()
    assert settle(run, python(), ended(attempt=2), may_lag=True).reason is None
    assert settle(run, chore, ended(), may_lag=True).reason is None


def test_nothing_else_is_left_open(run):
    assert settle(run, python(), ended(1), may_lag=True).reason is Reason.NONZERO_EXIT
    assert settle(run, python(), ended(-9), may_lag=True).reason is Reason.SIGNAL
    run.chore_file("c", "result.pickle").write_bytes(b"x")
    assert settle(run, python(), ended(), may_lag=True).reason is Reason.RESULT_CORRUPT
    write_error(run, reason="exception", type="ValueError", message="no", attempt=1)
    chore = python(success_codes=(1,))
    assert settle(run, chore, ended(1), may_lag=True).reason is Reason.EXCEPTION


def fail_first(monkeypatch, number, names):
    """Let the first look at each of some files fail, as a network file system would."""
    failed = []

    def wrap(real):
        def function(path, *args, **kwargs):
            name = "" if isinstance(path, int) else os.fspath(path).rpartition("/")[2]
            if name in names and name not in failed:
                failed.append(name)
                raise OSError(number, os.strerror(number), str(path))
            return real(path, *args, **kwargs)

        return function

    for function in ("open", "stat"):
        monkeypatch.setattr(os, function, wrap(getattr(os, function)))
    return failed


@pytest.mark.parametrize("number", [errno.ESTALE, errno.ENOENT])
def test_a_look_at_an_old_directory_is_repeated(run, monkeypatch, number):
    bound_result(run)
    run.chore_file("c", "log.txt").touch()
    write_error(run, reason="exception", type="ValueError", message="no", attempt=1)
    failed = fail_first(monkeypatch, number, {"result.pickle", "error.json", "log.txt"})
    assert settle(run, python(), ended()).reason is None
    assert settle(run, program(outputs={"log": "log.txt"}), ended()).reason is None
    assert settle(run, python(), ended(1)).reason is Reason.EXCEPTION
    assert sorted(failed) == ["error.json", "log.txt", "result.pickle"]


# --- what completed before ----------


def test_a_result_that_holds_has_no_damage(run):
    bound_result(run, attempt=2)
    assert find_damage(run, python(), 2) is None
    assert find_damage(run, python(), 1) == "the result is of attempt 2, not of 1"
    assert salvage(run, python(), 2)
    assert not salvage(run, python(), 1)


def test_a_result_that_is_gone_or_cut_has(run):
    assert find_damage(run, python(), 1) == "its result is not there"
    assert not salvage(run, python(), 1)
    bound_result(run)
    path = run.chore_file("c", "result.pickle")
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        assert find_damage(run, python(), 1).startswith("its result is damaged: ")
    assert path.exists(), "to look changes nothing"


def test_of_a_program_its_outputs_are_the_evidence(run):
    chore = program(outputs={"log": "log.txt", "deep": "a/b"})
    assert find_damage(run, program(), 1) is None
    run.chore_file("c", "log.txt").touch()
    assert find_damage(run, chore, 1) == "its output 'deep' is not there"
    run.chore_file("c", "a").mkdir()
    run.chore_file("c", "a/b").touch()
    assert find_damage(run, chore, 1) is None
    assert not salvage(run, chore, 1), "they do not say which attempt wrote them"


def test_one_of_several_tasks_says_nothing_of_the_others(run):
    bound_result(run)
    assert not salvage(run, python(resources=Resources(num_tasks=2)), 1)


def test_a_disk_that_does_not_answer_is_no_damage(run, monkeypatch):
    bound_result(run)

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(OSError, match="Input/output"):
        find_damage(run, python(), 1)
    with pytest.raises(OSError, match="Input/output"):
        salvage(run, python(), 1)


def test_a_worker_that_vouches_for_a_result_is_believed_except_about_what_it_spawned(run):
    vouched = JobEnded("c", 1, 0, elapsed=0.5, host="n1", is_committed=True)
    finished = settle(run, python(), vouched)
    assert (finished.reason, finished.elapsed, finished.host) == (None, 0.5, "n1")
    assert settle(run, python(is_strategy=True), vouched).reason is Reason.RESULT_MISSING
    failed = vouched._replace(exit_code=3)
    assert settle(run, python(), failed).reason is Reason.NONZERO_EXIT
