"""The process that starts the local executor's chores, and ends them when the driver is gone.

Owns the connection to the driver; the processes are its `ProcessKeeper`'s. It decides nothing:
which cores, which GPUs, which chore comes next are the driver's. The runtime starts it, by path and
isolated (``python -I -S launcher.py SOCKET_FD DRIVER_PID GRACE_SECONDS NAME OOM_COUNTER``), so it
imports the standard library only, and little of it. NAME is what its job ids begin with: a later
driver finds it by that. OOM_COUNTER is a file in which the kernel counts, or empty.

Its life hangs on its socket to the driver. It ignores terminal and termination signals; when the
socket closes, or the driver ends (``kill -9`` included), it ends every process and then itself.

Messages are JSON, one a line. From the driver::

    {"op": "environ", "env": {…}}      the environment under that of chores which inherit it
    {"op": "start", "job", "mark", "argv", "cwd", "stdout", "stderr", "env", "inherit", "duration",
     "tasks": [{"cores": [ids] | null, "env": {…}}]}
    {"op": "cancel", "job"}
    {"op": "signal", "job", "number"}
    {"op": "extend", "job", "duration"}    from its start, in seconds
    {"op": "close"}

To the driver: ``["ready"]``, ``["started", job]`` and
``["ended", job, exit code | null, reason | null, detail, elapsed]``, reasons as in
`matensemble.model`, the time that it ran in seconds.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from time import monotonic
from typing import Any

if __name__ == "__main__":  # started by path: the packages that this one belongs to stand above
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from matensemble.process_keeper import (
    ORPHAN_GRACE_SECONDS,
    SWEEP_LIMIT_SECONDS,
    End,
    ProcessKeeper,
    Start,
    Task,
)
from matensemble.process_start import encode

LONGEST_SELECT_SECONDS = 86_400.0  # epoll takes no more than 24 days
IGNORED_SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGTSTP,
    signal.SIGPIPE,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


class Launcher:
    """Starts and ends attempts as the driver at the other end of a socket says."""

    def __init__(
        self, connection: socket.socket, driver_pid: int, grace: float, oom_counter: str
    ) -> None:
        self._connection = connection
        self._grace = grace
        self._environ: dict[bytes, bytes] = {}
        self._inbox = b""
        self._outbox = bytearray()
        self._give_up_at: float | None = None  # set when closing
        self._selector = selectors.DefaultSelector()
        connection.setblocking(False)
        self._selector.register(connection, selectors.EVENT_READ, self._receive)
        for number in IGNORED_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self._keeper = ProcessKeeper(
            self._selector,
            grace,
            oom_counter,
            on_started=lambda job: self._report("started", job),
            on_ended=self._tell_end,
        )
        self._watch_driver(driver_pid)

    def _watch_driver(self, driver_pid: int) -> None:
        """Notice the driver's end even where a fork of it still holds the socket."""
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):  # an old kernel, a sandbox: the socket has to do
                driver = os.pidfd_open(driver_pid)
                self._selector.register(driver, selectors.EVENT_READ, self._lose_driver)
        if os.getppid() != driver_pid:
            self._lose_driver()

    def run(self) -> None:
        """Serve until closed."""
        self._report("ready")
        try:
            while self._give_up_at is None or not self._keeper.is_idle:
                self._turn()
            self._keeper.end_strangers(self._give_up_at)
        finally:
            self._keeper.kill_all()

    def _turn(self) -> None:
        deadlines = [self._keeper.find_deadline(), self._give_up_at]
        due = min((at for at in deadlines if at is not None), default=None)
        timeout = None
        if due is not None:
            timeout = min(max(0.0, due - monotonic()), LONGEST_SELECT_SECONDS)
        for key, events in self._selector.select(timeout):
            if key.data == self._receive and not events & selectors.EVENT_READ:
                continue  # it can be written to; the flush below does
            key.data()
        self._keeper.act()
        if self._give_up_at is not None and self._give_up_at <= monotonic():
            self._keeper.abandon()
        self._flush()

    # --- the driver ---------------------------------------------------------------------------

    def _receive(self) -> None:
        try:
            chunk = self._connection.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._lose_driver()
            return
        *lines, self._inbox = (self._inbox + chunk).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))

    def _obey(self, message: dict[str, Any]) -> None:
        match message["op"]:
            case "start":
                if self._give_up_at is None:
                    self._start(message)
            case "environ":
                self._environ = encode(message["env"])
            case "close":
                self._close(self._grace)
            case operation:
                self._change(message["job"], operation, message)

    def _start(self, message: dict[str, Any]) -> None:
        self._keeper.start(
            Start(
                message["job"],
                message["mark"],
                message["argv"],
                message["cwd"],
                message["stdout"],
                message["stderr"],
                self._environ if message["inherit"] else {},
                message["env"],
                message["duration"],
                [Task(task["cores"], task["env"]) for task in message["tasks"]],
            )
        )

    def _change(self, job: str, operation: str, message: dict[str, Any]) -> None:
        """Do what the driver asks for an attempt that runs."""
        match operation:
            case "cancel":
                self._keeper.end(job, "cancelled")
            case "signal":
                self._keeper.signal(job, message["number"])
            case "extend":
                self._keeper.extend(job, message["duration"])

    def _lose_driver(self) -> None:
        for key in [*self._selector.get_map().values()]:
            if key.data in (self._receive, self._lose_driver):
                self._selector.unregister(key.fileobj)
        self._outbox.clear()
        self._close(ORPHAN_GRACE_SECONDS)

    def _close(self, grace: float) -> None:
        self._give_up_at = monotonic() + grace + SWEEP_LIMIT_SECONDS
        self._keeper.end_all(grace)

    def _tell_end(self, end: End) -> None:
        self._report("ended", *end)

    def _report(self, *message: object) -> None:
        self._outbox += json.dumps(message, separators=(",", ":")).encode() + b"\n"

    def _flush(self) -> None:
        """Send what the driver takes now; a stopped driver must not stop the enforcement."""
        if self._connection not in self._selector.get_map():
            self._outbox.clear()  # the driver is gone
            return
        try:
            while self._outbox:
                del self._outbox[: self._connection.send(self._outbox)]
        except BlockingIOError:
            pass
        except OSError:
            self._lose_driver()
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outbox else 0)
        if self._selector.get_key(self._connection).events != wanted:
            self._selector.modify(self._connection, wanted, self._receive)


def main() -> None:
    """Run as the driver's child."""
    descriptor, driver_pid, grace, _, oom_counter = sys.argv[1:]
    with socket.socket(fileno=int(descriptor)) as connection:
        connection.set_inheritable(False)  # a chore that held it would hide our death
        Launcher(connection, int(driver_pid), float(grace), oom_counter).run()


if __name__ == "__main__":
    main()
