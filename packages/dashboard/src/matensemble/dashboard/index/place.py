"""Where the index of a run is kept.

Owns the directory: private, on local disk. Never in a run directory, which is often on a network
file system, where SQLite's locks and maps do not hold, and whose quota belongs to results.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from matensemble.dashboard.index.schema import remove
from matensemble.workdir import RunDir

KEPT_SECONDS = 14 * 86_400.0
"""How long the index of a run is kept that nobody looks at; it can be made again."""


def index_path(run: RunDir, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the file for the index of a run; the same for each process of this user here.

    It stands below ``$XDG_CACHE_HOME`` where that is set, else in the directory for temporary
    files; the one that shares no file system with the run comes first. The run is known by its
    path and inode.

    Parameters
    ----------
    run
        The run.
    environ
        Environment variables.

    Raises
    ------
    OSError
        If no private directory can be made.
    """
    found = run.root.stat()
    candidates = [Path(tempfile.gettempdir()) / f"matensemble-{os.getuid()}"]
    if environ.get("XDG_CACHE_HOME"):
        candidates.insert(0, Path(environ["XDG_CACHE_HOME"]) / "matensemble")
    candidates.sort(key=lambda path: _device(path) == found.st_dev)
    text = f"{run.root.resolve()}\0{found.st_ino}".encode(errors="surrogateescape")
    name = f"{hashlib.sha256(text).hexdigest()[:32]}.sqlite"
    for directory in candidates:
        if _is_made_private(directory):
            _discard_old(directory)
            return directory / name
    return Path(tempfile.mkdtemp(prefix="matensemble-")) / name


def _discard_old(directory: Path) -> None:
    """Remove the indexes that nobody has fed for long: that of a million chores takes 400 MB."""
    oldest = time.time() - KEPT_SECONDS
    for path in directory.glob("*.sqlite"):
        with suppress(OSError):  # another process removes it too
            if path.stat().st_mtime < oldest:
                remove(path)


def _device(path: Path) -> int | None:
    """Return the file system that a directory is, or would be made, on."""
    for directory in (path, *path.parents):
        try:
            return directory.stat().st_dev
        except OSError:
            continue
    return None


def _is_made_private(path: Path) -> bool:
    """Make a directory; return whether it is mine alone: others can make one of its name first."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError:
        return False
    is_mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return is_mine and not found.st_mode & 0o077 and os.access(path, os.W_OK | os.X_OK)
