"""The loop: the one thread that owns the state of a run.

::

    executor ──┐                      ┌─> journal   (before anything is carried out)
    signals  ──┼─> inbox ─> state ────┼─> executor  (submit, cancel)
    control  ──┘            .handle   └─> recorder  (status.json, log; throttled)
                               ^
       settlement, spawner ────┘   what a completion means, and which chores it adds

Every other thread only puts events into the inbox. A processing strategy decides, on this thread,
when completions are settled and when starts are considered; it reaches the engine through
`matensemble.strategy`. The engine makes no decision about a chore itself.
"""

from __future__ import annotations

import gc
import logging
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

from matensemble.chore import Chore, ChoreSpec
from matensemble.errors import FormatError, RunFailedError, RunInterruptedError
from matensemble.model import ChoreState, OutputReference, Reason, RunState
from matensemble.records import RecordKind
from matensemble.results import Results
from matensemble.runtime.clock import SYSTEM_CLOCK, Clock
from matensemble.runtime.executors.base import Executor, ExecutorLost, JobEnded
from matensemble.runtime.journal import Journal
from matensemble.runtime.launch import Preparer
from matensemble.runtime.outcomes import result_of
from matensemble.runtime.recorder import PUBLISH_INTERVAL_SECONDS, Recorder
from matensemble.runtime.scheduler.events import (
    ChoreAdded,
    ChoreFinished,
    ChoreStarted,
    ChoreSubmitted,
    Event,
    InterruptRequested,
    ResourcesFreed,
    StartsConsidered,
)
from matensemble.runtime.scheduler.instructions import Cancel, Record, Submit
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.runtime.scheduler.states import LIVE, Phase
from matensemble.runtime.settlement import settle
from matensemble.runtime.spawner import Addition, Spawner
from matensemble.runtime.view import View
from matensemble.workflow import Workflow

SYNC_INTERVAL_SECONDS = 1.0
MAX_COMPLETIONS = 64
"""Completions of one round. Enough to write the journal rarely, few enough to start at once."""
INTERRUPT_PATIENCE_SECONDS = 4.5
"""How long an interrupted run waits for its chores to end: TERM, KILL after 3 s, and a little."""
LAST_RESOURCES_SECONDS = 1.0
"""How long the end of a run waits for resources that come back after the last chore ended."""
MAX_IDLE_SECONDS = 20.0
"""How long nothing may run, be held or arrive while chores wait, before the run gives up."""

_PASSIVE = (ChoreSubmitted, ChoreStarted)
"""Facts that cannot let anything start."""


class OutcomeAsked(NamedTuple):
    """Somebody waits for one chore."""

    chore_id: str
    answer: Future[Results]
    """Set when the chore has ended; never, where the run ends before."""


