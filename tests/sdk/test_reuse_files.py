"""What files that change after a save do to the reuse of results."""

import logging
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from matensemble import wire
from matensemble.content_key import read_keys
from matensemble.file_marks import mark
from matensemble.file_watch import FileWatch, is_same
from matensemble.model import ChoreType
from matensemble.pipeline import Pipeline
from matensemble.records import RecordKind, encode_journal_record, journal_stamp
from matensemble.reuse import read_plan
from matensemble.workdir import RunDir
from matensemble.workflow import Workflow

SOURCE = """
def f(x): return x
def total(xs): return xs
def h(x):
    import changing_helper
    return changing_helper.rate()
"""


@pytest.fixture
def pipeline(tmp_path):
    """Return a pipeline with the functions of a script, decorated."""

    def make():
        namespace = {"__name__": "__main__"}
        exec(compile(SOURCE, "script.py", "exec"), namespace)
        pipe = Pipeline(tmp_path / "runs", resume="latest")
        decorated = {name: pipe.chore(namespace[name]) for name in ("f", "total", "h")}
        return pipe, SimpleNamespace(**decorated)

    return make


def finish(root):
    """Pretend that every chore of a run completed."""
    run = RunDir(root)
    records = [(RecordKind.RUN_STARTED, None, {"format": 1})]
    for chore in Workflow.read(run).chores():
        records.append((RecordKind.COMPLETED, chore.id, {}))
        run.chore_dir(chore.id).mkdir()
        if chore.kind is ChoreType.PYTHON:
            path = run.chore_file(chore.id, "result.pickle")
            wire.write_result(path, wire.dumps(chore.id), 1, chore_id=chore.id)
    stamp = journal_stamp(1, 0.0, 0.0)
    lines = [
        encode_journal_record(number, stamp, kind, chore_id, 1, fields)
        for number, (kind, chore_id, fields) in enumerate(records, 1)
    ]
    run.journal_path.write_bytes(b"".join(lines))


def plan_of(pipe):
    return read_plan(RunDir(pipe.save()))


@pytest.fixture
def data(tmp_path):
    """A file that a command names, not written to just now."""
    path = tmp_path / "data.txt"
    path.write_text("one")
    return path


def meanwhile(path, *contents):
    """Write to a file, as somebody does between a save and the end of the run."""
    for content in contents:
        path.write_text(content)
    os.utime(path, ns=(0, 0))  # clocks of file systems are coarse


def simulate(path):
    def author(pipe, script):
        sim = pipe.exec(["cat", path], name="sim")
        script.f(sim)
        script.f(1)

    return author


BEHIND_DATA = {"chore-sim-0001", "chore-f-0002"}


def test_a_file_that_was_another_one_meanwhile_makes_results_unsure(pipeline, data):
    author = simulate(data)
    pipe, script = pipeline()
    author(pipe, script)
    earlier = pipe.save()
    meanwhile(data, "two", "one")
    finish(earlier)
    pipe, script = pipeline()
    author(pipe, script)
    plan = plan_of(pipe)
    assert plan.found.keys() == {"chore-f-0003"}
    assert plan.reasons.keys() == BEHIND_DATA
    assert plan.reasons["chore-f-0002"] == (
        f"{data} changed after the earlier run was saved, perhaps before it ended"
    )


@pytest.mark.parametrize("changes_during_the_run", [False, True])
def test_what_a_driver_saw_to_the_end_does_not_change_by_what_comes_later(
    pipeline, data, changes_during_the_run
):
    author = simulate(data)
    pipe, script = pipeline()
    author(pipe, script)
    earlier = pipe.save()
    watch = FileWatch.open(RunDir(earlier))
    finish(earlier)
    if changes_during_the_run:
        meanwhile(data, "two")
    watch.close(logging.getLogger())
    meanwhile(data, "three", "one")
    pipe, script = pipeline()
    author(pipe, script)
    plan = plan_of(pipe)
    assert plan.reasons.keys() == (BEHIND_DATA if changes_during_the_run else set())


def test_a_module_that_was_another_one_meanwhile_makes_results_unsure(
    pipeline, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = tmp_path / "changing_helper.py"
    path.write_text("def rate(): return 1\n")

    def author(pipe, script):
        script.h(1)
        script.f(1)

    pipe, script = pipeline()
    author(pipe, script)
    earlier = pipe.save()
    assert [key.files for key in read_keys(RunDir(earlier))] == [(0,), ()]
    meanwhile(path, "def rate(): return 2\n", "def rate(): return 1\n")
    finish(earlier)
    pipe, script = pipeline()
    author(pipe, script)
    plan = plan_of(pipe)
    assert plan.found.keys() == {"chore-f-0002"}
    assert "changing_helper.py changed" in plan.reasons["chore-h-0001"]


def test_a_module_that_a_package_gains_meanwhile_is_a_change(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    before = mark(package)
    (package / "__pycache__").mkdir()
    (package / "notes.txt").write_text("")
    assert is_same(before)
    (package / "more.py").write_text("")
    assert not is_same(before)


def test_a_file_that_appears_meanwhile_is_a_change(tmp_path):
    before = mark(tmp_path / "later")
    assert is_same(before)
    (tmp_path / "later").write_text("")
    assert not is_same(before)


def test_a_stamp_is_not_believed_of_a_file_that_had_just_changed(data):
    before = mark(data)
    assert before.is_young
    assert not is_same(before._replace(digest="another content, written in the same tick"))


def test_a_chore_behind_too_many_files_has_no_key(pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr("matensemble.content_key.MAX_COVERED", 2)
    pipe, script = pipeline()
    sims = [pipe.exec([f"{tmp_path}/{number}"], name="sim") for number in range(3)]
    script.total(sims[:2])
    script.total(sims)
    keys = {key.id: key for key in read_keys(RunDir(pipe.save()))}
    assert keys["chore-total-0004"].files == (0, 1)
    assert keys["chore-total-0005"].because == "it depends on more than 2 files"


def test_a_program_that_cannot_be_read_counts_by_size_and_time(tmp_path, monkeypatch):
    def refuse(*args):
        raise PermissionError

    program = tmp_path / "program"
    program.write_text("x")
    monkeypatch.setattr(Path, "open", refuse)
    first = mark(program).digest
    program.touch()
    os.utime(program, ns=(0, 0))
    assert first is not None
    assert mark(program).digest == "1 bytes of 0" != first
