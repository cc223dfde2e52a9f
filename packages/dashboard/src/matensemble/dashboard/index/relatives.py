"""Pages of the chores that one depends on, and of those that depend on it.

Owns the SQL of these pages: by number, along an index of edges, so that a chore with a million of
them costs no more than one with ten. Called by the routes with a connection of
`schema.open_for_reading`.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from matensemble.dashboard.index.chores import COLUMNS

_UPSTREAM = (
    "SELECT upstream AS one FROM edges WHERE downstream = :number AND upstream > :after "
    "ORDER BY one LIMIT :limit"
)
_DOWNSTREAM = (
    "SELECT downstream AS one FROM edges WHERE upstream = :number AND downstream > :after UNION "
    "SELECT downstream FROM gathers WHERE name = :name AND downstream > :after "
    "ORDER BY one LIMIT :limit"
)
_COUNT_UPSTREAM = "SELECT count(*) FROM edges WHERE downstream = :number"
_COUNT_DOWNSTREAM = (
    "SELECT (SELECT count(*) FROM edges WHERE upstream = :number) + (SELECT count(*) FROM gathers "
    "WHERE name = :name AND NOT EXISTS (SELECT 1 FROM edges "
    "WHERE edges.downstream = gathers.downstream AND upstream = :number))"
)


class Relatives(NamedTuple):
    """Some chores."""

    rows: list[sqlite3.Row]
    total: int
    next: int | None
    """Number of the last of them where more follow."""


def read_relatives(
    database: sqlite3.Connection, chore: sqlite3.Row, *, is_up: bool, after: int, limit: int
) -> Relatives:
    """Return a page of the chores next to one, in the order of admission.

    Parameters
    ----------
    database
        The index.
    chore
        As `chores.find_chore` returned it.
    is_up
        Whether those are asked for that it depends on, and not those that depend on it. Of groups
        that it gathers the members are not among them; chores that gather its group are.
    after
        `Relatives.next` of the page before; 0 for the first.
    limit
        Chores, from 1.
    """
    asked = {"number": chore["number"], "name": chore["name"], "after": after, "limit": limit + 1}
    count = _COUNT_UPSTREAM if is_up else _COUNT_DOWNSTREAM
    total = database.execute(count, asked).fetchone()[0]
    numbers = _UPSTREAM if is_up else _DOWNSTREAM
    select = f"SELECT {COLUMNS}, number FROM ({numbers}) CROSS JOIN chores ON number = one"
    rows = database.execute(f"{select} ORDER BY one", asked).fetchall()
    if len(rows) <= limit:
        return Relatives(rows, total, None)
    return Relatives(rows[:limit], total, rows[limit - 1]["number"])


def read_gathered(
    database: sqlite3.Connection, number: int, limit: int
) -> tuple[dict[str, dict[str, int]], int]:
    """Return groups that a chore gathers with their counts by state, and how many it gathers.

    Parameters
    ----------
    database
        The index.
    number
        Of the chore.
    limit
        Groups at most.
    """
    count = "SELECT count(*) FROM gathers WHERE downstream = ?"
    total = database.execute(count, (number,)).fetchone()[0]
    select = (
        "SELECT gathers.name, state, count FROM (SELECT name FROM gathers WHERE downstream = ? "
        "ORDER BY name LIMIT ?) AS gathers LEFT JOIN counts USING (name) ORDER BY 1, 2"
    )
    groups: dict[str, dict[str, int]] = {}
    for name, state, count in database.execute(select, (number, limit)):
        states = groups.setdefault(name, {})
        if count:
            states[state] = count
    return groups, total
