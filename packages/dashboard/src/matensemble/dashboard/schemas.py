"""What the interface answers, as the schema that the page's types are made from.

Owns names and types only; what each field means is said once, in `matensemble.status`. Fields of a
later version pass through, so that an older dashboard loses nothing of a newer run.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
)

from matensemble.dashboard.index.feed import Freshness
from matensemble.model import ChoreState, Reason, RunState

Number = Annotated[int, Field(ge=0, lt=2**53)]
"""Of a size that a page can count to."""


class _StatusPart(BaseModel):
    # Defaults are for files of an older version; in an answer no field is missing.
    model_config = ConfigDict(
        extra="allow", frozen=True, json_schema_serialization_defaults_required=True
    )


class CountsResponse(_StatusPart):
    """How many chores stand where (`matensemble.status.Counts`)."""

    total: Number = 0
    pending: Number = 0
    running: Number = 0
    completed: Number = 0
    failed: Number = 0
    cancelled: Number = 0


class RootFailureResponse(_StatusPart):
    """A failure that is not the consequence of another (`matensemble.status.RootFailure`)."""

    chore_id: str
    reason: str
    exit_code: int | None = None
    detail: str = ""


class RunStatusResponse(_StatusPart):
    """Content of `status.json` (`matensemble.status.RunStatus`)."""

    format: int
    run: str
    state: RunState
    sequence: Number = 0
    epoch: Number = 1
    beat: Number = 0
    counts: CountsResponse
    groups: dict[str, CountsResponse]
    executor: str = ""
    num_nodes: Number = 0
    total_cores: Number = 0
    free_cores: Number = 0
    total_gpus: Number = 0
    free_gpus: Number = 0
    rate: float = Field(0.0, ge=0, allow_inf_nan=False)
    root_failures: list[RootFailureResponse]
    num_root_failures: Number = 0
    host: str = ""
    pid: int = 0
    started_at: str | None = None
    updated_at: str | None = None
    ended_at: str | None = None
    ends_at: str | None = None
    detail: str = ""


class RunHealth(StrEnum):
    """What can be said of the driver of a run."""

    ALIVE = "alive"
    """It works, as far as its files tell."""
    ENDED = "ended"
    """The run is over; interrupted ones can be resumed."""
    LOST = "lost"
    """The run is not over, and its driver seems gone; `problem` says why."""
    COMING = "coming"
    """A new driver has taken it over and has published nothing yet."""
    WAITING = "waiting"
    """It was not started yet."""
    UNREADABLE = "unreadable"
    """Its files cannot be read; `problem` says why."""
    UNKNOWN = "unknown"
    """It was not looked at yet: the disk is asked a few times a second only."""


class RunResponse(BaseModel):
    """One run."""

    id: str
    """Name of its directory, by which everything of it is asked for."""
    health: RunHealth
    problem: str
    """Why it is lost or unreadable; empty otherwise."""
    status: RunStatusResponse | None
    """What was published last; None where nothing was, or it cannot be read."""
    last_sign_at: str | None
    """When its driver published last, or took it over (ISO 8601, UTC); None where none ever did."""
    advice: str
    """What can be done with a run that stands still, in a few words; empty where it goes on."""
    command: str | None
    """The command that does it, ready to be copied into a shell."""
    progress: float | None = Field(ge=0, le=1)
    """Share of the chores known so far that ended, in whatever way; None where there is none."""
    elapsed_seconds: NonNegativeFloat | None
    """From the start of its present or last driver to its end, its last word, or now."""
    eta_seconds: NonNegativeFloat | None
    """How long the chores known so far will take at the present rate; None where nothing tells."""
    node_hours: NonNegativeFloat | None
    """`elapsed_seconds` times the nodes that the driver has now, or had last."""


class RunListResponse(BaseModel):
    """The newest runs."""

    runs: list[RunResponse]
    total: NonNegativeInt
    """How many there are, of which the newest are listed."""


class FreshnessResponse(BaseModel):
    """How well an answer stands for the run: it is from an index that follows the journal."""

    is_complete: bool
    """Whether it holds all that was there a second ago."""
    share: float = Field(ge=0, le=1)
    """How much of the run it holds."""
    problem: str
    """Why it goes no further; empty where nothing is in the way."""

    @classmethod
    def of(cls, freshness: Freshness) -> Self:
        """Return what is said of an index."""
        return cls(**freshness._asdict())


class ChoreRow(BaseModel):
    """A chore in a table."""

    id: str
    name: str
    """Its group."""
    kind: str
    state: ChoreState
    """`blocked` also for what is ready: the journal does not tell these apart."""
    attempt: NonNegativeInt
    """Latest attempt, from 1; 0 before the first."""
    reason: Reason | None
    exit_code: int | None
    detail: str
    root: str | None
    """Of one that was skipped: the failure it is a consequence of."""
    host: str
    """Where its latest attempt runs or ran; empty where that is not known."""
    submitted_at: NonNegativeFloat | None
    """Seconds since the Unix epoch, like the other instants; of the latest attempt."""
    started_at: NonNegativeFloat | None
    ended_at: NonNegativeFloat | None
    seconds: NonNegativeFloat | None
    """From start to end, by the driver's monotonic clock; None where one of them is missing."""


