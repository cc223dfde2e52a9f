"""The loop over a real run directory, with an executor that is played by the test."""

from __future__ import annotations

import errno
import gc
import logging
import threading
from queue import SimpleQueue

import pytest

from matensemble.chore import ChoreSpec
from matensemble.errors import RunFailedError, RunInterruptedError
from matensemble.model import ChoreState, Reason, RunState
from matensemble.pipeline import Pipeline
from matensemble.records import RecordKind, decode_journal_line
from matensemble.runtime.clock import SYSTEM_CLOCK, Clock
from matensemble.runtime.engine import Engine
from matensemble.runtime.executors.base import ExecutorLost, JobEnded
from matensemble.runtime.inbox import Deposed
from matensemble.runtime.journal import FileJournal
from matensemble.runtime.launch import Preparer
from matensemble.runtime.outcomes import results_of
from matensemble.runtime.recorder import Recorder
from matensemble.runtime.scheduler.events import (
    AllocationLearned,
    CancelRequested,
    InterruptRequested,
    PauseRequested,
    ResourcesFreed,
    ResumeRequested,
)
from matensemble.runtime.scheduler.policy import Policy
from matensemble.runtime.scheduler.resources import Allocation, Node
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.runtime.scheduler.tiers import PROBE_SECONDS, PROBES
from matensemble.runtime.spawner import Spawner
from matensemble.runtime.standstill import MAX_IDLE_SECONDS
from matensemble.runtime.testing import FakeExecutor, ManualClock, Outcome
from matensemble.status import read_status
from matensemble.strategy import AdaptiveStrategy, FutureProcessingStrategy, NonAdaptiveStrategy
from matensemble.workflow import Workflow


class Run:
    """An engine and everything around it."""

    def __init__(
        self,
        pipe: Pipeline,
        executor: FakeExecutor,
        policy: Policy | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ):
        self.workflow = Workflow.read(pipe.save())
        self.dir = self.workflow.run
        self.executor = executor
        self.inbox = SimpleQueue()
        self.state = SchedulerState(policy)
        self.state.handle(AllocationLearned(executor.open(self.inbox.put)))
        self.journal = FileJournal(self.dir.journal_path)
        logger = logging.getLogger("matensemble.test")
        self.engine = Engine(
            self.workflow,
            self.state,
            executor,
            journal=self.journal,
            recorder=Recorder(self.dir, executor_name="fake", epoch=1, log_delay=0, logger=logger),
            preparer=Preparer(self.workflow, self.state),
            spawner=Spawner(self.workflow, self.state),
            inbox=self.inbox,
            buffer_time=0.05,
            logger=logger,
            clock=clock,
        )

    def run(self, strategy: FutureProcessingStrategy | None = None) -> RunState:
        strategy = strategy or AdaptiveStrategy()
        strategy.bind(self.engine)
        try:
            return self.engine.run(strategy)
        finally:
            self.journal.close()
            self.state.validate()

    def records(self, kind: RecordKind | None = None):
        lines = self.dir.journal_path.read_bytes().splitlines()
        records = [decode_journal_line(line) for line in lines]
        return [r for r in records if kind is None or r.kind == kind]


@pytest.fixture
def pipe(tmp_path):
    return Pipeline(tmp_path)


def test_a_chain_completes_and_is_journalled_before_it_is_carried_out(pipe):
    a = pipe.exec("true", name="a")
    pipe.exec("true", name="b", after=[a])
    seen = []

    def end(request):
        text = run.dir.journal_path.read_text()
        seen.append(f'"k":"intent","c":"{request.chore_id}"' in text)
        return Outcome()

    run = Run(pipe, FakeExecutor(script=end))
    assert run.run() is RunState.COMPLETED
    assert seen == [True, True]
    kinds = [r.kind for r in run.records() if r.chore_id == "chore-b-0002"]
    assert kinds == ["intent", "submitted", "started", "completed"]
    assert [r.sequence for r in run.records()] == list(range(1, len(run.records()) + 1))
    status = read_status(run.dir.status_path)
    assert status.state is RunState.COMPLETED
    assert status.counts.completed == 2
    assert status.sequence == run.records()[-1].sequence
    assert status.ended_at is not None


