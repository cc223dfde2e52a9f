"""How much of what a run had it used: in all, by host, and by group."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter
from pydantic import BaseModel, NonNegativeFloat, NonNegativeInt

from matensemble.dashboard.catalog import Catalog
from matensemble.dashboard.extent import ExtentResponse, find_extent
from matensemble.dashboard.index.bins import gaps_of
from matensemble.dashboard.index.durations import read_durations
from matensemble.dashboard.index.feed import Indexes
from matensemble.dashboard.index.series import integrate_load, integrate_room
from matensemble.dashboard.index.timeline import Axis
from matensemble.dashboard.index.utilisation import LaneUse, count_lanes, read_use
from matensemble.dashboard.schemas import DurationsResponse, FreshnessResponse


class LaneUseResponse(BaseModel):
    """What was used on one host, or by one group."""

    name: str
    """Empty for what ran nobody knows where."""
    running: NonNegativeInt
    """Attempts that run now."""
    cores_busy: NonNegativeInt
    """Now."""
    gpus_busy: NonNegativeInt
    completed: NonNegativeInt
    """Attempts that ran and ended well."""
    failed: NonNegativeInt
    """Attempts that ran and ended badly."""
    core_seconds: NonNegativeFloat
    """Cores times the seconds that they were busy, of all attempts so far."""
    gpu_seconds: NonNegativeFloat


class GroupUseResponse(LaneUseResponse):
    """What one group used, and how long its chores ran."""

    durations: DurationsResponse


class UtilisationResponse(BaseModel):
    """What the run used and what it had, from its beginning until now."""

    run: ExtentResponse
    core_seconds: NonNegativeFloat
    """Cores times the seconds that they were busy."""
    gpu_seconds: NonNegativeFloat
    total_node_seconds: NonNegativeFloat
    """What the run had, times seconds, without the time between its drivers."""
    total_core_seconds: NonNegativeFloat
    total_gpu_seconds: NonNegativeFloat
    hosts: list[LaneUseResponse]
    """Those that did most first; the first `MAX_LANES`."""
    num_hosts: NonNegativeInt
    groups: list[GroupUseResponse]
    """Those that did most first; the first `MAX_LANES`."""
    num_groups: NonNegativeInt
    freshness: FreshnessResponse


def utilisation_routes(catalog: Catalog, indexes: Indexes) -> APIRouter:
    """Return the route about what was used."""
    router = APIRouter(prefix="/runs/{run_id}")

    @router.get(
        "/utilisation",
        operation_id="readUtilisation",
        summary="Core- and GPU-seconds used and available, by host and by group",
    )
    def read_utilisation(run_id: str) -> UtilisationResponse:
        with indexes.open(run_id) as (database, freshness):
            extent = find_extent(database, catalog, run_id)
            gaps, edges = gaps_of(database), [extent.start, extent.end]
            (load,) = integrate_load(database, edges, gaps, extent.end)
            (room,) = integrate_room(database, edges, gaps, extent.end)
            hosts = read_use(database, Axis.HOST, gaps, extent.end)
            groups = [
                GroupUseResponse(
                    **use._asdict(),
                    durations=DurationsResponse(**asdict(read_durations(database, use.name))),
                )
                for use in read_use(database, Axis.GROUP, gaps, extent.end)
            ]
            num_hosts, num_groups = (count_lanes(database, axis) for axis in Axis)
        return UtilisationResponse(
            run=extent,
            core_seconds=load.cores,
            gpu_seconds=load.gpus,
            total_node_seconds=room.nodes,
            total_core_seconds=room.cores,
            total_gpu_seconds=room.gpus,
            hosts=[_describe(use) for use in hosts],
            num_hosts=num_hosts,
            groups=groups,
            num_groups=num_groups,
            freshness=FreshnessResponse.of(freshness),
        )

    return router


def _describe(use: LaneUse) -> LaneUseResponse:
    return LaneUseResponse(**use._asdict())
