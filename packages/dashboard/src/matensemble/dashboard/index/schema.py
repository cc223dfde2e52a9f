"""The tables of an index: what they hold, and how a file of them is opened.

Owns the SQL of the schema and its version. An index is a cache: a file of another version, or a
damaged one, is made anew. Times are seconds since the Unix epoch; 0 stands for "not yet" and −1
seconds for "not known", so that pages can be sorted by columns without NULL.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from pathlib import Path

SCHEMA_VERSION = 10
BUSY_SECONDS = 30.0

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE bookmarks (
    part INTEGER PRIMARY KEY,      -- 0: headers; from 1: journals, oldest first
    inode INTEGER NOT NULL, offset INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    length INTEGER,                -- bytes that count of it; NULL: all
    epoch INTEGER NOT NULL, sequence INTEGER NOT NULL  -- of the last record
);
CREATE TABLE chores (
    number INTEGER PRIMARY KEY,    -- order of admission, from 1
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,            -- group
    kind TEXT NOT NULL,
    part INTEGER NOT NULL,         -- which file holds its header, as in bookmarks
    offset INTEGER NOT NULL, length INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'blocked',
    attempt INTEGER NOT NULL DEFAULT 0,
    reason TEXT, exit_code INTEGER, detail TEXT NOT NULL DEFAULT '', root TEXT,
    host TEXT NOT NULL DEFAULT '', jobid TEXT,  -- of the latest attempt
    submitted_at REAL NOT NULL DEFAULT 0, started_at REAL NOT NULL DEFAULT 0,
    ended_at REAL NOT NULL DEFAULT 0, seconds REAL NOT NULL DEFAULT -1,
    started_epoch INTEGER NOT NULL DEFAULT 0, started_monotonic REAL NOT NULL DEFAULT 0,
    cluster INTEGER,
    further TEXT,                  -- the rest of its standing as JSON, where it is not the usual
    cores INTEGER NOT NULL DEFAULT 1, gpus INTEGER NOT NULL DEFAULT 0,  -- that it asks for now
    is_pooled INTEGER NOT NULL DEFAULT 0,  -- whether the latest attempt went to a warm worker
    level INTEGER NOT NULL DEFAULT 0,  -- chores on the longest path to it, without itself
    rank INTEGER NOT NULL DEFAULT 0    -- place within its level, from 0
);
CREATE INDEX by_state ON chores(state);
CREATE INDEX by_name ON chores(name);
CREATE INDEX by_name_state ON chores(name, state);
CREATE INDEX by_name_seconds ON chores(name, seconds) WHERE seconds >= 0;
CREATE INDEX by_reason ON chores(reason) WHERE reason IS NOT NULL;
CREATE INDEX by_cluster ON chores(cluster) WHERE cluster IS NOT NULL;
CREATE INDEX by_level ON chores(level, rank);
CREATE INDEX by_root ON chores(root, name) WHERE root IS NOT NULL;
CREATE INDEX by_retry ON chores(number) WHERE attempt > 1;
CREATE TABLE attempts (            -- those before the latest
    chore INTEGER NOT NULL, attempt INTEGER NOT NULL,
    reason TEXT, exit_code INTEGER, detail TEXT NOT NULL, host TEXT NOT NULL, jobid TEXT,
    submitted_at REAL NOT NULL, started_at REAL NOT NULL, ended_at REAL NOT NULL,
    seconds REAL NOT NULL,
    cores INTEGER NOT NULL DEFAULT 1, gpus INTEGER NOT NULL DEFAULT 0,  -- that it asked for
    is_pooled INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (chore, attempt)
) WITHOUT ROWID;
CREATE TABLE counts (
    name TEXT NOT NULL, state TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (name, state)
) WITHOUT ROWID;
CREATE INDEX by_count ON counts(state, count);
CREATE TABLE tiers (               -- attempts of a group that were begun
    name TEXT PRIMARY KEY,
    pooled INTEGER NOT NULL,       -- on a warm worker
    jobs INTEGER NOT NULL          -- as a job of their own
) WITHOUT ROWID;
CREATE TABLE clusters (
    id INTEGER PRIMARY KEY, reason TEXT NOT NULL, pattern TEXT NOT NULL,
    sample INTEGER NOT NULL,       -- number of the first chore that failed like this
    failed INTEGER NOT NULL DEFAULT 0, skipped INTEGER NOT NULL DEFAULT 0,
    UNIQUE (reason, pattern)
);
CREATE TABLE edges (               -- numbers of chores
    downstream INTEGER NOT NULL, upstream INTEGER NOT NULL, PRIMARY KEY (downstream, upstream)
) WITHOUT ROWID;
CREATE INDEX by_upstream ON edges(upstream, downstream);
CREATE TABLE gathers (             -- a chore that collects the results of a whole group
    downstream INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (downstream, name)
) WITHOUT ROWID;
CREATE INDEX by_gathered ON gathers(name, downstream);
CREATE TABLE group_edges (
    upstream TEXT NOT NULL, downstream TEXT NOT NULL,
    count INTEGER NOT NULL,        -- edges and gathers from the one group to the other
    PRIMARY KEY (upstream, downstream)
) WITHOUT ROWID;
CREATE INDEX by_group_downstream ON group_edges(downstream, upstream);
CREATE TABLE levels (level INTEGER PRIMARY KEY, count INTEGER NOT NULL);
CREATE TABLE extent (              -- one row, once there are chores; see `cells`
    num_levels INTEGER NOT NULL, num_ranks INTEGER NOT NULL,
    level_shift INTEGER NOT NULL, rank_shift INTEGER NOT NULL
);
CREATE TABLE cells (               -- chores by place, in cells as large as `extent` says
    level INTEGER NOT NULL, rank INTEGER NOT NULL, state TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (level, rank, state)
) WITHOUT ROWID;
CREATE TABLE heights (             -- of groups
    name TEXT PRIMARY KEY,
    level INTEGER NOT NULL,        -- highest of its chores
    size INTEGER NOT NULL          -- chores of that name
) WITHOUT ROWID;
CREATE INDEX by_size ON heights(size DESC, name);
CREATE TABLE moments (             -- what happened in a second of wall time
    second INTEGER PRIMARY KEY,
    submitted INTEGER NOT NULL, started INTEGER NOT NULL, completed INTEGER NOT NULL,
    failed INTEGER NOT NULL, cancelled INTEGER NOT NULL, skipped INTEGER NOT NULL,
    requeued INTEGER NOT NULL,     -- attempts that ended without ending their chore
    running INTEGER NOT NULL,      -- more (or less, below 0) attempts than before that run,
    cores INTEGER NOT NULL, gpus INTEGER NOT NULL, -- and what is busy
    run_rest REAL NOT NULL, core_rest REAL NOT NULL, gpu_rest REAL NOT NULL
                                   -- what to add, times seconds: these began within the second
);
CREATE TABLE minutes (             -- moments by the minute they lie in; see `minutes`
    minute INTEGER PRIMARY KEY,
    submitted INTEGER NOT NULL, started INTEGER NOT NULL, completed INTEGER NOT NULL,
    failed INTEGER NOT NULL, cancelled INTEGER NOT NULL, skipped INTEGER NOT NULL,
    requeued INTEGER NOT NULL,
    running INTEGER NOT NULL, cores INTEGER NOT NULL, gpus INTEGER NOT NULL,
    run_seconds REAL NOT NULL, core_seconds REAL NOT NULL, gpu_seconds REAL NOT NULL
);
CREATE TABLE lanes (               -- what happened on a host, or in a group, in a minute
    axis TEXT NOT NULL,            -- host or group
    lane TEXT NOT NULL, minute INTEGER NOT NULL,
    running INTEGER NOT NULL, cores INTEGER NOT NULL, gpus INTEGER NOT NULL,  -- as in moments
    run_seconds REAL NOT NULL, core_seconds REAL NOT NULL, gpu_seconds REAL NOT NULL,
    completed INTEGER NOT NULL, failed INTEGER NOT NULL,  -- attempts that had run
    PRIMARY KEY (axis, lane, minute)
) WITHOUT ROWID;
CREATE TABLE durations (           -- of chores that ran and ended; see `durations`
    name TEXT NOT NULL, bucket INTEGER NOT NULL,
    count INTEGER NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (name, bucket)
) WITHOUT ROWID;
CREATE TABLE capacities (          -- what there was to run on, from then on
    at REAL NOT NULL, epoch INTEGER NOT NULL,
    nodes INTEGER NOT NULL, cores INTEGER NOT NULL, gpus INTEGER NOT NULL
);
CREATE TABLE events (              -- what happened to the run as a whole, in the order of records
    number INTEGER PRIMARY KEY,
    at REAL NOT NULL, epoch INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL
);
"""

