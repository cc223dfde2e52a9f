"""What other users of the machine meet: sockets, processes, and connections that they hold."""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from matensemble.dashboard import connection, serve
from matensemble.dashboard.security import MAX_HEADER_BYTES

TIMEOUT = 30.0
OWN = {"sec-fetch-site": "same-origin", "x-matensemble": "1"}
RUN = "matensemble_workflow-20260101_120000"
PROC = Path("/proc")
MISLEADING = {
    "UVICORN_HOST": "0.0.0.0",
    "UVICORN_PORT": "1",
    "UVICORN_UDS": "elsewhere",
    "UVICORN_FD": "0",
    "UVICORN_RELOAD": "1",
    "UVICORN_WORKERS": "7",
    "UVICORN_LOG_LEVEL": "trace",
    "UVICORN_ACCESS_LOG": "1",
    "UVICORN_PROXY_HEADERS": "1",
    "UVICORN_ROOT_PATH": "/elsewhere",
    "UVICORN_APP": "json:loads",
    "UVICORN_FACTORY": "1",
    "WEB_CONCURRENCY": "7",
    "FORWARDED_ALLOW_IPS": "*",
}
has_proc = pytest.mark.skipif(
    not (PROC / "net" / "tcp").exists(), reason="what a process has open is told by Linux only"
)


@pytest.fixture
def start(tmp_path):
    """Start a dashboard as a process; return it and what it answered."""
    processes = []

    def make(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "matensemble.dashboard.serve", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=os.environ | MISLEADING,
        )
        processes.append(process)
        return process, json.loads(process.stdout.readline())

    yield make
    for process in processes:
        with process:
            process.kill()


def listening_addresses(pid):
    """Return the TCP addresses on which a process listens, as the kernel writes them."""
    opened = set()
    for entry in (PROC / str(pid) / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            opened.add(str(entry.readlink()))
    found = []
    for name in ("tcp", "tcp6"):
        path = PROC / "net" / name
        if not path.exists():  # a kernel without IPv6
            continue
        for line in path.read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in opened:
                found.append(fields[1])
    return found


@pytest.mark.slow
@has_proc
def test_listens_on_loopback_whatever_the_environment_says(start, write_run):
    process, told = start("--run-dir", write_run(), "--port", "0")
    base = told["url"].partition("#")[0]
    httpx.get(base, trust_env=False, timeout=TIMEOUT)
    assert listening_addresses(process.pid) == [f"0100007F:{told['port']:04X}"]
    children = PROC / str(process.pid) / "task" / str(process.pid) / "children"
    assert children.read_text() == ""  # no workers, no reloader


@pytest.mark.slow
@has_proc
def test_with_a_socket_it_has_no_port(start, write_run, tmp_path):
    process, told = start("--run-dir", write_run(), "--socket", "sockets/s")
    path = tmp_path / "sockets" / "s"
    assert told["socket"] == str(path)
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.lstat().st_mode) == 0o700
    token = told["url"].partition("#token=")[2]
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(path)), headers={"authorization": f"Bearer {token}"}
    ) as client:
        assert client.get("http://localhost/api/status").status_code == 200
        for host in ("evil.example", "127.0.0.2", "", "localhost.evil.example:8000"):
            for method in ("GET", "POST"):
                headers = OWN | {"host": host}
                answer = client.request(method, "http://localhost/api/status", headers=headers)
                assert answer.status_code == 400
        client.headers.clear()
        assert client.get("http://localhost/api/status").status_code == 401
    assert listening_addresses(process.pid) == []


@pytest.mark.slow
@has_proc
def test_token_is_where_nobody_else_looks(start, write_run, tmp_path):
    run_dir = write_run()
    process, told = start("--run-dir", run_dir, "--port", "0")
    base, _, token = told["url"].partition("#token=")
    known = {"authorization": f"Bearer {token}"}
    with httpx.Client(base_url=base, trust_env=False, timeout=TIMEOUT, headers=known) as client:
        cookie = client.post("/api/session", headers=OWN).headers["set-cookie"]
        assert token in cookie
        for path in ("/api/status", f"/api/v1/runs/{RUN}/chores", "/api/nothing"):
            client.get(path)
    for name in ("cmdline", "environ", "comm"):
        assert token.encode() not in (PROC / str(process.pid) / name).read_bytes(), name
    process.terminate()
    process.wait(TIMEOUT)
    assert process.stdout.read() == process.stderr.read() == ""
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if path.suffix == ".sqlite"], "there is an index to look into"
    assert [path for path in files if token.encode() in path.read_bytes()] == []


@contextmanager
def running(run_dir):
    """Serve on a thread of this process."""
    dashboard = serve.Dashboard(run_dir, port=0)
    thread = threading.Thread(target=dashboard.run)
    thread.start()
    try:
        yield dashboard
    finally:
        dashboard.stop()
        thread.join(TIMEOUT)
    assert not thread.is_alive()


@pytest.fixture
def served(write_run):
    with running(write_run()) as dashboard:
        yield dashboard


def knock(dashboard, data=b""):
    """Open a connection and say something."""
    client = socket.create_connection(("127.0.0.1", dashboard.address.port), timeout=TIMEOUT)
    client.sendall(data)
    return client


