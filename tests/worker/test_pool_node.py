"""A warm worker comes up, or says why not; and it ends with whom it serves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq
from pool_harness import TIMEOUT, WarmWorker
from zmq.auth.thread import ThreadAuthenticator

from matensemble.pool_messages import Address, Close, Ping, Pong, Run, Withdraw, write_address

Start = Callable[..., WarmWorker]

pytestmark = pytest.mark.slow

QUIET = (
    "-c",
    "from matensemble.pool import node; node.SILENCE_SECONDS = 1.0; raise SystemExit(node.main())",
)


def sleep_and_tell(told: Path) -> None:
    """Run until killed, with a child; tell the process ids of both."""
    import signal
    import subprocess

    child = subprocess.Popen(["sleep", "600"])
    told.with_suffix(".new").write_text(f"{os.getpid()} {child.pid}")
    told.with_suffix(".new").rename(told)
    signal.pause()


def start_sleepers(worker: WarmWorker) -> list[int]:
    """Start a call and a program that do not end; return the process ids of all there is."""
    told = worker.campaign.dir.root / "told"
    also = worker.campaign.dir.root / "also"
    script = f"sleep 600 & echo $$ $! > '{also}.new'; mv '{also}.new' '{also}'; wait"
    worker.say(
        Run(
            (
                worker.call(sleep_and_tell, told),
                worker.order("chore-p-0001", argv=("sh", "-c", script)),
            )
        )
    )
    worker.wait_for(lambda: told.exists() and also.exists())
    return [int(pid) for path in (told, also) for pid in path.read_text().split()]


def is_alive(pid: int) -> bool:
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return bool(state) and not state.startswith("Z")


def wait_gone(pids: list[int]) -> None:
    import time

    give_up_at = time.monotonic() + TIMEOUT
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < give_up_at


def test_a_ping_is_answered(start_worker: Start) -> None:
    worker = start_worker()
    worker.say(Ping())
    worker.wait_for(lambda: Pong() in worker.others and len(worker.others) > 1)


def test_a_silent_driver(start_worker: Start) -> None:
    worker = start_worker(python=QUIET)
    pids = start_sleepers(worker)
    assert worker.wait_exit() == 1
    assert worker.stderr == "matensemble.pool.node: its driver has been silent for 1 s\n"
    wait_gone(pids)
    assert not worker.ended, "what the worker's end does to chores is for the driver to say"


def test_it_is_told_to_end_by_a_signal(start_worker: Start) -> None:
    worker = start_worker()
    pids = start_sleepers(worker)
    worker.process.terminate()
    assert worker.wait_exit() == 1
    assert "SIGTERM" in worker.stderr
    wait_gone(pids)
    assert not worker.ended


def test_its_parent_dies(start_worker: Start) -> None:
    code = """
