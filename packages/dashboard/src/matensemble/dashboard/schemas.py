"""What the interface answers, as the schema that the page's types are made from.

Owns names and types only; what each field means is said once, in `matensemble.status`. Fields of a
later version pass through, so that an older dashboard loses nothing of a newer run.
"""

from __future__ import annotations

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


class Problem(BaseModel):
    """Why there is no other answer."""

    title: str
    """A few words, the same for every problem of the kind."""
    detail: str
    """What happened here and what to do."""
