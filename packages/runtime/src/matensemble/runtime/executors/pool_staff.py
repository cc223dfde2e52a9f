"""The warm workers of a pool: who is there, who comes, who is told to go.

Owns the list of workers and their way from the submission to the end, without what they serve.
Pure; called by `pool_book` and `pool_dealer`.
"""

from __future__ import annotations

from collections.abc import Iterator

from matensemble import pool_messages as messages
from matensemble.runtime.executors.pool_hands import Hands
from matensemble.runtime.executors.pool_nodes import PoolNode
from matensemble.runtime.executors.pool_worker import PooledChore, Worker, WorkerState

IDLE_SECONDS = 10.0
"""How long a worker may have nothing to do before it is ended."""
HELLO_SECONDS = 120.0
"""How long a started worker may take until it says hello: file systems can be slow."""
QUEUE_SECONDS = 60.0
"""How long a worker may wait in the executor inside for cores of which nobody here knows any use:
somebody else holds some of them, and behind a worker that waits nothing else may start."""
LEAVE_SECONDS = 30.0
"""How long a worker may take to end that has nothing left to do."""
MAX_UNANSWERED = 24
"""Pings without an answer, after which a worker is ended: two minutes. One that cannot hear its
driver ends by itself, long before; this is for one that hangs, and file systems can be slow."""


class PoolStaff:
    """All workers that are not settled.

    Attributes
    ----------
    now
        The time, by a monotonic clock; set by the caller.

    Parameters
    ----------
    nodes
        Where they may be.
    hands
        What carries out.
    prefix
        What their keys begin with.
    """

    def __init__(self, nodes: list[PoolNode], hands: Hands, prefix: str) -> None:
        self.now = 0.0
        self._nodes = nodes
        self._hands = hands
        self._prefix = prefix
        self._workers: dict[str, Worker] = {}
        self._num_started = 0
        self._ping_at = 0.0

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers.values())

    def __len__(self) -> int:
        return len(self._workers)

    def get(self, key: str) -> Worker | None:
        """Return a worker, None once it is settled."""
        return self._workers.get(key)

    @property
    def num_ready_cores(self) -> int:
        """Cores of the workers that take chores now."""
        return sum(worker.cores for worker in self._workers.values() if worker.is_ready)

    def start(self, node: PoolNode) -> None:
        """Start a worker that has whatever is free on a node."""
        self._num_started += 1
        cores, gpus = node.for_worker()
        key = f"{self._prefix}{self._num_started}"
        worker = Worker(key, node.index, node.name, cores, gpus, submitted_at=self.now)
        self._workers[key] = worker
        node.workers.append(worker)
        self._hands.start(worker)

    def close(self, worker: Worker) -> None:
        """End a worker when what runs in it has ended; what has not started comes back."""
        if not worker.is_open:
            return
        worker.is_unwanted = True
        worker.asked_at = self.now
        if worker.is_ready:
            worker.state = WorkerState.CLOSING
            self._hands.tell(worker, messages.Close())
        elif worker.started_at is None:
            worker.state = WorkerState.CLOSING
            self._hands.stop((worker.key, 1))

    def make_room(self, node: PoolNode, cores: int, gpus: int) -> None:
        """End workers of a node so that as much will be free there."""
        for worker in node.who_makes_room(cores, gpus):
            self.close(worker)

    def make_room_for(self, node: PoolNode, chore: PooledChore) -> None:
        """End workers of a node that are too small for a chore, for one that is not."""
        self.make_room(node, chore.cores + node.wanted_cores, chore.gpus + node.wanted_gpus)

    def free(self, worker: Worker) -> PoolNode:
        """Note that the cores of a worker are back; return its node."""
        node = self._nodes[worker.node]
        if not worker.is_freed:
            worker.is_freed = True
            node.workers.remove(worker)
        return node

    def forget_if_settled(self, worker: Worker) -> None:
        """Drop a worker of which nothing is expected any more."""
        if worker.is_freed and worker.state is WorkerState.ENDED and not worker.chores:
            self._workers.pop(worker.key, None)

    def distrust(self, worker: Worker, complaint: str) -> None:
        """End a worker that does wrong; what it has is lost with it."""
        if worker.state is not WorkerState.ENDED:
            worker.complaint = worker.complaint or complaint
            self._hands.stop((worker.key, 1))

    def look_after(self, idle_seconds: float) -> None:
        """Ping workers, and end those that say nothing or have had nothing to do for long."""
        is_ping_due = self.now >= self._ping_at
        if is_ping_due:
            self._ping_at = self.now + messages.PING_SECONDS
        for worker in [*self._workers.values()]:
            if worker.state is WorkerState.ENDED:
                continue
            if is_ping_due and worker.started_at is not None:
                # Also one that has not said hello: it would take us for dead.
                worker.num_unanswered += worker.state is not WorkerState.STARTING
                self._hands.tell(worker, messages.Ping())
            if worker.complaint:
                continue
            if self._is_overdue(worker):
                self.distrust(worker, "it did not answer")
            elif worker.is_queued and self.now - worker.submitted_at > QUEUE_SECONDS:
                self.distrust(worker, f"it got no cores for {QUEUE_SECONDS:g} s; who has them?")
            elif worker.is_idle and self.now - worker.idle_since >= idle_seconds:
                self.close(worker)

    def _is_overdue(self, worker: Worker) -> bool:
        """Whether a worker should have said something, or have ended, long ago."""
        if worker.state is WorkerState.STARTING:
            return worker.started_at is not None and self.now - worker.started_at > HELLO_SECONDS
        if worker.num_unanswered >= MAX_UNANSWERED:
            return True
        is_leaving = worker.state is WorkerState.CLOSING and not worker.chores
        since = max(worker.asked_at, worker.idle_since)
        return is_leaving and self.now - since > LEAVE_SECONDS
