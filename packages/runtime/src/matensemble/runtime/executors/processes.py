"""The live processes of this machine: who they are, and what they were started with.

Owns reading the system's table of processes, on Linux from ``/proc``, elsewhere from ``ps``, and
signals to those that are no children of ours. Decides nothing about any of them. Called by
`launcher_process` and `orphans`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from matensemble.process_keeper import (
    SWEEP_INTERVAL_SECONDS,
    SWEEP_LIMIT_SECONDS,
    read_environ,
)

_HAS_PROC = Path("/proc/self/stat").exists()


class Process(NamedTuple):
    """A process that is alive: no zombie."""

    pid: int
    parent: int
    session: int


class Start(NamedTuple):
    """What a process was started with; each word stands between two NULs.

    Without ``/proc``, arguments and variables are known together and with blanks as NULs, so that
    both fields hold both, and a word with a blank is two.
    """

    argv: bytes
    environ: bytes

    def variable(self, name: str) -> str | None:
        """Return the value of a variable, None where it is not set."""
        _, found, rest = self.environ.partition(b"\0" + os.fsencode(name) + b"=")
        return os.fsdecode(rest.partition(b"\0")[0]) if found else None


def list_processes() -> list[Process]:
    """Return all processes that are alive."""
    if not _HAS_PROC:
        rows = _ps("pid=", "ppid=", "stat=")
        return [process for row in rows if (process := _process_of_ps(row))]
    live = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names, not paths
        if entry.isdigit():
            with suppress(OSError):
                stat = Path(f"/proc/{entry}/stat").read_bytes()
                # The name stands before, in parentheses, and may hold anything.
                state, parent, _, session = stat.rpartition(b")")[2].split()[:4]
                if state not in (b"Z", b"X"):
                    live.append(Process(int(entry), int(parent), int(session)))
    return live


def read_starts(processes: Iterable[Process]) -> Iterator[tuple[Process, Start]]:
    """Yield what processes were started with; those of others, and those that end, are left out."""
    if not _HAS_PROC:
        told = {int(pid): words for pid, *words in _ps("pid=", "command=", options=("-E", "-ww"))}
        for process in processes:
            text = b"\0".join([b"", *told.get(process.pid, ()), b""])
            yield process, Start(text, text)
        return
    for process in processes:
        with suppress(OSError):
            environ = read_environ(process.pid)
            argv = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            yield process, Start(b"\0" + argv, environ)


def send(pids: Iterable[int], number: int) -> None:
    """Send a signal to processes, as far as they are there and ours."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def kill_session(session: int) -> None:
    """Kill every process of a session but its leader, until none is left (at most 5 s)."""
    give_up_at = time.monotonic() + SWEEP_LIMIT_SECONDS
    while (pids := _members(session)) and time.monotonic() < give_up_at:
        send(pids, signal.SIGKILL)
        time.sleep(SWEEP_INTERVAL_SECONDS)  # nobody tells of the end of others' children


def _members(session: int) -> list[int]:
    """Return the live processes of a session without its leader."""
    return [p.pid for p in list_processes() if p.session == session != p.pid]


def _ps(*columns: str, options: Sequence[str] = ()) -> list[list[bytes]]:
    """Return the words of each line; a column that is named with an empty header has none."""
    named = [word for column in columns for word in ("-o", column)]  # after '=', all is header
    listing = subprocess.run(["ps", "-ax", *options, *named], capture_output=True, check=True)
    return [row for line in listing.stdout.splitlines() if (row := line.split())]


def _process_of_ps(row: list[bytes]) -> Process | None:
    pid, parent = int(row[0]), int(row[1])
    with suppress(ProcessLookupError, PermissionError):
        if not row[2].startswith(b"Z"):
            return Process(pid, parent, os.getsid(pid))
    return None
