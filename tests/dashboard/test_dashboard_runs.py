from __future__ import annotations

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
