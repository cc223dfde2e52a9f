"""Which results of an earlier run are taken over, and what is said of the rest."""

import json
import os
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest

from matensemble import wire
from matensemble.canonical import Canon
from matensemble.content_key import read_keys
from matensemble.errors import FormatError, InvalidOptionError, RunDirectoryError
from matensemble.model import ChoreType
from matensemble.pipeline import Pipeline
from matensemble.records import RecordKind, encode_journal_record, journal_stamp
from matensemble.reuse import read_plan, why_not_reused
from matensemble.workdir import RunDir
from matensemble.workflow import Workflow

SOURCE = """
RATE = 1
def helper(x): return x * RATE
def f(x=0, y=0): return helper(x)
def g(x): return x
def total(xs): return sum(xs)
"""


INCOMPLETE = "not all chores before the earlier one completed, or others were gathered"


def functions(source=SOURCE):
    """Return the functions of a script."""
    namespace = {"__name__": "__main__"}
    exec(compile(source, "script.py", "exec"), namespace)
    return SimpleNamespace(**{k: v for k, v in namespace.items() if callable(v)})


@pytest.fixture
def pipeline(tmp_path):
    """Return a pipeline with the functions of a script, decorated."""

    def make(source=SOURCE, resume="latest", **options):
        pipe = Pipeline(tmp_path / "runs", resume=resume, **options)
        decorated = {
            name: pipe.chore(name=name)(function)
            for name, function in vars(functions(source)).items()
        }
        return pipe, SimpleNamespace(**decorated)

    return make


def finish(root, failed=(), untouched=(), reused=(), standing=None):
    """Pretend that a run ran: every chore completed, except some."""
    run = RunDir(root)
    fields = {"format": 1, "run": root.name, "executor": "local", "nodes": []}
    records = [(RecordKind.RUN_STARTED, None, fields)]
    for chore in Workflow.read(run).chores():
        if chore.id in untouched:
            continue
        if chore.id in reused:
            records.append((RecordKind.REUSED, chore.id, {"from": "elsewhere", "key": "k"}))
        elif chore.id in failed:
            records.append((RecordKind.FAILED, chore.id, {"r": "signal", "x": -9}))
            continue
        else:
            records.append((RecordKind.COMPLETED, chore.id, {}))
        run.chore_dir(chore.id).mkdir(exist_ok=True)
        if chore.kind is ChoreType.PYTHON:
            path = run.chore_file(chore.id, "result.pickle")
            wire.write_result(path, wire.dumps(chore.id), 1, chore_id=chore.id)
        for path in chore.outputs.values():
            run.chore_file(chore.id, path).write_text(chore.id)
    stamp = journal_stamp(1, 0.0, 0.0)
    run.journal_path.write_bytes(
        b"".join(
            encode_journal_record(number, stamp, kind, chore_id, 1, found)
            for number, (kind, chore_id, found) in enumerate(records, 1)
        )
    )


def plan_of(pipe):
    return read_plan(RunDir(pipe.save()))


def keys_of(pipe):
    return {key.id: key for key in read_keys(RunDir(pipe.save()))}


# --- when -------------------------------------------------------------------------------------


def test_nothing_is_computed_where_nobody_asks(tmp_path, monkeypatch):
    monkeypatch.setattr(Canon, "digest", None)
    pipe = Pipeline(tmp_path)
    pipe.chore(functions().f)(1)
    run = RunDir(pipe.save())
    assert not run.keys_path.exists()
    assert not run.reuse_path.exists()
    assert read_plan(run) is None
    assert why_not_reused(run, "chore-f-0001") is None


def test_the_first_run_finds_nothing_and_has_keys(pipeline, caplog):
    pipe, script = pipeline()
    script.f(1)
    plan = plan_of(pipe)
    assert plan.found == {}
    assert "there is no earlier run" in plan.because
    assert "nothing is taken over" in caplog.text
    assert why_not_reused(RunDir(pipe.run_dir), "chore-f-0001") == plan.because
    assert keys_of(pipe)["chore-f-0001"].key


