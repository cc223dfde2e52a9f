"""What an ended attempt comes to, and what joins the graph with it.

Owns what needs more than the files of one chore (`settlement`): patience with a file system that
shows them late, and the specs of a strategy (`spawner`). Called by the engine, on the thread that
owns the state; changes nothing.
"""

from __future__ import annotations

import socket
from typing import Any

from matensemble.chore import Chore
from matensemble.errors import FormatError
from matensemble.model import Reason
from matensemble.runtime.clock import Clock
from matensemble.runtime.executors.base import JobEnded
from matensemble.runtime.scheduler.entry import Entry
from matensemble.runtime.scheduler.events import (
    AttemptLost,
    ChoreFinished,
    Event,
    ResourcesFreed,
)
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.runtime.settlement import salvage, settle
from matensemble.runtime.spawner import Addition, Spawner
from matensemble.runtime.timer import Timer
from matensemble.workdir import RunDir

LAG_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Waits before a result that is not there is looked for again, about a minute in all: a network
file system may show a directory as it was that long ago."""

Verdict = tuple[ChoreFinished, list[Addition]]
"""The outcome of an attempt, and what joins the graph: to be handled before the outcome, or a
gather could slip through between."""


class Judge:
    """Decides what an ended attempt comes to.

    Parameters
    ----------
    run
        The run directory.
    state
        Where the chores stand; read only.
    spawner
        Reads what strategy chores asked for.
    timer
        Where an attempt waits that is to be looked at again.
    clock
        For the timer.
    may_lag
        Whether what a chore wrote on another host may be seen here later.
    """

    def __init__(
        self,
        run: RunDir,
        state: SchedulerState,
        spawner: Spawner,
        *,
        timer: Timer[Any],
        clock: Clock,
        may_lag: bool,
    ) -> None:
        self._run = run
        self._state = state
        self._spawner = spawner
        self._timer = timer
        self._clock = clock
        self._may_lag = may_lag
        self._host = socket.gethostname()
        self._looks: dict[tuple[str, int], tuple[int, float]] = {}
        """How often an attempt was looked at in vain, and when it is looked at again."""

    def judge(self, ended: JobEnded) -> Verdict | None:
        """Return the outcome of a live attempt; None: not yet, it comes again by the timer."""
        key = (ended.chore_id, ended.attempt)
        entry = self._state.entry(ended.chore_id)
        num_looks, due = self._looks.get(key, (0, 0.0))
        if num_looks and self._clock.monotonic() < due:
            return None  # an executor may repeat itself; that must not shorten the wait
        may_lag = num_looks < len(LAG_SECONDS) and self._ran_elsewhere(entry, ended.host)
        finished = settle(self._run, entry.chore, ended, self._state, may_lag=may_lag)
        if finished is None:
            due = self._clock.monotonic() + LAG_SECONDS[num_looks]
            self._looks[key] = num_looks + 1, due
            self._timer.set(due, ended)
            return None
        self._looks.pop(key, None)
        return self._with_additions(entry.chore, finished)

    def judge_lost(self, lost: AttemptLost) -> list[Event]:
        """Return what is to be made of a live attempt of which nothing is known.

        Its result is the evidence: where it is intact, the chore completed, whoever saw it.
        """
        chore = self._state.entry(lost.chore_id).chore
        try:
            is_committed = salvage(self._run, chore, lost.attempt)
        except OSError:  # it cannot be told; to make it again is safe
            is_committed = False
        if not is_committed:
            return [lost]
        finished = ChoreFinished(lost.chore_id, lost.attempt, None, 0)
        finished, additions = self._with_additions(chore, finished)
        return [*additions, finished, ResourcesFreed(lost.chore_id, lost.attempt)]

    def _ran_elsewhere(self, entry: Entry, host: str) -> bool:
        if not self._may_lag:
            return False
        if host:
            return host != self._host
        nodes = self._state.allocation.nodes
        return any(nodes[share.node].name != self._host for share in entry.placement or ())

    def _with_additions(self, chore: Chore, finished: ChoreFinished) -> Verdict:
        if finished.reason is not None:
            return finished, []
        try:
            return finished, self._spawner.after(chore)
        except FormatError as error:
            return finished._replace(reason=Reason.RESULT_CORRUPT, detail=str(error)), []
        except OSError as error:  # the disk's fault, not the chore's
            detail = str(error)
            return finished._replace(reason=Reason.IO_ERROR, detail=detail, errno=error.errno), []