import os, subprocess, sys
worker = subprocess.Popen([sys.executable, "-P", "-m", "matensemble.pool.node", *sys.argv[1:]])
os.read(0, 1)
os._exit(0)
"""
    worker = start_worker(python=("-c", code), stdin=subprocess.PIPE)
    pids = [worker.hello.pid, *start_sleepers(worker)]
    worker.process.stdin.write(b"x")
    worker.process.stdin.close()
    assert worker.wait_exit() == 0
    wait_gone(pids)
    assert "what started it is gone" in worker.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="needs a signal at the parent's death")
def test_it_is_killed(start_worker: Start) -> None:
    """Its calls end with it; programs are for whoever started it to end."""
    worker = start_worker(cores=1)
    told = worker.campaign.dir.root / "told"
    worker.say(Run((worker.call(sleep_and_tell, told),)))
    worker.wait_for(told.exists)
    slot, child = map(int, told.read_text().split())
    worker.process.kill()
    assert worker.wait_exit() == -signal.SIGKILL
    wait_gone([slot])
    os.kill(child, signal.SIGKILL)


def test_what_has_not_started_is_given_back(start_worker: Start) -> None:
    worker = start_worker()
    pids = start_sleepers(worker)
    orders = [worker.call(lambda: 1, chore_id=f"chore-w-{i:04}") for i in range(6)]
    worker.say(Run(tuple(orders)))
    worker.say(Withdraw(2))
    worker.wait_for(lambda: len(worker.returned) == 2)
    assert worker.returned == [("chore-w-0005", 1), ("chore-w-0004", 1)]
    worker.say(Close())
    worker.wait_for(lambda: len(worker.returned) == 6)
    assert not worker.ended
    os.kill(pids[0], signal.SIGKILL)
    os.kill(pids[2], signal.SIGKILL)
    assert worker.wait_exit() == 0
    wait_gone(pids)
    assert worker.ended["chore-f-0001"].exit_code == -signal.SIGKILL


# --- how it comes up ----------------------------------------------------------------------------


def run(*arguments: str, python: tuple[str, ...] = ("-m", "matensemble.pool.node")) -> Any:
    return subprocess.run(
        [sys.executable, "-P", *python, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def test_without_pyzmq(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['zmq'] = None; from matensemble.pool import node; "
        "raise SystemExit(node.main())"
    )
    ended = run("--worker", "w", "--address-file", str(tmp_path / "x"), python=("-c", code))
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert "pyzmq" in line
    assert "pip install 'matensemble-worker[pool]'" in line


def test_without_an_address(tmp_path: Path) -> None:
    ended = run("--worker", "w", "--address-file", str(tmp_path / "x"))
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "No such file" in line


def test_a_driver_that_is_not_reached(tmp_path: Path) -> None:
    code = (
        "from matensemble.pool import node; node.CONNECT_SECONDS = 1.0; "
        "raise SystemExit(node.main())"
    )
    endpoint = f"ipc://{tmp_path}/nobody"
    write_address(tmp_path / "address.json", Address(endpoint))
    address = ("--address-file", str(tmp_path / "address.json"))
    ended = run("--worker", "worker-1-1", *address, python=("-c", code))
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert f"not reached at {endpoint}" in line
    assert "MATENSEMBLE_POOL_ADDRESS" in line


def test_a_worker_that_cannot_run_chores_says_so(start_worker: Start) -> None:
    code = (
        "import sys; from matensemble.pool import node, starter; "
        "starter.sys = type('Sys', (), {'executable': '/no/python'}); raise SystemExit(node.main())"
    )
    worker = start_worker(python=("-c", code))
    assert worker.wait_exit() == 1
    assert worker.others == []
    (line,) = worker.stderr.splitlines()
    assert "it cannot run chores" in line
    assert "/no/python" in line


def test_it_loads_nothing_of_the_runtime() -> None:
    code = "import sys, matensemble.pool.node; print(*sys.modules)"
    loaded = run(python=("-c", code)).stdout.split()
    assert "matensemble.pool.service" in loaded
    foreign = {"zmq", "cloudpickle", "networkx", "click", "rich", "matensemble.runtime"}
    assert not foreign.intersection(loaded)


# --- who may speak to it ------------------------------------------------------------------------


class KeyedWorker(WarmWorker):
    """A worker whose driver lets only those speak that have the key."""

    def bind(self) -> Address:
        server, server_secret = zmq.curve_keypair()
        public, secret = zmq.curve_keypair()
        authenticator = ThreadAuthenticator(self._context)
        authenticator.start()
        authenticator.configure_curve_callback(credentials_provider=self)
        self._authenticator = authenticator
        self._allowed = public
        self.socket.curve_server = True
        self.socket.curve_secretkey = server_secret
        port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        return Address(
            *(f"tcp://127.0.0.1:{port}", server.decode(), public.decode(), secret.decode())
        )

    def callback(self, domain: str, key: bytes) -> bool:
        """Return whether a key is the worker's."""
        return key == self._allowed

    def close(self) -> None:
        """As always."""
        self._authenticator.stop()
        super().close()


def test_a_worker_with_a_key(campaign: Any) -> None:
    worker = KeyedWorker(campaign)
    try:
        assert worker.result(lambda: 5) == 5
    finally:
        worker.close()
