"""The jobs of one run: what is asked of Flux for them, and what it tells of them.

Owns the sequence of requests about jobs, and what becomes of those that a broken connection leaves
without an answer. What events mean is the business of `job_table`, what is asked for that of
`jobspec`. Used by `flux_driver`, on the one thread that talks to Flux.
"""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matensemble import workdir
from matensemble.model import Reason
from matensemble.runtime.executors.base import ExecutorEvent, Orphan, Post
from matensemble.runtime.executors.flux import Instance, load_flux
from matensemble.runtime.executors.flux_connection import BROKEN, Connection
from matensemble.runtime.executors.job_table import CANCEL_NOTE, Job, JobTable, Key, Message
from matensemble.runtime.executors.jobspec import JobspecEncoder, Label
from matensemble.runtime.executors.request import LaunchRequest

LOGGER = logging.getLogger("matensemble.executors.flux")

MAX_UNANSWERED = 256
"""Submissions that Flux has not answered yet; more wait here. Flux takes in what arrives within
10 ms at once, so a window keeps it busy; without a bound a large wave would fill its queues."""

EXEC_EVENTLOG = "guest.exec.eventlog"


class FluxJobs:
    """All jobs of a run that are not over.

    Parameters
    ----------
    instance
        Where they run.
    post
        Where events go.
    on_idle
        Called when the last one is over.
    run, epoch
        As for `JobspecEncoder`.
    encoder_options
        The other options of `JobspecEncoder` that are no facts of the instance.
    orphans
        Attempts of an earlier driver.
    """

    def __init__(
        self,
        instance: Instance,
        post: Post,
        on_idle: Callable[[], None],
        *,
        run: str,
        epoch: int,
        encoder_options: Mapping[str, Any],
        orphans: Sequence[Orphan],
    ) -> None:
        self._flux = flux = load_flux()
        self._post = post
        self._epoch = epoch
        self._on_idle = on_idle
        self._encoder = JobspecEncoder(
            run=run,
            epoch=epoch,
            **encoder_options,
            environ=os.environ,
            ranks=instance.ranks,
            barred=instance.barred,
        )
        self._table = JobTable(
            run,
            epoch,
            nodes={rank: index for index, rank in enumerate(instance.ranks)},
            hosts=[node.name for node in instance.allocation.nodes],
            format_jobid=lambda jobid: str(flux.job.JobID(jobid).f58plain),
            ask_signal=lambda job: self._questions.append(partial(self._ask_signal, job)),
            turn_away=lambda jobid, label: self._questions.append(
                partial(self._turn_away, jobid, label)
            ),
        )
        for orphan in orphans:
            self._table.adopt(orphan)
        self._waiting: deque[Job] = deque()
        self._unanswered = 0
        self._asked: dict[Callable[[], Any], str] = {}
        self._questions: deque[Callable[[], None]] = deque()
        self._connection: Connection

    def __len__(self) -> int:
        return len(self._table)

    # --- a connection begins --------------------------------------------------------------------

    def use(self, connection: Connection) -> None:
        """Talk to Flux through a connection from now on; nothing may be ordered before `go_on`."""
        self._connection = connection
        self._questions.clear()  # the history will raise them again

    def matters(self, message: Message) -> bool:
        """Return whether the history of a job is worth keeping for `go_on`."""
        return self._table.matters(message)

    def go_on(self, history: Iterable[Message]) -> None:
        """Catch up with the history of all jobs, and send again what was left unanswered."""
        unanswered = [*self._asked]  # what the history makes us ask is sent by then
        self._emit(self._table.recall(history))
        for send in unanswered:
            self._send(send)
        for job in self._table:
            self._make_up(job)
        self._waiting = deque(self._table.unknown_to_flux())
        self._unanswered = 0
        self._pump()

    # --- orders ---------------------------------------------------------------------------------

    def submit(self, request: LaunchRequest) -> None:
        """Take a request."""
        self._waiting.append(self._table.add(request))
        self._pump()

    def cancel(self, key: Key) -> None:
        """End an attempt, wherever it stands; unknown ones are ignored."""
        job = self._table.get(key)
        if job is not None:
            job.is_cancelled = True
            self._make_up(job)

    def cancel_all(self) -> None:
        """End all attempts."""
        for job in self._table:
            self.cancel(job.key)
        self._pump()

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
        if job is not None:
            job.duration = duration
            job.is_extended = True
            self._make_up(job)

    def _make_up(self, job: Job) -> None:
        """Ask for what is wanted of a job, once Flux has given it an id."""
        if job.jobid is None:
            return
        if job.is_extended:
            job.is_extended = False
            self._update_limit(job.jobid, job)
        if job.is_cancelled and not job.is_end_asked:
            job.is_end_asked = True
            self._cancel_job(job.jobid)

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

    def take(self, message: Message) -> None:
        """Take a message of the journal that is no history."""
        self._emit(self._table.take(message))
        job = self._table.find(message["id"]) if "jobspec" in message else None
        if job is not None:
            self._make_up(job)

    def _emit(self, events: list[ExecutorEvent]) -> None:
        """Post events; what the table had to ask comes after, since to ask may fail."""
        for event in events:
            self._post(event)
        while self._questions:
            self._questions.popleft()()
        if not len(self._table):
            self._on_idle()

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
        if label.epoch < self._epoch:
            LOGGER.info("ending %s of a driver of this run that is no longer", label.chore_id)
        else:
            LOGGER.warning(
                "attempt %d of %s was also submitted by a driver of this run that is not this "
                "one: that job is cancelled",
                label.attempt,
                label.chore_id,
            )
        self._cancel_job(jobid)


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
