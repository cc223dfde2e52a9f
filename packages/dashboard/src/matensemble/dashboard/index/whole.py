"""Windows of the whole graph: chores by their places, or counts of cells where they are many.

Owns how large the cells of an answer are. Called by the routes with a connection of
`schema.open_for_reading`; what is counted by cell is kept by `cells`.
"""

from __future__ import annotations

import sqlite3
from itertools import islice
from typing import NamedTuple

from matensemble.dashboard.index.cells import Extent, read_extent
from matensemble.dashboard.index.edges import read_edges_within
from matensemble.model import ChoreState

MAX_POINTS = 20_000
MAX_LINES = 20_000
MAX_CELLS = 10_000
MAX_PLACE = 2**31 - 1
_CODES = {state.value: code for code, state in enumerate(ChoreState)}


class Points(NamedTuple):
    """Chores of a window and the connections between them, as columns."""

    level: list[int]
    rank: list[int]
    state: list[int]
    upstream: list[int]
    """Ends of the connections, by their places in the columns above."""
    downstream: list[int]
    num_lines_left_out: int
    num_gathers: int
    """Whole groups that the chores gather, each as often as it is gathered; none has lines."""


class CellCounts(NamedTuple):
    """Counts of a window, as columns."""

    num_levels: int
    """Size of a cell."""
    num_ranks: int
    level: list[int]
    rank: list[int]
    counts: dict[ChoreState, list[int]]


class Window(NamedTuple):
    """A window of the whole graph: one of points and cells is there."""

    num_levels: int
    """Extent of the whole graph."""
    num_ranks: int
    level_from: int
    level_to: int
    rank_from: int
    rank_to: int
    num_chores: int = 0
    points: Points | None = None
    cells: CellCounts | None = None


def read_window(
    database: sqlite3.Connection,
    *,
    level_from: int,
    level_to: int,
    rank_from: int,
    rank_to: int,
    limit: int,
) -> Window:
    """Return what stands in a window.

    Parameters
    ----------
    database
        The index.
    level_from, level_to, rank_from, rank_to
        The window, without its upper ends; cut to the extent of the graph.
    limit
        Chores at most, from 1; where there are more, cells at most, of which `MAX_CELLS` is enough.
    """
    extent = read_extent(database)
    level_to, rank_to = min(level_to, extent.num_levels), min(rank_to, extent.num_ranks)
    level_from, rank_from = min(level_from, level_to), min(rank_from, rank_to)
    window = Window(extent.num_levels, extent.num_ranks, level_from, level_to, rank_from, rank_to)
    # Each level has a chore: in so many, counting what is at the top would be enough to refuse.
    if level_to - level_from <= MAX_POINTS:
        num_chores = _count(database, window)
        if num_chores <= limit:
            points = _read_points(database, window)
            return window._replace(num_chores=num_chores, points=points)
    return _with_cells(database, window, extent, min(limit, MAX_CELLS))


def _count(database: sqlite3.Connection, window: Window) -> int:
    count = (
        "SELECT total(max(min(count, :rank_to) - :rank_from, 0)) FROM levels "
        "WHERE level >= :level_from AND level < :level_to"
    )
    return int(database.execute(count, _borders(window)).fetchone()[0])


def _borders(window: Window) -> dict[str, int]:
    return {
        "level_from": window.level_from,
        "level_to": window.level_to,
        "rank_from": window.rank_from,
        "rank_to": window.rank_to,
    }


def _read_points(database: sqlite3.Connection, window: Window) -> Points:
    # By level first: one range of ranks in each, where the planner would read all of its ranks.
    select = (
        "SELECT number, level, rank, state, "
        "(SELECT count(*) FROM edges WHERE downstream = number), "
        "(SELECT count(*) FROM gathers WHERE downstream = number) "
        "FROM levels CROSS JOIN chores USING (level) WHERE levels.level >= :level_from AND "
        "levels.level < :level_to AND rank >= :rank_from AND rank < :rank_to"
    )
    found = database.execute(select, _borders(window)).fetchall()
    places = {row[0]: place for place, row in enumerate(found)}
    edges = read_edges_within(database, {row[0]: row[4] for row in found})
    listed = [(places[one], places[other]) for one, other in islice(edges, MAX_LINES)]
    return Points(
        [row[1] for row in found],
        [row[2] for row in found],
        [_CODES[row[3]] for row in found],
        [upstream for upstream, _ in listed],
        [downstream for _, downstream in listed],
        sum(row[4] for row in found) - len(listed),
        sum(row[5] for row in found),
    )


def _with_cells(database: sqlite3.Connection, window: Window, extent: Extent, limit: int) -> Window:
    """Return a window widened to whole cells, with these."""
    level_shift, rank_shift = extent.level_shift, extent.rank_shift
    while True:
        levels = range(window.level_from >> level_shift, -(-window.level_to >> level_shift))
        ranks = range(window.rank_from >> rank_shift, -(-window.rank_to >> rank_shift))
        if len(levels) * len(ranks) <= limit:
            break
        if len(levels) >= len(ranks):
            level_shift += 1
        else:
            rank_shift += 1
    level_step, rank_step = level_shift - extent.level_shift, rank_shift - extent.rank_shift
    found = database.execute(
        "SELECT level >> :levels, rank >> :ranks, state, sum(count) FROM cells "
        "WHERE level >= :level_from AND level < :level_to AND rank >= :rank_from "
        "AND rank < :rank_to GROUP BY 1, 2, 3 HAVING sum(count) > 0",
        {
            "levels": level_step,
            "ranks": rank_step,
            "level_from": levels.start << level_step,
            "level_to": levels.stop << level_step,
            "rank_from": ranks.start << rank_step,
            "rank_to": ranks.stop << rank_step,
        },
    )
    places: dict[tuple[int, int], int] = {}
    counts: dict[ChoreState, dict[int, int]] = {}
    for x, y, state, count in found:
        place = places.setdefault((x, y), len(places))
        counts.setdefault(ChoreState(state), {})[place] = count
    columns = {
        state: [by_place.get(place, 0) for place in range(len(places))]
        for state, by_place in counts.items()
    }
    return window._replace(
        level_from=levels.start << level_shift,
        level_to=levels.stop << level_shift,
        rank_from=ranks.start << rank_shift,
        rank_to=ranks.stop << rank_shift,
        num_chores=sum(map(sum, columns.values())),
        cells=CellCounts(
            1 << level_shift,
            1 << rank_shift,
            [x << level_shift for x, _ in places],
            [y << rank_shift for _, y in places],
            columns,
        ),
    )
