"""What blocked chores wait for: groups before them, room, or somebody who lets the run go on."""

from __future__ import annotations

import json

import pytest

from matensemble.dashboard import create_dashboard_app
from matensemble.dashboard.index import waiting as index_waiting
from matensemble.dashboard.security import Access
from matensemble.records import JOURNAL_FORMAT, RecordKind, encode_journal_record, journal_stamp

NAME = "matensemble_workflow-20260101_120000"
ALIVE = {"host": "nowhere.invalid", "updated_at": "2999-01-01T00:00:00+00:00"}
CAMPAIGN = [
    *(("relax", f"r{i}", []) for i in range(4)),
    *(("md", f"m{i}", [f"r{i}"]) for i in range(4)),
    ("summary", "s", [{"gather": "md"}]),
]


@pytest.fixture
def ask(write_run, connect, token):
    """Write a run of chores `(group, id, deps)` and of records `(kind, id, fields)`, and ask."""
    opened = []

    def ask(chores, records=(), **status):
        run_dir = write_run(NAME, **ALIVE | status)
        headers = (
            json.dumps({"id": chore_id, "name": name, "kind": "executable", "deps": deps})
            for name, chore_id, deps in chores
        )
        (run_dir / "workflow.jsonl").write_text("".join(f"{line}\n" for line in headers))
        facts = {"format": JOURNAL_FORMAT, "run": NAME, "executor": "local", "nodes": []}
        facts |= {"host": "nowhere.invalid", "pid": 1}
        with (run_dir / "journal.jsonl").open("wb") as journal:
            lines = [(RecordKind.RUN_STARTED, None, facts), *records]
            for number, (kind, chore_id, fields) in enumerate(lines, 1):
                stamp = journal_stamp(1, 1.7e9 + number, float(number))
                journal.write(encode_journal_record(number, stamp, kind, chore_id, 1, fields))
        app = create_dashboard_app(run_dir, access=Access(token=token))
        opened.append(app)
        answer = connect(app).ask("GET", f"/api/v1/runs/{NAME}/waiting")
        assert answer.status_code == 200, answer.text
        return answer.json()

    yield ask
    for app in opened:
        app.state.indexes.close()


def complete(*chores):
    return [(RecordKind.COMPLETED, chore, {}) for chore in chores]


def run(*chores):
    return [
        record
        for chore in chores
        for record in (
            (RecordKind.SUBMIT_INTENT, chore, {}),
            (RecordKind.STARTED, chore, {"h": "node0"}),
        )
    ]


def by_group(answer):
    return {
        group["name"]: (
            group["num_blocked"],
            [(one["name"], one["num_left"], one["num_running"]) for one in group["upstream"]],
            group["waits_for_room"],
        )
        for group in answer["groups"]
    }


def test_groups_wait_for_groups_and_the_first_for_room(ask):
    answer = ask(CAMPAIGN, run("r0"))
    assert by_group(answer) == {
        "md": (4, [("relax", 4, 1)], False),
        "relax": (3, [], True),
        "summary": (1, [("md", 4, 0)], False),
    }
    assert answer["groups"][0]["name"] == "md"
    assert (answer["num_blocked"], answer["num_left_out"], answer["obstacle"]) == (8, 0, None)
    assert (answer["total_cores"], answer["free_cores"]) == (4, 3)


def test_some_of_a_group_wait_for_room_only(ask):
    answer = ask(CAMPAIGN, [*complete("r2"), *run("r0", "r1", "r3")])
    assert by_group(answer)["md"] == (4, [("relax", 3, 3)], True)


def test_what_has_ended_is_waited_for_by_nobody(ask):
    everything = [chore_id for _, chore_id, _ in CAMPAIGN]
    skipped = [(RecordKind.SKIPPED, "m0", {"u": "r0"})]
    failed = [(RecordKind.FAILED, "r0", {"r": "exception", "x": 1, "d": "no"})]
    answer = ask(CAMPAIGN, [*failed, *skipped, *complete(*everything[1:4], *everything[5:8])])
    assert by_group(answer) == {"summary": (1, [], True)}


def test_chain_waits_for_itself(ask):
    chain = [("chain", f"c{i}", [f"c{i - 1}"] if i else []) for i in range(6)]
    assert by_group(ask(chain, run("c0"))) == {"chain": (5, [("chain", 6, 1)], False)}
    answer = ask(chain, [*complete("c0", "c1"), *run("c2")])
    assert by_group(answer) == {"chain": (3, [("chain", 4, 1)], False)}
    assert by_group(ask(chain, complete("c0", "c1"))) == {"chain": (4, [("chain", 4, 0)], True)}


def test_bounds_are_told(ask, monkeypatch):
    monkeypatch.setattr(index_waiting, "MAX_GROUPS", 1)
    monkeypatch.setattr(index_waiting, "MAX_UPSTREAM", 1)
    monkeypatch.setattr(index_waiting, "MAX_EDGES", 2)
    chores = [(f"g{i}", f"a{i}", []) for i in range(5)]
    chores += [("end", f"e{i}", [f"a{j}" for j in range(5)]) for i in range(2)]
    answer = ask(chores)
    assert [group["name"] for group in answer["groups"]] == ["end"]
    assert (answer["num_left_out"], answer["num_blocked"]) == (5, 7)
    end = answer["groups"][0]
    assert ([one["name"] for one in end["upstream"]], end["num_upstream_left_out"]) == (["g0"], 4)
    # Nothing that is looked at is in the way, but not all is looked at.
    end = ask(chores, complete(*(f"a{i}" for i in range(5))))["groups"][0]
    assert (end["upstream"], end["num_upstream_left_out"]) == ([], 3)
    assert end["waits_for_room"] is False


@pytest.mark.parametrize(
    ("status", "obstacle"),
    [
        ({"state": "running"}, None),
        ({"state": "paused"}, "paused"),
        ({"state": "draining", "detail": "no time left"}, "draining"),
        ({"state": "degraded"}, "degraded"),
        ({"state": "interrupted"}, "ended"),
        ({"state": "running", "updated_at": "2026-01-01T12:00:00+00:00"}, "no_driver"),
    ],
)
def test_obstacles_of_the_whole_run(ask, status, obstacle):
    answer = ask(CAMPAIGN, **status)
    assert answer["obstacle"] == obstacle
    assert answer["detail"] == status.get("detail", "")
    assert answer["num_blocked"] == 9


def test_nothing_waits(ask):
    answer = ask([("one", "c", [])], complete("c"), state="completed")
    assert (answer["groups"], answer["num_blocked"], answer["obstacle"]) == ([], 0, "ended")
