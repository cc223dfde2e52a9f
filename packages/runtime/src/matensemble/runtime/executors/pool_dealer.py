"""Which worker serves which pooled chore.

Owns the queues of chores that no worker has: one a node, for what the scheduler placed there, and
one for what may run anywhere; and how they get to workers, in batches. Pure; called by `pool_book`.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable

from matensemble import pool_messages as messages
from matensemble.runtime.executors.pool_hands import Hands
from matensemble.runtime.executors.pool_nodes import PoolNode, by_room, first, push_front
from matensemble.runtime.executors.pool_staff import PoolStaff
from matensemble.runtime.executors.pool_worker import Key, PooledChore, Worker
from matensemble.runtime.scheduler.events import ChoreSubmitted

LOOK_SECONDS = 0.25
"""How long something may wait in vain before it is looked whether it is better off elsewhere."""
MAX_BATCH = 256
"""Chores in a message: the first is to start before the last was read."""


class PoolDealer:
    """Pooled chores without a worker.

    Parameters
    ----------
    nodes
        Where workers may be.
    staff
        The workers.
    hands
        What carries out.
    give_up
        Called with a chore that no node can ever serve, and why.
    """

    def __init__(
        self,
        nodes: list[PoolNode],
        staff: PoolStaff,
        hands: Hands,
        give_up: Callable[[PooledChore, str], None],
    ) -> None:
        self._nodes = nodes
        self._staff = staff
        self._hands = hands
        self._give_up = give_up
        self._anywhere: OrderedDict[Key, PooledChore] = OrderedDict()
        self._aside: OrderedDict[Key, PooledChore] = OrderedDict()
        self._hungry: dict[int, None] = {}
        self._outgoing: dict[Worker, list[PooledChore]] = {}

    def queue(self, chore: PooledChore) -> None:
        """Let a new chore wait for a worker, behind those that came earlier."""
        self._queue_of(chore)[chore.key] = chore

    def requeue(self, chores: Iterable[PooledChore]) -> None:
        """Let chores that no worker has any more wait in front of all others, in their order."""
        for chore in sorted(chores, key=lambda chore: -chore.number):
            chore.queued_at = self._staff.now
            push_front(self._queue_of(chore), chore)

    def _queue_of(self, chore: PooledChore) -> OrderedDict[Key, PooledChore]:
        if chore.node is not None:
            node = self._nodes[chore.node]
            if node.is_usable:
                self._hungry[node.index] = None
                return node.waiting
            chore.node = None
        return self._anywhere

    def unqueue(self, chore: PooledChore) -> None:
        """Let a chore wait no longer."""
        if chore.node is not None:
            del self._nodes[chore.node].waiting[chore.key]
        elif self._aside.pop(chore.key, None) is None:
            del self._anywhere[chore.key]

    def send_elsewhere(self, node: PoolNode, limit: int | None = None) -> None:
        """Let chores that wait for a node run anywhere, up to `limit` of them."""
        count = len(node.waiting) if limit is None else min(limit, len(node.waiting))
        for _ in range(count):
            _, chore = node.waiting.popitem(last=False)
            chore.node = None
            self._anywhere[chore.key] = chore

    def wake(self, node: PoolNode) -> None:
        """Look again at what waits for a node, and at what was put aside."""
        if node.waiting:
            self._hungry[node.index] = None
        self.look_again()

    def look_again(self) -> None:
        """Look again at what was put aside: there may be room by now."""
        while self._aside:
            _, chore = self._aside.popitem()
            push_front(self._anywhere, chore)

    def deal(self) -> None:
        """Give out what can be given, and see to workers for the rest."""
        for index in [*self._hungry]:
            self._feed(self._nodes[index])
        if self._anywhere:
            self._spread()
        for worker, chores in self._outgoing.items():
            for begin in range(0, len(chores), MAX_BATCH):
                batch = chores[begin : begin + MAX_BATCH]
                self._hands.tell(worker, messages.Run(tuple(chore.order() for chore in batch)))
        self._outgoing.clear()

    def _feed(self, node: PoolNode) -> None:
        """Give workers of a node what the scheduler placed there."""
        while node.waiting:
            chore = first(node.waiting)
            able = [w for w in node.workers if w.is_open and w.can_hold(chore)]
            ready = [w for w in able if w.is_ready]
            roomy = [w for w in ready if w.has_room(chore)]
            if not roomy:
                if len(ready) < len(able):
                    return  # one that can hold it will be there soon
                if _fits(node.for_worker(), chore):
                    self._staff.start(node)
                    return
                if not ready and _fits(node.for_pool(), chore):
                    self._staff.make_room_for(node, chore)
                    return
                if not ready:
                    self.send_elsewhere(node, 1)
                    continue
            del node.waiting[chore.key]
            self._give(chore, min(roomy or ready, key=lambda w: w.load))
        self._hungry.pop(node.index, None)

    def _spread(self) -> None:
        """Give chores that may run anywhere to the workers with least to do.

        One for which there is no worker now is put aside: others need not wait for it.
        """
        heap = [
            (worker.crowding, number, worker)
            for number, worker in enumerate(self._staff)
            if worker.is_ready
        ]
        heapq.heapify(heap)
        hopeless = set()
        for chore in [*self._anywhere.values()]:
            skipped = []
            while heap and not heap[0][2].can_hold(chore):
                skipped.append(heapq.heappop(heap))
            if heap:
                _, number, worker = heap[0]
                self._give(chore, worker)
                heapq.heapreplace(heap, (worker.crowding, number, worker))
            elif (chore.cores, chore.gpus) in hopeless or self._find_room(chore):
                if chore.key not in self._anywhere:
                    break  # no worker can be had, and whatever waited is lost
                hopeless.add((chore.cores, chore.gpus))
                self._aside[chore.key] = chore
            for entry in skipped:
                heapq.heappush(heap, entry)
        self._anywhere.clear()

    def _find_room(self, chore: PooledChore) -> bool:
        """See to it that there will be a worker for a chore; return whether there can be one."""
        if any(worker.is_open and worker.can_hold(chore) for worker in self._staff):
            return True  # it will be ready soon
        node = next(by_room(self._nodes, chore.cores, chore.gpus), None)
        if node is not None:
            if _fits(node.for_worker(), chore):
                self._staff.start(node)
            else:
                self._staff.make_room_for(node, chore)
            return True
        can_wait = any(
            _fits((node.cores, node.gpus), chore) and (node.is_usable or node.is_lost)
            for node in self._nodes
        )
        if not can_wait:
            self._give_up(chore, "no node can have a warm worker for it")
        return can_wait

    def _give(self, chore: PooledChore, worker: Worker) -> None:
        worker.take(chore, self._staff.now)
        self._outgoing.setdefault(worker, []).append(chore)
        if not chore.is_told:
            chore.is_told = True
            self._hands.post(ChoreSubmitted(*chore.key, f"{worker.jobid}/{worker.key}"))

    def balance(self) -> None:
        """Let workers without work have what waits elsewhere."""
        idle = [w for w in self._staff if w.is_idle]
        if not idle:
            self._grow()
            return
        room = sum(worker.cores for worker in idle)
        for index in self._hungry:
            node = self._nodes[index]
            if node.waiting and self._staff.now - first(node.waiting).queued_at > LOOK_SECONDS:
                self.send_elsewhere(node, room)
                return
        crowded = self._find_crowded()
        if crowded:
            worker = max(crowded, key=lambda w: w.load - w.cores)
            worker.asked_at = self._staff.now
            num_waiting = len(worker.chores) * (worker.load - worker.cores) // worker.load
            self._hands.tell(worker, messages.Withdraw(-(-num_waiting // 2) or 1))

    def _grow(self) -> None:
        """Start a worker where cores have become free while what waits is with full workers."""
        crowded = self._find_crowded()
        if not crowded or any(w.is_open and not w.is_ready for w in self._staff):
            return
        chore = next(reversed(crowded[0].chores.values()))
        for node in self._nodes:
            if node.is_usable and _fits(node.for_worker(), chore):
                self._staff.start(node)
                return

    def _find_crowded(self) -> list[Worker]:
        """Return the workers that have had more than fits at once for a while."""
        return [
            worker
            for worker in self._staff
            if worker.is_ready
            and worker.crowded_since is not None
            and self._staff.now - worker.crowded_since > LOOK_SECONDS
            and self._staff.now - worker.asked_at > LOOK_SECONDS
        ]


def _fits(room: tuple[int, int], chore: PooledChore) -> bool:
    return chore.cores <= room[0] and chore.gpus <= room[1]
