"""Facts that change the state: past-tense nouns.

Executors post most of them themselves; the engine makes the others. Nothing here is optional
context: each field is used by the transition that the event causes. They are named tuples because
a run of a million chores makes ten million, and they cost a third of a frozen dataclass.
"""

from __future__ import annotations

from typing import NamedTuple

from matensemble.chore import Chore
from matensemble.model import Reason
from matensemble.replay import Standing
from matensemble.runtime.scheduler.resources import Allocation, Placement


class AllocationLearned(NamedTuple):
    """The nodes that chores may use are known; comes first, and once."""

    allocation: Allocation


class ChoreAdded(NamedTuple):
    """A chore joined the graph; its dependencies are known, in whatever state."""

    chore: Chore
    parent: str | None = None
    """The strategy chore that asked for it, None for one of the saved pipeline."""


class SpecRejected(NamedTuple):
    """A strategy asked for a chore that cannot exist; it becomes a failed chore at once."""

    chore: Chore
    parent: str
    detail: str
    reason: Reason = Reason.INVALID_SPEC


class ChoreRestored(NamedTuple):
    """A chore of an earlier driver is known again, with where it stood by the journal."""

    chore: Chore
    standing: Standing


class StartsConsidered(NamedTuple):
    """Now is a moment to start what is ready and fits."""

    time_left: float | None = None
    """Seconds for which something that starts now can run; None: no limit is known."""
    pool_look_ahead: int = 0
    """How many pooled chores may queue at warm workers beyond what fits."""


class ChoreSubmitted(NamedTuple):
    """The executor took a chore."""

    chore_id: str
    attempt: int
    jobid: str


class ChorePlaced(NamedTuple):
    """The executor gave a chore its nodes, which may differ from what was predicted."""

    chore_id: str
    attempt: int
    placement: Placement


class ChoreStarted(NamedTuple):
    """The processes of a chore run."""

    chore_id: str
    attempt: int
    host: str = ""


class ChoreFinished(NamedTuple):
    """An attempt has ended and its outcome is settled; its resources are still held."""

    chore_id: str
    attempt: int
    reason: Reason | None
    """None: it completed."""
    exit_code: int | None = None
    detail: str = ""
    error_type: str = ""
    """Name of the exception type of a Python chore, empty where there was none."""
    culprit: str | None = None
    """A chore upstream whose result is gone or damaged, where that is why it failed."""
    errno: int | None = None
    """For `IO_ERROR`: what the operating system said, as in the module `errno`; None where it said
    nothing, as of a file that is not to be trusted."""
    culprit_attempt: int | None = None
    """The attempt whose result the culprit had when this one was prepared; None: not known."""
    elapsed: float | None = None
    """Seconds that it ran, measured where it ran; None: not known."""
    host: str = ""
    """Where it ran, if that was not told by `ChoreStarted`."""


class AttemptLost(NamedTuple):
    """Nothing is known of an attempt and nothing of it runs: it is to be made again, uncharged."""

    chore_id: str
    attempt: int
    detail: str = ""


class DelayOver(NamedTuple):
    """The wait before another attempt is over."""

    chore_id: str
    attempt: int
    """The attempt that had failed."""


class LimitExceeded(NamedTuple):
    """A running attempt went beyond one of its limits, and is to be ended for it."""

    chore_id: str
    attempt: int
    reason: Reason
    detail: str = ""


class NodesChanged(NamedTuple):
    """Nodes of the allocation were lost, or came back; indices into `Allocation.nodes`."""

    lost: frozenset[int] = frozenset()
    back: frozenset[int] = frozenset()


class LaunchMeasured(NamedTuple):
    """It is known what it costs to start a process that can run a Python chore."""

    seconds: float
    """From its submission until it was ready, without the time in a queue."""


class ProbesOverdue(NamedTuple):
    """The time is over after which it is no longer waited for what suits a group."""

    group: str


class PoolLost(NamedTuple):
    """No warm worker can be had: what would run on one runs as a job from now on."""

    detail: str
    """Why, for people."""


class ResourcesFreed(NamedTuple):
    """The resources of an ended attempt are back."""

    chore_id: str
    attempt: int


class CancelRequested(NamedTuple):
    """Chores are to be cancelled; None means the whole run, with what it would still add."""

    chore_ids: tuple[str, ...] | None = None


class InterruptRequested(NamedTuple):
    """The run is to stop: nothing starts any more, what runs is ended and will run again."""

    cause: str


class DrainRequested(NamedTuple):
    """The allocation ends soon: nothing starts any more, what runs goes on as long as it can."""

    cause: str
    signal: int | None = None
    """Number of the signal by which what runs is told; None sends none."""


class RetryRequested(NamedTuple):
    """Chores without a result are to run again, with what was skipped because of them."""

    chore_ids: tuple[str, ...]


class PriorityChanged(NamedTuple):
    """Chores that have not started change their place in the order."""

    chore_ids: tuple[str, ...]
    nice: int


class DurationExtended(NamedTuple):
    """A chore may run longer: its live attempt, and those to come."""

    chore_id: str
    seconds: float
    """Added to its `duration`."""


class PauseRequested(NamedTuple):
    """Nothing more is to be started until further notice; what runs goes on."""


class ResumeRequested(NamedTuple):
    """A pause is over."""


Event = (
    AllocationLearned
    | ChoreAdded
    | ChoreRestored
    | SpecRejected
    | StartsConsidered
    | ChoreSubmitted
    | ChorePlaced
    | ChoreStarted
    | ChoreFinished
    | AttemptLost
    | DelayOver
    | LimitExceeded
    | NodesChanged
    | LaunchMeasured
    | ProbesOverdue
    | PoolLost
    | ResourcesFreed
    | CancelRequested
    | RetryRequested
    | PriorityChanged
    | DurationExtended
    | DrainRequested
    | InterruptRequested
    | PauseRequested
    | ResumeRequested
)
