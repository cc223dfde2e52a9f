"""Chores that wait for resources only, in the order in which they are to start.

One heap per resource shape: a thousand identical chores that do not fit cost one look.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar

from matensemble.model import ChoreState
from matensemble.runtime.scheduler.resources import Shape
from matensemble.runtime.scheduler.states import READY


class Waiting(Protocol):
    """What the queue needs to know of a chore."""

    shape: Shape
    state: ChoreState
    order: tuple[int, int]
    """`nice`, then admission; unique."""


W = TypeVar("W", bound=Waiting)


class ReadyQueue(Generic[W]):
    """Ready chores by shape; what leaves the ready state is dropped when it is met."""

    def __init__(self) -> None:
        self._heaps: dict[Shape, list[tuple[tuple[int, int], W]]] = {}

    def push(self, chore: W) -> None:
        """Add a chore. O(log n)."""
        heappush(self._heaps.setdefault(chore.shape, []), (chore.order, chore))

    def __iter__(self) -> Iterator[W]:
        """Iterate over the ready chores, in no order; one that was pushed twice comes twice."""
        for shape, heap in self._heaps.items():
            for order, chore in heap:
                if chore.state is READY and chore.order == order and chore.shape == shape:
                    yield chore

    def head(self, shape: Shape) -> W | None:
        """Return the first ready chore of a shape without removing it, or None."""
        heap = self._heaps.get(shape)
        while heap:
            order, chore = heap[0]
            # Its order or its shape may have changed since: then it stands elsewhere, too.
            if chore.state is READY and chore.order == order and chore.shape == shape:
                return chore
            self.pop(shape)
        return None

    def pop(self, shape: Shape) -> None:
        """Remove the head of a shape. O(log n)."""
        heap = self._heaps[shape]
        heappop(heap)
        if not heap:
            del self._heaps[shape]

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Shapes of the chores that wait (of those that left the ready state, too, until met)."""
        return tuple(self._heaps)

    def in_order(self) -> Iterator[W]:
        """Yield the first ready chore, then the first of those behind it, and so on.

        A shape whose chore still waits here when the next one is asked for does not fit now and is
        left out from there on; otherwise its next chore takes its turn. So a whole pass costs
        O(shapes + starts · log n).
        """
        heads = [(head.order, head) for shape in self.shapes if (head := self.head(shape))]
        heapify(heads)
        while heads:
            _, chore = heappop(heads)
            shape = chore.shape
            yield chore
            following = self.head(shape)
            if following is not None and following is not chore:
                heappush(heads, (following.order, following))
