"""Which run is shown, and its status as it is on disk.

Owns every access of the dashboard to a run directory. What lies there may have been put there by
others, so nothing is followed and nothing is believed: links, pipes and devices are refused, sizes
are bounded, content is validated. Looking must not hurt the run either: the metadata server of the
file system is shared with it, so however many pages are open, the disk is asked once a second.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from matensemble.dashboard.schemas import RunStatusResponse
from matensemble.errors import FormatError, RunDirectoryError
from matensemble.status import RunStatus
from matensemble.workdir import DIRECTORY_PREFIX, MANIFEST, STATUS

MAX_STATUS_BYTES = 16 * 1024 * 1024
"""More than any status has: ten thousand groups take 2 MB."""
MAX_UNSTARTED_RUNS = 10
"""How many of the newest runs are asked for their status before the newest is shown unstarted."""
REFRESH_SECONDS = 1.0
"""Age up to which a status is served from memory."""


class Catalog:
    """The run, or the folder of runs, that a dashboard shows.

    Parameters
    ----------
    root
        A run directory, or a folder in which the newest started run is looked for at each look.
    clock
        Monotonic seconds.

    Raises
    ------
    RunDirectoryError
        If `root` is no directory that can be read.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        # The user chose this path, links in it included; below it none is followed.
        self.root = root.resolve()
        if not self.root.is_dir():
            raise RunDirectoryError(str(root), "is no directory")
        self._clock = clock
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._seen: RunStatusResponse | Exception = RunDirectoryError(
            str(root), "not looked at yet"
        )

    def read_status(self) -> RunStatusResponse:
        """Return the content of `status.json`, validated, with fields this version does not know.

        Raises
        ------
        RunDirectoryError
            If there is no run, or it has not been started.
        FormatError
            If the status cannot be opened safely, is damaged or of a format not known here.
        OSError
            If the file system refuses.
        """
        with self._lock:
            now = self._clock()
            if now - self._looked_at >= REFRESH_SECONDS:
                try:
                    self._seen = self._look()
                except (RunDirectoryError, FormatError, OSError) as error:
                    self._seen = error
                self._looked_at = now
            seen = self._seen
        if isinstance(seen, Exception):
            raise seen.with_traceback(None)
        return seen

    def _look(self) -> RunStatusResponse:
        candidates = self._candidates()
        for run_dir in candidates:
            data = _read_bounded(run_dir)
            if data is not None:
                return _decode(data, str(run_dir / STATUS))
        if candidates:
            raise RunDirectoryError(
                str(candidates[0]),
                "this run has not been started yet; start it with `matensemble run DIR`",
            )
        raise RunDirectoryError(
            str(self.root), f"no run is here yet; runs are directories called {DIRECTORY_PREFIX}…"
        )

    def _candidates(self) -> list[Path]:
        """Return run directories, newest first: their names hold the time they were made."""
        if self.root.name.startswith(DIRECTORY_PREFIX) or any(
            (self.root / name).exists() for name in (STATUS, MANIFEST)
        ):
            return [self.root]
        with os.scandir(self.root) as entries:
            names = [
                entry.name
                for entry in entries
                if entry.name.startswith(DIRECTORY_PREFIX) and entry.is_dir(follow_symlinks=False)
            ]
        return [self.root / name for name in sorted(names, reverse=True)[:MAX_UNSTARTED_RUNS]]


def _read_bounded(run_dir: Path) -> bytes | None:
    """Return the bytes of `status.json`, or None where there is none."""
    path = str(run_dir / STATUS)
    directory = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # O_NONBLOCK: opening a pipe somebody put there would wait for a writer.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(STATUS, flags, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
            raise FormatError(path, "is not a regular file, so it is not opened") from error
        raise
    finally:
        os.close(directory)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise FormatError(path, "is not a regular file, so it is not opened")
        with os.fdopen(file, "rb", closefd=False) as stream:
            data = stream.read(MAX_STATUS_BYTES + 1)
    finally:
        os.close(file)
    if len(data) > MAX_STATUS_BYTES:
        raise FormatError(path, f"is larger than {MAX_STATUS_BYTES} bytes, which no status is")
    return data


def _decode(data: bytes, path: str) -> RunStatusResponse:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(path, f"is no JSON ({error})") from error
    RunStatus.from_json(content, path)
    try:
        # From the bytes again: the strict reader refuses text that no answer could carry.
        return RunStatusResponse.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise FormatError(path, f"is no status ({place}: {first['msg']})") from error
