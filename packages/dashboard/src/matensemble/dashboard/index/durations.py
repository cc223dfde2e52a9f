"""How long the chores of each group ran, counted by length: to find quantiles of a million at once.

Owns the table `durations`: chores by their latest attempt that has ended, in buckets of which each
is 1 % wider than the one below it. Called by `fold` with what has changed, and by `utilisation`.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from dataclasses import dataclass
from math import ceil, frexp, ldexp

_PER_OCTAVE = 64
_INSTANT = -(2**20)
"""Bucket of what took no time: below that of any other float."""
_ADD = (
    "INSERT INTO durations VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE "
    "SET count = count + excluded.count, seconds = seconds + excluded.seconds"
)


@dataclass(frozen=True, slots=True)
class Durations:
    """How long the chores of a group ran, in seconds; None where none has ended."""

    count: int
    total: float | None
    median: float | None
    p95: float | None
    max: float | None


class DurationCounts:
    """Changes of the table, to be added to it."""

    def __init__(self) -> None:
        self._changes: defaultdict[tuple[str, int], list[float]] = defaultdict(lambda: [0, 0.0])

    def count(self, group: str, seconds: float, by: int) -> None:
        """Count a chore that ran so long, or with −1 count it no more; below 0: not known."""
        if seconds < 0:
            return
        change = self._changes[group, bucket_of(seconds)]
        change[0] += by
        change[1] += by * seconds

    def write(self, database: sqlite3.Connection) -> None:
        """Add them to the table, and forget them."""
        database.executemany(_ADD, [(*key, *change) for key, change in self._changes.items()])
        self._changes.clear()


def bucket_of(seconds: float) -> int:
    """Return the bucket of a length, from 0: a longer one has the same or a higher."""
    if seconds == 0:
        return _INSTANT
    mantissa, exponent = frexp(seconds)  # from 0.5
    return exponent * _PER_OCTAVE + int(mantissa * 2 * _PER_OCTAVE) - _PER_OCTAVE


def bounds_of(bucket: int) -> tuple[float, float]:
    """Return the shortest length of a bucket, and the shortest of the one above it."""
    if bucket == _INSTANT:
        return 0.0, 5e-324
    exponent, place = divmod(bucket, _PER_OCTAVE)
    width = 1 / (2 * _PER_OCTAVE)
    mantissa = 0.5 + place * width
    return ldexp(mantissa, exponent), ldexp(mantissa + width, exponent)


def read_durations(database: sqlite3.Connection, group: str) -> Durations:
    """Return how long the chores of a group ran, by their latest attempts that have ended.

    Quantiles are durations that occurred: the lowest such that so many are not longer.
    """
    buckets = database.execute(
        "SELECT bucket, count, seconds FROM durations WHERE name = ? AND count > 0 ORDER BY bucket",
        (group,),
    ).fetchall()
    count = sum(number for _, number, _ in buckets)
    if not count:
        return Durations(0, None, None, None, None)
    median, p95, longest = (
        _find(database, group, buckets, ceil(share * count)) for share in (0.5, 0.95, 1.0)
    )
    return Durations(count, sum(seconds for _, _, seconds in buckets), median, p95, longest)


def _find(
    database: sqlite3.Connection, group: str, buckets: list[tuple[int, int, float]], place: int
) -> float:
    """Return the `place`-th duration, from 1, from the shortest."""
    counts = iter(buckets)
    bucket, number, _ = next(counts)
    while place > number:
        place -= number
        bucket, number, _ = next(counts)
    low, high = bounds_of(bucket)
    select = (
        "SELECT seconds FROM chores INDEXED BY by_name_seconds "
        "WHERE name = ? AND seconds >= 0 AND seconds >= ? AND seconds < ?"
    )

    def at(direction: str, offset: int) -> float:
        ordered = f"{select} ORDER BY seconds {direction} LIMIT 1 OFFSET ?"
        found: float = database.execute(ordered, (group, low, high, offset)).fetchone()[0]
        return found

    shortest, longest = at("ASC", 0), at("DESC", 0)
    if shortest == longest:  # as of chores that only wait
        return shortest
    # From the end that is nearer: what is skipped is walked over.
    return at("ASC", place - 1) if 2 * place <= number else at("DESC", number - place)
