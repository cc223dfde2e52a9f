"""A started run on disk, and clients of the application that shows it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from matensemble.dashboard import create_dashboard_app
from matensemble.dashboard.security import Access
from matensemble.model import RunState
from matensemble.status import Counts, RootFailure, RunStatus

COUNTS = Counts(total=6, pending=2, running=1, completed=1, failed=2)

WriteRun = Callable[..., Path]
Connect = Callable[..., "Client"]


@pytest.fixture(autouse=True)
def _private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep indexes of tests apart from those of whoever runs them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def token() -> str:
    return "t" * 43


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Write a run directory with a `status.json`; keywords are put over its content."""

    def write(name: str = "matensemble_workflow-20260101_120000", **changes: Any) -> Path:
        status = RunStatus(
            run=name,
            state=RunState.RUNNING,
            sequence=17,
            counts=COUNTS,
            groups={"relax": COUNTS},
            executor="local",
            num_nodes=1,
            total_cores=4,
            free_cores=3,
            rate=0.25,
            root_failures=(RootFailure("chore-relax-0001", "nonzero_exit", 3, "lost atoms"),),
            num_root_failures=1,
            started_at="2026-01-01T12:00:00+00:00",
            updated_at="2026-01-01T12:01:00+00:00",
        )
        run_dir = tmp_path / name
        run_dir.mkdir(exist_ok=True)
        (run_dir / "status.json").write_text(json.dumps(status.to_json() | changes))
        return run_dir

    return write


@pytest.fixture
def app(write_run: WriteRun, tmp_path: Path, token: str) -> FastAPI:
    static = tmp_path / "static"
    (static / "assets").mkdir(parents=True)
    (static / "index.html").write_text("<!doctype html><title>page</title>")
    (static / "assets" / "index-1a2b.js").write_text("export {};")
    return create_dashboard_app(write_run(), access=Access(token=token), static_dir=static)


class Client(httpx.AsyncClient):
    """A client of the application itself, without a server between, and without `await`."""

    def __init__(self, app: FastAPI, token: str | None, *, is_fault_raised: bool = True) -> None:
        super().__init__(
            transport=httpx.ASGITransport(app, raise_app_exceptions=is_fault_raised),
            base_url="http://127.0.0.1:8000",
            headers={} if token is None else {"authorization": f"Bearer {token}"},
        )

    def ask(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        return asyncio.run(self.request(method, path, **kwargs))


@pytest.fixture
def connect(app: FastAPI, token: str) -> Connect:
    """Make clients; each shows the token as a program does, unless `token` is None."""

    def make(target: FastAPI = app, *, token: str | None = token, **kwargs: Any) -> Client:
        return Client(target, token, **kwargs)

    return make
