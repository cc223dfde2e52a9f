from __future__ import annotations

import csv
import io
import json
import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from matensemble.dashboard import create_dashboard_app
from matensemble.dashboard.catalog import (
    MAX_OPERATIONS,
    OPERATIONS_OF_A_LOOK,
    REST_SECONDS,
    SCAN_SECONDS,
    Catalog,
)
from matensemble.dashboard.security import Access
from matensemble.errors import RunDirectoryError
from matensemble.owner import Owner

FIRST = "matensemble_workflow-20260101_000000"
SECOND = "matensemble_workflow-20260102_000000"


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_runs_are_listed_newest_first_with_their_health(connect, write_run, tmp_path, token):
    write_run(FIRST, state="completed")
    write_run(SECOND)
    (tmp_path / "matensemble_workflow-20260103_000000").mkdir()
    broken = write_run("matensemble_workflow-20260104_000000")
    (broken / "status.json").write_text("{")
    app = create_dashboard_app(tmp_path, access=Access(token=token))
    answer = connect(app).ask("GET", "/api/v1/runs").json()
    assert answer["total"] == 5
    assert [run["id"][-15:] for run in answer["runs"]] == [
        "20260104_000000",
        "20260103_000000",
        "20260102_000000",
        "20260101_120000",
        "20260101_000000",
    ]
    health = [run["health"] for run in answer["runs"]]
    assert health == ["unreadable", "waiting", "lost", "lost", "ended"]
    assert "is no JSON" in answer["runs"][0]["problem"]
    assert "no sign of life" in answer["runs"][2]["problem"]
    assert answer["runs"][4]["status"]["counts"]["failed"] == 2


def test_one_run_by_its_name(connect, write_run):
    name = write_run().name
    answer = connect().ask("GET", f"/api/v1/runs/{name}")
    assert answer.json()["id"] == name
    assert answer.json()["status"]["sequence"] == 17


@pytest.mark.parametrize(
    "name", ["..", ".", "%2e%2e", "..%2fx", "nothing", "%00", "%ff", "x" * 5000, "%0a"]
)
def test_names_that_are_no_run_are_not_found(connect, write_run, tmp_path, token, name):
    write_run(FIRST)
    client = connect(create_dashboard_app(tmp_path, access=Access(token=token)))
    assert client.ask("GET", f"/api/v1/runs/{name}").status_code in (404, 200 * (name == "."))


def test_link_to_a_run_is_no_run(write_run, tmp_path, clock):
    outside = write_run("elsewhere")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / FIRST).symlink_to(outside)
    catalog = Catalog(folder, clock)
    assert catalog.list_runs() == ([], 0)
    with pytest.raises(RunDirectoryError, match="is not the name of a run"):
        catalog.find(FIRST)


def test_disk_is_asked_as_often_as_was_earned(write_run, tmp_path, clock):
    num_runs = int(MAX_OPERATIONS / OPERATIONS_OF_A_LOOK) + 2
    for day in range(num_runs):
        write_run(f"matensemble_workflow-20260101_{day:06}")
    catalog = Catalog(tmp_path, clock)

    def num_seen() -> int:
        return sum(seen.look is not None for seen in catalog.list_runs()[0])

    assert num_seen() == num_runs - 2
    assert num_seen() == num_runs - 2
    clock.now += 1.0
    assert num_seen() == num_runs - 1
    clock.now += 1.0
    assert num_seen() == num_runs


def test_run_at_rest_is_seldom_looked_at_in_a_list(write_run, tmp_path, clock):
    write_run(FIRST, state="completed")
    catalog = Catalog(tmp_path, clock)
    assert catalog.list_runs()[0][0].status.sequence == 17
    write_run(FIRST, state="running", sequence=18)
    clock.now += REST_SECONDS - 1
    assert catalog.list_runs()[0][0].status.sequence == 17
    assert catalog.look(FIRST).status.sequence == 18


def test_new_and_removed_runs_are_noticed(write_run, tmp_path, clock):
    write_run(FIRST)
    catalog = Catalog(tmp_path, clock)
    assert catalog.list_runs()[1] == 1
    write_run(SECOND)
    assert catalog.list_runs()[1] == 1
    clock.now += SCAN_SECONDS
    assert [seen.id for seen in catalog.list_runs()[0]] == [SECOND, FIRST]
    (tmp_path / FIRST).rename(tmp_path / "gone")
    clock.now += SCAN_SECONDS
    assert [seen.id for seen in catalog.list_runs()[0]] == [SECOND]


def ago(**delta):
    return (datetime.now(UTC) - timedelta(**delta)).isoformat()


def read(connect, run_dir):
    app = create_dashboard_app(run_dir, access=Access(token="a"))
    return connect(app, token="a").ask("GET", f"/api/v1/runs/{run_dir.name}").json()


