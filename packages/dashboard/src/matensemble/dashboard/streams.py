"""Tell every open page of a run what changed, with one look at the run for all of them.

Owns the watchers, one for each run that is followed, and how many streams there may be. What a look
costs and shows is said by the route that hands it in. A watcher lives while somebody listens, in
the event loop of those who do. Called by the routes; `close` by the server before it stops, since
it would wait for the streams otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from matensemble.errors import RunDirectoryError

INTERVAL_SECONDS = 0.5
"""At least that much lies between two messages of a stream."""
MAX_STREAMS = 32


class Sighting(NamedTuple):
    """What a look at a run showed."""

    text: str
    """The message, on one line."""
    mark: Hashable
    """Tells whether anything changed: equal marks are one message."""
    is_last: bool
    """Whether nothing more is to come, unless somebody resumes the run."""


class NoRoomError(Exception):
    """There are as many streams as there may be."""


class Watcher:
    """Looks at a run again and again, and wakes its listeners when something changed.

    Parameters
    ----------
    look
        Called in a thread; RunDirectoryError and OSError end the streams.
    interval
        Seconds between two looks.
    """

    def __init__(self, look: Callable[[], Sighting], interval: float) -> None:
        self.num_listeners = 0
        self._look = look
        self._interval = interval
        self._seen: Sighting | None = None
        self._number = 0
        self._is_closed = False
        self._changed = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._watch())

    @property
    def is_over(self) -> bool:
        """Whether it looks no more."""
        return self._is_closed

    async def sightings(self) -> AsyncIterator[Sighting]:
        """Yield the latest sighting, then each that is new; one that listens slowly misses some."""
        number = 0
        while True:
            if self._number != number and self._seen is not None:
                number = self._number
                yield self._seen
            elif self._is_closed:
                return
            else:
                await self._changed.wait()

    def close(self) -> None:
        """End the streams, without a last word."""
        self._task.cancel()
        self._end()

    async def _watch(self) -> None:
        try:
            while True:
                seen = await asyncio.to_thread(self._look)
                if self._seen is None or seen.mark != self._seen.mark:
                    self._seen = seen
                    self._number += 1
                    self._wake()
                if seen.is_last:
                    return
                await asyncio.sleep(self._interval)
        except (RunDirectoryError, OSError):
            return  # who asks again is told by the route
        finally:
            self._end()

    def _end(self) -> None:
        self._is_closed = True
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        if self._is_closed:
            self._changed.set()
        changed.set()


class Streams:
    """The watchers of the runs that are followed.

    Parameters
    ----------
    look
        Returns what can be seen of the run of a name; called in a thread.
    interval
        Seconds between two looks.
    """

    def __init__(self, look: Callable[[str], Sighting], interval: float = INTERVAL_SECONDS) -> None:
        self._look = look
        self._interval = interval
        self._watchers: dict[str, Watcher] = {}
        self._num_streams = 0

    @contextmanager
    def join(self, run_id: str) -> Iterator[Watcher]:
        """Listen to a run for as long as the context is open.

        Raises
        ------
        NoRoomError
            If `MAX_STREAMS` are open.
        """
        if self._num_streams >= MAX_STREAMS:
            raise NoRoomError
        watcher = self._watchers.get(run_id)
        if watcher is None or watcher.is_over:
            watcher = Watcher(lambda: self._look(run_id), self._interval)
            self._watchers[run_id] = watcher
        self._num_streams += 1
        watcher.num_listeners += 1
        try:
            yield watcher
        finally:
            self._num_streams -= 1
            watcher.num_listeners -= 1
            if not watcher.num_listeners:
                watcher.close()
                if self._watchers.get(run_id) is watcher:
                    del self._watchers[run_id]

    def close(self) -> None:
        """End all streams; from the thread of their event loop."""
        for watcher in list(self._watchers.values()):
            watcher.close()
