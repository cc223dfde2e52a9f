"""Actions: off unless allowed, checked before they are left, carried out by a real driver."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress

import pytest

from matensemble.control import Verb, make_request, read_answer
from matensemble.dashboard import create_dashboard_app
from matensemble.dashboard.security import Access
from matensemble.pipeline import Pipeline
from matensemble.workdir import RunDir

OWN = {"sec-fetch-site": "same-origin", "x-matensemble": "1"}
TIMEOUT = 60.0
POLL = threading.Event()
NO_ID = "20260101T000000Z-0123456789abcdef"


@pytest.fixture
def run(tmp_path):
    """A run that was saved and not started."""
    pipe = Pipeline(tmp_path / "runs")
    pipe.exec("true", name="relax")
    return RunDir(pipe.save())


@pytest.fixture
def client(run, connect, token):
    return connect(create_dashboard_app(run.root, access=Access(token=token), allow_actions=True))


def url(run, action_id=""):
    return f"/api/v1/runs/{run.root.name}/actions" + (f"/{action_id}" if action_id else "")


def act(client, run, **action):
    return client.ask("POST", url(run), headers=OWN, json=action)


def test_actions_are_off_unless_allowed(run, connect, token):
    client = connect(create_dashboard_app(run.root, access=Access(token=token)))
    for action in ({"verb": "cancel", "everything": True}, {"verb": "nonsense"}, {}):
        answer = act(client, run, **action)
        assert answer.status_code == 403
        detail = answer.json()["detail"]
        assert f"matensemble dashboard {run.root} --allow-actions" in detail
        assert 'submit(dashboard={"allow_actions": True})' in detail
    assert not list(run.control_dir.glob("*"))


@pytest.mark.parametrize(
    "action",
    [
        {},
        {"verb": "delete"},
        {"verb": "retry"},
        {"verb": "retry", "failed": True, "command": "rm"},
        {"verb": "pause", "everything": True},
        {"verb": "prioritise", "groups": ["relax"]},
        {"verb": "prioritise", "groups": ["relax"], "nice": 10**9},
        {"verb": "retry", "groups": ["relax"], "nice": 1},
        {"verb": "add-time", "groups": ["relax"]},
        {"verb": "add-time", "groups": ["relax"], "duration": 0},
        {"verb": "add-time", "groups": ["relax"], "duration": "soon"},
        {"verb": "retry", "reason": "boredom"},
        {"verb": "retry", "chores": [""]},
        {"verb": "retry", "chores": ["x" * 300]},
        {"verb": "retry", "chores": ["x"] * 1001},
        {"verb": "retry", "chores": "all"},
        {"verb": "retry", "groups": [["relax"]]},
    ],
)
def test_nonsense_is_left_for_no_driver(client, run, action):
    answer = act(client, run, **action)
    assert answer.status_code == 422, answer.text
    assert not list(run.control_dir.glob("*"))


@pytest.mark.parametrize("verb", ["pause", "unpause"])
def test_what_makes_no_sense_later_needs_a_driver(client, run, verb):
    answer = act(client, run, verb=verb)
    assert answer.status_code == 409
    assert "was not started" in answer.json()["detail"]
    assert not list(run.control_dir.glob("*"))


def test_what_can_wait_waits_for_the_next_driver(client, run):
    answer = act(client, run, verb="prioritise", groups=["relax"], nice=-5)
    assert answer.status_code == 202
    accepted = answer.json()
    assert accepted["note"] == "the run was not started"
    assert accepted["command"] == f"matensemble run {run.root}"
    (path,) = run.control_dir.iterdir()
    left = json.loads(path.read_text())
    assert path.name == f"request-{accepted['id']}.json"
    assert left["verb"] == "prioritise"
    assert left["args"] == {"groups": ["relax"], "nice": -5}
    assert left["by"]["uid"] == os.geteuid()
    assert left["by"]["through"] == "dashboard"
    waiting = client.ask("GET", url(run, accepted["id"])).json()
    assert waiting == {
        "id": accepted["id"],
        "state": "waiting",
        "text": "",
        "num_chores": 0,
        "chores": [],
    }


def test_directory_that_others_can_write_is_not_used(client, run):
    run.control_dir.mkdir(exist_ok=True)
    run.control_dir.chmod(0o777)
    answer = act(client, run, verb="cancel", everything=True)
    assert answer.status_code == 409
    assert "can be written by others" in answer.json()["detail"]
    assert not list(run.control_dir.glob("*"))


@pytest.mark.parametrize(
    ("action_id", "code"),
    [
        (NO_ID, 404),
        ("..%2f..%2fstatus", 404),
        ("nonsense", 422),
        (NO_ID + "%0a", 422),
        ("2" * 90, 422),
    ],
)
def test_what_is_no_request_is_not_found(client, run, action_id, code):
    assert client.ask("GET", url(run, action_id)).status_code == code


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"id": 1, "done": 1, "chores": 2}'])
def test_damaged_answer_is_unavailable(client, run, content):
    run.control_dir.mkdir(exist_ok=True)
    (run.control_dir / f"answer-{NO_ID}.json").write_bytes(content)
    assert client.ask("GET", url(run, NO_ID)).status_code == 503


def until(condition):
    """Wait for what a driver of another thread does; it has no event for it."""
    deadline = time.monotonic() + TIMEOUT
    while not (found := condition()):
        assert time.monotonic() < deadline
        POLL.wait(0.05)
    return found


def carried_out(client, run, **action):
    answer = act(client, run, **action)
    assert answer.status_code == 202, answer.text
    assert answer.json()["note"] == ""

    def ended():
        found = client.ask("GET", url(run, answer.json()["id"])).json()
        return found if found["state"] != "waiting" else None

    outcome = until(ended)
    assert client.ask("GET", url(run, outcome["id"])).json() == outcome  # it stays
    return outcome


@pytest.mark.slow
@pytest.mark.e2e
def test_a_real_driver_does_what_it_is_asked_for(tmp_path, connect, token):
    gate, marker = tmp_path / "gate", tmp_path / "marker"
    os.mkfifo(gate)
    pipe = Pipeline(tmp_path / "runs")
    pipe.exec(["cat", str(gate)], name="hold")
    pipe.exec(["test", "-e", str(marker)], name="flaky")
    future = pipe.submit(executor="local", cores=2, log_delay=0)
    (root,) = (tmp_path / "runs").glob("matensemble_workflow-*")
    run = RunDir(root)
    client = connect(create_dashboard_app(root, access=Access(token=token), allow_actions=True))

    def status():
        return client.ask("GET", f"/api/v1/runs/{root.name}").json()["status"]

    try:
        until(lambda: (found := status()) and found["counts"]["failed"] == 1)
        paused = carried_out(client, run, verb="pause")
        assert paused["state"] == "done"
        assert "paused" in paused["text"]
        until(lambda: status()["state"] == "paused")
        assert carried_out(client, run, verb="pause")["state"] == "refused"
        assert carried_out(client, run, verb="unpause")["state"] == "done"
        marker.touch()
        retried = carried_out(client, run, verb="retry", failed=True)
        assert (retried["state"], retried["num_chores"]) == ("done", 1)
        until(lambda: status()["counts"]["completed"] == 1)

        forged = make_request(Verb.CANCEL)
        path = run.control_dir / f"request-{forged.id}.json"
        path.write_text(json.dumps(forged.to_json() | {"verb": "erase"}))
        refused = until(lambda: read_answer(run, forged.id))
        assert not refused.done

        cancelled = carried_out(client, run, verb="cancel", groups=["hold"])
        assert (cancelled["state"], cancelled["num_chores"]) == ("done", 1)
        with suppress(Exception):  # a run of which something was cancelled raises
            future.result(TIMEOUT)
        assert future.done()
        ended = until(lambda: (found := status())["state"] != "running" and found)
        assert (ended["state"], ended["counts"]["cancelled"]) == ("cancelled", 1)
    finally:
        if not future.done():
            act(client, run, verb="cancel", everything=True)
            with suppress(Exception):
                future.result(TIMEOUT)
