"""The driver's end of the channel to warm workers: one socket, its keys, and who may use it.

Owns the socket, the keys and the address file. Two ways, both closed to other users: on one machine
a unix socket in a directory of mode 0700; between nodes TCP, on which nobody gets an answer who
does not have the key of this driver's workers (CURVE: authenticated and encrypted). The key stands
in the address file, mode 0600 in a directory of mode 0700, and nowhere else.

Used by `pool_driver`, on its one thread. The messages are those of `matensemble.pool_messages`.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import zmq
from zmq.utils import z85

from matensemble import disk, pool_messages
from matensemble.pool_messages import Address, FromDriver
from matensemble.workdir import DIRECTORY_MODE, RunDir

MAX_MESSAGE_BYTES = 1 << 28
"""No message of a worker is larger; whoever sends one is disconnected."""
MAX_AT_ONCE = 256
"""Messages that are read before something else is done."""
_MAX_SOCKET_PATH = 90
"""Bytes: systems allow 104 or 108."""
_LOOPBACK = ("127.0.0.1",)
"""Where this is told to workers, nobody on another machine is to reach it."""
_ZAP_ENDPOINT = "inproc://zeromq.zap.01"
_ZAP_VERSION = b"1.0"


class PoolLink:
    """The open channel of one driver.

    Parameters
    ----------
    run
        Where the address file is written.
    epoch
        Of this driver of the run.
    host
        Name or IP address by which workers reach this machine, over TCP; None: they are on this
        machine, and a unix socket serves.

    Raises
    ------
    OSError
        If there is no socket to be had, or the address file cannot be written.
    """

    def __init__(self, run: RunDir, epoch: int, host: str | None) -> None:
        self.address_path = run.pool_address_path(epoch)
        self._socket_dir: Path | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._zap = self._context.socket(zmq.REP)
            self._zap.bind(_ZAP_ENDPOINT)
            self._router = self._context.socket(zmq.ROUTER)
            address = self._bind(host)
            for directory in (self.address_path.parent.parent, self.address_path.parent):
                with suppress(FileExistsError):
                    disk.make_dir(directory)
            pool_messages.write_address(self.address_path, address)
        except zmq.ZMQError as error:
            self.close()
            raise OSError(error.errno, f"ZeroMQ: {error}") from error
        except OSError:
            self.close()
            raise
        self._poller = zmq.Poller()
        self._poller.register(self._router, zmq.POLLIN)
        self._poller.register(self._zap, zmq.POLLIN)

    def _bind(self, host: str | None) -> Address:
        router = self._router
        router.setsockopt(zmq.LINGER, 0)
        # Else what does not fit into a queue is dropped without a word.
        router.setsockopt(zmq.SNDHWM, 0)
        router.setsockopt(zmq.RCVHWM, 0)
        router.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        if host is None:
            self._socket_dir = make_socket_dir()
            endpoint = f"ipc://{self._socket_dir}/pool"
            router.bind(endpoint)
            return Address(endpoint)
        server_public, server_secret = zmq.curve_keypair()
        worker_public, worker_secret = zmq.curve_keypair()
        self._worker_key = z85.decode(worker_public)
        router.setsockopt(zmq.CURVE_SERVER, 1)
        router.setsockopt(zmq.CURVE_SECRETKEY, server_secret)
        router.setsockopt(zmq.ZAP_DOMAIN, b"matensemble")
        router.setsockopt(zmq.TCP_KEEPALIVE, 1)
        port = self._bind_port(host)
        keys = (server_public, worker_public, worker_secret)
        return Address(f"tcp://{host}:{port}", *(key.decode("ascii") for key in keys))

    def _bind_port(self, host: str) -> int:
        router = self._router
        if host in _LOOPBACK:
            return router.bind_to_random_port(f"tcp://{host}")
        # Workers take the first address of our name, of whichever kind, and try no other.
        router.setsockopt(zmq.IPV6, 1)
        try:
            return router.bind_to_random_port("tcp://*")
        except zmq.ZMQError:  # there is no IPv6 here
            router.setsockopt(zmq.IPV6, 0)
            return router.bind_to_random_port("tcp://*")

    def watch(self, descriptor: int) -> None:
        """Let `wait` return when this can be read, too."""
        self._poller.register(descriptor, zmq.POLLIN)

    def wait(self, seconds: float | None) -> None:
        """Wait until something has come, or a time is over; None waits as long as it takes."""
        self._poller.poll(None if seconds is None else max(0, int(seconds * 1000)))

    def receive(self) -> Iterator[tuple[str, Sequence[bytes]]]:
        """Yield what has come: the worker, and the frames; at most `MAX_AT_ONCE`."""
        self._let_in()
        for _ in range(MAX_AT_ONCE):
            try:
                route, *frames = self._router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            yield route.decode(errors="replace"), frames

    def send(self, worker: str, message: FromDriver) -> None:
        """Send a message to a worker; to one that is not connected it is dropped."""
        self._router.send_multipart([worker.encode(), *pool_messages.encode(message)], zmq.NOBLOCK)

    def _let_in(self) -> None:
        """Answer the questions of the socket whether somebody may connect."""
        while True:
            try:
                version, number, *_, mechanism, key = self._zap.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            is_worker = mechanism == b"CURVE" and key == self._worker_key
            code, text = (b"200", b"OK") if is_worker else (b"400", b"not a worker of this driver")
            self._zap.send_multipart([version or _ZAP_VERSION, number, code, text, b"", b""])

    def close(self) -> None:
        """Close the channel, and remove the address file and the socket."""
        self._context.destroy(linger=0)
        with suppress(OSError):  # the keys in it open nothing any more
            self.address_path.unlink()
        if self._socket_dir is not None:
            shutil.rmtree(self._socket_dir, ignore_errors=True)


def choose_host(nodes: Sequence[str], wanted: str | None) -> str | None:
    """Return by which name or address workers reach this machine; None: they are on it.

    Parameters
    ----------
    nodes
        Names of the nodes that have workers.
    wanted
        What the user says, if anything.
    """
    here = platform.node()
    if wanted:
        return wanted
    return None if set(nodes) <= {here} else here


def make_socket_dir() -> Path:
    """Return a new directory of mode 0700 whose path is short enough for a unix socket."""
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir()):
        if parent and len(os.fsencode(parent)) < _MAX_SOCKET_PATH - 30:
            with suppress(OSError):
                return _private(parent)
    return _private("/tmp")


def _private(parent: str) -> Path:
    path = Path(tempfile.mkdtemp(prefix="matensemble-", dir=parent))
    path.chmod(DIRECTORY_MODE)
    return path
