"""Each operation of the interface, however it is asked: guarded, dressed, and never a page."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from matensemble.dashboard.security import SECURITY_HEADERS

sys.path.append(str(Path(__file__).parent))
from asking import TOKEN, Asker, Question, describe_chore, make_app, make_run, questions

CHORE = "chore-relax-0003"
TYPES = {
    "application/json",
    "application/vnd.matensemble.chores+json",
    "text/csv",
    "text/event-stream",
    "application/octet-stream",
    "text/html",  # the report, and only as a file to keep
}
FOREIGN_HOSTS = ["", "evil.example", "localhost.evil.example", "127.0.0.2:8000", "[::1"]
PREFIX = "/proxied/here"

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path):
    run = make_run(tmp_path / "runs", 60)
    log = b"<script>\x1b[31m</script>\n"
    describe_chore(run, CHORE, stdout=log, stderr=log, error_json=b'{"type": "<b>"}')
    return run


@pytest.fixture
def app(run):
    return make_app(run.root.parent)


@pytest.fixture
def asked(app, run):
    return list(questions(app, run.root.name, CHORE))


def assert_dressed(question, answer):
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers.get_list(name) == [value], (question, name)
    assert answer.headers["cache-control"] == "no-store", question
    assert not [name for name in answer.headers if name.startswith("access-control-")], question
    kind = answer.headers.get("content-type", "application/json").partition(";")[0]
    assert kind in TYPES, question
    if kind in ("text/html", "application/octet-stream", "text/csv"):
        assert answer.headers["content-disposition"].startswith("attachment"), question


def test_every_answer_is_dressed(app, asked):
    """What is there, what is not, what makes no sense, and what is refused."""
    asker, stranger = Asker(app), Asker(app, token=None)
    codes: Counter[int] = Counter()
    good = set()
    for question in asked:
        elsewhere = question.path.replace(CHORE, "chore-x-9999").replace("_workflow-", "_none-")
        for asker_, asking in (
            (asker, question),
            (asker, question._replace(path=elsewhere)),
            (asker, question._replace(params={"limit": "nonsense", "bins": -1, "offset": "x"})),
            (stranger, question),
        ):
            answer = asker_.ask(asking)
            assert_dressed(asking, answer)
            codes[answer.status_code] += 1
            if answer.is_success and asking is question:
                good.add(question.operation)
    assert {question.operation for question in asked} - good == {"readAction"}  # never asked for
    assert {200, 204, 401, 404, 422} <= set(codes)
    assert not [code for code in codes if code >= 500]


def test_every_operation_is_guarded_below_a_prefix(app, asked):
    mounted = Starlette(routes=[Mount(PREFIX, app)])
    asker = Asker(mounted, PREFIX)
    stranger = Asker(mounted, PREFIX, token=None)
    for question in asked:
        assert stranger.ask(question).status_code == 401, question
        for host in FOREIGN_HOSTS:
            assert asker.ask(question, host=host).status_code == 400, question
        for site in ("cross-site", "same-site"):
            assert asker.ask(question, sec_fetch_site=site).status_code == 403, question
        for method in ("HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            assert asker.ask(question._replace(method=method)).status_code == 405, question


def test_session_below_a_prefix_is_for_that_prefix(app):
    mounted = Starlette(routes=[Mount(PREFIX, app)])
    answer = Asker(mounted, PREFIX).ask(Question("startSession", "POST", "/api/session"))
    cookie = answer.headers["set-cookie"]
    assert f"; Path={PREFIX}/api/;" in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../api/status",
        "/assets/..%2fapi/status",
        "/assets/%2e%2e/api/status",
        "/assets/%2e%2e%2fapi%2fstatus",
        "/assets//../../index.html",
        "/assets/../openapi.py",
        "/assets/..%5c..%5capp.py",
        "/assets/%00",
        "//api/status",
        "/./api/status",
        "/api//status",
        "/API/status",
        "/%61pi/status",
        "/api/status/",
        "/api%2fstatus",
        "/;/api/status",
    ],
)
def test_no_spelling_of_a_path_leads_past_the_token(app, path):
    """What is open holds nothing; the same spellings find nothing below a prefix either."""
    mounted = Starlette(routes=[Mount(PREFIX, app)])
    for target, prefix in ((app, ""), (mounted, PREFIX)):
        answer = Asker(target, prefix, token=None).ask(Question("", "GET", path))
        assert answer.status_code in (400, 401, 404), answer.text
        assert "counts" not in answer.text
        assert "import" not in answer.text
        assert TOKEN not in answer.text
