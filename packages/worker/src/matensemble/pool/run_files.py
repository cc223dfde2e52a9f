"""The files of a run as a slot reads and writes them, again and again: with few calls.

Owns open files of frozen arguments and how a result is made in one link. Called by `slot`.
"""

from __future__ import annotations

import fcntl
import os

from matensemble import disk, wire
from matensemble.pool.capture import KEPT_FROM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_TEMPORARY = getattr(os, "O_TMPFILE", None)  # Linux
_MAX_OPEN: Final = 8
_MAX_AT_ONCE: Final = 1 << 20


class RunFiles:
    """Reads frozen arguments and writes results."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[int, int, int]] = {}  # descriptor, inode and device of a path
        self._has_temporary = _TEMPORARY is not None

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Return a part of a file that holds pickles; raises as `wire.read_trusted`."""
        if size > _MAX_AT_ONCE:
            return wire.read_trusted(path, offset, size)
        data = os.pread(self._descriptor(path), size, offset)
        if len(data) != size:  # a signal, a file that was cut off
            return wire.read_trusted(path, offset, size)
        return data

    def _descriptor(self, path: str) -> int:
        known = self._open.get(path)
        if known is not None:
            try:
                status = os.fstat(known[0])
                if (status.st_ino, status.st_dev) == known[1:]:
                    return known[0]
            except OSError:  # a chore closed it
                pass
            del self._open[path]  # and not the descriptor: it is a chore's by now
        if len(self._open) >= _MAX_OPEN:
            oldest = next(iter(self._open))
            os.close(self._open.pop(oldest)[0])
        opened = wire.open_trusted(path)
        descriptor = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, KEPT_FROM)
        os.close(opened)
        status = os.fstat(descriptor)
        self._open[path] = (descriptor, status.st_ino, status.st_dev)
        return descriptor

    def commit(self, path: str, payload: bytes, attempt: int, chore_id: str) -> None:
        """Commit a pickled result as `wire.write_result` does, in fewer steps where possible."""
        footer = wire.result_footer(payload, attempt, chore_id)
        if not (self._has_temporary and self._link(path, payload, footer)):
            disk.write_atomic(path, payload, footer)

    def _link(self, path: str, payload: bytes, footer: bytes) -> bool:
        """Write a file without a name and give it one; return whether that was possible."""
        assert _TEMPORARY is not None
        try:
            directory = path.rpartition("/")[0]
            descriptor = os.open(directory, os.O_WRONLY | os.O_CLOEXEC | _TEMPORARY, 0o600)
        except OSError:  # a file system without nameless files, or another trouble: see there
            self._has_temporary = False
            return False
        try:
            if os.writev(descriptor, (payload, footer)) != len(payload) + len(footer):
                return False
            # Without a directory Python calls link(), which does not follow the link in /proc.
            source = f"/proc/self/fd/{descriptor}"
            os.link(source, path, src_dir_fd=descriptor, follow_symlinks=True)
        except OSError:  # there is one of an earlier attempt, no /proc, no room …
            return False
        finally:
            os.close(descriptor)
        return True
