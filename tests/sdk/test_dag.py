"""The graph: order, cycles, unknown ids, stages."""

import itertools
import random

import networkx as nx
import pytest
from hypothesis import given, strategies as st

from matensemble import dag
from matensemble.errors import CycleError, UnknownReferenceError


@st.composite
def dags(draw, max_size=12):
    """Return rows of (id, upstream ids) that form a DAG, in any order."""
    size = draw(st.integers(1, max_size))
    rows = []
    for index in range(size):
        upstream = draw(st.sets(st.integers(0, index - 1), max_size=3)) if index else set()
        rows.append((f"c{index}", [f"c{u}" for u in sorted(upstream)]))
    return draw(st.permutations(rows))


@pytest.mark.slow
@given(dags())
def test_order_is_topological_and_stable(rows):
    graph, order = dag.build_graph(rows)
    order = list(order)
    place = {chore_id: index for index, chore_id in enumerate(order)}
    assert sorted(order) == sorted(chore_id for chore_id, _ in rows)
    assert all(place[u] < place[chore_id] for chore_id, up in rows for u in up)
    assert list(graph) == [chore_id for chore_id, _ in rows]
    assert order == list(
        nx.lexicographical_topological_sort(graph, key=list(graph).index)
    ) or order == list(graph)
    assert set(graph.edges) == {(u, chore_id) for chore_id, up in rows for u in up}


def test_a_bare_graph_is_the_same_graph():
    rows = [("c", ["a", "b"]), ("a", []), ("b", ["a"])]
    bare, bare_order = dag.build_graph(rows, is_bare=True)
    graph, order = dag.build_graph(rows)
    assert list(bare_order) == list(order) == ["a", "b", "c"]
    assert (list(bare), set(bare.edges)) == (list(graph), set(graph.edges))
    assert dag.stages(bare, {"g": ["a"]}, {"c": ["g"]}) == {"a": 0, "b": 0, "c": 1}


@pytest.mark.slow
@given(dags())
def test_generations_and_descendants(rows):
    graph, _ = dag.build_graph(rows)
    layers = dag.generations(graph)
    layer_of = {c: i for i, layer in enumerate(layers) for c in layer}
    for chore_id, upstream in rows:
        assert layer_of[chore_id] == max((layer_of[u] + 1 for u in upstream), default=0)
        assert all(chore_id in dag.descendants(graph, u) for u in upstream)


def test_order_of_recording_costs_nothing():
    graph, order = dag.build_graph([("a", []), ("b", ["a"])])
    assert order is graph


def test_unknown_reference_names_both():
    with pytest.raises(UnknownReferenceError) as info:
        dag.build_graph([("a", []), ("b", ["a", "x"])])
    assert (info.value.chore_id, info.value.missing) == ("b", "x")


@pytest.mark.slow
@given(dags(), st.randoms(use_true_random=False), st.integers(1, 5))
def test_cycle_is_a_closed_walk_along_edges(rows, rng, length):
    ring = [f"r{i}" for i in range(length)]
    cyclic = [(node, [ring[i - 1]]) for i, node in enumerate(ring)]
    mixed = [*rows, *cyclic, ("tail", [ring[0], rows[0][0]])]
    rng.shuffle(mixed)
    with pytest.raises(CycleError) as info:
        dag.build_graph(mixed)
    walk = info.value.chore_ids
    upstream = dict(mixed)
    assert walk[0] == walk[-1]
    assert set(walk) == set(ring)
    assert all(a in upstream[b] for a, b in itertools.pairwise(walk))


@pytest.mark.slow
def test_deep_chain_needs_no_recursion():
    rows = [(f"c{i}", [f"c{i - 1}"] if i else []) for i in range(20_000)]
    random.Random(1).shuffle(rows)
    _, order = dag.build_graph(rows)
    assert list(order) == [f"c{i}" for i in range(20_000)]


# --- stages -----------------------------------------------------------------------------------


def stages_by_definition(graph, members, gathers):
    """Evaluate the definition itself, downstream being taken along references and gathers."""
    extended = nx.DiGraph(graph)
    for chore_id, groups in gathers.items():
        for group in groups:
            extended.add_edges_from((m, chore_id) for m in members[group] if m != chore_id)
    below = {node: nx.descendants(extended, node) for node in extended}
    known = {}

    def stage(node):
        if node not in known:
            values = [stage(u) for u in graph.pred[node]]
            for group in gathers.get(node, ()):
                others = [m for m in members[group] if m != node and m not in below[node]]
                values.append(1 + max(map(stage, others), default=0))
            known[node] = max(values, default=0)
        return known[node]

    return {node: stage(node) for node in graph}


@pytest.mark.slow
@given(dags(), st.data())
def test_stages_equal_their_definition(rows, data):
    ids = [chore_id for chore_id, _ in rows]
    names = {c: data.draw(st.sampled_from("abc")) for c in ids}
    members = {g: [c for c in ids if names[c] == g] for g in "abcd"}
    gathers = data.draw(
        st.dictionaries(
            st.sampled_from(ids), st.lists(st.sampled_from("abcd"), min_size=1, max_size=2)
        )
    )
    graph, _ = dag.build_graph(rows)
    wanted = {g for groups in gathers.values() for g in groups}
    used = {g: members[g] for g in wanted}
    result = dag.stages(graph, used, gathers)
    assert result == stages_by_definition(graph, members, gathers)
    for chore_id, upstream in rows:
        assert all(result[u] <= result[chore_id] for u in upstream)


def test_stages_of_a_chain_of_gathers():
    rows = [("e1", []), ("e2", []), ("t1", []), ("f1", ["t1"]), ("t2", ["f1"])]
    graph, _ = dag.build_graph(rows)
    members = {"e": ["e1", "e2"], "f": ["f1"]}
    assert dag.stages(graph, members, {"t1": ["e"], "t2": ["f"]}) == {
        "e1": 0, "e2": 0, "t1": 1, "f1": 1, "t2": 2,
    }  # fmt: skip


def test_a_group_without_members_yet_waits_for_stage_zero():
    graph, _ = dag.build_graph([("a", []), ("t", [])])
    assert dag.stages(graph, {"spawned": []}, {"t": ["spawned"]}) == {"a": 0, "t": 1}
