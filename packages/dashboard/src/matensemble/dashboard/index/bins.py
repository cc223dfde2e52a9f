"""Windows of wall time: how long a run is, where nobody watched it, and the bins of a chart.

Owns the grid: bins begin at multiples of their length, so that zooming in and out cuts at the same
instants and bins tile a window without gap. Called by the modules of this package that answer
questions about time. Seconds are whole and since the Unix epoch, like those of `moments`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from math import ceil, floor
from typing import NamedTuple

MAX_BINS = 2_000
MAX_EPOCHS = 1_000
"""Times that a run was resumed; the gaps before later ones are not told."""
MIN_GAP_SECONDS = 60
"""A run that is resumed sooner counts as if somebody had watched all the time."""
_LENGTHS = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200,
)  # fmt: skip
_DAY = 86_400


class Window(NamedTuple):
    """A half-open stretch of time."""

    start: int
    end: int

    @property
    def seconds(self) -> int:
        """Its length."""
        return self.end - self.start


class Bins(NamedTuple):
    """Stretches of equal length, one behind the other."""

    start: int
    """Beginning of the first, a multiple of `seconds`."""
    seconds: int
    """Length of each, from 1."""
    number: int
    """How many, from 1."""

    @property
    def end(self) -> int:
        """End of the last."""
        return self.start + self.seconds * self.number

    def edges(self) -> list[int]:
        """Return where bins begin, and where the last one ends: `number` + 1 instants."""
        return list(range(self.start, self.end + 1, self.seconds))

    def covered(self, window: Window) -> list[int]:
        """Return how many seconds of each lie within a window."""
        return [
            max(min(edge + self.seconds, window.end) - max(edge, window.start), 0)
            for edge in range(self.start, self.end, self.seconds)
        ]


def bins_of(window: Window, most: int, least_seconds: int = 1) -> Bins:
    """Return the finest bins over a window of which there are not too many.

    Parameters
    ----------
    window
        What they cover at least; an empty one has one bin.
    most
        How many there may be, from 2.
    least_seconds
        What each lasts at least.
    """
    end = max(window.end, window.start + 1)
    for seconds in _lengths(end - window.start, most):
        first, last = window.start // seconds, -(-end // seconds)
        if seconds >= least_seconds and last - first <= most:
            return Bins(first * seconds, seconds, last - first)
    raise AssertionError("lengths never end")


def _lengths(span: int, most: int) -> Iterator[int]:
    yield from _LENGTHS
    days = max(span // (_DAY * most), 1)
    while True:
        yield days * _DAY
        days += 1


def extent_of(database: sqlite3.Connection, alive_at: float | None) -> Window | None:
    """Return from when to when a run lasts, or None where nothing has happened yet.

    Parameters
    ----------
    database
        The index.
    alive_at
        Last sign of life of a driver that still works, by its clock; None: the last record counts.
    """
    # Each on its own, as one statement would read the whole table.
    first, last, opened, closed = database.execute(
        "SELECT (SELECT min(second) FROM moments), (SELECT max(second) + 1 FROM moments), "
        "(SELECT min(at) FROM events), (SELECT max(at) FROM events)"
    ).fetchone()
    starts = [at for at in (first, opened) if at is not None]
    ends = [at for at in (last, closed, alive_at) if at is not None]
    if not starts:
        return None
    start = floor(min(starts))
    return Window(start, max(ceil(max(ends)), start + 1))


def gaps_of(database: sqlite3.Connection) -> list[Window]:
    """Return when nobody watched: from the last record of an epoch until the next one opened.

    What ran then is not known: what was lost ended at some instant in it, what was found again went
    on. Nothing counts as busy or available in it. Gaps stand in order and do not overlap.
    """
    gaps: list[Window] = []
    opened = database.execute(
        "SELECT min(at) FROM capacities GROUP BY epoch ORDER BY epoch LIMIT ?", (MAX_EPOCHS,)
    ).fetchall()
    for (at,) in opened[1:]:
        signs = database.execute(
            "SELECT max(second) + 1 FROM moments WHERE second < ?1 "
            "UNION ALL SELECT max(at) FROM events WHERE at < ?1",
            (floor(at),),
        ).fetchall()
        last = max((ceil(sign) for (sign,) in signs if sign is not None), default=floor(at))
        is_behind = not gaps or last >= gaps[-1].end  # not so where a clock went backwards
        if floor(at) - last >= MIN_GAP_SECONDS and is_behind:
            gaps.append(Window(last, floor(at)))
    return gaps


def outside(gaps: Iterable[Window], start: float, end: float) -> list[tuple[float, float]]:
    """Return what is left of a stretch without the gaps in it, which stand in order."""
    left = []
    for gap in gaps:
        if gap.end > start and gap.start < end:
            if gap.start > start:
                left.append((start, float(gap.start)))
            start = gap.end
    if start < end:
        left.append((start, end))
    return left
