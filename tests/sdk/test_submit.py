"""Submitting and resuming: what the runtime is handed, what is waited for, what is refused."""

import inspect
import signal
from pathlib import Path

import pytest

from matensemble import protocols, wire
from matensemble.errors import (
    ChoreFailedError,
    EmptyPipelineError,
    InvalidOptionError,
    NotSubmittedError,
    PipelineSubmittedError,
    RunDirectoryError,
    RunInterruptedError,
    RuntimeMissingError,
    UnknownExecutorError,
)
from matensemble.model import ChoreState, Reason
from matensemble.pipeline import Pipeline
from matensemble.protocols import RunFuture, RunKeywords, RunOptions
from matensemble.records import JOURNAL_FORMAT, RecordKind, encode_journal_record, journal_stamp
from matensemble.results import COMPLETED, Outcome, Results
from matensemble.workflow import Workflow


class FakeRuntime:
    def __init__(self):
        self.submitted = []
        self.future = RunFuture(lambda chore_id, answer: None)

    def check(self, options):
        if options.processing_strategy == "refused":
            raise InvalidOptionError("processing_strategy", "refused", "another one")

    def submit(self, run_dir, options):
        self.submitted.append((run_dir, options))
        return self.future

    def finish(self, failed=()):
        """Pretend that every chore returned its own id."""
        workflow = Workflow.read(self.submitted[-1][0])
        chores = {c.id: c for c in workflow.chores()}
        for chore_id in chores.keys() - set(failed):
            workflow.run.chore_dir(chore_id).mkdir()
            path = workflow.run.chore_file(chore_id, "result.pickle")
            wire.write_result(path, wire.dumps({"id": chore_id}), 1)
        outcomes = {
            c: Outcome(ChoreState.FAILED, Reason.SIGNAL, -9) if c in failed else COMPLETED
            for c in chores
        }
        self.future.set_result(Results(workflow.run, chores, outcomes))


class FakeEntryPoint:
    def __init__(self, name, runtime):
        self.name = name
        self.runtime = runtime

    def load(self):
        return self.runtime


@pytest.fixture
def runtime(monkeypatch):
    runtime = FakeRuntime()
    points = [FakeEntryPoint("another", None), FakeEntryPoint("default", runtime)]
    monkeypatch.setattr(protocols, "entry_points", lambda group: points)
    return runtime


@pytest.fixture
def pipe(tmp_path):
    pipe = Pipeline(tmp_path)
    pipe.chore(step)
    return pipe


def step(x):
    return x


def test_submit_returns_at_once_and_hands_over_the_options(pipe, runtime):
    pipe.call("step", 1)
    future = pipe.submit(0.5, 2.0, executor="local", cores=2, fail_fast=True)
    assert future is runtime.future
    ((run_dir, options),) = runtime.submitted
    assert run_dir == pipe.run_dir
    assert (
        options
        == RunOptions(
            buffer_time=0.5,
            log_delay=2.0,
            executor="local",
            cores=2,
            fail_fast=True,
            script_dir=Path.cwd(),  # pytest runs with -m or as a program: see session
        )
        or options.script_dir.is_dir()
    )


def test_submit_and_resume_spell_every_option():
    spelled = set(inspect.signature(Pipeline.submit).parameters) - {"self"}
    only_of_resuming = {"takeover", "recover"}
    decided_elsewhere = {"script_dir", "reserve_broker_node", "resume"}
    everything = set(RunOptions.__dataclass_fields__) - decided_elsewhere
    assert spelled == everything - only_of_resuming
    assert everything == RunKeywords.__optional_keys__


def test_the_published_positions_of_submit():
    names = list(inspect.signature(Pipeline.submit).parameters)[1:8]
    assert names == [
        "buffer_time",
        "log_delay",
        "set_cpu_affinity",
        "set_gpu_affinity",
        "adaptive",
        "processing_strategy",
        "dashboard",
    ]


def test_the_options_of_the_end_reach_the_runtime(pipe, runtime):
    pipe.call("step", 1)
    pipe.submit(max_failures=3, keep="failed", walltime="4h", margin="2m", drain_signal="USR1")
    ((_, options),) = runtime.submitted
    assert (options.max_failures, options.keep) == (3, "failed")
    assert (options.walltime, options.margin) == (14400.0, 120.0)
    assert options.drain_signal == signal.SIGUSR1
    assert not options.resume


# --- resuming ---------------------------------------------------------------------------------


