"""The dashboard alone: it serves a run that was made elsewhere, to who has the token."""

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import expect

expect.absent("flux", "rich", "httpx", "matplotlib")
expect.absent("matensemble.manager", "matensemble.runtime", "matensemble.runtime_worker")
expect.command("dashboard", "--help")
assert "\n  resume " not in expect.command("--help")

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from runs import make_run  # noqa: E402 - it needs the SDK alone

run_dir = make_run(Path("elsewhere"), 300).root

server = subprocess.Popen(
    [expect.COMMAND, "dashboard", run_dir, "--port", "0"],
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    text=True,
)


def get(path: str, token: str | None) -> bytes:
    """Return what the server answers to a program."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(address + path, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


try:
    assert server.stdout is not None
    links = (re.search(r"(http://\S+)/#token=(\S+)", line) for line in server.stdout)
    link = next(found for found in links if found)
    address, token = link.groups()

    assert json.loads(get("/api/status", token))["counts"]["total"] == 300
    chores = json.loads(get(f"/api/v1/runs/{run_dir.name}/chores?state=failed", token))
    assert chores["freshness"]["is_complete"], chores
    assert {chore["reason"] for chore in chores["chores"]} == {"exception"}, chores
    assert b"<script" in get("/", None), "the page is not in the wheel"
    try:
        get("/api/status", None)
    except urllib.error.HTTPError as error:
        assert error.code == 401, error
        error.close()
    else:
        raise AssertionError("the status is shown without the token")
    expect.command("report", run_dir, "-o", "report.html")
    assert b"ValueError" in Path("report.html").read_bytes()
finally:
    server.send_signal(signal.SIGINT)
    assert server.wait(timeout=30) == 0
    server.stdout.close()
