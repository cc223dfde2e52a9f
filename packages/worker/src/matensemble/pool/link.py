"""A worker's connection to its driver.

Owns the ZeroMQ socket and nothing of what is said; the messages are `matensemble.pool_messages`.
Called by `node`; the only module of the worker that imports `zmq`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import zmq

from matensemble.pool_messages import (
    Address,
    FromDriver,
    FromWorker,
    decode_from_driver,
    encode,
)


class Link:
    """A connection to the driver, made once: on a second one messages could be missing.

    Where it breaks, nothing comes any more, and after a while the worker ends; the driver learns of
    that from its executor, and has what it served run again.

    Parameters
    ----------
    address
        Where the driver is, and the keys.
    name
        What the driver's socket knows this one by.
    """

    def __init__(self, address: Address, name: str) -> None:
        self.endpoint = address.endpoint
        self._context = zmq.Context()
        socket = self._socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.ROUTING_ID, name.encode())
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, -1)
        if address.server_key is not None:
            assert address.worker_public is not None and address.worker_secret is not None
            socket.curve_serverkey = address.server_key.encode()
            socket.curve_publickey = address.worker_public.encode()
            socket.curve_secretkey = address.worker_secret.encode()
        if address.endpoint.startswith("tcp://"):
            socket.setsockopt(zmq.IPV6, 1)
        socket.connect(address.endpoint)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when something may have come.

        It tells once: whoever waits for it has to `receive` all there is before, also after `send`.
        """
        return self._socket.FD

    def has_message(self) -> bool:
        """Return whether something has come."""
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & int(zmq.POLLIN))

    def receive(self) -> Iterator[FromDriver]:
        """Yield what has come.

        Raises
        ------
        FormatError
            If something is no message of this format.
        """
        while self.has_message():
            yield decode_from_driver(self._socket.recv_multipart(zmq.NOBLOCK))

    def send(self, message: FromWorker) -> None:
        """Send a message; it is kept until there is a connection, and dropped behind its end."""
        with suppress(zmq.Again):
            self._socket.send_multipart(encode(message), zmq.NOBLOCK)

    def close(self, linger: float) -> None:
        """Close the connection when what was sent is on its way, at most after so many seconds."""
        self._socket.close(int(linger * 1000))
        self._context.term()
