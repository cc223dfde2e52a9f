"""What runs on the Flux thread: orders in, events of jobs out, through lost connections.

Owns the sequence of everything that is asked of Flux. All jobs are followed by one stream, the
journal of the job manager; what its events mean is the business of `job_table`, what is asked for
that of `jobspec`. A connection that breaks is made anew, and the journal is read from its
beginning: the table posts what it has not posted yet, and what Flux never received is sent again.

It never drains a node and changes no setting of the instance. Started by `flux_executor`.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from matensemble import workdir
from matensemble.errors import ExecutorUnavailableError
from matensemble.model import Reason
from matensemble.runtime.executors.base import ExecutorEvent, ExecutorLost, Orphan, Post
from matensemble.runtime.executors.flux import (
    connect,
    find_expiration,
    identify,
    load_flux,
    survey,
)
from matensemble.runtime.executors.flux_connection import BROKEN, Connection
from matensemble.runtime.executors.job_table import (
    CANCEL_NOTE,
    JOURNAL_EVENTS,
    Job,
    JobTable,
    Key,
    Message,
)
from matensemble.runtime.executors.jobspec import JobspecEncoder, Label
from matensemble.runtime.executors.mailbox import Mailbox
from matensemble.runtime.executors.node_watch import NodeWatch
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.scheduler.resources import Allocation

LOGGER = logging.getLogger("matensemble.executors.flux")

MAX_UNANSWERED = 256
"""Submissions that Flux has not answered yet; more wait here. Flux takes in what arrives within
10 ms at once, so a window keeps it busy; without a bound a large wave would fill its queues."""

CLOSE_SECONDS = 8.0
"""How long to wait for cancelled jobs: Flux itself waits 5 s between TERM and KILL."""

RECONNECT_SECONDS = 60.0
"""How long to look for an instance that does not answer any more."""

FIRST_DELAY_SECONDS = 1.0
"""Before the first attempt to connect again; each further one waits twice as long. Submissions that
the broker had received are in the journal by then, so that they are not sent twice."""

LONGEST_DELAY_SECONDS = 8.0

EXEC_EVENTLOG = "guest.exec.eventlog"

JOURNAL = "job-manager.events-journal"
RESOURCE_JOURNAL = "resource.journal"


class Opened(NamedTuple):
    """What is known once jobs can be followed."""

    allocation: Allocation
    expiration: float | None
    """When the instance ends, by wall clock; None where that is not known."""


class Driver:
    """Serves one run on one instance.

    Parameters
    ----------
    mailbox
        Where orders come from; released at the end.
    post
        Where events go.
    run, epoch
        As for `JobspecEncoder`.
    encoder_options
        The other options of `JobspecEncoder` that are no facts of the instance.
    orphans
        Attempts of an earlier driver.
    """

    def __init__(
        self,
        mailbox: Mailbox[Callable[[Driver], None]],
        post: Post,
        *,
        run: str,
        epoch: int,
        encoder_options: Mapping[str, Any],
        orphans: Sequence[Orphan],
    ) -> None:
        self._mailbox = mailbox
        self._post = post
        self._run = run
        self._epoch = epoch
        self._encoder_options = encoder_options
        self._orphans = orphans
        self._orders: deque[Callable[[Driver], None]] = deque()
        self._waiting: deque[Job] = deque()
        self._unanswered = 0
        self._asked: dict[Callable[[], Any], str] = {}
        self._questions: deque[Callable[[], None]] = deque()
        self._history: list[Message] = []
        self._is_caught_up = False
        self._is_closing = False
        self._is_leaving = False
        self._lost_at: float | None = None
        self._opened: Future[Opened]
        self._connection: Connection

    # --- connections ----------------------------------------------------------------------------

    def run(
        self, uri: str | None, reserve_broker_node: bool | None, opened: Future[Opened]
    ) -> None:
        """Serve until closed or lost; resolve `opened` once jobs can be followed."""
        self._opened = opened
        try:
            self._begin(connect(uri), reserve_broker_node)
            while not self._is_leaving:
                try:
                    self._serve()
                except OSError as error:
                    if not opened.done():
                        raise
                    self._reconnect(uri, error)
        except Exception as error:
            self._tell_of(error)
        finally:
            self._mailbox.release()

    def _tell_of(self, error: Exception) -> None:
        """Say that it is over, to whoever can still be told."""
        problem = str(error)
        if isinstance(error, ExecutorUnavailableError):
            problem = error.problem
        elif type(error) is not ConnectionError:  # that one is ours, the others are Flux's
            problem = f"{type(error).__name__}: {error}"
        if not self._opened.done():
            if not isinstance(error, ExecutorUnavailableError):
                lost = ExecutorUnavailableError(
                    "flux",
                    f"the instance was lost before it told what it has and runs ({problem})",
                    "See whether `flux uptime` and `flux resource list` answer",
                )
                lost.__cause__ = error
                error = lost
            self._opened.set_exception(error)
        elif not self._mailbox.closing.is_set():
            LOGGER.error("the Flux instance is lost: %s", problem)
            self._post(ExecutorLost(f"the Flux instance does not answer any more ({problem})"))

    def _begin(self, handle: Any, reserve_broker_node: bool | None) -> None:
        self._flux = flux = load_flux()
        instance = survey(handle, reserve_broker_node)
        if not instance.ranks:
            raise ExecutorUnavailableError(
                "flux", "the instance has no node that is up", "Look at `flux resource status`"
            )
        self._identity = identify(handle)
        self._result = Opened(instance.allocation, find_expiration(handle))
        self._encoder = JobspecEncoder(
            run=self._run,
            epoch=self._epoch,
            **self._encoder_options,
            environ=os.environ,
            ranks=instance.ranks,
            barred=instance.barred,
        )
        nodes = {rank: index for index, rank in enumerate(instance.ranks)}
        self._nodes = NodeWatch(nodes)
        self._table = JobTable(
            self._run,
            self._epoch,
            nodes=nodes,
            hosts=[node.name for node in instance.allocation.nodes],
            format_jobid=lambda jobid: str(flux.job.JobID(jobid).f58plain),
            ask_signal=lambda job: self._questions.append(partial(self._ask_signal, job)),
            turn_away=lambda jobid, label: self._questions.append(
                partial(self._turn_away, jobid, label)
            ),
        )
        for orphan in self._orphans:
            self._table.adopt(orphan)
        self._connection = Connection(handle)

    def _serve(self) -> None:
        """Follow all jobs and carry out orders, until it is time to leave."""
        connection = self._connection
        # Of inactive jobs only a driver that missed something wants to hear.
        is_behind = bool(self._orphans) or self._lost_at is not None
        self._history.clear()
        self._questions.clear()
        self._is_caught_up = self._is_closing = False
        self._nodes.begin()
        try:
            connection.watch(self._mailbox.reader, self._on_wake)
            payload = {"full": is_behind, "allow": dict.fromkeys(JOURNAL_EVENTS, 1)}
            connection.follow(JOURNAL, payload, self._on_journal, _raise)
            connection.follow(RESOURCE_JOURNAL, {}, self._on_nodes, self._on_nodes_end)
            self._carry_out()
            if not self._is_leaving:
                connection.run()
        finally:
            connection.release()
        if not self._is_leaving:
            raise ConnectionError("the reactor of the Flux handle ended")

    def _reconnect(self, uri: str | None, error: OSError) -> None:
        """Connect again to the same instance.

        Raises
        ------
        ExecutorUnavailableError, OSError
            If it does not come back.
        """
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            LOGGER.warning("the connection to Flux is lost (%s), looking for it again", error)
        delay = FIRST_DELAY_SECONDS
        while True:
            is_closing = self._mailbox.closing.wait(delay)
            try:
                handle = connect(uri)
                identity = identify(handle)
                break
            except (ExecutorUnavailableError, OSError):
                delay = min(2 * delay, LONGEST_DELAY_SECONDS)
                if is_closing or time.monotonic() + delay > self._lost_at + RECONNECT_SECONDS:
                    raise
        if identity != self._identity:
            raise ExecutorUnavailableError(
                "flux", "another instance is at its address now", "Resume the run"
            )
        self._connection = Connection(handle)

    # --- orders ---------------------------------------------------------------------------------

    def _on_wake(self) -> None:
        self._orders.extend(self._mailbox.take())
        self._carry_out()

    def _carry_out(self) -> None:
        """Do what was ordered, as far as that is possible before all jobs are known."""
        if self._is_caught_up:
            while self._orders:
                self._orders.popleft()(self)
            self._pump()
        if self._mailbox.closing.is_set():
            self._close()

    def submit(self, request: LaunchRequest) -> None:
        """Take a request."""
        self._waiting.append(self._table.add(request))

    def cancel(self, key: Key) -> None:
        """End an attempt, wherever it stands; unknown ones are ignored."""
        job = self._table.get(key)
        if job is None or job.is_cancelled:
            return
        job.is_cancelled = True
        if job.jobid is not None:
            self._cancel_job(job.jobid)

    def signal(self, key: Key, number: int) -> None:
        """Send a signal to all processes of an attempt; unknown ones are ignored."""
        job = self._table.get(key)
        if job is not None and job.jobid is not None:
            jobid = job.jobid
            kill = self._flux.job.kill_async
            self._ask(
                lambda: kill(self._connection.handle, jobid, number),
                f"signal {number} did not reach {job.key[0]}",
            )

    def extend(self, key: Key, duration: float) -> None:
        """Change the time limit of an attempt; unknown ones are ignored."""
        job = self._table.get(key)
        if job is None:
            return
        job.duration = duration
        if job.jobid is None:
            job.is_extended = True
        else:
            self._update_limit(job.jobid, job)

    def _update_limit(self, jobid: int, job: Job) -> None:
        request = {"id": jobid, "updates": {"attributes.system.duration": float(job.duration or 0)}}
        self._ask(
            lambda: self._connection.handle.rpc("job-manager.update", request),
            f"the duration of {job.key[0]} was not changed",
        )

    def _cancel_job(self, jobid: int) -> None:
        cancel = self._flux.job.cancel_async
        self._ask(
            lambda: cancel(self._connection.handle, jobid, CANCEL_NOTE),
            f"job {jobid} was not cancelled",
        )

    def _ask(self, send: Callable[[], Any], otherwise: str) -> None:
        """Ask something of Flux, again where the connection breaks before the answer.

        Parameters
        ----------
        send
            Sends the request, and returns its future.
        otherwise
            What to say where Flux declines, mostly because the job has ended meanwhile.
        """
        self._asked[send] = otherwise
        self._send(send)

    def _send(self, send: Callable[[], Any]) -> None:
        self._connection.expect(send(), partial(self._on_asked, send))

    def _on_asked(self, send: Callable[[], Any], future: Any) -> None:
        otherwise = self._asked.pop(send)
        try:
            future.get()
        except OSError as error:
            LOGGER.info("%s: %s", otherwise, error)

    def _close(self) -> None:
        """End all attempts, then leave; or leave them to others."""
        if self._mailbox.is_abandoned or not self._opened.done():
            self._leave()
            return
        if not self._is_closing:
            self._is_closing = True
            self._connection.after(CLOSE_SECONDS, self._give_up)
        if self._is_caught_up:
            for job in self._table:
                self.cancel(job.key)
            self._pump()
            self._leave_when_done()

    def _give_up(self) -> None:
        if len(self._table):
            LOGGER.warning("%d jobs are left for Flux to end", len(self._table))
        self._leave()

    def _leave_when_done(self) -> None:
        if self._is_closing and self._is_caught_up and not len(self._table):
            self._leave()

    def _leave(self) -> None:
        if not self._is_leaving:
            self._is_leaving = True
            self._connection.stop()

    # --- submission -----------------------------------------------------------------------------

    def _pump(self) -> None:
        while self._waiting and self._unanswered < MAX_UNANSWERED:
            job = self._waiting.popleft()
            if job.is_cancelled:
                self._emit(self._table.refuse(job, Reason.CANCELLED, ""))
            elif job.request is not None:
                self._submit(job.request, job)

    def _submit(self, request: LaunchRequest, job: Job) -> None:
        try:
            jobspec = self._encoder.encode(request)
            for path in (request.stdout_path, request.stderr_path):
                make_empty(path)
        except ValueError as error:
            self._emit(self._table.refuse(job, Reason.SUBMIT_ERROR, str(error)))
            return
        except OSError as error:
            self._emit(self._table.refuse(job, Reason.IO_ERROR, str(error)))
            return
        try:
            future = self._flux.job.submit_async(self._connection.handle, jobspec, novalidate=True)
        except OSError as error:
            if error.errno in BROKEN:
                raise
            self._emit(self._table.refuse(job, Reason.SUBMIT_ERROR, f"Flux: {error}"))
            return
        self._unanswered += 1
        self._connection.expect(future, partial(self._on_submitted, job))

    def _on_submitted(self, job: Job, future: Any) -> None:
        self._unanswered -= 1
        try:
            future.get_id()
        except OSError as error:
            self._emit(self._table.refuse(job, Reason.SUBMIT_ERROR, f"Flux: {error}"))
        self._pump()

    # --- what Flux tells ------------------------------------------------------------------------

    def _on_journal(self, message: Message) -> None:
        if self._is_caught_up:
            self._emit(self._table.take(message))
            job = self._table.find(message["id"]) if "jobspec" in message else None
            if job is not None:
                self._make_up(job)
        elif message["id"] == -1:  # the past is told; from here on everything is new
            self._on_past_told()
        elif self._table.matters(message):
            self._history.append(message)

    def _on_past_told(self) -> None:
        """Go on from what is known of all jobs now."""
        self._is_caught_up = True
        if self._lost_at is not None:
            LOGGER.warning("the connection to Flux is back")
            self._lost_at = None
        self._orphans = ()
        missing = self._table.unknown_to_flux()
        events = self._table.recall(self._history)
        self._history.clear()
        if not self._opened.done():
            self._opened.set_result(self._result)
        self._emit(events)
        for send in [*self._asked]:
            self._send(send)
        for job in missing:
            self._make_up(job)
        self._waiting = deque(self._table.unknown_to_flux())
        self._unanswered = 0
        self._carry_out()

    def _make_up(self, job: Job) -> None:
        """Ask what could not be asked before Flux had given a job its id."""
        if job.jobid is None:
            return
        if job.is_cancelled:
            self._cancel_job(job.jobid)
        elif job.is_extended:
            self._update_limit(job.jobid, job)
        job.is_extended = False

    def _emit(self, events: list[ExecutorEvent]) -> None:
        """Post events; what the table had to ask comes after, since to ask may fail."""
        for event in events:
            self._post(event)
        while self._questions:
            self._questions.popleft()()
        self._leave_when_done()

    def _ask_signal(self, job: Job) -> None:
        """Ask how the task of a job itself ended: the job's own status hides signals."""
        request = {"id": job.jobid, "keys": [EXEC_EVENTLOG], "flags": 0}
        future = self._connection.handle.rpc("job-info.lookup", request)
        self._connection.expect(future, partial(self._on_signal, job))

    def _on_signal(self, job: Job, future: Any) -> None:
        try:
            log = future.get()[EXEC_EVENTLOG]
        except OSError as error:
            LOGGER.debug("no record of how the tasks of %s ended: %s", job.key[0], error)
            log = ""
        self._emit(self._table.answer(job, _task_status(log)))

    def _turn_away(self, jobid: int, label: Label) -> None:
        """End a job of this run that nobody waits for."""
        LOGGER.warning(
            "attempt %d of %s was also submitted by a driver of this run that is not this one, "
            "or is no longer: that job is cancelled",
            label.attempt,
            label.chore_id,
        )
        self._cancel_job(jobid)

    def _on_nodes(self, message: Message) -> None:
        changed = self._nodes.apply(message)
        if changed is None:
            return
        hosts = [node.name for node in self._result.allocation.nodes]
        for what, nodes in (("lost", changed.lost), ("back", changed.back)):
            if nodes:
                LOGGER.warning("nodes %s: %s", what, ", ".join(hosts[n] for n in sorted(nodes)))
        self._post(changed)

    def _on_nodes_end(self, error: OSError) -> None:
        if error.errno != errno.ENOSYS:  # flux-core before 0.72 has no such journal
            LOGGER.warning("Flux tells no more of lost nodes: %s", error)


def _raise(error: OSError) -> None:
    raise error


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
