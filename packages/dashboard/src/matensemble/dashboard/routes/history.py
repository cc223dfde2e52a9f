"""What happened to a run as a whole: opened, paused, asked for something, closed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, NonNegativeInt, PositiveInt

from matensemble.dashboard.index.feed import Indexes
from matensemble.dashboard.index.history import MAX_EVENTS, read_events
from matensemble.dashboard.schemas import FreshnessResponse


class RunEventResponse(BaseModel):
    """Something that happened to the run."""

    number: PositiveInt
    """Place in the history, from 1."""
    at: float
    """Seconds since the Unix epoch, by the clock of the driver."""
    epoch: NonNegativeInt
    """Of the driver, from 1: it grows whenever the run is resumed or taken over."""
    kind: str
    text: str
    """One line for people."""


class HistoryResponse(BaseModel):
    """Some of what happened, newest first."""

    events: list[RunEventResponse]
    total: NonNegativeInt
    """How many there are on all pages."""
    next: PositiveInt | None
    """What to ask for as `cursor` to get those before; None at the beginning of the run."""
    freshness: FreshnessResponse


def history_routes(indexes: Indexes) -> APIRouter:
    """Return the route about the history of a run."""
    router = APIRouter(prefix="/runs/{run_id}")

    @router.get(
        "/history",
        operation_id="listHistory",
        summary="What happened to the run as a whole, newest first",
    )
    def list_history(
        run_id: str,
        cursor: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = 100,
    ) -> HistoryResponse:
        with indexes.open(run_id) as (database, freshness):
            page = read_events(database, before=cursor, limit=limit)
        return HistoryResponse(
            events=[RunEventResponse(**dict(row)) for row in page.rows],
            total=page.total,
            next=page.next,
            freshness=FreshnessResponse.of(freshness),
        )

    return router
