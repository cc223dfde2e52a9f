"""Where a dashboard listens, and how it is reached from elsewhere.

Owns the sockets: a port of loopback unless another host is named, or a unix socket that only its
owner can open; and the line that brings either to one's own computer. Called by `serve` and the
subcommand.
"""

from __future__ import annotations

import errno
import getpass
import os
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from matensemble import disk
from matensemble.dashboard.security import is_loopback
from matensemble.errors import AddressUnavailableError, SocketUnavailableError
from matensemble.workdir import FILE_MODE

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
NUM_PORTS = 100
"""How many ports are tried from the default one on."""
MAX_SOCKET_BYTES = 100
"""Of the path of a unix socket: what every system takes."""
NUM_WAITING = 128
"""Connections that wait to be taken."""

_SUBMIT_HOSTS = ("SLURM_SUBMIT_HOST", "PBS_O_HOST", "LSB_SUB_HOST")


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
    if not host:
        raise AddressUnavailableError(host, str(port), "no host is named")
    candidates = range(DEFAULT_PORT, DEFAULT_PORT + NUM_PORTS) if port is None else (port,)
    problem = ""
    for candidate in candidates:
        try:
            family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
            listening = socket.create_server((host, candidate), family=family)
            # Inherited by each connection. asyncio sets it only on sockets that were made with a
            # protocol number; without it an answer waits 40 ms for the other side to acknowledge.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return listening
        except OSError as error:
            problem = str(error)
            if error.errno != errno.EADDRINUSE:
                break
    shown = f"{candidates[0]} to {candidate}" if candidate != candidates[0] else str(candidate)
    raise AddressUnavailableError(host, shown, problem)


def listen_unix(path: Path) -> socket.socket:
    """Return a listening unix socket of mode 0600 in a directory that is mine alone.

    The directory is made where it is missing. A socket on which nobody listens any more is
    replaced; it is bound under another name first, so that none with wider modes is ever seen.

    Parameters
    ----------
    path
        Where it is to be; `MAX_SOCKET_BYTES` at most.

    Raises
    ------
    SocketUnavailableError
        If it cannot be there, or somebody listens there.
    """
    if len(os.fsencode(path)) > MAX_SOCKET_BYTES:
        raise SocketUnavailableError(str(path), f"it is longer than {MAX_SOCKET_BYTES} bytes")
    try:
        with suppress(FileExistsError):
            disk.make_dir(path.parent)
        problem = _why_unsafe(path.parent) or _why_taken(path)
        if problem is not None:
            raise SocketUnavailableError(str(path), problem)
        return _bind_unix(path)
    except OSError as error:
        raise SocketUnavailableError(str(path), str(error)) from error


def _why_unsafe(directory: Path) -> str | None:
    """Return why a socket is not made in a directory."""
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return f"{directory} is no directory"
    if found.st_uid != os.geteuid():
        return f"{directory} belongs to user {found.st_uid}, not to you"
    if found.st_mode & 0o077:
        return f"{directory} is open to others (chmod 700), so that they could reach it"
    return None


def _why_taken(path: Path) -> str | None:
    """Return why what stands at a path is not replaced; None where nothing does, or it is stale."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return "something else has that name"
    except FileNotFoundError:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return None
    return "somebody listens there already"


def _bind_unix(path: Path) -> socket.socket:
    made = path.with_name(f".{os.urandom(4).hex()}")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(made))
        made.chmod(FILE_MODE)
        listening.listen(NUM_WAITING)
        made.replace(path)
    except BaseException:
        listening.close()
        made.unlink(missing_ok=True)
        raise
    return listening


def ssh_command(target: str, port: int, environ: Mapping[str, str]) -> str:
    """Return the command that brings what listens here to a port of one's own computer.

    Parameters
    ----------
    target
        ``HOST:PORT``, or the path of a unix socket, as one types it in a shell.
    port
        Port there.
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
    return f"ssh -N {jump}-L {port}:{target} {user}{here}"


def warn_if_exposed(host: str) -> str | None:
    """Return what to know before listening on `host`, or None on loopback."""
    if is_loopback(host):
        return None
    return (
        f"{host} can be reached from other machines, and plain HTTP can be read on the way, the "
        "token included; prefer the default host with the ssh line"
    )


def in_url(host: str) -> str:
    """Return a host as it stands in an address."""
    return f"[{host}]" if ":" in host else host
