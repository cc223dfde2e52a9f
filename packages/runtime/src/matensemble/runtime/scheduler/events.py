"""Facts that change the state: past-tense nouns.

Executors post most of them themselves; the engine makes the others. Nothing here is optional
context: each field is used by the transition that the event causes.
"""

from __future__ import annotations

from dataclasses import dataclass

from matensemble.chore import Chore
from matensemble.model import Reason
from matensemble.runtime.scheduler.resources import Allocation, Placement


@dataclass(frozen=True, slots=True)
class AllocationLearned:
    """The nodes that chores may use are known; comes first, and once."""

    allocation: Allocation


@dataclass(frozen=True, slots=True)
class ChoreAdded:
    """A chore joined the graph; its dependencies are known, in whatever state."""

    chore: Chore
    parent: str | None = None
    """The strategy chore that asked for it, None for one of the saved pipeline."""


@dataclass(frozen=True, slots=True)
class SpecRejected:
    """A strategy asked for a chore that cannot exist; it becomes a failed chore at once."""

    chore: Chore
    parent: str
    detail: str
    reason: Reason = Reason.INVALID_SPEC


@dataclass(frozen=True, slots=True)
class StartsConsidered:
    """Now is a moment to start what is ready and fits."""


@dataclass(frozen=True, slots=True)
class ChoreSubmitted:
    """The executor took a chore."""

    chore_id: str
    attempt: int
    jobid: str


@dataclass(frozen=True, slots=True)
class ChorePlaced:
    """The executor gave a chore its nodes, which may differ from what was predicted."""

    chore_id: str
    attempt: int
    placement: Placement


@dataclass(frozen=True, slots=True)
class ChoreStarted:
    """The processes of a chore run."""

    chore_id: str
    attempt: int
    host: str = ""


@dataclass(frozen=True, slots=True)
class ChoreFinished:
    """An attempt has ended and its outcome is settled; its resources are still held."""

    chore_id: str
    attempt: int
    reason: Reason | None
    """None: it completed."""
    exit_code: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ResourcesFreed:
    """The resources of an ended attempt are back."""

    chore_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Chores are to be cancelled; None means all that have not ended."""

    chore_ids: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class InterruptRequested:
    """The run is to stop: nothing starts any more, what runs is ended and will run again."""

    cause: str


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """Nothing more is to be started until further notice; what runs goes on."""


@dataclass(frozen=True, slots=True)
class ResumeRequested:
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
