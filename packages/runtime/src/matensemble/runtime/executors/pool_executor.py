"""An executor around another one, which serves pooled chores by warm workers.

Owns the way from the engine's thread, and from the threads of the executor inside, to the pool's
thread (`pool_driver`): everything is handed over through a queue and a pipe that wakes it, so a
submission costs the engine no more than that. Called by the engine, through the protocol in `base`.

::

    engine ── submit, cancel … ──> mailbox ──> pool_driver ── jobs, workers ──> executor inside
       ^                              ^          │   ^                              │
       │                              │          v   └── pool_link ── workers       │
       └────────── events ────────────┼── pool_book                                 │
       └────────── events of jobs ────┴─────────────────────────────────────────────┘
"""

from __future__ import annotations

import signal as signals
import threading
from collections.abc import Callable, Sequence

from matensemble.runtime.executors.base import (
    Executor,
    ExecutorEvent,
    ExecutorLost,
    Orphan,
    Post,
)
from matensemble.runtime.executors.mailbox import Mailbox
from matensemble.runtime.executors.pool_driver import Order, PoolDriver, PoolOptions, forward
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.scheduler.resources import Allocation


class PoolExecutor:
    """Runs pooled chores on warm workers, and all others on the executor inside.

    A warm worker is a job of the executor inside, one a node where there is work for it. It has all
    cores that are free there, and ends when it has had nothing to do for a while or when a job
    needs its cores. Where no worker can be had, `PoolLost` is posted and pooled chores are lost,
    for the scheduler to submit them as jobs.

    Parameters
    ----------
    inner
        The executor inside, not open.
    options
        What the pool needs to know of its run.
    """

    def __init__(self, inner: Executor, options: PoolOptions) -> None:
        self._inner = inner
        self._options = options
        self._post: Post | None = None
        self._mailbox: Mailbox[Order] | None = None
        self._driver: PoolDriver | None = None
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        """Name of the executor inside."""
        return self._inner.name

    @property
    def look_ahead(self) -> int:
        """How many jobs beyond what fits may queue at the executor inside."""
        return self._inner.look_ahead

    @property
    def pool_look_ahead(self) -> int:
        """How many pooled chores beyond what fits may queue at the workers that are there now."""
        return 0 if self._driver is None else self._driver.look_ahead

    @property
    def sees_files_late(self) -> bool:
        """Whether what a chore wrote on another host may be seen here some time after its end."""
        return self._inner.sees_files_late

    def open(self, post: Post, orphans: Sequence[Orphan] = ()) -> Allocation:
        """Open the executor inside, and start the thread that drives workers.

        Raises
        ------
        ExecutorUnavailableError
            If the executor inside cannot work here.
        """
        mailbox: Mailbox[Order] = Mailbox()
        self._mailbox, self._post = mailbox, post
        try:
            allocation = self._inner.open(self._take_event, orphans)
        except BaseException:
            self._mailbox = self._post = None
            mailbox.release()
            raise
        self._driver = PoolDriver(self._options, self._inner, allocation, self._tell, mailbox)
        self._thread = threading.Thread(
            target=self._driver.run, name="matensemble-pool", daemon=True
        )
        self._thread.start()
        return allocation

    def submit(self, request: LaunchRequest) -> None:
        """Hand a request over; the answer comes as events.

        Raises
        ------
        RuntimeError
            If the executor is not open.
        """
        if self._mailbox is None:
            raise RuntimeError("the executor is not open")
        self._mailbox.add(lambda driver: driver.book.submit(request))

    def flush(self) -> None:
        """Wake the thread that drives workers: what was submitted goes to them in one message."""
        if self._mailbox is not None:
            self._mailbox.wake()

    def cancel(self, chore_id: str, attempt: int) -> None:
        """End an attempt, wherever it stands; unknown ones are ignored."""
        self._order(lambda driver: driver.book.cancel((chore_id, attempt)))

    def signal(self, chore_id: str, attempt: int, number: int) -> None:
        """Send a signal to every process of an attempt; unknown ones are ignored.

        Raises
        ------
        ValueError
            If there is no such signal.
        """
        if number not in signals.valid_signals():
            raise ValueError(f"{number} is not the number of a signal")
        self._order(lambda driver: driver.book.signal((chore_id, attempt), int(number)))

    def extend(self, chore_id: str, attempt: int, duration: float) -> None:
        """Let an attempt run for `duration` seconds from its start; unknown ones are ignored."""
        self._order(lambda driver: driver.book.extend((chore_id, attempt), duration))

    def time_left(self) -> float | None:
        """Return the seconds until the allocation ends, as the executor inside knows them."""
        return self._inner.time_left()

    def close(self, *, abandon: bool = False) -> None:
        """End workers with what they run, and close the executor inside; may be called twice.

        Parameters
        ----------
        abandon
            Leave jobs where the executor inside does. Workers end by themselves: whoever drives
            the run now has no use for them.
        """
        self._post = None
        mailbox, self._mailbox = self._mailbox, None
        if mailbox is not None:
            mailbox.ask_to_close(abandon=abandon)
        if self._thread is not None:
            self._thread.join()
            self._thread = self._driver = None
        self._inner.close(abandon=abandon)

    def _order(self, order: Callable[[PoolDriver], None]) -> None:
        if self._mailbox is not None:
            self._mailbox.put(order)

    def _tell(self, event: ExecutorEvent) -> None:
        """Post an event, unless this is being closed."""
        post = self._post
        if post is not None:
            post(event)

    def _take_event(self, event: ExecutorEvent) -> None:
        """Take an event of the executor inside, on whatever thread it comes."""
        mailbox = self._mailbox
        if mailbox is None:
            return
        if isinstance(event, ExecutorLost):  # the last word: behind all that was told before
            mailbox.put(lambda driver: driver.lose(event))
            return
        if not self._is_of_worker(event):
            self._tell(event)
        mailbox.put(forward(event))

    def _is_of_worker(self, event: ExecutorEvent) -> bool:
        chore_id = getattr(event, "chore_id", None)
        driver = self._driver
        return chore_id is not None and driver is not None and driver.has_worker(chore_id)
