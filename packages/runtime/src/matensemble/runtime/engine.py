"""The loop: the one thread that owns the state of a run.

::

    executor ──┐                      ┌─> outbox ─> journal, then executor (submit, cancel …)
    signals  ──┼─> inbox ─> state ────┤
    timer    ──┘            .handle   └─> recorder  (status.json, log; throttled)
                               ^
       settlement, spawner ────┘   what a completion means, and which chores it adds
       duties (requests, limits, the end of the allocation, being replaced): twice a second

Every other thread only puts events into the inbox. A processing strategy decides, on this thread,
when completions are settled and when starts are considered; it reaches the engine through
`matensemble.strategy`. The engine makes no decision about a chore itself.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty
from typing import Protocol

from matensemble.chore import ChoreSpec
from matensemble.disk import DISK_TROUBLE
from matensemble.errors import RunFailedError, RunInterruptedError
from matensemble.model import ChoreState, OutputReference, Reason, RunState
from matensemble.records import RecordKind
from matensemble.results import Results
from matensemble.runtime.clock import SYSTEM_CLOCK, Clock
from matensemble.runtime.executors.base import Executor, ExecutorLost, JobEnded
from matensemble.runtime.inbox import Deposed, Inbox, InboxEvent, OutcomeAsked
from matensemble.runtime.journal import Journal
from matensemble.runtime.judgement import Judge
from matensemble.runtime.launch import Preparer
from matensemble.runtime.observer import Observer
from matensemble.runtime.outbox import Outbox
from matensemble.runtime.outcomes import result_of
from matensemble.runtime.recorder import PUBLISH_INTERVAL_SECONDS, Recorder
from matensemble.runtime.scheduler.entry import Entry
from matensemble.runtime.scheduler.events import (
    AttemptLost,
    ChoreAdded,
    ChoreFinished,
    ChoreRestored,
    ChoreStarted,
    ChoreSubmitted,
    DrainRequested,
    Event,
    InterruptRequested,
    PoolLost,
    ResourcesFreed,
    StartsConsidered,
)
from matensemble.runtime.scheduler.instructions import Record
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.runtime.scheduler.states import LIVE, Phase
from matensemble.runtime.settlement import annotate
from matensemble.runtime.small_results import SmallResults
from matensemble.runtime.spawner import Spawner
from matensemble.runtime.standstill import Standstill
from matensemble.runtime.timer import Timer
from matensemble.runtime.view import View
from matensemble.terminal import plural
from matensemble.workflow import Workflow

SYNC_INTERVAL_SECONDS = 1.0
MAX_COMPLETIONS = 64
"""Completions of one round. Enough to write the journal rarely, few enough to start at once."""
INTERRUPT_PATIENCE_SECONDS = 4.5
"""How long an interrupted run waits for its chores to end: TERM, KILL after 3 s, and a little."""
LAST_RESOURCES_SECONDS = 1.0
"""How long the end of a run waits for resources that come back after the last chore ended."""
TRUST_SECONDS = 0.05
"""How long nobody asks again whether this driver was replaced, before it starts something. One that
was stopped, so that it could be replaced, was stopped for longer."""
_NEVER = float("inf")
_PASSIVE = (ChoreSubmitted, ChoreStarted)
"""Facts that cannot let anything start."""


Duty = Callable[[float], None]
"""Called about twice a second on the thread that owns the state, with the monotonic time."""


class Strategy(Protocol):
    """What the engine needs of a processing strategy."""

    def process_futures(self, buffer_time: float) -> object:
        """Do one round: wait for completions, settle them, start what is ready."""


class Engine:
    """Runs one workflow to its end on the calling thread.

    Parameters
    ----------
    workflow
        What to run.
    state
        Fresh, with the allocation known.
    executor
        Open; the engine does not close it.
    journal, recorder
        Where transitions and the status go.
    preparer, spawner
        Make requests and further chores.
    inbox
        Where the executor, signal handlers and control requests put events.
    buffer_time
        Seconds of one round of the strategy.
    clock
        For timeouts.
    logger
        For people.
    restored
        Chores of an earlier driver with where they stood, in the order of admission, instead of
        those of the workflow; None starts afresh.
    observers
        Are told what becomes of chores.
    small_results
        Takes the results that came with an end; the preparer's. None keeps them for nobody.
    """

    def __init__(
        self,
        workflow: Workflow,
        state: SchedulerState,
        executor: Executor,
        *,
        journal: Journal,
        recorder: Recorder,
        preparer: Preparer,
        spawner: Spawner,
        inbox: Inbox,
        buffer_time: float,
        logger: logging.Logger,
        clock: Clock = SYSTEM_CLOCK,
        restored: Iterable[ChoreRestored] | None = None,
        observers: Sequence[Observer] = (),
        small_results: SmallResults | None = None,
    ) -> None:
        self.workflow = workflow
        self.state = state
        self.view = View(state)
        self._executor = executor
        self._journal = journal
        self._recorder = recorder
        self._spawner = spawner
        self._inbox = inbox
        self._buffer_time = buffer_time
        self._logger = logger
        self._clock = clock
        self._restored = restored
        self._observers = observers
        self._small_results = small_results or SmallResults()
        self._timer: Timer[InboxEvent] = Timer()
        self._judge = Judge(
            workflow.run,
            state,
            spawner,
            timer=self._timer,
            clock=clock,
            may_lag=executor.sees_files_late,
        )
        self._outbox = Outbox(
            workflow.run,
            journal=journal,
            executor=executor,
            preparer=preparer,
            post=inbox.put,
            timer=self._timer,
            clock=clock,
            logger=logger,
        )
        self.time_left: Callable[[float], float | None] = lambda _: None
        """Seconds that a chore may take which is started at a monotonic time; None: no limit."""
        self.on_doubt: Callable[[], object] = lambda: None
        """Called before anything is started, and where something happened that a driver sees which
        was replaced; raises `Deposed` where it was."""
        self.on_start: Callable[[], object] = lambda: None
        """Called once all chores are known, before the first status of this driver."""
        self._duties: list[Duty] = []
        self._has_news = False
        self._is_time_over = False
        self._run_state = RunState.RUNNING
        self._detail = ""
        self._asked: dict[str | None, list[Future[Results]]] = {}
        self._unsettled: dict[tuple[str, int], list[ResourcesFreed]] = {}
        self._duties_at = self._sync_at = self._doubt_at = clock.monotonic()
        self._interrupt_deadline = _NEVER
        self._has_frozen = False
        self._standstill = Standstill(workflow.run, state, clock)

    def add_duty(self, duty: Duty) -> None:
        """Let something be done about twice a second."""
        self._duties.append(duty)

    # --- the run ------------------------------------------------------------------------------

    def run(self, strategy: Strategy) -> RunState:
        """Run until nothing is ready, blocked or running.

        Returns
        -------
        RunState
            `COMPLETED`, `FAILED` or `CANCELLED`.

        Raises
        ------
        RunInterruptedError
            If the run was asked to stop.
        RunFailedError
            If the executor was lost, or nothing can make progress.
        """
        try:
            self._admit_chores()
            self.on_start()
            self._publish(force=True)
            self._hear_of_orphans()
            self._do_duties()  # a request may wait that gives a finished run something to do
            while not self._is_done():
                strategy.process_futures(self._buffer_time)
                self._do_duties()
            return self._conclude()
        except Deposed as error:
            raise RunFailedError(str(self.workflow.run.root), str(error)) from None
        except BaseException as error:
            if not self._run_state.is_terminal:
                with suppress(OSError):  # perhaps the very disk that failed
                    self._end(RunState.INTERRUPTED, f"{type(error).__name__}: {error}")
            if isinstance(error, OSError):
                raise RunFailedError(str(self.workflow.run.root), str(error)) from error
            raise
        finally:
            if self._has_frozen:
                gc.unfreeze()

    def _restore(self, restored: Iterable[ChoreRestored]) -> None:
        taken_over = []
        for event in restored:
            self._handle(event)
            if event.standing.source:
                taken_over.append(event.chore)
        for (
            chore
        ) in taken_over:  # whose completion no driver has seen, so that it starts strategies
            self._handle(*self._spawner.after(chore))

    def _hear_of_orphans(self) -> None:
        """Take what the executor told when it was opened, before anything is started beside it."""
        ended: list[JobEnded] = []
        while not self._inbox.empty():
            self._receive(self._inbox.get_nowait(), ended)
        for one in ended:
            self.settle(one)

    def _is_done(self) -> bool:
        if self._is_out_of_patience():
            return True
        if self.state.is_finished:
            self._outbox.flush()
        if self._outbox.is_degraded:  # what ended is not on the disk yet
            return False
        if self.state.is_finished:
            return True
        # Perhaps something else fits into the time, now that others have ended.
        return self.state.is_out_of_time and not self.submit_ready() and self.state.is_out_of_time

    def _admit_chores(self) -> None:
        # What is made here lives as long as the run: collecting it, again and again while it
        # grows, would cost a third of the time that a chore takes in all.
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            if self._restored is None:
                for chore in self.workflow.chores():
                    self._handle(ChoreAdded(chore))
            else:
                self._restore(self._restored)
                self._restored = None
            if not gc.get_freeze_count():  # else what others have frozen would thaw with ours
                gc.freeze()
                self._has_frozen = True
        finally:
            if was_enabled:
                gc.enable()

    def _is_out_of_patience(self) -> bool:
        deadline = self._interrupt_deadline
        return deadline != _NEVER and self._clock.monotonic() > deadline

    def _conclude(self) -> RunState:
        if self.state.phase in (Phase.INTERRUPTING, Phase.DRAINING) or self.state.is_out_of_time:
            self._conclude_early()
        self._take_back_resources()
        counts = self.state.counts()
        end = RunState.COMPLETED
        if self.state.num_root_failures > self.state.num_ignored:
            end = RunState.FAILED
        elif counts.cancelled:
            end = RunState.CANCELLED
        self._end(end, self.state.stopped_because)
        return end

    def _conclude_early(self) -> None:
        """Record an interrupted run, and raise RunInterruptedError; not where nothing is left."""
        if not self.state.counts().pending and not self.state.num_live:
            return
        is_out_of_time = self.state.phase is not Phase.INTERRUPTING or self._is_time_over
        if left := self.state.num_live:
            self._detail += f"; {left} chores were left to the {self._executor.name} executor"
        elif self.state.is_out_of_time:
            ready = self.state.num_ready
            self._detail = (
                self._detail or f"for {plural(ready, 'chore')} less time is left than asked"
            )
        self._end(RunState.INTERRUPTED, self._detail)
        raise RunInterruptedError(
            str(self.workflow.run.root), self._detail, is_out_of_time=is_out_of_time
        )

    def _take_back_resources(self) -> None:
        """Wait a moment for the last resources, so that the last status shows them as free."""
        deadline = self._clock.monotonic() + LAST_RESOURCES_SECONDS
        ledger, allocation = self.state.ledger, self.state.allocation
        while ledger.free_cores < allocation.num_cores and self._clock.monotonic() < deadline:
            with suppress(Empty):
                event = self._inbox.get(timeout=0.05)
                # Every chore has ended: an executor that is lost now takes nothing away.
                if isinstance(event, (ResourcesFreed, OutcomeAsked)):
                    self._receive(event, [])

    def _end(self, run_state: RunState, detail: str = "") -> None:
        self._run_state, self._detail = run_state, detail
        self._journal.append(self._run_state_record())
        self._outbox.sync()
        self._publish(force=True)

    def _run_state_record(self) -> Record:
        fields = {"state": self._run_state.value}
        if self._detail:
            fields["d"] = self._detail
        return Record(RecordKind.RUN_STATE, fields=fields)

    # --- for strategies -----------------------------------------------------------------------

    def wait(self, timeout: float) -> list[JobEnded]:
        """Wait until an attempt has ended, and return those that have; none after the timeout.

        At most `MAX_COMPLETIONS`, so that what they make room for does not wait for the rest.
        Facts of other kinds are handled on the way. Returns early when one of them could let
        something start, so that the caller considers it.
        """
        ended: list[JobEnded] = []
        deadline = min(self._clock.monotonic() + timeout, self._interrupt_deadline)
        self._has_news = False
        while not (ended or self._has_news):
            if self._timer:
                self._ring()
            if self._inbox.empty():
                self._outbox.flush()  # nothing stays behind while the driver sleeps
                try:
                    event = self._inbox.get(timeout=self._seconds_until(deadline))
                except Empty:
                    self._do_duties()
                    if self._clock.monotonic() >= min(deadline, self._interrupt_deadline):
                        break
                else:
                    self._do_duties()  # first: this process may have been stopped, and replaced
                    self._receive(event, ended)
            while len(ended) < MAX_COMPLETIONS and not self._inbox.empty():
                self._receive(self._inbox.get_nowait(), ended)
        is_busy = bool(ended) or self._has_news or self._outbox.is_degraded or bool(self._timer)
        self._standstill.look(is_busy, self._unsettled)
        return ended

    def _seconds_until(self, deadline: float) -> float:
        """Return how long to sleep: until the deadline, or something that no event announces."""
        due = min(deadline, self._duties_at, self._timer.next_due)
        return max(0.0, due - self._clock.monotonic())

    def _ring(self) -> None:
        for event in self._timer.ring(self._clock.monotonic()):
            self._inbox.put(event)

    def _do_duties(self) -> None:
        """Sync the journal, publish the status, and do what others have to do, if that is due."""
        now = self._clock.monotonic()
        if now < self._duties_at:
            return
        self._duties_at = now + PUBLISH_INTERVAL_SECONDS
        for duty in self._duties:
            duty(now)
        self._has_news |= self._outbox.retry(now)
        self._publish()
        if now >= self._sync_at:
            self._sync_at = now + SYNC_INTERVAL_SECONDS
            self._outbox.sync()

    def _receive(self, event: InboxEvent, ended: list[JobEnded]) -> None:
        """Take one event, and note whether it could let something start."""
        if isinstance(event, JobEnded):
            self._unsettled.setdefault((event.chore_id, event.attempt), [])
            ended.append(event)
            return
        if isinstance(event, ResourcesFreed):
            held_back = self._unsettled.get((event.chore_id, event.attempt))
            if held_back is not None:  # its end is not settled yet, and comes first
                held_back.append(event)
                return
        elif isinstance(event, _PASSIVE):
            self._handle(event)
            if self._observers and isinstance(event, ChoreStarted):
                self._tell_started(event)
            return
        elif isinstance(event, OutcomeAsked):
            self._asked.setdefault(event.chore_id, []).append(event.answer)
            self._answer(event.chore_id)
            return
        elif isinstance(event, ExecutorLost):
            raise RunFailedError(
                str(self.workflow.run.root),
                f"the {self._executor.name} executor is gone: {event.problem}",
            )
        elif isinstance(event, AttemptLost):
            self.on_doubt()
            self._handle(*self._what_became_of(event))
            self._has_news = True
            return
        elif isinstance(event, (InterruptRequested, DrainRequested)):
            self._begin_to_leave(event)
        elif isinstance(event, PoolLost):
            self._logger.warning("no warm workers, every chore becomes a job: %s", event.detail)
        self._handle(event)
        self._has_news = True

    def _tell_started(self, event: ChoreStarted) -> None:
        entry = self.state.entry(event.chore_id)
        if entry.attempt == event.attempt and entry.state in LIVE:
            for observer in self._observers:
                observer.started(entry.chore, event.attempt)

    def _what_became_of(self, lost: AttemptLost) -> list[Event]:
        """Return what is to be made of an attempt of which nothing is known."""
        entry = self.state.entry(lost.chore_id)
        if entry.attempt != lost.attempt or entry.state not in LIVE:
            return []
        for observer in self._observers:
            observer.attempt_ended(entry.chore, lost.attempt)
        return self._judge.judge_lost(lost)

    def _begin_to_leave(self, event: InterruptRequested | DrainRequested) -> None:
        phase = self.state.phase
        if phase is Phase.INTERRUPTING:
            return
        if isinstance(event, DrainRequested):
            if phase is Phase.DRAINING:
                return
            self._is_time_over = True
            self._logger.warning("%s: nothing more is started", event.cause)
        else:
            self._logger.warning("%s: ending what runs; what completed is kept", event.cause)
            patience = INTERRUPT_PATIENCE_SECONDS
            self._interrupt_deadline = self._clock.monotonic() + patience
        self._run_state, self._detail = RunState.DRAINING, event.cause
        self._journal.append(self._run_state_record())
        self._publish(force=True)

    def amend(self, events: Sequence[Event], record: Record | None = None) -> None:
        """Take facts that a duty has found out, and note a record about it before.

        All of it is written when this returns, where the disk can be: whoever asked for it is told
        that it is done.
        """
        if record is not None:
            self._journal.append(record)
        for event in events:
            self._receive(event, [])
        self._outbox.flush()

    def settle(self, ended: JobEnded) -> ChoreState:
        """Decide the outcome of an ended attempt, unblock its dependents, add what it spawns.

        Returns
        -------
        ChoreState
            Where the chore stands now; still `RUNNING` (or `SUBMITTED`) where its result may yet
            appear on a network file system: it is settled again by itself.
        """
        entry = self.state.entry(ended.chore_id)
        chore, key = entry.chore, (ended.chore_id, ended.attempt)
        if entry.attempt != ended.attempt or entry.state not in LIVE:
            self._handle(*self._unsettled.pop(key, ()))
            return entry.state  # an executor may repeat itself
        verdict = self._judge.judge(ended)
        if verdict is None:
            return entry.state
        freed = self._unsettled.pop(key, ())
        finished, additions = verdict
        if ended.payload is not None and finished.reason is None:
            self._small_results.keep(ended.chore_id, ended.attempt, ended.payload)
        if finished.errno in DISK_TROUBLE:
            self._outbox.degrade(OSError(finished.errno, finished.detail))
        for observer in self._observers:
            observer.attempt_ended(chore, ended.attempt)
        self._handle(*additions, finished, *freed)
        self._tell_ended(entry, finished)
        return entry.state

    def _tell_ended(self, entry: Entry, finished: ChoreFinished) -> None:
        chore = entry.chore
        reason = entry.reason or finished.reason
        if reason is not None and reason is not Reason.CANCELLED:
            what = "failed" if entry.state.is_terminal else "will be tried again"
            detail = entry.detail or finished.detail
            self._logger.warning(
                "%s%s %s: %s%s; look into %s",
                chore.id,
                f" (attempt {finished.attempt})" if finished.attempt > 1 else "",
                what,
                reason.value,
                f": {detail}" if detail else "",
                self.workflow.run.chore_dir(chore.id),
            )
            if finished.reason is Reason.CANCELLED:  # ended for a limit: its stderr does not say so
                annotate(self.workflow.run, chore, reason, finished.exit_code, detail)
        if entry.state.is_terminal:
            for observer in self._observers:
                observer.ended(entry)

    def submit_ready(self) -> int:
        """Start every ready chore that fits now; return how many were started."""
        if self._outbox.is_degraded:
            return 0
        if self.state.num_ready and self._clock.monotonic() >= self._doubt_at:
            self.on_doubt()
            self._doubt_at = self._clock.monotonic() + TRUST_SECONDS
        time_left = self.time_left(self._clock.monotonic())
        return self._handle(StartsConsidered(time_left, self._executor.pool_look_ahead or 0))

    def add_chore(self, spec: ChoreSpec) -> OutputReference[object]:
        """Add a chore to the live graph and return a reference to its result.

        A spec that cannot become a chore becomes one that failed with `invalid_spec`.
        """
        addition = self._spawner.admit(spec)
        self._handle(addition)
        return OutputReference(addition.chore.id)

    # --- events -------------------------------------------------------------------------------

    def _handle(self, *events: Event) -> int:
        """Hand facts to the state, journal what it decided, then carry it out."""
        asked, journal, outbox = self._asked, self._journal, self._outbox
        for event in events:
            for instruction in self.state.handle(event):
                if not isinstance(instruction, Record):
                    outbox.add(instruction)
                    continue
                journal.append(instruction)
                if asked and instruction.chore_id in asked:
                    self._answer(instruction.chore_id)
        return outbox.send()

    def _answer(self, chore_id: str | None) -> None:
        """Answer who waits for a chore, if it has ended."""
        if chore_id is None or chore_id not in self.state:
            return
        if not self.state.entry(chore_id).state.is_terminal:
            return
        results = result_of(self.workflow.run, self.state, chore_id)
        for answer in self._asked.pop(chore_id):
            answer.set_result(results)

    def _publish(self, *, force: bool = False) -> None:
        run_state, detail = self._shown_state()
        self._recorder.publish(
            self.state, run_state, self._journal.sequence, detail=detail, force=force
        )

    def _shown_state(self) -> tuple[RunState, str]:
        """Return the state of the run as others see it, and why it is in it."""
        run_state, detail = self._run_state, self._detail
        if not run_state.is_terminal and self._outbox.is_degraded:
            return RunState.DEGRADED, self._outbox.problem
        if run_state is RunState.RUNNING and self.state.phase is Phase.PAUSED:
            return RunState.PAUSED, detail
        return run_state, detail
