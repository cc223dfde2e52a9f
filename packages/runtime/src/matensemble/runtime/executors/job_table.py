"""What the Flux executor knows of its jobs, and what their events mean for chores.

Owns the life of each attempt between the request and the last event that is owed for it. Pure: job
events come in as the job manager's journal words them (RFC 21), executor events go out. Called by
the Flux executor, on the one thread that talks to Flux.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from matensemble.model import Reason
from matensemble.runtime.executors.base import ExecutorEvent, JobEnded, Orphan
from matensemble.runtime.executors.jobspec import Label, label_of
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.executors.resource_set import placement_of
from matensemble.runtime.scheduler.events import (
    AttemptLost,
    ChorePlaced,
    ChoreStarted,
    ChoreSubmitted,
    ResourcesFreed,
)

JOURNAL_EVENTS = ("submit", "alloc", "start", "exception", "finish", "free", "clean")
"""Events without which a job cannot be followed; the journal is asked for these only."""

CANCEL_NOTE = "cancelled by MatEnsemble"
"""Note of the exception by which a driver ends a job."""

Key = tuple[str, int]
"""Chore id and attempt."""

Message = Mapping[str, Any]
"""A message of the journal: ``id`` and ``events``, with ``jobspec`` and ``R`` where it has them.
In the history of a job it has both; later only with the events ``submit`` and ``alloc``."""

SIGNAL_BASE = 128
"""The job shell ends with 128 + n where a task was ended by signal n."""
MAX_SIGNAL = 64

_START_FAILED = "start failed: "
_NOT_FOUND = ("No such file or directory", "Permission denied", "Exec format error", "a directory")
_NODE_LOST = ("lost contact", "node failure", "No route to host", "broker exited")
_IO_FAILED = ("error opening", "shell_init: ", "shell.init: ")
_ENDS = frozenset({"finish", "free", "clean"})


@dataclass(slots=True)
class Job:
    """One attempt, as far as Flux has told."""

    key: Key
    duration: float | None
    """Its limit in seconds, as last asked for."""
    request: LaunchRequest | None = None
    """What to submit, until Flux is known to have it."""
    orphan: Orphan | None = None
    """What an earlier driver left, until it is known whether Flux has it."""
    jobid: int | None = None
    is_cancelled: bool = False
    """Whether its end is wanted."""
    is_end_asked: bool = False
    """Whether Flux was asked for its end."""
    is_extended: bool = False
    """Whether its limit was changed, and Flux is not told yet."""
    is_forsaken: bool = False
    """Whether another driver of the run ended it: that says nothing of the chore."""
    is_placed: bool = False
    """Whether `ChorePlaced` was posted."""
    is_started: bool = False
    """Whether `ChoreStarted` was posted."""
    started_at: float | None = None
    """When its processes started, by the clock of Flux; None where that is not known."""
    elapsed: float | None = None
    """Seconds that they ran."""
    host: str = ""
    """Name of its first node."""
    asked_code: int | None = None
    """Exit code above 128, while it is asked whether it stands for a signal."""
    trouble: tuple[str, str] | None = None
    """Type and note of the first fatal exception."""
    lost_node: str = ""
    """Note of an exception that speaks of a lost node."""
    is_freed: bool = False
    """Whether its resources are back."""
    has_ended: bool = False
    """Whether `JobEnded` was posted."""


class JobTable:
    """All attempts that are not over.

    What was posted once is not posted again, so that the history of all jobs can be told anew
    whenever the connection to Flux was lost.

    Parameters
    ----------
    run
        Label of the run: other jobs mean nothing.
    epoch
        Of the driver: a job of the run that is neither here nor of a later driver is turned away.
    nodes
        Index into `Allocation.nodes` by Flux rank.
    hosts
        Name of each node, for `ChoreStarted`.
    format_jobid
        How a job id is written for people.
    ask_signal
        Called with a job whose exit code may stand for a signal: `answer` is owed for it.
    turn_away
        Called with the id and the label of a stranger that may run: a driver that was thought
        dead, or a broken connection, had submitted it.
    """

    def __init__(
        self,
        run: str,
        epoch: int,
        *,
        nodes: Mapping[int, int],
        hosts: list[str],
        format_jobid: Callable[[int], str],
        ask_signal: Callable[[Job], None],
        turn_away: Callable[[int, Label], None],
    ) -> None:
        self._run = run
        self._epoch = epoch
        self._nodes = nodes
        self._hosts = hosts
        self._format_jobid = format_jobid
        self._ask_signal = ask_signal
        self._turn_away = turn_away
        self._by_key: dict[Key, Job] = {}
        self._by_jobid: dict[int, Job] = {}
        self._pooled: list[Orphan] = []  # lost once the workers that served them are gone
        self._leaving: set[int] = set()  # jobs of earlier drivers that were turned away

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Job]:
        return iter([*self._by_key.values()])

    def get(self, key: Key) -> Job | None:
        """Return the job of an attempt, None when it is over or was never here."""
        return self._by_key.get(key)

    def find(self, jobid: int) -> Job | None:
        """Return a job by the id that Flux gave it, None for those of others."""
        return self._by_jobid.get(jobid)

    def add(self, request: LaunchRequest) -> Job:
        """Remember an attempt that will be submitted."""
        job = Job((request.chore_id, request.attempt), request.resources.duration, request)
        self._by_key[job.key] = job
        return job

    def adopt(self, orphan: Orphan) -> None:
        """Look out for an attempt of an earlier driver; `recall` tells what became of it.

        One that a warm worker served has no job of its own: it is lost, as soon as no job of an
        earlier driver is alive that nobody waits for.
        """
        if orphan.is_pooled:
            self._pooled.append(orphan)
            return
        job = Job((orphan.chore_id, orphan.attempt), orphan.resources.duration, orphan=orphan)
        self._by_key[job.key] = job

    def unknown_to_flux(self) -> list[Job]:
        """Return the attempts that Flux has not shown yet, in the order of the requests."""
        return [job for job in self._by_key.values() if job.jobid is None]

    def refuse(self, job: Job, reason: Reason, detail: str) -> list[ExecutorEvent]:
        """End an attempt that Flux does not know."""
        job.has_ended = True
        return [JobEnded(*job.key, None, reason, detail), *self._free(job)]

    # --- what the journal says ------------------------------------------------------------------

    def matters(self, message: Message) -> bool:
        """Return whether the history of a job is worth keeping for `recall`."""
        label = label_of(message.get("jobspec") or {})
        return self._is_ours(message["id"], label) and (
            label.key in self._by_key or not _is_over(message["events"])
        )

    def recall(self, history: Iterable[Message]) -> list[ExecutorEvent]:
        """Return what happened to all attempts until now; Flux has shown each job that it knows.

        An attempt is told by its labels, so that one is found whose job id nobody lived to hear.
        Where there are several jobs of one label, the known id decides, else the newest counts.

        Parameters
        ----------
        history
            The messages that matter, in any order.
        """
        messages = {message["id"]: message for message in history}
        seen = set()
        self._leaving.clear()
        for jobid in sorted(messages, reverse=True):  # ids grow with time
            label = label_of(messages[jobid].get("jobspec") or {})
            if self._claim(jobid, label):
                seen.add(jobid)
            elif not _is_over(messages[jobid]["events"]):
                self._leaving.add(jobid)
                if _may_run(messages[jobid]):
                    self._turn_away(jobid, label)
        events: list[ExecutorEvent] = []
        for jobid in sorted(seen):
            job = self._by_jobid[jobid]
            told = messages[jobid]["events"]
            job.is_forsaken = job.is_forsaken or _was_ended_by_another(job, told)
            for event in told:
                events += self.apply(jobid, event, messages[jobid])
        for job in self:
            if job.jobid not in seen and (job.orphan is not None or job.jobid is not None):
                events += self._lose(job, "Flux does not know its job (any more)")
        return [*events, *self._lose_pooled()]

    def _lose_pooled(self) -> list[ExecutorEvent]:
        """Return what is lost with the workers of earlier drivers, once none is left."""
        if self._leaving:
            return []
        lost, self._pooled = self._pooled, []
        detail = "its driver is gone, and so are the warm workers that it had"
        return [AttemptLost(orphan.chore_id, orphan.attempt, detail) for orphan in lost]

    def take(self, message: Message) -> list[ExecutorEvent]:
        """Return what a message means that is no history."""
        jobid = message["id"]
        if jobid in self._leaving:
            if _is_over(message["events"]):
                self._leaving.remove(jobid)
            return self._lose_pooled()
        if "jobspec" in message and jobid not in self._by_jobid:
            label = label_of(message["jobspec"])
            if not self._claim(jobid, label):
                if self._is_ours(jobid, label):
                    self._turn_away(jobid, label)
                return []
        return [
            posted for event in message["events"] for posted in self.apply(jobid, event, message)
        ]

    def _claim(self, jobid: int, label: Label) -> bool:
        """Return whether a job is that of an attempt here; remember it if it is."""
        # The journal is ahead of the answer to the submission, so jobs are told by their labels.
        job = self._by_key.get(label.key) if self._is_ours(jobid, label) else None
        if job is None or job.jobid not in (None, jobid):
            return False
        orphan = job.orphan
        if orphan is not None and orphan.jobid not in (None, self._format_jobid(jobid)):
            return False
        if job.jobid is None:
            job.jobid = jobid
            self._by_jobid[jobid] = job
        return True

    def _is_ours(self, jobid: int, label: Label) -> bool:
        """Return whether a job is of this run, and not of a driver that replaced this one."""
        if label.run is None or label.epoch > self._epoch:
            return False
        if label.run == self._run:
            return True
        # The directory may have, or have had, another path: then the id must be known as well.
        job = self._by_key.get(label.key)
        if job is None or PurePath(label.run).name != PurePath(self._run).name:
            return False
        orphan = job.orphan
        return job.jobid == jobid or (
            orphan is not None and orphan.jobid == self._format_jobid(jobid)
        )

    def apply(  # noqa: PLR0911 one line an event
        self, jobid: int, event: Mapping[str, Any], message: Message
    ) -> list[ExecutorEvent]:
        """Return what an event of a job means; those of other people's jobs mean nothing.

        Parameters
        ----------
        jobid
            The job.
        event
            Its ``name``, ``context`` and ``timestamp``.
        message
            What came with it: R with ``alloc``.
        """
        job = self._by_jobid.get(jobid)
        if job is None:
            return []
        name = event["name"]
        context = event.get("context") or {}
        if name in ("free", "clean"):  # `clean` alone where nothing was ever allocated
            return self._over(job)
        if name == "exception":
            job.is_forsaken = job.is_forsaken or _was_ended_by_another(job, [event])
            _note_exception(job, context)
        if job.is_forsaken:
            return []
        if name == "submit":
            return self._submitted(job, jobid)
        if name == "alloc":
            return self._placed(job, message)
        if name == "start":
            job.started_at = event.get("timestamp")
            return self._started(job)
        if name != "finish":
            return []
        if job.started_at is not None and "timestamp" in event:
            job.elapsed = max(0.0, event["timestamp"] - job.started_at)
        return self._finished(job, int(context["status"]))

    def _submitted(self, job: Job, jobid: int) -> list[ExecutorEvent]:
        if job.request is None and job.orphan is None:
            return []
        job.request = job.orphan = None
        return [ChoreSubmitted(*job.key, self._format_jobid(jobid))]

    def _placed(self, job: Job, message: Message) -> list[ExecutorEvent]:
        if job.is_placed or "R" not in message:
            return []
        placement = placement_of(message["R"], self._nodes)
        job.is_placed = True
        job.host = self._hosts[placement[0].node] if placement else ""
        return [ChorePlaced(*job.key, placement)]

    def _started(self, job: Job) -> list[ExecutorEvent]:
        if job.is_started:
            return []
        job.is_started = True
        return [ChoreStarted(*job.key, job.host)]

    def _finished(self, job: Job, status: int) -> list[ExecutorEvent]:
        if job.has_ended:
            return []
        signal, code = status & 0x7F, status >> 8 & 0xFF
        if signal:  # of the job shell itself
            return self._end(job, -signal)
        if not 0 < code - SIGNAL_BASE <= MAX_SIGNAL:
            return self._end(job, code)
        if job.trouble is not None:
            return self._end(job, SIGNAL_BASE - code)
        job.asked_code = code
        self._ask_signal(job)
        return []

    def answer(self, job: Job, task_status: int | None) -> list[ExecutorEvent]:
        """Return what follows once it is known how the task itself ended.

        Parameters
        ----------
        job
            The one that was asked about.
        task_status
            Wait status of its first task to end; None where it cannot be had, and the exit code
            is read as a shell writes it: 128 + n for signal n.
        """
        code = job.asked_code
        if code is None or job.has_ended:
            return []
        if task_status is None or task_status & 0x7F == code - SIGNAL_BASE:
            code = SIGNAL_BASE - code
        return [*self._end(job, code), *(self._free(job) if job.is_freed else ())]

    def _over(self, job: Job) -> list[ExecutorEvent]:
        if job.is_forsaken and not job.has_ended:
            return self._lose(job, "another driver of this run ended it")
        job.is_freed = True
        if job.asked_code is not None and not job.has_ended:
            return []  # an answer is owed first
        return [*(() if job.has_ended else self._end(job, None)), *self._free(job)]

    def _end(self, job: Job, code: int | None) -> list[ExecutorEvent]:
        job.has_ended = True
        exit_code, reason, detail = _verdict(job, code)
        return [JobEnded(*job.key, exit_code, reason, detail, job.elapsed)]

    def _lose(self, job: Job, detail: str) -> list[ExecutorEvent]:
        if job.has_ended:
            return self._free(job)
        self._forget(job)
        return [AttemptLost(*job.key, detail)]

    def _free(self, job: Job) -> list[ExecutorEvent]:
        self._forget(job)
        return [ResourcesFreed(*job.key)]

    def _forget(self, job: Job) -> None:
        del self._by_key[job.key]
        if job.jobid is not None:
            del self._by_jobid[job.jobid]


def _may_run(message: Message) -> bool:
    """Return whether a job is not over, nor about to be, by its history."""
    return not any(event["name"] in _ENDS or _is_fatal(event) for event in message["events"])


def _is_over(events: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether the processes of a job have ended, by these of its events."""
    return any(event["name"] in _ENDS for event in events)