class ChorePageResponse(BaseModel):
    """Some chores of those that were asked for."""

    chores: list[ChoreRow]
    total: NonNegativeInt
    """How many there are of those that were asked for, on all pages."""
    next: str | None
    """What to ask for as `cursor` to get those behind; None at the end."""
    freshness: FreshnessResponse


class AttemptResponse(BaseModel):
    """One attempt of a chore."""

    attempt: NonNegativeInt
    reason: Reason | None
    exit_code: int | None
    detail: str
    host: str
    jobid: str | None
    is_pooled: bool
    """Whether it went to a warm worker; else it was a job of its own."""
    submitted_at: NonNegativeFloat | None
    started_at: NonNegativeFloat | None
    ended_at: NonNegativeFloat | None
    seconds: NonNegativeFloat | None


class ChoreResponse(BaseModel):
    """All that is known of one chore without looking at its files."""

    chore: ChoreRow
    attempts: list[AttemptResponse]
    """All attempts, the first first; the newest `MAX_ATTEMPTS` of very many."""
    upstream: list[str]
    """Ids of chores that must complete first; the first `MAX_UPSTREAM` of very many."""
    num_upstream: NonNegativeInt
    gathers: list[str]
    """Groups whose results it collects."""
    command: list[str]
    """Of an executable: the program and its arguments, shortened."""
    callable: str
    """Of a Python chore: name of the function; empty for an executable."""
    arguments_bytes: NonNegativeInt | None
    """Size of its frozen arguments, which only a program that loads pickles can show; None: it has
    none."""
    environment_names: list[str] | None
    """Names of the variables that it sets, the first `MAX_ENVIRONMENT_NAMES`; None where nothing
    tells them."""
    resources: dict[str, int | float | bool | str]
    """What it asked for when it was recorded; what has its default is left out."""
    nice: int
    freshness: FreshnessResponse


class GroupResponse(BaseModel):
    """All chores of one name."""

    name: str
    total: NonNegativeInt
    states: dict[ChoreState, PositiveInt]
    """How many stand where; states of none are left out."""


class ListedGroupResponse(GroupResponse):
    """A group, and what ran its chores."""

    num_pooled: NonNegativeInt
    """Attempts of its chores that went to warm workers."""
    num_jobs: NonNegativeInt
    """Attempts of its chores that were jobs of their own."""


class GroupsResponse(BaseModel):
    """The groups of a run, those with most chores first."""

    groups: list[ListedGroupResponse]
    total: NonNegativeInt
    """How many groups there are, of which the first are listed."""
    num_pooled: NonNegativeInt
    """Attempts that went to warm workers, of all groups; so is the next."""
    num_jobs: NonNegativeInt
    """Attempts that were jobs of their own."""
    freshness: FreshnessResponse


class DurationsResponse(BaseModel):
    """How long the chores of a group ran, by their latest attempts, however these ended."""

    count: NonNegativeInt
    """Chores that ran and ended; what follows is None where there are none."""
    total: NonNegativeFloat | None
    """Seconds, like the others."""
    median: NonNegativeFloat | None
    """Half of them ran so long or less."""
    p95: NonNegativeFloat | None
    """19 of 20 ran so long or less."""
    max: NonNegativeFloat | None


class FailureClusterResponse(BaseModel):
    """Failures that have reason and wording in common."""

    id: PositiveInt
    """What to ask for as `cluster` to get its chores."""
    reason: Reason
    pattern: str
    """What their details have in common; … stands for numbers, paths and quoted text."""
    failed: NonNegativeInt
    """Chores that failed like this."""
    skipped: NonNegativeInt
    """Chores that did not run because one of these failed."""
    sample: ChoreRow
    """The first of them."""


class FailuresResponse(BaseModel):
    """The failures of a run by their cause, those with most chores first."""

    clusters: list[FailureClusterResponse]
    """The first `MAX_CLUSTERS` of very many."""
    num_clusters: NonNegativeInt
    """How many there are, those that are not listed included; so are the next two."""
    num_failed: NonNegativeInt
    """Chores that failed by themselves."""
    num_skipped: NonNegativeInt
    """Chores that did not run because of these."""
    freshness: FreshnessResponse


class Problem(BaseModel):
    """Why there is no other answer."""

    title: str
    """A few words, the same for every problem of the kind."""
    detail: str
    """What happened here and what to do."""