def test_runs_without_keys_are_said_to_have_none(pipeline):
    pipe, script = pipeline(resume=None)
    script.f(1)
    earlier = pipe.save()
    finish(earlier)
    for resume in ("latest", earlier):
        pipe, script = pipeline(resume=resume)
        script.f(1)
        assert "content keys" in plan_of(pipe).because


def test_a_run_that_was_never_started_is_passed_over(pipeline):
    pipe, script = pipeline()
    script.f(1)
    finish(pipe.save())
    pipe, script = pipeline()
    script.f(1)
    saved_only = pipe.save()
    pipe, script = pipeline()
    script.f(1)
    assert list(plan_of(pipe).found) == ["chore-f-0001"]
    pipe, script = pipeline(resume=saved_only)
    script.f(1)
    assert "never started" in plan_of(pipe).because


def test_impossible_wishes_are_refused(tmp_path):
    for options in ({"resume": 3}, {"cache_dir": ""}, {"cache_dir": True}):
        with pytest.raises(InvalidOptionError):
            Pipeline(tmp_path, **options)
    with pytest.raises(RunDirectoryError, match="no run directory"):
        Pipeline(tmp_path, resume=tmp_path / "missing")


def test_a_damaged_earlier_run_is_passed_over_or_named(pipeline, caplog):
    pipe, script = pipeline()
    script.f(1)
    earlier = pipe.save()
    finish(earlier)
    RunDir(earlier).keys_path.write_text('{"format": 1}\nnonsense\n')
    pipe, script = pipeline()
    script.f(1)
    assert plan_of(pipe).found == {}
    assert "are not reused" in caplog.text
    pipe, script = pipeline(resume=earlier)
    script.f(1)
    with pytest.raises(FormatError, match="no JSON"):
        pipe.save()


# --- what is taken over, and what is not ------------------------------------------------------


def run_twice(pipeline, author, other=None, source=SOURCE, changed=SOURCE, **finishing):
    """Record, run, record again; return the plan of the second and its directory."""
    pipe, script = pipeline(source)
    author(pipe, script)
    finish(pipe.save(), **finishing)
    pipe, script = pipeline(changed)
    (other or author)(pipe, script)
    return plan_of(pipe)


def chain(pipe, script):
    first = [script.f(x) for x in (1, 2)]
    script.total(first)
    pipe.exec(["cat", "in.txt"], inputs={"in.txt": script.g(first[0])}, outputs={"o": "o.txt"})


ALL = {"chore-f-0001", "chore-f-0002", "chore-total-0003", "chore-g-0004", "chore-cat-0005"}


def test_the_same_again_is_taken_over(pipeline):
    plan = run_twice(pipeline, chain)
    assert plan.found.keys() == ALL
    assert plan.reasons == {}
    found = plan.found["chore-f-0001"]
    assert (found.attempt, found.exit_code) == (1, 0)
    assert (found.chore_dir / "result.pickle").exists()


def test_a_changed_function_runs_again_with_all_behind_it(pipeline):
    changed = SOURCE.replace("x * RATE", "x / RATE")
    plan = run_twice(pipeline, chain, changed=changed)
    assert plan.reasons == {
        "chore-f-0001": "the code of `f` changed",
        "chore-f-0002": "the code of `f` changed",
        "chore-total-0003": "upstream chore-f-0001 and 1 more changed",
        "chore-g-0004": "upstream chore-f-0001 changed",
        "chore-cat-0005": "upstream chore-g-0004 changed",
    }


def test_only_what_changed_runs_again(pipeline):
    def other(pipe, script):
        first = [script.f(x) for x in (1, 3)]
        script.total(first)
        script.g(first[0])
        script.g(5)

    plan = run_twice(pipeline, chain, other)
    assert plan.found.keys() == {"chore-f-0001", "chore-g-0004"}
    assert plan.reasons == {
        "chore-f-0002": "arguments changed",
        "chore-total-0003": "upstream chore-f-0002 changed",
        "chore-g-0005": "it is a new chore",
    }


