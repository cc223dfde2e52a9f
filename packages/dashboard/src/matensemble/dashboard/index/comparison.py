"""Which chores of two runs stand elsewhere, by their ids.

Owns the SQL over both indexes at once, and that it stays bounded with a million chores in each: it
stops after `MAX_SECONDS`. Called by `routes.compare`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from matensemble.dashboard.index.schema import open_for_reading

MAX_DIFFERENCES = 200
MAX_SECONDS = 10.0
_STEPS_A_LOOK = 20_000
"""Steps of the virtual machine between two looks at the clock."""


class Differences(NamedTuple):
    """Which chores of two runs stand elsewhere."""

    rows: list[sqlite3.Row]
    """The first, in the order of the first run."""
    num_differences: int
    num_only_a: int
    num_only_b: int
    is_complete: bool
    """Whether there was time for all."""


def compare_chores(a: Path, b: Path, *, clock: Callable[[], float] = time.monotonic) -> Differences:
    """Return which chores of two runs stand elsewhere, by their ids.

    Parameters
    ----------
    a, b
        The files of their indexes.
    clock
        Monotonic seconds.

    Raises
    ------
    sqlite3.Error
        If one of them cannot be read.
    """
    database = open_for_reading(a)
    try:
        database.execute("ATTACH ? AS other", (str(b),))
        database.execute("BEGIN")
        with _limited(database, clock() + MAX_SECONDS, clock) as limit:
            return _compare(database, limit)
    finally:
        database.close()


class _Limit:
    """Whether the time was over."""

    is_over = False


@contextmanager
def _limited(
    database: sqlite3.Connection, deadline: float, clock: Callable[[], float]
) -> Iterator[_Limit]:
    limit = _Limit()

    def look() -> bool:
        limit.is_over = clock() >= deadline
        return limit.is_over

    database.set_progress_handler(look, _STEPS_A_LOOK)
    yield limit


_DIFFERENT = """
SELECT a.id, a.name, a.state AS state_a, b.state AS state_b, a.reason AS reason_a,
    b.reason AS reason_b, nullif(a.seconds, -1) AS seconds_a, nullif(b.seconds, -1) AS seconds_b
FROM main.chores AS a CROSS JOIN other.chores AS b ON b.id = a.id WHERE a.state <> b.state
ORDER BY a.number
"""
_IN_BOTH = "SELECT count(*) FROM main.chores AS a CROSS JOIN other.chores AS b ON b.id = a.id"


def _compare(database: sqlite3.Connection, limit: _Limit) -> Differences:
    first: list[sqlite3.Row] = []
    number = in_both = 0
    sizes = [0, 0]
    try:
        for number, row in enumerate(database.execute(_DIFFERENT), 1):
            if number <= MAX_DIFFERENCES:
                first.append(row)
        in_both = database.execute(_IN_BOTH).fetchone()[0]
        sizes = [
            database.execute(f"SELECT sum(count) FROM {side}.counts").fetchone()[0] or 0
            for side in ("main", "other")
        ]
    except sqlite3.OperationalError:
        if not limit.is_over:
            raise
        return Differences(first, number, 0, 0, is_complete=False)
    return Differences(first, number, sizes[0] - in_both, sizes[1] - in_both, is_complete=True)
