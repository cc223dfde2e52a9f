"""What the book of a pool can do to the world: the port between decisions and their execution.

Implemented by `pool_driver`, and by recorders in tests. Called by `pool_book` and its parts.
"""

from __future__ import annotations

from typing import Protocol

from matensemble.pool_messages import FromDriver
from matensemble.runtime.executors.base import ExecutorEvent
from matensemble.runtime.executors.pool_worker import Key, Worker
from matensemble.runtime.executors.request import LaunchRequest


class Hands(Protocol):
    """Whatever is done; each call returns without waiting for what follows."""

    def post(self, event: ExecutorEvent) -> None:
        """Tell the engine."""

    def submit(self, request: LaunchRequest) -> None:
        """Hand a job to the executor inside."""

    def start(self, worker: Worker) -> None:
        """Submit a worker to the executor inside."""

    def stop(self, key: Key) -> None:
        """End a job or a worker of the executor inside."""

    def signal(self, key: Key, number: int) -> None:
        """Send a signal to a job of the executor inside."""

    def extend(self, key: Key, duration: float) -> None:
        """Give a job of the executor inside more time."""

    def tell(self, worker: Worker, message: FromDriver) -> None:
        """Send a message to a worker that has said hello."""

    def describe_end(self, worker: Worker) -> str:
        """Return the last words of a worker that has ended, empty where there are none."""
