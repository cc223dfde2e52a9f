"""What a header puts into the tables of an index: a chore, its edges, its place in the graph.

Owns the numbers of chores, edges, gathers, levels and ranks. Chores come after those that they
depend on, in `workflow.jsonl` as in a journal, so each gets its level when it is admitted and no
later one changes it. A chore that gathers a group stands above those of the group that were there
by then. Called by `fold` within a transaction; memory does not grow with the run.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from matensemble.dashboard.index.bounds import MAX_NAME, Request, clean, request_of
from matensemble.dashboard.index.cells import Cells
from matensemble.errors import FormatError
from matensemble.model import ChoreState

MAX_KNOWN = 50_000
"""Chores, levels and groups that are remembered; the others are looked up."""
MAX_EDGES = 20_000
"""Edges that are written in one piece: a single chore may have a million."""
MAX_EXPECTED = 20_000
"""Chores that are looked up at once; of more each when it is needed."""
_SELECT = (
    "SELECT id, number, name, level FROM (SELECT value FROM json_each(?)) "
    "CROSS JOIN chores ON id = value"
)
_INSERT = (
    "INSERT INTO chores (number, id, name, kind, part, offset, length, cores, gpus, level, rank) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class Place(NamedTuple):
    """A chore in the graph."""

    number: int
    name: str
    """Its group."""
    level: int


class _Header(NamedTuple):
    """What of a header goes into the tables."""

    id: str
    name: str
    kind: str
    request: Request
    upstream: Iterable[str]
    gathers: Iterable[str]


class Admission:
    """Chores that join the index; `write` brings what was counted into the tables.

    Parameters
    ----------
    database
        Within a transaction whenever a method is called.
    cells
        Told of each chore; written by whoever made it.
    """

    def __init__(self, database: sqlite3.Connection, cells: Cells) -> None:
        self._database = database
        self._cells = cells
        self._number: int | None = None
        self._places: dict[str, Place] = {}
        self._sizes: dict[int, int] = {}  # level → its chores
        self._heights: dict[str, int] = {}  # group → highest level of its chores
        self._grown: set[int] = set()
        self._edges: list[tuple[int, int]] = []
        self._counts: Counter[str] = Counter()
        self._group_edges: Counter[tuple[str, str]] = Counter()

    def expect(self, headers: Iterable[Any]) -> None:
        """Look up at once what the next headers depend on, as far as it is there.

        Parameters
        ----------
        headers
            As they were read: any values.
        """
        upstream: set[str] = set()
        for header in headers:
            if isinstance(header, dict):
                for deps in (header.get("deps"), header.get("after")):
                    if isinstance(deps, list) and len(deps) <= MAX_EXPECTED:
                        upstream.update(dep for dep in deps if type(dep) is str)
        unknown = upstream - self._places.keys()
        if 0 < len(unknown) <= MAX_EXPECTED:
            for chore_id, *place in self._database.execute(_SELECT, (json.dumps(list(unknown)),)):
                self._remember(chore_id, Place(*place))

    def admit(self, part: int, offset: int, length: int, header: Mapping[str, Any]) -> None:
        """Add the next chore.

        Parameters
        ----------
        part, offset, length
            Which file holds its header, and where the line stands.
        header
            The header.

        Raises
        ------
        FormatError
            If it is no header, of a chore that is known already, or depends on one that is not.
        """
        number = self._next_number()
        try:
            told = _read(header)
            upstream = [self._place(chore_id) for chore_id in told.upstream]
            level = max([place.level for place in upstream]) + 1 if upstream else 0
            for name in told.gathers:
                level = max(level, self._height(name) + 1, 1)  # of a group to come: above it
            rank = self._size(level)
            self._database.execute(
                _INSERT,
                (number, *told[:3], part, offset, length, *told.request, level, rank),
            )
        except (KeyError, TypeError, ValueError, AttributeError, sqlite3.IntegrityError) as error:
            problem = f"chore number {number} has no header that makes sense ({error!r})"
            raise FormatError("workflow.jsonl", problem) from error
        self._number = number
        self._sizes[level] = rank + 1
        self._grown.add(level)
        self._cells.add(level, rank)
        if level > self._height(told.name):
            self._heights[told.name] = level
        self._counts[told.name] += 1
        self._remember(told.id, Place(number, told.name, level))
        if upstream or told.gathers:
            self._connect(number, told, upstream)

    def write(self) -> None:
        """Write what has changed."""
        if not self._grown:
            return
        write = self._database.executemany
        self._write_edges()
        write(
            "INSERT OR REPLACE INTO levels VALUES (?, ?)",
            [(level, self._sizes[level]) for level in self._grown],
        )
        write(
            "INSERT INTO heights VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET level = excluded.level, size = size + excluded.size",
            [(name, self._heights[name], count) for name, count in self._counts.items()],
        )
        write(
            "INSERT INTO group_edges VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET count = count + excluded.count",
            [(*key, count) for key, count in self._group_edges.items()],
        )
        write(
            "INSERT INTO counts VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET count = count + excluded.count",
            [(name, ChoreState.BLOCKED.value, count) for name, count in self._counts.items()],
        )
        self._grown.clear()
        self._counts.clear()
        self._group_edges.clear()
        if len(self._sizes) > MAX_KNOWN:
            self._sizes.clear()
        if len(self._heights) > MAX_KNOWN:
            self._heights.clear()

    def _connect(self, number: int, told: _Header, upstream: Iterable[Place]) -> None:
        for place in upstream:
            self._edges.append((number, place.number))
            self._group_edges[place.name, told.name] += 1
        if len(self._edges) >= MAX_EDGES:
            self._write_edges()
        for name in told.gathers:
            self._database.execute("INSERT INTO gathers VALUES (?, ?)", (number, name))
            self._group_edges[name, told.name] += 1

    def _write_edges(self) -> None:
        self._database.executemany("INSERT INTO edges VALUES (?, ?)", self._edges)
        self._edges.clear()

    def _next_number(self) -> int:
        if self._number is None:
            found = self._database.execute("SELECT max(number) FROM chores").fetchone()[0]
            self._number = int(found or 0)
        return self._number + 1

    def _place(self, chore_id: str) -> Place:
        place = self._places.get(chore_id)
        if place is None:
            select = "SELECT number, name, level FROM chores WHERE id = ?"
            found = self._database.execute(select, (chore_id,)).fetchone()
            if found is None:
                raise ValueError(f"{clean(chore_id, MAX_NAME)!r} is no chore before it")
            place = Place(*found)
            self._remember(chore_id, place)
        return place

    def _remember(self, chore_id: str, place: Place) -> None:
        if len(self._places) >= MAX_KNOWN:
            self._places.clear()
        self._places[chore_id] = place

    def _size(self, level: int) -> int:
        size = self._sizes.get(level)
        if size is None:
            select = "SELECT count FROM levels WHERE level = ?"
            found = self._database.execute(select, (level,)).fetchone()
            size = self._sizes[level] = found[0] if found else 0
        return size

    def _height(self, name: str) -> int:
        """Return the highest level of a group, −1 where it has no chores."""
        height = self._heights.get(name)
        if height is None:
            select = "SELECT level FROM heights WHERE name = ?"
            found = self._database.execute(select, (name,)).fetchone()
            height = found[0] if found else -1
            if found:
                self._heights[name] = height
        return height


def _read(header: Mapping[str, Any]) -> _Header:
    """Return what counts of a header; raises KeyError, TypeError, ValueError, AttributeError."""
    chore_id, name, kind = header["id"], header["name"], header["kind"]
    if clean(chore_id, MAX_NAME) != chore_id or clean(name, MAX_NAME) != name:
        raise ValueError("its id or name is none")
    upstream: dict[str, None] = {}
    gathers: dict[str, None] = {}
    for dep in header.get("deps", ()):
        if isinstance(dep, str):
            upstream[dep] = None
        else:
            gathered = dep["gather"]
            if clean(gathered, MAX_NAME) != gathered:
                raise ValueError("it gathers what is no group")
            gathers[gathered] = None
    for dep in header.get("after", ()):
        if not isinstance(dep, str):
            raise TypeError("it waits for what is no chore")
        upstream[dep] = None
    request = request_of(header.get("resources"))
    return _Header(chore_id, name, str(kind)[:20], request, upstream, gathers)
