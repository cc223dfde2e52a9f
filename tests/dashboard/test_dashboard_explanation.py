"""Why a chore is where it is: from the index, a header and the small files of one chore."""

from __future__ import annotations

import json
import pickle

import pytest

from matensemble.dashboard import create_dashboard_app
from matensemble.dashboard.index import ancestry
from matensemble.dashboard.security import Access
from matensemble.records import JOURNAL_FORMAT, RecordKind, encode_journal_record, journal_stamp

NAME = "matensemble_workflow-20260101_120000"
STATUS = {"host": "nowhere.invalid", "updated_at": "2999-01-01T00:00:00+00:00"}
NODES = [["node0", 4, 0], ["node1", 4, 0]]


def header(chore_id, *deps, name="relax", **fields):
    kind = fields.pop("kind", "python")
    return {"id": chore_id, "name": name, "kind": kind, "deps": list(deps), **fields}


class Journal:
    """Records as a driver writes them, one second apart."""

    def __init__(self):
        facts = {"format": JOURNAL_FORMAT, "run": NAME, "executor": "local", "nodes": NODES}
        self.lines = []
        self.add("run_started", None, **facts, host="nowhere.invalid", pid=1)

    def add(self, kind, chore_id, attempt=1, **fields):
        number = len(self.lines) + 1
        stamp = journal_stamp(1, 1e9 + number, float(number))
        self.lines.append(
            encode_journal_record(number, stamp, RecordKind(kind), chore_id, attempt, fields)
        )
        return self

    def run(self, chore_id, attempt=1):
        self.add("intent", chore_id, attempt)
        return self.add("started", chore_id, attempt, h="node0")

    def fail(self, chore_id, reason="exception", exit_code=1, detail="no convergence"):
        return self.run(chore_id).add("failed", chore_id, r=reason, x=exit_code, d=detail)


@pytest.fixture
def explain(write_run, connect, token):
    """Write a run of some headers and records, and ask about one chore."""
    opened = []

    def ask(chore_id, headers, journal, before=lambda run_dir: None, **status):
        run_dir = write_run(NAME, **STATUS | status)
        lines = (json.dumps(one) + "\n" for one in headers)
        (run_dir / "workflow.jsonl").write_text("".join(lines))
        (run_dir / "journal.jsonl").write_bytes(b"".join(journal.lines))
        before(run_dir)
        app = create_dashboard_app(run_dir, access=Access(token=token))
        opened.append(app)
        answer = connect(app).ask("GET", f"/api/v1/runs/{NAME}/chores/{chore_id}/explanation")
        assert answer.status_code == 200, answer.text
        return answer.json()

    yield ask
    for app in opened:
        app.state.indexes.close()


def test_waits_for_chores_upstream(explain):
    headers = [header("a"), header("b", "a"), header("c"), header("d", "b", "c", name="md")]
    told = explain("d", headers, Journal().run("a").run("c").add("completed", "c"))
    assert told["state"] == "blocked"
    assert [(one["id"], one["state"]) for one in told["waits_for"]] == [("b", "blocked")]
    assert (told["num_waits_for"], told["num_upstream"]) == (1, 2)
    assert told["because"] == ["waits for b (blocked); 1 of the 2 it depends on are done"]
    assert [one["id"] for one in told["chain"]] == ["d", "b", "a"]
    assert told["chain"][-1]["because"] == "on node0"
    assert told["hold"] == ""


def test_names_the_first_of_very_many(explain, monkeypatch):
    monkeypatch.setattr(ancestry, "MAX_WAITS_FOR", 3)
    many = [f"c{number}" for number in range(7)]
    told = explain("z", [*map(header, many), header("z", *many)], Journal())
    assert [one["id"] for one in told["waits_for"]] == ["c0", "c1", "c2"]
    assert (told["num_waits_for"], told["num_upstream"]) == (7, 7)


def test_failure_upstream_that_is_ignored_is_not_waited_for(explain):
    ignored = header("a", policy={"on_failure": "ignore"})
    headers = [ignored, header("b"), header("d", "a", "b")]
    told = explain("d", headers, Journal().fail("a"))
    assert [one["id"] for one in told["waits_for"]] == ["b"]
    told = explain("d", headers, Journal().fail("a").run("b").add("completed", "b"))
    assert told["state"] == "ready"


def test_ready_chore_asks_for_what_is_not_free(explain):
    wide = header("a", resources={"num_tasks": 2, "cores_per_task": 4, "duration": 60.0}, nice=3)
    told = explain("a", [wide], Journal())
    assert told["state"] == "ready"
    assert told["room"] == {
        "request": "2 tasks of 4 cores",
        "cores": 8,
        "gpus": 0,
        "duration": 60.0,
        "free_cores": 3,
        "total_cores": 4,
        "free_gpus": 0,
        "total_gpus": 0,
        "avoids": [],
    }
    assert told["because"] == [
        "it depends on no other chore, and asks for 2 tasks of 4 cores",
        "free are 3 of 4 cores",
        "may run for 1 min, so it starts only where that much time is left",
        "its nice is 3; those with a lower one come first",
    ]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"state": "paused"}, "held: the run is paused (eva on login1 asked to pause: paused)"),
        ({"state": "draining", "detail": "out of time"}, "held: the run is draining (out of time)"),
        ({"state": "interrupted"}, "the run is over: it is interrupted"),
        ({"updated_at": "2020-01-01T00:00:00+00:00"}, "the driver of the run seems lost: no sign"),
    ],
)
def test_says_what_holds_the_whole_run(explain, status, words):
    by = {"user": "eva", "host": "login1"}
    answer = {"done": True, "text": "paused"}
    journal = Journal().add("control", None, id="1", verb="pause", by=by, args={}, answer=answer)
    told = explain("a", [header("a")], journal, **status)
    assert told["hold"].startswith(words)
    assert told["because"][0] == told["hold"]


