"""For what blocked chores wait: which groups have any, and what is in their way.

Owns the SQL of that, and that it is bounded: it goes by counts of groups, and looks at the first
few blocked chores of a group only. Called by the routes with a connection of
`schema.open_for_reading`.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

MAX_GROUPS = 100
MAX_UPSTREAM = 20
MAX_LOOKED_AT = 20
"""Blocked chores of a group that are asked whether they wait for others: the first admitted."""
MAX_EDGES = 500
"""Connections of a chore, or a group, that are looked at; with more, it is said to wait for one."""
_LEFT = "state IN ('blocked', 'ready', 'submitted', 'running')"


class UpstreamGroup(NamedTuple):
    """A group that others depend on and that is not complete."""

    name: str
    num_left: int
    """Chores that have not ended."""
    num_running: int


class BlockedGroup(NamedTuple):
    """A group with blocked chores."""

    name: str
    num_blocked: int
    upstream: list[UpstreamGroup]
    """Those with most left first; of many the first."""
    num_upstream_left_out: int
    has_ready: bool
    """Whether one of the first blocked chores waits for no other chore."""


class Blocked(NamedTuple):
    """All that is blocked."""

    groups: list[BlockedGroup]
    """Those with most blocked chores first."""
    num_groups: int
    num_chores: int


def read_blocked(database: sqlite3.Connection) -> Blocked:
    """Return what is blocked, by group, with the groups that are in the way.

    A chore of these may wait for others of its own group as well.
    """
    count = "SELECT count(*), total(count) FROM counts WHERE state = 'blocked' AND count > 0"
    num_groups, num_chores = database.execute(count).fetchone()
    select = (
        "SELECT name, count FROM counts WHERE state = 'blocked' AND count > 0 "
        "ORDER BY count DESC LIMIT ?"
    )
    groups = []
    for name, num_blocked in database.execute(select, (MAX_GROUPS,)):
        upstream, num_upstream = _read_upstream(database, name)
        groups.append(
            BlockedGroup(
                name,
                num_blocked,
                upstream,
                num_upstream - len(upstream),
                not num_upstream or _has_ready(database, name),
            )
        )
    return Blocked(groups, num_groups, int(num_chores))


def _read_upstream(database: sqlite3.Connection, name: str) -> tuple[list[UpstreamGroup], int]:
    """Return the incomplete groups upstream of a group, and how many there are.

    Of very many not all are looked at; those that are not count as incomplete.
    """
    asked = {"name": name, "limit": MAX_EDGES}
    found = database.execute(
        "SELECT counts.name, sum(counts.count) AS num_left, "
        "sum(counts.count * (state = 'running')) FROM (SELECT upstream FROM group_edges "
        "WHERE downstream = :name LIMIT :limit) CROSS JOIN counts ON counts.name = upstream "
        f"WHERE {_LEFT} GROUP BY counts.name HAVING num_left > 0 "
        "ORDER BY num_left DESC, counts.name",
        asked,
    ).fetchall()
    count = "SELECT max(count(*) - :limit, 0) FROM group_edges WHERE downstream = :name"
    num_others = database.execute(count, asked).fetchone()[0]
    return [UpstreamGroup(*row) for row in found[:MAX_UPSTREAM]], len(found) + num_others


def _has_ready(database: sqlite3.Connection, name: str) -> bool:
    """Whether one of the first blocked chores of a group waits for no other chore."""
    select = (
        "SELECT number FROM chores INDEXED BY by_name_state "
        "WHERE name = ? AND state = 'blocked' ORDER BY number LIMIT ?"
    )
    # One more than is looked at counts as in the way.
    waits = (
        "SELECT EXISTS (SELECT 1 FROM (SELECT upstream, row_number() OVER () AS place FROM "
        "(SELECT upstream FROM edges WHERE downstream = :number LIMIT :limit + 1)) "
        "CROSS JOIN chores ON number = upstream WHERE state != 'completed' OR place > :limit) "
        "OR EXISTS (SELECT 1 FROM (SELECT name FROM gathers WHERE downstream = :number "
        "LIMIT :limit) AS gathered CROSS JOIN counts USING (name) "
        f"WHERE count > 0 AND {_LEFT})"
    )
    for row in database.execute(select, (name, MAX_LOOKED_AT)):
        asked = {"number": row[0], "limit": MAX_EDGES}
        if not database.execute(waits, asked).fetchone()[0]:
            return True
    return False
