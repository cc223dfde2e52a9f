"""Text that is fit for a terminal: nothing in it commands the terminal, numbers read well.

Chores, and people with access to a folder, decide names, messages and logs. Printed as they are,
they could move the cursor, set the title of the window or reorder the line they stand in. Called by
everything that prints what it read from a run; files and pipes get their bytes unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_ESCAPE_SEQUENCES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # OSC and other strings: titles, links
    r"|\x1b[ -/]*[0-Z\\^-~]"  # the short ones
    r"|\x9b[0-?]*[ -/]*[@-~]"  # CSI in its eight-bit form
)
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls, besides tab and newline
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # they reorder text
    r"\u2028\u2029"  # line separators that are no newline
    r"\ud800-\udfff]"  # bytes that were no UTF-8
)
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def clean_text(text: str) -> str:
    """Return text without anything that commands a terminal; newlines and tabs stay.

    Whole escape sequences go; a carriage return becomes a newline, so that a progress bar leaves
    its steps instead of overwriting what stands before it; other controls become U+FFFD.
    """
    text = _ESCAPE_SEQUENCES.sub("", text.replace("\r\n", "\n")).replace("\r", "\n")
    return _UNSAFE.sub(REPLACEMENT, text)


def clean_line(text: object) -> str:
    """Return the text of a value as one line that commands nothing."""
    return " ".join(clean_text(str(text)).split())


def describe_seconds(seconds: float) -> str:
    """Return a span of time for people: ``3 ms``, ``0.4 s``, ``43 s``, ``2 min 3 s``, ``3 d 4 h``.

    Parameters
    ----------
    seconds
        The span; below 0 counts as 0.
    """
    if 0 < seconds < 0.0995:
        return f"{seconds * 1000:.{0 if seconds > 0.00095 else 1}f} ms"
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    for size, unit, part_size, part in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // part_size
            return f"{whole // size} {unit}" + (f" {rest} {part}" if rest else "")
    return f"{whole} s"


def describe_bytes(num_bytes: float) -> str:
    """Return a size for people, in decimal units: ``812 B``, ``3.4 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def plural(number: int, noun: str) -> str:
    """Return a number and its noun: ``1 chore``, ``1,200 chores``; the plural takes an s."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def shorten(text: str, width: int) -> str:
    """Return at most `width` characters of a text, the last an ellipsis where some are missing."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Return the lines of a table.

    Parameters
    ----------
    header
        One heading a column.
    rows
        One text a column each.
    left
        So many columns are aligned to the left, the others to the right.
    """
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    return [
        "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]
