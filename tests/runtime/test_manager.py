"""A whole run on this machine, through the public door."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from matensemble.chore import ChoreSpec
from matensemble.errors import (
    ChoreFailedError,
    DashboardMissingError,
    ExecutorUnavailableError,
    IncompatibleEnvironmentError,
    InvalidOptionError,
    RunDirectoryError,
    RunFailedError,
    RunInterruptedError,
    UnknownExecutorError,
)
from matensemble.manager import FluxManager
from matensemble.model import Resources, RunState
from matensemble.owner import Owner, present_owner
from matensemble.pipeline import Pipeline
from matensemble.protocols import RunOptions
from matensemble.records import RecordKind, read_records
from matensemble.results import Results
from matensemble.runtime import dashboard_process
from matensemble.runtime.executors.local import LocalExecutor
from matensemble.runtime.executors.selection import select_executor
from matensemble.runtime.scheduler.tiers import MIN_CHORES
from matensemble.runtime.testing import FakeExecutor
from matensemble.status import read_status
from matensemble.workdir import RunDir

LOCAL = {"executor": "local", "cores": 2}


@pytest.fixture
def pipe(tmp_path):
    return Pipeline(tmp_path)


@pytest.mark.slow
@pytest.mark.e2e
def test_values_flow_through_functions_programs_and_strategies(pipe):
    @pipe.chore
    def double(x):
        return 2 * x

    @pipe.chore
    def total(values, *, offset=0):
        return sum(values) + offset

    @pipe.strategy(triggers=["double"])
    def again(value):
        if value == 2:
            one = ChoreSpec((10,), None, "double")
            return [one, ChoreSpec(([one.ref, 1],), {"offset": 100}, "total")]
        return None

    refs = double.map([1, 2])
    program = pipe.exec(
        ["sh", "-c", "cat in.txt; echo $0 > log.txt", refs[1]],
        inputs={"in.txt": "from the input"},
        outputs={"log": "log.txt"},
    )
    text = total([refs[0], 5])
    everything = total(pipe.gather("double"))
    pipe.submit(**LOCAL)
    results = pipe.results()
    assert [results[ref.chore_id] for ref in refs] == [2, 4]
    assert results[text.chore_id] == 7
    assert str(results[program.chore_id]) == "from the input"
    assert results[program.chore_id]["log"].read_text() == "4\n"
    assert everything.result() == 2 + 4 + 20
    assert results.gather("total")[-1] == 20 + 1 + 100
    assert read_status(results.run.status_path).state is RunState.COMPLETED
    again_read = Results.read(results.run)
    assert {k: str(v) for k, v in again_read.items()} == {k: str(v) for k, v in results.items()}


@pytest.mark.slow
@pytest.mark.e2e
def test_every_failure_has_its_reason_and_the_rest_goes_on(pipe, tmp_path):
    @pipe.chore
    def run(source):
        import os  # noqa: F401
        import signal  # noqa: F401
        import sys  # noqa: F401

        exec(source)
        return "fine"

    @pipe.chore
    def give(kind):
        if kind == "generator":
            return (i for i in "x")
        raise type("Odd", (Exception,), {"__reduce__": lambda self: 1 / 0})("odd")

    reasons = {
        run("raise ValueError('no')"): "exception",
        run("import not_there"): "import_error",
        run("sys.exit(3)"): "exception",
        run("os._exit(0)"): "result_missing",
        run("os._exit(4)"): "nonzero_exit",
        run("os.kill(os.getpid(), signal.SIGKILL)"): "signal",
        run("raise MemoryError"): "out_of_memory",
        give("generator"): "unpicklable_result",
        give("exception"): "exception",
        pipe.exec("no-such-program --flag"): "executable_not_found",
        pipe.exec(["no-such-program", run("1")]): "executable_not_found",
        pipe.exec("sh -c 'exit 5'"): "nonzero_exit",
        pipe.exec("true", outputs={"log": "log"}): "result_missing",
        pipe.exec("true", cores_per_task=99): "exceeds_allocation",
        pipe.exec("sleep 60", duration=0.2): "duration_exceeded",
    }
    downstream = run(pipe.exec("false", name="first"))
    good = run("1")
    pipe.submit(**LOCAL)
    results = pipe.results()
    found = {ref: results[ref.chore_id].reason for ref in reasons}
    assert found == reasons
    assert results[downstream.chore_id].reason == "dependency_failed"
    assert results[downstream.chore_id].upstream == "chore-first-0017"
    with pytest.raises(
        ChoreFailedError, match=r"root: chore-first-0017\): nonzero_exit \(exit code 1"
    ):
        downstream.result()
    assert good.result() == "fine"
    with pytest.raises(ChoreFailedError, match="ValueError: no"):
        next(iter(reasons)).result()


@pytest.mark.slow
@pytest.mark.e2e
def test_a_script_that_looks_at_no_result_is_told_what_failed(pipe, capfd):
    first = pipe.exec("false", name="first")
    pipe.exec("true", name="second", after=[first])
    pipe.submit(**LOCAL).result(timeout=60)
    told = capfd.readouterr().err
    assert told.startswith("1 chore failed, and 1 that depends on it:\n")
    assert "chore-first-0001: nonzero_exit (exit code 1)\n" in told
    assert f"matensemble logs {pipe.run_dir} chore-first-0001 --stderr" in told


@pytest.mark.slow
@pytest.mark.e2e
def test_resources_environment_and_tasks_reach_the_processes(pipe, monkeypatch):
    monkeypatch.setenv("INHERITED", "yes")

    @pipe.chore(env={"MINE": "1"}, resources=None)
    def look():
        import os
        from pathlib import Path

        return os.environ.get("INHERITED"), os.environ.get("MINE"), Path.cwd()

    @pipe.chore(num_tasks=2)
    def ranks():
        import os

        return os.environ["MATENSEMBLE_TASK_RANK"], os.environ["MATENSEMBLE_NUM_TASKS"]

    bare = Resources(inherit_env=False, env={"PATH": os.environ["PATH"]})
    alone = pipe.exec("env", resources=bare)
    looked, ranked = look(), ranks()
    pipe.submit(**LOCAL)
    results = pipe.results()
    inherited, mine, cwd = looked.result()
    assert (inherited, mine) == ("yes", "1")
    assert cwd == results.run.chore_dir(looked.chore_id)
    assert ranked.result() == ("0", "2")
    assert "INHERITED" not in str(results[alone.chore_id])
    metadata = json.loads(results.run.chore_file(looked.chore_id, "metadata.json").read_text())
    assert metadata["environment_names"] == ["MINE"]


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.slow
def test_secrets_in_commands_reach_the_program_and_no_record(pipe):
    canary = "canary-4711"
    command = ["sh", "-c", 'test "$1$3" = "--pw_token=$CANARY$CANARY"', "sh"]
    command += [f"--pw_token={canary}", "--api-key", canary]
    failing = f"false --password={canary} API_KEY={canary}"
    inputs = {"in": f"token: {canary}"}
    refs = [
        pipe.exec(command, name="first", env={"CANARY": canary}),
        pipe.exec(failing, name="fails"),
        pipe.exec(["missing-program", "--token", canary], inputs=inputs, name="lost"),
    ]
    watch = pipe.chore(name="watch")(lambda first: 0)
    watch(refs[0])

    @pipe.strategy(triggers=["watch"])
    def ask(value):
        resources = Resources(env={"CANARY": canary})
        return [
            ChoreSpec.exec(command, name="asked", resources=resources),
            ChoreSpec.exec(failing, name="asked_badly"),
        ]

    # The text of the strategy's own code is no record of a run: it travels by value.
    results = pipe.submit(**LOCAL).result(60)
    assert results["chore-first-0001"].exit_code == 0
    asked = {i.split("-")[1]: results.outcome(i).state.value for i in results if "asked" in i}
    assert asked == {"asked": "completed", "asked_badly": "failed"}
    run_dir = pipe.run_dir
    holding = {
        str(path.relative_to(run_dir))
        for path in run_dir.rglob("*")
        if path.is_file() and canary.encode() in path.read_bytes()
    }
    holding.discard("out/chore-lost-0003/in")  # the input file itself
    allowed = {"workflow.args", "out/registry/ask", "out/chore-ask-0005/spawned.args"}
    assert holding == allowed


def test_nobody_else_can_read_a_run_directory(pipe):
    @pipe.chore
    def one():
        print("out")
        return 1

    one()
    pipe.exec(["sh", "-c", "echo $0; cat in", one()], inputs={"in": "x"})
    old = os.umask(0)
    try:
        pipe.submit(**LOCAL)
        run = pipe.results().run
    finally:
        os.umask(old)
    modes = {
        str(path.relative_to(run.root)): oct(path.stat().st_mode & 0o077)
        for path in [run.root, *run.root.rglob("*")]
    }
    assert {name: mode for name, mode in modes.items() if mode != "0o0"} == {}


@pytest.mark.slow
@pytest.mark.e2e
def test_a_second_start_is_refused(pipe):
    pipe.exec("true")
    run_dir = pipe.save()
    FluxManager(run_dir, RunOptions(**LOCAL)).run()
    with pytest.raises(RunDirectoryError, match="was started before"):
        FluxManager(run_dir, RunOptions(**LOCAL))


def test_what_cannot_start_leaves_no_trace_of_a_start(pipe, monkeypatch):
    pipe.exec("true")
    run_dir = pipe.save()
    monkeypatch.setenv("MATENSEMBLE_EXECUTOR", "slurm")
    with pytest.raises(UnknownExecutorError, match="slurm"):
        FluxManager(run_dir).run()
    assert not (Path(run_dir) / "journal.jsonl").exists()
    assert not logging.getLogger("matensemble").handlers


@pytest.mark.parametrize(
    ("options", "variables", "error"),
    [
        ({"processing_strategy": "fast"}, {}, InvalidOptionError),
        ({"processing_strategy": dict}, {}, InvalidOptionError),
        ({"dashboard": True}, {}, DashboardMissingError),
        ({}, {"MATENSEMBLE_EXECUTOR": "slurm"}, UnknownExecutorError),
        ({}, {"MATENSEMBLE_CORES": "many"}, InvalidOptionError),
        ({}, {"MATENSEMBLE_GPUS": "-1"}, InvalidOptionError),
        ({"gpus": 3}, {"CUDA_VISIBLE_DEVICES": "0,1"}, InvalidOptionError),
        ({"executor": "flux"}, {"FLUX_URI": "local:///nowhere"}, ExecutorUnavailableError),
    ],
)
def test_a_submission_that_cannot_start_writes_nothing(
    pipe, tmp_path, monkeypatch, options, variables, error
):
    monkeypatch.setattr(dashboard_process, "find_spec", lambda name: None)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    pipe.exec("true")
    with pytest.raises(error):
        pipe.submit(
            **{"executor": None if "MATENSEMBLE_EXECUTOR" in variables else "local", **options}
        )
    assert list(tmp_path.iterdir()) == []
    pipe.exec("true")  # it goes on


def test_another_python_is_refused_before_anything_runs(pipe):
    pipe.exec("true")
    path = Path(pipe.save()) / "workflow.json"
    manifest = json.loads(path.read_text())
    manifest["versions"]["python"] = "3.4"
    path.write_text(json.dumps(manifest))
    with pytest.raises(IncompatibleEnvironmentError, match=r"3\.4"):
        FluxManager(path.parent)


def test_a_strategy_must_be_one(pipe):
    pipe.exec("true")
    with pytest.raises(InvalidOptionError, match="processing_strategy"):
        FluxManager(pipe.save(), RunOptions(processing_strategy="fast"))


def test_fail_fast_and_the_log(pipe):
    pipe.exec("false", name="a")
    pipe.exec("true", name="b", nice=1, cores_per_task=4)
    run_dir = pipe.save()
    executor = FakeExecutor(
        script=lambda request: __import__(
            "matensemble.runtime.testing", fromlist=["Outcome"]
        ).Outcome(1)
    )
    results = FluxManager(run_dir, RunOptions(fail_fast=True), executor=executor).run()
    assert results["chore-b-0002"].reason == "cancelled"
    log = (Path(run_dir) / "matensemble_workflow.log").read_text()
    assert "chore-a-0001 failed: nonzero_exit" in log
    assert "the run has failed" in log


def test_interrupt_from_another_thread(pipe):
    pipe.exec("true", name="a")
    executor = FakeExecutor()
    manager = FluxManager(pipe.save(), executor=executor)
    future = manager.start()
    executor.wait_running("chore-a-0001")
    manager.interrupt("the user said so")
    with pytest.raises(RunInterruptedError, match="the user said so"):
        future.result(timeout=10)


def test_the_choice_of_executor(monkeypatch):
    logger = logging.getLogger("matensemble.test")

    def choose(environ=None, **options):
        return select_executor(
            RunOptions(**options), run_label="r", logger=logger, environ=environ or {}
        ).name

    assert choose(executor="local") == "local"
    assert choose({"MATENSEMBLE_EXECUTOR": "local"}) == "local"
    assert choose({"MATENSEMBLE_EXECUTOR": "flux"}, executor="local") == "local"
    assert choose({"MATENSEMBLE_EXECUTOR": "flux"}) == "flux"


@pytest.mark.slow
@pytest.mark.e2e
def test_an_interpreter_that_reaches_the_end_of_its_script_waits(tmp_path):
    script = tmp_path / "script.py"
    (tmp_path / "helper.py").write_text("def shout(x):\n    return x.upper()\n")
    script.write_text(
        "from matensemble.pipeline import Pipeline\n"
        "import helper\n"
        f"pipe = Pipeline({str(tmp_path)!r})\n"
        "@pipe.chore\n"
        "def late(x):\n"
        "    return helper.shout(x)\n"
        "late('end')\n"
        "pipe.submit(executor='local')\n"
    )
    subprocess.run([sys.executable, script], check=True, cwd="/", timeout=60)
    (run_dir,) = tmp_path.glob("matensemble_workflow-*")
    assert Results.read(run_dir)["chore-late-0001"] == "END"


@pytest.mark.slow
@pytest.mark.e2e
def test_a_result_is_there_as_soon_as_its_chore_has_ended(pipe, tmp_path):
    gate = tmp_path / "gate"

    @pipe.chore
    def quick():
        return "early"

    early = quick()
    long = pipe.exec(["sh", "-c", f"until test -e {gate}; do sleep 0.02; done"], name="long")
    future = pipe.submit(**LOCAL)
    assert early.result(timeout=30) == "early"
    assert not future.done()
    with pytest.raises(TimeoutError, match="the run has not ended within 0 s, and goes on in /"):
        pipe.results(timeout=0)
    with pytest.raises(TimeoutError, match="chore-long-0002 has not ended within"):
        long.result(timeout=0.01)
    gate.touch()
    future.result(timeout=30)
    assert early.result(timeout=0) == "early"


def test_who_waits_for_a_chore_learns_that_the_run_ended_before(pipe):
    ref = pipe.exec("true", name="a")
    executor = FakeExecutor()
    manager = FluxManager(pipe.save(), executor=executor)
    future = manager.start()
    executor.wait_running(ref.chore_id)
    answer = future.when_ended(ref.chore_id)
    manager.interrupt("SIGTERM")
    with pytest.raises(RunInterruptedError):
        answer.result(timeout=10)


@pytest.mark.slow
@pytest.mark.e2e
def test_a_result_reaches_its_owner_though_nobody_can_be_told_of_failures(tmp_path):
    script = (
        "from matensemble.pipeline import Pipeline\n"
        f"pipe = Pipeline({str(tmp_path)!r})\n"
        "ref = pipe.exec('false')\n"
        "print(pipe.submit(executor='local').result(timeout=60)[ref.chore_id].reason)\n"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            timeout=90,
        )
    assert done.stdout == "nonzero_exit\n"


def test_two_runs_at_once_write_a_log_each(tmp_path):
    managers, executors = [], []
    for name in ("one", "two"):
        pipe = Pipeline(tmp_path / name, name=name)
        pipe.exec("false", name=name)
        executors.append(FakeExecutor())
        run_dir = Path(pipe.save())
        run_dir = run_dir.rename(run_dir.with_name(f"run-{name}"))
        managers.append(FluxManager(run_dir, executor=executors[-1]))
    futures = [manager.start() for manager in managers]
    for name, executor in zip(("one", "two"), executors, strict=True):
        executor.wait_running(f"chore-{name}-0001")
    for name, executor in zip(("one", "two"), executors, strict=True):
        executor.finish(f"chore-{name}-0001", 1)
    logs = []
    for future, manager in zip(futures, managers, strict=True):
        future.result(timeout=10)
        logs.append(manager.run_dir.log_path.read_text())
    assert "chore-one-0001" in logs[0]
    assert "chore-two-0001" not in logs[0]
    assert "chore-two-0001" in logs[1]
    assert "chore-one-0001" not in logs[1]


def test_a_start_that_fails_leaves_the_run_startable(pipe):
    pipe.exec("true")
    run_dir = Path(pipe.save())
    (run_dir / "matensemble_workflow.log").mkdir()
    with pytest.raises(RunDirectoryError, match="cannot be written"):
        FluxManager(run_dir, executor=FakeExecutor(auto=True)).run()
    (run_dir / "matensemble_workflow.log").rmdir()
    assert len(FluxManager(run_dir, executor=FakeExecutor(auto=True)).run()) == 1


def test_who_is_replaced_while_it_starts_begins_no_journal(pipe):
    pipe.exec("true")
    run = RunDir(pipe.save())

    class Slow(FakeExecutor):
        def open(self, *args):
            owner = Owner.of_this_process(2, "2026-01-01T00:00:00+00:00")
            run.claim_path(2).write_text(json.dumps(owner.to_json()))
            return super().open(*args)

    with pytest.raises(RunFailedError, match="another driver has taken the run over"):
        FluxManager(run.root, executor=Slow()).run()
    assert not run.journal_path.exists()
    assert present_owner(run).released_at is None


class LateClock:
    """The clock of the system, some time later."""

    def __init__(self):
        self.later = 0.0

    def monotonic(self):
        return time.monotonic() + self.later

    def time(self):
        return time.time() + self.later


def test_what_the_start_takes_is_part_of_the_walltime(pipe):
    pipe.exec("true", duration="60s")
    clock = LateClock()

    class Slow(FakeExecutor):
        def open(self, *args):
            clock.later += 100.0
            return super().open(*args)

    options = RunOptions(walltime=150.0, margin=0, buffer_time=0.1)
    with pytest.raises(RunInterruptedError, match="less time is left than asked"):
        FluxManager(pipe.save(), options, executor=Slow(auto=True), clock=clock).run()


def test_the_end_of_the_allocation_is_that_of_the_driver_which_published_it(pipe):
    pipe.exec("true")
    run_dir = pipe.save()

    def published(**options):
        clock = LateClock()
        FluxManager(
            run_dir,
            RunOptions(buffer_time=0.1, **options),
            executor=FakeExecutor(auto=True),
            clock=clock,
        ).run()
        return read_status(run_dir / "status.json")

    status = published(walltime=3600.0)
    left = datetime.fromisoformat(status.ends_at) - datetime.fromisoformat(status.started_at)
    assert 3590 <= left.total_seconds() <= 3601
    assert published(resume=True).ends_at is None


def test_a_fallback_inside_flux_is_told_loudly(capsys, monkeypatch):
    from matensemble.runtime.executors import flux

    monkeypatch.setattr(flux, "find_obstacle", lambda: "the bindings are not installed")
    logger = logging.getLogger("matensemble.test")
    inside, outside = {"FLUX_URI": "local:///x"}, {}
    for environ in (inside, outside):
        select_executor(RunOptions(), run_label="r", logger=logger, environ=environ)
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "matensemble: this runs on this machine only, not in the Flux instance: "
        "Flux cannot be used: the bindings are not installed"
    ]


@pytest.mark.slow
@pytest.mark.e2e
def test_an_executor_without_warm_workers_runs_everything_as_jobs(pipe):
    pipe.exec("true", workers="pool")
    many = [pipe.exec("true") for _ in range(MIN_CHORES + 4)]
    run_dir = pipe.save()
    results = FluxManager(run_dir, executor=LocalExecutor(2)).run()
    assert {results[one.chore_id].exit_code for one in many} == {0}
    records = [*read_records(RunDir(Path(run_dir)))]
    (told,) = (one.fields for one in records if one.kind == RecordKind.WORKERS)
    assert told == {"tier": "job", "d": "this executor has no warm workers"}
    assert not any("p" in one.fields for one in records)


@pytest.mark.slow
@pytest.mark.e2e
def test_a_run_that_is_resumed_goes_on_with_what_runs_its_chores(pipe):
    pipe.exec("true")
    run_dir = pipe.save()
    FluxManager(run_dir, RunOptions(**LOCAL, workers="job", recycle_after=7)).run()
    FluxManager(run_dir, RunOptions(**LOCAL, resume=True)).run()
    FluxManager(run_dir, RunOptions(**LOCAL, resume=True, workers="pool")).run()
    started = [
        (one.fields["workers"], one.fields["recycle_after"])
        for one in read_records(RunDir(Path(run_dir)))
        if one.kind == RecordKind.RUN_STARTED
    ]
    assert started == [("job", 7), ("job", 7), ("pool", 7)]
