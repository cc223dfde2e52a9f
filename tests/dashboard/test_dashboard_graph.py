"""Groups, neighbourhoods, failures, windows of the whole, and pages of what is next to a chore."""

from __future__ import annotations

import importlib.util
import io
import json
import random
import sqlite3
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from matensemble.dashboard import create_dashboard_app
from matensemble.dashboard.index import (
    cells as index_cells,
    graph as index_graph,
    run_index,
    schema,
    whole as index_whole,
)
from matensemble.dashboard.index.cells import Cells, read_extent
from matensemble.dashboard.index.graph import read_failed_graph, read_neighbourhood
from matensemble.dashboard.index.whole import read_window
from matensemble.dashboard.security import Access
from matensemble.model import ChoreState
from matensemble.records import JOURNAL_FORMAT, RecordKind, encode_journal_record, journal_stamp
from matensemble.workflow import (
    Manifest,
    create_run_dir,
    present_versions,
    utc_now,
    write_workflow,
)

NO_MORE = 2**31 - 1
ROOT = Path(__file__).parents[2]


def load_generator():
    spec = importlib.util.spec_from_file_location("runs", ROOT / "benchmarks" / "runs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_run = load_generator().make_run


@pytest.fixture
def write_graph(tmp_path, connect, token):
    """Write a run of chores `id: (group, deps)` and records `(kind, id, fields)`; return a client.

    A dependency that starts with * is a whole group.
    """
    apps = []

    def write(chores, records=()):
        run = create_run_dir(tmp_path / "runs")
        groups = Counter(name for name, _ in chores.values())
        headers = (
            json.dumps(
                {
                    "id": chore_id,
                    "name": name,
                    "kind": "executable",
                    "deps": [{"gather": dep[1:]} if dep.startswith("*") else dep for dep in deps],
                }
            )
            for chore_id, (name, deps) in chores.items()
        )
        manifest = Manifest(
            name="written",
            created_at=utc_now(),
            versions=present_versions(),
            num_chores=len(chores),
            next_number=len(chores) + 1,
            groups=dict(groups),
        )
        write_workflow(run, manifest, headers, io.BytesIO(), {})
        started = {"format": JOURNAL_FORMAT, "run": "written", "executor": "local", "nodes": []}
        started |= {"host": "nowhere.invalid", "pid": 1}
        lines = [(RecordKind.RUN_STARTED, None, started), *records]
        with run.journal_path.open("wb") as journal:
            for number, (kind, chore_id, fields) in enumerate(lines, 1):
                stamp = journal_stamp(1, 1.7e9 + number, float(number))
                journal.write(encode_journal_record(number, stamp, kind, chore_id, 1, fields))
        app = create_dashboard_app(run.root, access=Access(token=token))
        apps.append(app)
        client = connect(app)

        def ask(path, status=200, **params):
            answer = client.ask("GET", f"/api/v1/runs/{run.root.name}/{path}", params=params)
            assert answer.status_code == status, answer.text
            return answer.json()

        return ask

    yield write
    for app in apps:
        app.state.indexes.close()


def fail(chore_id):
    return (RecordKind.FAILED, chore_id, {"r": "exception", "x": 1, "d": "no"})


def skip(chore_id, root):
    return (RecordKind.SKIPPED, chore_id, {"u": root})


def complete(chore_id):
    return (RecordKind.COMPLETED, chore_id, {})


def names_of(graph):
    """Return the nodes of an answer by short names, and its edges as pairs of these."""
    shown = [
        node["id"] if node["kind"] == "chore" else f"{node['kind']}:{node['id'] or node['name']}"
        for node in graph["nodes"]
    ]
    edges = {(shown[edge["upstream"]], shown[edge["downstream"]]) for edge in graph["edges"]}
    assert len(shown) == len(set(shown))
    assert len(edges) == len(graph["edges"])
    return set(shown), edges


DIAMOND = {
    "a": ("prepare", []),
    "b1": ("relax", ["a"]),
    "b2": ("relax", ["a"]),
    "c": ("md", ["b1", "b2"]),
    "d": ("analyse", ["c"]),
    "lone": ("other", []),
}


def test_groups_with_counts_and_connections(write_graph):
    graph = write_graph(DIAMOND, [complete("a"), fail("b1"), skip("c", "b1"), skip("d", "b1")])(
        "graph/groups"
    )
    states = {group["name"]: group["states"] for group in graph["groups"]}
    assert states["relax"] == {"blocked": 1, "failed": 1}
    assert states["prepare"] == {"completed": 1}
    names = [group["name"] for group in graph["groups"]]
    assert names[0] == "relax"
    edges = {
        (names[edge["upstream"]], names[edge["downstream"]]): edge["num_connections"]
        for edge in graph["edges"]
    }
    assert edges == {("prepare", "relax"): 2, ("relax", "md"): 2, ("md", "analyse"): 1}
    assert graph["num_left_out"] == graph["num_edges_left_out"] == 0


def test_groups_say_what_they_leave_out(write_graph, monkeypatch):
    ask = write_graph(DIAMOND)
    graph = ask("graph/groups", limit=2)
    assert [group["name"] for group in graph["groups"]] == ["relax", "analyse"]
    assert (graph["num_left_out"], graph["edges"], graph["num_edges_left_out"]) == (3, [], 3)
    monkeypatch.setattr(index_graph, "MAX_EDGES", 1)
    graph = ask("graph/groups")
    assert (len(graph["edges"]), graph["num_edges_left_out"]) == (1, 2)


def test_group_that_depends_on_itself(write_graph):
    chain = {f"c{i}": ("chain", [f"c{i - 1}"] if i else []) for i in range(5)}
    graph = write_graph(chain)("graph/groups")
    assert graph["edges"] == [{"upstream": 0, "downstream": 0, "num_connections": 4}]


@pytest.mark.parametrize(
    ("up", "down", "nodes"),
    [
        (0, 0, {"c"}),
        (1, 0, {"c", "b1", "b2"}),
        (2, 0, {"c", "b1", "b2", "a"}),
        (0, 1, {"c", "d"}),
        (9, 9, {"a", "b1", "b2", "c", "d"}),
    ],
)
def test_neighbourhood_by_depth(write_graph, up, down, nodes):
    graph = write_graph(DIAMOND)("graph/neighbourhood", chore="c", up=up, down=down)
    shown, edges = names_of(graph)
    assert shown == nodes
    everything = {(dep, one) for one, (_, deps) in DIAMOND.items() for dep in deps}
    assert edges == {edge for edge in everything if nodes.issuperset(edge)}
    assert graph["nodes"][0]["id"] == "c"
    assert (graph["nodes"][0]["num_upstream"], graph["nodes"][0]["num_downstream"]) == (2, 1)
    assert graph["nodes"][0]["level"] == 2
    assert graph["num_left_out"] == 0


def test_neighbourhood_of_nobody(write_graph):
    assert write_graph(DIAMOND)("graph/neighbourhood", 404, chore="e")["detail"]


def test_hub_shares_its_room_and_says_what_is_left_out(write_graph):
    fan = {f"u{i}": ("up", []) for i in range(30)}
    fan["hub"] = ("hub", list(fan))
    fan |= {f"v{i}": ("down", ["hub"]) for i in range(40)}
    ask = write_graph(fan)
    graph = ask("graph/neighbourhood", chore="hub", limit=21)
    shown, edges = names_of(graph)
    assert Counter(one[0] for one in shown) == {"u": 10, "h": 1, "v": 10}
    assert len(edges) == 20
    assert graph["num_left_out"] == 50
    assert (graph["nodes"][0]["num_upstream"], graph["nodes"][0]["num_downstream"]) == (30, 40)
    # One direction takes what the other does not need.
    graph = ask("graph/neighbourhood", chore="hub", limit=60, up=1)
    assert Counter(one[0] for one in names_of(graph)[0]) == {"u": 29, "h": 1, "v": 30}
    graph = ask("graph/neighbourhood", chore="u3", limit=500, up=5, down=5)
    assert Counter(one[0] for one in names_of(graph)[0]) == {"u": 1, "h": 1, "v": 40}
    graph = ask("graph/neighbourhood", chore="hub", limit=1)
    assert (names_of(graph)[0], graph["num_left_out"]) == ({"hub"}, 70)


GATHER = {
    **{f"m{i}": ("md", []) for i in range(6)},
    "x": ("other", []),
    "sum": ("summary", ["*md", "x"]),
    "end": ("end", ["sum"]),
}


def test_gathered_group_is_one_node(write_graph):
    ask = write_graph(GATHER, [complete("m0"), fail("m1")])
    graph = ask("graph/neighbourhood", chore="sum")
    shown, edges = names_of(graph)
    assert shown == {"sum", "x", "end", "group:md"}
    assert edges == {("group:md", "sum"), ("x", "sum"), ("sum", "end")}
    group = next(node for node in graph["nodes"] if node["kind"] == "group")
    assert group["states"] == {"completed": 1, "failed": 1, "blocked": 4}
    assert graph["nodes"][0]["num_upstream"] == 2
    assert graph["num_left_out"] == 0


def test_member_of_a_gathered_group_leads_through_it(write_graph):
    graph = write_graph(GATHER)("graph/neighbourhood", chore="m2", down=1)
    shown, edges = names_of(graph)
    assert shown == {"m2", "group:md", "sum"}
    assert edges == {("m2", "group:md"), ("group:md", "sum")}
    assert graph["nodes"][0]["num_downstream"] == 1
    assert graph["num_left_out"] == 0


def test_failures_with_what_led_to_them_and_what_followed(write_graph):
    chores = DIAMOND | {"e": ("end", ["d", "c"]), "bad": ("other", [])}
    records = [complete("a"), fail("b1"), fail("bad")]
    records += [skip(one, "b1") for one in ("c", "d", "e")]
    graph = write_graph(chores, records)("graph/failed")
    shown, edges = names_of(graph)
    assert shown == {"a", "b1", "bad", "cascade:b1"}
    assert edges == {("a", "b1"), ("b1", "cascade:b1")}
    cascade = graph["nodes"][-1]
    assert (cascade["states"], cascade["name"]) == ({"skipped": 3}, None)
    assert (graph["num_failures"], graph["num_failures_left_out"]) == (2, 0)
    assert graph["num_left_out"] == 0


def test_failures_say_what_they_leave_out(write_graph):
    chores = {f"a{i}": ("a", []) for i in range(4)}
    chores |= {f"b{i}": ("b", list(chores)[:4]) for i in range(8)}
    chores |= {f"c{i}": ("c", [f"b{i}"]) for i in range(8)}
    records = [complete(f"a{i}") for i in range(4)]
    for i in range(8):
        records += [fail(f"b{i}"), skip(f"c{i}", f"b{i}")]
    ask = write_graph(chores, records)
    graph = ask("graph/failed", limit=9)
    kinds = Counter((node["kind"], node["name"]) for node in graph["nodes"])
    assert kinds == {("chore", "b"): 3, ("cascade", "c"): 3, ("chore", "a"): 3}
    assert (graph["num_failures"], graph["num_failures_left_out"]) == (8, 5)
    assert graph["num_left_out"] == 3  # each of the three leads to a chore that is not there
    assert ask("graph/failed", limit=1)["num_failures_left_out"] == 7
    assert len(ask("graph/failed", up=0)["nodes"]) == 16


def test_no_failures_no_nodes(write_graph):
    graph = write_graph(DIAMOND)("graph/failed")
    assert (graph["nodes"], graph["edges"], graph["num_failures"]) == ([], [], 0)


def open_in_memory():
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.row_factory = sqlite3.Row
    database.execute("BEGIN")
    schema.reset(database)
    return database


@pytest.fixture
def database():
    database = open_in_memory()
    yield database
    database.close()


def fill(database, num_chores, edges=(), gathers=()):
    database.executemany(
        "INSERT INTO chores (number, id, name, kind, part, offset, length) "
        "VALUES (?, ?, ?, 'executable', 0, 0, 1)",
        [(i, f"c{i}", f"g{i % 3}") for i in range(1, num_chores + 1)],
    )
    database.executemany("INSERT OR IGNORE INTO edges VALUES (?, ?)", edges)
    database.executemany("INSERT OR IGNORE INTO gathers VALUES (?, ?)", gathers)


def test_circles_and_edges_to_nowhere(database):
    fill(database, 4, [(1, 2), (2, 3), (3, 1), (4, 4), (2, 99), (98, 3)], [(1, "nobody")])
    graph = read_neighbourhood(database, "c1", up=1000, down=1000, limit=500)
    assert [node.id or node.name for node in graph.nodes] == ["c1", "c2", "c3", "nobody"]
    assert {(edge.upstream, edge.downstream) for edge in graph.edges} == {
        (1, 0),
        (2, 1),
        (0, 2),
        (3, 0),
    }
    assert graph.num_left_out == 2  # to what is not there
    itself = read_neighbourhood(database, "c4", up=5, down=5, limit=500)
    assert [(edge.upstream, edge.downstream) for edge in itself.edges] == [(0, 0)]
    database.execute("UPDATE chores SET state = 'failed'")
    database.execute("INSERT INTO counts VALUES ('g1', 'failed', 4)")
    graph, total, num_shown = read_failed_graph(database, up=1000, limit=500)
    assert (len(graph.nodes), total, num_shown) == (5, 4, 4)


numbers = st.integers(1, 12)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    edges=st.sets(st.tuples(numbers, numbers), max_size=40),
    gathers=st.sets(st.tuples(numbers, st.sampled_from(["g0", "g1"])), max_size=3),
    up=st.integers(0, 4),
    down=st.integers(0, 4),
    limit=st.integers(1, 16),
)
def test_neighbourhoods_are_bounded_and_add_up(edges, gathers, up, down, limit):
    database = open_in_memory()
    fill(database, 12, edges, gathers)
    graph = read_neighbourhood(database, "c5", up=up, down=down, limit=limit)
    shown = [node.id or node.name for node in graph.nodes]
    assert shown[0] == "c5"
    assert len(shown) == len(set(shown)) <= limit
    chores = {int(one[1:]) for one in shown if one[0] == "c"}
    found = {(shown[edge.downstream], shown[edge.upstream]) for edge in graph.edges}
    direct = {(f"c{one}", f"c{other}") for one, other in edges if {one, other} <= chores}
    assert {edge for edge in found if edge[0][0] == edge[1][0] == "c"} == direct
    reached = reach(edges, gathers, up, is_up=True) | reach(edges, gathers, down, is_up=False)
    assert chores <= reached
    if limit == 16:
        assert chores == reached
        assert graph.num_left_out == 0
    for node in graph.nodes:
        if node.id is not None:
            number = int(node.id[1:])
            assert node.num_upstream == sum(one == number for one, _ in [*edges, *gathers])
    database.close()