def test_a_run_that_goes_on_says_how_far_it_is(connect, write_run):
    run_dir = write_run(
        started_at=ago(hours=2),
        updated_at=ago(seconds=1),
        num_nodes=3,
        rate=0.5,
        host="elsewhere",
        counts={"total": 100, "pending": 40, "running": 10, "completed": 45, "failed": 5},
    )
    run = read(connect, run_dir)
    assert run["health"] == "alive"
    assert (run["advice"], run["command"]) == ("", None)
    assert run["progress"] == 0.5
    assert run["elapsed_seconds"] == pytest.approx(7200, abs=60)
    assert run["node_hours"] == pytest.approx(6, abs=0.1)
    assert run["eta_seconds"] == 100.0


def test_a_lost_run_says_its_last_sign_of_life_and_how_to_go_on(connect, write_run):
    run_dir = write_run(started_at=ago(hours=2), updated_at=ago(hours=1), host="elsewhere")
    run = read(connect, run_dir)
    assert run["health"] == "lost"
    assert run["last_sign_at"] == run["status"]["updated_at"]
    assert run["command"] == f"matensemble resume {run_dir}"
    assert run["elapsed_seconds"] == pytest.approx(3600, abs=60)  # what came then is not known
    assert run["eta_seconds"] is None


def test_a_driver_that_was_lost_before_it_published_was_last_seen_when_it_claimed(
    connect, write_run
):
    run_dir = write_run(state="interrupted", ended_at=ago(hours=3), host="elsewhere")
    claim = replace(Owner.of_this_process(2, ago(hours=1)), host="elsewhere")
    (run_dir / "owner-2.json").write_text(json.dumps(claim.to_json()))
    run = read(connect, run_dir)
    assert run["health"] == "lost"
    assert run["last_sign_at"] == claim.started_at


@pytest.mark.parametrize(
    ("state", "command"),
    [
        ("interrupted", "matensemble resume {}"),
        ("failed", "matensemble retry {} --failed && matensemble resume {}"),
        ("cancelled", "matensemble retry {} --reason cancelled && matensemble resume {}"),
        ("completed", None),
    ],
)
def test_a_run_at_rest_says_what_can_be_done(connect, write_run, state, command):
    run_dir = write_run("matensemble_workflow-it's", state=state, ended_at=ago(hours=1))
    run = read(connect, run_dir)
    quoted = shlex.quote(str(run_dir))
    assert run["command"] == (command and command.format(quoted, quoted))
    assert bool(run["advice"]) is (command is not None)
    assert run["health"] == "ended"


def test_a_run_that_was_not_started_says_how_to_start_it(connect, write_run):
    run_dir = write_run()
    (run_dir / "status.json").unlink()
    run = read(connect, run_dir)
    assert run["health"] == "waiting"
    assert run["command"] == f"matensemble run {run_dir}"
    assert run["progress"] is run["elapsed_seconds"] is run["node_hours"] is None


@pytest.mark.parametrize(
    "changes",
    [
        {"started_at": "soon"},
        {"started_at": "2026-01-01T00:00:00"},
        {"started_at": None, "updated_at": None},
        {"updated_at": "9999-12-31T23:59:59+00:00"},
        {"num_nodes": 2**53 - 1, "rate": 1e-300},
        {"counts": {"total": 0, "completed": 7}},
        {"counts": {"total": 1, "completed": 7, "pending": 3}},
    ],
)
def test_times_and_counts_that_make_no_sense_are_no_fault(connect, write_run, changes):
    run = read(connect, write_run(state="completed", **changes))
    assert run["health"] == "ended"
    assert run["progress"] is None or 0 <= run["progress"] <= 1


@pytest.mark.parametrize("number", [2**53, 10**400, -1])
def test_numbers_that_no_page_can_count_to_are_unreadable(connect, write_run, number):
    for changes in ({"epoch": number}, {"counts": {"total": number}}, {"num_nodes": number}):
        assert read(connect, write_run(**changes))["health"] == "unreadable"


def test_runs_as_a_table(connect, write_run, tmp_path, token):
    write_run(FIRST, state="completed", ended_at=ago(hours=1))
    (write_run(SECOND) / "status.json").write_text("=1+1")
    client = connect(create_dashboard_app(tmp_path, access=Access(token=token)))
    answer = client.ask("GET", "/api/v1/runs", params={"format": "csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "runs.csv" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    listed = client.ask("GET", "/api/v1/runs").json()["runs"]
    assert [row["id"] for row in rows] == [run["id"] for run in listed]
    assert rows[-1]["state"] == "completed"
    assert rows[-1]["failed"] == "2"
    assert rows[0]["health"] == "unreadable"
    assert rows[0]["total"] == ""
    assert "is no JSON" in rows[0]["problem"]
