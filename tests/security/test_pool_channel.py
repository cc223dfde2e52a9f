"""The channel of warm workers: who has no key, or is somebody else, gets nothing."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from matensemble import pool_messages
from matensemble.pool_messages import Address, Bye, Ping
from matensemble.runtime.executors import pool_link
from matensemble.runtime.executors.pool_link import PoolLink, choose_host
from matensemble.workdir import RunDir

TIMEOUT = 60.0
SOMEBODY = 4711
REFUSED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)
CONNECT = "socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
READ = "open(sys.argv[1]).read()"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")

Opener = Callable[..., PoolLink]

LOOPBACK = "127.0.0.1"


@pytest.fixture
def open_link(tmp_path: Path) -> Iterator[Opener]:
    """Open channels that are closed at the end of the test."""
    links = []

    def open_(host: str | None, epoch: int = 1) -> PoolLink:
        run = RunDir(tmp_path)
        run.out_dir.mkdir(exist_ok=True)
        links.append(PoolLink(run, epoch, host))
        return links[-1]

    yield open_
    for link in links:
        link.close()


def address_of(link: PoolLink) -> Address:
    return pool_messages.read_address(link.address_path)


class Client:
    """Whoever connects, with whatever keys."""

    def __init__(self, endpoint: str, **keys: bytes) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.ROUTING_ID, b"worker-1-1")
        self.socket.setsockopt(zmq.IPV6, 1)  # as a worker
        for name, key in keys.items():
            setattr(self.socket, name, key)
        self.monitor = self.socket.get_monitor_socket(REFUSED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self.socket.connect(endpoint)
        self.socket.send_multipart(pool_messages.encode(Bye()))

    def is_let_in(self, link: PoolLink) -> bool:
        """Return what comes of it, while the driver serves its channel."""
        deadline = time.monotonic() + TIMEOUT
        while not self.monitor.poll(5):
            list_of(link)
            assert time.monotonic() < deadline
        event = recv_monitor_message(self.monitor)["event"]
        return bool(event == zmq.EVENT_HANDSHAKE_SUCCEEDED)

    def close(self) -> None:
        self.socket.disable_monitor()
        self.monitor.close()
        self.socket.close(linger=0)
        self.context.term()


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    """Connect clients that are closed at the end of the test."""
    clients = []

    def connect_(endpoint: str, **keys: bytes) -> Client:
        clients.append(Client(endpoint, **keys))
        return clients[-1]

    yield connect_
    for client in clients:
        client.close()


def list_of(link: PoolLink) -> list[Any]:
    link.wait(0.01)
    return [name for name, _ in link.receive()]


def keys_of(address: Address) -> dict[str, bytes]:
    """Return what a worker shows."""
    assert address.server_key
    assert address.worker_public
    assert address.worker_secret
    return {
        "curve_serverkey": address.server_key.encode(),
        "curve_publickey": address.worker_public.encode(),
        "curve_secretkey": address.worker_secret.encode(),
    }


def wait_heard(link: PoolLink) -> list[Any]:
    deadline = time.monotonic() + TIMEOUT
    while not (heard := list_of(link)):
        assert time.monotonic() < deadline
    return heard


def test_a_worker_with_the_key_is_heard(open_link: Opener, connect: Callable[..., Client]) -> None:
    link = open_link(LOOPBACK)
    address = address_of(link)
    client = connect(address.endpoint, **keys_of(address))
    assert wait_heard(link) == ["worker-1-1"]
    link.send("worker-1-1", Ping())
    assert client.socket.poll(TIMEOUT * 1000)


def can_use(address: str) -> bool:
    with suppress(OSError), socket.create_server((address, 0), family=socket.AF_INET6):
        return True
    return False


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        pytest.param("[::1]", marks=pytest.mark.skipif(not can_use("::1"), reason="no IPv6")),
    ],
)
def test_a_worker_is_heard_whichever_address_it_finds(
    open_link: Opener, connect: Callable[..., Client], address: str
) -> None:
    link = open_link("localhost")
    told = address_of(link)
    connect(told.endpoint.replace("localhost", address), **keys_of(told))
    assert wait_heard(link) == ["worker-1-1"]


def no_key(own: dict[str, bytes], other: dict[str, bytes]) -> dict[str, bytes]:
    return {}


def key_of_its_own(own: dict[str, bytes], other: dict[str, bytes]) -> dict[str, bytes]:
    public, secret = zmq.curve_keypair()
    return {**own, "curve_publickey": public, "curve_secretkey": secret}


def key_of_another_run(own: dict[str, bytes], other: dict[str, bytes]) -> dict[str, bytes]:
    return {**other, "curve_serverkey": own["curve_serverkey"]}


def wrong_driver(own: dict[str, bytes], other: dict[str, bytes]) -> dict[str, bytes]:
    return {**own, "curve_serverkey": other["curve_serverkey"]}


def public_keys_only(own: dict[str, bytes], other: dict[str, bytes]) -> dict[str, bytes]:
    return {**own, "curve_secretkey": other["curve_secretkey"]}


@pytest.mark.parametrize(
    "forge", [no_key, key_of_its_own, key_of_another_run, wrong_driver, public_keys_only]
)
def test_who_has_not_the_key_gets_nothing(
    open_link: Opener, connect: Callable[..., Client], forge: Callable[..., dict[str, bytes]]
) -> None:
    link, other = open_link(LOOPBACK), open_link(LOOPBACK, epoch=2)
    address = address_of(link)
    forged = forge(keys_of(address), keys_of(address_of(other)))
    client = connect(address.endpoint, **forged)
    assert not client.is_let_in(link)
    link.send("worker-1-1", Ping())
    worker = connect(address.endpoint, **keys_of(address))
    assert wait_heard(link) == ["worker-1-1"], "the one with the key"
    link.send("worker-1-1", Ping())
    assert worker.socket.poll(TIMEOUT * 1000), "it goes on"
    assert not client.socket.poll(0)


def test_who_speaks_another_protocol_gets_nothing(open_link: Opener) -> None:
    link = open_link(LOOPBACK)
    host, _, port = address_of(link).endpoint.removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host, int(port)), TIMEOUT) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        deadline = time.monotonic() + TIMEOUT
        client.setblocking(False)
        while True:
            assert list_of(link) == []
            assert time.monotonic() < deadline
            try:
                if not client.recv(4096):
                    break
            except BlockingIOError:
                continue
            except ConnectionResetError:
                break


@pytest.mark.parametrize("host", [LOOPBACK, None])
def test_address_and_keys_are_private(open_link: Opener, tmp_path: Path, host: str | None) -> None:
    old = os.umask(0)
    try:
        link = open_link(host)
    finally:
        os.umask(old)
    assert stat.S_IMODE(link.address_path.stat().st_mode) == 0o600
    for directory in (link.address_path.parent, link.address_path.parent.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    link.close()
    assert not link.address_path.exists()


def test_every_driver_has_keys_of_its_own(open_link: Opener) -> None:
    keys = [key for epoch in (1, 2) for key in address_of(open_link(LOOPBACK, epoch))[1:]]
    assert None not in keys
    assert len(set(keys)) == 6


def socket_of(link: PoolLink) -> Path:
    address = address_of(link)
    assert address.endpoint.startswith("ipc://")
    assert address[1:] == (None, None, None)
    return Path(address.endpoint.removeprefix("ipc://"))


@pytest.mark.parametrize("place", ["XDG_RUNTIME_DIR", "TMPDIR", "too long"])
def test_on_one_machine_it_is_a_socket_in_a_private_directory(
    open_link: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    directory = tmp_path / ("x" * (100 if place == "too long" else 1))
    directory.mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("TMPDIR" if place == "TMPDIR" else "XDG_RUNTIME_DIR", str(directory))
    monkeypatch.setattr(pool_link, "_MAX_SOCKET_PATH", 150)
    old = os.umask(0)
    try:
        path = socket_of(link := open_link(None))
    finally:
        os.umask(old)
    assert path.is_relative_to(directory) is (place != "too long")
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.parent.stat().st_uid == os.geteuid()
    link.close()
    assert not path.parent.exists()


def complaint_of(who: int, act: str, path: Path) -> str:
    """Return what goes wrong when a user does something with a path."""
    script = f"import os, socket, sys; os.setgid({who}); os.setuid({who}); {act}"
    command = [sys.executable, "-I", "-S", "-c", script, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


@as_root
def test_somebody_else_can_neither_connect_nor_read_the_keys(open_link: Opener) -> None:
    for path, act in (
        (socket_of(open_link(None)), CONNECT),
        (open_link(LOOPBACK, epoch=2).address_path, READ),
    ):
        assert complaint_of(0, act, path) == ""
        assert "PermissionError" in complaint_of(SOMEBODY, act, path)


def test_there_is_a_port_only_where_a_node_is_another_machine() -> None:
    here = os.uname().nodename
    assert choose_host([here, here], None) is None
    assert choose_host([here, "elsewhere"], None) == here
    assert choose_host([here], "10.1.2.3") == "10.1.2.3", "who says so, decides"
