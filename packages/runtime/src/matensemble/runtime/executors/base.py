"""The port through which chores reach processes: what every executor promises.

Called by the engine, from the one thread that owns the state; an executor answers by posting
events, from any thread. The contract suite (`tests/runtime/executors/contract.py`) holds each
implementation to the obligations written here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from matensemble.model import Reason, Resources
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.scheduler.events import (
    AttemptLost,
    ChorePlaced,
    ChoreStarted,
    ChoreSubmitted,
    LaunchMeasured,
    NodesChanged,
    PoolLost,
    ResourcesFreed,
)
from matensemble.runtime.scheduler.resources import Allocation

TERM_GRACE_SECONDS = 3.0
"""Time between TERM and KILL when a chore is ended."""


class JobEnded(NamedTuple):
    """All processes of an attempt have ended, or it could not be started.

    The engine settles it: success codes, result file and error record decide the outcome.
    """

    chore_id: str
    attempt: int
    exit_code: int | None
    """Highest exit code of its tasks, ``-n`` for signal n; None where no process was started."""
    reason: Reason | None = None
    """What the executor knows for itself: `EXECUTABLE_NOT_FOUND`, `SUBMIT_ERROR`,
    `DURATION_EXCEEDED`, `CANCELLED`, `EXCEEDS_ALLOCATION`, `NODE_FAILURE`, `OUT_OF_MEMORY`,
    `IO_ERROR`. None: the exit code speaks."""
    detail: str = ""
    """One line for people: the missing program, the message of the resource manager …"""
    elapsed: float | None = None
    """Seconds that it ran, measured where it ran; None where the executor does not know."""
    host: str = ""
    """Where it ran, if that was not told by `ChoreStarted`."""
    is_committed: bool = False
    """Whether who ran it vouches for its result, so that its file need not be looked at."""
    payload: bytes | None = None
    """The pickle of its result, where it is small and was asked for."""


class ExecutorLost(NamedTuple):
    """The executor cannot go on (launcher died, broker gone); nothing further will be posted."""

    problem: str


class Orphan(NamedTuple):
    """An attempt that an earlier driver handed to an executor, or was about to."""

    chore_id: str
    attempt: int
    jobid: str | None
    """As `ChoreSubmitted` told it; None where the driver died between intent and answer."""
    host: str
    """Where it ran, as `ChoreStarted` told it; empty where that is not known."""
    resources: Resources
    """What it had asked for."""
    run_dir: Path
    """Absolute path of its run, which its processes know as ``MATENSEMBLE_RUN_DIR``."""
    is_pooled: bool = False
    """Whether a warm worker served it: it is lost once none of an earlier driver is alive."""


ExecutorEvent = (
    ChoreSubmitted
    | ChorePlaced
    | ChoreStarted
    | JobEnded
    | ResourcesFreed
    | AttemptLost
    | NodesChanged
    | LaunchMeasured
    | PoolLost
    | ExecutorLost
)
Post = Callable[[ExecutorEvent], None]


class Executor(Protocol):
    """Runs chores as processes somewhere.

    For each `submit` an executor posts, in this order: `ChoreSubmitted`; optionally `ChorePlaced`
    and `ChoreStarted`; exactly one `JobEnded`; exactly one `ResourcesFreed`. A request that it
    refuses is posted as `JobEnded` with a reason, then `ResourcesFreed`. After `ExecutorLost`
    nothing is owed.
    """

    @property
    def name(self) -> str:
        """Name in messages and in `status.json`."""

    @property
    def look_ahead(self) -> int:
        """How many chores beyond what fits may queue at the executor, to hide its latency."""

    @property
    def pool_look_ahead(self) -> int | None:
        """How many pooled chores beyond what fits may queue at its warm workers.

        None: it has none, and is handed no pooled chore.
        """

    @property
    def sees_files_late(self) -> bool:
        """Whether what a chore wrote on another host may be seen here some time after its end."""

    def open(self, post: Post, orphans: Sequence[Orphan] = ()) -> Allocation:
        """Connect, and return the nodes that chores may use.

        Parameters
        ----------
        post
            Where events go, from now on and from any thread.
        orphans
            Attempts of an earlier driver. For each, before or after this call returns, an executor
            that knows it posts what it posts for a submission (what happened already, at once);
            one that does not makes sure that none of its processes is alive and posts
            `AttemptLost`, once and nothing else.

        Raises
        ------
        ExecutorUnavailableError
            If it cannot work here; nothing is left behind.
        """

    def submit(self, request: LaunchRequest) -> None:
        """Start an attempt; return without waiting for it.

        The directory exists. stdout and stderr are created (or truncated) by the executor, mode
        0600. Every process runs in ``request.cwd`` with the requested environment, no standard
        input, and signal handlers at their defaults. ``resources.duration`` is enforced: TERM,
        then KILL after `TERM_GRACE_SECONDS`, to the whole process group.

        Tasks of a chore without MPI know nothing of each other: each runs to its own end, however
        long after the failure of another, and then the chore ends with the highest exit code.
        Ranks of MPI are one program: what one rank's failure does to the others is for MPI to say.
        """

    def flush(self) -> None:
        """Start what was submitted since the last time; until then an executor may hold it back.

        So that many requests at once cost it no more than a few: called after each burst of them.
        """

    def cancel(self, chore_id: str, attempt: int) -> None:
        """End an attempt as above, `JobEnded` with `Reason.CANCELLED`; unknown ones are ignored."""

    def signal(self, chore_id: str, attempt: int, number: int) -> None:
        """Send a signal to every process of an attempt; unknown ones are ignored."""

    def extend(self, chore_id: str, attempt: int, duration: float) -> None:
        """Let an attempt run for `duration` seconds from its start; unknown ones are ignored."""

    def time_left(self) -> float | None:
        """Return the seconds until the allocation ends, None where no end is known.

        Called once, after `open`; the driver counts from there by its monotonic clock.
        """

    def close(self, *, abandon: bool = False) -> None:
        """End whatever still runs and release everything; may be called twice.

        Afterwards no process that this executor started is alive, and nothing is posted.

        Parameters
        ----------
        abandon
            Leave what runs to whoever drives the run now, where it can live without this process.
        """
