"""The dashboard alone: it serves a run from its files, to who has the token, with the page."""

import json
import re
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import expect

from matensemble import workdir
from matensemble.model import RunState
from matensemble.status import Counts, RunStatus

expect.absent("flux", "rich", "httpx", "matplotlib")
expect.absent("matensemble.manager", "matensemble.runtime", "matensemble.runtime_worker")
expect.command("dashboard", "--help")
assert "\n  resume " not in expect.command("--help")

run_dir = Path(workdir.DIRECTORY_PREFIX + "20260101_120000")
run_dir.mkdir(mode=0o700)
status = RunStatus(
    run=run_dir.name,
    state=RunState.COMPLETED,
    counts=Counts(total=3, completed=3),
    groups={"relax": Counts(total=3, completed=3)},
)
(run_dir / workdir.STATUS).write_text(json.dumps(status.to_json()))

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

    assert json.loads(get("/api/status", token))["counts"]["completed"] == 3
    assert b"<script" in get("/", None), "the page is not in the wheel"
    try:
        get("/api/status", None)
    except urllib.error.HTTPError as error:
        assert error.code == 401, error
        error.close()
    else:
        raise AssertionError("the status is shown without the token")
finally:
    server.send_signal(signal.SIGINT)
    assert server.wait(timeout=30) == 0
    server.stdout.close()