def test_a_failure_is_settled_annotated_and_cascades(pipe):
    a = pipe.exec("prog", name="a")
    b = pipe.exec("prog", name="b", after=[a])
    run = Run(pipe, FakeExecutor(script=lambda request: Outcome(3)))
    assert run.run() is RunState.FAILED
    results = results_of(run.dir, run.state)
    assert results[a.chore_id].reason == "nonzero_exit"
    assert results[a.chore_id].exit_code == 3
    assert results[b.chore_id].upstream == a.chore_id
    stderr = run.dir.chore_file(a.chore_id, "stderr").read_text()
    assert stderr == "\n[matensemble] chore-a-0001 failed: nonzero_exit (exit code 3)\n"
    assert not run.dir.chore_dir(b.chore_id).exists()
    status = read_status(run.dir.status_path)
    assert [f.chore_id for f in status.root_failures] == [a.chore_id]


def test_a_directory_that_cannot_be_written_fails_its_chore_only(pipe):
    a = pipe.exec("true", name="a")
    b = pipe.exec("true", name="b")
    run = Run(pipe, FakeExecutor(auto=True))
    run.dir.chore_dir(a.chore_id).write_text("in the way")
    assert run.run() is RunState.FAILED
    assert run.state.entry(a.chore_id).reason is Reason.IO_ERROR
    assert run.state.entry(b.chore_id).state is ChoreState.COMPLETED
    assert run.state.ledger.free_cores == run.state.allocation.num_cores


def test_non_adaptive_starts_in_waves(pipe):
    first = [pipe.exec("true", name="first") for _ in range(3)]
    for ref in first:
        pipe.exec("true", name="second", after=[ref])
    waves = []

    class Watched(NonAdaptiveStrategy):
        def submit_ready(self):
            count = super().submit_ready()
            waves.append(count)
            return count

    run = Run(pipe, FakeExecutor(auto=True))
    assert run.run(Watched()) is RunState.COMPLETED
    assert [count for count in waves if count] == [3, 3]


def test_adaptive_starts_as_soon_as_one_is_settled(pipe):
    a, b = pipe.exec("true", name="a"), pipe.exec("true", name="b")
    after_a = pipe.exec("true", name="c", after=[a])
    held = []

    def script(request):
        if request.chore_id == b.chore_id:
            held.append(b.chore_id)
            return None  # b goes on until c runs
        if request.chore_id == after_a.chore_id:
            executor.finish(b.chore_id)
        return Outcome()

    executor = FakeExecutor(script=script)
    assert Run(pipe, executor).run() is RunState.COMPLETED
    assert held == [b.chore_id]


def test_an_interruption_leaves_a_resumable_status(pipe):
    pipe.exec("true", name="a")
    pipe.exec("true", name="b", cores_per_task=4)

    def script(request):
        run.inbox.put(InterruptRequested("SIGTERM"))

    run = Run(pipe, FakeExecutor(script=script))
    with pytest.raises(RunInterruptedError, match="SIGTERM"):
        run.run()
    status = read_status(run.dir.status_path)
    assert status.state is RunState.INTERRUPTED
    assert status.counts.cancelled == status.counts.failed == 0
    assert [r.chore_id for r in run.records(RecordKind.REQUEUED)] == ["chore-a-0001"]
    assert not run.records(RecordKind.CANCELLED)


def test_a_lost_executor_ends_the_run_loudly(pipe):
    pipe.exec("true", name="a")

    def script(request):
        run.inbox.put(ExecutorLost("the launcher died"))

    run = Run(pipe, FakeExecutor(script=script))
    with pytest.raises(RunFailedError, match="the launcher died"):
        run.run()
    assert read_status(run.dir.status_path).state is RunState.INTERRUPTED


@pytest.mark.slow  # the end of the run waits a second for resources that never come back
def test_an_executor_lost_after_the_last_end_takes_nothing_away(pipe):
    pipe.exec("true", name="a")

    class NeverFrees(FakeExecutor):
        def open(self, post):
            return super().open(
                lambda event: None if isinstance(event, ResourcesFreed) else post(event)
            )

    class LosesItAtTheEnd(AdaptiveStrategy):
        def settle(self, completion):
            state = super().settle(completion)
            run.inbox.put(ExecutorLost("the broker left"))
            return state

    run = Run(pipe, NeverFrees(auto=True))
    assert run.run(LosesItAtTheEnd()) is RunState.COMPLETED


def test_cancel_and_pause_reach_the_run(pipe):
    a = pipe.exec("true", name="a")
    b = pipe.exec("true", name="b", after=[a])

    def script(request):
        run.inbox.put(PauseRequested())
        run.inbox.put(CancelRequested((a.chore_id,)))
        run.inbox.put(ResumeRequested())

    run = Run(pipe, FakeExecutor(script=script))
    assert run.run() is RunState.CANCELLED  # b is a consequence
    assert run.state.entry(a.chore_id).state is ChoreState.CANCELLED
    assert run.state.entry(b.chore_id).root == a.chore_id


