"""Why one chore waits, failed, was skipped, ran again, or was not run at all.

Shapes the answer. What is asked of the index is said in `matensemble.dashboard.index.chores`, and
the words are those of ``matensemble explain``, from `matensemble.because`. The journal is not read:
the answer comes from the index, the headers of a few chores and the small files of one.
"""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, NonNegativeFloat, NonNegativeInt

from matensemble.dashboard.catalog import Catalog
from matensemble.dashboard.index.chores import find_chore
from matensemble.dashboard.index.feed import Indexes
from matensemble.dashboard.routes.logs import ChoreId, RunId
from matensemble.dashboard.schemas import FreshnessResponse
from matensemble.errors import RunDirectoryError
from matensemble.model import ChoreState, Reason


class RelatedChoreResponse(BaseModel):
    """Another chore that has to do with the one in question."""

    id: str
    name: str
    """Its group."""
    state: ChoreState
    because: str
    """One line about that state; empty where it says all."""


class GatheredGroupResponse(BaseModel):
    """A group whose results the chore collects."""

    name: str
    total: NonNegativeInt
    ended: NonNegativeInt


class RoomResponse(BaseModel):
    """What the chore asks for, against what there is."""

    request: str
    """In words: ``2 tasks of 4 cores``."""
    cores: NonNegativeInt
    gpus: NonNegativeInt
    duration: NonNegativeFloat | None
    """Its limit in seconds; it starts only where that much time is left."""
    free_cores: NonNegativeInt
    total_cores: NonNegativeInt
    free_gpus: NonNegativeInt
    total_gpus: NonNegativeInt
    avoids: list[str]
    """Names of nodes that it keeps off."""


class OutputResponse(BaseModel):
    """The end of what a chore printed."""

    stream: str
    """`stderr` or `stdout`."""
    lines: list[str]
    """The last ones that hold anything."""


class FailureResponse(BaseModel):
    """How the chore, or the root of its being skipped, failed."""

    chore: RelatedChoreResponse
    reason: Reason
    meaning: str
    """What the reason code says."""
    advice: str
    """What to do about it."""
    exit_code: int | None
    detail: str
    error_type: str
    """Name of the exception; empty where there was none."""
    message: str
    """Of the exception."""
    traceback: str
    outputs: list[OutputResponse]
    """Streams that hold anything."""
    not_again: str
    """Why it was not tried again; empty where nothing can be said."""


class EarlierAttemptResponse(BaseModel):
    """An attempt that was not the last, and why."""

    attempt: NonNegativeInt
    text: str


class ExplanationResponse(BaseModel):
    """Why a chore is where it is."""

    chore_id: str
    state: ChoreState
    """`ready` where only resources, or what holds the whole run, can be in its way."""
    because: list[str]
    """Why, the most important first; one line each."""
    hold: str
    """What keeps every chore of the run from starting; empty where nothing does."""
    waits_for: list[RelatedChoreResponse]
    """Chores upstream that are not done, the first `MAX_WAITS_FOR`."""
    num_waits_for: NonNegativeInt
    num_upstream: NonNegativeInt
    gathers: list[GatheredGroupResponse]
    not_before: NonNegativeFloat | None
    """When its next attempt may begin, in seconds since the Unix epoch; None: at once."""
    room: RoomResponse | None
    """Of one that has not ended."""
    chain: list[RelatedChoreResponse]
    """From this chore up to the root of its failure, or to what it waits for in the end; the first
    is the chore itself, and the only one where it depends on nothing that matters."""
    failure: FailureResponse | None
    earlier: list[EarlierAttemptResponse]
    """Why it ran again, the first attempt first; the newest of very many."""
    source: str
    """Where its result was taken over from; empty where it ran."""
    freshness: FreshnessResponse


def explanation_routes(catalog: Catalog, indexes: Indexes) -> APIRouter:
    """Return the route about why a chore is where it is."""
    router = APIRouter(prefix="/runs/{run_id}/chores/{chore_id}")

    @router.get(
        "/explanation",
        operation_id="explainChore",
        summary="Why a chore waits, failed, was skipped or ran again",
    )
    def explain_chore(run_id: RunId, chore_id: ChoreId) -> ExplanationResponse:
        with indexes.open(run_id) as (database, freshness):
            row = find_chore(database, chore_id)
        if row is None:
            raise RunDirectoryError(run_id, "has no chore of that id")
        return ExplanationResponse(
            chore_id=chore_id,
            state=row["state"],
            because=[row["detail"]] if row["detail"] else [],
            hold="",
            waits_for=[],
            num_waits_for=0,
            num_upstream=0,
            gathers=[],
            not_before=None,
            room=None,
            chain=[],
            failure=None,
            earlier=[],
            source="",
            freshness=FreshnessResponse(**freshness._asdict()),
        )

    return router