def test_chores_are_found_wherever_they_stand_now(pipeline):
    def author(pipe, script):
        for x in (1, 2, 3):
            script.f(x)

    def other(pipe, script):
        for x in (9, 3, 2, 1):
            script.f(x)

    plan = run_twice(pipeline, author, other)
    assert {i: found.chore_dir.name for i, found in plan.found.items()} == {
        "chore-f-0002": "chore-f-0003",
        "chore-f-0003": "chore-f-0002",
        "chore-f-0004": "chore-f-0001",
    }
    assert plan.reasons == {"chore-f-0001": "it is a new chore"}


def test_the_name_of_a_group_does_not_count(pipeline):
    def other(pipe, script):
        pipe.chore(name="renamed")(functions().g)(1)

    plan = run_twice(pipeline, lambda pipe, script: script.g(1), other)
    assert plan.found["chore-renamed-0001"].chore_dir.name == "chore-g-0001"


def test_every_part_of_a_call_counts(pipeline):
    def author(pipe, script):
        script.f(1, y=2)

    others = {
        "arguments changed": [
            lambda script: script.f(2, y=1),
            lambda script: script.f(1.0, y=2),
            lambda script: script.f(1, y=True),
            lambda script: script.f(1),
            lambda script: script.f("1", y=2),
        ],
        "num_tasks changed from 1 to 2": [lambda script: script.f.options(num_tasks=2)(1, y=2)],
        "mpi changed from 0 to 1": [lambda script: script.f.options(mpi=True)(1, y=2)],
        "version changed from none to 2": [lambda script: script.f.options(version="2")(1, y=2)],
        "success_codes changed from 0 to 0 3": [
            lambda script: script.f.options(success_codes=(0, 3))(1, y=2)
        ],
        "environment changed": [
            lambda script: script.f.options(env={"A": "1"})(1, y=2),
            lambda script: script.f.options(inherit_env=False)(1, y=2),
        ],
    }
    for because, changes in others.items():
        for change in changes:
            plan = run_twice(pipeline, author, lambda pipe, script, do=change: do(script))
            assert plan.reasons == {"chore-f-0001": because}


def test_what_only_decides_where_and_when_does_not_count(pipeline):
    def other(pipe, script):
        script.f.options(cores_per_task=2, duration="1h", nice=3, retries=2)(1)

    assert run_twice(pipeline, lambda pipe, script: script.f(1), other).reasons == {}


def test_every_part_of_a_command_counts(pipeline):
    base = {"command": ["echo", "a"], "inputs": {"i": "1"}, "outputs": {"o": "o.txt"}}
    changes = {
        "command changed": {"command": ["echo", "b"]},
        "inputs changed": {"inputs": {"i": b"1"}},
        "outputs changed": {"outputs": {"o": "p.txt"}},
        "environment changed": {"env": {"T": "300"}},
        "version changed from none to 7": {"version": "7"},
    }
    for because, change in changes.items():
        plan = run_twice(
            pipeline,
            lambda pipe, script: pipe.exec(**base, name="e"),
            lambda pipe, script, new=change: pipe.exec(**{**base, **new}, name="e"),
        )
        assert plan.reasons == {"chore-e-0001": because}


def test_the_program_and_the_files_that_a_command_names_count(pipeline, tmp_path, monkeypatch):
    program, script = tmp_path / "bin" / "simulate", tmp_path / "in.lammps"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)

    def author(pipe, _):
        pipe.exec(["simulate", "-in", script, "-log", "relative"], name="e")

    def write(program_text="#!/bin/sh\n", script_text="run 1"):
        program.write_text(program_text)
        program.chmod(0o755)
        script.write_text(script_text)

    write()
    assert run_twice(pipeline, author).reasons == {}
    for change in ({"program_text": "#!/bin/sh\nexit\n"}, {"script_text": "run 2"}):
        write()
        plan = run_twice(pipeline, author, lambda *args, new=change: (write(**new), author(*args)))
        assert plan.reasons == {
            "chore-e-0001": "the program changed, or a file that its command names"
        }