class RestlessClock(ManualClock):
    """Moves a little whenever it is looked at, so that whoever waits for a deadline meets it."""

    def monotonic(self):
        self.advance(0.001)
        return super().monotonic()


class Ticking(FutureProcessingStrategy):
    """Lets a second pass on a clock of its own in each round."""

    def __init__(self, clock, *, starts=True, settles=True):
        super().__init__()
        self.clock, self.starts, self.settles = clock, starts, settles
        self.rounds = 0

    def process_futures(self, buffer_time):
        self.rounds += 1
        self.clock.advance(1.0)
        if self.starts:
            self.submit_ready()
        for completion in self.wait(1e-6):
            if self.settles:
                self.settle(completion)


def test_a_strategy_that_never_starts_anything_does_not_hang_the_run(pipe):
    pipe.exec("true", name="a")
    clock = RestlessClock()
    lazy = Ticking(clock, starts=False)
    run = Run(pipe, FakeExecutor(auto=True), clock=clock)
    with pytest.raises(RunFailedError, match="nothing runs and nothing can be started"):
        run.run(lazy)
    assert lazy.rounds <= MAX_IDLE_SECONDS + 3


def test_a_strategy_that_settles_nothing_does_not_hang_the_run(pipe):
    pipe.exec("true", name="a")
    clock = RestlessClock()
    run = Run(pipe, FakeExecutor(auto=True), clock=clock)
    with pytest.raises(RunFailedError, match="chore-a-0001 ended, and does not settle it"):
        run.run(Ticking(clock, settles=False))


def test_waiting_for_resources_to_come_back_is_no_standstill(pipe):
    for name in ("a", "b"):
        pipe.exec("true", name=name, cores_per_task=4)
    clock, held = RestlessClock(), []

    class SlowToFree(FakeExecutor):
        """Gives resources back long after the end, as a resource manager with an epilog does."""

        def open(self, post, orphans=()):
            late = ResourcesFreed("chore-a-0001", 1)
            return super().open(lambda event: (held.append if event == late else post)(event))

    class Patient(Ticking):
        def process_futures(self, buffer_time):
            super().process_futures(buffer_time)
            if self.rounds % 200 == 0:
                run.inbox.put(held.pop())

    run = Run(pipe, SlowToFree(auto=True), clock=clock)
    patient = Patient(clock)
    assert run.run(patient) is RunState.COMPLETED
    assert patient.rounds > 200


def test_a_status_that_cannot_be_written_does_not_end_the_run(pipe, caplog):
    pipe.exec("true", name="a")
    run = Run(pipe, FakeExecutor(auto=True))
    run.dir.status_path.mkdir()
    assert run.run() is RunState.COMPLETED
    assert caplog.text.count("the status cannot be written") == 1


def test_a_full_disk_stops_the_starts_and_fails_nothing(pipe, monkeypatch, caplog):
    for name in ("a", "b"):
        pipe.exec("true", name=name, cores_per_task=4)
    clock = RestlessClock()
    run = Run(pipe, FakeExecutor(auto=True), clock=clock)
    write, states = run.journal.flush, []

    def full():
        if len(states) < 200:
            raise OSError(28, "No space left on device", str(run.dir.journal_path))
        write()

    class Watching(Ticking):
        def process_futures(self, buffer_time):
            super().process_futures(buffer_time)
            states.append(read_status(run.dir.status_path).state)

    monkeypatch.setattr(run.journal, "flush", full)
    assert run.run(Watching(clock)) is RunState.COMPLETED
    assert RunState.DEGRADED in states
    assert run.executor.num_submitted == 2
    assert caplog.text.count("No space left on device") == 1
    assert "can be written again" in caplog.text
    assert [r.sequence for r in run.records()] == list(range(1, len(run.records()) + 1))


def test_a_chore_whose_directory_finds_no_room_is_tried_again_uncharged(pipe, monkeypatch):
    pipe.exec("true", name="a")
    clock = RestlessClock()
    run = Run(pipe, FakeExecutor(auto=True), clock=clock)
    prepare, refused = Preparer.prepare, []

    def no_room(self, order):
        if len(refused) < 5:
            refused.append(order.attempt)
            raise OSError(122, "Disk quota exceeded")
        return prepare(self, order)

    monkeypatch.setattr(Preparer, "prepare", no_room)
    assert run.run(Ticking(clock)) is RunState.COMPLETED
    assert refused == [1, 2, 3, 4, 5]
    entry = run.state.entry("chore-a-0001")
    assert (entry.past.retries, entry.past.losses) == (0, 0)
    assert not run.records(RecordKind.FAILED)


