"""What an index counts while a journal grows is what a reading of the whole journal counts."""

from __future__ import annotations

import io
import json
import tempfile
from collections import Counter, defaultdict
from contextlib import closing
from math import ceil
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from matensemble.dashboard import create_dashboard_app
from matensemble.dashboard.index import admission, run_index
from matensemble.dashboard.index.durations import read_durations
from matensemble.dashboard.index.run_index import RunIndex
from matensemble.dashboard.index.schema import open_for_reading
from matensemble.dashboard.security import Access
from matensemble.errors import FormatError
from matensemble.model import Resources
from matensemble.records import RecordKind, encode_journal_record, journal_stamp, read_records
from matensemble.workflow import (
    Manifest,
    create_run_dir,
    present_versions,
    utc_now,
    write_workflow,
)

COUNTED = {
    RecordKind.SUBMIT_INTENT: "submitted",
    RecordKind.STARTED: "started",
    RecordKind.COMPLETED: "completed",
    RecordKind.REUSED: "completed",
    RecordKind.FAILED: "failed",
    RecordKind.CANCELLED: "cancelled",
    RecordKind.SKIPPED: "skipped",
    RecordKind.REQUEUED: "requeued",
}
ENDS = {
    RecordKind.COMPLETED,
    RecordKind.FAILED,
    RecordKind.CANCELLED,
    RecordKind.REQUEUED,
    RecordKind.SKIPPED,
    RecordKind.REVOKED,
    RecordKind.RETRIED,
    RecordKind.REUSED,
    RecordKind.SUBMIT_INTENT,
}
SUMS = {"counts": 2, "cells": 3, "moments": 1, "lanes": 3, "durations": 2}
"""Tables of sums and the columns of their keys: a row of zeros says as much as none."""
COLUMNS = (*sorted(set(COUNTED.values())), "running", "cores", "gpus")
NODES = [["a", 8, 2], ["b", 8, 0], ["lost", 0, 0]]


def header(number, name="md", **fields):
    return {"id": f"chore-{number:04}", "name": name, "kind": "executable"} | fields


def make_run(folder, headers):
    run = create_run_dir(Path(folder))
    manifest = Manifest(
        name="generated",
        created_at=utc_now(),
        versions=present_versions(),
        num_chores=len(headers),
        next_number=len(headers) + 1,
        groups=Counter(one["name"] for one in headers),
    )
    write_workflow(run, manifest, map(json.dumps, headers), io.BytesIO(), {})
    return run


def tables_of(path):
    """Return all tables of an index besides what tells how far it was read."""
    with closing(open_for_reading(path)) as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        tables = {}
        for (name,) in names:
            rows = [tuple(row) for row in database.execute(f'SELECT * FROM "{name}"')]
            num_keys = SUMS.get(name)
            tables[name] = sorted(
                _rounded(row)
                for row in rows
                if num_keys is None or any(round(number, 6) for number in row[num_keys:])
            )
        del tables["meta"], tables["bookmarks"]
        return tables


def _rounded(row):
    """Sums of floats depend on their order; None does not compare."""
    return tuple(
        round(value, 6) if type(value) is float else (value is not None, value or 0)
        for value in row
    )


def read_all(run, path):
    with closing(RunIndex(run, path)) as index:
        index.catch_up()
    return tables_of(path)


# --- the tables by their definition, from the whole story -----------------------------------------


def graph_of(headers):
    """Return edges, gathers, connections of groups, and level and rank of each chore."""
    number = {one["id"]: n for n, one in enumerate(headers, 1)}
    group = {n: one["name"] for n, one in enumerate(headers, 1)}
    edges, gathers, groups, places, sizes = set(), set(), Counter(), {}, Counter()
    for n, one in enumerate(headers, 1):
        deps = one.get("deps", [])
        upstream = {number[dep] for dep in [*deps, *one.get("after", [])] if isinstance(dep, str)}
        gathered = {dep["gather"] for dep in deps if not isinstance(dep, str)}
        above = [places[u][0] for u in upstream]
        for name in gathered:
            members = (level for m, (level, _) in places.items() if group[m] == name)
            above.append(max(members, default=0))
        level = max(above, default=-1) + 1
        places[n] = (level, sizes[level])
        sizes[level] += 1
        edges |= {(n, u) for u in upstream}
        gathers |= {(n, name) for name in gathered}
        groups.update((group[u], one["name"]) for u in upstream)
        groups.update((name, one["name"]) for name in gathered)
    return edges, gathers, groups, places, sizes