def test_the_ids_of_chores_do_not_count_in_a_command(pipeline):
    def author(pipe, script):
        pipe.exec(["echo", script.g(1)], name="e")

    def other(pipe, script):
        script.g(2)
        author(pipe, script)

    assert list(run_twice(pipeline, author, other).reasons) == ["chore-g-0001"]


def test_a_part_of_a_result_and_the_order_of_chores_count(pipeline):
    def author(pipe, script):
        script.f(script.g({"a": 1})["a"])

    for other in (
        lambda pipe, script: script.f(script.g({"a": 1})["b"]),
        lambda pipe, script: script.f(script.g({"a": 1}).attr("a")),
        lambda pipe, script: script.f(script.g({"a": 1})),
    ):
        assert list(run_twice(pipeline, author, other).reasons) == ["chore-f-0002"]
    plan = run_twice(
        pipeline,
        lambda pipe, script: (script.g(1), script.f(1)),
        lambda pipe, script: script.f.options(after=[script.g(1)])(1),
    )
    assert plan.reasons == {"chore-f-0002": "it depends on other chores than before"}


def test_chores_with_the_same_content_have_results_of_their_own(pipeline):
    def sample(pipe, script, number=3):
        for _ in range(number):
            script.f(0)

    plan = run_twice(pipeline, sample, lambda pipe, script: sample(pipe, script, 4))
    assert {i: found.chore_dir.name for i, found in plan.found.items()} == {
        f"chore-f-000{n}": f"chore-f-000{n}" for n in (1, 2, 3)
    }
    assert plan.reasons == {"chore-f-0004": "it is a new chore"}


# --- what became of the earlier one -----------------------------------------------------------


def test_what_failed_or_did_not_end_runs_again(pipeline):
    plan = run_twice(
        pipeline, chain, failed={"chore-f-0001"}, untouched={"chore-total-0003", "chore-g-0004"}
    )
    assert plan.reasons == {
        "chore-f-0001": "the earlier one failed (signal)",
        "chore-total-0003": "the earlier one did not end",
        "chore-g-0004": "the earlier one did not end",
    }


def test_a_result_that_is_gone_or_damaged_is_not_taken_over(pipeline):
    pipe, script = pipeline()
    chain(pipe, script)
    earlier = RunDir(pipe.save())
    finish(earlier.root)
    earlier.chore_file("chore-f-0001", "result.pickle").unlink()
    with earlier.chore_file("chore-f-0002", "result.pickle").open("ab") as file:
        file.write(b"!")
    earlier.chore_file("chore-cat-0005", "o.txt").unlink()
    pipe, script = pipeline()
    chain(pipe, script)
    reasons = plan_of(pipe).reasons
    assert reasons.pop("chore-f-0002").startswith("its earlier result is damaged: ")
    assert reasons == {
        "chore-f-0001": "its earlier result is gone",
        "chore-cat-0005": "of its earlier result o.txt is gone",
    }


def test_results_travel_through_several_runs(pipeline):
    pipe, script = pipeline()
    script.f(1)
    finish(pipe.save())
    pipe, script = pipeline()
    script.f(1)
    finish(pipe.save(), reused={"chore-f-0001"})
    pipe, script = pipeline()
    script.f(1)
    found = plan_of(pipe).found["chore-f-0001"]
    assert found.chore_dir.parents[1].name != pipe.run_dir.name
    # The next one ended before it took over anything.
    finish(pipe.save(), untouched={"chore-f-0001"})
    pipe, script = pipeline()
    script.f(1)
    assert plan_of(pipe).found["chore-f-0001"].chore_dir == found.chore_dir


def test_a_gather_is_taken_over_only_where_all_its_members_completed(pipeline):
    def author(pipe, script):
        for x in (1, 2):
            script.f(x)
        script.g(script.total(pipe.gather("f")))

    assert run_twice(pipeline, author).reasons == {}
    plan = run_twice(pipeline, author, failed={"chore-f-0001"})
    assert plan.reasons == {
        "chore-f-0001": "the earlier one failed (signal)",
        "chore-total-0003": INCOMPLETE,
        "chore-g-0004": INCOMPLETE,
    }


