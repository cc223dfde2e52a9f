"""Which runs there are, and one of them."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from fastapi import APIRouter, Response

from matensemble.dashboard.catalog import Catalog, Seen
from matensemble.dashboard.schemas import CountsResponse, RunHealth, RunListResponse, RunResponse
from matensemble.dashboard.spreadsheet import cell
from matensemble.model import RunState
from matensemble.report import quote_path, seconds_left
from matensemble.runs import Look, seconds_since
from matensemble.status import Counts, RunStatus
from matensemble.workdir import RunDir


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


def describe_run(seen: Seen, run: RunDir) -> RunResponse:
    """Return what was seen of a run, and what can be told from it."""
    look = seen.look or Look(None, None, None)
    status, health = look.status, _health(seen)
    is_alive = health is RunHealth.ALIVE
    elapsed = None if status is None else _elapsed_seconds(status, is_alive=is_alive)
    advice, command = _advise(look, health, quote_path(run.root))
    return RunResponse(
        id=seen.id,
        health=health,
        problem=look.lost or seen.problem,
        status=seen.status,
        last_sign_at=_last_sign(look),
        advice=advice,
        command=command,
        progress=None if status is None else _progress(status.counts),
        elapsed_seconds=elapsed,
        eta_seconds=seconds_left(status) if status and is_alive else None,
        node_hours=elapsed * status.num_nodes / 3600 if status and elapsed is not None else None,
    )


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


def _health(seen: Seen) -> RunHealth:
    look = seen.look
    if look is None:
        return RunHealth.UNREADABLE if seen.problem else RunHealth.UNKNOWN
    if look.lost is not None:
        return RunHealth.LOST
    if look.successor is not None:
        return RunHealth.COMING
    if look.status is None:
        return RunHealth.WAITING
    return RunHealth.ENDED if look.status.state.is_terminal else RunHealth.ALIVE


def _last_sign(look: Look) -> str | None:
    """Return when the last driver was heard of; as `lost` judges it."""
    status, owner = look.status, look.owner
    if owner is not None and owner.is_known and (status is None or owner.epoch > status.epoch):
        return owner.started_at
    return None if status is None else status.updated_at


def _progress(counts: Counts) -> float | None:
    ended = counts.completed + counts.failed + counts.cancelled
    return min(ended / counts.total, 1.0) if counts.total else None


def _elapsed_seconds(status: RunStatus, *, is_alive: bool) -> float | None:
    try:
        last = datetime.fromisoformat(status.ended_at or status.updated_at or "")
        seconds = seconds_since(status.started_at, datetime.now(UTC) if is_alive else last)
    except ValueError:
        return None
    return None if seconds is None else max(seconds, 0.0)


def _advise(look: Look, health: RunHealth, folder: str) -> tuple[str, str | None]:
    """Return what to do with a run that stands still, and the command for it."""
    resume = f"matensemble resume {folder}"
    match health:
        case RunHealth.WAITING if look.owner is None:
            return "It was saved and not started. To run it:", f"matensemble run {folder}"
        case RunHealth.WAITING:
            return "Its driver ended before anything was started. To go on with it:", resume
        case RunHealth.LOST:
            return "Nothing more will happen by itself. To go on with it:", resume
        case RunHealth.ENDED:
            return _advise_ended(look.status.state if look.status else None, folder, resume)
        case _:
            return "", None


def _advise_ended(state: RunState | None, folder: str, resume: str) -> tuple[str, str | None]:
    match state:
        case RunState.INTERRUPTED:
            return "It was interrupted; what completed is kept. To go on with it:", resume
        case RunState.FAILED:
            again = f"matensemble retry {folder} --failed && {resume}"
            return "To run what failed again, once the cause is mended:", again
        case RunState.CANCELLED:
            again = f"matensemble retry {folder} --reason cancelled && {resume}"
            return "To run what was cancelled after all:", again
        case _:
            return "", None