def pulse_of(headers, records):
    """Return what happened in each second, and the capacities."""
    asked = {one["id"]: Resources.from_json(one.get("resources", {})) for one in headers}
    moments, busy, capacities, handed_over = defaultdict(Counter), {}, [], {}
    for record in records:
        kind, moment = record.kind, moments[int(record.wall)]
        before = list(busy.values())
        is_beginning = kind == RecordKind.RUN_STARTED
        if is_beginning or (kind == RecordKind.RUN_STATE and record.fields["state"] != "draining"):
            busy.clear()
            capacities.append(
                (record.wall, record.epoch, *((2, 16, 2) if is_beginning else [0] * 3))
            )
        elif kind == RecordKind.CHORE_ADDED:
            added = record.fields["header"]
            asked[added["id"]] = Resources.from_json(added.get("resources", {}))
        elif record.chore_id is not None:
            moment[COUNTED.get(kind, "")] += 1
            asked_then = dict(asked)
            if "resources" in record.fields:
                asked[record.chore_id] = Resources.from_json(record.fields["resources"])
            if kind == RecordKind.STARTED or (record.chore_id in busy and kind not in ENDS):
                busy[record.chore_id] = asked[record.chore_id]
            elif kind in ENDS:
                busy.pop(record.chore_id, None)
            if "el" in record.fields:
                at = max(record.wall - record.fields["el"], handed_over[record.chore_id])
                began, ran = moments[int(min(at, record.wall))], asked_then[record.chore_id]
                began["started"] += 1
                for moment_of_it, sign in ((began, 1), (moment, -1)):
                    moment_of_it["running"] += sign
                    moment_of_it["cores"] += sign * ran.num_cores
                    moment_of_it["gpus"] += sign * ran.num_gpus
            if kind == RecordKind.SUBMIT_INTENT:
                handed_over[record.chore_id] = record.wall
        for resources, sign in [(one, -1) for one in before] + [(one, 1) for one in busy.values()]:
            moment["running"] += sign
            moment["cores"] += sign * resources.num_cores
            moment["gpus"] += sign * resources.num_gpus
    told = {
        second: {name: count for name, count in moment.items() if name and count}
        for second, moment in moments.items()
    }
    return {second: moment for second, moment in told.items() if moment}, capacities, asked


def assert_is_told(run, path, headers):
    records = list(read_records(run)) if run.journal_path.exists() else []
    added = [r.fields["header"] for r in records if r.kind == RecordKind.CHORE_ADDED]
    edges, gathers, groups, places, sizes = graph_of([*headers, *added])
    moments, capacities, asked = pulse_of(headers, records)
    with closing(open_for_reading(path)) as database:

        def ask(statement):
            return [tuple(row) for row in database.execute(statement)]

        assert set(ask("SELECT * FROM edges")) == edges
        assert set(ask("SELECT * FROM gathers")) == gathers
        assert {(up, down): n for up, down, n in ask("SELECT * FROM group_edges")} == groups
        assert {
            n: (level, rank) for n, level, rank in ask("SELECT number, level, rank FROM chores")
        } == places
        assert dict(ask("SELECT * FROM levels")) == sizes
        assert {
            chore_id: (cores, gpus)
            for chore_id, cores, gpus in ask("SELECT id, cores, gpus FROM chores")
        } == {chore_id: (one.num_cores, one.num_gpus) for chore_id, one in asked.items()}
        told = {
            row["second"]: {name: row[name] for name in COLUMNS if row[name]}
            for row in database.execute("SELECT * FROM moments")
        }
        assert {second: moment for second, moment in told.items() if moment} == moments
        assert ask("SELECT * FROM capacities ORDER BY rowid") == capacities
        for (name,) in ask("SELECT DISTINCT name FROM chores"):
            select = "SELECT seconds FROM chores WHERE name = ? AND seconds >= 0 ORDER BY seconds"
            ran = [seconds for (seconds,) in database.execute(select, (name,))]
            told = read_durations(database, name)
            assert told.count == len(ran)
            if ran:
                assert told.total == pytest.approx(sum(ran))
                at = [ran[ceil(share * len(ran)) - 1] for share in (0.5, 0.95)]
                assert (told.median, told.p95, told.max) == (*at, ran[-1])


