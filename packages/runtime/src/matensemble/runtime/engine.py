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

import logging
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

from matensemble.chore import Chore, ChoreSpec
from matensemble.errors import FormatError, RunFailedError, RunInterruptedError
from matensemble.model import ChoreState, OutputReference, Reason, RunState
from matensemble.results import Results
from matensemble.runtime.clock import SYSTEM_CLOCK, Clock
from matensemble.runtime.executors.base import Executor, ExecutorLost, JobEnded
from matensemble.runtime.journal import Journal
from matensemble.runtime.launch import Launcher
from matensemble.runtime.outcomes import result_of
from matensemble.runtime.recorder import Recorder
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
from matensemble.status import RecordKind
from matensemble.workflow import Workflow

SYNC_INTERVAL_SECONDS = 1.0
INTERRUPT_PATIENCE_SECONDS = 4.5
"""How long an interrupted run waits for its chores to end: TERM, KILL after 3 s, and a little."""
MAX_IDLE_ROUNDS = 20
"""Rounds in which nothing runs, nothing starts and nothing arrives, before the run gives up."""

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
    launcher, spawner
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
        launcher: Launcher,
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
        self._launcher = launcher
        self._spawner = spawner
        self._inbox = inbox
        self._buffer_time = buffer_time
        self._logger = logger
        self._clock = clock
        self._run_state = RunState.RUNNING
        self._detail = ""
        self._asked: dict[str, list[Future[Results]]] = {}
        self._unsettled: dict[tuple[str, int], list[ResourcesFreed]] = {}
        self._next_sync = clock.monotonic() + SYNC_INTERVAL_SECONDS
        self._interrupt_deadline = float("inf")
        self._idle_rounds = 0

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
            If the run was asked to stop; it can be continued.
        RunFailedError
            If the executor was lost, or nothing can make progress.
        """
        try:
            for chore in self.workflow.chores():
                self._handle(ChoreAdded(chore))
            self._publish(force=True)
            while not self.state.is_finished and not self._is_out_of_patience():
                strategy.process_futures(self._buffer_time)
                self._after_round()
            return self._conclude()
        except BaseException as error:
            if not self._run_state.is_terminal:
                self._end(RunState.INTERRUPTED, f"{type(error).__name__}: {error}")
            raise

    def _after_round(self) -> None:
        if self._clock.monotonic() >= self._next_sync:
            self._next_sync = self._clock.monotonic() + SYNC_INTERVAL_SECONDS
            self._journal.sync()
        self._publish()
        if self._idle_rounds > MAX_IDLE_ROUNDS:
            waiting = next(e for e in self.state if not e.state.is_terminal)
            raise RunFailedError(
                str(self.workflow.run.root),
                f"nothing runs and nothing can be started: {waiting.chore.id} "
                f"{self.state.story(waiting.chore.id).because}",
            )

    def _is_out_of_patience(self) -> bool:
        return self._clock.monotonic() > self._interrupt_deadline

    def _conclude(self) -> RunState:
        if self.state.phase is Phase.INTERRUPTING:
            left = self.state.num_live
            if left:
                self._detail += f"; {left} chores were left to the {self._executor.name} executor"
            self._end(RunState.INTERRUPTED, self._detail)
            raise RunInterruptedError(str(self.workflow.run.root), self._detail)
        counts = self.state.counts()
        end = RunState.COMPLETED
        if counts.failed:
            end = RunState.FAILED
        elif counts.cancelled:
            end = RunState.CANCELLED
        self._end(end)
        return end

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
        """Wait until an attempt has ended, and return all that have; none after `timeout` seconds.

        Facts of other kinds are handled on the way. Returns early when one of them could let
        something start, so that the caller considers it.
        """
        deadline = self._clock.monotonic() + timeout
        ended: list[JobEnded] = []
        is_news = False
        while True:
            patience = 0.0
            if not ended and not is_news:
                patience = min(deadline - self._clock.monotonic(), self._next_duty())
            try:
                event = (
                    self._inbox.get(timeout=patience) if patience > 0 else self._inbox.get_nowait()
                )
            except Empty:
                if ended or is_news or self._clock.monotonic() >= deadline:
                    break
                self._after_round()
                if self._is_out_of_patience():
                    break
                continue
            is_news = self._receive(event, ended) or is_news
        self._journal.flush()
        self._count_idle_round(bool(ended) or is_news)
        return ended

    def _next_duty(self) -> float:
        """Seconds until something is to be done that no event announces."""
        now = self._clock.monotonic()
        duty = min(max(self._recorder.due_in, 0.05), self._interrupt_deadline - now + 0.01)
        return max(duty, 0.001)

    def _receive(self, event: InboxEvent, ended: list[JobEnded]) -> bool:
        """Take one event; return whether it could let something start."""
        if isinstance(event, JobEnded):
            self._unsettled[event.chore_id, event.attempt] = []
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
        self._logger.warning("%s: ending what runs; the run can be continued", event.cause)
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
        for event in events:
            for instruction in self.state.handle(event):
                if type(instruction) is Record:
                    self._journal.append(instruction)
                    if instruction.chore_id is not None and instruction.chore_id in self._asked:
                        self._answer(instruction.chore_id)
                else:
                    orders.append(instruction)  # type: ignore[arg-type]
        if not orders:
            return 0
        self._journal.flush()
        num_submitted = 0
        for order in orders:
            if isinstance(order, Submit):
                self._submit(order)
                num_submitted += 1
            else:
                self._executor.cancel(order.chore_id, order.attempt)
        return num_submitted

    def _answer(self, chore_id: str) -> None:
        """Answer who waits for a chore, if it has ended."""
        if chore_id not in self.state or not self.state.entry(chore_id).state.is_terminal:
            return
        results = result_of(self.workflow.run, self.state, chore_id)
        for answer in self._asked.pop(chore_id):
            answer.set_result(results)

    def _submit(self, order: Submit) -> None:
        chore: Chore = order.chore
        try:
            request = self._launcher.prepare(order)
        except OSError as error:
            detail = f"{error.filename or self.workflow.run.chore_dir(chore.id)}: {error.strerror}"
            self._inbox.put(JobEnded(chore.id, order.attempt, None, Reason.IO_ERROR, detail))
            self._inbox.put(ResourcesFreed(chore.id, order.attempt))
            return
        self._executor.submit(request)

    def _publish(self, *, force: bool = False) -> None:
        run_state = self._run_state
        if run_state is RunState.RUNNING and self.state.phase is Phase.PAUSED:
            run_state = RunState.PAUSED
        self._recorder.publish(
            self.state, run_state, self._journal.sequence, detail=self._detail, force=force
        )

    def _count_idle_round(self, is_busy: bool) -> None:
        can_start = self.state.phase is Phase.STARTING
        if is_busy or self.state.num_live or not can_start:
            self._idle_rounds = 0
        else:
            self._idle_rounds += 1