def test_a_gather_with_another_member_is_another_one(pipeline):
    def author(pipe, script, number=2):
        table = script.total(pipe.gather("f"))
        for x in range(number):
            script.f(x)
        return table

    plan = run_twice(pipeline, author, lambda pipe, script: author(pipe, script, 3))
    assert plan.reasons["chore-total-0001"] == "it depends on other chores than before"


def test_a_result_made_of_an_ignored_failure_is_not_taken_over(pipeline):
    def author(pipe, script):
        script.g(script.f.options(on_failure="ignore")(1))

    assert run_twice(pipeline, author).reasons == {}
    plan = run_twice(pipeline, author, failed={"chore-f-0001"})
    assert plan.reasons["chore-g-0002"] == INCOMPLETE


# --- chores without a key ---------------------------------------------------------------------


def test_what_strategies_may_add_to_has_no_key(pipeline):
    def author(pipe, script):
        script.f(1)
        script.g(script.total(pipe.gather("f")))
        pipe.strategy(triggers=["f"], name="more")(lambda result: None)

    plan = run_twice(pipeline, author)
    assert plan.found.keys() == {"chore-f-0001"}
    assert plan.reasons == {
        "chore-total-0002": "it gathers f, which strategies may add to",
        "chore-g-0003": "chore-total-0002, which it depends on, has no content key",
    }


class Unsteady:
    def __reduce__(self):
        return Unsteady, (os.urandom(4),)

    def __init__(self, salt=b""):
        self.salt = salt


@pytest.mark.slow
def test_what_cannot_be_compared_is_not_reused_and_says_why(pipeline):
    def author(pipe, script):
        script.g(script.f(Unsteady()))

    plan = run_twice(pipeline, author)
    assert plan.found == {}
    assert "pickles differently each time" in plan.reasons["chore-f-0001"]
    assert "has no content key" in plan.reasons["chore-g-0002"]


# --- the same in another process --------------------------------------------------------------

SCRIPT = """
import dataclasses, enum, sys
from pathlib import Path
import numpy as np
from matensemble.pipeline import Pipeline

class Kind(enum.Enum):
    FCC = "fcc"
    BCC = "bcc"

@dataclasses.dataclass
class Lattice:
    kind: Kind
    size: float
    names: set[str] = dataclasses.field(default_factory=set)

    @property
    def volume(self):
        return self.size**3

pipe = Pipeline(sys.argv[1], resume="latest")
TABLE = {{"a": 1.5, "b": {{Kind.FCC, Kind.BCC}}, "c": frozenset("xyz")}}

def helper(x: float) -> float:
    return x * {factor}

@pipe.chore
def energy(lattice: Lattice, scale=1.0, *rest, **more):
    return helper(lattice.volume) * len(TABLE) * np.sum(scale)

@pipe.chore
def table(results):
    class Row(tuple): pass
    return {{"mean": np.mean(results), "row": Row(results)}}

refs = [energy(Lattice(Kind.FCC, s, {{"Al", "Cu", "Ni"}}), np.arange(3.0)) for s in (1.0, 2.0)]
more = {{"path": Path("x"), "both": {{refs[0], refs[1]}}}}
refs.append(energy(Lattice(Kind.BCC, 1.0), scale=lambda x: x, **more))
pipe.exec(["echo", table(refs)["mean"]], inputs={{"i": table({{"a": refs}})}}, name="show")
print(pipe.save())
"""


@pytest.mark.slow
def test_keys_are_the_same_in_every_process(tmp_path):
    def keys(seed, **values):
        script = tmp_path / f"script{seed}.py"
        text = textwrap.dedent(SCRIPT).format(**{"factor": 1, **values})
        script.write_text("\n" * int(seed) + text)
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, script, tmp_path / "runs"],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        lines = RunDir(tmp_path / "runs" / done.stdout.strip()).keys_path.read_text().splitlines()
        return [json.loads(line) for line in lines[1:]]

    first = keys("1")
    assert all("key" in line for line in first), first
    assert keys("2") == first
    changed = keys("3", factor=2)
    assert all(line["key"] != old["key"] for line, old in zip(changed, first, strict=True))
