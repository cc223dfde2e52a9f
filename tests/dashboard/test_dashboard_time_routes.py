"""Time as the interface answers it: series, timeline, use and history of finished and live runs."""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path

import pytest

from matensemble.dashboard import create_dashboard_app
from matensemble.dashboard.security import Access
from matensemble.records import RecordKind, encode_journal_record, journal_stamp, read_records

ROOT = Path(__file__).parents[2]


def load_generator():
    spec = importlib.util.spec_from_file_location("runs", ROOT / "benchmarks" / "runs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_run = load_generator().make_run


@pytest.fixture
def asking(connect, token):
    apps = []

    def make(root):
        apps.append(create_dashboard_app(root, access=Access(token=token)))
        client = connect(apps[-1])

        def ask(path, **params):
            return client.ask("GET", f"/api/v1/runs/{root.name}/{path}", params=params)

        return ask

    yield make
    for app in apps:
        app.state.indexes.close()


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "runs", 900)


@pytest.fixture
def ask(run, asking):
    return asking(run.root)


def answer(response):
    assert response.status_code == 200, response.text
    found = response.json()
    assert found["freshness"] == {"is_complete": True, "share": 1.0, "problem": ""}
    return found


def attempts_of(run):
    """Return start and end of each attempt, and its host and end's kind; None while it runs."""
    attempts = {}
    for record in read_records(run):
        key = (record.chore_id, record.attempt)
        if record.kind == RecordKind.STARTED:
            attempts[key] = (record.fields["h"], record.wall, None, None)
        elif "el" in record.fields:
            start = record.wall - record.fields["el"]
            attempts[key] = (record.fields["h"], start, record.wall, record.kind)
        elif key in attempts and record.kind in {"completed", "failed", "requeued"}:
            attempts[key] = (*attempts[key][:2], record.wall, record.kind)
    return attempts


def test_series_of_a_finished_run(ask, run):
    series = answer(ask("series"))
    attempts = attempts_of(run)
    assert series["run"]["is_growing"] is False
    assert series["at"][0] == series["start"] <= series["run"]["start"]
    assert {b - a for a, b in pairwise([*series["at"], series["end"]])} == {series["bin_seconds"]}
    assert sum(series["started"]) == len(attempts) == sum(series["submitted"])
    assert sum(series["completed"]) == 300 - 3 + 2 * 297
    assert (sum(series["failed"]), sum(series["skipped"]), sum(series["requeued"])) == (3, 6, 6)
    busy = sum(m * s for m, s in zip(series["cores_busy"], series["seconds"], strict=True))
    assert busy == pytest.approx(
        sum(end - start for _, start, end, _ in attempts.values()), abs=0.1
    )
    assert series["running"] == series["cores_busy"]
    assert max(series["total_cores"]) == pytest.approx(256, rel=0.05)
    columns = [value for value in series.values() if isinstance(value, list)]
    assert {len(column) for column in columns} == {len(series["at"])}


def test_series_of_a_part(ask):
    whole = answer(ask("series", bins=1000))
    first, last = whole["at"][3], whole["at"][9]
    part = answer(ask("series", bins=10, start=first + 0.4, end=last - 0.2))
    assert (part["start"], part["end"], part["bin_seconds"]) == (first, last, 1)
    assert part["run"] == whole["run"]
    for name in ("completed", "running", "total_cores"):
        assert part[name] == whole[name][3:9]


def test_timeline_has_bars_where_they_are_few(ask, run):
    attempts = attempts_of(run)
    found = answer(ask("timeline"))
    assert (found["mode"], found["num_lanes"], found["num_bars"]) == ("bars", 8, len(attempts))
    assert [lane["name"] for lane in found["lanes"]] == [f"node{i}" for i in range(8)]
    for lane in found["lanes"]:
        assert (lane["running"], lane["failed"]) == ([], [])
        for bar in lane["bars"]:
            host, start, end, kind = attempts.pop((bar["id"], bar["attempt"]))
            assert (lane["name"], bar["started_at"], bar["ended_at"]) == (host, start, end)
            assert bar["state"] == ("completed" if kind == "completed" else "failed")
    assert not attempts


def test_timeline_tells_how_many_ran_where_bars_are_too_many(ask, run, monkeypatch):
    monkeypatch.setattr("matensemble.dashboard.index.timeline.MAX_BARS", 100)
    found = answer(ask("timeline", by="group", lanes=2, lane_offset=1, bins=50))
    assert (found["mode"], found["num_lanes"], found["lane_offset"]) == ("occupancy", 3, 1)
    assert [lane["name"] for lane in found["lanes"]] == ["md", "analyse"]
    attempts = attempts_of(run)
    for lane in found["lanes"]:
        assert lane["bars"] == []
        assert len(lane["running"]) == len(lane["failed"]) == len(found["at"])
    assert [sum(lane["failed"]) for lane in found["lanes"]] == [6, 0]
    its = [a for (chore, _), a in attempts.items() if chore.startswith("chore-md-")]
    mean = found["lanes"][0]["running"]
    covered = [
        min(at + found["bin_seconds"], found["run"]["end"]) - max(at, found["run"]["start"])
        for at in found["at"]
    ]
    seconds = sum(m * s for m, s in zip(mean, covered, strict=True))
    assert seconds == pytest.approx(sum(end - start for _, start, end, _ in its), abs=0.1)


