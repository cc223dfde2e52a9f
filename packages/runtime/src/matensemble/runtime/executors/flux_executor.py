"""Chores as jobs of the Flux instance around the driver.

Owns the way from the engine's thread to the one that holds the Flux handle and runs its reactor
(`flux_driver`): everything asked of Flux is handed over through a queue and a pipe that wakes it,
so nothing polls and no call into Flux happens where Ctrl-C is handled. Called by the engine,
through the protocol in `base`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from matensemble.errors import ExecutorUnavailableError
from matensemble.protocols import RunOptions
from matensemble.runtime.executors.base import ExecutorEvent, Orphan, Post
from matensemble.runtime.executors.flux_driver import CLOSE_SECONDS, Driver, Opened, Order
from matensemble.runtime.executors.mailbox import Mailbox
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.scheduler.resources import Allocation

OPEN_SECONDS = 60.0
"""How long `open` waits for an instance to tell what it has and what it runs."""

ABANDON_SECONDS = 0.5
"""How long a failed `open` waits for its thread, which has no jobs and may hang in Flux."""


class FluxExecutor:
    """Runs chores as jobs of a Flux instance.

    Parameters
    ----------
    run_label
        What no other run has, the absolute path of the run directory: jobs of the run are told
        by it (``attributes.user.matensemble.run``), also by later drivers.
    epoch
        Of this driver of the run: jobs that an earlier one submits after this one has taken over
        are cancelled.
    uri
        The instance; None means the one around this process.
    reserve_broker_node
        Whether rank 0 is left to the broker where there are more nodes; None means yes.
    set_cpu_affinity, set_gpu_affinity, mpi_pmi, extra_attributes
        As for `JobspecEncoder`.
    """

    def __init__(
        self,
        run_label: str,
        *,
        epoch: int = 1,
        uri: str | None = None,
        reserve_broker_node: bool | None = None,
        set_cpu_affinity: bool = True,
        set_gpu_affinity: bool = False,
        mpi_pmi: str = "pmi2",
        extra_attributes: Mapping[str, Any] | None = None,
    ) -> None:
        self._run_label = run_label
        self._epoch = epoch
        self._uri = uri
        self._reserve_broker_node = reserve_broker_node
        self._encoder_options: dict[str, Any] = {
            "set_cpu_affinity": set_cpu_affinity,
            "set_gpu_affinity": set_gpu_affinity,
            "mpi_pmi": mpi_pmi,
            "extra_attributes": extra_attributes,
        }
        self._num_cores = 0
        self._thread: threading.Thread | None = None
        self._mailbox: Mailbox[Order] | None = None
        self._expiration: float | None = None

    @classmethod
    def from_options(cls, options: RunOptions, *, run_label: str, epoch: int = 1) -> FluxExecutor:
        """Return the executor that the settings of a run describe."""
        return cls(
            run_label,
            epoch=epoch,
            reserve_broker_node=options.reserve_broker_node,
            set_cpu_affinity=options.set_cpu_affinity,
            set_gpu_affinity=options.set_gpu_affinity,
            mpi_pmi=options.mpi_pmi,
        )

    pool_look_ahead = None

    @property
    def name(self) -> str:
        """Name in messages and in `status.json`."""
        return "flux"

    @property
    def look_ahead(self) -> int:
        """How many chores beyond what fits may queue at Flux.

        From submission to start a job takes about 30 ms in Flux (two batches of 10 ms, then the
        scheduler), in which it starts up to a few dozen others. Twice the cores keeps it busy even
        where all chores end at once; more would only take the choice of order away from the
        scheduler here, since Flux never lets a small job pass a large one.
        """
        return min(max(16, 2 * self._num_cores), 256)

    @property
    def sees_files_late(self) -> bool:
        """Whether what a chore wrote may be seen here later: yes, on a network file system."""
        return True

    def open(self, post: Post, orphans: Sequence[Orphan] = ()) -> Allocation:
        """Connect to the instance and start to follow its jobs.

        Orphans are looked for by their labels, among the jobs that run and those that Flux
        remembers; what happened to them is posted before this returns.

        Raises
        ------
        ExecutorUnavailableError
            If Flux cannot be used here.
        """
        opened: Future[Opened] = Future()
        mailbox: Mailbox[Order] = Mailbox()
        self._mailbox = mailbox

        def post_while_open(event: ExecutorEvent) -> None:
            if self._mailbox is mailbox:  # a thread that was left behind has nothing to say
                post(event)

        driver = Driver(
            mailbox,
            post_while_open,
            run=self._run_label,
            epoch=self._epoch,
            encoder_options=self._encoder_options,
            orphans=orphans,
        )
        self._thread = threading.Thread(
            target=driver.run,
            args=(self._uri, self._reserve_broker_node, opened),
            name="matensemble-flux",
            daemon=True,
        )
        try:
            self._thread.start()
            allocation, self._expiration = _wait_for(opened, driver)
        except TimeoutError as error:
            self._leave(ABANDON_SECONDS, abandon=True)
            raise ExecutorUnavailableError(
                "flux",
                f"the instance did not answer within {OPEN_SECONDS:g} s",
                "See whether `flux uptime` and `flux resource list` answer",
            ) from error
        except BaseException:
            self._leave(ABANDON_SECONDS, abandon=True)
            raise
        self._num_cores = allocation.num_cores
        return allocation

    def submit(self, request: LaunchRequest) -> None:
        """Hand a request over; the answer comes as events."""
        self._tell(lambda jobs: jobs.submit(request))

    def flush(self) -> None:
        """Do nothing: what was submitted is on its way."""

    def cancel(self, chore_id: str, attempt: int) -> None:
        """End an attempt: TERM, and KILL after the time that the instance is configured for."""
        self._tell(lambda jobs: jobs.cancel((chore_id, attempt)))

    def signal(self, chore_id: str, attempt: int, number: int) -> None:
        """Send a signal to all processes of an attempt, once it runs.

        Where the connection to Flux breaks at that moment, it may arrive twice.
        """
        self._tell(lambda jobs: jobs.signal((chore_id, attempt), number))

    def extend(self, chore_id: str, attempt: int, duration: float) -> None:
        """Let an attempt run for `duration` seconds from its start."""
        self._tell(lambda jobs: jobs.extend((chore_id, attempt), duration))

    def time_left(self) -> float | None:
        """Return the seconds until the instance ends, None where no end is known."""
        return None if self._expiration is None else max(0.0, self._expiration - time.time())

    def close(self, *, abandon: bool = False) -> None:
        """Cancel what is left, wait for its end, and leave; may be called twice.

        Waits at most `CLOSE_SECONDS`; what Flux has not ended by then, it will.

        Parameters
        ----------
        abandon
            Cancel nothing: jobs live on without this process.
        """
        # A broker that hangs must not hold the driver.
        self._leave(ABANDON_SECONDS if abandon else CLOSE_SECONDS + 2.0, abandon=abandon)

    def _leave(self, patience: float, *, abandon: bool) -> None:
        if self._mailbox is not None:
            self._mailbox.ask_to_close(abandon=abandon)
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(patience)
        self._thread = None
        self._mailbox = None

    def _tell(self, order: Order) -> None:
        if self._mailbox is not None:
            self._mailbox.put(order)


def _wait_for(opened: Future[Opened], driver: Driver) -> Opened:
    """Return what opening found, as long as the instance goes on to tell of the past."""
    heard = 0
    while True:
        try:
            return opened.result(OPEN_SECONDS)
        except TimeoutError:
            if driver.num_heard == heard:
                raise
            heard = driver.num_heard
