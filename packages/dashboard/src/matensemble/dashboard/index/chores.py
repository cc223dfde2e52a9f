"""Questions to an index: pages of chores, counts of a filter, one chore, failures, groups.

Owns the SQL of reading, and that it stays fast with a million chores: pages go by key and never by
offset, counts of states and groups are kept, and a sorted page of many walks the index of its key.
Called by the routes with a connection of `schema.open_for_reading`.
"""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any, NamedTuple

from matensemble.dashboard.index.schema import indexed_by
from matensemble.model import ChoreState, Reason

MAX_LIMIT = 500
MAX_ATTEMPTS = 500
MAX_GROUPS = 1_000
MAX_CLUSTERS = 200
MAX_CURSOR = 200
MANY = 20_000
"""Chores from which on walking the index of the sorting key beats sorting what a filter leaves; and
of which the numbers are not kept, where their ids hold a text."""

COLUMNS = (
    "id, name, kind, state, attempt, reason, exit_code, detail, root, host, "
    "nullif(submitted_at, 0) AS submitted_at, nullif(started_at, 0) AS started_at, "
    "nullif(ended_at, 0) AS ended_at, nullif(seconds, -1) AS seconds"
)
ATTEMPT_COLUMNS = (
    "attempt, reason, exit_code, detail, host, jobid, is_pooled, "
    "nullif(submitted_at, 0) AS submitted_at, nullif(started_at, 0) AS started_at, "
    "nullif(ended_at, 0) AS ended_at, nullif(seconds, -1) AS seconds"
)


class Sort(StrEnum):
    """By what a page is sorted; chores of which it is not known come first."""

    ORDER = "order"
    """Admission to the run."""
    SECONDS = "seconds"
    ENDED_AT = "ended_at"


# With the table's name: without it they would be the columns of the answer, which no index sorts.
_KEYS = {
    Sort.ORDER: "chores.number",
    Sort.SECONDS: "chores.seconds",
    Sort.ENDED_AT: "chores.ended_at",
}
_WALKS = {Sort.SECONDS: "by_seconds", Sort.ENDED_AT: "by_ended"}

_LIKE = "id LIKE ? ESCAPE '\\'"


