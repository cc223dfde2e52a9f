"""Threads for what takes time and must not hold up a driver, also when its script has ended.

Owns no work of its own. The pools of `concurrent.futures` take nothing more once the main thread
has come to its end, while a run goes on until its last chore; so does nothing here. Called by
whoever copies, removes or looks at many files.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import NamedTuple, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _Errand(NamedTuple):
    what: str
    do: Callable[[], object]


class BackgroundThread:
    """Does one thing after another, in the order in which they were handed over.

    Parameters
    ----------
    name
        Of the thread, for whoever looks at the process.
    logger
        Is told of what failed; the next thing is done all the same.
    """

    def __init__(self, name: str, logger: logging.Logger) -> None:
        self._logger = logger
        self._errands: SimpleQueue[_Errand | None] = SimpleQueue()
        self._is_closed = self._is_abandoned = False
        # Daemon: nobody can wait for one that its owner never closed.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def do(self, what: str, work: Callable[[], object]) -> None:
        """Let something be done soon; returns at once.

        Parameters
        ----------
        what
            Says in the log what failed.
        work
            Called on the thread.

        Raises
        ------
        RuntimeError
            If the thread was closed.
        """
        if self._is_closed:
            raise RuntimeError(f"{self._thread.name} is closed")
        self._errands.put(_Errand(what, work))

    def close(self, *, abandon: bool = False) -> None:
        """Wait until all is done; with `abandon` only for what is being done. May be called twice.

        Not to be called from the thread itself.
        """
        self._is_abandoned = self._is_abandoned or abandon
        self._is_closed = True
        self._errands.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (errand := self._errands.get()) is not None and not self._is_abandoned:
            try:
                errand.do()
            except Exception:
                # Nobody waits for an answer who could be told, and the next one is not concerned.
                self._logger.exception("%s failed", errand.what)


def map_in_threads(
    work: Callable[[T], R], things: Sequence[T], num_threads: int, name: str
) -> list[R]:
    """Return ``work(thing)`` for each, in their order; several are done at once.

    For work that waits more than it computes.

    Parameters
    ----------
    work
        Called on any thread.
    things
        What it is called with.
    num_threads
        So many at once at most, from 1.
    name
        Of the threads.

    Raises
    ------
    BaseException
        What `work` raised first; nothing more is begun then.
    """
    waiting: SimpleQueue[tuple[int, T]] = SimpleQueue()
    for numbered in enumerate(things):
        waiting.put(numbered)
    answers: dict[int, R] = {}
    errors: list[BaseException] = []

    def work_off() -> None:
        with suppress(Empty):
            while not errors:
                number, thing = waiting.get_nowait()
                try:
                    answers[number] = work(thing)
                except BaseException as error:  # raised below, where it is waited for
                    errors.append(error)

    threads = [
        threading.Thread(target=work_off, name=name, daemon=True)
        for _ in range(min(num_threads, len(things)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [answers[number] for number in range(len(things))]
