"""What each host and each group used.

Owns the sums; they are read from the minutes of `lanes`, so that a million chores are not looked at
one by one. Called by the routes.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from matensemble.dashboard.index.bins import Window
from matensemble.dashboard.index.minutes import SECONDS as MINUTE
from matensemble.dashboard.index.timeline import Axis

MAX_LANES = 500
"""Hosts, and groups, that are told; those that did most."""


class LaneUse(NamedTuple):
    """What was used on one host, or by one group."""

    name: str
    running: int
    cores_busy: int
    gpus_busy: int
    completed: int
    failed: int
    core_seconds: float
    gpu_seconds: float


def read_use(
    database: sqlite3.Connection, axis: Axis, gaps: list[Window], until: int
) -> list[LaneUse]:
    """Return what was used on the lanes that did most.

    Parameters
    ----------
    database
        The index.
    axis
        Whether lanes are hosts or groups.
    gaps
        When nothing counts (`bins.gaps_of`).
    until
        Until when what runs counts: the end of the run so far.
    """
    # What changed in a minute stays so from its end on, besides the gaps behind it.
    behind = [f"?1 - (minute + 1) * {MINUTE}"]
    behind += [f"(minute * {MINUTE} <= {gap.start}) * {gap.seconds}" for gap in gaps]
    rest = " - ".join(behind)
    found = database.execute(
        "SELECT lane, total(running), total(cores), total(gpus), total(completed), total(failed), "
        f"total(core_seconds + cores * ({rest})) AS core_seconds, "
        f"total(gpu_seconds + gpus * ({rest})) FROM lanes WHERE axis = ?2 GROUP BY lane "
        "ORDER BY core_seconds DESC, lane LIMIT ?3",
        (until, axis.value, MAX_LANES),
    )
    return [
        # Where a clock was set back, ends may stand before starts.
        LaneUse(
            name, int(running), int(cores), int(gpus), int(completed), int(failed),
            max(core_seconds, 0.0), max(gpu_seconds, 0.0),
        )
        for name, running, cores, gpus, completed, failed, core_seconds, gpu_seconds in found
    ]  # fmt: skip


def count_lanes(database: sqlite3.Connection, axis: Axis) -> int:
    """Return how many hosts, or groups, have run something."""
    found = database.execute("SELECT count(DISTINCT lane) FROM lanes WHERE axis = ?", (axis.value,))
    return int(found.fetchone()[0])
