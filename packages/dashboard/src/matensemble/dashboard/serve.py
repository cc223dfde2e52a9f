"""The process that serves a dashboard: binding, addresses, its start and its end.

Called by the subcommand, and started by the driver of a run for ``submit(dashboard=True)`` as a
process of its own, because a thread would slow the driver. The handshake::

    python -P -m matensemble.dashboard.serve --run-dir DIR [--host H] [--port N] --exit-with-stdin

- stdin is a pipe that the driver keeps open and never writes to. When it closes, for whatever
  reason, the process serves `LINGER_SECONDS` longer, so that an open page sees how the run ended,
  and exits with 0.
- stdout carries exactly one line of JSON. Once the port accepts connections:
  ``{"url": …, "port": …, "ssh": …}``; ``url`` holds the token in its fragment, ``ssh`` is the
  command to type on one's own computer. Where it cannot serve: ``{"error": …}``, and exit code 1.
  Where nobody reads it any more, nobody can know the link: it ends at once.
- stderr carries warnings and faults.
- A Ctrl-C on the terminal would reach this process too, before the run has ended: start it with
  ``start_new_session=True``.

`url` lets whoever reads it see the run: show it on the terminal or keep it in a file of mode 0600.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import getpass
import json
import os
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from matensemble.dashboard.app import create_dashboard_app
from matensemble.dashboard.security import Access, is_loopback, is_wildcard, names_of
from matensemble.errors import AddressUnavailableError, MatEnsembleError

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
NUM_PORTS = 100
"""How many ports are tried from the default one on."""
LINGER_SECONDS = 3.0
"""How long it serves on after its parent; the page asks every two seconds."""
MAX_HEADER_BYTES = 16 * 1024
MAX_CONNECTIONS = 64

_SUBMIT_HOSTS = ("SLURM_SUBMIT_HOST", "PBS_O_HOST", "LSB_SUB_HOST")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a dashboard is reached."""

    url: str
    """Link with the token in its fragment."""
    port: int
    """Port it listens on."""
    ssh: str
    """Command that brings the port to one's own computer."""


class Dashboard:
    """A dashboard that listens already and answers while `run` is called.

    Parameters
    ----------
    root
        A run directory, or a folder of runs.
    host
        Name or address to listen on.
    port
        Port to listen on, 0 for any free one; None takes 8000 or the next free one.

    Raises
    ------
    AddressUnavailableError
        If it cannot listen there.
    RunDirectoryError
        If `root` is no directory.
    """

    def __init__(self, root: Path, host: str = DEFAULT_HOST, port: int | None = None) -> None:
        access = Access(names_of(host))
        app = create_dashboard_app(root, access=access)
        self._socket = listen(host, port)
        port = self._socket.getsockname()[1]
        name = socket.gethostname() if is_wildcard(host) else host
        self.address = Address(
            url=f"http://{_in_url(name)}:{port}/#token={access.token}",
            port=port,
            ssh=ssh_command(DEFAULT_HOST if is_wildcard(host) else host, port, os.environ),
        )
        self._server = uvicorn.Server(_configure(app))

    def run(self) -> None:
        """Serve until `stop` is called or Ctrl-C is pressed; on the main thread."""
        with self._socket, contextlib.suppress(KeyboardInterrupt):  # the usual way to end it
            self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Let `run` return soon; from any thread."""
        self._server.should_exit = True


def listen(host: str, port: int | None) -> socket.socket:
    """Return a listening TCP socket.

    Parameters
    ----------
    host
        Name or address.
    port
        Port, 0 for any free one; None takes the first free one from 8000 on.

    Raises
    ------
    AddressUnavailableError
        If that is not possible.
    """
    if port is not None and not 0 <= port <= 65535:
        raise AddressUnavailableError(host, str(port), "ports go from 0 to 65535")
    candidates = range(DEFAULT_PORT, DEFAULT_PORT + NUM_PORTS) if port is None else (port,)
    problem = ""
    for candidate in candidates:
        try:
            family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((host, candidate), family=family)
        except OSError as error:
            problem = str(error)
            if error.errno != errno.EADDRINUSE:
                break
    shown = f"{candidates[0]} to {candidate}" if candidate != candidates[0] else str(candidate)
    raise AddressUnavailableError(host, shown, problem)


def ssh_command(host: str, port: int, environ: Mapping[str, str]) -> str:
    """Return the command that brings `port` of this machine to one's own computer.

    Parameters
    ----------
    host
        Name or address it is bound to here.
    port
        Its port, here and there.
    environ
        Environment variables; inside a batch job they name the login node, which is on the way.
    """
    try:
        user = f"{getpass.getuser()}@"
    except (KeyError, OSError):  # a container's user without a name
        user = ""
    here = socket.gethostname()
    login = next((environ[name] for name in _SUBMIT_HOSTS if environ.get(name)), here)
    jump = f"-J {user}{login} " if login.partition(".")[0] != here.partition(".")[0] else ""
    return f"ssh -N {jump}-L {port}:{_in_url(host)}:{port} {user}{here}"


def warn_if_exposed(host: str) -> str | None:
    """Return what to know before listening on `host`, or None on loopback."""
    if is_loopback(host):
        return None
    return (
        f"{host} can be reached from other machines, and plain HTTP can be read on the way, the "
        "token included; prefer the default host with the ssh line"
    )


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _configure(app: object) -> uvicorn.Config:
    # Everything that uvicorn would otherwise take from the environment is given.
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        workers=1,
        env_file=None,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        forwarded_allow_ips=[],
        limit_concurrency=MAX_CONNECTIONS,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        timeout_graceful_shutdown=1,
    )


def _follow(pipe: int, dashboard: Dashboard) -> None:
    """Stop the dashboard some time after the other end of a pipe has closed."""
    # Not sys.stdin: a thread inside its lock would make the interpreter's exit fail.
    while os.read(pipe, 4096):
        pass
    timer = threading.Timer(LINGER_SECONDS, dashboard.stop)
    timer.daemon = True
    timer.start()


def _answer(facts: Mapping[str, object]) -> bool:
    """Write the one line; return whether anybody was there to read it."""
    try:
        os.write(sys.stdout.fileno(), f"{json.dumps(facts)}\n".encode())  # leaves nothing to flush
    except BrokenPipeError:
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve as the module's docstring says and return the exit code.

    Parameters
    ----------
    arguments
        Command line without the program; None takes that of the process.
    """
    parser = argparse.ArgumentParser(prog="python -m matensemble.dashboard.serve")
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--host", default=DEFAULT_HOST)
    parser.add_argument("--port", type=int)
    parser.add_argument("--exit-with-stdin", action="store_true")
    given = parser.parse_args(arguments)
    try:
        dashboard = Dashboard(given.run_dir, given.host, given.port)
    except MatEnsembleError as error:
        _answer({"error": str(error)})
        return 1
    if given.exit_with_stdin:
        threading.Thread(target=_follow, args=(0, dashboard), daemon=True).start()
    address = dashboard.address
    if _answer({"url": address.url, "port": address.port, "ssh": address.ssh}):
        dashboard.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
