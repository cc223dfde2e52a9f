"""What is new of a run, as a stream of events.

Shapes the messages; who looks, and how often, is the business of `matensemble.dashboard.streams`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, NonNegativeInt
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from matensemble.dashboard.catalog import Catalog
from matensemble.dashboard.index.feed import Freshness, Indexes
from matensemble.dashboard.schemas import FreshnessResponse, Problem, RunHealth, RunResponse
from matensemble.dashboard.security import problem
from matensemble.dashboard.streams import NoRoomError, Sighting, Streams, Watcher
from matensemble.dashboard.summary import describe_run
from matensemble.errors import FormatError
from matensemble.terminal import clean_line

PING_SECONDS = 15
SEND_SECONDS = 30.0
"""How long a listener may take no more before its stream is given up."""
RETRY_SECONDS = 30

_EVENTS = "text/event-stream"
_END = "\n"
_MAX_EXACT_IN_JAVASCRIPT = 2**53


class RunEvent(BaseModel):
    """Data of the event `run`: how the run stands now."""

    run: RunResponse
    generation: NonNegativeInt
    """Changes whenever the index of the run did, so that what was asked of it before is old."""
    freshness: FreshnessResponse


def event_routes(catalog: Catalog, streams: Streams) -> APIRouter:
    """Return the route of the stream."""
    router = APIRouter()

    @router.get(
        "/runs/{run_id}/events",
        operation_id="followRun",
        summary="Stream of what is new",
        description=(
            "Server-sent events: `run` carries JSON, at once and then whenever something changed, "
            "twice a second at most. `ended` (data: `{}`) says that the run is over and nothing "
            "more is to come; do not connect again then."
        ),
        response_class=Response,
        responses={
            HTTPStatus.OK: {"description": "Events", "content": {_EVENTS: {"schema": _schema()}}},
            HTTPStatus.SERVICE_UNAVAILABLE: {
                "model": Problem,
                "description": "Cannot be read, or too many streams are open",
            },
        },
    )
    def follow_run(run_id: str) -> Response:
        catalog.find(run_id)  # else it is not found
        return _RunStream(streams, run_id)

    return router


def look_for_events(catalog: Catalog, indexes: Indexes, run_id: str) -> Sighting:
    """Return how a run stands now; raises RunDirectoryError and OSError where it is gone."""
    run = describe_run(catalog.look(run_id), catalog.find(run_id))
    try:
        generation, freshness = indexes.generation(run_id)
    except (FormatError, sqlite3.Error) as error:
        generation, freshness = 0, Freshness(False, 0.0, clean_line(error))
    event = RunEvent(
        run=run,
        generation=generation % _MAX_EXACT_IN_JAVASCRIPT,
        freshness=FreshnessResponse.of(freshness),
    )
    status = run.status
    # Why it seems lost tells for how long, which is no news.
    is_new_problem = "" if run.health is RunHealth.LOST else run.problem
    moved = status and (status.epoch, status.sequence, status.beat, status.state)
    is_last = run.health is RunHealth.ENDED and (freshness.is_complete or bool(freshness.problem))
    mark = (run.health, is_new_problem, moved, generation, freshness)
    return Sighting(event.model_dump_json(), mark, is_last)


class _RunStream(Response):
    """An answer that takes its seat when it is sent, and leaves it however that ends."""

    media_type = _EVENTS

    def __init__(self, streams: Streams, run_id: str) -> None:
        super().__init__()
        self._streams = streams
        self._run_id = run_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._streams.join(self._run_id) as watcher:
                events = EventSourceResponse(
                    _events(watcher), ping=PING_SECONDS, sep=_END, send_timeout=SEND_SECONDS
                )
                await events(scope, receive, send)
        except SendTimeoutError:
            return  # a tunnel that broke without a word; its seat is for others
        except NoRoomError:
            refusal = problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "As many pages are open as may be; close one, or look again later.",
                {"retry-after": str(RETRY_SECONDS)},
            )
            await refusal(scope, receive, send)


async def _events(watcher: Watcher) -> AsyncIterator[ServerSentEvent]:
    async for seen in watcher.sightings():
        yield ServerSentEvent(seen.text, event="run", sep=_END)
        if seen.is_last:
            yield ServerSentEvent("{}", event="ended", sep=_END)


def _schema() -> dict[str, Any]:
    schema = RunEvent.model_json_schema(
        mode="serialization", ref_template="#/components/schemas/{model}"
    )
    del schema["$defs"]  # components of the document already
    return schema
