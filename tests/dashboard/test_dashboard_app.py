from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi import FastAPI

from matensemble.dashboard import create_dashboard_app, schemas
from matensemble.dashboard.openapi import describe_api
from matensemble.dashboard.security import Access
from matensemble.errors import RunDirectoryError
from matensemble.status import Counts, RootFailure, RunStatus

OWN = {"sec-fetch-site": "same-origin", "x-matensemble": "1"}
FRONTEND = Path(__file__).parents[2] / "frontend"


def test_status_is_that_of_the_file(connect, write_run):
    answer = connect().ask("GET", "/api/status")
    assert answer.status_code == 200
    assert answer.json() == json.loads((write_run() / "status.json").read_text())


def test_fields_of_a_later_version_pass_through(app, connect, write_run):
    counts = dataclasses.asdict(Counts(total=1, pending=1)) | {"waiting_for_data": 1}
    write_run(walltime_left=60.5, groups={"relax": counts})
    answer = connect().ask("GET", "/api/status").json()
    assert answer["walltime_left"] == 60.5
    assert answer["groups"]["relax"]["waiting_for_data"] == 1


@pytest.mark.parametrize(
    ("schema", "source"),
    [
        (schemas.CountsResponse, Counts),
        (schemas.RootFailureResponse, RootFailure),
        (schemas.RunStatusResponse, RunStatus),
    ],
)
def test_schema_has_the_fields_of_the_format(schema, source):
    fields = [field.name for field in dataclasses.fields(source)]
    assert [name for name in schema.model_fields if name != "format"] == fields


def test_run_that_has_not_started_is_not_found(connect, tmp_path):
    run_dir = tmp_path / "matensemble_workflow-20260102_120000"
    run_dir.mkdir()
    answer = connect(create_dashboard_app(run_dir, access=Access(token="a")), token="a").ask(
        "GET", "/api/status"
    )
    assert answer.status_code == 404
    assert "matensemble run DIR" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is no JSON"),
        (b"[]", "is no status"),
        (b'"text"', "is no status"),
        (b"[" * 100_000, "is no JSON"),
        (b'{"format": 99}', "has format 99"),
        (b"\x80\x04\x95", "is no JSON"),
    ],
)
def test_damaged_status_is_unavailable(connect, write_run, content, words):
    path = write_run() / "status.json"
    path.write_bytes(content)
    answer = connect().ask("GET", "/api/status")
    assert answer.status_code == 503
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "dancing"},
        {"total_cores": "many"},
        {"rate": float("nan")},
        {"pid": None},
        {"counts": {"total": -1}},
        {"detail": "\ud800"},
        {"of_a_later_version": "\ud800"},
    ],
)
def test_wrong_values_are_unavailable_and_no_fault(connect, write_run, changes):
    write_run(**changes)
    answer = connect().ask("GET", "/api/status")
    assert answer.status_code == 503
    assert answer.json()["title"] == "Service Unavailable"


def test_page_and_assets(connect):
    client = connect(token=None)
    page = client.ask("GET", "/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["cache-control"] == "no-store"
    asset = client.ask("GET", "/assets/index-1a2b.js")
    assert asset.status_code == 200
    assert "immutable" in asset.headers["cache-control"]
    missing = client.ask("GET", "/assets/index-0000.js")
    assert missing.status_code == 404
    assert missing.headers["cache-control"] == "no-store"
    assert missing.json()["title"] == "Not Found"


def test_assets_do_not_lead_out(connect, tmp_path):
    (tmp_path / "static" / "secret").write_text("secret")
    (tmp_path / "static" / "assets" / "link").symlink_to(tmp_path / "static" / "secret")
    for path in ("/assets/..%2Fsecret", "/assets/%2e%2e/secret", "/assets/link"):
        assert connect(token=None).ask("GET", path).status_code == 404


def test_checkout_without_a_build_says_how_to_build(connect, write_run, tmp_path):
    app = create_dashboard_app(write_run(), static_dir=tmp_path / "nothing")
    answer = connect(app, token=None).ask("GET", "/")
    assert answer.status_code == 503
    assert "npm run build" in answer.text
    assert "<script" not in answer.text


def test_root_must_be_a_directory(tmp_path):
    with pytest.raises(RunDirectoryError, match="is no directory"):
        create_dashboard_app(tmp_path / "nowhere")


def test_committed_description_is_that_of_the_application():
    committed = (FRONTEND / "openapi.json").read_text()
    assert committed == describe_api(), (
        "run `python -m matensemble.dashboard.openapi > frontend/openapi.json` "
        "and `npm run generate` in frontend/"
    )


@pytest.mark.slow
def test_nothing_that_loads_pickles_is_imported():
    script = (
        "import sys, matensemble.dashboard.serve, matensemble.dashboard.command\n"
        "print(*sorted(m for m in sys.modules if m.split('.')[0] in "
        "('matensemble', 'cloudpickle', 'dill', 'flux', 'networkx')), sep='\\n')"
    )
    loaded = subprocess.run(
        [sys.executable, "-P", "-c", script], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "matensemble.dashboard.app" in loaded
    assert {name for name in loaded if not name.startswith("matensemble.dashboard")} <= {
        "matensemble",
        "matensemble.control",
        "matensemble.disk",
        "matensemble.errors",
        "matensemble.foreign_json",
        "matensemble.model",
        "matensemble.owner",
        "matensemble.policy",
        "matensemble.reasons",
        "matensemble.records",
        "matensemble.references",
        "matensemble.report",
        "matensemble.runs",
        "matensemble.standing",
        "matensemble.status",
        "matensemble.terminal",
        "matensemble.waiting",
        "matensemble.workdir",
    }


@pytest.mark.slow
def test_subcommand_is_light():
    script = "import sys, matensemble.dashboard.command as c; c.dashboard; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-P", "-c", script], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not {"fastapi", "uvicorn", "pydantic", "matensemble.status"} & set(loaded)


@pytest.mark.parametrize("prefix", ["/x/y", "/api", "/assets"])
def test_mounted_below_a_prefix_it_is_guarded_alike(app, connect, token, prefix):
    outer = FastAPI()
    outer.mount(prefix, app)
    stranger = connect(outer, token=None)
    page = stranger.ask("GET", f"{prefix}/")
    assert page.text == "<!doctype html><title>page</title>"
    assert page.headers["content-security-policy"]
    asset = stranger.ask("GET", f"{prefix}/assets/index-1a2b.js")
    assert "immutable" in asset.headers["cache-control"]
    routes = [
        (method.upper(), path) for path, item in app.openapi()["paths"].items() for method in item
    ]
    for method, path in [*routes, ("GET", "/api/nothing"), ("GET", "/nothing"), ("GET", "")]:
        assert stranger.ask(method, f"{prefix}{path}", headers=OWN).status_code in (307, 401)
    client = connect(outer)
    session = client.ask("POST", f"{prefix}/api/session", headers=OWN)
    assert session.status_code == 204
    assert f"; Path={prefix}/api/;" in session.headers["set-cookie"]
    del client.headers["authorization"]
    assert client.ask("GET", f"{prefix}/api/status").status_code == 200
    assert client.ask("GET", f"{prefix}/api/v1/runs").status_code == 200


def test_prefix_of_a_user_cannot_add_to_the_cookie(app, connect):
    outer = FastAPI()
    outer.mount("/{user}", app)
    session = connect(outer).ask("POST", "/a; Domain=evil/api/session", headers=OWN)
    assert session.headers["set-cookie"].lower().count("domain") == 1
    assert "; Path=/a%3B%20Domain%3Devil/api/;" in session.headers["set-cookie"]