_SORTING = {
    "by_started": "CREATE INDEX by_started ON chores(started_at, number)",
    "by_seconds": "CREATE INDEX by_seconds ON chores(seconds, number)",
    "by_ended": "CREATE INDEX by_ended ON chores(ended_at, number)",
    "by_host": "CREATE INDEX by_host ON chores(host)",
}
"""Indexes that are made once all was read that was there: a million chores are sorted in a few
seconds, and kept sorted while they come in at the cost of every fifth record. Without them a page
takes longer, and each question costs one look at all chores at most."""


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Return a connection to an index, which is made where there is none or it is unusable.

    Raises
    ------
    sqlite3.Error, OSError
        If it cannot be made.
    """
    try:
        return _prepare(path)
    except sqlite3.OperationalError:
        raise  # busy, or no space: the file is as good as it was
    except sqlite3.DatabaseError:
        remove(path)
        return _prepare(path)


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Return a connection that changes nothing; raises sqlite3.Error."""
    # A download is written by whichever thread is free, one after the other.
    database = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    database.execute("PRAGMA query_only = 1")
    database.execute("PRAGMA cache_size = -16384")
    database.row_factory = sqlite3.Row
    return database


def indexed_by(database: sqlite3.Connection, name: str) -> str:
    """Return the clause that has a table walked by an index; empty where that is to be made yet."""
    found = database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    return f"INDEXED BY {name}" if found else ""


