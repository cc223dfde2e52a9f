"""How many chores began and ended in each second of wall time, and how much they keep busy.

Owns the table `moments`, and tells `minutes`. Called by `fold` with what each record changed.
"""

from __future__ import annotations

import sqlite3

from matensemble.dashboard.index.minutes import COUNTS, LOADS, RESTS, add_minutes
from matensemble.records import RecordKind

_COLUMNS = (*COUNTS, *LOADS, *RESTS)
_PLACES = {
    RecordKind.SUBMIT_INTENT.value: 0,
    RecordKind.STARTED.value: 1,
    RecordKind.COMPLETED.value: 2,
    RecordKind.REUSED.value: 2,
    RecordKind.FAILED.value: 3,
    RecordKind.CANCELLED.value: 4,
    RecordKind.SKIPPED.value: 5,
    RecordKind.REQUEUED.value: 6,
}
_BUSY = len(COUNTS)
_REST = len(COUNTS) + len(LOADS)
_ADD = (
    f"INSERT INTO moments (second, {', '.join(_COLUMNS)}) "
    f"VALUES (?{', ?' * len(_COLUMNS)}) ON CONFLICT DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in _COLUMNS)
)


class Moments:
    """What happened in some seconds, to be added to the table."""

    def __init__(self) -> None:
        self._seconds: dict[int, list[float]] = {}
        self._last = -1
        self._moment: list[float] = []  # of the last second: most records are about one again

    def count(self, kind: str, wall: float) -> None:
        """Count a record about a chore."""
        place = _PLACES.get(kind)
        if place is not None:
            self._at(wall)[place] += 1

    def occupy(self, wall: float, running: int, cores: int, gpus: int) -> None:
        """Note that so many attempts more run, on so many more cores and GPUs; or fewer."""
        moment = self._at(wall)
        passed = wall % 1.0  # of the second, before any of it
        moment[_BUSY] += running
        moment[_REST] -= passed * running
        moment[_BUSY + 1] += cores
        moment[_REST + 1] -= passed * cores
        if gpus:
            moment[_BUSY + 2] += gpus
            moment[_REST + 2] -= passed * gpus

    def write(self, database: sqlite3.Connection) -> None:
        """Add it to the table, and forget it."""
        added = [(second, *moment) for second, moment in self._seconds.items()]
        database.executemany(_ADD, added)
        add_minutes(database, self._seconds.items())
        self._seconds.clear()
        self._last = -1

    def _at(self, wall: float) -> list[float]:
        second = int(wall)
        if second != self._last:
            self._last = second
            self._moment = self._seconds.setdefault(second, [0] * len(_COLUMNS))
        return self._moment
