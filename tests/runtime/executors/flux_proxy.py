"""A socket between a driver and its Flux broker, which a test can cut."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

JOIN_SECONDS = 60.0


class Proxy:
    """A socket between a driver and its broker, which can be cut."""

    def __init__(self, uri: str, path: Path) -> None:
        self.broker = uri.removeprefix("local://")
        self.uri = f"local://{path}"
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self.refuses = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads: list[threading.Thread] = []
        self._run(self._accept)

    def _run(self, target: Callable[..., None], *args: socket.socket) -> None:
        self._threads.append(threading.Thread(target=target, args=args, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuses.is_set():
                client.close()
                continue
            broker = socket.socket(socket.AF_UNIX)
            broker.connect(self.broker)
            with self._lock:
                self._pairs.append((client, broker))
            self._run(self._pump, client, broker)
            self._run(self._pump, broker, client)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Break all connections."""
        with self._lock:
            for pair in self._pairs:
                for end in pair:
                    with suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Break all connections, and accept no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
        self._listener.close()
        for end in itertools.chain.from_iterable(self._pairs):
            end.close()