def reach(edges, gathers, depth, *, is_up):
    reached = {5}
    for _ in range(depth):
        for number in tuple(reached):
            if is_up:
                reached |= {upstream for one, upstream in edges if one == number}
            else:
                reached |= {one for one, upstream in edges if upstream == number}
                reached |= {one for one, name in gathers if name == f"g{number % 3}"}
    return reached


def test_whole_as_points_with_lines(write_graph):
    ask = write_graph(DIAMOND, [complete("a"), fail("b2")])
    whole = ask("graph/whole")
    assert (whole["mode"], whole["num_levels"], whole["num_ranks"]) == ("chores", 4, 2)
    assert whole["num_chores"] == 6
    assert whole["points"]["level"] == [0, 0, 1, 1, 2, 3]
    assert whole["points"]["rank"] == [0, 1, 0, 1, 0, 0]
    states = [whole["states"][code] for code in whole["points"]["state"]]
    assert states == ["completed", "blocked", "blocked", "failed", "blocked", "blocked"]
    lines = set(zip(whole["lines"]["upstream"], whole["lines"]["downstream"], strict=True))
    assert lines == {(0, 2), (0, 3), (2, 4), (3, 4), (4, 5)}
    assert (whole["num_lines_left_out"], whole["cells"]) == (0, None)


