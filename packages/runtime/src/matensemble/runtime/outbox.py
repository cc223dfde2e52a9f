"""From what the state decided to what happens: the journal first, then the executor.

Owns that order, and what a disk that cannot be written means for it: nothing is started, what runs
goes on, nothing fails for it, and the write is tried again until it succeeds. Used by the engine,
on the thread that owns the state.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from matensemble import disk
from matensemble.disk import DISK_TROUBLE, NO_ROOM
from matensemble.errors import FormatError
from matensemble.model import Reason
from matensemble.runtime.clock import Clock
from matensemble.runtime.executors.base import Executor, JobEnded
from matensemble.runtime.journal import Journal
from matensemble.runtime.launch import Preparer
from matensemble.runtime.scheduler.events import (
    AttemptLost,
    DelayOver,
    ProbesOverdue,
    ResourcesFreed,
)
from matensemble.runtime.scheduler.instructions import (
    Cancel,
    Delay,
    Extend,
    Signal,
    Submit,
    Watch,
)
from matensemble.runtime.timer import Timer
from matensemble.workdir import RunDir

FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 30.0
PROBE_BYTES = 1 << 16
"""Written to find out whether there is room again: more than one chore's records need."""
PROBE_NAME = ".probe"

Order = Submit | Cancel | Delay | Watch | Extend | Signal


class Outbox:
    """Journals and carries out what the state orders.

    Parameters
    ----------
    run
        Where the disk is probed.
    journal, executor, preparer
        What orders go to.
    post
        Where the answers to orders go that could not be carried out.
    timer
        Where delays wait.
    clock
        For delays.
    logger
        Is told, once each time, when the disk cannot be written and when it can again.

    Attributes
    ----------
    problem
        Why nothing can be written, empty where everything can.
    """

    def __init__(
        self,
        run: RunDir,
        *,
        journal: Journal,
        executor: Executor,
        preparer: Preparer,
        post: Callable[[Any], None],
        timer: Timer[Any],
        clock: Clock,
        logger: logging.Logger,
    ) -> None:
        self.problem = ""
        self._run = run
        self._journal = journal
        self._executor = executor
        self._preparer = preparer
        self._post = post
        self._timer = timer
        self._clock = clock
        self._logger = logger
        self._orders: deque[Order] = deque()
        self._pause = FIRST_RETRY_SECONDS
        self._retry_at = 0.0
        self._well_since = float("-inf")
        self._refused: set[str] = set()  # chores whose directory failed while the disk did not

    @property
    def is_degraded(self) -> bool:
        """Whether the disk cannot be written, so that nothing is to be started."""
        return bool(self.problem)

    def add(self, order: Order) -> None:
        """Take an order, behind the records that the journal was given before; `send` sends it."""
        self._orders.append(order)

    def send(self) -> int:
        """Write the journal, then carry out the orders; return how many chores were handed over."""
        if not self._orders:
            return 0
        if self.problem or not self._flush():
            self._carry_out_what_needs_no_disk()
            return 0
        num_submitted = 0
        while self._orders and not self.problem:
            num_submitted += self._carry_out(self._orders.popleft())
        if num_submitted:
            self._executor.flush()
        return num_submitted

    def flush(self) -> None:
        """Write what was recorded, if the disk can be written."""
        if not self.problem:
            self._flush()

    def sync(self) -> None:
        """Bring what was recorded to the disk, if it can be written."""
        if self.problem:
            return
        try:
            self._journal.sync()
        except OSError as error:
            self.degrade(error)

    def degrade(self, error: OSError) -> None:
        """Start nothing until the disk can be written again."""
        problem = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        now = self._clock.monotonic()
        if not self.problem:
            # A disk that fails again soon is asked less often, not from the beginning.
            if now - self._well_since > LAST_RETRY_SECONDS:
                self._pause = FIRST_RETRY_SECONDS
            self._retry_at = now + self._pause
            self._logger.error(
                "files of the run cannot be written (%s): nothing is started until they can; "
                "what runs goes on",
                problem,
            )
        self.problem = problem

    def retry(self, now: float) -> bool:
        """Try to write again if that is due; return whether it succeeded just now."""
        if not self.problem or now < self._retry_at:
            return False
        try:
            self._journal.sync()
            self._probe()
        except OSError as error:
            self._pause = min(2 * self._pause, LAST_RETRY_SECONDS)
            self._retry_at = now + self._pause
            self.degrade(error)
            return False
        self._logger.warning("files of the run can be written again; the run goes on")
        self.problem, self._well_since = "", now
        self._pause = min(2 * self._pause, LAST_RETRY_SECONDS)
        self.send()
        return not self.problem

    def _flush(self) -> bool:
        try:
            self._journal.flush()
        except OSError as error:
            self.degrade(error)
            return False
        return True

    def _probe(self) -> None:
        path = self._run.out_dir / PROBE_NAME
        try:
            disk.write_atomic(path, b"\0" * PROBE_BYTES)
        finally:
            with suppress(OSError):
                path.unlink()

    # --- orders -------------------------------------------------------------------------------

    def _carry_out(self, order: Order) -> bool:
        """Carry out an order; return whether a chore was handed to the executor."""
        match order:
            case Submit():
                return self._submit(order)
            case Cancel():
                self._executor.cancel(order.chore_id, order.attempt)
            case Delay():
                due = self._clock.monotonic() + order.seconds
                self._timer.set(due, DelayOver(order.chore_id, order.attempt))
            case Watch():
                self._timer.set(self._clock.monotonic() + order.seconds, ProbesOverdue(order.group))
            case Extend():
                self._executor.extend(order.chore_id, order.attempt, order.duration)
            case Signal():
                self._executor.signal(order.chore_id, order.attempt, order.number)
        return False

    def _submit(self, order: Submit) -> bool:
        chore_id, attempt = order.chore.id, order.attempt
        try:
            request = self._preparer.prepare(order)
        except (OSError, FormatError) as error:
            if isinstance(error, OSError) and self._is_of_the_disk(error, chore_id):
                self.degrade(error)
                self._post(AttemptLost(chore_id, attempt, f"was not started: {error}"))
            else:
                self._post(JobEnded(chore_id, attempt, None, Reason.IO_ERROR, str(error)))
                self._post(ResourcesFreed(chore_id, attempt))
            return False
        self._refused.discard(chore_id)
        self._executor.submit(request)
        return True

    def _is_of_the_disk(self, error: OSError, chore_id: str) -> bool:
        """Whether an error is to be waited out: not where only one chore's files have it again."""
        if error.errno in NO_ROOM:
            return True
        if error.errno not in DISK_TROUBLE or chore_id in self._refused:
            return False
        self._refused.add(chore_id)
        return True

    def _carry_out_what_needs_no_disk(self) -> None:
        """Let what is to end, end; what is to start waits, or is given up if it is to end too."""
        waiting: dict[tuple[str, int], Submit] = {}
        others: list[Order] = []
        for order in self._orders:
            if isinstance(order, Submit):
                waiting[order.chore.id, order.attempt] = order
            elif isinstance(order, Cancel) and (order.chore_id, order.attempt) in waiting:
                del waiting[order.chore_id, order.attempt]
                ended = JobEnded(order.chore_id, order.attempt, None, Reason.CANCELLED)
                self._post(ended)
                self._post(ResourcesFreed(order.chore_id, order.attempt))
            else:
                others.append(order)
        self._orders = deque(waiting.values())
        for order in others:
            self._carry_out(order)
