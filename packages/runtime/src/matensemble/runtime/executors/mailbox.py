"""Orders for a thread that waits in a reactor, and the pipe that wakes it.

Owns the only way from other threads into the Flux thread; knows nothing of Flux. Called by
`flux_executor` on the one side and by `flux_driver` on the other.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Orders in the sequence in which they were given, and whether it is time to leave."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.closing = threading.Event()
        """Set once the thread is asked to leave."""
        self.is_abandoned = False
        """Whether it is to leave everything as it is; holds once `closing` is set."""
        self._orders: deque[T] = deque()
        self._lock = threading.Lock()
        self._is_awake = False
        self._is_released = False

    def put(self, order: T) -> None:
        """Add an order and wake the thread; after `release` it is dropped."""
        self.add(order)
        self.wake()

    def add(self, order: T) -> None:
        """Add an order that can wait for `wake`, or for an order that cannot."""
        if not self._is_released:
            self._orders.append(order)

    def wake(self) -> None:
        """Let the thread take what was added; does nothing after `release`."""
        with self._lock:
            self._wake()

    def ask_to_close(self, *, abandon: bool) -> None:
        """Ask the thread to leave, after what was ordered before."""
        with self._lock:
            self.is_abandoned = self.is_abandoned or abandon
            self.closing.set()
            self._wake()

    def _wake(self) -> None:
        if not self._is_awake and not self._is_released:
            self._is_awake = True
            os.write(self._writer, b"\0")

    def take(self) -> list[T]:
        """Return all orders and fall asleep."""
        with self._lock:
            if self._is_awake:
                os.read(self.reader, 1)
                self._is_awake = False
            return [self._orders.popleft() for _ in range(len(self._orders))]

    def release(self) -> None:
        """Close the pipe."""
        with self._lock:
            if not self._is_released:
                self._is_released = True
                self._orders.clear()
                os.close(self.reader)
                os.close(self._writer)
