"""Rows of the table of chores in memory, while records change them: read and written in bulk.

Owns which columns records change, and how a standing is kept in them. Called by `fold` within a
transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from matensemble.dashboard.index.bounds import MAX_NAME, clean
from matensemble.model import ChoreState, Reason
from matensemble.standing import UNTOUCHED, Standing

STATE_TEXT = {state: state.value for state in ChoreState}
"""SQLite takes text at once, but looks for a way to adapt what only derives from it."""
_REASON_TEXT = {None: None} | {reason: reason.value for reason in Reason}
_OF_CHORE = Standing._fields.index("retries")
"""From here on the fields of a standing are of the chore, not of its latest attempt."""
_FURTHER = ("retries", "losses", "resources", "nice", "avoid", "source")
_COLUMNS = (
    "state, attempt, reason, exit_code, detail, root, host, jobid, submitted_at, started_at, "
    "ended_at, seconds, started_epoch, started_monotonic, cluster, cores, gpus, is_pooled, further"
)
_SELECT = f"SELECT id, number, name, level, rank, {_COLUMNS} FROM"
_SELECT_ONE = f"{_SELECT} chores WHERE id = ?"
_SELECT_MANY = f"{_SELECT} (SELECT value FROM json_each(?)) CROSS JOIN chores ON id = value"
_UPDATE = (
    f"UPDATE chores SET ({_COLUMNS}) = ({', '.join('?' * len(_COLUMNS.split(', ')))}) "
    "WHERE number = ?"
)


@dataclass(slots=True)
class Row:
    """A chore in memory."""

    id: str
    number: int
    name: str
    level: int
    rank: int
    standing: Standing
    host: str
    jobid: str | None
    submitted_at: float
    started_at: float
    ended_at: float
    seconds: float
    started_epoch: int
    """0 also where it ran when its driver ended: nobody knows for how long."""
    started_monotonic: float
    cluster: int | None
    cores: int
    gpus: int
    is_pooled: bool
    """Whether its latest attempt went to a warm worker."""
    written_state: ChoreState = ChoreState.BLOCKED
    """What the tables of counts know of it, of its cluster, and of how long it ran."""
    written_cluster: int | None = None
    written_seconds: float = -1.0

    def forget_attempt(self) -> None:
        """Blank what belongs to an attempt."""
        self.host, self.jobid, self.is_pooled = "", None, False
        self.submitted_at = self.started_at = self.ended_at = 0.0
        self.seconds = -1.0


def read_row(database: sqlite3.Connection, chore_id: str) -> Row:
    """Return a chore; raises ValueError if there is none of that id."""
    found = database.execute(_SELECT_ONE, (chore_id,)).fetchone()
    if found is None:
        raise ValueError(f"{clean(chore_id, MAX_NAME)!r} is no chore of this run")
    return _row_of(*found)


def read_rows(database: sqlite3.Connection, chore_ids: Iterable[str]) -> dict[str, Row]:
    """Return chores by id; without those that there are not."""
    found = database.execute(_SELECT_MANY, (json.dumps(list(chore_ids)),))
    return {columns[0]: _row_of(*columns) for columns in found}


def write_rows(database: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Bring what has changed of chores into the table."""
    database.executemany(_UPDATE, map(_values, rows))


def _row_of(chore_id: str, number: int, name: str, level: int, rank: int, *columns: Any) -> Row:
    state, attempt, reason, exit_code, detail, root, host, jobid, *facts, further = columns
    standing = UNTOUCHED
    if state != "blocked" or attempt or further:
        standing = Standing(
            ChoreState(state), attempt, reason and Reason(reason), exit_code, detail, root
        )
        if standing.is_live:
            standing = standing._replace(host=host, jobid=jobid)
        if further:
            told = json.loads(further)
            standing = standing._replace(**told | {"avoid": tuple(told["avoid"])})
    row = Row(chore_id, number, name, level, rank, standing, host, jobid, *facts)
    row.written_state, row.written_cluster = standing.state, row.cluster
    row.written_seconds = row.seconds
    return row


def _values(row: Row) -> tuple[Any, ...]:
    s = row.standing
    further = None
    if s[_OF_CHORE:] != UNTOUCHED[_OF_CHORE:]:
        further = json.dumps({name: getattr(s, name) for name in _FURTHER})
    return (
        STATE_TEXT[s.state], s.attempt, _REASON_TEXT[s.reason], s.exit_code, clean(s.detail),
        s.root, row.host, row.jobid, row.submitted_at, row.started_at, row.ended_at, row.seconds,
        row.started_epoch, row.started_monotonic, row.cluster, row.cores, row.gpus, row.is_pooled,
        further, row.number,
    )  # fmt: skip
