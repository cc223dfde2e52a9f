"""What is written before an attempt, and what a chore is told."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from matensemble import disk, wire
from matensemble.chore import Chore
from matensemble.model import ChoreState, ChoreType, Reason
from matensemble.pipeline import Pipeline
from matensemble.policy import ChorePolicy
from matensemble.references import Gather
from matensemble.runtime.launch import Preparer
from matensemble.runtime.scheduler.instructions import Submit
from matensemble.workflow import Workflow


def python(chore_id, **fields):
    return Chore(chore_id, chore_id, ChoreType.PYTHON, callable="f", **fields)


class Graph:
    """Where chores stand, as a test says."""

    def __init__(self):
        self.entries = {}

    def put(self, chore, state=ChoreState.COMPLETED, **fields):
        blank = {"attempt": 1, "exit_code": None, "reason": None, "detail": "", "root": None}
        self.entries[chore.id] = SimpleNamespace(chore=chore, state=state, **{**blank, **fields})

    def entry(self, chore_id):
        return self.entries[chore_id]

    def members(self, group):
        return [entry for entry in self.entries.values() if entry.chore.name == group]


@pytest.fixture
def graph():
    return Graph()


@pytest.fixture
def preparer(tmp_path, graph):
    pipe = Pipeline(basedir=tmp_path)
    pipe.exec("true")
    return Preparer(Workflow.read(pipe.save()), graph)


@pytest.fixture
def run(preparer):
    return preparer._run


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def record_of(run, chore_id="c"):
    path = run.chore_file(chore_id, "chore.pickle")
    return wire.decode_record(str(path), path.read_bytes())


def test_the_first_attempt_is_told_of_none_before(preparer, run):
    request = preparer.prepare(Submit(python("c"), 1, None))
    assert "MATENSEMBLE_PREVIOUS_DIR" not in request.env
    assert record_of(run)["attempt"] == 1
    assert "durable" not in record_of(run)


def test_a_later_attempt_finds_what_the_one_before_left(preparer, run):
    preparer.prepare(Submit(python("c"), 1, None))
    run.chore_file("c", "checkpoint").write_text("step 100")
    request = preparer.prepare(Submit(python("c"), 2, None))
    previous = request.env["MATENSEMBLE_PREVIOUS_DIR"]
    assert previous == str(run.attempt_dir("c", 1))
    assert Path(previous).is_absolute()
    assert (run.attempt_dir("c", 1) / "checkpoint").read_text() == "step 100"
    assert record_of(run)["attempt"] == 2
    assert names(request.cwd) == ["attempts", "chore.pickle", "metadata.json"]


def test_a_disk_that_fills_up_while_preparing_changes_nothing_for_the_next_try(
    preparer, run, monkeypatch
):
    preparer.prepare(Submit(python("c"), 1, None))
    run.chore_file("c", "checkpoint").touch()
    real, num_writes = disk.write_atomic, 0

    def full(path, *chunks):
        nonlocal num_writes
        num_writes += 1
        if num_writes == 2:
            raise OSError(28, "No space left on device", str(path))
        real(path, *chunks)

    monkeypatch.setattr(disk, "write_atomic", full)
    with pytest.raises(OSError, match="No space left"):
        preparer.prepare(Submit(python("c"), 2, None))
    request = preparer.prepare(Submit(python("c"), 2, None))
    assert names(run.attempt_dir("c", 1).parent) == ["1"]
    assert names(run.attempt_dir("c", 1)) == [
        *("checkpoint", "chore.pickle", "metadata.json"),
    ]
    assert request.env["MATENSEMBLE_PREVIOUS_DIR"] == str(run.attempt_dir("c", 1))


def test_durable_is_told_to_the_worker_and_policies_to_people(preparer, run):
    policy = ChorePolicy(durable=True, idle_timeout="5m")
    preparer.prepare(Submit(python("c", policy=policy), 1, None))
    assert record_of(run)["durable"] is True
    metadata = json.loads(run.chore_file("c", "metadata.json").read_bytes())
    assert metadata["policy"] == {"durable": True, "idle_timeout": 300.0}


def test_a_failure_that_is_ignored_stands_for_the_result(preparer, run, graph):
    graph.put(python("bad"), ChoreState.FAILED, exit_code=3, reason=Reason.EXCEPTION, detail="no")
    graph.put(python("skipped"), ChoreState.SKIPPED, reason=Reason.DEPENDENCY_FAILED, root="bad")
    graph.put(python("good"))
    deps = ("bad", "skipped", "good")
    preparer.prepare(Submit(python("c", deps=deps), 1, None))
    assert record_of(run)["deps"] == [
        {
            "id": "bad",
            "kind": "python",
            "failed": {"reason": "exception", "exit_code": 3, "detail": "no"},
        },
        {
            "id": "skipped",
            "kind": "python",
            "failed": {
                "reason": "dependency_failed",
                "exit_code": None,
                "detail": "exception (exit code 3): no",
                "upstream": "bad",
            },
        },
        {"id": "good", "kind": "python", "attempt": 1},
    ]


def test_a_gather_holds_completed_results_only(preparer, run, graph):
    for number, state in enumerate((ChoreState.FAILED, ChoreState.COMPLETED, ChoreState.SKIPPED)):
        chore = Chore(f"g{number}", "g", ChoreType.PYTHON, callable="f")
        graph.put(chore, state, reason=None)
    preparer.prepare(Submit(python("c", deps=(Gather("g"),)), 1, None))
    assert record_of(run)["deps"] == [{"gather": [{"id": "g1", "kind": "python", "attempt": 1}]}]


def test_a_python_chore_is_started_without_the_runner_of_modules(preparer, graph, run):
    chore = python("f-0001")
    graph.put(chore, ChoreState.READY)
    argv = preparer.prepare(Submit(chore, 1, None)).argv
    record = str(run.chore_dir("f-0001") / "chore.pickle")
    assert argv[-4:] == ("--chore-id", "f-0001", "--spec-file", record)
    code = f"import sys; sys.argv[1:] = []\ntry:\n {argv[3]}\nfinally:\n print(*sys.modules)"
    told = subprocess.run([*argv[:3], code], capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert "usage: " in told.stderr
    assert "matensemble.runtime_worker" in told.stdout.split()
    assert "runpy" not in told.stdout.split()
