"""Counts of chores by cell: rectangles of the whole graph, kept so coarse that they stay few.

Owns the table `cells` and how large a cell is. Cells are as small as one place at first; where they
become too many, pairs of them become one. So a picture of a million chores is made from some ten
thousand rows, however deep or wide the graph is. Called by `fold` within a transaction, read by
`window`.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from typing import NamedTuple

from matensemble.model import ChoreState

MAX_CELLS = 16_384
"""By place; each is a row for every state that was met in it."""


class Extent(NamedTuple):
    """How large the whole graph is, and its cells."""

    num_levels: int = 0
    num_ranks: int = 0
    """Chores in the widest level."""
    level_shift: int = 0
    """A cell has two to the power of this levels; ranks accordingly."""
    rank_shift: int = 0


def read_extent(database: sqlite3.Connection) -> Extent:
    """Return the extent of the graph; nothing before the first chore."""
    found = database.execute(f"SELECT {', '.join(Extent._fields)} FROM extent").fetchone()
    return Extent() if found is None else Extent(*found)


class Cells:
    """The counts, changed in memory and written in batches.

    Parameters
    ----------
    database
        Within a transaction whenever a method is called.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._known: Extent | None = None  # with the cells that `_changes` are by
        self._extent = Extent()
        self._changes: defaultdict[tuple[int, int, str], int] = defaultdict(int)

    def add(self, level: int, rank: int) -> None:
        """Take a new chore, which is blocked."""
        extent = self._look()
        if level >= extent.num_levels or rank >= extent.num_ranks:
            self._extent = extent._replace(
                num_levels=max(extent.num_levels, level + 1),
                num_ranks=max(extent.num_ranks, rank + 1),
            )
        cell = level >> extent.level_shift, rank >> extent.rank_shift
        self._changes[*cell, ChoreState.BLOCKED.value] += 1

    def move(self, level: int, rank: int, before: str, after: str) -> None:
        """Take a change of state."""
        extent = self._look()
        level, rank = level >> extent.level_shift, rank >> extent.rank_shift
        self._changes[level, rank, before] -= 1
        self._changes[level, rank, after] += 1

    def write(self) -> None:
        """Write what has changed since."""
        if not self._changes:
            return
        extent, known = self._extent, self._known
        self._known = None  # somebody else may change it before the next batch
        self._database.executemany(
            "INSERT INTO cells VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET count = count + excluded.count",
            [(*cell, count) for cell, count in self._changes.items() if count],
        )
        self._changes.clear()
        while self._num_cells() > MAX_CELLS:
            extent = self._coarsen(extent)
        if extent != known:
            self._database.execute("DELETE FROM extent")
            self._database.execute("INSERT INTO extent VALUES (?, ?, ?, ?)", extent)

    def _look(self) -> Extent:
        if self._known is None:
            self._known = self._extent = read_extent(self._database)
        return self._extent

    def _num_cells(self) -> int:
        count = "SELECT count(*) FROM (SELECT DISTINCT level, rank FROM cells)"
        number: int = self._database.execute(count).fetchone()[0]
        return number

    def _coarsen(self, extent: Extent) -> Extent:
        """Make one cell of two, along the direction in which there are more of them."""
        has_more_levels = (
            extent.num_levels >> extent.level_shift >= extent.num_ranks >> extent.rank_shift
        )
        level, rank = ("level >> 1", "rank") if has_more_levels else ("level", "rank >> 1")
        summed = self._database.execute(
            f"SELECT {level}, {rank}, state, sum(count) FROM cells GROUP BY 1, 2, 3"
        ).fetchall()
        self._database.execute("DELETE FROM cells")
        self._database.executemany("INSERT INTO cells VALUES (?, ?, ?, ?)", summed)
        if has_more_levels:
            return extent._replace(level_shift=extent.level_shift + 1)
        return extent._replace(rank_shift=extent.rank_shift + 1)