# --- stories --------------------------------------------------------------------------------------


@st.composite
def resources(draw):
    asked = Resources(
        num_tasks=draw(st.integers(1, 4)),
        cores_per_task=draw(st.integers(1, 3)),
        gpus_per_task=draw(st.integers(0, 2)),
    )
    return asked.to_json()


@st.composite
def chore_headers(draw, number):
    """Draw a header whose upstream, if any, has lower numbers."""
    one = header(number, draw(st.sampled_from(["relax", "md", "all"])))
    if number > 1:
        ids = st.sampled_from([f"chore-{n:04}" for n in range(1, number)])
        one["deps"] = draw(st.lists(ids, max_size=3))
        one["after"] = draw(st.lists(ids, max_size=2))
        if draw(st.integers(0, 3)) == 0:
            one["deps"].append({"gather": draw(st.sampled_from(["relax", "md", "none"]))})
    if draw(st.booleans()):
        one["resources"] = draw(resources())
    return one


class Story:
    """A journal, written as a driver would: records that are possible in some order."""

    def __init__(self, run, headers, data):
        self.run, self.draw = run, data.draw
        self.attempts = {one["id"]: 0 for one in headers}
        self.states = dict.fromkeys(self.attempts, "blocked")
        self.epoch, self.sequence, self.wall = 0, 0, 1_000.0
        self.ends = []
        self.known = []  # states and attempts behind each record
        self.begin()

    def begin(self):
        fields = {"format": 1, "run": "x", "executor": "local", "nodes": NODES}
        fields |= {"host": "login", "pid": 1}
        if self.epoch:
            kept = self.draw(st.integers(max(len(self.ends) - 3, 0), len(self.ends) - 1))
            fields["previous"] = {"epoch": self.epoch, "length": self.ends[kept]}
            self.states, self.attempts = map(dict, self.known[kept])
            self.run.journal_path.rename(self.run.journal_of(self.epoch))
        self.epoch, self.sequence, self.ends, self.known = self.epoch + 1, 0, [], []
        self.write(RecordKind.RUN_STARTED, None, 1, fields)
        self.known = [(dict(self.states), dict(self.attempts))]

    def write(self, kind, chore_id, attempt=1, fields=None):
        self.sequence += 1
        self.wall += self.draw(st.sampled_from([0.0, 0.3, 1.0, 7.0, -0.5]))
        stamp = journal_stamp(self.epoch, self.wall, self.sequence * 0.5)
        line = encode_journal_record(self.sequence, stamp, kind, chore_id, attempt, fields)
        with self.run.journal_path.open("ab") as journal:
            journal.write(line)
            self.ends.append(journal.tell())

    def go_on(self):
        """Write one more record."""
        what = self.draw(st.integers(0, 19))
        if what == 0:
            self.begin()
            return
        if what == 1:
            state = self.draw(st.sampled_from(["draining", "interrupted", "completed"]))
            self.write(RecordKind.RUN_STATE, None, 1, {"state": state})
        elif what == 2:
            one = self.draw(chore_headers(len(self.states) + 1))
            self.write(RecordKind.CHORE_ADDED, one["id"], 1, {"header": one, "parent": "strategy"})
            self.states[one["id"]], self.attempts[one["id"]] = "blocked", 0
        else:
            self._about(self.draw(st.sampled_from(sorted(self.states))))
        self.known.append((dict(self.states), dict(self.attempts)))

    def _about(self, chore_id):
        state = self.states[chore_id]
        if self.draw(st.integers(0, 5)) == 0:
            self.write(RecordKind.CHANGED, chore_id, 1, {"resources": self.draw(resources())})
            return
        kind, state, fields = self.draw(st.sampled_from(self._possible(state)))
        if kind is RecordKind.SUBMIT_INTENT:
            self.attempts[chore_id] += 1
        if kind is RecordKind.REQUEUED and self.draw(st.booleans()):
            fields = fields | {"resources": self.draw(resources())}
        if kind in (RecordKind.FAILED, RecordKind.REQUEUED) and "el" in fields:
            fields = fields | {"el": self.draw(st.sampled_from([0, 0.25, 3.5, 90.0]))}
        self.write(kind, chore_id, max(self.attempts[chore_id], 1), fields)
        self.states[chore_id] = state

    def _possible(self, state):
        ends = [
            (RecordKind.FAILED, "ended", {"r": "exception", "d": f"step {self.sequence}"}),
            (RecordKind.CANCELLED, "ended", {}),
        ]
        if state == "blocked":
            return [
                (RecordKind.SUBMIT_INTENT, "submitted", {}),
                (RecordKind.SUBMIT_INTENT, "submitted", {"p": 1}),
                (RecordKind.SKIPPED, "ended", {"u": min(self.states)}),
                (RecordKind.REUSED, "completed", {"from": "elsewhere"}),
                *ends,
            ]
        lost = (RecordKind.REQUEUED, "blocked", {"r": "node_failure", "b": "loss"})
        if state == "submitted":
            unseen = {"el": 0.5, "h": "b"}  # on a warm worker, over before it was reported
            quick = [(kind, state, fields | unseen) for kind, state, fields in (lost, ends[0])]
            done = (RecordKind.COMPLETED, "completed", unseen)
            return [*[(RecordKind.STARTED, "running", {"h": "a"})] * 3, lost, *ends, *quick, done]
        if state == "running":
            return [(RecordKind.COMPLETED, "completed", {}), lost, *ends]
        kind = RecordKind.REVOKED if state == "completed" else RecordKind.RETRIED
        return [(kind, "blocked", {})]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_tables_agree_at_every_prefix_of_any_journal(data):
    num_chores = data.draw(st.integers(1, 8))
    headers = [data.draw(chore_headers(number)) for number in range(1, num_chores + 1)]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_index, "BATCH_LINES", data.draw(st.integers(1, 6)))
        patch.setattr(admission, "MAX_KNOWN", data.draw(st.sampled_from([1, 3, 50_000])))
        patch.setattr(admission, "MAX_EDGES", 2)
        run, path = make_run(folder, headers), Path(folder, "index.sqlite")
        story = Story(run, headers, data)
        feeders = [RunIndex(run, path), RunIndex(run, path)]
        try:
            for step in range(data.draw(st.integers(5, 40))):
                story.go_on()
                if data.draw(st.integers(0, 3)) == 0:  # several records at once
                    continue
                turn = step % 2
                if data.draw(st.integers(0, 5)) == 0:  # the process was started again
                    feeders[turn].close()
                    feeders[turn] = RunIndex(run, path)
                feeders[turn].catch_up()
                assert_is_told(run, path, headers)
            feeders[0].catch_up()
        finally:
            for index in feeders:
                index.close()
        patch.undo()
        assert tables_of(path) == read_all(run, Path(folder, "whole.sqlite"))


