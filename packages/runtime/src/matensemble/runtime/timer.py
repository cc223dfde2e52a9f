"""Events that are due later, by the monotonic clock.

Owns when they ring; what they mean is the business of who set them. Used by the thread that owns
the state, and by no other.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar

E = TypeVar("E")


class Timer(Generic[E]):
    """A heap of events by the moment at which they are due; O(log n) a call."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, E]] = []
        self._numbers = count()  # events of the same moment keep their order

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, due: float, event: E) -> None:
        """Let an event ring at a moment, in seconds of the monotonic clock."""
        heappush(self._heap, (due, next(self._numbers), event))

    @property
    def next_due(self) -> float:
        """The moment of the next event; infinity where there is none."""
        return self._heap[0][0] if self._heap else float("inf")

    def ring(self, now: float) -> list[E]:
        """Return what is due, in order, and forget it."""
        rung: list[E] = []
        while self._heap and self._heap[0][0] <= now:
            rung.append(heappop(self._heap)[2])
        return rung
