"""What stays of a chore that has ended, and what must never go."""

from __future__ import annotations

import os

import pytest

from matensemble.chore import Chore
from matensemble.model import ChoreState, ChoreType
from matensemble.runtime import housekeeping
from matensemble.runtime.housekeeping import tidy
from matensemble.workdir import RunDir

PYTHON = Chore("c", "c", ChoreType.PYTHON, callable="c")
FILES = (
    *("stdout", "stderr", "chore.pickle", "metadata.json", "result.pickle", "error.json"),
    *("dump.1", "restart/1", "restart/deep/2", "attempts/1/stdout", "result.pickle.damaged"),
)


def program(**outputs):
    return Chore("c", "c", ChoreType.EXECUTABLE, command=("c",), outputs=outputs)


@pytest.fixture
def run(tmp_path):
    run = RunDir(tmp_path / "run")
    for name in FILES:
        path = run.chore_file("c", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return run


def left(run):
    root = run.chore_dir("c")
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@pytest.mark.parametrize("state", [ChoreState.COMPLETED, ChoreState.FAILED, ChoreState.CANCELLED])
def test_all_keeps_everything(run, state):
    tidy(run, PYTHON, state, "all")
    assert left(run) == set(FILES)


@pytest.mark.parametrize("keep", ["failed", "results"])
def test_of_a_completed_function_the_result_stays(run, keep):
    tidy(run, PYTHON, ChoreState.COMPLETED, keep)
    assert left(run) == {"result.pickle"}
    assert not run.chore_file("c", "attempts").exists()


@pytest.mark.parametrize("keep", ["failed", "results"])
def test_of_a_completed_program_outputs_and_streams_stay(run, keep):
    chore = program(dump="dump.1", deep="restart/deep/2")
    tidy(run, chore, ChoreState.COMPLETED, keep)
    assert left(run) == {"stdout", "stderr", "dump.1", "restart/deep/2"}


def test_an_output_that_is_a_directory_stays_whole(run):
    tidy(run, program(all="./restart/"), ChoreState.COMPLETED, "failed")
    assert left(run) == {"stdout", "stderr", "restart/1", "restart/deep/2"}


def test_what_a_strategy_asked_for_stays_because_others_read_their_arguments_there(run):
    chore = Chore("c", "c", ChoreType.PYTHON, callable="c", is_strategy=True)
    names = {"spawned.jsonl", "spawned.args", "spawned-2.args"}
    for name in names:
        run.chore_file("c", name).write_text(name)
    tidy(run, chore, ChoreState.COMPLETED, "results")
    assert left(run) == {"result.pickle", *names}


@pytest.mark.parametrize("state", [ChoreState.FAILED, ChoreState.CANCELLED])
def test_of_a_failed_chore_results_keeps_what_says_why(run, state):
    tidy(run, PYTHON, state, "failed")
    assert left(run) == set(FILES)
    size = housekeeping.TAIL_BYTES
    run.chore_file("c", "stderr").write_bytes(b"a" * 100 + b"b" * (size - 1) + b"\n")
    tidy(run, PYTHON, state, "results")
    assert left(run) == {"stdout", "stderr", "error.json"}
    assert run.chore_file("c", "stdout").read_text() == "stdout"
    assert run.chore_file("c", "stderr").read_bytes() == (
        b"[matensemble] 100 bytes before this were removed\n" + b"b" * (size - 1) + b"\n"
    )


def test_no_link_is_followed(run, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    run.chore_file("c", "link").symlink_to(outside)
    run.chore_file("c", "restart/link").symlink_to(outside, target_is_directory=True)
    run.chore_file("c", "stderr").unlink()
    run.chore_file("c", "stderr").symlink_to(outside / "precious")
    tidy(run, PYTHON, ChoreState.FAILED, "results")
    assert left(run) == {"stdout", "stderr", "error.json"}
    assert (outside / "precious").read_text() == "mine"


def test_a_directory_that_is_a_link_is_left_alone(run, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    run.chore_dir("c").rename(elsewhere)
    run.chore_dir("c").symlink_to(elsewhere)
    tidy(run, PYTHON, ChoreState.COMPLETED, "results")
    assert left(run) == set(FILES)


def test_an_output_behind_a_link_keeps_everything(run):
    run.chore_file("c", "final").symlink_to("dump.1")
    tidy(run, program(final="final"), ChoreState.COMPLETED, "failed")
    assert left(run) == {*FILES, "final"}
    run.chore_file("c", "here").symlink_to("restart")
    tidy(run, program(final="here/1"), ChoreState.COMPLETED, "failed")
    assert {*FILES, "final"} <= left(run)


def test_what_was_never_there_is_no_problem(tmp_path, caplog):
    tidy(RunDir(tmp_path), PYTHON, ChoreState.SKIPPED, "results")
    assert caplog.records == []


def test_what_cannot_be_removed_is_logged(run, monkeypatch, caplog):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "unlink", refuse)
    tidy(run, PYTHON, ChoreState.COMPLETED, "results")
    assert "files of c that need not stay could not be removed" in caplog.text
    assert "Permission denied" in caplog.text
