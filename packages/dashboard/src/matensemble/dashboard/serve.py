"""The process that serves a dashboard: its options, its start and its end.

Called by the subcommand, and started by the driver of a run for ``submit(dashboard=True)`` as a
process of its own, because a thread would slow the driver. The handshake::

    python -P -m matensemble.dashboard.serve --run-dir DIR [--host H] [--port N | --socket PATH]
        [--allow-actions] (--exit-with-stdin | --detach)

- With ``--exit-with-stdin``, stdin is a pipe that the driver keeps open and never writes to. When
  it closes, for whatever reason, the process serves `LINGER_SECONDS` longer, so that an open page
  sees how the run ended, and exits with 0. With ``--detach`` it lets go of stdin, stdout and stderr
  after its one line, and serves until a signal ends it.
- stdout carries exactly one line of JSON. Once it accepts connections:
  ``{"url": …, "port": …, "ssh": …, "socket": …}``; ``url`` holds the token in its fragment, ``ssh``
  is the command to type on one's own computer, ``socket`` the unix socket or null. Where it cannot
  serve: ``{"error": …}``, and exit code 1. Where nobody reads it any more, nobody can know the
  link: it ends at once.
- stderr carries warnings and faults.
- A Ctrl-C on the terminal would reach this process too, before the run has ended: start it with
  ``start_new_session=True``.

`url` lets whoever reads it see the run: show it on the terminal or keep it in a file of mode 0600.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import uvicorn

from matensemble.dashboard.address import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    in_url,
    listen,
    listen_unix,
    ssh_command,
    warn_if_exposed,
)
from matensemble.dashboard.app import create_dashboard_app
from matensemble.dashboard.connection import Connection
from matensemble.dashboard.index.feed import Indexes
from matensemble.dashboard.security import MAX_HEADER_BYTES, Access, is_wildcard, names_of
from matensemble.dashboard.streams import Streams
from matensemble.errors import MatEnsembleError

LINGER_SECONDS = 3.0
"""How long it serves on after its parent, so that every open stream tells how the run ended."""
MAX_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Address:
    """Where a dashboard is reached."""

    url: str
    """Link with the token in its fragment; for a unix socket, through the tunnel of `ssh`."""
    port: int
    """Port it listens on; for a unix socket, that of the tunnel's other end."""
    ssh: str
    """Command that brings it to one's own computer."""
    socket: str | None = None
    """Path of the unix socket, where it listens on one."""


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
    socket_path
        Unix socket to listen on, and on no port.
    allow_actions
        Whether it takes requests to the drivers of runs.

    Raises
    ------
    AddressUnavailableError, SocketUnavailableError
        If it cannot listen there.
    RunDirectoryError
        If `root` is no directory.
    """

    def __init__(
        self,
        root: Path,
        host: str = DEFAULT_HOST,
        port: int | None = None,
        *,
        socket_path: Path | None = None,
        allow_actions: bool = False,
    ) -> None:
        access = Access(names_of(host))
        app = create_dashboard_app(root, access=access, allow_actions=allow_actions)
        self._indexes: Indexes = app.state.indexes
        self._streams: Streams = app.state.streams
        self._socket_path = socket_path
        self._inode = 0
        if socket_path is None:
            self._socket = listen(host, port)
            self.address = _address_of(host, self._socket.getsockname()[1], access.token)
        else:
            self._socket = listen_unix(socket_path)
            self._inode = socket_path.lstat().st_ino
            self.address = _address_of_unix(socket_path, access.token)
        self._server = _Server(_configure(app), self._close)

    def run(self) -> None:
        """Serve until `stop` is called or Ctrl-C is pressed; on the main thread."""
        with self._socket, contextlib.suppress(KeyboardInterrupt):  # the usual way to end it
            self._server.run(sockets=[self._socket])
        self._indexes.close()

    def stop(self) -> None:
        """Let `run` return soon; from any thread."""
        self._server.should_exit = True

    def _close(self) -> None:
        """End what would go on by itself, and leave no socket behind."""
        self._streams.close()
        if self._socket_path is not None:
            with contextlib.suppress(FileNotFoundError):
                if self._socket_path.lstat().st_ino == self._inode:  # else another took the name
                    self._socket_path.unlink()


class _Server(uvicorn.Server):
    """A server that says when it stops, before it waits for the answers under way."""

    def __init__(self, config: uvicorn.Config, when_stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._when_stopping = when_stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._when_stopping()
        await super().shutdown(sockets)


def _address_of(host: str, port: int, token: str) -> Address:
    name = socket.gethostname() if is_wildcard(host) else host
    reached = DEFAULT_HOST if is_wildcard(host) else host
    return Address(
        url=f"http://{in_url(name)}:{port}/#token={token}",
        port=port,
        ssh=ssh_command(f"{in_url(reached)}:{port}", port, os.environ),
    )


def _address_of_unix(path: Path, token: str) -> Address:
    target = shlex.quote(str(path.absolute()))
    return Address(
        url=f"http://localhost:{DEFAULT_PORT}/#token={token}",
        port=DEFAULT_PORT,
        ssh=ssh_command(target, DEFAULT_PORT, os.environ),
        socket=str(path.absolute()),
    )


def _configure(app: object) -> uvicorn.Config:
    # Everything that uvicorn would otherwise take from the environment is given.
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        loop="asyncio",
        http=Connection,
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


def _detach() -> None:
    """Let go of what whoever started this process may wait for."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    os.close(nothing)


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
    parser.add_argument("--socket", type=Path)
    parser.add_argument("--allow-actions", action="store_true")
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--exit-with-stdin", action="store_true")
    end.add_argument("--detach", action="store_true")
    given = parser.parse_args(arguments)
    try:
        dashboard = Dashboard(
            given.run_dir,
            given.host,
            given.port,
            socket_path=given.socket,
            allow_actions=given.allow_actions,
        )
    except MatEnsembleError as error:
        _answer({"error": str(error)})
        return 1
    if given.exit_with_stdin:
        threading.Thread(target=_follow, args=(0, dashboard), daemon=True).start()
    warning = warn_if_exposed(given.host)
    if warning is not None:
        print(f"Warning: {warning}.", file=sys.stderr)
    if _answer(asdict(dashboard.address)):
        if given.detach:
            _detach()
        dashboard.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
