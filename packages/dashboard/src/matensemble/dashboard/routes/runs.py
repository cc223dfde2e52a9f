"""Which runs there are, and one of them."""

from __future__ import annotations

import csv
import io
from enum import StrEnum
from typing import Any

from fastapi import APIRouter, Response

from matensemble.dashboard.catalog import Catalog
from matensemble.dashboard.schemas import CountsResponse, RunListResponse, RunResponse
from matensemble.dashboard.spreadsheet import cell
from matensemble.dashboard.summary import describe_run


class RunFormat(StrEnum):
    """Form of the list of runs."""

    JSON = "json"
    CSV = "csv"
    """As a table, with the most asked for of each status."""


def run_routes(catalog: Catalog) -> APIRouter:
    """Return the routes about runs as wholes."""
    router = APIRouter()

    @router.get(
        "/runs",
        operation_id="listRuns",
        summary="The runs, newest first",
        response_model=RunListResponse,
        responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    )
    def list_runs(format: RunFormat = RunFormat.JSON) -> Any:
        found, total = catalog.list_runs()
        runs = [describe_run(seen, catalog.place(seen.id)) for seen in found]
        return _table(runs) if format is RunFormat.CSV else RunListResponse(runs=runs, total=total)

    @router.get(
        "/runs/{run_id}", operation_id="readRun", summary="One run as it was last published"
    )
    def read_run(run_id: str) -> RunResponse:
        return describe_run(catalog.look(run_id), catalog.place(run_id))

    return router


_COLUMNS = ("id", "health", "progress", "elapsed_seconds", "eta_seconds", "node_hours")
_STATUS_COLUMNS = (
    *("state", "rate", "num_root_failures", "num_nodes", "total_cores", "total_gpus"),
    *("started_at", "updated_at", "ended_at"),
)


def _table(runs: list[RunResponse]) -> Response:
    text = io.StringIO()
    writer = csv.writer(text)
    counted = list(CountsResponse.model_fields)
    writer.writerow((*_COLUMNS, *_STATUS_COLUMNS, *counted, "problem"))
    for run in runs:
        status = run.status
        cells = [getattr(run, name) for name in _COLUMNS]
        cells += [getattr(status, name, None) for name in _STATUS_COLUMNS]
        cells += [getattr(status and status.counts, name, None) for name in counted]
        writer.writerow([cell(value) for value in (*cells, run.problem)])
    return Response(
        text.getvalue(),
        media_type="text/csv; charset=utf-8",
        headers={"content-disposition": 'attachment; filename="runs.csv"'},
    )