# --- the graph ------------------------------------------------------------------------------------


@pytest.fixture
def index_of(tmp_path):
    """Index a run of some headers; return what to ask it with."""

    def read(headers):
        run = make_run(tmp_path, headers)
        path = tmp_path / "index.sqlite"
        with closing(RunIndex(run, path)) as index:
            index.catch_up()

        def ask(statement):
            with closing(open_for_reading(path)) as database:
                return [tuple(row) for row in database.execute(statement)]

        return ask

    return read


def test_chain_is_as_deep_as_it_is_long(index_of, monkeypatch):
    monkeypatch.setattr(admission, "MAX_KNOWN", 10)
    chain = [header(1), *(header(n, deps=[f"chore-{n - 1:04}"]) for n in range(2, 2001))]
    ask = index_of(chain)
    assert ask("SELECT count(*) FROM chores WHERE level = number - 1 AND rank = 0") == [(2000,)]
    assert ask("SELECT max(level), sum(count) FROM levels") == [(1999, 2000)]
    assert ask("SELECT * FROM group_edges") == [("md", "md", 1999)]


def test_chore_behind_many(index_of):
    headers = [header(n) for n in range(1, 2001)]
    many = [one["id"] for one in headers]
    ask = index_of([*headers, header(2001, "fit", deps=many, after=many[:7])])
    assert ask("SELECT count(*), min(upstream), max(upstream) FROM edges") == [(2000, 1, 2000)]
    assert ask("SELECT level, rank FROM chores WHERE number = 2001") == [(1, 0)]
    assert ask("SELECT * FROM group_edges") == [("md", "fit", 2000)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"deps": ["chore-0003"]},
        {"after": ["chore-0004"]},
        {"deps": [{"spec": 1}]},
        {"deps": [7]},
        {"deps": [{"gather": "\x1b[2J"}]},
        {"resources": {"num_tasks": 0}},
        {"resources": {"num_tasks": 2**40}},
        {"resources": ["num_tasks"]},
        {"id": "chore-0001"},
    ],
)
def test_headers_without_sense_are_told_and_those_before_them_kept(tmp_path, wrong):
    headers = [header(1), header(2, deps=["chore-0001"]), header(3) | wrong, header(4)]
    run, path = make_run(tmp_path, headers), tmp_path / "index.sqlite"
    with closing(RunIndex(run, path)) as index:
        for _ in range(2):
            with pytest.raises(FormatError, match="chore number 3 has no header that makes sense"):
                index.catch_up()
    tables = tables_of(path)
    assert [len(tables[name]) for name in ("chores", "edges", "levels", "counts")] == [2, 1, 2, 1]


