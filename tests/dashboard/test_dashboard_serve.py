from __future__ import annotations

import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest
from click.testing import CliRunner

from matensemble.cli import main
from matensemble.dashboard import address, serve
from matensemble.dashboard.command import dashboard

TIMEOUT = 30.0


@pytest.fixture
def start():
    """Start the module as a process, in an environment that would mislead uvicorn."""
    processes: list[subprocess.Popen[str]] = []

    def make(*arguments: str) -> subprocess.Popen[str]:
        misleading = {
            "UVICORN_HOST": "0.0.0.0",
            "UVICORN_PORT": "1",
            "UVICORN_ROOT_PATH": "/elsewhere",
            "WEB_CONCURRENCY": "7",
            "FORWARDED_ALLOW_IPS": "*",
        }
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "matensemble.dashboard.serve", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | misleading,
        )
        processes.append(process)
        return process

    yield make
    for process in processes:
        with process:  # closes its pipes and waits
            process.kill()


def read_handshake(process):
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


@pytest.mark.slow
def test_handshake_and_end_with_the_parent(start, write_run):
    run_dir = write_run()
    process = start("--run-dir", str(run_dir), "--port", "0", "--exit-with-stdin")
    address = read_handshake(process)
    assert sorted(address) == ["port", "socket", "ssh", "url"]
    assert address["socket"] is None
    base, _, token = address["url"].partition("/#token=")
    assert base == f"http://127.0.0.1:{address['port']}"
    assert len(token) >= 43
    with httpx.Client(base_url=base, trust_env=False, timeout=TIMEOUT) as client:
        assert client.get("/api/status").status_code == 401
        answer = client.get("/api/status", headers={"authorization": f"Bearer {token}"})
        assert answer.json()["run"] == run_dir.name
        assert "server" not in answer.headers
        assert answer.headers["date"]

    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=TIMEOUT) == 0
    assert process.stdout is not None and process.stderr is not None
    said = process.stdout.read() + process.stderr.read()
    assert said == ""  # no access log, no token


@pytest.mark.slow
def test_without_the_option_stdin_may_close(start, write_run):
    process = start("--run-dir", str(write_run()), "--port", "0")
    process.stdin.close()
    address = read_handshake(process)
    base = address["url"].partition("#")[0]
    assert httpx.get(base, trust_env=False, timeout=TIMEOUT).headers["referrer-policy"]
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=TIMEOUT) == 0
    assert process.stderr.read() == ""


@pytest.mark.slow
def test_what_prevents_serving_is_told(start, tmp_path, write_run):
    process = start("--run-dir", str(tmp_path / "nowhere"))
    assert "is no directory" in read_handshake(process)["error"]
    assert process.wait(timeout=TIMEOUT) == 1
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start("--run-dir", str(write_run()), "--port", str(port))
        assert f"port {port}" in read_handshake(process)["error"]
        assert process.wait(timeout=TIMEOUT) == 1


@pytest.mark.slow
@pytest.mark.parametrize("can_serve", [True, False])
def test_a_driver_that_ends_first_is_no_fault(start, tmp_path, write_run, can_serve):
    run_dir = write_run() if can_serve else tmp_path / "nowhere"
    process = start("--run-dir", str(run_dir), "--port", "0", "--exit-with-stdin")
    process.stdout.close()
    process.stdin.close()
    assert process.wait(timeout=TIMEOUT) == (0 if can_serve else 1)
    assert process.stderr.read() == ""


@pytest.fixture
def stopped(monkeypatch):
    """Let the server stop as soon as it is asked to run."""
    monkeypatch.setattr(serve.Dashboard, "run", lambda self: self._socket.close())


def test_subcommand_prints_where_to_look(stopped, write_run):
    run_dir = write_run()
    result = CliRunner().invoke(dashboard, [str(run_dir), "--port", "0"])
    assert result.exit_code == 0, result.output
    link = re.search(r"http://127\.0\.0\.1:(\d+)/#token=[\w-]{43}\n", result.stdout)
    assert link is not None
    assert f"ssh -N -L {link[1]}:127.0.0.1:{link[1]} " in result.stdout
    assert str(run_dir) in result.stdout
    assert result.stderr == ""


def test_subcommand_warns_of_the_network(stopped, write_run, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "login1")
    result = CliRunner().invoke(dashboard, [str(write_run()), "--port", "0", "--host", "0.0.0.0"])
    assert result.exit_code == 0, result.output
    assert "http://login1:" in result.stdout
    assert "-L" in result.stdout and ":127.0.0.1:" in result.stdout
    assert "plain HTTP" in result.stderr


def test_subcommand_says_what_to_do_about_a_taken_port(write_run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["dashboard", str(write_run()), "--port", str(port)])
    assert result.exit_code == 2
    assert "--port N" in result.stderr
    assert "Traceback" not in result.output


