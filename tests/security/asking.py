"""Every question that the dashboard answers, and runs to ask about."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from fastapi import FastAPI

from matensemble.dashboard import create_dashboard_app
from matensemble.dashboard.security import Access
from matensemble.workdir import RunDir

TOKEN = "t" * 43
BASE_URL = "http://127.0.0.1:8000"
OWN = {"sec-fetch-site": "same-origin", "x-matensemble": "1"}
REQUEST = "20260101T000000Z-0123456789abcdef"
ROOT = Path(__file__).parents[2]


class Question(NamedTuple):
    """One way to ask one operation."""

    operation: str
    method: str
    path: str
    params: Mapping[str, Any] = {}
    body: Mapping[str, Any] | None = None


class Asker:
    """Asks an application, as a program with the token unless told otherwise."""

    def __init__(self, app: FastAPI, prefix: str = "", token: str | None = TOKEN) -> None:
        self.app = app
        self._prefix = prefix
        self._headers = {} if token is None else {"authorization": f"Bearer {token}"}

    def ask(self, question: Question, **headers: str) -> httpx.Response:
        return asyncio.run(self._ask(question, headers))

    def get(self, path: str, **params: Any) -> httpx.Response:
        return self.ask(Question("", "GET", path, params))

    async def _ask(self, question: Question, headers: Mapping[str, str]) -> httpx.Response:
        changes = {} if question.method == "GET" else OWN
        given = self._headers | changes | {key.replace("_", "-"): headers[key] for key in headers}
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
            return await client.request(
                question.method,
                self._prefix + question.path,
                params=dict(question.params) or None,
                json=question.body,
                headers=given,
            )


def questions(app: FastAPI, run_id: str, chore_id: str) -> Iterator[Question]:
    """Yield a question for every operation of the interface that makes sense for a chore.

    A parameter that must be given, and is not known here, is a KeyError: whoever adds an operation
    says what it is asked.
    """
    needed = {"chore": chore_id, "a": run_id, "b": run_id, "text": "e", "level": 0, "rank": 0}
    varied = {
        "listChores": [{"format": "csv"}, {"format": "json"}, {"state": "failed"}],
        "listRuns": [{"format": "csv"}],
        "readLog": [{"stream": "stderr"}, {"tail": 100}],
        "readTimeline": [{"by": "group"}],
        "downloadArtifact": [{"file": "stdout"}, {"file": "stderr"}, {"file": "metadata.json"}],
    }
    bodies = {"act": {"verb": "retry", "failed": True}, "startSession": None}
    for path, item in app.openapi()["paths"].items():
        for method, operation in item.items():
            name = operation["operationId"]
            params = {
                each["name"]: needed[each["name"]]
                for each in operation.get("parameters", [])
                if each["in"] == "query" and each["required"]
            }
            place = path.format(run_id=run_id, chore_id=chore_id, action_id=REQUEST)
            body = None if method == "get" else bodies[name]
            for more in [{}, *varied.get(name, [])]:
                yield Question(name, method.upper(), place, params | more, body)


def make_app(root: Path) -> FastAPI:
    """Return a dashboard that also acts."""
    return create_dashboard_app(root, access=Access(token=TOKEN), allow_actions=True)


def make_run(folder: Path, num_chores: int) -> RunDir:
    """Write a run with failures, without running anything."""
    spec = importlib.util.spec_from_file_location("runs", ROOT / "benchmarks" / "runs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.make_run(folder, num_chores)
    assert isinstance(made, RunDir)
    return made


def describe_chore(run: RunDir, chore_id: str, **files: bytes) -> None:
    """Put files where a chore would have left them."""
    directory = run.chore_dir(chore_id)
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name.replace("_json", ".json")).write_bytes(content)
    metadata = {"format": 1, "id": chore_id, "attempt": 1, "outputs": {"log": "stdout"}}
    (directory / "metadata.json").write_text(json.dumps(metadata))
