"""Who starts next, and where: the order of starts, and what each chore holds.

Owns the ledger, the ready chores, and the memory of who waits. It changes what an entry *holds*,
never its state: that is `SchedulerState`'s, its only caller.

Ready chores start in the order ``(nice, admission)``. One that does not fit is overtaken by later
ones that do, but not for ever: once those that overtook the *first* waiting chore were given
`Policy.patience` times the cores of the allocation, nodes are set aside for it (the ones closest
to having room), and nothing behind it starts there until it does. Chores in front of it are
finitely many, so each becomes the first in time.

What is for warm workers may queue there beyond what fits, so that they need not wait for us between
two short chores. That is overtaking too, and ends where nodes are set aside.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from matensemble.runtime.scheduler.entry import Entry
from matensemble.runtime.scheduler.policy import Policy
from matensemble.runtime.scheduler.ready_queue import ReadyQueue
from matensemble.runtime.scheduler.resources import (
    Allocation,
    Ledger,
    Placement,
    Shape,
    can_ever_fit,
    nodes_to_set_aside,
)
from matensemble.runtime.scheduler.states import READY

_NONE: frozenset[int] = frozenset()


class Start(NamedTuple):
    """One chore that is to start now."""

    entry: Entry
    placement: Placement | None
    """None: it queues at the executor, beyond what fits."""
    avoid: frozenset[int]
    """Nodes that are set aside for another chore."""


class Starter:
    """Chooses what starts.

    Parameters
    ----------
    policy
        Patience and look-ahead.
    """

    def __init__(self, policy: Policy) -> None:
        self.ledger = Ledger(Allocation(()))
        self._whole = Allocation(())
        self.queued: OrderedDict[str, Entry] = OrderedDict()
        """Submitted beyond what fits, oldest first; its oldest is found in O(1), unlike a dict's
        that was emptied from its front."""
        self.waiter: Entry | None = None
        """The first in order of those that did not fit when starts were last considered."""
        self._policy = policy
        self.too_long: dict[str, Entry] = {}
        """Ready, and asking for more time than was left."""
        self.put_aside: list[Entry] = []
        """The latest of these; whoever takes notice empties it."""
        self.lingering: dict[tuple[str, int], Placement] = {}
        """What attempts hold that are over and will be made again, until it is given back."""
        self._ready: ReadyQueue[Entry] = ReadyQueue()
        self._fits: dict[Shape, bool] = {}
        self._overtaken_cores = 0
        self._set_aside = _NONE

    def begin(self, allocation: Allocation) -> None:
        """Take the nodes that chores may use."""
        self.ledger = Ledger(allocation)
        self._whole = allocation

    def can_ever_fit(self, shape: Shape) -> bool:
        """Return whether a shape fits into the empty allocation; looked up once a shape.

        Nodes that are lost count: they may come back, and the run can go on elsewhere.
        """
        fits = self._fits.get(shape)
        if fits is None:
            fits = self._fits[shape] = can_ever_fit(shape, self._whole)
        return fits

    def push(self, entry: Entry) -> None:
        """Take a chore that waits for resources only."""
        self._ready.push(entry)

    def waiting(self) -> list[Entry]:
        """Return the chores that wait for resources only, in no order. O(their number).

        One that left and came back may be in it twice, and one that was put aside may have ended.
        """
        return [*self._ready, *self.too_long.values()]

    def starts(self, time_left: float | None = None, pool_look_ahead: int = 0) -> Iterator[Start]:
        """Yield what starts now, in order; the caller moves each on before it asks for the next.

        Parameters
        ----------
        time_left
            Seconds for which a chore can run; those that ask for more are put aside, for good,
            since time only gets less. None: no limit.
        pool_look_ahead
            How many may queue at warm workers beyond what fits.
        """
        first_waiting: Entry | None = None
        for entry in self._ready.in_order():
            is_overtaking = first_waiting is not None
            if self.ledger.free_cores <= 0 or (is_overtaking and self._policy.patience <= 0):
                if first_waiting is None:
                    first_waiting = entry
                    self._wait_first(entry)
                break
            if self._hold_back(entry, time_left):
                continue
            avoid = self._set_aside if is_overtaking else _NONE
            placement, avoid = self._find(entry, avoid)
            if placement is not None:
                if is_overtaking:
                    self._overtaken_cores += entry.shape.num_cores
                self._ready.pop(entry.shape)
                self._hold(entry, placement)
                yield Start(entry, placement, avoid)
            elif first_waiting is None:
                first_waiting = entry
                self._wait_first(entry)
        if first_waiting is None:
            self.forget_waiter()
            return
        if self._policy.look_ahead:
            yield from self._look_ahead(time_left)
        if pool_look_ahead:
            yield from self._look_ahead_of_pool(first_waiting, time_left, pool_look_ahead)

    def _hold_back(self, entry: Entry, time_left: float | None) -> bool:
        """Take a chore out of the ready that would not end in time; return whether it is one."""
        if time_left is None or (entry.chore.resources.duration or 0.0) <= time_left:
            return False
        self._ready.pop(entry.shape)
        self.too_long[entry.chore.id] = entry
        self.put_aside.append(entry)
        return True

    def _find(self, entry: Entry, avoid: frozenset[int]) -> tuple[Placement | None, frozenset[int]]:
        """Return where a chore fits, and the nodes it keeps off."""
        avoid = avoid | self._shunned_by(entry)
        return self.ledger.find(entry.shape, avoid), avoid

    def _shunned_by(self, entry: Entry) -> frozenset[int]:
        """Return the nodes on which a chore was lost, as long as others could ever hold it."""
        own = entry.past.avoid
        if own and Ledger(self.ledger.allocation).find(entry.shape, own) is None:
            return _NONE
        return own

    def forget_waiter(self) -> None:
        """Note that nothing waits for room any more."""
        self.waiter, self._set_aside = None, _NONE

    def _wait_first(self, entry: Entry) -> None:
        """Note who is the first that does not fit; set nodes aside when its patience is over."""
        if entry is not self.waiter:
            self.waiter, self._set_aside, self._overtaken_cores = entry, _NONE, 0
        limit = self._policy.patience * self.ledger.allocation.num_cores
        if self._set_aside or self._overtaken_cores < limit:
            return
        if can_ever_fit(entry.shape, self.ledger.allocation):  # else it waits for a lost node
            self._set_aside = nodes_to_set_aside(entry.shape, self.ledger)

    def _look_ahead(self, time_left: float | None) -> Iterator[Start]:
        """Let chores queue at the executor, so that freed cores need not wait for us.

        Only while one shape waits: a resource manager that blocks behind the first job that does
        not fit would otherwise keep other shapes from cores that are free.
        """
        shapes = self._ready.shapes
        while len(shapes) == 1 and len(self.queued) < self._policy.look_ahead:
            entry = self._ready.head(shapes[0])
            if entry is None or entry.shape.is_pooled:
                return
            if self._hold_back(entry, time_left):
                continue
            yield self._queue(entry)

    def _look_ahead_of_pool(
        self, first_waiting: Entry, time_left: float | None, limit: int
    ) -> Iterator[Start]:
        """Let chores queue at warm workers.

        One shape at a time, since a worker keeps their order, and a chore that does not fit there
        would keep cores idle that others behind it could use.
        """
        heads = [self._ready.head(shape) for shape in self._ready.shapes if shape.is_pooled]
        first = min((head for head in heads if head), key=lambda head: head.order, default=None)
        if first is None:
            return
        shape = first.shape
        while len(self.queued) < limit and not self._set_aside:
            entry = self._ready.head(shape)
            latest = next(reversed(self.queued.values()), None)
            if entry is None or (latest is not None and latest.shape != shape):
                return
            if self._hold_back(entry, time_left):
                continue
            if first_waiting.order < entry.order and first_waiting.state is READY:
                self._overtaken_cores += shape.num_cores
                self._wait_first(first_waiting)
            yield self._queue(entry)

    def _queue(self, entry: Entry) -> Start:
        self._ready.pop(entry.shape)
        self.queued[entry.chore.id] = entry
        return Start(entry, None, self._shunned_by(entry))

    def give_back(self, entry: Entry) -> None:
        """Take back what a chore held, and expect queued ones on it, oldest first."""
        self._release(entry)
        self._expect_queued()

    def let_linger(self, entry: Entry) -> None:
        """Keep apart what the last attempt of a chore holds, so that it can start again."""
        if entry.placement is not None:
            self.lingering[entry.chore.id, entry.attempt] = entry.placement
            entry.placement = None

    def give_back_lingering(self, chore_id: str, attempt: int) -> None:
        """Take back what an attempt held that is over; does nothing where it holds nothing."""
        placement = self.lingering.pop((chore_id, attempt), None)
        if placement is not None:
            self.ledger.give_back(placement)
            self._expect_queued()

    def _expect_queued(self) -> None:
        while self.queued:
            waiting = next(iter(self.queued.values()))
            placement = self.ledger.find(waiting.shape, self._shunned_by(waiting))
            if placement is None:
                return
            self._hold(waiting, placement)

    def correct(self, entry: Entry, placement: Placement) -> None:
        """Believe an executor that placed a chore elsewhere than predicted."""
        if entry.placement != placement:
            self._release(entry)
            self._hold(entry, placement)

    def _hold(self, entry: Entry, placement: Placement) -> None:
        self.queued.pop(entry.chore.id, None)
        self.ledger.take(placement)
        entry.placement = placement

    def _release(self, entry: Entry) -> None:
        if entry.placement is not None:
            self.ledger.give_back(entry.placement)
            entry.placement = None