# --- the run as a whole ---------------------------------------------------------------------------


def test_events_say_who_did_what(tmp_path):
    run = make_run(tmp_path, [header(1)])
    start = {"format": 1, "run": "x", "executor": "flux", "nodes": NODES, "host": "login\x1b[2J"}
    by = {"user": "ada", "uid": 1, "host": "login", "pid": 2}
    pause = {"id": "1", "verb": "pause", "by": by, "args": {}}
    cancel = pause | {"verb": "cancel", "args": {"groups": ["md"], "chores": ["a"] * 7}}
    answer = {"done": True, "text": "nothing more is started", "num_chores": 0}
    records = [
        (RecordKind.RUN_STARTED, start),
        (RecordKind.CONTROL, pause | {"answer": answer}),
        (RecordKind.CONTROL, pause | {"answer": answer | {"done": False, "text": "was paused"}}),
        (RecordKind.CONTROL, cancel | {"answer": answer | {"text": "1 chore"}}),
        (RecordKind.WORKERS, {"g": "md", "tier": "trial", "elapsed": 0.4}),
        (RecordKind.WORKERS, {"g": "md", "tier": "pool", "elapsed": 0.0123, "launch": 0.25}),
        (RecordKind.WORKERS, {"g": "relax", "tier": "job", "elapsed": 75}),
        (RecordKind.WORKERS, {"g": "all", "tier": "{0}\x1b"}),
        (RecordKind.WORKERS, {"tier": "job", "d": "No module named 'zmq'"}),
        (RecordKind.RUN_STATE, {"state": "draining", "d": "SIGTERM"}),
        (RecordKind.RUN_STATE, {"state": "interrupted"}),
    ]
    with run.journal_path.open("wb") as journal:
        for sequence, (kind, fields) in enumerate(records, 1):
            stamp = journal_stamp(1, 1_000.0 + sequence, sequence)
            journal.write(encode_journal_record(sequence, stamp, kind, fields=fields))
    path = tmp_path / "index.sqlite"
    read_all(run, path)
    with closing(open_for_reading(path)) as database:
        events = [tuple(row) for row in database.execute("SELECT kind, text FROM events")]
    assert events == [
        ("opened", "on login with flux: 2 nodes, 16 cores, 2 GPUs"),
        ("paused", "ada on login asked to pause: nothing more is started"),
        ("requested", "ada on login asked to pause: was paused"),
        (
            "requested",
            "ada on login asked to cancel group md, chores a, a, a, a, a and 2 more: 1 chore",
        ),
        ("workers", "chores of md are tried on warm workers: one takes 0.4 s"),
        (
            "workers",
            "chores of md run on warm workers from now on: one takes 12 ms, a process of its own "
            "0.2 s to start",
        ),
        ("workers", "chores of relax are jobs of their own from now on: one takes 1 min 15 s"),
        ("workers", "chores of all are run by {0}\ufffd"),
        (
            "workers",
            "no warm worker can be had, and all chores are jobs of their own: No module named "
            "'zmq'",
        ),
        ("draining", "draining: SIGTERM"),
        ("closed", "interrupted"),
    ]