def test_a_chore_whose_files_alone_are_in_trouble_fails_of_it_in_the_end(pipe, monkeypatch):
    pipe.exec("true", name="a")
    pipe.exec("true", name="b")
    clock = RestlessClock()
    run = Run(pipe, FakeExecutor(auto=True), clock=clock)
    prepare, refused = Preparer.prepare, []

    def bad_sector(self, order):
        if order.chore.name == "a":
            refused.append(order.attempt)
            raise OSError(5, "Input/output error")
        return prepare(self, order)

    monkeypatch.setattr(Preparer, "prepare", bad_sector)
    assert run.run(Ticking(clock)) is RunState.FAILED
    assert run.state.entry("chore-a-0001").reason is Reason.IO_ERROR
    assert run.state.entry("chore-b-0002").state is ChoreState.COMPLETED
    assert len(refused) <= 6


def test_arguments_that_others_could_have_written_fail_their_chore_only(pipe):
    @pipe.chore
    def one(x):
        return x

    one(1)
    pipe.exec("true", name="fine")
    run = Run(pipe, FakeExecutor(auto=True))
    run.dir.arguments_path.chmod(0o664)
    run.run()
    assert run.state.entry("chore-fine-0002").state is ChoreState.COMPLETED


def test_nothing_of_a_run_stays_frozen(pipe):
    pipe.exec("true", name="a")
    Run(pipe, FakeExecutor(auto=True)).run()
    assert gc.get_freeze_count() == 0


def test_the_resources_of_a_repeated_end_come_back(pipe):
    a = pipe.exec("true", name="a")
    executor = FakeExecutor()
    run = Run(pipe, executor)

    class Hasty(AdaptiveStrategy):
        def process_futures(self, buffer_time):
            self.submit_ready()
            if executor.running:
                run.inbox.put(JobEnded(a.chore_id, 1, 0))
                executor.finish(a.chore_id)
            for completion in self.wait(buffer_time):
                self.settle(completion)

    assert run.run(Hasty()) is RunState.COMPLETED
    assert run.state.ledger.free_cores == run.state.allocation.num_cores


def test_a_strategy_of_ones_own_adds_chores_through_public_methods(pipe):
    pipe.exec("true", name="a")

    class Growing(FutureProcessingStrategy):
        def process_futures(self, buffer_time):
            self.submit_ready()
            for completion in self.wait(buffer_time):
                state = self.settle(completion)
                group = self.view.group_of(completion.chore_id)
                if state is ChoreState.COMPLETED and group == "a":
                    self.good = self.add_chore(ChoreSpec.exec("true", "b"))
                    self.bad = self.add_chore(ChoreSpec((1,), {}, "nobody"))
                    self.big = self.add_chore(
                        ChoreSpec.exec(["echo", self.good], "c"),
                    )

    strategy = Growing()
    run = Run(pipe, FakeExecutor(auto=True))
    assert run.run(strategy) is RunState.FAILED
    assert run.state.entry(strategy.good.chore_id).state is ChoreState.COMPLETED
    assert run.state.entry(strategy.bad.chore_id).reason is Reason.INVALID_SPEC
    assert run.state.entry(strategy.big.chore_id).chore.upstream == (strategy.good.chore_id,)
    added = run.records(RecordKind.CHORE_ADDED)
    assert [r.fields["parent"] for r in added] == ["strategy"] * 3


def test_an_unsettled_completion_keeps_its_resources(pipe):
    pipe.exec("true", name="a", cores_per_task=4)
    pipe.exec("true", name="b", cores_per_task=4)
    order = []

    class Late(AdaptiveStrategy):
        def process_futures(self, buffer_time):
            self.submit_ready()
            for completion in self.wait(buffer_time):
                order.append((completion.chore_id, self.submit_ready(), self.view.free_cores))
                self.settle(completion)

    run = Run(pipe, FakeExecutor(auto=True))
    assert run.run(Late()) is RunState.COMPLETED
    assert order == [("chore-a-0001", 0, 0), ("chore-b-0002", 0, 0)]


def test_an_error_in_a_strategy_ends_the_run_with_a_status(pipe):
    pipe.exec("true", name="a")

    class Broken(AdaptiveStrategy):
        def process_futures(self, buffer_time):
            raise KeyError("oops")

    run = Run(pipe, FakeExecutor(auto=True))
    with pytest.raises(KeyError):
        run.run(Broken())
    status = read_status(run.dir.status_path)
    assert status.state is RunState.INTERRUPTED
    assert "oops" in status.detail


