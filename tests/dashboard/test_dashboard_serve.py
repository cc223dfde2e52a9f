from __future__ import annotations

import errno
import json
import os
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
from matensemble.dashboard import serve
from matensemble.dashboard.command import dashboard
from matensemble.errors import AddressUnavailableError

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
    assert sorted(address) == ["port", "ssh", "url"]
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


def test_next_free_port_is_taken(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(serve, "DEFAULT_PORT", taken.getsockname()[1])
        with serve.listen("127.0.0.1", None) as listening:
            assert listening.getsockname()[1] > taken.getsockname()[1]
            # It listens already: who connects now waits for the server, and is not refused.
            with socket.create_connection(listening.getsockname(), timeout=TIMEOUT):
                pass


def test_port_that_was_asked_for_is_not_replaced():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressUnavailableError, match=r"in use.*--port N") as caught:
            serve.listen("127.0.0.1", port)
    assert caught.value.host == "127.0.0.1"
    assert caught.value.port == str(port)


@pytest.mark.parametrize("port", [65536, -1])
def test_port_that_cannot_be(port):
    with pytest.raises(AddressUnavailableError, match="from 0 to 65535"):
        serve.listen("127.0.0.1", port)


def test_all_ports_taken(monkeypatch):
    def refuse(address, family):
        raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(AddressUnavailableError, match=r"port 8000 to 8099: .*in use"):
        serve.listen("127.0.0.1", None)


def test_other_trouble_is_told_at_once(monkeypatch):
    tried = []

    def refuse(address, family):
        tried.append(address)
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(AddressUnavailableError, match=r"port 8000: .*denied"):
        serve.listen("127.0.0.1", None)
    assert len(tried) == 1


@pytest.mark.parametrize(
    ("host", "environ", "line"),
    [
        ("127.0.0.1", {}, "ssh -N -L 8001:127.0.0.1:8001 ada@login1.site"),
        ("::1", {}, "ssh -N -L 8001:[::1]:8001 ada@login1.site"),
        (
            "127.0.0.1",
            {"SLURM_SUBMIT_HOST": "login7"},
            "ssh -N -J ada@login7 -L 8001:127.0.0.1:8001 ada@login1.site",
        ),
        (
            "127.0.0.1",
            {"SLURM_SUBMIT_HOST": "login1"},
            "ssh -N -L 8001:127.0.0.1:8001 ada@login1.site",
        ),
    ],
)
def test_ssh_line(monkeypatch, host, environ, line):
    monkeypatch.setattr(socket, "gethostname", lambda: "login1.site")
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    assert serve.ssh_command(host, 8001, environ) == line


def test_ssh_line_of_a_user_without_a_name(monkeypatch):
    def fail():
        raise KeyError("getpwuid(): uid not found: 1000")

    monkeypatch.setattr(socket, "gethostname", lambda: "box")
    monkeypatch.setattr("getpass.getuser", fail)
    assert serve.ssh_command("127.0.0.1", 8000, {}) == "ssh -N -L 8000:127.0.0.1:8000 box"


def test_only_loopback_goes_without_a_warning():
    assert serve.warn_if_exposed("127.0.0.1") is None
    assert serve.warn_if_exposed("localhost") is None
    assert serve.warn_if_exposed("::1") is None
    for host in ("0.0.0.0", "::", "login1", "10.0.0.1"):
        assert host in str(serve.warn_if_exposed(host))


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