def _is_fatal(event: Mapping[str, Any]) -> bool:
    return bool(event["name"] == "exception" and event["context"]["severity"] == 0)


def _was_ended_by_another(job: Job, events: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether a driver ordered the end of a job, and it was not this one."""
    if job.is_cancelled or job.trouble is not None or job.asked_code is not None or job.has_ended:
        return False
    for event in events:
        if event["name"] == "finish":
            return False
        if _is_fatal(event):
            return bool(event["context"].get("note") == CANCEL_NOTE)
    return False


def _note_exception(job: Job, context: Mapping[str, Any]) -> None:
    kind, note = str(context["type"]), str(context.get("note") or "")
    if kind == "node-failure" or any(words in note for words in _NODE_LOST):
        job.lost_node = note
    if context["severity"] == 0 and job.trouble is None:
        job.trouble = (kind, note)


def _verdict(job: Job, code: int | None) -> tuple[int | None, Reason | None, str]:
    """Return exit code, reason and detail of an attempt that has ended."""
    if job.trouble is None:
        lost = job.lost_node if code else ""
        return code, Reason.NODE_FAILURE if lost else None, lost
    kind, note = job.trouble
    told = f"Flux: {note or kind}"
    if kind == "cancel":
        return code, Reason.CANCELLED, "" if job.is_cancelled else told
    if kind == "alloc":
        return None, Reason.EXCEEDS_ALLOCATION, told
    if kind != "timeout":
        return _failure(job, code, note, told)
    if job.duration is None:
        return code, Reason.NODE_FAILURE, "the time of the allocation is over"
    return code, Reason.DURATION_EXCEEDED, f"longer than its duration of {job.duration:g} s"


def _failure(
    job: Job, code: int | None, note: str, told: str
) -> tuple[int | None, Reason | None, str]:
    """Return the verdict on an attempt that Flux could not run to its end."""
    if _START_FAILED in note:
        what = note.partition(_START_FAILED)[2]
        is_missing = what.endswith(_NOT_FOUND)
        return None, Reason.EXECUTABLE_NOT_FOUND if is_missing else Reason.SUBMIT_ERROR, what
    if job.lost_node:
        return code, Reason.NODE_FAILURE, f"Flux: {job.lost_node}"
    if "out of memory" in note.lower():
        return code, Reason.OUT_OF_MEMORY, told
    if any(words in note for words in _IO_FAILED):
        return None, Reason.IO_ERROR, told
    return code, None if code else Reason.SUBMIT_ERROR, told
