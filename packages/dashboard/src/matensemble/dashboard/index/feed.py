"""Keep indexes up to date while somebody looks: one thread a run, which ends when nobody asks.

Owns the threads and how often they ask the disk: once a second at most. Called by the routes, which
then read the index with connections of their own.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from matensemble.dashboard.index.place import index_path
from matensemble.dashboard.index.run_index import Progress, RunIndex
from matensemble.dashboard.index.schema import open_for_reading, remove
from matensemble.errors import FormatError, RunDirectoryError
from matensemble.terminal import clean_line
from matensemble.workdir import RunDir

INTERVAL_SECONDS = 1.0
IDLE_SECONDS = 30.0
PATIENCE_SECONDS = 1.0
"""How long a question waits for what was appended since; a small run is read in less."""
MAX_FEEDS = 8
"""Runs that are followed at a time; the one that was asked for longest ago goes."""


class Freshness(NamedTuple):
    """How well an index stands for its run."""

    is_complete: bool
    """Whether it holds all that was there when it was asked for, a second before at most."""
    share: float
    """How much of the run it holds, from 0 to 1."""
    problem: str
    """Why it goes no further; empty where nothing is in the way."""


class IndexFeed:
    """The index of one run and the thread that feeds it.

    Parameters
    ----------
    run
        The run.
    path
        The SQLite file.
    """

    def __init__(self, run: RunDir, path: Path) -> None:
        self.path = path
        self._run = run
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._asked_at = self._began_at = float("-inf")
        self._progress = Progress(0, 0, False)
        self._problem = ""
        self._is_made = False

    def ask(self, patience: float = PATIENCE_SECONDS) -> Freshness:
        """Return how fresh the index is, after a moment in which it catches up.

        Parameters
        ----------
        patience
            Seconds to wait at most; the tables are there in any case.

        Raises
        ------
        FormatError
            If no index can be made.
        """
        with self._changed:
            self._asked_at = time.monotonic()
            needed = self._asked_at - INTERVAL_SECONDS
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._feed, daemon=True)
                self._thread.start()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_made or self._has_failed())
            self._changed.wait_for(lambda: self._is_fresh(needed) or self._has_failed(), patience)
            if not self._is_made:
                raise FormatError(str(self.path), self._problem or "was closed")
            read, total, _ = self._progress
            share = read / total if total else 1.0
            return Freshness(self._is_fresh(needed), share, self._problem)

    def close(self) -> None:
        """Let the thread end, and wait for it."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _is_fresh(self, needed: float) -> bool:
        return self._progress.is_complete and self._began_at >= needed

    def _has_failed(self) -> bool:
        return bool(self._problem) or self._is_closed

    def _feed(self) -> None:
        index: RunIndex | None = None
        try:
            while True:
                began_at = time.monotonic()
                problem, progress = "", self._progress._replace(is_complete=False)
                try:
                    index = index or RunIndex(self._run, self.path)
                    progress = index.update()
                except (FormatError, RunDirectoryError, OSError, sqlite3.Error) as error:
                    problem = clean_line(error)
                    if index is not None and _is_damaged(error):
                        index.close()
                        index = None
                        remove(self.path)
                with self._changed:
                    self._is_made = self._is_made or index is not None
                    self._progress, self._problem = progress, problem
                    self._began_at = began_at
                    self._changed.notify_all()
                    if progress.is_complete or problem:
                        self._changed.wait_for(lambda: self._is_closed, INTERVAL_SECONDS)
                        if self._is_closed or not self._waits_for_question():
                            return
        finally:
            if index is not None:
                index.close()
            with self._changed:
                self._thread = None
                self._changed.notify_all()

    def _waits_for_question(self) -> bool:
        """Wait until somebody asks again; return whether anybody did in time."""
        return self._changed.wait_for(
            lambda: self._is_closed or self._asked_at > self._began_at, IDLE_SECONDS
        )


def _is_damaged(error: Exception) -> bool:
    """Whether an index cannot be used any more; a busy one, or one on a full disk, can."""
    is_of_now = isinstance(error, sqlite3.OperationalError)
    return isinstance(error, sqlite3.DatabaseError) and not is_of_now


class Indexes:
    """The feeds of the runs that are looked at.

    Parameters
    ----------
    find
        Returns the run of a name, or raises RunDirectoryError.
    place
        Returns the file for the index of a run.
    """

    def __init__(
        self, find: Callable[[str], RunDir], place: Callable[[RunDir], Path] = index_path
    ) -> None:
        self._find = find
        self._place = place
        self._feeds: OrderedDict[str, IndexFeed] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def open(self, run_id: str) -> Iterator[tuple[sqlite3.Connection, Freshness]]:
        """Open the index of a run for one question, which sees one state of it.

        Raises
        ------
        RunDirectoryError
            If there is no run of that name.
        FormatError, OSError
            If no index can be made.
        """
        feed = self.of(run_id)
        freshness = feed.ask()
        database = open_for_reading(feed.path)
        try:
            database.execute("BEGIN")
            yield database, freshness
        finally:
            database.close()

    def generation(self, run_id: str) -> tuple[int, Freshness]:
        """Return a number that changes whenever the index of a run does; raises as `open`."""
        with self.open(run_id) as (database, freshness):
            row = database.execute("SELECT value FROM meta WHERE name = 'generation'").fetchone()
        return row[0], freshness

    def of(self, run_id: str) -> IndexFeed:
        """Return the feed of a run; raises as `open`."""
        run = self._find(run_id)
        with self._lock:
            feed = self._feeds.pop(run_id, None) or IndexFeed(run, self._place(run))
            self._feeds[run_id] = feed
            gone = self._feeds.popitem(last=False)[1] if len(self._feeds) > MAX_FEEDS else None
        if gone is not None:
            gone.close()
        return feed

    def close(self) -> None:
        """End all threads."""
        with self._lock:
            feeds = list(self._feeds.values())
            self._feeds.clear()
        for feed in feeds:
            feed.close()
