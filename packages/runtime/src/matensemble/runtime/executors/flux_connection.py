"""One connection to a Flux instance: a handle, its reactor, and all that waits on it.

Owns what must be let go of when a connection ends or breaks: the bindings keep a handle open for as
long as an answer is awaited on it. Knows nothing of chores. Used by `flux_driver`, on the one
thread that talks to Flux (handles are not thread-safe).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from matensemble.runtime.executors.flux import load_flux

BROKEN = frozenset(
    {
        errno.EPIPE,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ENOTCONN,
        errno.ESHUTDOWN,
        errno.EBADF,
    }
)
"""Error numbers of a call that say that the connection broke, not that Flux declined."""

REACTOR_NOWAIT = 1
"""FLUX_REACTOR_NOWAIT, which the bindings do not export."""


class Connection:
    """A handle, and what waits on it.

    Parameters
    ----------
    handle
        Of the instance; used by nobody else from now on.
    """

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self._constants = load_flux().constants
        self._watchers: list[Any] = []
        self._awaited: set[Any] = set()

    def watch(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Call back whenever a file descriptor can be read."""
        watcher = self.handle.fd_watcher_create(
            descriptor, lambda *_: callback(), self._constants.FLUX_POLLIN
        )
        self._watchers.append(watcher.start())

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back once, some seconds from now."""
        watcher = self.handle.timer_watcher_create(seconds, lambda *_: callback())
        self._watchers.append(watcher.start())

    def expect(self, future: Any, take: Callable[[Any], None]) -> None:
        """Call `take` with a future when it is answered; never, where the connection ends first."""
        self._awaited.add(future)
        future.then(self._on_answer, take)

    def _on_answer(self, future: Any, take: Callable[[Any], None]) -> None:
        self._awaited.discard(future)
        take(future)

    def follow(
        self,
        topic: str,
        payload: dict[str, Any],
        take: Callable[[dict[str, Any]], None],
        end: Callable[[OSError], None],
    ) -> None:
        """Call `take` with each message of a stream of rank 0, and `end` with its error."""
        future = self.handle.rpc(topic, payload, 0, self._constants.FLUX_RPC_STREAMING)
        self._awaited.add(future)
        future.then(self._on_message, take, end)

    def _on_message(
        self,
        future: Any,
        take: Callable[[dict[str, Any]], None],
        end: Callable[[OSError], None],
    ) -> None:
        try:
            message = future.get()
        except OSError as error:
            self._awaited.discard(future)
            end(error)
            return
        future.reset()
        take(message)

    def run(self) -> None:
        """Serve until `stop` is called, or the connection breaks.

        Raises
        ------
        OSError
            From a callback; a broken connection itself only ends the reactor.
        """
        self.handle.reactor_run()

    def stop(self) -> None:
        """Let `run` return."""
        self.handle.reactor_stop()

    def release(self) -> None:
        """Let go of the handle: no callback comes any more."""
        for watcher in self._watchers:
            watcher.stop()
            watcher.destroy()
        self._watchers.clear()
        for future in self._awaited:
            future.stop()
            future.fulfill_error(errno.ECONNRESET)
        self._awaited.clear()
        # The bindings forget a future that was given a callback once the reactor has passed it.
        self.handle.reactor_run(None, REACTOR_NOWAIT)
