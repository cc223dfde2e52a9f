"""The moments of a run, rolled up by minutes: a campaign of weeks has a moment in each second.

Owns the table `minutes` and sums over both tables, which are the same as those over moments alone.
Called by `moments` with what it writes, and by `series`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

SECONDS = 60
COUNTS = ("submitted", "started", "completed", "failed", "cancelled", "skipped", "requeued")
LOADS = ("running", "cores", "gpus")
"""Changes of how many attempts run, and of what they keep busy."""
RESTS = ("run_rest", "core_rest", "gpu_rest")
"""What the changes of a second are to be corrected by, in loads times seconds: they did not all
happen when it began."""
_BUSY = ("run_seconds", "core_seconds", "gpu_seconds")
"""How long what changed in a minute was busy until its end."""
_COLUMNS = (*COUNTS, *LOADS, *_BUSY)
_ADD = (
    f"INSERT INTO minutes (minute, {', '.join(_COLUMNS)}) "
    f"VALUES (?{', ?' * len(_COLUMNS)}) ON CONFLICT DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in _COLUMNS)
)
_NAMES = ", ".join((*COUNTS, *LOADS))
_OF_MOMENTS = ", ".join(
    f"{load} * (:end - second) + {rest} AS {busy}"
    for load, rest, busy in zip(LOADS, RESTS, _BUSY, strict=True)
)
_OF_MINUTES = ", ".join(
    f"{load} * (:end - (minute + 1) * {SECONDS}) + {busy} AS {busy}"
    for load, busy in zip(LOADS, _BUSY, strict=True)
)
_SUM = (
    f"SELECT {', '.join(f'total({name})' for name in _COLUMNS)} FROM ("
    f"SELECT {_NAMES}, {_OF_MOMENTS} FROM moments WHERE second >= :start AND second < :head "
    f"UNION ALL SELECT {_NAMES}, {_OF_MINUTES} FROM minutes WHERE minute >= :first "
    "AND minute < :last "
    f"UNION ALL SELECT {_NAMES}, {_OF_MOMENTS} FROM moments WHERE second >= :tail "
    "AND second < :end)"
)


def add_minutes(
    database: sqlite3.Connection, moments: Iterable[tuple[int, Sequence[float]]]
) -> None:
    """Add moments to the minutes they lie in: seconds, each with its counts, loads and rests."""
    minutes: dict[int, list[float]] = {}
    num_counts, num_told = len(COUNTS), len(COUNTS) + len(LOADS)
    for second, moment in moments:
        minute = second // SECONDS
        row = minutes.setdefault(minute, [0] * len(_COLUMNS))
        left = (minute + 1) * SECONDS - second
        changes, rests = moment[num_counts:num_told], moment[num_told:]
        busy = [change * left + rest for change, rest in zip(changes, rests, strict=True)]
        for place, number in enumerate((*moment[:num_told], *busy)):
            row[place] += number
    database.executemany(_ADD, [(minute, *row) for minute, row in minutes.items()])


def sum_moments(
    database: sqlite3.Connection, start: int, end: int
) -> tuple[list[int], list[int], list[float]]:
    """Return what happened from `start` up to `end`.

    Returns
    -------
    How often each of `COUNTS` happened; how each of `LOADS` changed; and how long what changed was
    busy until `end`, in loads times seconds.
    """
    first, last = -(-start // SECONDS), end // SECONDS
    if first >= last:
        first = last = 0
    values = {
        "start": start,
        "head": first * SECONDS if last else end,
        "first": first,
        "last": last,
        "tail": last * SECONDS if last else end,
        "end": end,
    }
    row = database.execute(_SUM, values).fetchone()
    whole = [int(number) for number in row[: len(COUNTS) + len(LOADS)]]
    return whole[: len(COUNTS)], whole[len(COUNTS) :], list(row[len(whole) :])
