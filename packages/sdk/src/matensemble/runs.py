"""Which runs lie in a folder, and where each of them stands.

Owns how a run is found from what a user typed, and how one sees that its driver is gone. Only
reads; what the files hold is the business of `matensemble.status` and `matensemble.owner`. Called
by the subcommands.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from matensemble.errors import RunDirectoryError
from matensemble.owner import Life, Owner, is_running, judge, present_owner
from matensemble.status import RunStatus, read_status
from matensemble.terminal import describe_seconds
from matensemble.workdir import DIRECTORY_PREFIX, MANIFEST, RunDir

SILENCE_SECONDS = 60.0
"""A driver publishes every 5 s at least; network file systems may show that a minute later."""
STALE_PATIENCE_SECONDS = 1.0
STALE_INTERVAL_SECONDS = 0.2


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


class Look(NamedTuple):
    """What can be seen of a run from outside."""

    status: RunStatus | None
    """The last one published; None where there is none."""
    owner: Owner | None
    """Who drives it, or was the last to do so; None where nobody ever did."""
    lost: str | None
    """Why its driver seems lost; None where it does not."""

    @property
    def successor(self) -> Owner | None:
        """The owner where it has published nothing yet, so that `status` is older; else None."""
        is_coming = self.lost is None and _is_outdated(self.status, self.owner)
        return self.owner if is_coming else None


def look_at(run: RunDir, patience: float = STALE_PATIENCE_SECONDS) -> Look:
    """Return what can be seen of a run just now.

    A driver that was stopped and replaced may publish once more before it notices. A status of an
    epoch before that of the present owner is therefore read again for a moment. If no other comes,
    it is what is known; `Look.successor` tells.

    Parameters
    ----------
    run
        The run.
    patience
        Seconds to wait for a status of the present owner, at most.

    Raises
    ------
    FormatError, RunDirectoryError
        If it cannot be read.
    """
    deadline = time.monotonic() + patience
    try:
        while True:
            status, owner = _published(run), present_owner(run)
            is_new = status is None or not _is_outdated(status, owner)
            if is_new or time.monotonic() >= deadline:
                return Look(status, owner, _why_lost(status, owner))
            time.sleep(STALE_INTERVAL_SECONDS)
    except OSError as error:
        path = error.filename or run.root
        raise RunDirectoryError(str(path), f"cannot be read ({error.strerror})") from error


def read_status_of(run: RunDir) -> RunStatus | None:
    """Return the status of a run, or None where there is none; waits and raises as `look_at`."""
    return look_at(run).status


def _published(run: RunDir) -> RunStatus | None:
    try:
        return read_status(run.status_path)
    except FileNotFoundError:
        return None


def _is_outdated(status: RunStatus | None, owner: Owner | None) -> bool:
    """Return whether somebody may drive the run who did not publish this status."""
    epoch = 0 if status is None else status.epoch
    return owner is not None and owner.epoch > epoch and judge(owner) is not Life.DEAD


def why_undriven(look: Look) -> str | None:
    """Return why no driver works on a run, None where one does as far as can be seen."""
    status, owner, lost = look
    if lost is not None:
        return f"the driver of the run seems lost: {lost}"
    if look.successor is not None:
        return None
    if status is None:
        is_starting = owner is not None and owner.released_at is None
        return None if is_starting else "the run was not started"
    if status.state.is_terminal:
        return f"the run is over, it is {status.state.value}"
    return None


def why_lost(status: RunStatus, now: datetime | None = None) -> str | None:
    """Return why the driver of a run seems lost, or None where it does not; by its status alone.

    `look_at` says it more exactly: a process number may by now be that of another process.

    Parameters
    ----------
    status
        As it was read just now.
    now
        Aware; None means this instant.
    """
    if status.state.is_terminal:
        return None
    if status.host == socket.gethostname() and not is_running(status.pid):
        return f"its process {status.pid} on this host is gone"
    return _why_silent(status.updated_at, now, f"process {status.pid} on {status.host}")


def _why_lost(status: RunStatus | None, owner: Owner | None) -> str | None:
    if owner is None or not owner.is_known:
        return None if status is None else why_lost(status)
    is_its_own = status is not None and owner.epoch <= status.epoch
    has_ended = status is not None and status.state.is_terminal
    if owner.released_at is not None:
        is_at_rest = status is None or has_ended
        return None if is_at_rest else f"{owner.describe()} gave it back without a last word"
    if has_ended and is_its_own:
        return None
    if judge(owner) is Life.DEAD:
        return f"its process {owner.pid} on this host is gone"
    spoke_at = status.updated_at if status is not None and is_its_own else owner.started_at
    return _why_silent(spoke_at, None, owner.describe())


def _why_silent(instant: str | None, now: datetime | None, who: str) -> str | None:
    age = seconds_since(instant, now)
    if age is not None and age > SILENCE_SECONDS:
        return f"no sign of life for {describe_seconds(age)} from {who}"
    return None


def seconds_since(instant: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds since an instant of a file (ISO 8601), or None where it holds none."""
    try:
        then = datetime.fromisoformat(instant or "")
        return ((now or datetime.now(UTC)) - then).total_seconds()
    except (TypeError, ValueError):  # nothing, or without a time zone
        return None
