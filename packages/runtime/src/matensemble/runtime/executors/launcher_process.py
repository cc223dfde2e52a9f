"""The driver's end of the launcher: starts it, talks to it, and cleans up if it dies.

Owns the process of `matensemble.launcher`, which describes the messages, its socket and the thread
that reads its reports. Knows nothing of chores or resources; `local` does.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from matensemble.errors import ExecutorUnavailableError
from matensemble.oom_counter import find_oom_counter
from matensemble.process_keeper import SWEEP_LIMIT_SECONDS
from matensemble.runtime.executors.base import TERM_GRACE_SECONDS
from matensemble.runtime.executors.processes import kill_session

START_TIMEOUT_SECONDS = 60.0  # a cold file system can take this long to start a Python
_NO_SIGPIPE = getattr(socket, "MSG_NOSIGNAL", 0)  # the user's script may have set SIG_DFL


class LauncherProcess:
    """A running launcher.

    Parameters
    ----------
    name
        What its job ids begin with, by which a later driver finds it.
    environ
        The environment under that of chores which inherit it.
    on_report
        Called with each report of the launcher, on a thread of this object.
    on_lost
        Called once on that thread, with the problem, if the launcher ends uninvited; every process
        it had started is dead then.

    Raises
    ------
    ExecutorUnavailableError
        If it cannot be started.
    """

    def __init__(
        self,
        name: str,
        environ: Mapping[str, str],
        on_report: Callable[[list[Any]], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._on_report = on_report
        self._on_lost = on_lost
        self._is_closing = False
        self._is_up = False
        self._answered = threading.Event()
        self._send_lock = threading.Lock()
        self._socket, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = self._start(theirs, name)
            except OSError as error:
                self._socket.close()
                raise _unavailable(f"{sys.executable} does not start: {error}") from error
        self._thread = threading.Thread(target=self._read, name="matensemble-launcher", daemon=True)
        self._thread.start()
        self.send({"op": "environ", "env": dict(environ)})
        self._answered.wait(START_TIMEOUT_SECONDS)
        if not self._is_up:
            self._kill()
            problem = self._describe_end()
            self.close()
            raise _unavailable(f"its launcher did not start ({problem})")

    @property
    def pid(self) -> int:
        """Process id of the launcher, also the session id of every process it starts."""
        return self._process.pid

    @staticmethod
    def _start(theirs: socket.socket, name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                sys.executable,
                *("-I", "-S", "-X", f"utf8={sys.flags.utf8_mode}", _find_launcher()),
                *(str(theirs.fileno()), str(os.getpid()), str(TERM_GRACE_SECONDS), name),
                str(find_oom_counter() or ""),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # a Ctrl-C in the driver's terminal does not reach it
        )

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; one to a dead launcher is dropped, for `on_lost` tells of that."""
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._send_lock, suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(data, _NO_SIGPIPE)

    def close(self) -> None:
        """End every process of the launcher and the launcher; call it once.

        Takes up to `TERM_GRACE_SECONDS` where a process ignores TERM. Returns when the last
        callback has.
        """
        self._is_closing = True
        self.send({"op": "close"})
        self._thread.join(TERM_GRACE_SECONDS + 2 * SWEEP_LIMIT_SECONDS)
        if self._thread.is_alive():
            self._kill()
            self._thread.join()
        self._process.wait()
        self._socket.close()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _read(self) -> None:
        rest = b""
        while chunk := self._receive():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                report = json.loads(line)
                if report[0] == "ready":
                    self._is_up = True
                    self._answered.set()
                elif not self._is_closing:
                    self._on_report(report)
        if not self._is_closing:
            self._kill()
            if self._is_up:
                self._on_lost(f"the launcher of the local executor ended: {self._describe_end()}")
        self._answered.set()

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(1 << 16)
        except ConnectionResetError:  # it died with unread messages of ours
            return b""

    def _kill(self) -> None:
        self._process.kill()
        kill_session(self.pid)
        self._process.wait()

    def _describe_end(self) -> str:
        """Return how the launcher ended, with the last line it wrote."""
        code = self._process.wait()
        words = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        stream = self._process.stderr
        lines = stream.read().decode(errors="replace").split("\n") if stream else []
        return ": ".join([words, *[line for line in lines if line.strip()][-1:]])


def _find_launcher() -> str:
    """Return the program of the launcher, which is a module that belongs to the worker."""
    spec = find_spec("matensemble.launcher")
    assert spec is not None and spec.origin is not None
    return spec.origin


def _unavailable(problem: str) -> ExecutorUnavailableError:
    return ExecutorUnavailableError(
        "local", problem, "Try to start that Python by hand, as `python -I -S -c 'import ctypes'`"
    )
