"""Read a growing file of lines from where one stopped, and notice when it is another one.

Owns the caution towards the file: it is opened without following a link or waiting for a writer,
no line is longer than `MAX_LINE_BYTES`, and a bookmark remembers enough of what was read to tell
growth from truncation and replacement. Called by `index`; what a line means is not known here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple
from zlib import crc32

from matensemble.errors import FormatError

MAX_LINE_BYTES = 64 * 1024 * 1024
"""More than any line has: the first of a journal names every node, a header every dependency."""
_MARK_BYTES = 4096


class Bookmark(NamedTuple):
    """How far a file was read, and what stood there."""

    inode: int
    offset: int
    """Bytes that were read, up to the end of a line."""
    first: int
    """Checksum of the first of them, 4 KiB at most."""
    last: int
    """Checksum of the last of them, 4 KiB at most."""


def bookmark(file: BinaryIO, offset: int) -> Bookmark:
    """Return a bookmark at an offset."""
    number = file.fileno()
    length = min(offset, _MARK_BYTES)
    first = os.pread(number, length, 0)
    last = os.pread(number, length, offset - length)
    return Bookmark(os.fstat(number).st_ino, offset, crc32(first), crc32(last))


def fits(file: BinaryIO, mark: Bookmark) -> bool:
    """Return whether a file is the one of a bookmark, and still holds what was read."""
    found = os.fstat(file.fileno())
    is_long_enough = found.st_size >= mark.offset
    return is_long_enough and bookmark(file, mark.offset) == mark


def lines_from(file: BinaryIO, offset: int, path: str) -> Iterator[bytes]:
    """Yield the lines from an offset on; the last one may be torn.

    Raises
    ------
    FormatError
        If a line is longer than any line is.
    """
    file.seek(offset)
    while line := file.readline(MAX_LINE_BYTES):
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            raise FormatError(path, f"holds a line of more than {MAX_LINE_BYTES} bytes")
        yield line
