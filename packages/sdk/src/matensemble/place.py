"""Where bytes stand in a run directory, and bytes that are to stand one after the other.

Owns no file: whoever writes one decides when. Used for frozen arguments and environments, by the
SDK and, where a strategy returned specs, by the worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from sys import intern
from typing import Any, NamedTuple


class Place(NamedTuple):
    """Where bytes stand: a file relative to the run directory, offset and size in bytes."""

    file: str
    offset: int
    size: int

    @classmethod
    def from_json(cls, value: Sequence[Any] | None) -> Place | None:
        """Return the place that a header or manifest names; None where it names none."""
        if value is None:
            return None
        file, *where = value
        return cls(intern(file), *where)  # one text for the places of a million chores


class Tail:
    """Bytes that will be appended to a file, each with its place known beforehand.

    Parameters
    ----------
    file
        Where they will stand, relative to the run directory.
    offset
        Size of that file now, in bytes.

    Attributes
    ----------
    chunks
        What is to be appended.
    """

    __slots__ = ("_end", "_file", "chunks")

    def __init__(self, file: str, offset: int = 0) -> None:
        self.chunks: list[bytes] = []
        self._file = file
        self._end = offset

    def add(self, data: bytes) -> Place:
        """Add bytes and return their place."""
        place = Place(self._file, self._end, len(data))
        self.chunks.append(data)
        self._end += len(data)
        return place
