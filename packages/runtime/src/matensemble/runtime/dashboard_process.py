"""Serve the dashboard of a run from a process of its own, for as long as the run lives.

Owns that process. The dashboard is another distribution and is never imported here: the handshake
is described in its module `matensemble.dashboard.serve`. Called by the manager.

Whoever knows the link sees the run. A terminal shows it to the user alone; the output of a batch
job is a file that others can often read, so there the link goes into a private file of the run
directory, and only the path of that file is said.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, TextIO

from matensemble import disk
from matensemble.errors import DashboardMissingError
from matensemble.workdir import RunDir

_VALUES = ("host", "port", "socket")


def check_dashboard() -> None:
    """Check that the dashboard is installed here.

    Raises
    ------
    DashboardMissingError
        If it is not.
    """
    if find_spec("matensemble.dashboard") is None:
        raise DashboardMissingError


class DashboardProcess:
    """A running dashboard.

    Parameters
    ----------
    run
        What it shows.
    options
        As `RunOptions.dashboard` checked them; True means the defaults.
    logger
        Receives the address, without its token.
    terminal
        Receives the tunnel to type, and the link, with its token, if it is a terminal; else where
        the link is to be found. None takes stderr.

    Raises
    ------
    DashboardMissingError
        If `matensemble-dashboard` is not installed.
    """

    def __init__(
        self,
        run: RunDir,
        options: Mapping[str, Any] | bool,
        logger: logging.Logger,
        terminal: TextIO | None = None,
    ) -> None:
        options = {} if isinstance(options, bool) else options
        command = _command(run, options)
        self._is_kept = bool(options.get("keep"))
        self._logger = logger
        self._terminal = terminal or sys.stderr
        self._link_path = run.dashboard_path
        self._lock = threading.Lock()  # the attendant writes the link, `close` removes it
        self._is_closed = False
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is for the run; its end closes the dashboard
            text=True,
        )
        # It takes a second to start and a few to end, and the run waits for neither.
        self._attendant = threading.Thread(target=self._attend, daemon=True)
        self._attendant.start()

    def _attend(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            self._announce(lines.readline())
        self._process.wait()

    def _announce(self, line: str) -> None:
        try:
            answer = json.loads(line)
        except ValueError:
            answer = {"error": "it ended without a word; its messages are on stderr"}
        if "error" in answer:
            self._logger.warning("the dashboard cannot be served: %s", answer["error"])
            return
        self._logger.info("dashboard: %s", answer["url"].partition("#")[0])
        link = answer["url"] if self._terminal.isatty() else self._keep(answer["url"])
        lines = [f"Dashboard: {link}", f"  tunnel: {answer['ssh']}"]
        if self._is_kept:
            self._logger.info("the dashboard stays: process %d", self._process.pid)
            lines.append(f"  stays when the run has ended; to stop it: kill {self._process.pid}")
        print("\n".join(lines), file=self._terminal)

    def _keep(self, url: str) -> str:
        """Put the link where only its owner can read it; return where that is."""
        with self._lock:
            if self._is_closed and not self._is_kept:
                return "the run was over before it was served"
            try:
                disk.write_atomic(self._link_path, f"{url}\n".encode())
            except OSError as error:
                self._logger.warning("the link to the dashboard cannot be kept: %s", error)
                return f"its link could not be written to {self._link_path}"
        self._logger.info("the link to the dashboard is in %s", self._link_path)
        return f"its link is in {self._link_path}"

    def close(self) -> None:
        """Let it go: it serves a moment longer, so that open pages see how the run ended.

        One that is to be kept goes on, and so does its link.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        with self._lock, suppress(OSError):  # a link that stays opens nothing any more
            self._is_closed = True
            if not self._is_kept:
                self._link_path.unlink(missing_ok=True)


def _command(run: RunDir, options: Mapping[str, Any]) -> list[str]:
    check_dashboard()
    command = [sys.executable, "-P", "-m", "matensemble.dashboard.serve"]
    command += ["--run-dir", str(run.root)]
    command += [f"--{name}={options[name]}" for name in _VALUES if name in options]
    command += ["--allow-actions"] * bool(options.get("allow_actions"))
    return [*command, "--detach" if options.get("keep") else "--exit-with-stdin"]
