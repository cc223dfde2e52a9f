"""For what the blocked chores of a run wait: for other groups, for room, or for somebody.

Shapes the answer from the index and from what the driver published last.
"""

from __future__ import annotations

from enum import StrEnum

from fastapi import APIRouter
from pydantic import BaseModel, NonNegativeInt, PositiveInt

from matensemble.dashboard.catalog import Catalog
from matensemble.dashboard.index.feed import Indexes
from matensemble.dashboard.index.waiting import BlockedGroup, read_blocked
from matensemble.dashboard.schemas import FreshnessResponse, RunHealth, RunResponse
from matensemble.dashboard.summary import describe_run
from matensemble.model import RunState


class Obstacle(StrEnum):
    """Why nothing of a run starts, whatever it waits for."""

    PAUSED = "paused"
    """Somebody paused it."""
    DRAINING = "draining"
    """It ends what runs and starts nothing more."""
    DEGRADED = "degraded"
    """Its files cannot be written."""
    ENDED = "ended"
    """It is over; resumed, it goes on."""
    NO_DRIVER = "no_driver"
    """Its driver is gone, is not there yet, or was not started."""


class UpstreamGroupResponse(BaseModel):
    """A group that must end first."""

    name: str
    """May be the waiting group itself, whose chores then wait for each other."""
    num_left: PositiveInt
    """Chores that have not ended."""
    num_running: NonNegativeInt


class WaitingGroupResponse(BaseModel):
    """A group with chores that are blocked."""

    name: str
    num_blocked: PositiveInt
    """Chores that wait for others, or for room: the journal does not tell these apart."""
    upstream: list[UpstreamGroupResponse]
    """What they wait for, most left first; of no group: they wait for room only."""
    num_upstream_left_out: NonNegativeInt
    waits_for_room: bool
    """Whether one of the first of them waits for no other chore, but for cores, GPUs or time."""


class WaitingResponse(BaseModel):
    """What a run waits for."""

    obstacle: Obstacle | None
    """In the way of everything; None: what can start does."""
    detail: str
    """What the driver says of its state; often empty."""
    num_blocked: NonNegativeInt
    groups: list[WaitingGroupResponse]
    """Those with most blocked chores first."""
    num_left_out: NonNegativeInt
    """Groups with blocked chores that are not listed."""
    total_cores: NonNegativeInt | None
    """As published last; None where nothing was."""
    free_cores: NonNegativeInt | None
    total_gpus: NonNegativeInt | None
    free_gpus: NonNegativeInt | None
    freshness: FreshnessResponse


_BY_STATE = {
    RunState.PAUSED: Obstacle.PAUSED,
    RunState.DRAINING: Obstacle.DRAINING,
    RunState.DEGRADED: Obstacle.DEGRADED,
}


def waiting_routes(catalog: Catalog, indexes: Indexes) -> APIRouter:
    """Return the route about what a run waits for."""
    router = APIRouter(prefix="/runs/{run_id}")

    @router.get("/waiting", operation_id="readWaiting", summary="What blocked chores wait for")
    def read_waiting(run_id: str) -> WaitingResponse:
        run = describe_run(catalog.look(run_id), catalog.place(run_id))
        with indexes.open(run_id) as (database, freshness):
            blocked = read_blocked(database)
        status = run.status
        return WaitingResponse(
            obstacle=_obstacle(run),
            detail=status.detail if status else "",
            num_blocked=blocked.num_chores,
            groups=[_shape(group) for group in blocked.groups],
            num_left_out=blocked.num_groups - len(blocked.groups),
            total_cores=status.total_cores if status else None,
            free_cores=status.free_cores if status else None,
            total_gpus=status.total_gpus if status else None,
            free_gpus=status.free_gpus if status else None,
            freshness=FreshnessResponse.of(freshness),
        )

    return router


def _obstacle(run: RunResponse) -> Obstacle | None:
    match run.health:
        case RunHealth.ALIVE if run.status is not None:
            return _BY_STATE.get(run.status.state)
        case RunHealth.ENDED:
            return Obstacle.ENDED
        case RunHealth.LOST | RunHealth.COMING | RunHealth.WAITING:
            return Obstacle.NO_DRIVER
        case _:
            return None


def _shape(group: BlockedGroup) -> WaitingGroupResponse:
    return WaitingGroupResponse(
        name=group.name,
        num_blocked=group.num_blocked,
        upstream=[UpstreamGroupResponse(**one._asdict()) for one in group.upstream],
        num_upstream_left_out=group.num_upstream_left_out,
        waits_for_room=group.has_ready,
    )
