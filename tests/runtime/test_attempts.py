"""What an attempt left is kept, whole and in one place, whenever the driver is killed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from matensemble import wire, workdir
from matensemble.runtime.attempts import find_previous, set_aside
from matensemble.workdir import RunDir

FILES = {
    "chore.pickle": None,
    "metadata.json": b"{}",
    "stdout": b"step 1\n",
    "stderr": b"",
    "result.pickle": b"damaged",
    "restart/a.bin": b"checkpoint",
    "spawned.jsonl": b"{}\n",
}


class Killed(BaseException):
    """The driver is no more."""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "out").mkdir()
    return RunDir(tmp_path)


def prepare(run, attempt, chore_id="c"):
    """Write what an attempt leaves, its record as the driver writes it."""
    for name, content in FILES.items():
        path = run.chore_file(chore_id, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            content = wire.encode_record({"id": "c", "attempt": attempt, "deps": ["d"] * 9})
        path.write_bytes(content)
        path.chmod(0o600)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def files(directory: Path):
    return {str(p.relative_to(directory)) for p in directory.rglob("*") if not p.is_dir()}


def test_everything_moves_to_the_attempt_of_the_record(run):
    prepare(run, 2)
    set_aside(run, "c", 5)
    assert files(run.chore_dir("c")) == {f"attempts/2/{name}" for name in FILES}
    assert run.attempt_dir("c", 2).stat().st_mode & 0o777 == 0o700


def test_each_attempt_has_its_own_place(run):
    for attempt in (1, 2, 3):
        set_aside(run, "c", attempt)
        prepare(run, attempt)
    set_aside(run, "c", 4)
    assert names(run.chore_dir("c")) == ["attempts"]
    assert names(run.attempt_dir("c", 1).parent) == ["1", "2", "3"]


def test_nothing_moves_for_an_attempt_that_was_prepared_before(run):
    prepare(run, 2)
    set_aside(run, "c", 2)
    assert files(run.chore_dir("c")) == set(FILES)


def test_a_chore_without_a_directory_has_nothing_to_move(run):
    set_aside(run, "c", 2)
    assert not run.chore_dir("c").exists()
    assert find_previous(run, "c", 2) is None


@pytest.mark.parametrize("content", [None, b"", b"nonsense", b"\x80\x05]q\x00."])
def test_without_a_readable_record_the_files_are_of_the_attempt_before(run, content):
    prepare(run, 1)
    path = run.chore_file("c", "chore.pickle")
    path.unlink() if content is None else path.write_bytes(content)
    set_aside(run, "c", 4)
    assert "stdout" in names(run.attempt_dir("c", 3))


def test_a_record_that_a_chore_replaced_runs_no_code(run):
    prepare(run, 1)
    mark = run.root / "mark"
    run.chore_file("c", "chore.pickle").write_bytes(
        b"cos\nmkdir\n(V%s\ntR." % str(mark).encode()  # would make a directory when loaded
    )
    set_aside(run, "c", 2)
    assert not mark.exists()
    assert run.attempt_dir("c", 1).is_dir()


def is_killed_at(step, name, run, chore_id, monkeypatch):
    """Set aside for attempt 2, killed instead of a call of `os.<name>`; return whether it was."""
    real = getattr(os, name)
    left = iter([True] * step)

    def step_or_die(*args, **kwargs):
        if not next(left, False):
            raise Killed
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, step_or_die)
        try:
            set_aside(run, chore_id, 2)
        except Killed:
            return True
    return False


@pytest.mark.parametrize("name", ["rename", "mkdir"])
@pytest.mark.parametrize("later", [0, 1])
def test_a_kill_between_any_two_steps_loses_and_mixes_nothing(run, monkeypatch, name, later):
    for step in range(100):
        chore_id = f"c{step}"
        prepare(run, 1, chore_id)
        if not is_killed_at(step, name, run, chore_id, monkeypatch):
            break
        set_aside(run, chore_id, 2 + later)  # the next driver may make a later attempt of it
        assert files(run.chore_dir(chore_id)) == {f"attempts/1/{name}" for name in FILES}
        kept = run.attempt_dir(chore_id, 1) / "restart" / "a.bin"
        assert kept.read_bytes() == b"checkpoint"
    num_entries = len({name.partition("/")[0] for name in FILES})
    assert step == {"rename": num_entries, "mkdir": 2}[name]


@pytest.mark.parametrize("name", ["rename", "mkdir", "unlink"])
@pytest.mark.parametrize("later", [0, 1])
def test_a_kill_mixes_nothing_where_there_is_no_record(run, monkeypatch, name, later):
    """As of a chore that ran on a warm worker."""
    expected = set(FILES) - {"chore.pickle"}
    for step in range(100):
        chore_id = f"c{step}"
        prepare(run, 1, chore_id)
        run.chore_file(chore_id, "chore.pickle").unlink()
        if not is_killed_at(step, name, run, chore_id, monkeypatch):
            break
        set_aside(run, chore_id, 2 + later)
        found = {path for path in files(run.chore_dir(chore_id)) if not path.endswith(".tmp")}
        (kept,) = run.attempt_dir(chore_id, 1).parent.iterdir()
        assert found == {f"attempts/{kept.name}/{name}" for name in expected}
    assert step == {"rename": len(FILES) - 1, "mkdir": 2, "unlink": 1}[name]
    assert files(run.chore_dir(chore_id)) == {f"attempts/1/{name}" for name in expected}


def test_nothing_that_is_kept_is_replaced(run):
    prepare(run, 1)
    set_aside(run, "c", 2)
    run.chore_file("c", "stdout").write_text("of a process that lived on")
    set_aside(run, "c", 2)
    assert run.chore_file("c", "attempts/1/stdout").read_bytes() == b"step 1\n"
    assert run.chore_file("c", "attempts/1/stdout~2").read_text() == "of a process that lived on"


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_chore_that_took_the_name_of_the_place_loses_nothing(run, tmp_path, kind):
    prepare(run, 1)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = run.chore_file("c", "attempts")
    path.write_text("mine") if kind == "file" else path.symlink_to(elsewhere)
    set_aside(run, "c", 2)
    assert run.attempt_dir("c", 1).is_dir()
    assert not path.is_symlink()
    assert list(elsewhere.iterdir()) == []
    kept = run.chore_file("c", "attempts/1/attempts~2")
    assert kept.is_symlink() if kind == "link" else kept.read_text() == "mine"


def test_arguments_of_chores_that_joined_the_graph_stay_where_they_are(run):
    prepare(run, 1)
    for attempt in (1, 2):
        run.chore_file("c", workdir.spawned_arguments(attempt)).write_text("arguments")
    set_aside(run, "c", 3)
    assert names(run.chore_dir("c")) == ["attempts", "spawned-2.args", "spawned.args"]


def test_what_a_network_file_system_keeps_of_a_removed_file_is_left_to_it(run):
    prepare(run, 1)
    run.chore_file("c", ".nfs0001").touch()
    set_aside(run, "c", 2)
    assert names(run.chore_dir("c")) == [".nfs0001", "attempts"]


def test_the_previous_attempt_is_the_latest_that_started(run):
    prepare(run, 1)
    set_aside(run, "c", 2)
    assert find_previous(run, "c", 2) == run.attempt_dir("c", 1)
    prepare(run, 2)
    set_aside(run, "c", 3)
    assert find_previous(run, "c", 3) == run.attempt_dir("c", 2)
    # Attempt 3 was killed while it was prepared, attempt 4 before that.
    for name in ("chore.pickle", "metadata.json", "metadata.json.0123abcd.tmp"):
        path = run.attempt_dir("c", 3) / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert find_previous(run, "c", 5) == run.attempt_dir("c", 2)
    assert find_previous(run, "c", 2) == run.attempt_dir("c", 1)
    run.attempt_dir("c", 4).touch()  # a file of the chore's own
    assert find_previous(run, "c", 5) == run.attempt_dir("c", 2)