def read_to_the_end(client):
    """Return what is answered until the other side closes; a reset counts as that."""
    parts = []
    try:
        while part := client.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def status_of(dashboard):
    base, _, token = dashboard.address.url.partition("#token=")
    known = {"authorization": f"Bearer {token}", "connection": "close"}
    return httpx.get(
        f"{base}api/status", trust_env=False, timeout=TIMEOUT, headers=known
    ).status_code


@pytest.mark.slow
def test_log_of_the_server_holds_no_token(served, caplog):
    base, _, token = served.address.url.partition("#token=")
    with caplog.at_level(logging.DEBUG), httpx.Client(base_url=base, trust_env=False) as client:
        known = {"authorization": f"Bearer {token}"}
        client.post("/api/session", headers=OWN | known)
        client.get("/api/status")  # with the cookie
        client.get("/api/fault", headers=known)
        with knock(served, f"nonsense {token}\r\n\r\n".encode()) as client_of_nonsense:
            read_to_the_end(client_of_nonsense)
    said = [record for record in caplog.records if not record.name.startswith("http")]
    assert any("Invalid HTTP request" in record.getMessage() for record in said)
    assert not any(token in record.getMessage() for record in said)  # `http…` is the client's


@pytest.mark.parametrize("place", ["bearer", "cookie"])
def test_tokens_are_compared_in_constant_time(app, connect, token, monkeypatch, place):
    compared = []

    def compare(given, expected):
        compared.append((given, expected))
        return given == expected

    monkeypatch.setattr(secrets, "compare_digest", compare)
    client = connect(token=None)
    if place == "bearer":
        answer = client.ask("GET", "/api/status", headers={"authorization": "Bearer guess"})
    else:
        client.cookies.set(app.state.access.cookie, "guess")
        answer = client.ask("GET", "/api/status")
    assert answer.status_code == 401
    assert (b"guess", token.encode()) in compared


@pytest.mark.slow
@pytest.mark.parametrize(
    "question",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03<script>\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: <script>\x00\r\n\r\n",
        b"GET <script> HTTP/1.1 nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (8 * MAX_HEADER_BYTES) + b"\r\n\r\n",
    ],
    ids=["tls", "no-host", "two-hosts", "control", "no-http", "two-lengths", "long-header"],
)
def test_what_is_no_question_is_refused_in_fixed_words(served, question):
    """These the server refuses before the guard can dress the answer, so it must hold nothing."""
    try:
        client = knock(served, question)
    except (ConnectionResetError, BrokenPipeError):
        client = None  # it did not even wait for the end
    if client is not None:
        with client:
            answer = read_to_the_end(client)
        assert not answer or answer.startswith(b"HTTP/1.1 4")
        assert b"<script>" not in answer
        assert b"content-type: text/html" not in answer
    assert status_of(served) == 200


@pytest.mark.slow
def test_number_of_connections_is_bounded(served):
    idle = [knock(served) for _ in range(serve.MAX_CONNECTIONS)]
    try:
        ask = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        with knock(served, ask) as client:
            assert read_to_the_end(client).startswith(b"HTTP/1.1 503")
    finally:
        for client in idle:
            client.close()


HEAD = b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /api/sta",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HT",
        HEAD + b"\r\nshort",
        HEAD + b"Sec-Fetch-Site: same-origin\r\nX-MatEnsemble: 1\r\n\r\n{",
    ],
    ids=["nothing", "line", "headers", "second", "refused-body", "body"],
)
def test_who_is_slow_to_ask_is_cut_off_and_shuts_out_nobody(write_run, monkeypatch, said):
    monkeypatch.setattr(connection, "REQUEST_SECONDS", 1.0)
    with running(write_run()) as dashboard:
        if b"X-MatEnsemble" in said:
            token = dashboard.address.url.partition("#token=")[2].encode()
            said = said.replace(b"X-Mat", b"Authorization: Bearer " + token + b"\r\nX-Mat")
        slow = [knock(dashboard, said) for _ in range(serve.MAX_CONNECTIONS)]
        try:
            for client in slow:
                answer = read_to_the_end(client)  # returns: the other side closes
                assert not answer or answer.startswith(b"HTTP/1.1 ")
        finally:
            for client in slow:
                client.close()
        assert status_of(dashboard) == 200


@pytest.mark.slow
def test_who_does_not_take_the_answer_is_cut_off(write_run, monkeypatch):
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.5)
    lost = threading.Event()
    lose = connection.Connection.connection_lost
    monkeypatch.setattr(
        connection.Connection,
        "connection_lost",
        lambda self, error: (lose(self, error), lost.set()),
    )
    run_dir = write_run()
    log = run_dir / "out" / "chore-relax-0001"
    log.mkdir(parents=True)
    with (log / "stdout").open("wb") as file:
        file.truncate(64_000_000)
    with running(run_dir) as dashboard:
        token = dashboard.address.url.partition("#token=")[2]
        path = f"/api/v1/runs/{RUN}/chores/chore-relax-0001/download?file=stdout"
        lines = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        with knock(dashboard, lines.encode()) as client:
            assert client.recv(1)
            assert lost.wait(TIMEOUT)
            assert len(read_to_the_end(client)) < 64_000_000
        assert status_of(dashboard) == 200