InboxEvent = Event | JobEnded | ExecutorLost | OutcomeAsked
Inbox = SimpleQueue[InboxEvent]


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
    ) -> None:
        self.workflow = workflow
        self.state = state
        self.view = View(state)
        self._executor = executor
        self._journal = journal
        self._recorder = recorder
        self._preparer = preparer
        self._spawner = spawner
        self._inbox = inbox
        self._buffer_time = buffer_time
        self._logger = logger
        self._clock = clock
        self._run_state = RunState.RUNNING
        self._detail = ""
        self._asked: dict[str | None, list[Future[Results]]] = {}
        self._unsettled: dict[tuple[str, int], list[ResourcesFreed]] = {}
        self._duties_at = self._sync_at = clock.monotonic()
        self._interrupt_deadline = float("inf")
        self._has_frozen = False
        self._idle_since: float | None = None
        self._has_told_of_status = False

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
            self._admit_saved_chores()
            self._publish(force=True)
            while not self.state.is_finished and not self._is_out_of_patience():
                strategy.process_futures(self._buffer_time)
                self._do_duties()
            return self._conclude()
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

    def _admit_saved_chores(self) -> None:
        # What is made here lives as long as the run: collecting it, again and again while it
        # grows, would cost a third of the time that a chore takes in all.
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            for chore in self.workflow.chores():
                self._handle(ChoreAdded(chore))
            if not gc.get_freeze_count():  # else what others have frozen would thaw with ours
                gc.freeze()
                self._has_frozen = True
        finally:
            if was_enabled:
                gc.enable()

    def _is_out_of_patience(self) -> bool:
        return self._clock.monotonic() > self._interrupt_deadline

    def _conclude(self) -> RunState:
        if self.state.phase is Phase.INTERRUPTING:
            left = self.state.num_live
            if left:
                self._detail += f"; {left} chores were left to the {self._executor.name} executor"
            self._end(RunState.INTERRUPTED, self._detail)
            raise RunInterruptedError(str(self.workflow.run.root), self._detail)
        self._take_back_resources()
        counts = self.state.counts()
        end = RunState.COMPLETED
        if counts.failed:
            end = RunState.FAILED
        elif counts.cancelled:
            end = RunState.CANCELLED
        self._end(end)
        return end

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
        self._journal.sync()
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
        is_news = False
        deadline = min(self._clock.monotonic() + timeout, self._interrupt_deadline)
        while not (ended or is_news):
            if self._inbox.empty():
                self._journal.flush()  # nothing stays behind while the driver sleeps
            try:
                event = self._inbox.get(timeout=self._seconds_until(deadline))
            except Empty:
                self._do_duties()
                if self._clock.monotonic() >= min(deadline, self._interrupt_deadline):
                    break
                continue
            is_news = self._receive(event, ended)
            while len(ended) < MAX_COMPLETIONS and not self._inbox.empty():
                is_news = self._receive(self._inbox.get_nowait(), ended) or is_news
        self._watch_for_a_standstill(bool(ended) or is_news)
        return ended

    def _seconds_until(self, deadline: float) -> float:
        """Return how long to sleep: until the deadline, or a duty that no event announces."""
        return max(0.0, min(deadline, self._duties_at) - self._clock.monotonic())

    def _do_duties(self) -> None:
        """Sync the journal and publish the status, if that is due."""
        now = self._clock.monotonic()
        if now < self._duties_at:
            return
        self._duties_at = now + PUBLISH_INTERVAL_SECONDS
        self._publish()
        if now >= self._sync_at:
            self._sync_at = now + SYNC_INTERVAL_SECONDS
            self._journal.sync()

    def _receive(self, event: InboxEvent, ended: list[JobEnded]) -> bool:
        """Take one event; return whether it could let something start."""
        if isinstance(event, JobEnded):
            self._unsettled.setdefault((event.chore_id, event.attempt), [])
            ended.append(event)
            return False
        if isinstance(event, ResourcesFreed):
            held_back = self._unsettled.get((event.chore_id, event.attempt))
            if held_back is not None:  # its end is not settled yet, and comes first
                held_back.append(event)
                return False
        elif isinstance(event, _PASSIVE):
            self._handle(event)
            return False
        elif isinstance(event, OutcomeAsked):
            self._asked.setdefault(event.chore_id, []).append(event.answer)
            self._answer(event.chore_id)
            return False
        elif isinstance(event, ExecutorLost):
            raise RunFailedError(
                str(self.workflow.run.root),
                f"the {self._executor.name} executor is gone: {event.problem}",
            )
        elif isinstance(event, InterruptRequested):
            self._begin_interrupt(event)
        self._handle(event)
        return True

    def _begin_interrupt(self, event: InterruptRequested) -> None:
        if self.state.phase is Phase.INTERRUPTING:
            return
        self._logger.warning("%s: ending what runs; what completed is kept", event.cause)
        self._interrupt_deadline = self._clock.monotonic() + INTERRUPT_PATIENCE_SECONDS
        self._run_state, self._detail = RunState.DRAINING, event.cause
        self._journal.append(self._run_state_record())
        self._publish(force=True)

    def settle(self, ended: JobEnded) -> ChoreState:
        """Decide the outcome of an ended attempt, unblock its dependents, add what it spawns.

        Returns
        -------
        ChoreState
            Where the chore stands now.
        """
        entry = self.state.entry(ended.chore_id)
        chore = entry.chore
        freed = self._unsettled.pop((ended.chore_id, ended.attempt), ())
        if entry.attempt != ended.attempt or entry.state not in LIVE:
            self._handle(*freed)
            return entry.state  # an executor may repeat itself
        finished, additions = self._judge(chore, ended)
        self._handle(*additions, finished, *freed)
        if entry.state is ChoreState.FAILED:
            self._logger.warning(
                "%s failed: %s%s; look into %s",
                chore.id,
                finished.reason.value if finished.reason else "",
                f": {finished.detail}" if finished.detail else "",
                self.workflow.run.chore_dir(chore.id),
            )
        return entry.state

    def _judge(self, chore: Chore, ended: JobEnded) -> tuple[ChoreFinished, list[Addition]]:
        """Return the outcome of an attempt, and what joins the graph with it.

        The additions are handled before the completion, or a gather could slip through between.
        """
        finished = settle(self.workflow.run, chore, ended)
        if finished.reason is not None:
            return finished, []
        try:
            return finished, self._spawner.after(chore)
        except FormatError as error:
            return finished._replace(reason=Reason.RESULT_CORRUPT, detail=str(error)), []

    def submit_ready(self) -> int:
        """Start every ready chore that fits now; return how many were started."""
        return self._handle(StartsConsidered())

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
        orders: list[Submit | Cancel] = []
        journal, asked = self._journal, self._asked
        for event in events:
            for instruction in self.state.handle(event):
                if not isinstance(instruction, Record):
                    orders.append(instruction)
                    continue
                journal.append(instruction)
                if asked and instruction.chore_id in asked:
                    self._answer(instruction.chore_id)
        if not orders:
            return 0
        journal.flush()
        num_submitted = 0
        for order in orders:
            if isinstance(order, Submit):
                self._submit(order)
                num_submitted += 1
            else:
                self._executor.cancel(order.chore_id, order.attempt)
        return num_submitted

    def _answer(self, chore_id: str | None) -> None:
        """Answer who waits for a chore, if it has ended."""
        if chore_id is None or chore_id not in self.state:
            return
        if not self.state.entry(chore_id).state.is_terminal:
            return
        results = result_of(self.workflow.run, self.state, chore_id)
        for answer in self._asked.pop(chore_id):
            answer.set_result(results)

    def _submit(self, order: Submit) -> None:
        chore: Chore = order.chore
        try:
            request = self._preparer.prepare(order)
        except (OSError, FormatError) as error:
            detail = str(error)
            self._inbox.put(JobEnded(chore.id, order.attempt, None, Reason.IO_ERROR, detail))
            self._inbox.put(ResourcesFreed(chore.id, order.attempt))
            return
        self._executor.submit(request)

    def _publish(self, *, force: bool = False) -> None:
        """Publish the status; a projection that cannot be written must not end the run."""
        run_state = self._run_state
        if run_state is RunState.RUNNING and self.state.phase is Phase.PAUSED:
            run_state = RunState.PAUSED
        try:
            self._recorder.publish(
                self.state, run_state, self._journal.sequence, detail=self._detail, force=force
            )
        except OSError as error:
            if not self._has_told_of_status:
                self._logger.error("the status cannot be written, the run goes on: %s", error)
            self._has_told_of_status = True
        else:
            self._has_told_of_status = False

    def _watch_for_a_standstill(self, is_busy: bool) -> None:
        """Give up where nothing can happen any more: a run never hangs without a word."""
        state = self.state
        is_waiting = (
            state.num_live > len(self._unsettled)
            or state.phase is not Phase.STARTING
            or (not state.num_live and state.ledger.free_cores < state.allocation.num_cores)
        )
        now = self._clock.monotonic()
        if is_busy or is_waiting or state.is_finished:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since > MAX_IDLE_SECONDS:
            raise RunFailedError(str(self.workflow.run.root), self._describe_standstill())

    def _describe_standstill(self) -> str:
        if self._unsettled:
            chore_id, _ = next(iter(self._unsettled))
            return f"the processing strategy was told that {chore_id} ended, and does not settle it"
        waiting = next(entry for entry in self.state if not entry.state.is_terminal)
        story = self.state.story(waiting.chore.id)
        return f"nothing runs and nothing can be started: {story.chore_id} {story.because}"
