"""The web application: routes over a catalog, behind the guard.

Owns the composition. Decides nothing about access (`security`) and opens no file of a run
(`catalog`). Called by `serve`, and by whoever wants to mount or test the application.
"""

from __future__ import annotations

import sqlite3
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse
from starlette.staticfiles import StaticFiles

from matensemble.dashboard.catalog import Catalog
from matensemble.dashboard.index.feed import Indexes
from matensemble.dashboard.routes.actions import action_routes
from matensemble.dashboard.routes.chores import chore_routes
from matensemble.dashboard.routes.compare import compare_routes
from matensemble.dashboard.routes.events import event_routes, look_for_events
from matensemble.dashboard.routes.explanation import explanation_routes
from matensemble.dashboard.routes.files import file_routes
from matensemble.dashboard.routes.graph import graph_routes
from matensemble.dashboard.routes.history import history_routes
from matensemble.dashboard.routes.relatives import relative_routes
from matensemble.dashboard.routes.report import report_routes
from matensemble.dashboard.routes.runs import run_routes
from matensemble.dashboard.routes.series import series_routes
from matensemble.dashboard.routes.settings import settings_routes
from matensemble.dashboard.routes.timeline import timeline_routes
from matensemble.dashboard.routes.utilisation import utilisation_routes
from matensemble.dashboard.routes.waiting import waiting_routes
from matensemble.dashboard.schemas import Problem, RunStatusResponse
from matensemble.dashboard.security import (
    ASSETS_PREFIX,
    SECURITY_HEADERS,
    Access,
    Guard,
    problem,
)
from matensemble.dashboard.streams import Streams
from matensemble.errors import FormatError, RunDirectoryError

V1 = "/api/v1"
"""Where the routes of `matensemble.dashboard.routes` stand."""
STATIC_DIR = Path(__file__).with_name("static")
API_VERSION = "1"

_NOT_BUILT = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>MatEnsemble: the page is not built</title></head>
<body>
<h1>The page is not built</h1>
<p>This package was installed from sources without the built page. In the source checkout, with
Node.js 20.19 or newer:</p>
<pre>cd frontend
npm ci
npm run build</pre>
<p>Then install the package again, unless it is an editable installation, and reload.
The data is served meanwhile at <code>/api/status</code>.</p>
</body>
</html>
"""


def create_dashboard_app(
    root: Path | str,
    *,
    access: Access | None = None,
    allow_actions: bool = False,
    static_dir: Path = STATIC_DIR,
) -> FastAPI:
    """Return the application that serves one run, or a folder of runs.

    It can be mounted under another application at any prefix. Its page is then at the prefix with
    a slash behind it, and takes the token in the fragment: ``/prefix/#token=…``.

    Parameters
    ----------
    root
        A run directory, or a folder of runs.
    access
        Token, cookie and host names; None makes new ones, found at ``app.state.access``.
    allow_actions
        Whether whoever has the token may also ask the driver of a run to do something.
    static_dir
        Directory of the built page; where it is missing, the page says how to build it.

    Raises
    ------
    RunDirectoryError
        If `root` is no directory.
    """
    catalog = Catalog(Path(root))
    access = access or Access()
    app = FastAPI(
        title="MatEnsemble dashboard",
        version=API_VERSION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        exception_handlers={
            HTTPException: _answer_http_error,
            RequestValidationError: _answer_wrong_question,
            RunDirectoryError: _answer_missing,
            FormatError: _answer_unreadable,
            OSError: _answer_unreadable,
            sqlite3.Error: _answer_unreadable,
            Exception: _answer_fault,
        },
    )
    app.state.access = access
    app.add_middleware(Guard, access=access)
    app.state.indexes = indexes = Indexes(catalog.find)
    app.state.streams = Streams(partial(look_for_events, catalog, indexes))
    _add_api(app, catalog, access, allow_actions=allow_actions)
    _add_page(app, static_dir)
    return app


def _add_api(app: FastAPI, catalog: Catalog, access: Access, *, allow_actions: bool) -> None:
    indexes: Indexes = app.state.indexes
    streams: Streams = app.state.streams
    refusals: dict[int | str, dict[str, Any]] = {
        HTTPStatus.BAD_REQUEST: {"model": Problem, "description": "Asked under a foreign name"},
        HTTPStatus.UNAUTHORIZED: {"model": Problem, "description": "No valid token"},
        HTTPStatus.FORBIDDEN: {"model": Problem, "description": "Sent by another page"},
        HTTPStatus.REQUEST_URI_TOO_LONG: {"model": Problem, "description": "Asked for too much"},
    }

    missing: dict[int | str, dict[str, Any]] = {
        HTTPStatus.NOT_FOUND: {"model": Problem, "description": "Nothing of that name"},
        HTTPStatus.UNPROCESSABLE_ENTITY: {"model": Problem, "description": "No such question"},
        HTTPStatus.SERVICE_UNAVAILABLE: {"model": Problem, "description": "Cannot be read"},
    }
    for router in (
        settings_routes(catalog, allow_actions=allow_actions),
        run_routes(catalog),
        event_routes(catalog, streams),
        action_routes(catalog, allow_actions=allow_actions),
        chore_routes(catalog, indexes),
        explanation_routes(catalog, indexes),
        file_routes(catalog, indexes),
        graph_routes(indexes),
        relative_routes(indexes),
        waiting_routes(catalog, indexes),
        history_routes(indexes),
        series_routes(catalog, indexes),
        timeline_routes(catalog, indexes),
        utilisation_routes(catalog, indexes),
        compare_routes(indexes),
        report_routes(catalog, indexes),
    ):
        app.include_router(router, prefix=V1, responses={**refusals, **missing})

    @app.get(
        "/api/status",
        operation_id="readStatus",
        summary="Content of status.json",
        responses={
            **refusals,
            HTTPStatus.NOT_FOUND: {"model": Problem, "description": "No started run"},
            HTTPStatus.SERVICE_UNAVAILABLE: {"model": Problem, "description": "Cannot be read"},
        },
    )
    def read_status() -> RunStatusResponse:
        return catalog.read_status()

    @app.post(
        "/api/session",
        operation_id="startSession",
        summary="Exchange the token (Authorization: Bearer) for a cookie",
        status_code=HTTPStatus.NO_CONTENT,
        responses=refusals,
    )
    def start_session(request: Request, response: Response) -> None:
        access.start_session(response, request.scope.get("root_path", ""))


def _add_page(app: FastAPI, static_dir: Path) -> None:
    index = static_dir / "index.html"

    @app.get("/", include_in_schema=False)
    def show_page() -> Response:
        if index.is_file():
            return FileResponse(index)
        return HTMLResponse(_NOT_BUILT, HTTPStatus.SERVICE_UNAVAILABLE)

    app.mount(
        ASSETS_PREFIX, StaticFiles(directory=static_dir / "assets", check_dir=False), name="assets"
    )


async def _answer_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # as registered
    headers = dict(error.headers) if error.headers else None
    return problem(HTTPStatus(error.status_code), error.detail, headers)


async def _answer_wrong_question(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # as registered
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{place}: {first['msg']}")


async def _answer_missing(_request: Request, error: Exception) -> Response:
    return problem(HTTPStatus.NOT_FOUND, str(error))


async def _answer_unreadable(_request: Request, error: Exception) -> Response:
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, f"This cannot be read: {error}")


async def _answer_fault(_request: Request, _error: Exception) -> Response:
    # This one handler stands outside the guard, which therefore cannot dress its answer.
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "The dashboard made a mistake; the terminal in which it runs says which.",
        {**SECURITY_HEADERS, "cache-control": "no-store"},
    )
