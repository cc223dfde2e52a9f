"""What an index answers while it is being made, where much or little is found, and by length."""

from __future__ import annotations

import io
import json
from contextlib import closing

import pytest
from hypothesis import given, strategies as st

from matensemble.dashboard.index import chores as index_chores, run_index
from matensemble.dashboard.index.chores import ChoreFilter, Sort, find_chores, read_all, read_page
from matensemble.dashboard.index.durations import bounds_of, bucket_of
from matensemble.dashboard.index.run_index import RunIndex
from matensemble.dashboard.index.schema import indexed_by, open_for_reading
from matensemble.model import ChoreState
from matensemble.records import RecordKind, encode_journal_record, journal_stamp
from matensemble.workflow import (
    Manifest,
    create_run_dir,
    present_versions,
    utc_now,
    write_workflow,
)

WIDTH = 12
SORTING = ("by_started", "by_seconds", "by_ended", "by_host")


@pytest.fixture
def run(tmp_path):
    """A run of two groups, of which every third chore has ended; they took less and less."""
    ids = [f"chore-{name}-{number:02}" for name in ("md", "relax") for number in range(WIDTH)]
    headers = [{"id": one, "name": one.split("-")[1], "kind": "executable"} for one in ids]
    run = create_run_dir(tmp_path)
    manifest = Manifest(
        name="generated",
        created_at=utc_now(),
        versions=present_versions(),
        num_chores=len(ids),
        next_number=len(ids) + 1,
        groups={"md": WIDTH, "relax": WIDTH},
    )
    write_workflow(run, manifest, map(json.dumps, headers), io.BytesIO(), {})
    facts = {"format": 1, "run": "x", "executor": "local", "nodes": [["a", 8, 0]]}
    told = [(RecordKind.RUN_STARTED, None, 0.0, {**facts, "host": "login", "pid": 1})]
    for place, one in enumerate(ids[::3]):
        start = 100.0 * place
        told += [
            (RecordKind.SUBMIT_INTENT, one, start, None),
            (RecordKind.SUBMITTED, one, start, {"j": "1"}),
            (RecordKind.STARTED, one, start, {"h": "a"}),
            (RecordKind.COMPLETED, one, start + 50 - place, None),
        ]
    with run.journal_path.open("wb") as journal:
        for sequence, (kind, one, at, fields) in enumerate(told, 1):
            stamp = journal_stamp(1, 1_000.0 + at, at)
            journal.write(encode_journal_record(sequence, stamp, kind, one, 1, fields))
    return run


def pages_of(database, wanted, sort, limit=4):
    found = find_chores(database, wanted)
    ids, cursor = [], None
    while True:
        page = read_page(
            database,
            wanted,
            sort=sort,
            is_descending=True,
            cursor=cursor,
            limit=limit,
            found=found,
        )
        ids += [row["id"] for row in page.rows]
        if page.next is None:
            assert len(ids) == found.total
            return ids
        cursor = page.next


@pytest.mark.parametrize("many", [1, 8, 9, 100])
@pytest.mark.parametrize("sort", list(Sort))
@pytest.mark.parametrize(
    "wanted",
    [
        ChoreFilter(text="MD-"),
        ChoreFilter(text="-0"),
        ChoreFilter(text="-03", state=ChoreState.COMPLETED),
        ChoreFilter(text="chore", name="relax", state=ChoreState.BLOCKED),
        ChoreFilter(text="nowhere"),
    ],
)
def test_text_is_found_in_few_and_in_many(run, tmp_path, monkeypatch, wanted, sort, many):
    monkeypatch.setattr(index_chores, "MANY", many)
    path = tmp_path / "index.sqlite"
    with closing(RunIndex(run, path)) as index:
        index.catch_up()
    with closing(open_for_reading(path)) as database:
        rows = database.execute("SELECT * FROM chores").fetchall()
        matching = [
            row
            for row in rows
            if wanted.text.lower() in row["id"]
            and wanted.state in (None, row["state"])
            and wanted.name in (None, row["name"])
        ]
        key = {Sort.ORDER: "number", Sort.SECONDS: "seconds", Sort.ENDED_AT: "ended_at"}[sort]
        matching.sort(key=lambda row: (row[key], row["number"]), reverse=True)
        ids = [row["id"] for row in matching]
        assert pages_of(database, wanted, sort) == ids
        everything = read_all(database, wanted, sort=sort, is_descending=True)
        assert [row["id"] for row in everything] == ids


def test_ids_are_looked_at_once(run, tmp_path):
    path, looks = tmp_path / "index.sqlite", []
    with closing(RunIndex(run, path)) as index:
        index.catch_up()
    with closing(open_for_reading(path)) as database:
        database.set_trace_callback(lambda sql: looks.append(sql) if "LIKE" in sql else None)
        assert len(pages_of(database, ChoreFilter(text="md"), Sort.SECONDS, limit=50)) == WIDTH
    assert len(looks) == 1


@pytest.mark.parametrize("sort", list(Sort))
def test_pages_of_an_index_that_is_being_made(run, tmp_path, monkeypatch, sort):
    monkeypatch.setattr(run_index, "BATCH_LINES", 5)
    monkeypatch.setattr(index_chores, "MANY", 1)
    path, steps = tmp_path / "index.sqlite", 0
    with closing(RunIndex(run, path)) as index:
        while not index.update().is_complete:
            steps += 1
            with closing(open_for_reading(path)) as database:
                assert not any(indexed_by(database, name) for name in SORTING)
                count = database.execute("SELECT count(*) FROM chores").fetchone()[0]
                assert len(set(pages_of(database, ChoreFilter(), sort))) == count
    assert steps > 5
    with closing(open_for_reading(path)) as database:
        assert all(indexed_by(database, name) for name in SORTING)
        assert len(set(pages_of(database, ChoreFilter(), sort))) == 2 * WIDTH


@given(*[st.floats(0, 2.0**41, allow_subnormal=False)] * 2)
def test_buckets_are_narrow_and_in_order(one, other):
    low, high = bounds_of(bucket_of(one))
    assert low <= one < high
    assert high <= low * (1 + 1 / 64) or one == 0 or one < 1e-300
    assert (bucket_of(one) <= bucket_of(other)) or one > other