class CursorError(ValueError):
    """A cursor that no page of this sorting has given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoreFilter:
    """Which chores are asked for; None and False leave out a condition."""

    state: ChoreState | None = None
    name: str | None = None
    """Group."""
    reason: Reason | None = None
    host: str | None = None
    cluster: int | None = None
    """Number of a cluster of failures."""
    is_retried: bool = False
    """Only those with more than one attempt."""
    text: str | None = None
    """Part of an id, upper or lower case."""

    def where(self, numbers: list[int] | None = None) -> tuple[list[str], list[Any]]:
        """Return the conditions and their values.

        Parameters
        ----------
        numbers
            All whose id holds the text, where that is known.
        """
        conditions: list[str] = []
        values: list[Any] = []
        for column in ("state", "name", "reason", "host", "cluster"):
            value = getattr(self, column)
            if value is not None:
                conditions.append(f"{column} = ?")
                values.append(value.value if isinstance(value, StrEnum) else value)
        if self.is_retried:
            conditions.append("attempt > 1")
        if numbers is not None:
            conditions.append("number IN (SELECT value FROM json_each(?))")
            values.append(json.dumps(numbers))
        elif self.text:
            conditions.append(_LIKE)
            values.append(_pattern(self.text))
        return conditions, values

    @property
    def is_counted(self) -> bool:
        """Whether its count is kept with the index."""
        asked = (self.reason, self.host, self.cluster, self.text or None)
        return not self.is_retried and all(value is None for value in asked)


class Page(NamedTuple):
    """Some chores."""

    rows: list[sqlite3.Row]
    next: str | None
    """Cursor of the page behind; None at the end."""


class Found(NamedTuple):
    """What is known of the chores that a filter leaves before any of them is read."""

    total: int
    numbers: list[int] | None
    """Of the chores whose id holds the text; None where none is asked for, or `MANY` do."""


def find_chores(database: sqlite3.Connection, wanted: ChoreFilter) -> Found:
    """Return how many chores a filter leaves; of the ids each is looked at once."""
    if not wanted.text:
        return Found(_count(database, wanted, None), None)
    by_id = f"FROM chores WHERE {_LIKE} AND id > ? ORDER BY id"
    pattern = _pattern(wanted.text)
    ids = database.execute(f"SELECT id, number {by_id} LIMIT ?", (pattern, "", MANY)).fetchall()
    numbers = [number for _, number in ids]
    is_text_all = wanted == ChoreFilter(text=wanted.text)
    if len(ids) < MANY:
        return Found(len(ids) if is_text_all else _count(database, wanted, numbers), numbers)
    if not is_text_all:
        return Found(_count(database, wanted, None), None)
    behind = database.execute(f"SELECT count(*) {by_id}", (pattern, ids[-1]["id"])).fetchone()[0]
    return Found(len(ids) + behind, None)


def read_page(
    database: sqlite3.Connection,
    wanted: ChoreFilter,
    *,
    sort: Sort,
    is_descending: bool,
    cursor: str | None,
    limit: int,
    found: Found,
) -> Page:
    """Return one page of the chores that a filter leaves.

    Parameters
    ----------
    database
        The index.
    wanted
        The filter.
    sort, is_descending
        Their order; equal ones stand in the order of admission.
    cursor
        `Page.next` of the page before; None: from the beginning.
    limit
        Chores, from 1.
    found
        As `find_chores` returned it.

    Raises
    ------
    CursorError
        If the cursor is none of this sorting.
    """
    after = [] if cursor is None else _decode_cursor(cursor, sort, is_descending)
    total = found.total
    if not total:
        return Page([], None)
    conditions, values = wanted.where(found.numbers)
    key = _key(sort, total)
    if after:
        conditions.append(f"({key}, number) {'<' if is_descending else '>'} (?, ?)")
        values += after
    select = _select(database, sort, is_descending, conditions, total)
    rows = database.execute(f"{select} LIMIT ?", [*values, limit + 1]).fetchall()
    if len(rows) <= limit:
        return Page(rows, None)
    last = rows[limit - 1]
    text = json.dumps([sort.value, is_descending, last["sort_key"], last["number"]])
    return Page(rows[:limit], base64.urlsafe_b64encode(text.encode()).decode())


def read_all(
    database: sqlite3.Connection, wanted: ChoreFilter, *, sort: Sort, is_descending: bool
) -> Iterator[sqlite3.Row]:
    """Yield all chores that a filter leaves, sorted as by `read_page`; O(1) memory."""
    total, numbers = find_chores(database, wanted)
    conditions, values = wanted.where(numbers)
    yield from database.execute(_select(database, sort, is_descending, conditions, total), values)


def find_chore(database: sqlite3.Connection, chore_id: str) -> sqlite3.Row | None:
    """Return a chore and where its header stands, or None where there is none of that id."""
    select = f"SELECT {COLUMNS}, number, jobid, part, offset, length FROM chores WHERE id = ?"
    row: sqlite3.Row | None = database.execute(select, (chore_id,)).fetchone()
    return row


def read_attempts(database: sqlite3.Connection, number: int) -> list[sqlite3.Row]:
    """Return the attempts of a chore, the first first; of very many the newest."""
    select = (
        f"SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE chore = :number "
        f"UNION ALL SELECT {ATTEMPT_COLUMNS} FROM chores "
        "WHERE number = :number AND (submitted_at > 0 OR started_at > 0) "
        "ORDER BY attempt DESC LIMIT :limit"
    )
    found = database.execute(select, {"number": number, "limit": MAX_ATTEMPTS}).fetchall()
    return found[::-1]


def read_groups(database: sqlite3.Connection) -> tuple[dict[str, dict[str, int]], int]:
    """Return the counts by state of the groups with most chores, and how many groups there are."""
    total = database.execute("SELECT count(*) FROM heights").fetchone()[0]
    groups: dict[str, dict[str, int]] = {}
    select = (
        "SELECT name, state, count FROM (SELECT name, size FROM heights ORDER BY size DESC, name "
        "LIMIT ?) CROSS JOIN counts USING (name) WHERE count > 0 ORDER BY size DESC, name, state"
    )
    for name, state, count in database.execute(select, (MAX_GROUPS,)):
        groups.setdefault(name, {})[state] = count
    return groups, total


class Tiers(NamedTuple):
    """Where the attempts of a group, or of all, were begun."""

    num_pooled: int = 0
    """On a warm worker."""
    num_jobs: int = 0
    """As a job of their own."""


def read_tiers(database: sqlite3.Connection) -> tuple[dict[str, Tiers], Tiers]:
    """Return where attempts were begun: of the groups with most chores, and of all groups."""
    found = database.execute(
        "SELECT name, pooled, jobs FROM (SELECT name FROM heights ORDER BY size DESC, name "
        "LIMIT ?) CROSS JOIN tiers USING (name)",
        (MAX_GROUPS,),
    )
    total = database.execute("SELECT total(pooled), total(jobs) FROM tiers").fetchone()
    return {name: Tiers(*counts) for name, *counts in found}, Tiers(*map(int, total))


def count_states(database: sqlite3.Connection) -> dict[str, int]:
    """Return how many chores stand where; states of none are left out."""
    select = "SELECT state, sum(count) AS size FROM counts GROUP BY state HAVING size > 0"
    return dict(map(tuple, database.execute(select)))


def read_clusters(
    database: sqlite3.Connection, limit: int = MAX_CLUSTERS
) -> list[tuple[sqlite3.Row, sqlite3.Row]]:
    """Return the clusters with most failures and a chore of each."""
    clusters = database.execute(
        "SELECT * FROM clusters WHERE failed > 0 ORDER BY failed + skipped DESC, id LIMIT ?",
        (limit,),
    ).fetchall()
    # The first that failed like this may have been retried since.
    sample = (
        f"SELECT {COLUMNS} FROM chores WHERE cluster = ? AND state = 'failed' "
        "ORDER BY number LIMIT 1"
    )
    return [(row, database.execute(sample, (row["id"],)).fetchone()) for row in clusters]


class ClusterTotals(NamedTuple):
    """What all clusters come to, those that are not listed included."""

    num_clusters: int
    num_failed: int
    """Chores."""
    num_skipped: int
    """Chores that did not run because of these."""


def count_clusters(database: sqlite3.Connection) -> ClusterTotals:
    """Return what all clusters come to."""
    select = (
        "SELECT count(*), coalesce(sum(failed), 0), coalesce(sum(skipped), 0) "
        "FROM clusters WHERE failed > 0"
    )
    return ClusterTotals(*database.execute(select).fetchone())


def _count(database: sqlite3.Connection, wanted: ChoreFilter, numbers: list[int] | None) -> int:
    conditions, values = wanted.where(numbers)
    column, table = ("sum(count)", "counts") if wanted.is_counted else ("count(*)", "chores")
    found = database.execute(f"SELECT {column} FROM {table} {_clause(conditions)}", values)
    return int(found.fetchone()[0] or 0)


def _pattern(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _select(
    database: sqlite3.Connection,
    sort: Sort,
    is_descending: bool,
    conditions: list[str],
    total: int,
) -> str:
    key, direction = _key(sort, total), "DESC" if is_descending else "ASC"
    hint = indexed_by(database, _WALKS[sort]) if sort in _WALKS and total > MANY else ""
    order = f"{key} {direction}" + (f", number {direction}" if sort in _WALKS else "")
    return (
        f"SELECT {COLUMNS}, number, {key} AS sort_key FROM chores {hint} "
        f"{_clause(conditions)} ORDER BY {order}"
    )


def _key(sort: Sort, total: int) -> str:
    # The sign hides the column from the planner, which would walk its index for few as well.
    return f"{'+' if sort in _WALKS and total <= MANY else ''}{_KEYS[sort]}"


def _clause(conditions: list[str]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _decode_cursor(cursor: str, sort: Sort, is_descending: bool) -> list[float | int]:
    try:
        given_sort, given_direction, key, number = json.loads(
            base64.b64decode(cursor, altchars=b"-_", validate=True)
        )
        if (given_sort, given_direction) != (sort.value, is_descending):
            raise ValueError("it is of another sorting")
        if type(number) is not int or type(key) not in (int, float) or not isfinite(key):
            raise TypeError("it holds no key")
        if abs(number) >= 2**63 or abs(key) >= 2**63:
            raise ValueError("its key is none")
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise CursorError(f"The cursor is none of this table ({error}).") from error
    return [key, number]
