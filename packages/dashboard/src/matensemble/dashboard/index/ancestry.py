"""What of a chore's upstream explains where it stands: what it waits for, the way to a root.

Owns the SQL, and that each question costs what the answer shows, but for one count over the edges
of the chore. Called by `routes.explanation` with a connection of `schema.open_for_reading`.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, NamedTuple

from matensemble.dashboard.index.events import EventKind
from matensemble.model import ChoreState, Reason
from matensemble.standing import Standing

MAX_WAITS_FOR = 50
MAX_HEADERS = 100
"""Failed chores upstream of which is asked whether their failure is ignored."""
MAX_CHAIN = 20
_MAX_STEPS = 10_000

_FACTS = (
    "number, id, name, state, attempt, reason, exit_code, detail, root, host, further, "
    "part, offset, length"
)
_ENDED_BADLY = "('failed', 'skipped')"
_OVER = "('completed', 'failed', 'skipped')"
_UPSTREAM = "FROM edges JOIN chores ON number = upstream WHERE downstream = ?"


class Gathered(NamedTuple):
    """A group whose results a chore collects."""

    name: str
    total: int
    ended: int


class Chain(NamedTuple):
    """Chores from one up to what explains it."""

    rows: list[sqlite3.Row]
    """Of a long one the first and the last."""
    num_left_out: int
    """Between them."""


def read_facts(database: sqlite3.Connection, chore_id: str) -> sqlite3.Row | None:
    """Return what explains a chore by itself, or None where there is none of that id."""
    row: sqlite3.Row | None = database.execute(
        f"SELECT {_FACTS} FROM chores WHERE id = ?", (chore_id,)
    ).fetchone()
    return row


def standing_of(row: sqlite3.Row) -> Standing:
    """Return where a chore stands, from a row of `read_facts`."""
    standing = Standing(
        ChoreState(row["state"]),
        row["attempt"],
        row["reason"] and Reason(row["reason"]),
        row["exit_code"],
        row["detail"],
        row["root"],
        host=row["host"],
    )
    if row["further"] is None:
        return standing
    further: dict[str, Any] = json.loads(row["further"])
    return standing._replace(**further | {"avoid": tuple(further["avoid"])})


def count_upstream(database: sqlite3.Connection, number: int) -> int:
    """Return on how many chores one depends, groups that it gathers not counted."""
    select = "SELECT count(*) FROM edges WHERE downstream = ?"
    return int(database.execute(select, (number,)).fetchone()[0])


def read_waits(database: sqlite3.Connection, number: int) -> tuple[list[sqlite3.Row], int]:
    """Return the first chores upstream that have not ended, or were cancelled, and their number."""
    rest = f"{_UPSTREAM} AND state NOT IN {_OVER}"
    first = database.execute(
        f"SELECT {_FACTS} {rest} ORDER BY upstream LIMIT ?", (number, MAX_WAITS_FOR)
    ).fetchall()
    total = len(first)
    if total == MAX_WAITS_FOR:
        total = database.execute(f"SELECT count(*) {rest}", (number,)).fetchone()[0]
    return first, total


def read_ended_badly(database: sqlite3.Connection, number: int) -> list[sqlite3.Row]:
    """Return the first chores upstream that failed or were skipped."""
    return database.execute(
        f"SELECT {_FACTS} {_UPSTREAM} AND state IN {_ENDED_BADLY} ORDER BY upstream LIMIT ?",
        (number, MAX_HEADERS),
    ).fetchall()


def read_gathered(database: sqlite3.Connection, number: int) -> list[Gathered]:
    """Return the groups whose results a chore collects."""
    select = (
        "SELECT name, coalesce(sum(count), 0), coalesce(sum(count) FILTER (WHERE state IN "
        "('completed', 'failed', 'cancelled', 'skipped')), 0) FROM gathers LEFT JOIN counts "
        "USING (name) WHERE downstream = ? GROUP BY name ORDER BY name"
    )
    return [Gathered(*row) for row in database.execute(select, (number,))]


def way_to_root(database: sqlite3.Connection, row: sqlite3.Row) -> Chain:
    """Return a way from a chore that was skipped up to the failure it is a consequence of."""
    root = row["root"]
    step = (
        f"SELECT {_FACTS} {_UPSTREAM} AND (id = ? OR (state = 'skipped' AND root = ?)) "
        "ORDER BY id <> ?, upstream LIMIT 1"
    )
    way = [row]
    while way[-1]["id"] != root and len(way) < _MAX_STEPS:
        above = database.execute(step, (way[-1]["number"], root, root, root)).fetchone()
        if above is None or above["number"] >= way[-1]["number"]:
            break
        way.append(above)
    if way[-1]["id"] != root:  # by a group that it gathers, or too far
        found = read_facts(database, root)
        way += [found] if found is not None else []
    return _cut(way)


def way_up(database: sqlite3.Connection, row: sqlite3.Row) -> Chain:
    """Return a way from a chore that waits up to the first that waits for no other."""
    step = f"SELECT {_FACTS} {_UPSTREAM} AND state NOT IN {_OVER} ORDER BY upstream LIMIT 1"
    way = [row]
    while way[-1]["state"] == ChoreState.BLOCKED and len(way) < _MAX_STEPS:
        above = database.execute(step, (way[-1]["number"],)).fetchone()
        if above is None:
            break
        way.append(above)
    return _cut(way)


def _cut(way: list[sqlite3.Row]) -> Chain:
    if len(way) <= MAX_CHAIN:
        return Chain(way, 0)
    half = MAX_CHAIN // 2
    return Chain(way[:half] + way[-half:], len(way) - 2 * half)


def read_pause(database: sqlite3.Connection) -> str:
    """Return who asked for the pause that holds the run; empty where it is not paused."""
    kinds = (EventKind.PAUSED, EventKind.UNPAUSED, EventKind.OPENED, EventKind.TAKEN_OVER)
    last = database.execute(
        f"SELECT kind, text FROM events WHERE kind IN ({', '.join('?' * len(kinds))}) "
        "ORDER BY number DESC LIMIT 1",
        [kind.value for kind in kinds],
    ).fetchone()
    return last["text"] if last is not None and last["kind"] == EventKind.PAUSED else ""
