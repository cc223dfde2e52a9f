"""Two runs side by side, against what was written into them."""

from __future__ import annotations

import itertools
import json

import pytest

from matensemble.dashboard import create_dashboard_app
from matensemble.dashboard.index import comparison
from matensemble.dashboard.security import Access
from matensemble.records import JOURNAL_FORMAT, RecordKind, encode_journal_record, journal_stamp

A, B = "matensemble_workflow-20260101_120000", "matensemble_workflow-20260102_120000"


def write(run_dir, chores):
    """Write a run: id → group, how it ended (None: not begun), seconds or detail."""
    lines, clock = [], itertools.count(1)

    def add(kind, chore_id=None, after=0.0, **fields):
        number = next(clock)
        stamp = journal_stamp(1, 1e9 + number, 100.0 * number + after)
        kind = RecordKind(kind)
        lines.append(encode_journal_record(number, stamp, kind, chore_id, 1, fields))

    facts = {"format": JOURNAL_FORMAT, "run": "x", "executor": "local", "nodes": [["n", 4, 0]]}
    add("run_started", **facts, host="h", pid=1)
    headers = []
    for chore_id, (group, end, told) in chores.items():
        headers.append({"id": chore_id, "name": group, "kind": "python", "deps": []})
        if end is None:
            continue
        add("intent", chore_id)
        add("started", chore_id)
        if end == "completed":
            add("completed", chore_id, after=told - 100.0)
        else:
            add("failed", chore_id, r="exception", x=1, d=told)
    (run_dir / "workflow.jsonl").write_text("".join(json.dumps(one) + "\n" for one in headers))
    (run_dir / "workflow.json").write_text("{}")
    (run_dir / "journal.jsonl").write_bytes(b"".join(lines))


@pytest.fixture
def compare(write_run, connect, token, tmp_path):
    apps = []

    def ask(a, b, params=None):
        for name, chores in ((A, a), (B, b)):
            write(write_run(name), chores)
        app = create_dashboard_app(tmp_path, access=Access(token=token))
        apps.append(app)
        params = params or {"a": A, "b": B}
        return connect(app).ask("GET", "/api/v1/compare", params=params)

    yield ask
    for app in apps:
        app.state.indexes.close()


def done(seconds, group="md"):
    return (group, "completed", seconds)


def test_groups_with_their_durations(compare):
    a = {f"m{i}": done(float(i)) for i in range(1, 21)} | {"x": ("old", None, None)}
    b = {f"m{i}": done(2.0 * i) for i in range(1, 21)} | {"y": done(5.0, "new")}
    told = compare(a, b).json()
    assert [group["name"] for group in told["groups"]] == ["md", "new", "old"]
    md, new, old = told["groups"]
    assert md["a"]["durations"] == {
        "count": 20,
        "median": 10.0,
        "p95": 19.0,
        "max": 20.0,
        "total": 210.0,
    }
    assert md["ratio"] == 2.0
    assert (new["a"], new["ratio"]) == (None, None)
    assert old["a"]["durations"]["count"] == 0
    assert old["a"]["durations"]["median"] is None
    assert old["b"] is None
    assert told["num_groups"] == 3
    assert told["a"]["states"] == {"completed": 20, "blocked": 1}
    assert told["b"]["total"] == 21


def test_failures_that_only_one_run_has_come_first(compare):
    a = {f"c{i}": ("g", "failed", f"lost {i} atoms") for i in range(3)}
    a |= {"d": ("g", "failed", "no space")}
    b = {"c0": ("g", "failed", "lost 77 atoms"), "e": ("g", "failed", "too hot")}
    told = compare(a, b).json()
    assert [(one["pattern"], one["where"]) for one in told["failures"]] == [
        ("no space", "only_a"),
        ("too hot", "only_b"),
        ("lost … atoms", "both"),
    ]
    both = told["failures"][-1]
    assert (both["failed_a"], both["failed_b"], both["sample_a"]) == (3, 1, "c0")


def test_chores_that_stand_elsewhere(compare, monkeypatch):
    monkeypatch.setattr(comparison, "MAX_DIFFERENCES", 2)
    a = {f"c{i}": done(1.0) for i in range(6)} | {"only": done(1.0)}
    b = {f"c{i}": done(1.0) for i in range(2)}
    b |= {f"c{i}": ("md", "failed", "no") for i in range(2, 6)}
    told = compare(a, b).json()
    assert [one["id"] for one in told["differences"]] == ["c2", "c3"]
    assert told["differences"][0] == {
        "id": "c2",
        "name": "md",
        "state_a": "completed",
        "state_b": "failed",
        "reason_a": None,
        "reason_b": "exception",
        "seconds_a": 1.0,
        "seconds_b": 100.0,
    }
    assert told["num_differences"] == 4
    assert (told["num_only_a"], told["num_only_b"]) == (1, 0)
    assert told["is_complete"]


def test_a_run_beside_itself_has_no_differences(compare):
    told = compare({"c": done(1.0)}, {}, {"a": A, "b": A}).json()
    assert told["num_differences"] == told["num_only_a"] == told["num_only_b"] == 0
    assert told["groups"][0]["ratio"] == 1.0


def test_stops_when_its_time_is_over(compare, monkeypatch):
    monkeypatch.setattr(comparison, "MAX_SECONDS", 0.0)
    monkeypatch.setattr(comparison, "_STEPS_A_LOOK", 1)
    told = compare({"c": done(1.0)}, {"c": ("md", None, None)}).json()
    assert not told["is_complete"]
    assert (told["num_only_a"], told["num_only_b"]) == (0, 0)
    assert told["groups"][0]["a"]["total"] == 1


@pytest.mark.parametrize(
    ("params", "status"),
    [({"a": A, "b": "none"}, 404), ({"a": A}, 422), ({"a": A, "b": "../etc"}, 404)],
)
def test_runs_that_are_none(compare, params, status):
    assert compare({}, {}, params).status_code == status
