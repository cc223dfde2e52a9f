"""What reaches the thread that owns the state, and by which way.

Owns the one queue into the engine. Everybody may put into it, from any thread or signal handler;
only the engine takes out.
"""

from __future__ import annotations

from concurrent.futures import Future
from queue import SimpleQueue
from typing import NamedTuple

from matensemble.results import Results
from matensemble.runtime.executors.base import ExecutorLost, JobEnded
from matensemble.runtime.scheduler.events import Event


class OutcomeAsked(NamedTuple):
    """Somebody waits for one chore."""

    chore_id: str
    answer: Future[Results]
    """Set when the chore has ended; never, where the run ends before."""


class Deposed(Exception):  # noqa: N818 - a fact, not an error of ours
    """Another driver has taken the run over: leave it alone."""


InboxEvent = Event | JobEnded | ExecutorLost | OutcomeAsked
Inbox = SimpleQueue[InboxEvent]
