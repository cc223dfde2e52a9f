"""Pages of chores, their filters, tables to keep, groups and failures: all against the rows."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import time
from pathlib import Path

import pytest

from matensemble.dashboard import create_dashboard_app
from matensemble.dashboard.index import chores as index_chores
from matensemble.dashboard.index.feed import Indexes, IndexFeed
from matensemble.dashboard.index.place import KEPT_SECONDS, index_path
from matensemble.dashboard.security import Access
from matensemble.errors import FormatError
from matensemble.records import RecordKind, encode_journal_record, journal_stamp
from matensemble.workdir import RunDir

ROOT = Path(__file__).parents[2]


def load_generator():
    spec = importlib.util.spec_from_file_location("runs", ROOT / "benchmarks" / "runs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_run = load_generator().make_run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "runs", 900)


@pytest.fixture
def ask(run, connect, token):
    app = create_dashboard_app(run.root, access=Access(token=token))
    client = connect(app)

    def get(path, **params):
        return client.ask("GET", f"/api/v1/runs/{run.root.name}/{path}", params=params)

    yield get
    app.state.indexes.close()


def read_pages(ask, **params):
    """Return the chores of all pages, and the total of each."""
    chores, totals, cursor = [], set(), {}
    while True:
        answer = ask("chores", **params, **cursor)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert page["freshness"] == {"is_complete": True, "share": 1.0, "problem": ""}
        chores += page["chores"]
        totals.add(page["total"])
        if page["next"] is None:
            return chores, totals
        assert len(page["chores"]) == params["limit"]
        cursor = {"cursor": page["next"]}


FILTERS = [
    ({}, lambda c: True, 900),
    ({"state": "failed"}, lambda c: c["state"] == "failed", 3),
    (
        {"state": "skipped", "group": "md"},
        lambda c: (c["state"], c["name"]) == ("skipped", "md"),
        3,
    ),
    ({"group": "relax"}, lambda c: c["name"] == "relax", 300),
    ({"reason": "dependency_failed"}, lambda c: c["reason"] == "dependency_failed", 6),
    ({"host": "node3"}, lambda c: c["host"] == "node3", 112),
    ({"retried": True}, lambda c: c["attempt"] > 1, 6),
    ({"cluster": 1}, lambda c: c["reason"] is not None, 9),
    ({"text": "MD-05"}, lambda c: "md-05" in c["id"], 100),
    ({"text": "%_\\"}, lambda c: False, 0),
    ({"state": "running"}, lambda c: False, 0),
    ({"group": "nobody"}, lambda c: False, 0),
]


@pytest.mark.parametrize(("params", "is_wanted", "count"), FILTERS)
def test_filters_with_their_totals(ask, params, is_wanted, count):
    everything, _ = read_pages(ask, limit=500)
    found, totals = read_pages(ask, limit=90, **params)
    assert found == [chore for chore in everything if is_wanted(chore)]
    assert len(found) == count
    assert totals == {count}


@pytest.mark.parametrize("many", [0, 10**6])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", ["order", "seconds", "ended_at"])
@pytest.mark.parametrize("params", [{}, {"group": "md"}])
def test_pages_in_order_without_gaps(ask, monkeypatch, params, sort, descending, many):
    monkeypatch.setattr(index_chores, "MANY", many)
    everything, _ = read_pages(ask, limit=500, **params)
    found, _ = read_pages(ask, limit=7, sort=sort, descending=descending, **params)
    order = {chore["id"]: number for number, chore in enumerate(everything)}

    def key(chore):
        value = 0 if sort == "order" else chore[sort]
        return (-1 if value is None else value, order[chore["id"]])

    assert found == sorted(everything, key=key, reverse=descending)


@pytest.mark.parametrize("params", [{}, {"state": "failed", "sort": "seconds", "limit": 1}])
def test_table_to_keep_holds_the_whole_filter(ask, params):
    answer = ask("chores", format="csv", **params)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    chores, _ = read_pages(ask, **({"limit": 500} | params))
    assert [row["id"] for row in rows] == [chore["id"] for chore in chores]
    assert rows[0].keys() == chores[0].keys()


@pytest.mark.parametrize("params", [{}, {"state": "failed", "sort": "seconds"}, {"text": "none"}])
def test_array_to_keep_holds_the_whole_filter(ask, params):
    answer = ask("chores", format="json", limit=1, **params)
    assert answer.headers["content-type"] == "application/vnd.matensemble.chores+json"
    assert answer.headers["content-disposition"] == 'attachment; filename="chores.json"'
    chores, _ = read_pages(ask, **({"limit": 500} | params))
    assert answer.json() == chores


def test_cells_are_no_formulas(ask, run):
    add_record(run, RecordKind.CANCELLED, "chore-relax-0001", d="=HYPERLINK(1)")
    row = next(csv.DictReader(io.StringIO(ask("chores", format="csv", state="cancelled").text)))
    assert row["detail"] == "'=HYPERLINK(1)"


def add_record(run, kind, chore_id, **fields):
    last = run.journal_path.read_bytes().splitlines()[-1]
    sequence = int(last[len(b'{"s":') : last.index(b",")]) + 1
    line = encode_journal_record(sequence, journal_stamp(1, 1.8e9, 1e6), kind, chore_id, 1, fields)
    with run.journal_path.open("ab") as journal:
        journal.write(line)


def test_chore_with_its_attempts(ask):
    answer = ask("chores/chore-md-0304").json()
    assert answer["chore"]["state"] == "completed"
    assert answer["upstream"] == ["chore-relax-0004"]
    assert answer["num_upstream"] == 1
    assert answer["command"] == ["true"]
    first, second = answer["attempts"]
    assert (first["attempt"], first["reason"], first["detail"]) == (
        1,
        "node_failure",
        "node3 is lost",
    )
    assert (second["attempt"], second["reason"], second["exit_code"]) == (2, None, 0)
    assert first["ended_at"] <= second["started_at"]
    assert second["jobid"].startswith("ƒ")
    assert (first["is_pooled"], second["is_pooled"]) == (False, False)
    assert ask("chores/chore-analyse-0608").json()["attempts"] == []


def test_chore_of_which_only_the_end_tells_that_it_ran(ask):
    answer = ask("chores/chore-analyse-0641").json()
    (attempt,) = answer["attempts"]
    assert attempt["is_pooled"] is True
    assert attempt["host"] == answer["chore"]["host"] == "node0"
    assert attempt["seconds"] == answer["chore"]["seconds"] == pytest.approx(0.012 + 0.031 * 4)
    ran = attempt["ended_at"] - attempt["started_at"]
    assert ran == pytest.approx(attempt["seconds"], abs=1e-6)
    assert attempt["jobid"] is None
    assert (answer["callable"], answer["command"]) == ("analyse", [])
    assert answer["arguments_bytes"] > 10
    assert ask("chores", host="node0", group="analyse").json()["total"] == 38


@pytest.mark.parametrize(
    "chore_id", ["nobody", "%2e%2e", "%2e%2e%2fowner.json", "%00", "%ff", "a" * 999]
)
def test_unknown_chores_are_not_found(ask, chore_id):
    assert ask(f"chores/{chore_id}").status_code == 404


@pytest.mark.parametrize("path", ["chores", "groups", "failures", "chores/x"])
def test_unknown_runs_are_not_found(ask, path):
    assert ask(f"../matensemble_workflow-19990101_000000/{path}").status_code == 404


@pytest.mark.parametrize(
    "params",
    [
        {"state": "dancing"},
        {"reason": "bad luck"},
        {"limit": 0},
        {"limit": 501},
        {"cluster": 0},
        {"cluster": 2**64},
        {"sort": "id; DROP TABLE chores"},
        {"text": "a" * 256},
        {"cursor": "a" * 201},
        {"cursor": "nonsense"},
        {"cursor": "W10="},
        {"cursor": "ÿ"},
        {"cursor": "WyJvcmRlciIsZmFsc2UsTmFOLDFd"},  # a key that is no number
        {"cursor": "WyJzZWNvbmRzIixmYWxzZSwxLDFd"},  # of another sorting
        {"format": "xml"},
    ],
)
def test_wrong_questions_are_told(ask, params):
    answer = ask("chores", **params)
    assert answer.status_code == 422
    assert answer.json().keys() == {"title", "detail"}
    assert next(iter(params)) in answer.json()["detail"]


def test_groups(ask):
    answer = ask("groups").json()
    assert answer["total"] == 3
    assert {group["name"]: group["states"] for group in answer["groups"]} == {
        "relax": {"completed": 297, "failed": 3},
        "md": {"completed": 297, "skipped": 3},
        "analyse": {"completed": 297, "skipped": 3},
    }
    assert [group["total"] for group in answer["groups"]] == [300, 300, 300]
    tiers = {group["name"]: (group["num_pooled"], group["num_jobs"]) for group in answer["groups"]}
    assert tiers == {"relax": (0, 300), "md": (0, 303), "analyse": (266, 31)}
    assert (answer["num_pooled"], answer["num_jobs"]) == (266, 634)


def test_failures_by_their_cause(ask):
    answer = ask("failures").json()
    (cluster,) = answer["clusters"]
    assert answer["num_clusters"] == 1
    assert (answer["num_failed"], answer["num_skipped"]) == (cluster["failed"], cluster["skipped"])
    assert cluster["sample"]["id"] == "chore-relax-0008"
    assert cluster["sample"]["detail"] == "ValueError: atom 7 left the box at step 49"
    assert (cluster["failed"], cluster["skipped"]) == (3, 6)
    assert (cluster["reason"], cluster["pattern"]) == (
        "exception",
        "ValueError: atom … left the box at step …",
    )


def test_answers_follow_the_run(ask, run, monkeypatch):
    monkeypatch.setattr("matensemble.dashboard.index.feed.INTERVAL_SECONDS", 0.0)
    assert read_pages(ask, state="cancelled", limit=5)[1] == {0}
    add_record(run, RecordKind.CANCELLED, "chore-relax-0001")
    chores, totals = read_pages(ask, state="cancelled", limit=5)
    assert (totals, chores[0]["reason"]) == ({1}, "cancelled")
    add_record(run, RecordKind.CANCELLED, "chore-nobody-0001")
    page = ask("chores", state="cancelled").json()
    assert page["total"] == 1
    assert page["freshness"]["is_complete"] is False
    assert "chore-nobody-0001" in page["freshness"]["problem"]


def test_run_without_headers_is_unavailable_for_a_reason(ask, run):
    run.chores_path.unlink()
    answer = ask("chores")
    assert answer.status_code == 200
    assert "workflow.jsonl" in answer.json()["freshness"]["problem"]


def test_no_place_for_an_index_is_unavailable(ask, tmp_path):
    path = tmp_path / "cache" / "matensemble"
    path.mkdir(parents=True, mode=0o700)
    (path / index_path(next(iter_runs(tmp_path))).name).mkdir()
    answer = ask("chores")
    assert answer.status_code == 503


def iter_runs(tmp_path):
    yield from (RunDir(path) for path in (tmp_path / "runs").iterdir())


def test_place_is_private_and_the_same_for_all(run, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = index_path(run)
    assert path == index_path(run)
    assert path.parent == tmp_path / "cache" / "matensemble"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.parent.chmod(0o777)  # others could replace what is there
    elsewhere = index_path(run)
    assert elsewhere.parent.parent == tmp_path
    assert elsewhere.parent.stat().st_mode & 0o777 == 0o700
    elsewhere.parent.chmod(0o755)
    assert index_path(run).parent != elsewhere.parent
    assert index_path(make_run(tmp_path / "more", 3)).name != path.name


def test_indexes_that_nobody_looks_at_are_removed(run):
    path = index_path(run)
    old, young = (path.with_name(f"{name}.sqlite") for name in ("old", "young"))
    for file in (old, young, path.with_name("old.sqlite-wal")):
        file.touch()
    then = time.time() - KEPT_SECONDS - 60
    os.utime(old, (then, then))
    index_path(run)
    assert [found.name for found in path.parent.iterdir()] == ["young.sqlite"]


def test_feeds_end_with_those_that_asked(run, tmp_path, monkeypatch):
    monkeypatch.setattr("matensemble.dashboard.index.feed.MAX_FEEDS", 1)
    other = make_run(tmp_path / "more", 30)
    runs = {"one": run, "other": other}
    indexes = Indexes(runs.__getitem__)
    with indexes.open("one") as (_, freshness):
        assert freshness.is_complete
    first = indexes.of("one")
    with indexes.open("other"):
        assert indexes.of("one") is not first
    with pytest.raises(FormatError, match="closed"):
        first_closed(first)
    indexes.close()


def first_closed(feed: IndexFeed) -> None:
    feed.close()
    feed._is_made = False
    feed.ask()
