"""What each node has for warm workers, and who makes room there.

Owns the count of what workers and jobs hold of a node, and the choice of the workers that end where
something else needs their cores. Pure; called by `pool_book`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from matensemble.runtime.executors.pool_worker import Key, PooledChore, Worker, WorkerState

MAX_FAILED_STARTS = 2
"""Workers in a row that could not start on a node, after which none is tried there any more."""


@dataclass(slots=True, eq=False)
class PoolNode:
    """One node of the allocation."""

    index: int
    name: str
    cores: int
    gpus: int
    workers: list[Worker] = field(default_factory=list)
    """Those that hold something of it."""
    job_cores: int = 0
    """Held by jobs that were handed on."""
    job_gpus: int = 0
    wanted_cores: int = 0
    """Held by nobody yet, but kept for jobs that wait for workers to end."""
    wanted_gpus: int = 0
    waiting: OrderedDict[Key, PooledChore] = field(default_factory=OrderedDict)
    """Chores that the scheduler placed here and no worker has, in order."""
    is_lost: bool = False
    num_failed_starts: int = 0

    @property
    def is_usable(self) -> bool:
        """Whether workers can be had here."""
        return not self.is_lost and self.num_failed_starts < MAX_FAILED_STARTS

    def free(self) -> tuple[int, int]:
        """Return the cores and GPUs that neither workers nor jobs hold."""
        return (
            self.cores - self.job_cores - sum(worker.cores for worker in self.workers),
            self.gpus - self.job_gpus - sum(worker.gpus for worker in self.workers),
        )

    def for_worker(self) -> tuple[int, int]:
        """Return the cores and GPUs that a new worker would have."""
        cores, gpus = self.free()
        return cores - self.wanted_cores, max(0, gpus - self.wanted_gpus)

    def for_pool(self) -> tuple[int, int]:
        """Return the cores and GPUs that one worker would have, were there no other."""
        return (
            self.cores - self.job_cores - self.wanted_cores,
            self.gpus - self.job_gpus - self.wanted_gpus,
        )

    def coming(self) -> tuple[int, int]:
        """Return the cores and GPUs that are free, or will be when closing workers have ended."""
        cores, gpus = self.free()
        for worker in self.workers:
            if not worker.is_open:
                cores += worker.cores
                gpus += worker.gpus
        return cores, gpus

    def who_makes_room(self, cores: int, gpus: int) -> list[Worker]:
        """Return the workers to end so that as much is, or will be, free.

        The smallest idle one that suffices; else all idle ones, and of the busy ones those with
        least to do. One that has just been started is left alone until it is ready.
        """
        coming_cores, coming_gpus = self.coming()
        cores, gpus = cores - coming_cores, gpus - coming_gpus
        if cores <= 0 and gpus <= 0:
            return []
        idle = [w for w in self.workers if w.is_idle or _can_be_taken_back(w)]
        enough = [w for w in idle if w.cores >= cores and w.gpus >= gpus]
        if enough:
            return [min(enough, key=lambda w: w.cores)]
        chosen = []
        busy = sorted((w for w in self.workers if w.is_ready and w.chores), key=lambda w: w.load)
        for worker in (*idle, *busy):
            if (cores > 0 and worker.cores) or (gpus > 0 and worker.gpus):
                chosen.append(worker)
                cores -= worker.cores
                gpus -= worker.gpus
            if cores <= 0 and gpus <= 0:
                break
        return chosen


def _can_be_taken_back(worker: Worker) -> bool:
    """Whether a worker was asked for, but its process has not been started."""
    return worker.state is WorkerState.STARTING and worker.started_at is None


def first(queue: OrderedDict[Key, PooledChore]) -> PooledChore:
    """Return the first of a queue that is not empty."""
    return next(iter(queue.values()))


def push_front(queue: OrderedDict[Key, PooledChore], chore: PooledChore) -> None:
    """Put a chore in front of a queue."""
    queue[chore.key] = chore
    queue.move_to_end(chore.key, last=False)


def by_room(nodes: Iterable[PoolNode], cores: int, gpus: int) -> Iterator[PoolNode]:
    """Yield the usable nodes that could hold as much, those nearest to having room first."""

    def missing(node: PoolNode) -> tuple[int, int]:
        coming_cores, coming_gpus = node.coming()
        spare = min(coming_cores - node.wanted_cores - cores, coming_gpus - node.wanted_gpus - gpus)
        return -min(0, spare), sum(worker.load for worker in node.workers)

    able = []
    for node in nodes:
        pool_cores, pool_gpus = node.for_pool()
        if node.is_usable and pool_cores >= cores and pool_gpus >= gpus:
            able.append(node)
    yield from sorted(able, key=missing)
