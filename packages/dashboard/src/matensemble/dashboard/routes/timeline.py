"""What ran where and when: attempts as bars, or how many ran where bars would be too many."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, NonNegativeFloat, NonNegativeInt, PositiveInt

from matensemble.dashboard.catalog import Catalog
from matensemble.dashboard.extent import (
    ExtentResponse,
    Instant,
    choose_window,
    find_extent,
)
from matensemble.dashboard.index.bins import MAX_BINS, gaps_of
from matensemble.dashboard.index.feed import Indexes
from matensemble.dashboard.index.timeline import Axis, Lane, TimelineMode, read_timeline
from matensemble.dashboard.schemas import FreshnessResponse
from matensemble.model import ChoreState, Reason

MAX_LANES = 100


class BarResponse(BaseModel):
    """One attempt that ran within the window, also where it began before or ended behind it."""

    id: str
    """Of its chore."""
    name: str
    """Group of its chore."""
    host: str
    """Where it ran; empty where that is not known."""
    attempt: PositiveInt
    state: ChoreState
    """What became of it: `running`, `completed`, `failed` or `cancelled`."""
    reason: Reason | None
    started_at: NonNegativeFloat
    """Seconds since the Unix epoch."""
    ended_at: NonNegativeFloat | None
    """None while it runs."""
    row: NonNegativeInt
    """Place within its lane, from 0: bars of one row do not overlap."""


class LaneResponse(BaseModel):
    """One host or one group."""

    name: str
    """Of the host, empty for what ran nobody knows where; or of the group."""
    num_rows: NonNegativeInt
    """Of its bars; 0 where there are none."""
    bars: list[BarResponse]
    """By their start; empty in occupancy mode."""
    running: list[NonNegativeFloat]
    """Attempts that ran, in the mean over each bin; empty in bars mode."""
    failed: list[NonNegativeInt]
    """Attempts that failed, one number a bin; empty in bars mode."""


class TimelineResponse(BaseModel):
    """Some lanes of the run in a window of time."""

    run: ExtentResponse
    """How far one can zoom out."""
    by: Axis
    mode: TimelineMode
    start: NonNegativeInt
    """The window, seconds since the Unix epoch; in occupancy mode widened to whole bins."""
    end: NonNegativeInt
    bin_seconds: PositiveInt | None
    """None in bars mode."""
    at: list[NonNegativeInt]
    """Where each bin begins; empty in bars mode."""
    lanes: list[LaneResponse]
    """Hosts by name, groups in the order of the workflow; also those with nothing in the window, so
    that lanes stay where they are while one zooms."""
    lane_offset: NonNegativeInt
    """Lanes that stand before these."""
    num_lanes: NonNegativeInt
    """How many there are."""
    num_bars: NonNegativeInt
    """Attempts that ran within the window, on all lanes; about so many in occupancy mode."""
    freshness: FreshnessResponse


def timeline_routes(catalog: Catalog, indexes: Indexes) -> APIRouter:
    """Return the route about what ran where and when."""
    router = APIRouter(prefix="/runs/{run_id}")

    @router.get(
        "/timeline",
        operation_id="readTimeline",
        summary="Attempts over time, by host or group; how many ran where they are too many",
    )
    def read_timeline_of_run(
        run_id: str,
        by: Axis = Axis.HOST,
        start: Instant = None,
        end: Instant = None,
        lane_offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
        lanes: Annotated[int, Query(ge=1, le=MAX_LANES)] = 50,
        bins: Annotated[
            int, Query(ge=50, le=MAX_BINS, description="How many there may be at most")
        ] = 500,
    ) -> TimelineResponse:
        with indexes.open(run_id) as (database, freshness):
            extent = find_extent(database, catalog, run_id)
            timeline = read_timeline(
                database,
                by,
                choose_window(extent, start, end),
                first_lane=lane_offset,
                num_lanes=lanes,
                max_bins=bins,
                gaps=gaps_of(database),
                extent=extent.window,
            )
        grid = timeline.bins
        return TimelineResponse(
            run=extent,
            by=by,
            mode=timeline.mode,
            start=timeline.window.start,
            end=timeline.window.end,
            bin_seconds=None if grid is None else grid.seconds,
            at=[] if grid is None else grid.edges()[:-1],
            lanes=[_describe(lane) for lane in timeline.lanes],
            lane_offset=lane_offset,
            num_lanes=timeline.num_lanes,
            num_bars=timeline.num_bars,
            freshness=FreshnessResponse.of(freshness),
        )

    return router


def _describe(lane: Lane) -> LaneResponse:
    return LaneResponse(
        name=lane.name,
        num_rows=lane.num_rows,
        bars=[BarResponse(**bar._asdict()) for bar in lane.bars],
        running=list(lane.running),
        failed=list(lane.failed),
    )
