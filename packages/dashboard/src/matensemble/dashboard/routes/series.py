"""What happened in a run over time, and how much of what it has was busy."""

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
from matensemble.dashboard.index.bins import bins_of, gaps_of
from matensemble.dashboard.index.feed import Indexes
from matensemble.dashboard.index.series import count_moments, integrate_load, integrate_room
from matensemble.dashboard.schemas import FreshnessResponse

MAX_SERIES_BINS = 1_000


class SeriesResponse(BaseModel):
    """Columns with one entry a bin. Bins tile the window and may reach beyond it at both ends."""

    run: ExtentResponse
    """How far one can zoom out."""
    start: NonNegativeInt
    """Beginning of the first bin, seconds since the Unix epoch."""
    end: NonNegativeInt
    """End of the last one."""
    bin_seconds: PositiveInt
    at: list[NonNegativeInt]
    """Where each bin begins."""
    seconds: list[NonNegativeInt]
    """How much of each lies within the run. Means are over this; 0 where there is none."""
    submitted: list[NonNegativeInt]
    started: list[NonNegativeInt]
    completed: list[NonNegativeInt]
    failed: list[NonNegativeInt]
    cancelled: list[NonNegativeInt]
    skipped: list[NonNegativeInt]
    """Chores that did not run because another failed."""
    requeued: list[NonNegativeInt]
    """Attempts that ended without ending their chore."""
    running: list[NonNegativeFloat]
    """Attempts that ran, in the mean."""
    cores_busy: list[NonNegativeFloat]
    gpus_busy: list[NonNegativeFloat]
    total_nodes: list[NonNegativeFloat]
    """What the run had, in the mean; nothing while nobody watched it."""
    total_cores: list[NonNegativeFloat]
    total_gpus: list[NonNegativeFloat]
    freshness: FreshnessResponse


def series_routes(catalog: Catalog, indexes: Indexes) -> APIRouter:
    """Return the route about what happened over time."""
    router = APIRouter(prefix="/runs/{run_id}")

    @router.get(
        "/series",
        operation_id="readSeries",
        summary="Events, and cores and GPUs busy, over time",
    )
    def read_series(
        run_id: str,
        bins: Annotated[
            int, Query(ge=10, le=MAX_SERIES_BINS, description="How many there may be at most")
        ] = 300,
        start: Instant = None,
        end: Instant = None,
    ) -> SeriesResponse:
        with indexes.open(run_id) as (database, freshness):
            extent = find_extent(database, catalog, run_id)
            grid = bins_of(choose_window(extent, start, end), bins)
            edges, gaps = grid.edges(), gaps_of(database)
            counts = count_moments(database, grid)
            loads = integrate_load(database, edges, gaps, extent.end)
            rooms = integrate_room(database, edges, gaps, extent.end)
        covered = grid.covered(extent.window)
        means = [1 / seconds if seconds else 0.0 for seconds in covered]
        return SeriesResponse(
            run=extent,
            start=grid.start,
            end=grid.end,
            bin_seconds=grid.seconds,
            at=edges[:-1],
            seconds=covered,
            **counts,
            running=[load.running * mean for load, mean in zip(loads, means, strict=True)],
            cores_busy=[load.cores * mean for load, mean in zip(loads, means, strict=True)],
            gpus_busy=[load.gpus * mean for load, mean in zip(loads, means, strict=True)],
            total_nodes=[room.nodes * mean for room, mean in zip(rooms, means, strict=True)],
            total_cores=[room.cores * mean for room, mean in zip(rooms, means, strict=True)],
            total_gpus=[room.gpus * mean for room, mean in zip(rooms, means, strict=True)],
            freshness=FreshnessResponse.of(freshness),
        )

    return router
