"""Which runs lie in a folder, and where each of them stands.

Owns how a run is found from what a user typed, and how one sees that its driver is gone. Only
reads; what a status holds is the business of `matensemble.status`. Called by the subcommands.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from matensemble.errors import RunDirectoryError
from matensemble.status import RunStatus, read_status
from matensemble.workdir import DIRECTORY_PREFIX, MANIFEST, RunDir

SILENCE_SECONDS = 60.0
"""A driver publishes every 5 s at least; network file systems may show that a minute later."""


def find_run(path: Path) -> RunDir:
    """Return the run at a path: a run directory, or of a folder of runs the newest.

    Raises
    ------
    RunDirectoryError
        If there is none.
    """
    if (path / MANIFEST).exists():
        return RunDir(path.absolute())
    newest = max(_scan(path), default=None)
    if newest is None:
        raise RunDirectoryError(
            str(path),
            f"no run is here: it holds neither a {MANIFEST} nor a folder called "
            f"{DIRECTORY_PREFIX}… with one",
        )
    return RunDir(newest[1].absolute())


def list_runs(root: Path) -> list[RunDir]:
    """Return the runs that lie directly in a folder, newest first; reads none of them.

    Raises
    ------
    RunDirectoryError
        If the folder cannot be read.
    """
    return [RunDir(path) for _, path in sorted(_scan(root), reverse=True)]


def _scan(root: Path) -> Iterator[tuple[int, Path]]:
    """Yield when each run was saved (nanoseconds), and its path. Runs may have been renamed."""
    try:
        entries = list(os.scandir(root))
    except OSError as error:
        raise RunDirectoryError(str(root), f"cannot be read ({error.strerror})") from error
    for entry in entries:
        path = Path(entry.path)
        with suppress(OSError):  # no directory, not ours to read, or gone by now
            yield (path / MANIFEST).stat().st_mtime_ns, path


def read_status_of(run: RunDir) -> RunStatus | None:
    """Return the status of a run, or None where it has not been started.

    Raises
    ------
    FormatError, RunDirectoryError
        If it cannot be read.
    """
    try:
        return read_status(run.status_path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunDirectoryError(
            str(run.status_path), f"cannot be read ({error.strerror})"
        ) from error


def why_lost(status: RunStatus, now: datetime | None = None) -> str | None:
    """Return why the driver of a run seems lost, or None where it does not.

    Parameters
    ----------
    status
        As it was read just now.
    now
        Aware; None means this instant.
    """
    if status.state.is_terminal:
        return None
    if status.host == socket.gethostname() and not _is_alive(status.pid):
        return f"its process {status.pid} on this host is gone"
    age = seconds_since(status.updated_at, now)
    if age is not None and age > SILENCE_SECONDS:
        return f"no sign of life for {age:.0f} s from process {status.pid} on {status.host}"
    return None


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def seconds_since(instant: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds since an instant of a file (ISO 8601), or None where it holds none."""
    try:
        then = datetime.fromisoformat(instant or "")
        return ((now or datetime.now(UTC)) - then).total_seconds()
    except (TypeError, ValueError):  # nothing, or without a time zone
        return None