def test_late_and_repeated_ends_are_harmless(pipe):
    a = pipe.exec("true", name="a")
    pipe.exec("true", name="b", after=[a])

    def script(request):
        if request.chore_id != a.chore_id:
            run.inbox.put(JobEnded(a.chore_id, 1, 7))
            run.inbox.put(JobEnded(request.chore_id, 9, 7))
        return Outcome()

    run = Run(pipe, FakeExecutor(script=script))
    assert run.run() is RunState.COMPLETED
    assert len([r for r in run.records() if r.kind in ("completed", "failed")]) == 2
    assert not run.dir.chore_file(a.chore_id, "stderr").exists()


def test_who_was_stopped_looks_whether_it_was_replaced_before_it_believes_anything(pipe):
    a = pipe.exec("true", name="a")
    clock, executor = ManualClock(), FakeExecutor()
    run = Run(pipe, executor, clock=clock)

    def look(now):
        if now > 30:
            raise Deposed("another driver has taken the run over")

    run.engine.add_duty(look)

    def thaw():
        executor.wait_running(a.chore_id)
        clock.advance(60)
        executor.finish(a.chore_id, exit_code=1)

    thread = threading.Thread(target=thaw)
    thread.start()
    with pytest.raises(RunFailedError, match="taken the run over"):
        run.run()
    thread.join()
    assert run.records(RecordKind.FAILED) == []
    assert not (run.dir.chore_dir(a.chore_id) / "stderr").exists()


def test_what_was_asked_for_is_written_before_it_is_answered(pipe):
    a = pipe.exec("true", name="a")
    written = []

    def cancel(now):
        if not written:
            run.engine.amend([CancelRequested((a.chore_id,))])
            written.extend(run.records(RecordKind.CANCELLED))

    run = Run(pipe, FakeExecutor())
    run.engine.add_duty(cancel)
    assert run.run() is RunState.CANCELLED
    assert [record.chore_id for record in written] == [a.chore_id]


def test_a_disk_that_does_not_show_what_a_strategy_asked_for_fails_nothing(pipe, monkeypatch):
    pipe.exec("true", name="a")
    real, asked = Spawner.after, []

    def fail_once(self, chore):
        asked.append(chore.id)
        if len(asked) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return real(self, chore)

    monkeypatch.setattr(Spawner, "after", fail_once)
    run = Run(pipe, FakeExecutor(auto=True))
    assert run.run() is RunState.COMPLETED
    assert len(asked) == 2
    (again,) = run.records(RecordKind.REQUEUED)
    assert (again.fields["r"], again.fields["b"]) == ("io_error", "loss")


# --- warm workers -------------------------------------------------------------------------------


def test_a_group_is_held_back_for_no_longer_than_a_probe_may_take(pipe):
    for _ in range(PROBES + 8):
        pipe.exec("true", name="many")
    clock = RestlessClock()
    executor = FakeExecutor(Allocation((Node("n", PROBES + 8),)))
    run = Run(pipe, executor, Policy(workers="auto"), clock=clock)
    seen = []

    def end_all_that_run(now):
        if len(executor.running) != len(seen):
            seen[:] = executor.running
        if len(seen) == PROBES + 8:
            executor.finish_all()

    run.engine.add_duty(end_all_that_run)
    assert run.run(Ticking(clock)) is RunState.COMPLETED
    assert clock.monotonic() >= PROBE_SECONDS
    (decision,) = run.records(RecordKind.WORKERS)
    assert decision.fields["tier"] == "job"
    assert "takes more than 5 s" in decision.fields["d"]


def test_what_suits_a_group_is_weighed_while_it_runs(pipe):
    for _ in range(PROBES + 40):
        pipe.exec("true", name="many")
    executor = FakeExecutor(
        Allocation((Node("n", 8),)), script=lambda _: Outcome(elapsed=0.01), pool_look_ahead=4
    )
    run = Run(pipe, executor, Policy(workers="auto"))
    run.engine.on_start = lambda: executor.measure_launch(0.2)
    assert run.run() is RunState.COMPLETED
    tiers = [record.fields["tier"] for record in run.records(RecordKind.WORKERS)]
    assert tiers == ["trial", "pool"]
    pooled = [r for r in run.records(RecordKind.SUBMIT_INTENT) if r.fields.get("p")]
    assert len(pooled) > 40
    ends = run.records(RecordKind.COMPLETED)
    assert all("el" in r.fields for r in ends if r.chore_id in {p.chore_id for p in pooled})
