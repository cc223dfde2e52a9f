from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given, strategies as st

from matensemble.dashboard import create_dashboard_app, security
from matensemble.dashboard.security import (
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    MAX_JSON_DEPTH,
    MAX_QUERY_BYTES,
    SECURITY_HEADERS,
    Access,
    names_of,
)

PATHS = ["/", "/api/status", "/api/session", "/api/nothing", "/assets/index-1a2b.js", "/nothing"]
FOREIGN_HOSTS = [
    "",
    "evil.example",
    "evil.example:8000",
    "127.0.0.1.evil.example",
    "localhost:8000@evil.example",
    "localhost.",
    "localhost:port",
    "127.0.0.2",
    "0.0.0.0:8000",
    "[::1",
]
SAME_ORIGIN = {"sec-fetch-site": "same-origin"}
OWN = SAME_ORIGIN | {"x-matensemble": "1"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_foreign_hosts_get_nothing(connect, host, path):
    client = connect()
    for method in ("GET", "POST"):
        answer = client.ask(method, path, headers={"host": host} | OWN)
        assert answer.status_code == 400
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1:49152", "[::1]:8000", "[::1]"]
)
def test_own_names_may_be_asked_at_any_port(connect, host):
    assert connect().ask("GET", "/api/status", headers={"host": host}).status_code == 200


def test_names_of_a_host(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "Login1.Cluster.example")
    loopback = {"localhost", "127.0.0.1", "::1"}
    assert names_of("127.0.0.1") == loopback
    assert names_of("Login1") == loopback | {"login1"}
    assert names_of("0.0.0.0") == loopback | {"login1", "login1.cluster.example"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "method", ["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"]
)
def test_other_methods_are_not_used(connect, method, path):
    answer = connect().ask(method, path, headers=OWN)
    assert answer.status_code == 405


@pytest.mark.parametrize("path", ["/", "/api/status", "/assets/index-1a2b.js"])
def test_posting_elsewhere_is_not_used(connect, path):
    assert connect().ask("POST", path, headers=OWN).status_code == 405


@pytest.mark.slow
def test_every_route_refuses_foreign_names_methods_and_pages(app, connect):
    """Every route of the interface × host × method × sender: refused before it sees anything."""
    client = connect()
    for path, item in app.openapi()["paths"].items():
        used = {method.upper() for method in item}
        for method in ("GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"):
            for host in FOREIGN_HOSTS:
                answer = client.ask(method, path, headers={"host": host} | OWN)
                assert answer.status_code == (400 if method in ("GET", "POST") else 405)
            if method not in used:
                assert client.ask(method, path, headers=OWN).status_code == 405
            for site in ("cross-site", "same-site"):
                headers = {"sec-fetch-site": site, "x-matensemble": "1"}
                answer = client.ask(method, path, headers=headers)
                assert answer.status_code == (403 if method in ("GET", "POST") else 405)


@pytest.mark.slow
def test_every_route_of_the_interface_needs_the_token(app, connect, token):
    routes = [
        (method.upper(), path) for path, item in app.openapi()["paths"].items() for method in item
    ]
    assert ("GET", "/api/status") in routes
    for method, path in [*routes, ("GET", "/api/nothing")]:
        for shown in (None, "", "wrong", token[:-1], token + "t", "tokén"):
            client = connect(token=None)
            headers: dict[str, str | bytes] = dict(OWN)
            if shown is not None:
                headers["authorization"] = f"Bearer {shown}".encode()
                client.cookies.set(app.state.access.cookie, "wrong")
            answer = client.ask(method, path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert token not in answer.text


def test_token_buys_a_session(app, connect):
    client = connect()
    answer = client.ask("POST", "/api/session", headers=OWN)
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    name, *flags = cookie.split("; ")
    assert name.startswith(f"{app.state.access.cookie}=")
    assert sorted(flag.lower() for flag in flags) == ["httponly", "path=/api/", "samesite=strict"]
    del client.headers["authorization"]
    assert client.ask("GET", "/api/status").status_code == 200


def test_cookie_alone_changes_nothing(connect):
    client = connect()
    client.ask("POST", "/api/session", headers=OWN)
    del client.headers["authorization"]
    for headers in ({}, SAME_ORIGIN, {"x-matensemble": "1"}, SAME_ORIGIN | {"x-matensemble": "2"}):
        answer = client.ask("POST", "/api/session", headers=headers)
        assert answer.status_code == 403
    assert client.ask("POST", "/api/session", headers=OWN).status_code == 204


@pytest.mark.parametrize("headers", [SAME_ORIGIN, {"origin": "http://127.0.0.1:8000"}])
def test_what_changes_something_needs_the_header_of_the_page(connect, headers):
    answer = connect().ask("POST", "/api/session", headers=headers)
    assert answer.status_code == 403
    assert "X-MatEnsemble: 1" in answer.json()["detail"]


def test_long_questions_and_headers_are_refused(connect):
    client = connect()
    assert client.ask("GET", "/?" + "q" * MAX_QUERY_BYTES).status_code == 200
    assert client.ask("GET", "/?" + "q" * (MAX_QUERY_BYTES + 1)).status_code == 414
    assert client.ask("GET", "/", headers={"x-long": "h" * MAX_HEADER_BYTES}).status_code == 431


ACTIONS = "/api/v1/runs/matensemble_workflow-20260101_120000/actions"
JSON = OWN | {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"{}", OWN, 415),
        (b"verb=cancel", OWN | {"content-type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", OWN | {"content-type": "text/plain"}, 415),
        (b" " * (MAX_BODY_BYTES + 1), JSON, 413),
        (b"[" * (MAX_JSON_DEPTH + 1), JSON, 400),
        (b'{"verb": ' * (MAX_JSON_DEPTH + 1), JSON, 400),
        (b'["' + b"[" * 100 + b'"]', JSON, 422),  # brackets in a text nest nothing
        (b'["\\"' + b"[" * MAX_JSON_DEPTH, JSON, 400),
        (b"1" * 5000, JSON, 400),
        (b'"\\ud800"', JSON, 422),
        (b"\xff", JSON, 400),
        (b"NaN", JSON, 422),
        (b"{}", JSON | {"content-type": "application/json; charset=utf-8"}, 422),
        (b"", JSON, 422),
    ],
)
def test_body_is_small_flat_json(write_run, connect, token, body, headers, code):
    app = create_dashboard_app(write_run(), access=Access(token=token), allow_actions=True)
    answer = connect(app).ask("POST", ACTIONS, content=body, headers=headers)
    assert answer.status_code == code, answer.text
    assert answer.json()["title"]


