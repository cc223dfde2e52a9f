"""Jobs of their own beside warm workers: what they hold, and which of them wait for workers to end.

Owns the way of a job from the engine to the executor inside. Pure; called by `pool_book`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from matensemble.runtime.executors.pool_nodes import PoolNode
from matensemble.runtime.executors.pool_worker import Key
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.scheduler.resources import Placement


@dataclass(slots=True, eq=False)
class _Job:
    shares: Placement
    """What it holds, as expected, or as the executor told."""
    request: LaunchRequest | None = None
    """What is to be submitted, while it waits here."""
    submitted_at: float = 0.0
    is_placed: bool = False


class PoolJobs:
    """All jobs of their own that are not over.

    Parameters
    ----------
    nodes
        Where they hold something.
    submit
        Hands a request to the executor inside.
    """

    def __init__(self, nodes: Sequence[PoolNode], submit: Callable[[LaunchRequest], None]) -> None:
        self._nodes = nodes
        self._submit = submit
        self._jobs: dict[Key, _Job] = {}
        self._waiting: dict[Key, _Job] = {}
        self._unplaced: dict[Key, _Job] = {}

    def add(self, request: LaunchRequest, now: float) -> None:
        """Take a request; it is handed on at once unless workers hold what it is to have."""
        job = _Job(request.placement or (), request)
        key = request.chore_id, request.attempt
        self._jobs[key] = self._waiting[key] = job
        self._want(job, 1)
        self._admit(key, job, now)

    def admit(self, now: float) -> set[int]:
        """Hand on what has room by now; return the nodes on which others still want some."""
        for key, job in [*self._waiting.items()]:
            self._admit(key, job, now)
        return {share.node for job in self._waiting.values() for share in job.shares}

    def _admit(self, key: Key, job: _Job, now: float) -> None:
        if job.request is None or not all(
            _has_room(self._nodes[share.node], share.cores, share.gpus) for share in job.shares
        ):
            return
        request, job.request = job.request, None
        del self._waiting[key]
        self._want(job, -1)
        self._hold(job, 1)
        job.submitted_at = now
        self._unplaced[key] = job
        self._submit(request)

    def withdraw(self, key: Key) -> bool:
        """Forget a job that waits here; return whether it did."""
        job = self._waiting.pop(key, None)
        if job is None:
            return False
        del self._jobs[key]
        self._want(job, -1)
        return True

    def is_waiting(self, key: Key) -> bool:
        """Whether a job waits here, so that the executor inside knows nothing of it."""
        return key in self._waiting

    def extend(self, key: Key, duration: float) -> None:
        """Change the time limit of a job that waits here."""
        request = self._waiting[key].request
        assert request is not None
        resources = replace(request.resources, duration=duration)
        self._waiting[key].request = request._replace(resources=resources)

    def placed(self, key: Key, placement: Placement | None) -> None:
        """Believe the executor inside about what a job holds; None: what was expected."""
        job = self._jobs.get(key)
        if job is None:
            if not placement:
                return
            job = self._jobs[key] = _Job(())  # of an earlier driver
        self._unplaced.pop(key, None)
        if placement is not None:
            self._hold(job, -1)
            job.shares = placement
            self._hold(job, 1)

    def over(self, key: Key) -> None:
        """Forget a job that has ended."""
        job = self._jobs.pop(key, None)
        if job is not None:
            self._unplaced.pop(key, None)
            self._hold(job, -1)

    def waiting_since(self) -> float | None:
        """Return when the oldest job was handed on that is not placed yet, None where all are."""
        return next((job.submitted_at for job in self._unplaced.values()), None)

    def _want(self, job: _Job, sign: int) -> None:
        for node, share in self._shares(job):
            node.wanted_cores += sign * share[0]
            node.wanted_gpus += sign * share[1]

    def _hold(self, job: _Job, sign: int) -> None:
        for node, share in self._shares(job):
            node.job_cores += sign * share[0]
            node.job_gpus += sign * share[1]

    def _shares(self, job: _Job) -> Iterable[tuple[PoolNode, tuple[int, int]]]:
        return [(self._nodes[share.node], share[1:]) for share in job.shares]


def _has_room(node: PoolNode, cores: int, gpus: int) -> bool:
    """Whether workers keep nothing from a job: what other jobs hold is no business of ours."""
    free_cores, free_gpus = node.free()
    return not node.workers or (cores <= free_cores and gpus <= free_gpus)
