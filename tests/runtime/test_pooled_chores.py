"""Chores for warm workers, from the request to their settlement, with a worker that is played."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from matensemble import wire
from matensemble.chore import ChoreSpec
from matensemble.chronicle import Chronicle
from matensemble.errors import RunInterruptedError
from matensemble.manager import FluxManager
from matensemble.model import Reason
from matensemble.pipeline import Pipeline
from matensemble.policy import Retry
from matensemble.protocols import RunOptions
from matensemble.records import RecordKind, read_records
from matensemble.results import Results
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.scheduler.resources import Allocation, Node
from matensemble.runtime.small_results import MAX_RESULT_BYTES, SmallResults
from matensemble.runtime.testing import FakeExecutor, Outcome
from matensemble.spec import SpecWriter
from matensemble.workdir import RunDir, registry_file

MANY = Allocation((Node("n1", 64),))


class Worker:
    """Runs pooled chores in this process, as a warm worker would; a script of a `FakeExecutor`."""

    def __init__(self, elapsed: float = 0.01) -> None:
        self.requests: list[LaunchRequest] = []
        self.elapsed = elapsed
        self.before: Callable[[LaunchRequest], Outcome | None] = lambda _: None

    def __call__(self, request: LaunchRequest) -> Outcome:
        self.requests.append(request)
        assert not (request.cwd / "result.pickle").exists()
        outcome = self.before(request)
        if outcome is not None:
            return outcome
        request.cwd.mkdir(mode=0o700, exist_ok=True)
        payload = None
        if request.record is None and request.is_pooled:
            request.stdout_path.touch()
        elif not request.is_program:
            payload = self._call(request)
        is_small = payload is not None and len(payload) <= request.wants
        return Outcome(
            elapsed=self.elapsed,
            host="n1",
            is_committed=payload is not None,
            payload=payload if is_small else None,
        )

    def _call(self, request: LaunchRequest) -> bytes:
        data = request.record or (request.cwd / "chore.pickle").read_bytes()
        record = wire.decode_record("the record", data)
        run = RunDir(request.cwd.parents[1])
        function = pickle.loads((run.root / registry_file(record["callable"])).read_bytes())

        def load(slot: int) -> object:
            dep = record["deps"][slot]
            if "data" in dep:
                return pickle.loads(dep["data"])
            return wire.load_result(run.chore_file(dep["id"], "result.pickle"), dep["id"])

        args, kwargs = wire.thaw(
            (run.root / record["arguments"][0]).read_bytes()[record["arguments"][1] :], load
        )
        value = function(*args, **kwargs)
        if record.get("strategy"):
            specs = value or []
            writer = SpecWriter(f"out/{record['id']}/spawned.args", specs)
            rows = [writer.row(spec) for spec in specs]
            import json

            (request.cwd / "spawned.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
            (request.cwd / "spawned.args").write_bytes(b"".join(writer.tail.chunks))
            value = len(specs)
        payload = wire.dumps(value)
        wire.write_result(
            request.cwd / "result.pickle", payload, record["attempt"], chore_id=record["id"]
        )
        return payload


@pytest.fixture
def worker() -> Worker:
    return Worker()


def run(pipe: Pipeline | Path, worker: Worker, **options) -> Results:
    root = pipe if isinstance(pipe, Path) else pipe.save()
    chosen = RunOptions(**{"workers": "pool", "buffer_time": 0.05, **options})
    executor = FakeExecutor(MANY, script=worker)
    return FluxManager(root, chosen, executor=executor).run()


def records(pipe: Pipeline, kind: RecordKind | None = None):
    return [r for r in read_records(RunDir(pipe.run_dir)) if kind in (None, r.kind)]


def double(x):
    return 2 * x


def fail(x):
    raise ValueError(x)


@pytest.fixture
def pipe(tmp_path) -> Pipeline:
    pipe = Pipeline(tmp_path)
    pipe.chore()(double)
    return pipe


# --- the request --------------------------------------------------------------------------------


def test_nothing_is_written_for_a_pooled_chore(pipe, worker):
    found = []
    worker.before = lambda request: found.append(request.cwd.exists())
    reference = pipe.call("double", 21)
    assert run(pipe, worker)[reference.chore_id] == 42
    assert found == [False]
    (request,) = worker.requests
    assert request.is_pooled
    assert (request.argv, request.wants, request.is_program) == ((), 0, False)
    record = wire.decode_record("it", request.record)
    assert (record["id"], record["attempt"], record["callable"]) == (request.chore_id, 1, "double")
    assert request.env["MATENSEMBLE_CHORE_ID"] == request.chore_id
    assert sorted(path.name for path in request.cwd.iterdir()) == ["result.pickle"]


def test_a_program_is_its_command_or_a_record(pipe, worker):
    plain = pipe.exec(["true", "1"], "plain")
    needy = pipe.exec(["echo", pipe.call("double", 1)], "needy")
    run(pipe, worker)
    requests = {request.chore_id: request for request in worker.requests}
    assert requests[plain.chore_id].argv == ("true", "1")
    assert requests[plain.chore_id].record is None
    assert requests[needy.chore_id].argv == ()
    assert requests[needy.chore_id].is_program
    record = wire.decode_record("it", requests[needy.chore_id].record)
    assert record["kind"] == "executable"


def test_jobs_are_prepared_with_all_their_files(pipe, worker):
    pipe.call("double", 1)
    run(pipe, worker, workers="job")
    (request,) = worker.requests
    assert not request.is_pooled
    assert request.record is None
    assert {"chore.pickle", "metadata.json"} <= {path.name for path in request.cwd.iterdir()}


# --- small results ------------------------------------------------------------------------------


def test_small_results_travel_with_the_records_of_those_who_need_them(pipe, worker):
    first = pipe.call("double", 1)
    second = pipe.call("double", first)
    pipe.call("double", [first, second])
    run(pipe, worker)
    one, two, three = (wire.decode_record("it", r.record) for r in worker.requests)
    assert [request.wants for request in worker.requests] == [MAX_RESULT_BYTES] * 2 + [0]
    assert [dep["data"] for dep in two["deps"]] == [wire.dumps(2)]
    assert [dep["data"] for dep in three["deps"]] == [wire.dumps(2), wire.dumps(4)]
    assert one["deps"] == []


def test_a_job_reads_the_files(pipe, worker):
    first = pipe.call("double", 1)
    second = pipe.registry
    assert second is not None
    pipe.chore("last", workers="job")(double)
    pipe.call("last", first)
    run(pipe, worker)
    record = wire.decode_record("it", (worker.requests[1].cwd / "chore.pickle").read_bytes())
    assert "data" not in record["deps"][0]


def test_the_latest_small_results_are_kept():
    kept = SmallResults(max_bytes=10)
    kept.keep("a", 1, b"12345")
    kept.keep("b", 1, b"12345")
    kept.keep("b", 1, b"again")
    assert kept.find("a", 1) == b"12345"
    kept.keep("c", 1, b"1")
    assert kept.find("b", 1) is None, "the one that was longest not asked for"
    assert kept.find("a", 1) == b"12345"
    assert kept.find("a", 2) is None
    kept.keep("d", 1, b"0" * (MAX_RESULT_BYTES + 1))
    assert kept.find("d", 1) is None


# --- the end ------------------------------------------------------------------------------------


def test_a_worker_that_vouches_for_a_result_is_believed(pipe, worker):
    reference = pipe.call("double", 1)
    worker.before = lambda _: Outcome(elapsed=0.01, is_committed=True)
    assert reference.chore_id in run(pipe, worker)
    assert [r.kind for r in records(pipe) if r.chore_id] == ["intent", "completed"]


def test_a_clean_end_without_a_result_is_a_failure(pipe, worker):
    reference = pipe.call("double", 1)
    worker.before = lambda _: Outcome(elapsed=0.01)
    results = run(pipe, worker)
    assert results[reference.chore_id].reason == Reason.RESULT_MISSING


def test_a_crash_fails_only_its_chore_and_another_attempt_finds_the_files(tmp_path, worker):
    pipe = Pipeline(tmp_path)
    pipe.chore("often", retries=Retry(1))(double)
    first, second = pipe.call("often", 1), pipe.call("often", 2)

    def crash_once(request: LaunchRequest) -> Outcome | None:
        if request.attempt > 1 or request.chore_id != first.chore_id:
            return None
        request.cwd.mkdir()
        (request.cwd / "checkpoint").write_text("1")
        return Outcome(-11, elapsed=0.5, host="n1")

    worker.before = crash_once
    results = run(pipe, worker)
    assert (results[first.chore_id], results[second.chore_id]) == (2, 4)
    again = next(r for r in worker.requests if r.attempt == 2)
    previous = Path(again.env["MATENSEMBLE_PREVIOUS_DIR"])
    assert (previous / "checkpoint").read_text() == "1"
    (requeued,) = records(pipe, RecordKind.REQUEUED)
    assert (requeued.fields["el"], requeued.fields["h"]) == (0.5, "n1")
    story = Chronicle.of(first.chore_id, "often", records(pipe))
    assert [(a.outcome, a.seconds, a.host) for a in story.attempts] == [
        ("requeued", 0.5, "n1"),
        ("completed", 0.01, "n1"),
    ]
    (one, _) = story.attempts
    assert one.started_at == pytest.approx(requeued.wall - 0.5)


def test_an_ignored_failure_stands_for_a_result(tmp_path, worker):
    pipe = Pipeline(tmp_path)
    pipe.chore("wild", on_failure="ignore")(double)
    pipe.chore()(double)
    wild = pipe.call("wild", 1)
    pipe.call("double", wild)
    last = worker.before = lambda request: (
        Outcome(1, elapsed=0.1) if "wild" in request.chore_id else Outcome(is_committed=True)
    )
    assert last is not None
    run(pipe, worker)
    record = wire.decode_record("it", worker.requests[1].record)
    assert record["deps"][0]["failed"]["reason"] == Reason.NONZERO_EXIT


def test_a_strategy_and_what_it_asks_for_can_be_pooled(pipe, worker):
    @pipe.strategy(triggers=["double"])
    def look(value):
        return [ChoreSpec([value], qualname="more")] if value < 3 else None

    pipe.chore("more")(double)
    pipe.call("double", 1)
    results = run(pipe, worker)
    assert all(request.is_pooled for request in worker.requests)
    assert sorted(str(v) for v in results.values()) == ["1", "2", "4"]


@pytest.mark.parametrize("keep", ["all", "failed"])
def test_what_stays_of_a_pooled_chore(pipe, worker, keep):
    reference = pipe.call("double", 1)

    def litter(request: LaunchRequest) -> None:
        request.cwd.mkdir()
        (request.cwd / "scratch").touch()

    worker.before = litter
    run(pipe, worker, keep=keep)
    names = {path.name for path in (pipe.run_dir / "out" / reference.chore_id).iterdir()}
    assert names == ({"scratch", "result.pickle"} if keep == "all" else {"result.pickle"})


# --- auto, and going on -------------------------------------------------------------------------


def test_a_large_group_of_short_chores_finds_its_way(pipe, worker):
    for number in range(100):
        pipe.call("double", number)
    results = run(pipe, worker, workers="auto")
    assert sorted(results.values()) == [2 * n for n in range(100)]
    assert {r.is_pooled for r in worker.requests} == {True, False}
    (decision,) = records(pipe, RecordKind.WORKERS)
    assert decision.fields == {"g": "double", "tier": "trial", "elapsed": 0.01}


def test_long_chores_are_jobs(pipe, worker):
    worker.elapsed = 60.0
    for number in range(100):
        pipe.call("double", number)
    run(pipe, worker, workers="auto")
    assert {r.is_pooled for r in worker.requests} == {False}


def test_without_warm_workers_the_run_goes_on(pipe, worker):
    pipe.call("double", 1)
    executor = FakeExecutor(MANY, script=lambda r: None if r.is_pooled else worker(r))
    options = RunOptions(workers="pool", buffer_time=0.05)
    manager = FluxManager(pipe.save(), options, executor=executor)
    future = manager.start()
    executor.wait_running(*(f"chore-double-{number:04d}" for number in (1,)))
    executor.lose_pool("no pyzmq")
    assert list(future.result(60).values()) == [2]
    (decision,) = records(pipe, RecordKind.WORKERS)
    assert decision.fields == {"tier": "job", "d": "no pyzmq"}


def test_what_was_committed_is_not_run_again_and_what_was_learnt_is_known(pipe, worker):
    ids = [pipe.call("double", number).chore_id for number in range(40)]
    stopped: list[FluxManager] = []

    def stop_late(request: LaunchRequest) -> Outcome | None:
        if len(worker.requests) == 36:
            stopped[0].interrupt("the test")
        return None

    worker.before = stop_late
    options = RunOptions(workers="auto", buffer_time=0.05)
    executor = FakeExecutor(Allocation((Node("n1", 1),)), script=worker)
    stopped.append(FluxManager(pipe.save(), options, executor=executor))
    with pytest.raises(RunInterruptedError):
        stopped[0].run()
    second = Worker()
    results = run(pipe.run_dir, second, workers="auto", resume=True)
    assert sorted(results.values()) == [2 * n for n in range(40)]
    ran = [request.chore_id for request in (*worker.requests, *second.requests)]
    assert sorted(ran) == sorted(ids)
    assert {request.is_pooled for request in second.requests} == {True}


def test_a_pooled_attempt_that_was_lost_is_salvaged_by_its_result(pipe, worker):
    kept, lost = pipe.call("double", 1).chore_id, pipe.call("double", 2).chore_id
    root = pipe.save()
    first = FakeExecutor(MANY, script=lambda request: None)
    options = RunOptions(workers="pool", buffer_time=0.05)
    manager = FluxManager(root, options, executor=first)
    future = manager.start()
    first.wait_running(kept, lost)
    worker(first.running[kept])
    first.lose("gone")
    assert future.exception(60) is not None
    second = Worker()
    results = run(root, second, resume=True)
    assert (results[kept], results[lost]) == (2, 4)
    assert [(r.chore_id, r.attempt) for r in second.requests] == [(lost, 2)]