def test_body_of_unknown_length_is_bounded(write_run, connect, token):
    async def pour():
        nonlocal num_poured
        for _ in range(1000):
            num_poured += 1
            yield b" " * 4096

    num_poured = 0
    app = create_dashboard_app(write_run(), access=Access(token=token), allow_actions=True)
    answer = connect(app).ask("POST", ACTIONS, content=pour(), headers=JSON)
    assert answer.status_code == 413
    assert num_poured <= MAX_BODY_BYTES // 4096 + 2


def test_each_server_has_its_own_cookie_and_token():
    first, second = Access(), Access()
    assert first.cookie != second.cookie
    assert first.token != second.token
    assert len(first.token) >= 43  # 256 bits
    assert first.token not in repr(first)


@pytest.mark.parametrize(
    ("method", "headers", "allowed"),
    [
        ("GET", {}, True),
        ("GET", {"sec-fetch-site": "none"}, True),
        ("GET", {"sec-fetch-site": "same-origin"}, True),
        ("GET", {"sec-fetch-site": "same-site"}, False),
        ("GET", {"sec-fetch-site": "cross-site"}, False),
        ("GET", {"origin": "http://127.0.0.1:9999"}, False),
        ("POST", {}, False),
        ("POST", {"sec-fetch-site": "none"}, False),
        ("POST", {"sec-fetch-site": "same-site"}, False),
        ("POST", {"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1:8000"}, False),
        ("POST", {"origin": "http://127.0.0.1:8000"}, True),
        ("POST", {"origin": "http://127.0.0.1:9999"}, False),
        ("POST", {"origin": "https://127.0.0.1:8000"}, False),
        ("POST", {"origin": "null"}, False),
    ],
)
def test_other_pages_may_not_ask(connect, method, headers, allowed):
    path = "/api/status" if method == "GET" else "/api/session"
    headers = headers | {"x-matensemble": "1"}
    assert connect().ask(method, path, headers=headers).is_success is allowed


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_every_answer_is_dressed(connect, method, path):
    for token in (None, "wrong", "t" * 43):
        for host in ("localhost", "evil.example"):
            answer = connect(token=token).ask(method, path, headers={"host": host} | OWN)
            for name, value in SECURITY_HEADERS.items():
                assert answer.headers[name] == value
            assert "access-control-allow-origin" not in answer.headers
            assert "cache-control" in answer.headers


def test_policy_allows_nothing_inline():
    policy = SECURITY_HEADERS["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


def test_faults_are_dressed_and_tell_nothing(app, connect, caplog):
    @app.get("/api/fault")
    def fault():
        raise ZeroDivisionError("secret")

    with caplog.at_level(logging.CRITICAL):
        answer = connect(is_fault_raised=False).ask("GET", "/api/fault")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


def test_no_documentation_pages(connect):
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert connect().ask("GET", path).status_code == 404


def test_access_is_made_where_none_is_given(write_run, connect):
    app = create_dashboard_app(write_run())
    assert connect(app, token=app.state.access.token).ask("GET", "/api/status").status_code == 200
    assert connect(app).ask("GET", "/api/status").status_code == 401


JSON_VALUES = st.recursive(
    st.none() | st.text() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


def depth_of(value):
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(JSON_VALUES, st.booleans())
def test_depth_is_that_of_the_value_whatever_its_texts_hold(value, ensure_ascii):
    text = json.dumps(value, ensure_ascii=ensure_ascii).encode(errors="surrogatepass")
    assert security._depth(text) == depth_of(value)
