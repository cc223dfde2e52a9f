"""What the Flux executor knows of its jobs, and what their events mean for chores.

Owns the life of each attempt between the request and the last event that is owed for it. Pure: job
events come in as the job manager's journal words them (RFC 21), executor events go out. Called by
the Flux executor, on the one thread that talks to Flux.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from matensemble.model import Reason
from matensemble.runtime.executors.base import ExecutorEvent, JobEnded
from matensemble.runtime.executors.jobspec import USER_KEY
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.executors.resource_set import placement_of
from matensemble.runtime.scheduler.events import (
    ChorePlaced,
    ChoreStarted,
    ChoreSubmitted,
    ResourcesFreed,
)

JOURNAL_EVENTS = ("submit", "alloc", "start", "exception", "finish", "free", "clean")
"""Events without which a job cannot be followed; the journal is asked for these only."""

Key = tuple[str, int]
"""Chore id and attempt."""

SIGNAL_BASE = 128
"""The job shell ends with 128 + n where a task was ended by signal n."""
MAX_SIGNAL = 64

_START_FAILED = "start failed: "
_NOT_FOUND = ("No such file or directory", "Permission denied", "Exec format error", "a directory")
_NODE_LOST = ("lost contact", "node failure", "No route to host", "broker exited")
_IO_FAILED = ("error opening", "shell_init: ", "shell.init: ")


@dataclass(slots=True)
class Job:
    """One attempt, as far as Flux has told."""

    key: Key
    duration: float | None
    jobid: int | None = None
    is_cancelled: bool = False
    """Whether we asked for its end."""
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

    Parameters
    ----------
    nodes
        Index into `Allocation.nodes` by Flux rank.
    hosts
        Name of each node, for `ChoreStarted`.
    format_jobid
        How a job id is written for people.
    ask_signal
        Called with a job whose exit code may stand for a signal: `answer` is owed for it.
    """

    def __init__(
        self,
        nodes: Mapping[int, int],
        hosts: list[str],
        format_jobid: Callable[[int], str],
        ask_signal: Callable[[Job], None],
    ) -> None:
        self._nodes = nodes
        self._hosts = hosts
        self._format_jobid = format_jobid
        self._ask_signal = ask_signal
        self._by_key: dict[Key, Job] = {}
        self._by_jobid: dict[int, Job] = {}

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
        job = Job((request.chore_id, request.attempt), request.resources.duration)
        self._by_key[job.key] = job
        return job

    def refuse(self, job: Job, reason: Reason, detail: str) -> list[ExecutorEvent]:
        """End an attempt that Flux does not know."""
        job.has_ended = True
        return [JobEnded(*job.key, None, reason, detail), *self._free(job)]

    # --- what the journal says ------------------------------------------------------------------

    def apply(  # noqa: PLR0911 one line an event
        self, jobid: int, event: Mapping[str, Any], extra: Mapping[str, Any]
    ) -> list[ExecutorEvent]:
        """Return what an event of a job means; those of other people's jobs mean nothing.

        Parameters
        ----------
        jobid
            The job.
        event
            Its ``name`` and ``context``.
        extra
            The message around it: ``jobspec`` with a ``submit`` event, ``R`` with ``alloc``.
        """
        name = event["name"]
        if name == "submit":
            return self._submitted(jobid, extra.get("jobspec") or {})
        if (job := self._by_jobid.get(jobid)) is None:
            return []
        context = event.get("context") or {}
        if name == "exception":
            _note_exception(job, context)
        elif name == "alloc":
            return self._placed(job, extra)
        elif name == "start":
            return [ChoreStarted(*job.key, job.host)]
        elif name == "finish":
            return self._finished(job, int(context["status"]))
        elif name in ("free", "clean"):  # `clean` alone where nothing was ever allocated
            return self._over(job)
        return []

    def _submitted(self, jobid: int, jobspec: Mapping[str, Any]) -> list[ExecutorEvent]:
        # The journal is ahead of the answer to the submission, so jobs are told by their labels.
        label = ((jobspec.get("attributes") or {}).get("user") or {}).get(USER_KEY) or {}
        job = self._by_key.get((label.get("chore", ""), label.get("attempt", 0)))
        if job is None or job.jobid is not None:
            return []
        job.jobid = jobid
        self._by_jobid[jobid] = job
        return [ChoreSubmitted(*job.key, self._format_jobid(jobid))]

    def _placed(self, job: Job, extra: Mapping[str, Any]) -> list[ExecutorEvent]:
        placement = placement_of(extra["R"], self._nodes)
        job.host = self._hosts[placement[0].node] if placement else ""
        return [ChorePlaced(*job.key, placement)]

    def _finished(self, job: Job, status: int) -> list[ExecutorEvent]:
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
        job.is_freed = True
        if job.asked_code is not None and not job.has_ended:
            return []  # an answer is owed first
        return [*(() if job.has_ended else self._end(job, None)), *self._free(job)]

    def _end(self, job: Job, code: int | None) -> list[ExecutorEvent]:
        job.has_ended = True
        exit_code, reason, detail = _verdict(job, code)
        return [JobEnded(*job.key, exit_code, reason, detail)]

    def _free(self, job: Job) -> list[ExecutorEvent]:
        del self._by_key[job.key]
        if job.jobid is not None:
            del self._by_jobid[job.jobid]
        return [ResourcesFreed(*job.key)]


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
        return code, Reason.CANCELLED, "the time of the allocation is over"
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
