"""What the interface answers, as the schema that the page's types are made from.

Owns names and types only; what each field means is said once, in `matensemble.status`. Fields of a
later version pass through, so that an older dashboard loses nothing of a newer run.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt

from matensemble.model import RunState


class _StatusPart(BaseModel):
    # Defaults are for files of an older version; in an answer no field is missing.
    model_config = ConfigDict(
        extra="allow", frozen=True, json_schema_serialization_defaults_required=True
    )


class CountsResponse(_StatusPart):
    """How many chores stand where (`matensemble.status.Counts`)."""

    total: NonNegativeInt = 0
    pending: NonNegativeInt = 0
    running: NonNegativeInt = 0
    completed: NonNegativeInt = 0
    failed: NonNegativeInt = 0
    cancelled: NonNegativeInt = 0


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
    sequence: NonNegativeInt = 0
    epoch: NonNegativeInt = 1
    beat: NonNegativeInt = 0
    counts: CountsResponse
    groups: dict[str, CountsResponse]
    executor: str = ""
    num_nodes: NonNegativeInt = 0
    total_cores: NonNegativeInt = 0
    free_cores: NonNegativeInt = 0
    total_gpus: NonNegativeInt = 0
    free_gpus: NonNegativeInt = 0
    rate: NonNegativeFloat = 0.0
    root_failures: list[RootFailureResponse]
    num_root_failures: NonNegativeInt = 0
    host: str = ""
    pid: int = 0
    started_at: str | None = None
    updated_at: str | None = None
    ended_at: str | None = None
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
    problem: str = ""
    """Why it is lost or unreadable; empty otherwise."""
    status: RunStatusResponse | None = None
    """What was published last; None where nothing was, or it cannot be read."""


class RunListResponse(BaseModel):
    """The newest runs."""

    runs: list[RunResponse]
    total: NonNegativeInt
    """How many there are, of which the newest are listed."""


class Problem(BaseModel):
    """Why there is no other answer."""

    title: str
    """A few words, the same for every problem of the kind."""
    detail: str
    """What happened here and what to do."""