def test_resuming_a_run_or_the_newest_of_a_folder(pipe, runtime, tmp_path):
    reference = pipe.call("step", 1)
    root = pipe.save()
    resumed = Pipeline.resume(root, cores=3, keep="results", workers="pool", takeover=True)
    assert isinstance(resumed, Pipeline)
    assert resumed.run_dir == root
    runtime.finish()
    assert resumed.results()[reference.chore_id] == {"id": reference.chore_id}
    Pipeline.resume(str(tmp_path))
    (first, options), (second, defaults) = runtime.submitted
    assert first == second == root
    assert (options.resume, options.takeover, options.recover) == (True, True, False)
    assert (options.cores, options.keep, options.workers) == (3, "results", "pool")
    assert (defaults.workers, defaults.recycle_after) == (None, None), "as before"
    assert (defaults.resume, defaults.takeover, defaults.cores) == (True, False, None)
    assert options.script_dir is not None


def test_a_resumed_pipeline_is_like_a_submitted_one(pipe, runtime):
    pipe.call("step", 1)
    resumed = Pipeline.resume(pipe.save())
    for again in (resumed.submit, lambda: resumed.exec("true")):
        with pytest.raises(PipelineSubmittedError):
            again()
    runtime.future.set_exception(RunInterruptedError(str(resumed.run_dir), "SIGTERM", True))
    with pytest.raises(RunInterruptedError) as info:
        resumed.results()
    assert info.value.is_out_of_time


def test_what_cannot_be_resumed(pipe, runtime, tmp_path):
    with pytest.raises(RunDirectoryError, match="no run is here"):
        Pipeline.resume(tmp_path)
    pipe.call("step", 1)
    root = pipe.save()
    with pytest.raises(InvalidOptionError, match="walltime"):
        Pipeline.resume(root, walltime="soon")
    with pytest.raises(TypeError, match="max_failure"):
        Pipeline.resume(root, max_failure=1)
    assert runtime.submitted == []


# --- results ----------------------------------------------------------------------------------


def test_results_and_references(pipe, runtime):
    first, second = pipe.call("step", 1), pipe.call("step", 2)
    everything = pipe.gather("step")
    pipe.submit()
    with pytest.raises(TimeoutError):
        pipe.results(timeout=0)
    with pytest.raises(TimeoutError):
        first.result(timeout=0)
    runtime.finish(failed=[second.chore_id])
    assert pipe.results()[first.chore_id] == {"id": first.chore_id}
    assert first.result() == {"id": first.chore_id}
    assert first["id"].result() == first.chore_id
    assert everything.result() == [{"id": first.chore_id}]
    assert isinstance(pipe.results()[second.chore_id], ChoreFailedError)
    with pytest.raises(ChoreFailedError, match="signal"):
        second.result()


def test_an_interrupted_run_keeps_what_completed(pipe, runtime):
    first, second = pipe.call("step", 1), pipe.call("step", 2)
    run_dir = pipe.save()
    pipe.submit()
    runtime.finish()
    runtime.future = None
    pipe._future = RunFuture(lambda chore_id, answer: None)
    pipe._future.set_exception(RunInterruptedError(str(run_dir), "SIGTERM"))
    stamp = journal_stamp(1, 0, 0)
    started = encode_journal_record(
        1, stamp, RecordKind.RUN_STARTED, fields={"format": JOURNAL_FORMAT}
    )
    completed = encode_journal_record(2, stamp, RecordKind.COMPLETED, first.chore_id)
    (run_dir / "journal.jsonl").write_bytes(started + completed)
    assert first.result() == {"id": first.chore_id}
    with pytest.raises(RunInterruptedError):
        second.result()
    with pytest.raises(RunInterruptedError):
        pipe.results()


def test_before_submitting_there_is_nothing_to_read(pipe):
    reference = pipe.call("step", 1)
    with pytest.raises(NotSubmittedError, match="chore-step-0001"):
        reference.result()
    with pytest.raises(NotSubmittedError):
        pipe.results()


def test_submitting_or_recording_again(pipe, runtime):
    pipe.call("step", 1)
    pipe.submit()
    for again in (pipe.submit, lambda: pipe.call("step", 2)):
        with pytest.raises(PipelineSubmittedError):
            again()


def test_a_saved_or_loaded_pipeline_is_submitted_from_its_directory(pipe, runtime):
    pipe.call("step", 1)
    root = pipe.save()
    pipe.submit()
    Pipeline.load(root).submit()
    assert [run_dir for run_dir, _ in runtime.submitted] == [root, root]


def test_what_is_wrong_is_found_before_anything_is_written(pipe, runtime, tmp_path):
    with pytest.raises(EmptyPipelineError):
        pipe.submit()
    pipe.call("step", 1)
    with pytest.raises(UnknownExecutorError, match="slurm"):
        pipe.submit(executor="slurm")
    with pytest.raises(InvalidOptionError):
        pipe.submit(buffer_time=0)
    with pytest.raises(InvalidOptionError, match="processing_strategy"):
        pipe.submit(processing_strategy="refused")
    pipe.call("step", 2)  # it goes on
    assert list(tmp_path.iterdir()) == []
    assert runtime.submitted == []


