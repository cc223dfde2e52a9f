"""Saving a pipeline and loading it again: what stands there, and what a failure leaves behind."""

import errno
import json
import os
import pickle
import types

import pytest

from matensemble import disk, draft, wire
from matensemble.errors import PipelineSubmittedError, RunDirectoryError
from matensemble.pipeline import Pipeline
from matensemble.workflow import Workflow


@pytest.fixture
def pipe(tmp_path):
    return Pipeline(tmp_path)


def saved(pipe):
    workflow = Workflow.read(pipe.save())
    return workflow, {chore.id: chore for chore in workflow.chores()}


def arguments(workflow, chore, results=()):
    data = wire.read_trusted(workflow.run.root / chore.arguments.file, *chore.arguments[1:])
    return wire.thaw(data, lambda slot: results[slot], pickle.loads)


def step(x, y=0):
    """Do a step."""
    return x


def test_nothing_can_be_recorded_after_saving(pipe):
    decorated = pipe.chore(step)
    decorated(1)
    root = pipe.save()
    assert pipe.save() == root == pipe.run_dir
    for attempt in (
        lambda: decorated(2),
        lambda: pipe.exec("true"),
        lambda: pipe.chore(name="n")(step),
    ):
        with pytest.raises(PipelineSubmittedError, match=str(root)):
            attempt()


def test_load_reads_the_graph_without_unpickling(pipe, monkeypatch):
    decorated = pipe.chore(step)
    refs = decorated.map(range(3))
    total = pipe.chore(name="total")(step)({"all": refs})
    last = pipe.exec("echo", after=[total])
    pipe.chore(name="table")(step)(pipe.gather("step"))
    graph = pipe.graph()
    assert set(graph.edges) == {(r.chore_id, total.chore_id) for r in refs} | {
        (total.chore_id, last.chore_id)
    }
    root = pipe.save()
    for path in [root / "workflow.args", *(root / "out/registry").iterdir()]:
        path.write_bytes(b"\0" * path.stat().st_size)  # whoever loads it fails
    loaded = Pipeline.load(root)
    assert dict(loaded.graph().nodes) == dict(graph.nodes)
    assert set(loaded.graph().edges) == set(graph.edges)
    with pytest.raises(PipelineSubmittedError):
        loaded.chore(step)


def test_load_of_something_else(tmp_path):
    with pytest.raises(RunDirectoryError):
        Pipeline.load(tmp_path)


def test_manifest_says_what_a_runtime_needs(tmp_path):
    module = types.ModuleType("study_helpers")
    pipe = Pipeline(tmp_path, by_value=[module], reserve_broker_node=False, name="study")
    pipe.chore(step)(1)
    pipe.exec("true")
    workflow, _ = saved(pipe)
    manifest = workflow.manifest
    assert (manifest.name, manifest.num_chores, manifest.next_number) == ("study", 2, 3)
    assert manifest.groups == {"step": 1, "true": 1}
    assert manifest.reserve_broker_node is False
    assert set(manifest.by_value) == {"study_helpers", __name__}
    manifest.callables["step"].shape.check("step", 1, ("y",))


def test_basedir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    pipe = Pipeline(tmp_path / "file")
    pipe.chore(step)(1)
    with pytest.raises(RunDirectoryError, match="basedir"):
        pipe.save()


def test_a_save_that_failed_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(draft, "SPOOL_BYTES", 100)  # in memory and on disk
    pipe = Pipeline(tmp_path / "file")
    (tmp_path / "file").write_text("")
    decorated = pipe.chore(env={"A": "1"})(step)
    pipe.strategy(triggers=["step"], name="refine")(lambda value: None)
    (tmp_path / "file").unlink()
    decorated("first", y=b"1" * 90)
    decorated("second", y=b"2" * 200)
    monkeypatch.setattr(pipe, "basedir", tmp_path / "other")
    (tmp_path / "other").write_text("")
    with pytest.raises(RunDirectoryError):
        pipe.save()  # no directory can be made
    decorated("third")
    (tmp_path / "other").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(disk, "write_atomic", lambda path, *chunks: (tmp_path / "gone").stat())
        with pytest.raises(RunDirectoryError):
            pipe.save()  # a directory was made, and is removed
    assert list((tmp_path / "other").iterdir()) == []
    decorated("fourth")
    workflow, chores = saved(pipe)
    expected = {"first": b"1" * 90, "second": b"2" * 200, "third": 0, "fourth": 0}
    shown = [arguments(workflow, chore) for chore in chores.values()]
    assert shown == [((x,), {"y": y} if y else {}) for x, y in expected.items()]
    assert workflow.read_env(chores["chore-step-0004"].env_place) == {"A": "1"}


def test_arguments_that_cannot_be_kept_leave_the_others_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(draft, "SPOOL_BYTES", 100)
    pipe = Pipeline(tmp_path)
    decorated = pipe.chore(step)
    decorated(b"1" * 50)
    written, pwrite = [], os.pwrite

    def full(file, data, offset):
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(pwrite(file, data[:10], offset))
        return written[0]

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(RunDirectoryError, match="No space left"):
            decorated(b"2" * 200)
    decorated(b"3" * 200)
    workflow, chores = saved(pipe)
    assert [arguments(workflow, chore)[0] for chore in chores.values()] == [
        (b"1" * 50,),
        (b"3" * 200,),
    ]


def test_what_needs_escaping_stands_in_headers(pipe):
    a = pipe.chore(name="a", nice=3, env={"X": "1"})(step)
    first = a(1)
    a.options(after=[first])([first, pipe.gather("a"), pipe.gather("a")[0]])
    pipe.exec(["echo", 'quo"te', "é\n", first], outputs={"o": "ü"})
    workflow, chores = saved(pipe)
    lines = workflow.run.chores_path.read_text().splitlines()
    for line, chore in zip(lines, chores.values(), strict=True):
        assert json.loads(line) == json.loads(json.dumps(chore.to_header()))
    assert list(chores.values())[2].command[1:3] == ('quo"te', "é\n")