def test_window_of_the_whole(write_graph, monkeypatch):
    ask = write_graph(DIAMOND)
    window = ask("graph/whole", level_from=1, level_to=3, rank_from=1, rank_to=99)
    borders = [window[f"{axis}_{end}"] for axis in ("level", "rank") for end in ("from", "to")]
    assert borders == [1, 3, 1, 2]
    assert (window["num_chores"], window["points"]["level"]) == (1, [1])
    assert window["num_lines_left_out"] == 1
    outside = ask("graph/whole", level_from=50, level_to=60)
    assert (outside["num_chores"], outside["points"]["level"]) == (0, [])
    monkeypatch.setattr(index_whole, "MAX_LINES", 2)
    whole = ask("graph/whole")
    assert (len(whole["lines"]["upstream"]), whole["num_lines_left_out"]) == (2, 3)


def test_whole_counts_what_is_gathered(write_graph):
    whole = write_graph(GATHER)("graph/whole")
    assert (whole["num_chores"], whole["num_gathers_left_out"]) == (9, 1)
    assert len(whole["lines"]["upstream"]) == 2


def test_place_of_the_whole(write_graph):
    ask = write_graph(DIAMOND)
    assert ask("graph/at", level=1, rank=1)["chore"]["id"] == "b2"
    assert ask("graph/at", 404, level=3, rank=1)["detail"]


