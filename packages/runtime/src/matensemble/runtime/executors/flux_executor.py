"""Chores as jobs of the Flux instance around the driver.

One thread holds the Flux handle (handles are not thread-safe) and runs its reactor; everything
asked of Flux is handed to it through a queue and a pipe that wakes it, so nothing polls and no call
into Flux happens where Ctrl-C is handled. All jobs are followed by one stream, the journal of the
job manager. What its events mean is the business of `job_table`, what is asked for that of
`jobspec`.

It never drains a node and changes no setting of the instance. Called by the engine, through the
protocol in `base`.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from matensemble import workdir
from matensemble.errors import ExecutorUnavailableError
from matensemble.model import Reason
from matensemble.protocols import RunOptions
from matensemble.runtime.executors.base import ExecutorEvent, ExecutorLost, Post
from matensemble.runtime.executors.flux import connect, load_flux, survey
from matensemble.runtime.executors.job_table import JOURNAL_EVENTS, Job, JobTable
from matensemble.runtime.executors.jobspec import JobspecEncoder
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.scheduler.resources import Allocation

LOGGER = logging.getLogger("matensemble.executors.flux")

MAX_UNANSWERED = 256
"""Submissions that Flux has not answered yet; more wait here. Flux takes in what arrives within
10 ms at once, so a window keeps it busy; without a bound a large wave would fill its queues."""

CLOSE_SECONDS = 8.0
"""How long `close` waits for cancelled jobs: Flux itself waits 5 s between TERM and KILL."""

OPEN_SECONDS = 60.0
"""How long `open` waits for an instance to tell what it has and what it runs."""

ABANDON_SECONDS = 0.5
"""How long a failed `open` waits for its thread, which has no jobs and may hang in Flux."""

EXEC_EVENTLOG = "guest.exec.eventlog"


class FluxExecutor:
    """Runs chores as jobs of a Flux instance.

    Parameters
    ----------
    run_name
        Written into each job's ``attributes.user.matensemble.run``.
    uri
        The instance; None means the one around this process.
    reserve_broker_node
        Whether rank 0 is left to the broker where there are more nodes; None means yes.
    set_cpu_affinity, set_gpu_affinity, mpi_pmi, extra_attributes
        As for `JobspecEncoder`.
    """

    def __init__(
        self,
        run_name: str = "",
        *,
        uri: str | None = None,
        reserve_broker_node: bool | None = None,
        set_cpu_affinity: bool = True,
        set_gpu_affinity: bool = False,
        mpi_pmi: str = "pmi2",
        extra_attributes: Mapping[str, Any] | None = None,
    ) -> None:
        self._uri = uri
        self._reserve_broker_node = reserve_broker_node
        self._encoder_options: dict[str, Any] = {
            "run": run_name,
            "set_cpu_affinity": set_cpu_affinity,
            "set_gpu_affinity": set_gpu_affinity,
            "mpi_pmi": mpi_pmi,
            "extra_attributes": extra_attributes,
        }
        self._num_cores = 0
        self._thread: threading.Thread | None = None
        self._mailbox: _Mailbox | None = None

    @classmethod
    def from_options(cls, options: RunOptions, *, run_name: str) -> FluxExecutor:
        """Return the executor that the settings of a run describe."""
        return cls(
            run_name,
            reserve_broker_node=options.reserve_broker_node,
            set_cpu_affinity=options.set_cpu_affinity,
            set_gpu_affinity=options.set_gpu_affinity,
            mpi_pmi=options.mpi_pmi,
        )

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

    def open(self, post: Post) -> Allocation:
        """Connect to the instance and start to follow its jobs.

        Raises
        ------
        ExecutorUnavailableError
            If Flux cannot be used here.
        """
        opened: Future[Allocation] = Future()
        self._mailbox = mailbox = _Mailbox()

        def post_while_open(event: ExecutorEvent) -> None:
            if self._mailbox is mailbox:  # a thread that was left behind has nothing to say
                post(event)

        driver = _Driver(mailbox, post_while_open, self._encoder_options)
        self._thread = threading.Thread(
            target=driver.run,
            args=(self._uri, self._reserve_broker_node, opened),
            name="matensemble-flux",
            daemon=True,
        )
        try:
            self._thread.start()
            allocation = opened.result(OPEN_SECONDS)
        except TimeoutError as error:
            self._leave(ABANDON_SECONDS)
            raise ExecutorUnavailableError(
                "flux",
                f"the instance did not answer within {OPEN_SECONDS:g} s",
                "See whether `flux uptime` and `flux resource list` answer",
            ) from error
        except BaseException:
            self._leave(ABANDON_SECONDS)
            raise
        self._num_cores = allocation.num_cores
        return allocation

    def submit(self, request: LaunchRequest) -> None:
        """Hand a request over; the answer comes as events."""
        self._tell(lambda driver: driver.submit(request))

    def cancel(self, chore_id: str, attempt: int) -> None:
        """End an attempt: TERM, and KILL after the time that the instance is configured for."""
        self._tell(lambda driver: driver.cancel((chore_id, attempt)))

    def close(self) -> None:
        """Cancel what is left, wait for its end, and leave; may be called twice.

        Waits at most `CLOSE_SECONDS`; what Flux has not ended by then, it will.
        """
        self._leave(CLOSE_SECONDS + 2.0)  # a broker that hangs must not hold the driver

    def _leave(self, patience: float) -> None:
        self._tell(lambda driver: driver.close())
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(patience)
        self._thread = None
        self._mailbox = None

    def _tell(self, order: Callable[[_Driver], None]) -> None:
        if self._mailbox is not None:
            self._mailbox.put(order)


class _Mailbox:
    """Orders for the Flux thread, and the pipe that wakes it."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)
        self._orders: deque[Callable[[_Driver], None]] = deque()
        self._lock = threading.Lock()
        self._is_awake = False
        self._is_closed = False

    def put(self, order: Callable[[_Driver], None]) -> None:
        """Add an order; after `close` it is dropped."""
        with self._lock:
            if self._is_closed:
                return
            self._orders.append(order)
            if not self._is_awake:
                self._is_awake = True
                os.write(self._writer, b"\0")

    def take(self) -> list[Callable[[_Driver], None]]:
        """Return all orders and fall asleep."""
        with self._lock:
            if self._is_awake:
                os.read(self.reader, 1)
                self._is_awake = False
            orders = [*self._orders]
            self._orders.clear()
            return orders

    def close(self) -> None:
        """Release the pipe."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                os.close(self.reader)
                os.close(self._writer)


class _Driver:
    """What runs on the Flux thread."""

    def __init__(self, mailbox: _Mailbox, post: Post, encoder_options: Mapping[str, Any]) -> None:
        self._mailbox = mailbox
        self._post = post
        self._encoder_options = encoder_options
        self._waiting: deque[tuple[LaunchRequest, Job]] = deque()
        self._unanswered = 0
        self._is_closing = False
        self._is_leaving = False
        self._watchers: list[Any] = []
        self._opened: Future[Allocation]
        self._allocation: Allocation

    def run(
        self, uri: str | None, reserve_broker_node: bool | None, opened: Future[Allocation]
    ) -> None:
        """Serve until closed or lost; resolve `opened` once jobs can be followed."""
        self._opened = opened
        cause: Exception | None = None
        try:
            self._connect(uri, reserve_broker_node)
            self._handle.reactor_run()
            problem = "the reactor of the Flux handle ended"
        except ExecutorUnavailableError as error:
            opened.set_exception(error)
        except Exception as error:
            problem, cause = f"{type(error).__name__}: {error}", error
        finally:
            self._release()
        if not opened.done():
            lost = ExecutorUnavailableError(
                "flux",
                f"the instance was lost before it told what it has and runs ({problem})",
                "See whether `flux uptime` and `flux resource list` answer",
            )
            lost.__cause__ = cause
            opened.set_exception(lost)
        elif opened.exception() is None and not self._is_closing:
            LOGGER.error("the Flux instance is lost: %s", problem)
            self._post(ExecutorLost(f"the Flux instance does not answer any more ({problem})"))

    def _connect(self, uri: str | None, reserve_broker_node: bool | None) -> None:
        self._flux = flux = load_flux()
        self._handle = connect(uri)
        instance = survey(self._handle, reserve_broker_node)
        if not instance.ranks:
            raise ExecutorUnavailableError(
                "flux", "the instance has no node that is up", "Look at `flux resource status`"
            )
        self._allocation = instance.allocation
        self._encoder = JobspecEncoder(
            **self._encoder_options,
            environ=os.environ,
            ranks=instance.ranks,
            barred=instance.barred,
        )
        self._table = JobTable(
            nodes={rank: index for index, rank in enumerate(instance.ranks)},
            hosts=[node.name for node in instance.allocation.nodes],
            format_jobid=lambda jobid: str(flux.job.JobID(jobid).f58plain),
            ask_signal=self._ask_signal,
        )
        wake = self._handle.fd_watcher_create(
            self._mailbox.reader, self._on_wake, flux.constants.FLUX_POLLIN
        )
        self._watchers.append(wake.start())
        request = {"full": False, "allow": dict.fromkeys(JOURNAL_EVENTS, 1)}
        self._journal = self._handle.rpc(
            "job-manager.events-journal", request, 0, flux.constants.FLUX_RPC_STREAMING
        )
        self._journal.then(self._on_journal)

    def _release(self) -> None:
        """Let go of the handle, which a watcher or a pending future would keep open."""
        for watcher in self._watchers:
            watcher.stop()
            watcher.destroy()
        self._watchers.clear()
        self._mailbox.close()

    # --- orders ---------------------------------------------------------------------------------

    def _on_wake(self, *_: Any) -> None:
        for order in self._mailbox.take():
            order(self)
        self._pump()

    def submit(self, request: LaunchRequest) -> None:
        """Take a request."""
        self._waiting.append((request, self._table.add(request)))

    def cancel(self, key: tuple[str, int]) -> None:
        """End an attempt, wherever it stands; unknown ones are ignored."""
        job = self._table.get(key)
        if job is None or job.is_cancelled:
            return
        job.is_cancelled = True
        if job.jobid is not None:
            self._cancel_job(job)

    def close(self) -> None:
        """End all attempts, then the reactor."""
        if self._is_closing:
            return
        self._is_closing = True
        for job in self._table:
            self.cancel(job.key)
        self._pump()
        deadline = self._handle.timer_watcher_create(CLOSE_SECONDS, self._give_up)
        self._watchers.append(deadline.start())
        self._leave_when_done()

    def _give_up(self, *_: Any) -> None:
        if len(self._table):
            LOGGER.warning("%d jobs are left for Flux to end", len(self._table))
        self._leave()

    def _leave_when_done(self) -> None:
        if self._is_closing and not len(self._table):
            self._leave()

    def _leave(self) -> None:
        if not self._is_leaving:
            self._is_leaving = True
            self._handle.rpc(  # the stream ends with ENODATA, and the reactor with it
                "job-manager.events-journal-cancel",
                {"matchtag": self._journal.pimpl.get_matchtag()},
                0,
                self._flux.constants.FLUX_RPC_NORESPONSE,
            )

    # --- submission -----------------------------------------------------------------------------

    def _pump(self) -> None:
        while self._waiting and self._unanswered < MAX_UNANSWERED:
            request, job = self._waiting.popleft()
            if job.is_cancelled:
                self._emit(self._table.refuse(job, Reason.CANCELLED, ""))
            else:
                self._submit(request, job)

    def _submit(self, request: LaunchRequest, job: Job) -> None:
        try:
            jobspec = self._encoder.encode(request)
            for path in (request.stdout_path, request.stderr_path):
                make_empty(path)
            future = self._flux.job.submit_async(self._handle, jobspec, novalidate=True)
        except ValueError as error:
            self._emit(self._table.refuse(job, Reason.SUBMIT_ERROR, str(error)))
        except OSError as error:
            self._emit(self._table.refuse(job, Reason.IO_ERROR, str(error)))
        else:
            self._unanswered += 1
            future.then(self._on_submitted, job)

    def _on_submitted(self, future: Any, job: Job) -> None:
        self._unanswered -= 1
        try:
            future.get_id()
        except OSError as error:
            self._emit(self._table.refuse(job, Reason.SUBMIT_ERROR, f"Flux: {error}"))
        self._pump()

    def _cancel_job(self, job: Job) -> None:
        future = self._flux.job.cancel_async(self._handle, job.jobid, "cancelled by MatEnsemble")
        future.then(self._on_cancelled, job)

    def _on_cancelled(self, future: Any, job: Job) -> None:
        try:
            future.get()
        except OSError as error:  # it ended by itself meanwhile
            LOGGER.debug("%s was not cancelled: %s", job.key[0], error)

    # --- what Flux tells ------------------------------------------------------------------------

    def _on_journal(self, future: Any) -> None:
        try:
            message = future.get()
        except OSError as error:
            if not (self._is_closing and error.errno == errno.ENODATA):
                raise
            self._handle.reactor_stop()
            return
        future.reset()
        if message["id"] == -1:  # the past is told; from here on everything is new
            if not self._opened.done():
                self._opened.set_result(self._allocation)
            return
        for event in message["events"]:
            self._emit(self._table.apply(message["id"], event, message))
            if event["name"] == "submit":
                job = self._table.find(message["id"])
                if job is not None and job.is_cancelled:  # before Flux had given it an id
                    self._cancel_job(job)

    def _emit(self, events: list[ExecutorEvent]) -> None:
        for event in events:
            self._post(event)
        self._leave_when_done()

    def _ask_signal(self, job: Job) -> None:
        """Ask how the task of a job itself ended: the job's own status hides signals."""
        request = {"id": job.jobid, "keys": [EXEC_EVENTLOG], "flags": 0}
        self._handle.rpc("job-info.lookup", request).then(self._on_signal, job)

    def _on_signal(self, future: Any, job: Job) -> None:
        try:
            log = future.get()[EXEC_EVENTLOG]
        except OSError as error:
            LOGGER.debug("no record of how the tasks of %s ended: %s", job.key[0], error)
            log = ""
        self._emit(self._table.answer(job, _task_status(log)))


def _task_status(eventlog: str) -> int | None:
    """Return the wait status of the first task to end, None where it is not recorded."""
    for line in eventlog.splitlines():
        event = json.loads(line)
        if event["name"] == "shell.task-exit":
            status = event.get("context", {}).get("wait_status")
            return None if status is None else int(status)
    return None


def make_empty(path: Path) -> None:
    """Create or truncate a file for its owner alone; Flux would let everyone read it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, workdir.FILE_MODE)
    os.close(descriptor)
