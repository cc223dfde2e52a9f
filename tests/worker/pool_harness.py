"""The driver's end of a warm worker, played by a test over a real ZeroMQ socket."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import cloudpickle
import zmq

from matensemble import pool_messages, wire
from matensemble.environment import inheritable
from matensemble.pool_messages import (
    Address,
    Close,
    Ended,
    FromDriver,
    Hello,
    Order,
    Payload,
    Report,
    Run,
)

TIMEOUT = 60.0
MODULE = ("-m", "matensemble.pool.node")
T = TypeVar("T")


class WarmWorker:
    """A worker process, and the socket by which it is driven.

    Parameters
    ----------
    campaign
        The run directory that its chores are of.
    options
        Further arguments of its command line.
    env
        Variables over the environment of this process.
    cores
        What it has.
    python, stdin
        How its program is started.
    """

    def __init__(
        self,
        campaign: Any,
        *options: str,
        env: Mapping[str, str] | None = None,
        cores: int = 2,
        python: Sequence[str] = MODULE,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self.campaign = campaign
        self.directory = campaign.dir.pool_dir(1)
        self.directory.mkdir(parents=True, mode=0o700)
        self._sockets = tempfile.TemporaryDirectory(prefix="pool")
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.ROUTER)
        self.address = self.bind()
        path = campaign.dir.pool_address_path(1)
        pool_messages.write_address(path, self.address)
        self.ended: dict[str, Ended] = {}
        self.started: list[tuple[str, int]] = []
        self.returned: list[tuple[str, int]] = []
        self.others: list[object] = []
        self.route = b""
        self.stderr_path = campaign.dir.root / "worker.stderr"
        with self.stderr_path.open("wb") as stderr:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-P", *python, "--worker", "worker-1-1"),
                    *("--address-file", str(path), "--cores", str(cores), *options),
                ],
                env={**inheritable(os.environ), "MATENSEMBLE_RUN_DIR": "elsewhere", **(env or {})},
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )

    def bind(self) -> Address:
        """Open the driver's socket and return what its workers are to know."""
        endpoint = f"ipc://{self._sockets.name}/pool"
        self.socket.bind(endpoint)
        return Address(endpoint)

    @property
    def stderr(self) -> str:
        """What the worker has written."""
        return self.stderr_path.read_text()

    # --- what a driver says -------------------------------------------------------------------

    def say(self, message: FromDriver) -> None:
        """Send a message; waits for the worker's hello first."""
        self.wait_for(lambda: self.route)
        self.socket.send_multipart([self.route, *pool_messages.encode(message)])

    def order(
        self,
        chore_id: str,
        *,
        argv: Sequence[str] = (),
        attempt: int = 1,
        cores: int = 1,
        gpus: int = 0,
        duration: float | None = None,
        wants: int = 0,
        env: Mapping[str, str] | None = None,
        inherit: bool = True,
    ) -> Order:
        """Return the order of a chore: of a program, or one whose record the campaign has."""
        directory = self.campaign.dir.chore_dir(chore_id)
        record, kind = None, "program"
        if not argv:
            # The campaign puts records where the driver of a job would; a worker has them by wire.
            record = (directory / "chore.pickle").read_bytes()
            (directory / "chore.pickle").unlink()
            if not list(directory.iterdir()):
                directory.rmdir()
            if wire.decode_record("", record)["kind"] == "python":
                kind = "call"
        variables = {
            "MATENSEMBLE_CHORE_ID": chore_id,
            "MATENSEMBLE_RUN_DIR": str(self.campaign.dir.root),
            "MATENSEMBLE_ATTEMPT": str(attempt),
            **(env or {}),
        }
        payload = Payload(
            *(record, tuple(argv), variables, inherit, str(directory)),
            *(str(directory / "stdout"), str(directory / "stderr")),
        )
        data = pool_messages.encode_payload(payload)
        return Order(chore_id, attempt, cores, gpus, duration, kind, wants, data)  # type: ignore[arg-type]

    def call(
        self,
        function: Callable[..., Any],
        *args: Any,
        chore_id: str = "chore-f-0001",
        record: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Order:
        """Record a call of a function and return its order."""
        content = {"cloudpickle": cloudpickle.__version__, **(record or {})}
        content["attempt"] = options.get("attempt", 1)
        self.campaign.add(function, *args, chore_id=chore_id, record=content)
        return self.order(chore_id, **options)

    def run(self, *orders: Order) -> list[Ended]:
        """Give orders and wait for their ends."""
        self.say(Run(orders))
        return [self.wait_end(order.chore_id) for order in orders]

    def value(self, chore_id: str) -> Any:
        """Return the result that a chore has committed."""
        return wire.load_result(self.campaign.dir.chore_file(chore_id, "result.pickle"), chore_id)

    def result(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a function in the worker and return its result."""
        order = self.call(function, *args, **options)
        (ended,) = self.run(order)
        assert (ended.exit_code, ended.is_committed) == (0, True), ended
        return self.value(order.chore_id)

    def text(self, chore_id: str, name: str = "stdout") -> str | None:
        """Return a text file of a chore, None where there is none."""
        path: Path = self.campaign.dir.chore_file(chore_id, name)
        return path.read_text() if path.exists() else None

    # --- what a worker says -------------------------------------------------------------------

    def wait_end(self, chore_id: str) -> Ended:
        """Wait for the end of a chore, and return it; it is forgotten then."""
        self.wait_for(lambda: chore_id in self.ended)
        return self.ended.pop(chore_id)

    def wait_for(self, look: Callable[[], T]) -> T:
        """Take messages until something is so, and return it."""
        give_up_at = time.monotonic() + TIMEOUT
        while not (found := look()):
            assert time.monotonic() < give_up_at, f"waited in vain; stderr: {self.stderr}"
            if self.socket.poll(20):
                self._take(self.socket.recv_multipart())
            elif self.process.poll() is not None:
                assert look(), f"exit code {self.process.returncode}: {self.stderr}"
        return found

    def _take(self, frames: list[bytes]) -> None:
        self.route, *rest = frames
        message = pool_messages.decode_from_worker(rest)
        if isinstance(message, Report):
            self.started += message.started
            self.returned += message.returned
            for ended in message.ended:
                assert ended.chore_id not in self.ended, "it has ended twice"
                self.ended[ended.chore_id] = ended
        else:
            self.others.append(message)

    @property
    def hello(self) -> Hello:
        """The worker's first words."""
        self.wait_for(lambda: self.others)
        hello = self.others[0]
        assert isinstance(hello, Hello)
        return hello

    def wait_exit(self) -> int:
        """Wait for the worker's end and return its exit code."""
        code = self.process.wait(TIMEOUT)
        while self.socket.poll(0):
            self._take(self.socket.recv_multipart())
        return code

    def close(self) -> None:
        """Let it end and clear up."""
        try:
            if self.process.poll() is None:
                self.say(Close())
                self.wait_exit()
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if self.process.stdin is not None:
                self.process.stdin.close()
            self.socket.close(0)
            self._context.term()
            self._sockets.cleanup()
