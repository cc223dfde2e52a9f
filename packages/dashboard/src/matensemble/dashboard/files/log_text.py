"""Text out of the bytes of a log: whole characters, nothing that a page cannot hold, search.

Owns where a range of a log may begin and end, which control characters are left in it, and how a
log is searched in bounded work. Escape sequences stay, because the page shows colours by them.
Opens nothing. Called by `routes.files`.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

from matensemble.dashboard.files.artifact import MAX_RANGE_BYTES, Artifact
from matensemble.terminal import REPLACEMENT

MIN_RANGE_BYTES = 4
"""The longest character: a range of so many bytes always brings the reader on."""
MAX_SEARCH_BYTES = 16 * MAX_RANGE_BYTES
"""How much of a log one call searches."""
MAX_MATCHES = 1000

_UNSAFE = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f"  # controls: not tab, newline, return, escape
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # they reorder text
    r"\u2028\u2029]"  # line separators that are no newline
)
_MAX_REST = 3
"""Bytes of a character after its first, at most."""


class LogText(NamedTuple):
    """A range of a log; offsets in bytes."""

    text: str
    start: int
    """Where the text begins: as asked, or after the character in whose middle that was."""
    end: int
    """Where it ends, and a next range begins."""
    is_complete: bool
    """Whether it reaches the end of the file as it was then; an unfinished last character, which
    may be finished a moment later, is not given and does not count."""


class Matches(NamedTuple):
    """Where a text stands in a log; offsets in bytes."""

    offsets: list[int]
    """Of the first byte of each, rising; they do not overlap."""
    next_offset: int | None
    """Where a next call goes on; None where the end was reached."""


def read_text(artifact: Artifact, offset: int, length: int, *, is_final: bool = False) -> LogText:
    """Return a range of a log as text.

    Parameters
    ----------
    artifact
        The log.
    offset
        First byte, from 0.
    length
        Bytes, from `MIN_RANGE_BYTES` to `MAX_RANGE_BYTES`.
    is_final
        Whether nothing more will be written, so that an unfinished character at the very end is
        shown as U+FFFD.
    """
    base = max(offset - _MAX_REST, 0)
    before = artifact.read(base, offset - base)
    data = artifact.read(offset, length)
    is_complete = offset + len(data) >= artifact.look().size
    skipped = _rest_of_character(before, data)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data[skipped:], final=is_final and is_complete)
    held_back = len(decoder.getstate()[0])
    return LogText(
        _UNSAFE.sub(REPLACEMENT, text),
        offset + skipped,
        offset + len(data) - held_back,
        is_complete,
    )


def _rest_of_character(before: bytes, data: bytes) -> int:
    """Return how many bytes at the beginning of `data` end a character of `before`."""
    for length in range(1, len(before) + 1):
        first = before[-length]
        if first & 0xC0 == 0x80:
            continue
        rest = (2 if first < 0xE0 else 3 if first < 0xF0 else 4) - length
        if first < 0xC0 or rest <= 0:
            return 0
        try:
            (before[-length:] + data[:rest]).decode()
        except UnicodeDecodeError:  # no character
            return 0
        return rest
    return 0


def find_text(
    artifact: Artifact, text: str, offset: int, *, limit: int, ignore_case: bool = False
) -> Matches:
    """Return where a text stands in a log, from an offset on.

    Reads at most `MAX_SEARCH_BYTES`; memory does not depend on the size of the log.

    Parameters
    ----------
    artifact
        The log.
    text
        What is looked for, not empty.
    offset
        Where to begin, from 0.
    limit
        How many matches to return, from 1 to `MAX_MATCHES`.
    ignore_case
        Whether upper and lower case of ASCII letters are the same.
    """
    needle = text.encode().lower() if ignore_case else text.encode()
    matches: list[int] = []
    position, stop = offset, offset + MAX_SEARCH_BYTES
    while position < stop:
        data = artifact.read(position, MAX_RANGE_BYTES)
        if len(data) < len(needle):
            return Matches(matches, None)
        haystack = data.lower() if ignore_case else data
        at = 0
        while (found := haystack.find(needle, at)) >= 0:
            matches.append(position + found)
            at = found + len(needle)
            if len(matches) == limit:
                return Matches(matches, position + at)
        # The end may hold the beginning of a match, unless one ended there.
        position += max(at, len(data) - len(needle) + 1)
    return Matches(matches, position)
