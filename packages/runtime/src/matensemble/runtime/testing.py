"""Stand-ins for the outside world, for tests and benchmarks of whatever drives chores.

Owns `FakeExecutor` (an executor without processes), `ManualClock` (time that moves when told) and
`make_chore`. Shipped, because authors of strategies need them. Nothing here starts a process,
reads a clock or touches a file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from matensemble.chore import Chore
from matensemble.model import ChoreType, Reason, Resources
from matensemble.runtime.executors.base import ExecutorLost, JobEnded, Orphan, Post
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.scheduler.events import (
    AttemptLost,
    ChoreStarted,
    ChoreSubmitted,
    LaunchMeasured,
    NodesChanged,
    PoolLost,
    ResourcesFreed,
)
from matensemble.runtime.scheduler.resources import Allocation, Node

if TYPE_CHECKING:
    from matensemble.references import Dependency

ONE_NODE = Allocation((Node("fake-node", cores=4, gpus=0),))
"""What a `FakeExecutor` offers unless told otherwise."""


class Outcome(NamedTuple):
    """How an attempt ends, as a `JobEnded` says it."""

    exit_code: int | None = 0
    """Exit code, ``-n`` for signal n; None where no process was started."""
    reason: Reason | None = None
    """What the executor knows for itself."""
    detail: str = ""
    """One line for people."""
    elapsed: float | None = None
    """Seconds that it ran; None: nobody knows."""
    host: str = ""
    """Where it ran, where `ChoreStarted` does not tell."""
    is_committed: bool = False
    """Whether its result need not be looked at."""
    payload: bytes | None = None
    """The pickle of its result."""


Script = Callable[[LaunchRequest], Outcome | None]
"""Decides at submission how an attempt ends; None leaves it running until `FakeExecutor.finish`."""


def _succeed(request: LaunchRequest) -> Outcome:
    return Outcome()


class FakeExecutor:
    """An executor without processes, which ends chores when told, or by a script at once.

    It posts exactly what `matensemble.runtime.executors.base.Executor` promises, from the thread
    that calls it; of a pooled chore that ends at once it tells no start, as warm workers do. Every
    method may be called from any thread. O(1) per call; ended attempts leave only their number
    behind, so that a million of them are cheap.

    What a driver that crashed had submitted is known to the next one's executor where it is told::

        second = FakeExecutor(adopts=first.running)

    Parameters
    ----------
    allocation
        What it offers.
    auto
        Whether every chore succeeds as soon as it is submitted (so in the order of submission).
    script
        Called with each request, on the thread that submits; what it returns ends the attempt at
        once. It may write files, as the process would have. Overrides `auto`.
    look_ahead, pool_look_ahead
        How many chores beyond what fits may queue here, and how many pooled ones.
    adopts
        Requests of an earlier driver whose processes still run, by chore id. An orphan among them
        is taken as if it were submitted now, by the script too; any other is lost.
    time_left
        Seconds until its allocation ends; None: no end is known.
    name
        Name in messages.

    Attributes
    ----------
    sees_files_late
        Whether results may appear some time after the end of an attempt; False unless set.
    running
        Requests of the attempts that were submitted and have not ended, oldest first, by chore id.
    num_submitted
        How many requests there were.
    cancelled
        ``(chore_id, attempt)`` of every `cancel`, in order.
    signals
        ``(chore_id, attempt, number)`` of every `signal`, in order.
    extended
        ``(chore_id, attempt, duration)`` of every `extend`, in order.
    is_open
        Whether it was opened and not closed.
    """

    def __init__(
        self,
        allocation: Allocation = ONE_NODE,
        *,
        auto: bool = False,
        script: Script | None = None,
        look_ahead: int = 0,
        pool_look_ahead: int = 0,
        adopts: Mapping[str, LaunchRequest] | None = None,
        time_left: float | None = None,
        name: str = "fake",
    ) -> None:
        self.allocation = allocation
        self.name = name
        self.look_ahead = look_ahead
        self.pool_look_ahead = pool_look_ahead
        self.sees_files_late = False
        self.running: dict[str, LaunchRequest] = {}
        self.num_submitted = 0
        self.cancelled: list[tuple[str, int]] = []
        self.signals: list[tuple[str, int, int]] = []
        self.extended: list[tuple[str, int, float]] = []
        self.is_open = False
        self._script = script or (_succeed if auto else None)
        self._adopts = dict(adopts or {})
        self._time_left = time_left
        self._num_jobs = 0
        self._post: Post | None = None
        self._changed = threading.Condition(threading.RLock())

    def open(self, post: Post, orphans: Sequence[Orphan] = ()) -> Allocation:
        """Return the allocation; events go to `post` from now on."""
        with self._changed:
            self._post = post
            self.is_open = True
            for orphan in orphans:
                request = self._adopts.get(orphan.chore_id)
                if request is not None and request.attempt == orphan.attempt:
                    self._run(request, orphan.jobid)
                else:
                    detail = "the fake executor does not know it"
                    self._emit(AttemptLost(orphan.chore_id, orphan.attempt, detail))
        return self.allocation

    def submit(self, request: LaunchRequest) -> None:
        """Take a request; it ends by the script, or by `finish`."""
        with self._changed:
            self.num_submitted += 1
            self._run(request)

    def flush(self) -> None:
        """Do nothing: what was submitted is known."""

    def cancel(self, chore_id: str, attempt: int) -> None:
        """End an attempt as TERM would; unknown ones are ignored."""
        with self._changed:
            self.cancelled.append((chore_id, attempt))
            request = self.running.get(chore_id)
            if request is not None and request.attempt == attempt:
                del self.running[chore_id]
                self._end(chore_id, attempt, Outcome(-15, Reason.CANCELLED))

    def signal(self, chore_id: str, attempt: int, number: int) -> None:
        """Note a signal; nothing ends by it."""
        with self._changed:
            self.signals.append((chore_id, attempt, number))

    def extend(self, chore_id: str, attempt: int, duration: float) -> None:
        """Note a longer duration; none is enforced here."""
        with self._changed:
            self.extended.append((chore_id, attempt, duration))

    def time_left(self) -> float | None:
        """Return what it was told when it was made."""
        return self._time_left

    def close(self, *, abandon: bool = False) -> None:
        """Forget what runs, unless it is abandoned; nothing is posted any more."""
        with self._changed:
            self.is_open = False
            self._post = None
            if not abandon:
                self.running.clear()
            self._changed.notify_all()

    def finish(
        self,
        chore_id: str,
        exit_code: int | None = 0,
        reason: Reason | None = None,
        detail: str = "",
        elapsed: float | None = None,
    ) -> None:
        """End a running chore.

        Parameters
        ----------
        chore_id
            The chore.
        exit_code
            As in `JobEnded`: 0 is success, ``-n`` is signal n.
        reason
            What the executor knows for itself; None lets the exit code speak.
        detail
            One line for people.
        elapsed
            Seconds that it ran; None: nobody knows.

        Raises
        ------
        LookupError
            If the chore does not run here.
        """
        with self._changed:
            request = self.running.pop(chore_id, None)
            if request is None:
                raise LookupError(f"{chore_id} does not run here; running: {[*self.running]}")
            self._end(chore_id, request.attempt, Outcome(exit_code, reason, detail, elapsed))

    def finish_all(self) -> int:
        """End what runs now with success, oldest first; return how many there were."""
        with self._changed:
            chore_ids = [*self.running]
            for chore_id in chore_ids:
                self.finish(chore_id)
            return len(chore_ids)

    def lose_nodes(self, *nodes: int) -> None:
        """Tell that nodes were lost, by their indices; what runs there goes on until `finish`."""
        with self._changed:
            self._emit(NodesChanged(lost=frozenset(nodes)))

    def bring_back_nodes(self, *nodes: int) -> None:
        """Tell that lost nodes are back, by their indices."""
        with self._changed:
            self._emit(NodesChanged(back=frozenset(nodes)))

    def measure_launch(self, seconds: float) -> None:
        """Tell what it costs to start a process."""
        with self._changed:
            self._emit(LaunchMeasured(seconds))

    def lose_pool(self, detail: str) -> None:
        """Tell that no warm worker can be had: pooled chores that run are lost."""
        with self._changed:
            pooled = [request for request in self.running.values() if request.is_pooled]
            self._emit(PoolLost(detail))
            for request in pooled:
                del self.running[request.chore_id]
                self._emit(AttemptLost(request.chore_id, request.attempt, detail))

    def lose(self, problem: str) -> None:
        """Fail as an executor that cannot go on: everything running is lost, nothing follows."""
        with self._changed:
            self.running.clear()
            self._emit(ExecutorLost(problem))
            self._post = None

    def wait_running(self, *chore_ids: str, timeout: float = 10.0) -> None:
        """Wait until all these chores run here.

        Raises
        ------
        TimeoutError
            If they do not within `timeout` seconds.
        """
        wanted = set(chore_ids)
        with self._changed:
            if not self._changed.wait_for(lambda: wanted <= self.running.keys(), timeout):
                missing = sorted(wanted - self.running.keys())
                raise TimeoutError(f"not running after {timeout} s: {', '.join(missing)}")

    def _run(self, request: LaunchRequest, jobid: str | None = None) -> None:
        chore_id, attempt = request.chore_id, request.attempt
        if jobid is None:
            self._num_jobs += 1
            jobid = f"{self.name}-{self._num_jobs}"
        self._emit(ChoreSubmitted(chore_id, attempt, jobid))
        outcome = None if self._script is None else self._script(request)
        if outcome is None or (outcome.exit_code is not None and not request.is_pooled):
            self._emit(ChoreStarted(chore_id, attempt, self.allocation.nodes[0].name))
        if outcome is None:
            self.running[chore_id] = request
            self._changed.notify_all()
        else:
            self._end(chore_id, attempt, outcome)

    def _end(self, chore_id: str, attempt: int, outcome: Outcome) -> None:
        self._emit(JobEnded(chore_id, attempt, *outcome))
        self._emit(ResourcesFreed(chore_id, attempt))

    def _emit(self, event: Any) -> None:
        if self._post is not None:
            self._post(event)


class ManualClock:
    """A clock that moves when told. It has the functions of the module `time` of the same names.

    Parameters
    ----------
    monotonic
        Seconds it starts at.
    time
        Seconds since the Unix epoch it starts at; the default is 2026-01-01T00:00:00Z.
    """

    def __init__(self, monotonic: float = 0.0, time: float = 1_767_225_600.0) -> None:
        self._monotonic = monotonic
        self._time = time

    def monotonic(self) -> float:
        """Return seconds since some instant; never goes back."""
        return self._monotonic

    def time(self) -> float:
        """Return seconds since the Unix epoch."""
        return self._time

    def advance(self, seconds: float) -> None:
        """Let time pass, at least 0 seconds.

        Raises
        ------
        ValueError
            If `seconds` is negative.
        """
        if seconds < 0:
            raise ValueError(f"time cannot go back by {-seconds} s")
        self._monotonic += seconds
        self._time += seconds


def make_chore(
    chore_id: str,
    *,
    deps: Sequence[Dependency] = (),
    after: Sequence[str] = (),
    name: str = "work",
    kind: ChoreType = ChoreType.EXECUTABLE,
    tasks: int = 1,
    cores: int = 1,
    gpus: int = 0,
    resources: Resources | None = None,
    **fields: Any,
) -> Chore:
    """Return a chore with as few words as a test needs.

    Parameters
    ----------
    chore_id
        Its id.
    deps
        What it takes as arguments: chore ids or gathers.
    after
        Chores that must complete first, without data.
    name
        Its group.
    kind
        An executable (``true``) is settled by its exit code alone; a Python chore needs a result.
    tasks, cores, gpus
        Tasks, and cores and GPUs of each.
    resources
        Instead of these three.
    **fields
        Further fields of `Chore`.
    """
    if kind is ChoreType.PYTHON:
        fields.setdefault("callable", name)
    else:
        fields.setdefault("command", ("true",))
    return Chore(
        id=chore_id,
        name=name,
        kind=kind,
        deps=tuple(deps),
        after=tuple(after),
        resources=resources or Resources(num_tasks=tasks, cores_per_task=cores, gpus_per_task=gpus),
        **fields,
    )
