"""One run as a whole, as far as one look at it tells: its health, its progress, what can be done.

Owns what a run is called that does not go on, and what is advised then. Asks no disk: the catalog
did. Called by the routes, the stream of events and the report.
"""

from __future__ import annotations

from datetime import UTC, datetime

from matensemble.dashboard.catalog import Seen
from matensemble.dashboard.schemas import RunHealth, RunResponse
from matensemble.model import RunState
from matensemble.report import quote_path, seconds_left
from matensemble.runs import Look, seconds_since
from matensemble.status import Counts, RunStatus
from matensemble.workdir import RunDir


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