@pytest.mark.parametrize(("fields", "taker"), [({}, "the executor"), ({"p": 1}, "a warm worker")])
def test_says_what_it_was_handed_to(explain, fields, taker):
    told = explain("a", [header("a")], Journal().add("intent", "a", **fields))
    assert told["because"][0] == f"handed to {taker}, which has not started it yet"


def test_waits_before_another_attempt(explain):
    patient = header("a", policy={"retry": {"limit": 2, "delay": 100.0}})
    journal = Journal().run("a")
    journal.add("requeued", "a", r="exception", x=1, d="no convergence", b="retry", after=100.0)
    told = explain("a", [patient], journal)
    assert told["state"] == "blocked"
    assert told["not_before"] == 1e9 + 4 + 100
    assert told["because"][0] == "waits 1 min 40 s before it is tried again"
    assert told["earlier"] == [{"attempt": 1, "text": "exception (exit code 1): no convergence"}]


def test_ran_again_because_its_result_was_lost(explain):
    journal = Journal().run("a").add("completed", "a").add("revoked", "a", d="is gone")
    told = explain("a", [header("a")], journal.run("a", 2))
    assert told["state"] == "running"
    assert told["earlier"] == [
        {"attempt": 1, "text": "completed; its result was found gone or damaged later"}
    ]


def test_failed_with_what_it_left_behind(explain):
    error = {
        "type": "ConvergenceError",
        "message": "<script>alert(1)</script>\x1b[31m",
        "traceback": "Traceback …",
    }

    def leave(run_dir):
        directory = run_dir / "out" / "a"
        directory.mkdir(parents=True)
        (directory / "error.json").write_text(json.dumps(error))
        (directory / "stderr").write_text("\x1b[31mone\x1b[0m\n\n" + "two\n" * 20)
        (directory / "stdout").symlink_to("/etc/passwd")

    headers = [header("a", policy={"retry": {"limit": 3, "on": ["out_of_memory"]}})]
    told = explain("a", headers, Journal().fail("a"), leave)
    failure = told["failure"]
    assert told["because"] == ["exception (exit code 1): no convergence"]
    assert failure["meaning"] == "The function raised."
    assert failure["error_type"] == "ConvergenceError"
    assert failure["message"] == "<script>alert(1)</script>"
    assert failure["outputs"] == [{"stream": "stderr", "lines": ["two"] * 12}]
    assert failure["not_again"] == "it was not tried again: its retries do not cover this failure"


def test_skipped_because_of_a_root_far_above(explain, monkeypatch):
    monkeypatch.setattr(ancestry, "MAX_CHAIN", 4)
    headers = [header("c0")] + [header(f"c{i}", f"c{i - 1}") for i in range(1, 10)]
    journal = Journal().fail("c0")
    for i in range(1, 10):
        journal.add("skipped", f"c{i}", u="c0")
    told = explain("c9", headers, journal)
    assert [one["id"] for one in told["chain"]] == ["c9", "c8", "c1", "c0"]
    assert told["num_chain_left_out"] == 6
    assert told["because"] == ["c0, which it depends on, has no result"]
    assert told["failure"]["chore"]["id"] == "c0"


def test_waits_for_a_whole_group(explain):
    headers = [header("a"), header("b"), header("z", {"gather": "relax"}, name="sum")]
    told = explain("z", headers, Journal().fail("a"))
    assert told["state"] == "blocked"
    assert told["gathers"] == [{"name": "relax", "total": 2, "ended": 1}]
    assert told["because"][0].startswith("gathers the results of 'relax': waits until")


def test_tells_where_a_result_was_taken_over_from(explain):
    told = explain("a", [header("a")], Journal().add("reused", "a", **{"from": "/old/a"}))
    assert told["source"] == "/old/a"
    assert told["because"] == ["taken over from /old/a"]


def test_loads_no_pickle(explain, tmp_path):
    class Canary:
        def __reduce__(self):
            return (open, (str(tmp_path / "loaded"), "w"))

    def leave(run_dir):
        directory = run_dir / "out" / "a"
        directory.mkdir(parents=True)
        for name in ("chore.pickle", "result.pickle", "error.json", "metadata.json"):
            (directory / name).write_bytes(pickle.dumps(Canary()))

    explain("a", [header("a")], Journal().fail("a"), leave)
    assert not (tmp_path / "loaded").exists()


def test_nobody_of_that_id(explain, write_run, connect, token):
    explain("a", [header("a")], Journal())
    app = create_dashboard_app(write_run(NAME), access=Access(token=token))
    answer = connect(app).ask("GET", f"/api/v1/runs/{NAME}/chores/none/explanation")
    app.state.indexes.close()
    assert answer.status_code == 404
