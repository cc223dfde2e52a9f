"""The chores next to one: those that it depends on, and those that depend on it, in pages."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import NonNegativeInt

from matensemble.dashboard.index.chores import MAX_LIMIT, find_chore
from matensemble.dashboard.index.feed import Indexes
from matensemble.dashboard.index.relatives import read_gathered, read_relatives
from matensemble.dashboard.routes.parameters import ChoreId, RunId
from matensemble.dashboard.schemas import (
    ChorePageResponse,
    ChoreRow,
    FreshnessResponse,
    GroupResponse,
)
from matensemble.errors import RunDirectoryError
from matensemble.model import ChoreState

MAX_GATHERED = 500


class RelativesResponse(ChorePageResponse):
    """Some of the chores next to one, in the order of their admission."""

    groups: list[GroupResponse]
    """Whole groups that it gathers, whose chores are not among these; none downstream."""
    num_groups_left_out: NonNegativeInt
    """Groups that it gathers and that are not listed."""


Cursor = Annotated[str, Query(pattern=r"^[0-9]{1,12}$", description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]


def relative_routes(indexes: Indexes) -> APIRouter:
    """Return the routes about what is next to a chore."""
    router = APIRouter(prefix="/runs/{run_id}/chores/{chore_id}")

    @router.get("/upstream", operation_id="listUpstream", summary="What a chore depends on")
    def list_upstream(
        run_id: RunId, chore_id: ChoreId, cursor: Cursor = "0", limit: Limit = 100
    ) -> RelativesResponse:
        return _page(indexes, run_id, chore_id, cursor, limit, is_up=True)

    @router.get("/downstream", operation_id="listDownstream", summary="What depends on a chore")
    def list_downstream(
        run_id: RunId, chore_id: ChoreId, cursor: Cursor = "0", limit: Limit = 100
    ) -> RelativesResponse:
        return _page(indexes, run_id, chore_id, cursor, limit, is_up=False)

    return router


def _page(
    indexes: Indexes, run_id: str, chore_id: str, cursor: str, limit: int, *, is_up: bool
) -> RelativesResponse:
    with indexes.open(run_id) as (database, freshness):
        chore = find_chore(database, chore_id)
        if chore is None:
            raise RunDirectoryError(run_id, "has no chore of that id")
        page = read_relatives(database, chore, is_up=is_up, after=int(cursor), limit=limit)
        gathered: dict[str, dict[str, int]] = {}
        num_gathered = 0
        if is_up:
            gathered, num_gathered = read_gathered(database, chore["number"], MAX_GATHERED)
    return RelativesResponse(
        chores=[ChoreRow(**dict(row)) for row in page.rows],
        total=page.total,
        next=None if page.next is None else str(page.next),
        groups=[
            GroupResponse(
                name=name,
                total=sum(states.values()),
                states={ChoreState(state): count for state, count in states.items()},
            )
            for name, states in gathered.items()
        ],
        num_groups_left_out=num_gathered - len(gathered),
        freshness=FreshnessResponse.of(freshness),
    )