def add_sorting(database: sqlite3.Connection) -> None:
    """Make the indexes that are not there yet, within the transaction that is open."""
    for name, statement in _SORTING.items():
        if not indexed_by(database, name):
            database.execute(statement)


def remove(path: Path) -> None:
    """Remove an index."""
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()


def reset(database: sqlite3.Connection) -> None:
    """Make the tables anew, empty, within the transaction that is open."""
    made = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (name,) in made:
        database.execute(f'DROP TABLE "{name}"')
    for statement in _SCHEMA.split(";\n"):
        if statement.strip():
            database.execute(statement)
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    database.execute("INSERT INTO meta VALUES ('generation', random())")


def _prepare(path: Path) -> sqlite3.Connection:
    path.touch(mode=0o600)  # before SQLite would, with the modes of the umask
    # Closed by another thread than the one that opened it, which has ended by then.
    database = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        _use_write_ahead_log(database)
        database.execute("PRAGMA synchronous = OFF")  # a cache: damaged, it is made anew
        database.execute("PRAGMA cache_size = -65536")
        database.execute("BEGIN IMMEDIATE")
        if database.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
            reset(database)
        database.execute("COMMIT")
    except BaseException:
        database.close()
        raise
    return database


def _use_write_ahead_log(database: sqlite3.Connection) -> None:
    """Let readers and the writer not wait for one another; kept in the file from then on.

    Who finds another process at the same change is told so at once, without the wait that all
    other statements have (each would wait for the other), and so asks again.
    """
    give_up_at = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)
        else:
            return
