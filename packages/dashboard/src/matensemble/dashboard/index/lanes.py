"""What each host and each group did in each minute: to draw and sum up a million chores at once.

Owns the table `lanes`. A row holds what changed on a lane in that minute, and how much time was
busy because of it up to the end of the minute, to the fraction of a second; sums over rows
therefore give how much was busy in any stretch of whole minutes, as exact as the journal's clock.
Called by `fold` with what each record changed.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict

from matensemble.dashboard.index.minutes import SECONDS
from matensemble.records import JournalRecord, RecordKind

_COLUMNS = (
    "running", "cores", "gpus", "run_seconds", "core_seconds", "gpu_seconds", "completed", "failed",
)  # fmt: skip
_COMPLETED, _FAILED = 6, 7
_ADD = (
    f"INSERT INTO lanes (axis, lane, minute, {', '.join(_COLUMNS)}) "
    f"VALUES (?, ?, ?{', ?' * len(_COLUMNS)}) ON CONFLICT DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in _COLUMNS)
)


class Lanes:
    """What happened on some lanes, to be added to the table."""

    def __init__(self) -> None:
        # By host, group and minute; each is a row for the one lane and for the other.
        self._minutes: defaultdict[tuple[str, str, int], list[float]] = defaultdict(_nothing)

    def occupy(
        self, host: str, group: str, wall: float, running: int, cores: int, gpus: int
    ) -> None:
        """Note that so many attempts more run, on so many more cores and GPUs; or fewer."""
        minute = int(wall // SECONDS)
        rest = (minute + 1) * SECONDS - wall
        row = self._minutes[host, group, minute]
        row[0] += running
        row[1] += cores
        row[2] += gpus
        row[3] += running * rest
        row[4] += cores * rest
        row[5] += gpus * rest

    def count(self, host: str, group: str, record: JournalRecord) -> None:
        """Count the end of an attempt that ran, if the record is one and tells how it was."""
        if record.kind == RecordKind.COMPLETED:
            place = _COMPLETED
        elif record.kind == RecordKind.FAILED or (
            record.kind == RecordKind.REQUEUED and record.fields.get("r") is not None
        ):
            place = _FAILED
        else:
            return
        self._minutes[host, group, int(record.wall // SECONDS)][place] += 1

    def write(self, database: sqlite3.Connection) -> None:
        """Add it to the table, and forget it."""
        lanes: defaultdict[tuple[str, str, int], list[float]] = defaultdict(_nothing)
        for (host, group, minute), changes in self._minutes.items():
            for key in (("host", host, minute), ("group", group, minute)):
                row = lanes[key]
                for place, change in enumerate(changes):
                    row[place] += change
        database.executemany(_ADD, [(*key, *row) for key, row in lanes.items()])
        self._minutes.clear()


def _nothing() -> list[float]:
    return [0] * len(_COLUMNS)