def test_outputs_of_a_tidied_chore_are_those_of_its_header(tmp_path, connect, token):
    run = make_run(tmp_path, [header(1, outputs={"log": "run.log", "way out": "../secret"})])
    for name in ("chore-0001", "chore-0002"):
        (run.root / "out" / name).mkdir(parents=True)
        (run.root / "out" / name / "run.log").write_bytes(b"done")
    client = connect(create_dashboard_app(run.root, access=Access(token=token)))
    base = f"/api/v1/runs/{run.root.name}/chores"
    listed = client.ask("GET", f"{base}/chore-0001/artifacts").json()
    assert [entry["name"] for entry in listed["artifacts"] if entry["is_output"]] == ["log"]
    assert client.ask("GET", f"{base}/chore-0001/download?output=log").content == b"done"
    assert client.ask("GET", f"{base}/chore-0002/artifacts").status_code == 404


ENVIRONMENT = b'{"OMP_NUM_THREADS":"4","API_TOKEN":"hunter2"}'


@pytest.mark.parametrize(
    ("place", "names"),
    [
        (None, []),
        (["workflow.args", 4, len(ENVIRONMENT)], ["API_TOKEN", "OMP_NUM_THREADS"]),
        (["workflow.args", 0, 5], None),
        (["workflow.args", 4 + len(ENVIRONMENT), 2], None),
        (["workflow.args", -1, 3], None),
        (["workflow.args", 4, 1 << 40], None),
        (["../../../etc/passwd", 0, 9], None),
        (["out/chore-0001/spawned.args", 0, 9], None),
    ],
)
def test_environment_of_a_chore_is_told_by_its_names(tmp_path, connect, token, place, names):
    run = make_run(tmp_path, [header(1) | ({} if place is None else {"env": place})])
    (run.root / "workflow.args").write_bytes(b"args" + ENVIRONMENT + b"[1]")
    client = connect(create_dashboard_app(run.root, access=Access(token=token)))
    answer = client.ask("GET", f"/api/v1/runs/{run.root.name}/chores/chore-0001")
    assert answer.json()["environment_names"] == names
    assert "hunter2" not in answer.text


@pytest.mark.parametrize(
    "wrong", [{"env": "x"}, {"env": [1, 2]}, {"arguments": ["a", 0, -1]}, {"arguments": [1]}]
)
def test_places_without_sense_are_told(tmp_path, connect, token, wrong):
    run = make_run(tmp_path, [header(1) | wrong])
    client = connect(create_dashboard_app(run.root, access=Access(token=token)))
    answer = client.ask("GET", f"/api/v1/runs/{run.root.name}/chores/chore-0001")
    assert answer.status_code == 503
    assert "chore-0001" in answer.json()["detail"]