def test_no_runtime_says_what_to_install(pipe, monkeypatch, tmp_path):
    monkeypatch.setattr(protocols, "entry_points", lambda group: [])
    pipe.call("step", 1)
    with pytest.raises(RuntimeMissingError, match="pip install matensemble-runtime"):
        pipe.submit()
    assert list(tmp_path.iterdir()) == []


def test_the_block_waits_but_never_submits(runtime, tmp_path):
    with Pipeline(tmp_path) as pipe:
        pipe.chore(step)(1)
    assert runtime.submitted == []
    with Pipeline(tmp_path) as pipe:
        pipe.chore(step)(1)
        pipe.submit()
        runtime.finish()
    with pytest.raises(RunInterruptedError), Pipeline(tmp_path) as pipe:
        pipe.chore(step)(1)
        runtime.future = RunFuture(lambda chore_id, answer: None)
        pipe.submit()
        runtime.future.set_exception(RunInterruptedError("/run", "SIGINT"))


def test_a_block_that_raises_does_not_wait(runtime, tmp_path):
    with pytest.raises(ZeroDivisionError), Pipeline(tmp_path) as pipe:
        pipe.chore(step)(1)
        pipe.submit()  # its future never ends
        _ = 1 / 0


@pytest.mark.parametrize(
    "keywords",
    [
        {"cores": 0},
        {"gpus": -1},
        {"cores": True},
        {"log_delay": -1},
        {"log_delay": float("nan")},
        {"adaptive": 1},
        {"progress": None},
        {"dashboard": 1},
        {"dashboard": {"prot": 8000}},
        {"dashboard": {"port": 65536}},
        {"dashboard": {"port": True}},
        {"dashboard": {"port": "8000"}},
        {"dashboard": {"host": ""}},
        {"dashboard": {"allow_actions": 1}},
        {"dashboard": {"keep": "yes"}},
        {"dashboard": {"socket": ""}},
        {"dashboard": {"socket": 7}},
        {"dashboard": {"socket": "s", "port": 8000}},
        {"mpi_pmi": ""},
        {"mpi_pmi": "pmi2 -o x"},
        {"mpi_pmi": None},
        {"reserve_broker_node": "no"},
        {"max_failures": 0},
        {"max_failures": True},
        {"max_failures": "3"},
        {"max_failures": 2, "fail_fast": True},
        {"keep": "none"},
        {"keep": None},
        {"workers": "warm"},
        {"recycle_after": -1},
        {"recycle_after": True},
        {"walltime": 0},
        {"walltime": "04:00:00"},
        {"margin": -1},
        {"margin": "1 week"},
        {"margin": "5m", "walltime": "5m"},
        {"drain_signal": 0},
        {"drain_signal": True},
        {"drain_signal": "USR3"},
        {"drain_signal": "KILL"},
        {"drain_signal": signal.SIGSTOP},
        {"drain_signal": 10.0},
        {"resume": 1},
        {"resume": True, "takeover": "yes"},
        {"takeover": True},
        {"recover": True},
    ],
)
def test_impossible_options(keywords):
    with pytest.raises(InvalidOptionError) as info:
        RunOptions(**keywords)
    assert info.value.option.split()[0] in keywords


@pytest.mark.parametrize("given", ["USR1", "SIGUSR1", " usr1", signal.SIGUSR1, int(signal.SIGUSR1)])
def test_spellings_of_a_signal(given):
    assert RunOptions(drain_signal=given).drain_signal == signal.SIGUSR1


def test_the_first_failure_is_one_failure():
    assert RunOptions(fail_fast=True) == RunOptions(fail_fast=True, max_failures=1)
    assert RunOptions(max_failures=1).max_failures == 1
    assert RunOptions().max_failures is None


def test_a_margin_of_nothing():
    assert RunOptions(margin=0).margin == 0
    assert RunOptions(margin="500ms", walltime=1).margin == 0.5


def test_options_are_kept_as_they_were():
    dashboard = {"port": 8100}
    options = RunOptions(dashboard=dashboard, mpi_pmi="simple,pmi2")
    dashboard["port"] = -1
    assert options.dashboard == {"port": 8100}
    assert RunOptions(dashboard={}).dashboard is True
    options = RunOptions(dashboard={"socket": "mine/s", "allow_actions": True, "keep": False})
    assert options.dashboard == {
        "socket": str(Path.cwd() / "mine/s"),
        "allow_actions": True,
        "keep": False,
    }