def test_utilisation_is_that_of_the_attempts(ask, run):
    found = answer(ask("utilisation"))
    attempts = attempts_of(run)
    for host in found["hosts"]:
        its = [a for a in attempts.values() if a[0] == host["name"]]
        assert host["core_seconds"] == pytest.approx(sum(end - start for _, start, end, _ in its))
        assert host["completed"] == sum(kind == "completed" for *_, kind in its)
        assert host["completed"] + host["failed"] == len(its)
        assert (host["running"], host["cores_busy"]) == (0, 0)
    assert (found["num_hosts"], found["num_groups"]) == (8, 3)
    groups = {group["name"]: group for group in found["groups"]}
    assert groups["md"]["durations"]["count"] == 297
    assert groups["md"]["durations"]["median"] <= groups["md"]["durations"]["p95"]
    for which in ("hosts", "groups"):
        total = sum(lane["core_seconds"] for lane in found[which])
        assert total == pytest.approx(found["core_seconds"], abs=0.1)
    seconds = found["run"]["end"] - found["run"]["start"]
    assert found["total_core_seconds"] == pytest.approx(256 * seconds, rel=0.05)
    assert found["total_node_seconds"] == pytest.approx(8 * seconds, rel=0.05)


def test_a_live_run_goes_on_until_its_driver_was_last_seen(tmp_path, asking, monkeypatch):
    monkeypatch.setattr("matensemble.dashboard.index.feed.INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr("matensemble.dashboard.catalog.REFRESH_SECONDS", 0.0)
    run = make_run(tmp_path / "live", 900, is_live=True)
    ask = asking(run.root)
    running = [key for key, (*_, end, _) in attempts_of(run).items() if end is None]
    assert running
    series = answer(ask("series"))
    assert series["run"]["is_growing"] is True
    timeline = answer(ask("timeline", start=series["run"]["end"] - 1))
    bars = [bar for lane in timeline["lanes"] for bar in lane["bars"] if bar["state"] == "running"]
    assert {(bar["id"], bar["attempt"]) for bar in bars} == set(running)
    assert {bar["ended_at"] for bar in bars} == {None}
    used = answer(ask("utilisation"))
    assert sum(host["running"] for host in used["hosts"]) == len(running)
    assert sum(host["cores_busy"] for host in used["hosts"]) == len(running)
    status = run.status_path.read_text()
    later = status.replace('"state": "running"', '"state": "completed"', 1)
    assert later != status
    run.status_path.write_text(later)
    assert answer(ask("series"))["run"]["is_growing"] is False


def test_history_is_told_newest_first_in_pages(ask, run):
    with run.journal_path.open("ab") as journal:
        number = run.journal_path.read_bytes().count(b"\n")
        for i in range(4):
            fields = {
                "id": f"r{i}",
                "verb": "pause" if i % 2 == 0 else "unpause",
                "by": {"user": "<b>ada</b>\x1b[31m", "host": "login"},
                "args": {},
                "answer": {"done": True, "text": "done"},
            }
            stamp = journal_stamp(1, 1_767_300_000.0 + i, 100_000.0 + i)
            line = encode_journal_record(number + i + 1, stamp, RecordKind.CONTROL, fields=fields)
            journal.write(line)
    first = answer(ask("history", limit=4))
    rest = answer(ask("history", limit=4, cursor=first["next"]))
    assert (first["total"], rest["total"], rest["next"]) == (8, 8, None)
    events = first["events"] + rest["events"]
    assert [event["kind"] for event in events] == [
        "unpaused", "paused", "unpaused", "paused", "closed", "workers", "workers", "opened",
    ]  # fmt: skip
    assert [event["number"] for event in events] == sorted(
        (event["number"] for event in events), reverse=True
    )
    assert "ada" in events[0]["text"]
    assert "\x1b" not in events[0]["text"]


def test_a_run_that_was_not_started_has_no_time(write_run, asking):
    ask = asking(write_run())
    for path in ("series", "timeline", "utilisation", "history"):
        response = ask(path)
        assert response.status_code == 200, response.text
    found = ask("series").json()
    assert found["run"] == {"start": 0, "end": 0, "is_growing": False}
    assert sum(found["started"]) == sum(found["running"]) == 0
    assert ask("timeline").json()["lanes"] == []
    assert ask("utilisation").json()["hosts"] == []


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("series", {"bins": 5}),
        ("series", {"bins": 1001}),
        ("series", {"start": "nan"}),
        ("series", {"start": -1}),
        ("series", {"start": 1e300}),
        ("series", {"start": 1_767_225_700, "end": 1_767_225_650}),
        ("series", {"start": 1e11}),
        ("timeline", {"lanes": 101}),
        ("timeline", {"lane_offset": -1}),
        ("timeline", {"by": "chore"}),
        ("timeline", {"start": 5, "end": 5}),
        ("history", {"cursor": 0}),
        ("history", {"cursor": 2**63}),
        ("history", {"limit": 0}),
    ],
)
def test_questions_that_make_no_sense_are_refused(ask, path, params):
    response = ask(path, **params)
    assert response.status_code == 422
    assert response.json()["detail"]
