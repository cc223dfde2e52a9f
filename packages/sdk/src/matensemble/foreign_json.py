"""Read small JSON files that a chore could have written or replaced.

Owns the caution: never blocks (a named pipe), never follows a link, never takes more than it is
told, and answers nonsense with one kind of error. Readers of `error.json`, `spawned.jsonl` and
`status.json` use it; none of them may be stopped by what a chore leaves behind.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import Any, BinaryIO

from matensemble.errors import FormatError


def read_foreign_bytes(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """Return the content of a regular file.

    Parameters
    ----------
    path
        The file; a symbolic link is refused.
    max_bytes
        A larger file is refused.

    Raises
    ------
    FileNotFoundError, PermissionError, OSError
        If it cannot be opened.
    FormatError
        If it is no regular file, or too large.
    """
    try:
        return _read(path, max_bytes)
    except OSError as error:
        # Replaced at this very moment, as a network file system shows it: there is a new one.
        if error.errno not in (errno.ESTALE, errno.ENOENT):
            raise
    return _read(path, max_bytes)


def _read(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    with open_foreign(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise FormatError(os.fspath(path), f"holds more than {max_bytes} bytes")
    return content


def open_foreign(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading, without following a link or waiting for a writer.

    Raises
    ------
    FileNotFoundError, PermissionError, OSError
        If it cannot be opened.
    FormatError
        If it is no regular file.
    """
    shown = os.fspath(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FormatError(shown, "is a symbolic link") from None
        if error.errno == errno.ENXIO:  # a socket
            raise FormatError(shown, "is not a regular file") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FormatError(shown, "is not a regular file")
    return os.fdopen(descriptor, "rb")


def parse_foreign_json(content: bytes, path: str | os.PathLike[str]) -> Any:
    """Return the value of a JSON text.

    Raises
    ------
    FormatError
        If it is none, or nested without measure.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FormatError(os.fspath(path), f"is no JSON ({error})") from None


def read_foreign_json(path: str | os.PathLike[str], max_bytes: int) -> Any:
    """Return the value of a JSON file; raises as the two functions above."""
    return parse_foreign_json(read_foreign_bytes(path, max_bytes), path)