def test_subcommand_needs_a_directory(tmp_path):
    result = CliRunner().invoke(dashboard, [str(tmp_path / "nowhere")])
    assert result.exit_code == 2


def test_stop_from_another_thread(write_run, monkeypatch):
    served = serve.Dashboard(write_run(), port=0)
    threading.Thread(target=served.stop).start()
    served.run()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", served.address.port), timeout=TIMEOUT)


def test_open_page_sees_the_end(write_run, monkeypatch):
    timers = []
    monkeypatch.setattr(threading.Timer, "start", lambda timer: timers.append(timer))
    reading, writing = os.pipe()
    served = serve.Dashboard(write_run(), port=0)
    try:
        os.write(writing, b"what is said counts for nothing")
        os.close(writing)
        serve._follow(reading, served)
    finally:
        os.close(reading)
    (timer,) = timers
    assert timer.interval == serve.LINGER_SECONDS > 2.0  # the page asks every two seconds
    timer.function()
    served.run()  # returns, because it was told to stop


def test_subcommand_takes_a_socket(stopped, write_run, tmp_path, monkeypatch):
    write_run()
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(dashboard, ["--socket", "mine/s", "--allow-actions"])
    assert result.exit_code == 0, result.output
    assert re.search(rf"ssh -N -L 8000:{tmp_path}/mine/s \S*{socket.gethostname()}", result.stdout)
    assert "http://localhost:8000/#token=" in result.stdout
    assert "actions   allowed" in result.stdout
    assert result.stderr == ""


def test_subcommand_listens_on_a_socket_or_a_port(write_run):
    result = CliRunner().invoke(dashboard, [str(write_run()), "--socket", "s", "--port", "8000"])
    assert result.exit_code == 2
    assert "--socket, or --host and --port" in result.stderr


class Follower(threading.Thread):
    """Reads a stream of events until it ends."""

    def __init__(self, base, run_id, token, transport=None):
        super().__init__(daemon=True)
        self.lines = queue.Queue()
        self._url = f"{base}api/v1/runs/{run_id}/events"
        self._client = httpx.Client(
            transport=transport,
            trust_env=False,
            timeout=TIMEOUT,
            headers={"authorization": f"Bearer {token}"},
        )
        self.start()

    def run(self):
        with self._client, self._client.stream("GET", self._url) as answer:
            for line in answer.iter_lines():
                self.lines.put(line)
        self.lines.put(None)

    def first(self):
        assert self.lines.get(timeout=TIMEOUT) == "event: run"
        return json.loads(self.lines.get(timeout=TIMEOUT).removeprefix("data: "))


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_open_streams_do_not_hold_up_the_end(start, write_run, tmp_path, ending):
    run_dir = write_run()
    path = tmp_path / "sockets" / "s"
    process = start("--run-dir", str(run_dir), "--socket", str(path))
    address = read_handshake(process)
    assert address["socket"] == str(path)
    base, _, token = address["url"].partition("#token=")
    followers = [
        Follower(base, run_dir.name, token, httpx.HTTPTransport(uds=str(path))) for _ in range(3)
    ]
    for follower in followers:
        assert follower.first()["run"]["health"] == "lost"  # nobody drives it
    process.send_signal(ending)
    assert process.wait(timeout=TIMEOUT) == (0 if ending is signal.SIGINT else -ending)
    for follower in followers:
        follower.join(TIMEOUT)
        assert not follower.is_alive()
        assert follower.lines.queue[-1] is None  # it ended properly
    assert not path.exists()
    assert process.stderr.read() == ""


@pytest.mark.slow
def test_stream_ends_when_the_server_is_stopped_by_its_thread(write_run):
    run_dir = write_run()
    served = serve.Dashboard(run_dir, port=0)
    base, _, token = served.address.url.partition("#token=")
    follower = Follower(base, run_dir.name, token)
    stopper = threading.Thread(target=lambda: (follower.first(), served.stop()))
    stopper.start()
    served.run()
    follower.join(TIMEOUT)
    assert not follower.is_alive()
    assert follower.lines.queue[-1] is None


@pytest.mark.slow
def test_detached_one_holds_no_pipe_of_its_parent(start, write_run):
    process = start("--run-dir", str(write_run()), "--port", "0", "--detach")
    address = read_handshake(process)
    process.stdin.close()
    assert process.stdout.read() == process.stderr.read() == ""  # both ended
    base = address["url"].partition("#")[0]
    assert httpx.get(base, trust_env=False, timeout=TIMEOUT).headers["referrer-policy"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=TIMEOUT) == -signal.SIGTERM


def test_answers_do_not_wait_for_acknowledgements():
    with (
        address.listen("127.0.0.1", 0) as listening,
        socket.create_connection(listening.getsockname()),
    ):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
