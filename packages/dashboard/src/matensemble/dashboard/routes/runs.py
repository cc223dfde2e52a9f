"""Which runs there are, and one of them."""

from __future__ import annotations

from fastapi import APIRouter

from matensemble.dashboard.catalog import Catalog, Seen
from matensemble.dashboard.schemas import RunHealth, RunListResponse, RunResponse


def run_routes(catalog: Catalog) -> APIRouter:
    """Return the routes about runs as wholes."""
    router = APIRouter()

    @router.get("/runs", operation_id="listRuns", summary="The runs, newest first")
    def list_runs() -> RunListResponse:
        runs, total = catalog.list_runs()
        return RunListResponse(runs=[_describe(seen) for seen in runs], total=total)

    @router.get(
        "/runs/{run_id}", operation_id="readRun", summary="One run as it was last published"
    )
    def read_run(run_id: str) -> RunResponse:
        return _describe(catalog.look(run_id))

    return router


def _describe(seen: Seen) -> RunResponse:
    look = seen.look
    if look is None:
        health = RunHealth.UNREADABLE if seen.problem else RunHealth.UNKNOWN
        return RunResponse(id=seen.id, health=health, problem=seen.problem)
    if look.lost is not None:
        health = RunHealth.LOST
    elif look.successor is not None:
        health = RunHealth.COMING
    elif look.status is None:
        health = RunHealth.WAITING
    else:
        health = RunHealth.ENDED if look.status.state.is_terminal else RunHealth.ALIVE
    return RunResponse(id=seen.id, health=health, problem=look.lost or "", status=seen.status)
