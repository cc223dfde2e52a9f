"""What is done about a chore besides running it: its limits, its files, its place in the cache.

Owns who is told when; the work is that of `watchdog` and `housekeeping`. What takes time at the end
of a chore happens on a thread of its own, in the order of the ends, so that a slow disk delays no
start. Called by the engine, on the thread that owns the state.
"""

from __future__ import annotations

import logging
import threading
from functools import partial

from matensemble.chore import Chore
from matensemble.model import ChoreState
from matensemble.runtime.background import BackgroundThread
from matensemble.runtime.housekeeping import tidy
from matensemble.runtime.reused import ResultCache
from matensemble.runtime.scheduler.entry import Entry
from matensemble.runtime.watchdog import Watchdog, find_large_output
from matensemble.workdir import RunDir

MAX_BEHIND = 10_000
"""Where so many ends wait, those are let pass of which at most a warning would come."""


class Caretaker:
    """Is told of the lives of chores by the engine.

    Parameters
    ----------
    run
        The run directory.
    watchdog
        Watches what runs.
    keep
        As `RunOptions.keep`.
    logger
        Is warned of outputs that are very large.
    cache
        Takes the results of chores that completed; None where there is none.
    """

    def __init__(
        self,
        run: RunDir,
        watchdog: Watchdog,
        *,
        keep: str,
        logger: logging.Logger,
        cache: ResultCache | None = None,
    ) -> None:
        self._run = run
        self._watchdog = watchdog
        self._keep = keep
        self._logger = logger
        self._cache = cache
        self._seen_running: set[str] = set()
        self._num_taken = 0  # written by the thread of the engine
        self._num_done = 0  # written by that in the background
        self._background = BackgroundThread("matensemble-caretaker", logger)

    def started(self, chore: Chore, attempt: int) -> None:
        """Watch an attempt whose processes run."""
        self._seen_running.add(chore.id)
        self._watchdog.started(chore, attempt)

    def attempt_ended(self, chore: Chore, attempt: int) -> None:
        """Watch an attempt no longer."""
        self._watchdog.ended(chore.id, attempt)

    def ended(self, entry: Entry) -> None:
        """Do what remains to be done for a chore that has ended for good."""
        is_stored: threading.Event | None = None
        if self._cache is not None and entry.state is ChoreState.COMPLETED:
            is_stored = self._cache.store(entry.chore, entry.attempt, entry.exit_code or 0)
        is_behind = self._num_taken - self._num_done > MAX_BEHIND
        # One that ended before anybody saw it run has not written much.
        is_brief = entry.chore.id not in self._seen_running
        self._seen_running.discard(entry.chore.id)
        if entry.attempt and not (self._keep == "all" and (is_behind or is_brief)):
            self._num_taken += 1
            work = partial(self._clear_up, entry, entry.attempt, entry.state, is_stored)
            self._background.do(f"clearing up behind {entry.chore.id}", work)

    def close(self) -> None:
        """Wait until all of it is done; may be called twice."""
        self._background.close()

    def _clear_up(
        self, entry: Entry, attempt: int, state: ChoreState, is_stored: threading.Event | None
    ) -> None:
        self._num_done += 1
        if is_stored is not None:
            is_stored.wait()  # it copies the files that would be cleared up
        if (entry.attempt, entry.state) != (attempt, state):
            return  # it runs again since: these files are of another attempt
        chore = entry.chore
        if (warning := find_large_output(self._run, chore.id)) is not None:
            self._logger.warning("%s", warning)
        tidy(self._run, chore, state, self._keep)
