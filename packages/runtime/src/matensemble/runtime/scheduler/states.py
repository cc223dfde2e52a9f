"""The transition table of chores, and what the run as a whole is doing."""

from __future__ import annotations

from enum import Enum, auto

from matensemble.model import ChoreState

BLOCKED, READY, SUBMITTED, RUNNING = (
    ChoreState.BLOCKED,
    ChoreState.READY,
    ChoreState.SUBMITTED,
    ChoreState.RUNNING,
)
COMPLETED, FAILED, CANCELLED, SKIPPED = (
    ChoreState.COMPLETED,
    ChoreState.FAILED,
    ChoreState.CANCELLED,
    ChoreState.SKIPPED,
)

TRANSITIONS: dict[ChoreState, frozenset[ChoreState]] = {
    # FAILED without having run: it can never fit
    BLOCKED: frozenset({READY, SKIPPED, CANCELLED, FAILED}),
    # BLOCKED: a result it needs turned out to be gone or damaged
    READY: frozenset({SUBMITTED, CANCELLED, FAILED, BLOCKED}),
    # COMPLETED without RUNNING: an executor need not report starts.
    # READY: another attempt will be made; BLOCKED: not before a wait, or a lost result, is over.
    SUBMITTED: frozenset({RUNNING, COMPLETED, FAILED, CANCELLED, READY, BLOCKED}),
    RUNNING: frozenset({COMPLETED, FAILED, CANCELLED, READY, BLOCKED}),
    # its result is gone or damaged
    COMPLETED: frozenset({BLOCKED}),
    # somebody asked for another try
    FAILED: frozenset({BLOCKED}),
    CANCELLED: frozenset({BLOCKED}),
    SKIPPED: frozenset({BLOCKED}),
}
"""State → states that may follow it. A chore begins as BLOCKED."""

ENDED = frozenset({COMPLETED, FAILED, CANCELLED, SKIPPED})
"""States in which a chore has ended."""

LIVE = frozenset({SUBMITTED, RUNNING})
"""States in which an attempt is with the executor."""


class Phase(Enum):
    """What the scheduler is willing to do."""

    STARTING = auto()
    """What is ready and fits is started."""
    PAUSED = auto()
    """Nothing is started until a pause is over."""
    DRAINING = auto()
    """Nothing is started any more, because the allocation ends soon; what runs goes on."""
    STOPPING = auto()
    """Everything that has not ended is cancelled, and so is what joins later."""
    INTERRUPTING = auto()
    """Nothing is started any more; what runs is ended and will run again."""