@pytest.mark.parametrize("max_cells", [4, 16_384])
def test_cells_where_there_are_too_many(write_graph, monkeypatch, max_cells):
    monkeypatch.setattr(index_cells, "MAX_CELLS", max_cells)
    wide = {f"a{i}": ("a", []) for i in range(100)}
    wide |= {f"b{i}": ("b", [f"a{i}"]) for i in range(50)}
    records = [complete(f"a{i}") for i in range(100)]
    records += [fail(f"b{i}") for i in range(10)]
    ask = write_graph(wide, records)
    whole = ask("graph/whole", limit=10)
    assert (whole["mode"], whole["points"], whole["lines"]) == ("cells", None, None)
    cells = whole["cells"]
    assert 0 < len(cells["level"]) == len(cells["rank"]) <= 10
    assert {state: sum(counts) for state, counts in cells["counts"].items()} == {
        "blocked": 40,
        "completed": 100,
        "failed": 10,
    }
    assert whole["num_chores"] == 150
    # Up to the limit chores are points, however coarse the cells are that are kept.
    assert ask("graph/whole", limit=150)["mode"] == "chores"
    part = ask("graph/whole", limit=10, rank_from=64)
    assert part["rank_from"] <= 64
    assert part["num_chores"] <= 150


def test_deep_chain_as_cells(write_graph):
    chain = {f"c{i}": ("chain", [f"c{i - 1}"] if i else []) for i in range(300)}
    whole = write_graph(chain)("graph/whole", limit=16)
    assert (whole["num_levels"], whole["num_ranks"], whole["mode"]) == (300, 1, "cells")
    assert (whole["cells"]["num_levels"], whole["cells"]["num_ranks"]) == (32, 1)
    assert whole["cells"]["counts"] == {"blocked": [32] * 9 + [12]}


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=20),
    max_cells=st.integers(1, 60),
    batch=st.integers(1, 50),
    limit=st.integers(1, 30),
    seed=st.integers(0, 999),
)
def test_cells_count_what_is_there(sizes, max_cells, batch, limit, seed):
    chance = random.Random(seed)
    database = open_in_memory()
    cells = Cells(database)
    places = [(level, rank) for level, size in enumerate(sizes) for rank in range(size)]
    states = dict.fromkeys(places, ChoreState.BLOCKED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_cells, "MAX_CELLS", max_cells)
        for number, place in enumerate(places):
            cells.add(*place)
            if chance.random() < 0.5:
                states[place] = chance.choice(list(ChoreState))
                cells.move(*place, ChoreState.BLOCKED, states[place])
            if number % batch == 0:
                cells.write()
        cells.write()
    extent = read_extent(database)
    assert (extent.num_levels, extent.num_ranks) == (len(sizes), max(sizes))
    kept = database.execute("SELECT count(*) FROM (SELECT DISTINCT level, rank FROM cells)")
    assert kept.fetchone()[0] <= max_cells
    # Not a level in `levels`, so that even few chores are told as cells.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_whole, "MAX_POINTS", 0)
        window = read_window(
            database, level_from=0, level_to=NO_MORE, rank_from=0, rank_to=NO_MORE, limit=limit
        )
    found = window.cells
    assert len(found.level) <= limit
    assert window.num_chores == len(places)
    expected = Counter(
        (level // found.num_levels * found.num_levels, rank // found.num_ranks * found.num_ranks, s)
        for (level, rank), s in states.items()
    )
    told = {
        (level, rank, state): count
        for state, counts in found.counts.items()
        for level, rank, count in zip(found.level, found.rank, counts, strict=True)
        if count
    }
    assert told == expected
    database.close()


@pytest.mark.slow
def test_kept_counts_agree_with_the_chores(tmp_path, monkeypatch):
    monkeypatch.setattr(run_index, "BATCH_LINES", 97)
    monkeypatch.setattr(index_cells, "MAX_CELLS", 50)
    index = run_index.RunIndex(make_run(tmp_path / "runs", 600), tmp_path / "index.sqlite")
    index.catch_up()
    index.close()
    database = schema.open_for_reading(tmp_path / "index.sqlite")
    extent = read_extent(database)
    assert (extent.num_levels, extent.num_ranks) == (3, 200)
    kept = "SELECT level, rank, state, count FROM cells WHERE count > 0"
    counted = "SELECT level >> ?, rank >> ?, state, count(*) FROM chores GROUP BY 1, 2, 3"
    shifts = (extent.level_shift, extent.rank_shift)
    expected = {tuple(row) for row in database.execute(counted, shifts)}
    assert {tuple(row) for row in database.execute(kept)} == expected
    assert len(expected) > 20
    sizes = database.execute("SELECT name, size FROM heights ORDER BY name").fetchall()
    assert [tuple(row) for row in sizes] == [("analyse", 200), ("md", 200), ("relax", 200)]
    database.close()


def test_pages_of_what_is_upstream_and_downstream(write_graph):
    fan = {f"u{i}": ("up", []) for i in range(25)}
    fan["hub"] = ("hub", [*fan, "*up"])
    fan |= {f"v{i}": ("down", ["hub"]) for i in range(7)}
    fan["all"] = ("all", ["*up", "u3", "*hub"])
    ask = write_graph(fan, [complete("u0")])
    for path, expected, groups in (
        ("chores/hub/upstream", [f"u{i}" for i in range(25)], ["up"]),
        ("chores/hub/downstream", [*(f"v{i}" for i in range(7)), "all"], []),
        ("chores/u3/downstream", ["hub", "all"], []),
        ("chores/u4/downstream", ["hub", "all"], []),
        ("chores/u4/upstream", [], []),
        ("chores/all/upstream", ["u3"], ["hub", "up"]),
    ):
        found, cursor = [], {}
        while True:
            page = ask(path, limit=4, **cursor)
            assert page["total"] == len(expected)
            assert [group["name"] for group in page["groups"]] == groups
            assert page["num_groups_left_out"] == 0
            found += [chore["id"] for chore in page["chores"]]
            if page["next"] is None:
                break
            cursor = {"cursor": page["next"]}
        assert found == expected
    up = next(group for group in ask("chores/hub/upstream")["groups"] if group["name"] == "up")
    assert (up["total"], up["states"]) == (25, {"completed": 1, "blocked": 24})
    ask("chores/nobody/upstream", 404)
    ask("chores/hub/upstream", 422, cursor="x")


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("graph/groups", {"limit": 501}),
        ("graph/neighbourhood", {}),
        ("graph/neighbourhood", {"chore": "a", "limit": 0}),
        ("graph/neighbourhood", {"chore": "a", "up": -1}),
        ("graph/failed", {"limit": 501}),
        ("graph/whole", {"limit": 20_001}),
        ("graph/whole", {"level_from": -1}),
        ("graph/at", {"level": 2**70, "rank": 0}),
    ],
)
def test_questions_out_of_bounds(write_graph, path, params):
    write_graph(DIAMOND)(path, 422, **params)


def test_graph_without_chores(write_graph):
    ask = write_graph({})
    assert ask("graph/groups")["groups"] == []
    whole = ask("graph/whole")
    assert (whole["num_levels"], whole["num_ranks"], whole["num_chores"]) == (0, 0, 0)
    assert ask("graph/failed")["nodes"] == []


def test_levels_rise_along_each_edge(write_graph):
    ask = write_graph(DIAMOND)
    levels = {
        node["id"]: node["level"]
        for node in ask("graph/neighbourhood", chore="c", up=9, down=9)["nodes"]
    }
    for earlier, later in pairwise(["a", "b1", "c", "d"]):
        assert levels[earlier] < levels[later]
