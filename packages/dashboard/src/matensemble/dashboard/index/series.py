"""What happened and what was busy over time, from the moments of a run.

Owns the integrals. A moment holds what happened in one second of wall time, and by how much busy
time differs because not all of it happened when that second began: chores of a few milliseconds
fill a second too. So sums over bins, which have whole seconds as edges, are exact, and do not
depend on how the time is cut. Called by the routes.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from itertools import pairwise
from typing import NamedTuple

from matensemble.dashboard.index.bins import Bins, Window, outside
from matensemble.dashboard.index.minutes import COUNTS, LOADS, sum_moments

CAPACITIES = ("nodes", "cores", "gpus")
MAX_CAPACITIES = 100_000
"""Changes of what there is to run on; later ones of a run with more are left out."""


class Load(NamedTuple):
    """What was busy, times seconds, between one edge and the next."""

    running: float
    cores: float
    gpus: float


class Room(NamedTuple):
    """What was there to run on, times seconds, between one edge and the next."""

    nodes: float
    cores: float
    gpus: float


def count_moments(database: sqlite3.Connection, bins: Bins) -> dict[str, list[int]]:
    """Return how often each of `COUNTS` happened in each bin."""
    rows = [sum_moments(database, *between)[0] for between in pairwise(bins.edges())]
    return dict(zip(COUNTS, map(list, zip(*rows, strict=True)), strict=True))


def integrate_load(
    database: sqlite3.Connection, edges: list[int], gaps: list[Window], until: int
) -> list[Load]:
    """Return what was busy between edges.

    Parameters
    ----------
    database
        The index.
    edges
        Instants in order, at least two.
    gaps
        When nothing counts (`bins.gaps_of`).
    until
        Until when what goes on counts: the end of the run so far.
    """
    level = sum_moments(database, 0, edges[0])[1]
    cuts = sorted({*edges, until, *(at for gap in gaps for at in gap)})
    cuts = cuts[bisect_right(cuts, edges[0]) - 1 : bisect_right(cuts, edges[-1])]
    found = [[0.0] * len(LOADS) for _ in edges[1:]]
    place = 0
    for start, end in pairwise(cuts):
        if start >= edges[place + 1]:
            place += 1
        _, changes, busy = sum_moments(database, start, end)
        is_counted = start < until and not any(gap.start <= start < gap.end for gap in gaps)
        for i in range(len(LOADS)):
            if is_counted:
                # A clock that was set back may have ends stand before their starts.
                found[place][i] += max(level[i] * (end - start) + busy[i], 0)
            level[i] += changes[i]
    return [Load(*sums) for sums in found]


def integrate_room(
    database: sqlite3.Connection, edges: list[int], gaps: list[Window], until: int
) -> list[Room]:
    """Return what there was to run on between edges; parameters as `integrate_load`."""
    rows = database.execute(
        "SELECT at, nodes, cores, gpus FROM capacities ORDER BY rowid LIMIT ?", (MAX_CAPACITIES,)
    ).fetchall()
    found = [[0.0] * len(CAPACITIES) for _ in edges[1:]]
    for number, (at, *amounts) in enumerate(rows):
        # Where a clock was set back, what was told later counts from when it was told of before.
        end = rows[number + 1][0] if number + 1 < len(rows) else until
        for start, stop in outside(gaps, max(at, edges[0]), min(end, until, edges[-1])):
            place = bisect_right(edges, start) - 1
            while place < len(found) and edges[place] < stop:
                seconds = min(stop, edges[place + 1]) - max(start, edges[place])
                for i, amount in enumerate(amounts):
                    found[place][i] += amount * seconds
                place += 1
    return [Room(*sums) for sums in found]
