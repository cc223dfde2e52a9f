"""Facts that change the state: past-tense nouns.

Executors post most of them themselves; the engine makes the others. Nothing here is optional
context: each field is used by the transition that the event causes. They are named tuples because
a run of a million chores makes ten million, and they cost a third of a frozen dataclass.
"""

from __future__ import annotations

from typing import NamedTuple

from matensemble.chore import Chore
from matensemble.model import Reason
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


class StartsConsidered(NamedTuple):
    """Now is a moment to start what is ready and fits."""


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


class PauseRequested(NamedTuple):
    """Nothing more is to be started until further notice; what runs goes on."""


class ResumeRequested(NamedTuple):
    """A pause is over."""


Event = (
    AllocationLearned
    | ChoreAdded
    | SpecRejected
    | StartsConsidered
    | ChoreSubmitted
    | ChorePlaced
    | ChoreStarted
    | ChoreFinished
    | ResourcesFreed
    | CancelRequested
    | InterruptRequested
    | PauseRequested
    | ResumeRequested
)
