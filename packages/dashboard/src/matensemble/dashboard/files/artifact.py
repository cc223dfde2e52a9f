"""A regular file below a directory, opened without following a link, and read at offsets.

Owns how a file is opened that somebody else may exchange at any moment, and what tells that it was
cut or replaced while it was read. Knows nothing of runs and chores. Called by `artifacts` and the
catalog, and read from by `log_text` and `routes.files`.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Self

from matensemble.errors import FormatError
from matensemble.terminal import clean_text

MAX_RANGE_BYTES = 1 << 20
"""Of one read, and so of what one answer takes from a file."""

_MARK_BYTES = 256
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a pipe somebody put there would wait for a writer.
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class FileState(NamedTuple):
    """What a file is like at one moment."""

    size: int
    """Bytes."""
    modified_at: float
    """Seconds since 1970, by the clock of the file system."""
    etag: str
    """Changes whenever the file was written to or is another one."""


class Artifact:
    """A regular file of a chore, open for reading; a context manager.

    Parameters
    ----------
    descriptor
        Of a regular file; closed by this object.
    name
        Its name in its directory.
    attempt
        Whose file it is, from 1; None where that cannot be told.
    """

    def __init__(self, descriptor: int, name: str, attempt: int | None) -> None:
        self._file = io.FileIO(descriptor)
        self.name = name
        self.attempt = attempt

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; again does nothing."""
        self._file.close()

    def look(self) -> FileState:
        """Return what the file is like now."""
        found = os.fstat(self._file.fileno())
        facts = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        return FileState(found.st_size, found.st_mtime, _digest(repr(facts).encode()))

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes from an offset on; fewer, or none, where the file ends before.

        Parameters
        ----------
        offset
            From 0; may lie behind the end.
        length
            From 0; at most `MAX_RANGE_BYTES` are returned.
        """
        pieces = []
        missing = min(length, MAX_RANGE_BYTES)
        while missing and (piece := os.pread(self._file.fileno(), missing, offset)):
            pieces.append(piece)
            offset += len(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def stream(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes between two offsets in pieces, and close the file.

        It ends early where the file does: what is announced and does not come tells the receiver.
        """
        with self:
            while start < end and (piece := self.read(start, end - start)):
                yield piece
                start += len(piece)

    def mark(self, offset: int) -> str:
        """Return a text by which `find_mark` tells that all before an offset is as it was."""
        return f"{offset}-{self._digest_before(offset)}"

    def find_mark(self, mark: str) -> int | None:
        """Return the offset of a mark, or None where the file was cut or is another one by now.

        Parameters
        ----------
        mark
            What `mark` returned; anything else is no mark of this file.
        """
        number, _, digest = mark.partition("-")
        # Twenty digits are more than any offset has that a file system knows.
        if not (number.isascii() and number.isdecimal() and len(number) < 19):
            return None
        offset = int(number)
        return offset if digest == self._digest_before(offset) else None

    def _digest_before(self, offset: int) -> str:
        # The number of a file is given again soon after its removal; the bytes tell.
        found = os.fstat(self._file.fileno())
        start = max(offset - _MARK_BYTES, 0)
        before = self.read(start, offset - start)
        return _digest(repr((found.st_dev, found.st_ino, offset, before)).encode())


def open_directory(directory: int, parts: tuple[str, ...]) -> int:
    """Return a descriptor of a directory below another one, reached without a link.

    Parameters
    ----------
    directory
        Descriptor of the directory to begin in; stays open.
    parts
        The way from there, each a single segment that is neither ``.`` nor ``..``.

    Raises
    ------
    FormatError
        If something on the way is a link, or no directory.
    OSError
        If something is missing, or the file system refuses.
    """
    current = os.dup(directory)
    for part in parts:
        try:
            following = os.open(part, _OPEN_DIRECTORY, dir_fd=current)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise FormatError(clean_text(part), "is no directory, or a link to one") from error
            raise
        finally:
            os.close(current)
        current = following
    return current


def open_file(directory: int, parts: tuple[str, ...]) -> int:
    """Return a descriptor of a regular file below a directory; as `open_directory`.

    Raises
    ------
    FormatError
        If it is something else: a link, a pipe, a device, a directory.
    OSError
        If it is missing, or the file system refuses.
    """
    name = clean_text(parts[-1])
    parent = open_directory(directory, parts[:-1])
    try:
        descriptor = os.open(parts[-1], _OPEN_FILE, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EOPNOTSUPP):  # a link; a socket
            raise FormatError(name, "is not a regular file, so it is not opened") from error
        raise
    finally:
        os.close(parent)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FormatError(name, "is not a regular file, so it is not opened")
    return descriptor


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
