"""The report of a run as a file to keep: the same that ``matensemble report`` writes."""

from __future__ import annotations

from fastapi import APIRouter, Response
from starlette.responses import HTMLResponse

from matensemble.dashboard.catalog import Catalog
from matensemble.dashboard.index.feed import Indexes
from matensemble.dashboard.report.page import report_of
from matensemble.dashboard.routes.files import safe_name
from matensemble.dashboard.routes.parameters import RunId


def report_routes(catalog: Catalog, indexes: Indexes) -> APIRouter:
    """Return the route about a run as one file."""
    router = APIRouter(prefix="/runs/{run_id}")

    @router.get(
        "/report",
        operation_id="downloadReport",
        summary="A run as one self-contained HTML file",
        response_class=HTMLResponse,
    )
    def download_report(run_id: RunId) -> Response:
        with indexes.open(run_id) as (database, freshness):
            page = report_of(catalog, run_id, database, freshness)
        name = safe_name(f"{run_id}.html")
        return HTMLResponse(page, headers={"content-disposition": f'attachment; filename="{name}"'})

    return router
