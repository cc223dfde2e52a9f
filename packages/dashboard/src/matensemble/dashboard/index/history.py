"""What happened to a run as a whole, newest first, in pages by key.

Owns the question only; `fold` writes the events in the order of their records.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

MAX_EVENTS = 500


class EventPage(NamedTuple):
    """Some events."""

    rows: list[sqlite3.Row]
    total: int
    """How many there are on all pages."""
    next: int | None
    """What to ask for as `before` to get those behind; None at the end."""


def read_events(database: sqlite3.Connection, *, before: int | None, limit: int) -> EventPage:
    """Return events, newest first.

    Parameters
    ----------
    database
        The index.
    before
        `EventPage.next` of the page before; None: from the newest.
    limit
        How many, from 1.
    """
    total = database.execute("SELECT count(*) FROM events").fetchone()[0]
    rows = database.execute(
        "SELECT number, at, epoch, kind, text FROM events WHERE ?1 IS NULL OR number < ?1 "
        "ORDER BY number DESC LIMIT ?2",
        (before, limit + 1),
    ).fetchall()
    is_last = len(rows) <= limit
    return EventPage(rows[:limit], total, None if is_last else rows[limit - 1]["number"])
