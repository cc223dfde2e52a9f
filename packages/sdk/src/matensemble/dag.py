"""The graph of a pipeline: build, validate, order, generations, descendants, stages.

Owns everything that needs networkx. Works on ids only: it knows neither arguments nor resources,
and nothing here runs a chore. Called by `Pipeline` before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import chain
from typing import TYPE_CHECKING, Any

import networkx as nx

from matensemble.errors import CycleError, UnknownReferenceError

if TYPE_CHECKING:
    from typing import TypeAlias

    Graph: TypeAlias = "nx.DiGraph[str]"


_NOTHING: dict[str, Any] = {}


class _BareGraph(nx.DiGraph):  # type: ignore[type-arg]
    """A graph whose nodes and edges have no attributes: an empty dictionary takes 64 bytes."""

    node_attr_dict_factory = edge_attr_dict_factory = staticmethod(lambda: _NOTHING)


def build_graph(
    chores: Iterable[tuple[str, Sequence[str]]], *, is_bare: bool = False
) -> tuple[Graph, Iterable[str]]:
    """Return the graph with an edge upstream → downstream, and a topological order of it.

    Nodes are in the order given, which is that of recording and nearly always a topological one;
    then the order is the graph itself, and costs nothing. O(chores + edges).

    Parameters
    ----------
    chores
        Chore id and the ids of all chores that it depends on.
    is_bare
        Whether nothing will be noted at nodes and edges: then a million chores take less memory.

    Raises
    ------
    UnknownReferenceError
        If an id that is depended on is not among them.
    CycleError
        If there is no topological order; names the chores of one cycle.
    """
    graph: Graph = _BareGraph() if is_bare else nx.DiGraph()
    later: list[tuple[str, str]] = []
    for chore_id, upstream in chores:
        graph.add_node(chore_id)
        for source in upstream:
            if source in graph and source != chore_id:
                graph.add_edge(source, chore_id)
            else:
                later.append((source, chore_id))
    for source, chore_id in later:
        if source not in graph:
            raise UnknownReferenceError(chore_id, source)
        graph.add_edge(source, chore_id)
    return graph, topological_order(graph) if later else graph


def topological_order(graph: Graph) -> list[str]:
    """Return the ids so that each stands behind all that it depends on.

    Among those that could come next, the one that was recorded first does.
    O(chores × log(chores) + edges).

    Raises
    ------
    CycleError
        If there is no such order; names the chores of one cycle.
    """
    nodes = list(graph)
    order: list[str] = []
    position = {node: index for index, node in enumerate(nodes)}
    missing = {node: len(upstream) for node, upstream in graph.pred.items()}
    ready = [position[node] for node, count in missing.items() if not count]
    heapify(ready)
    while ready:
        node = nodes[heappop(ready)]
        order.append(node)
        del missing[node]
        for target in graph.succ[node]:
            missing[target] -= 1
            if not missing[target]:
                heappush(ready, position[target])
    if missing:
        raise CycleError(_cycle(graph, missing))
    return order


def _cycle(graph: Graph, stuck: Mapping[str, int]) -> list[str]:
    """Return one cycle among chores that each wait for another of them, upstream first."""
    walk: dict[str, int] = {}
    node = next(iter(stuck))
    while node not in walk:
        walk[node] = len(walk)
        node = next(source for source in graph.pred[node] if source in stuck)
    backwards = [*list(walk)[walk[node] :], node]
    return backwards[::-1]


def generations(graph: Graph) -> list[list[str]]:
    """Return the chores by the length of the longest way to them, from 0."""
    return [list(layer) for layer in nx.topological_generations(graph)]


def descendants(graph: Graph, chore_id: str) -> set[str]:
    """Return all chores that depend on one, directly or not. O(chores + edges)."""
    return set(nx.descendants(graph, chore_id))


def stages(
    graph: Graph, members: Mapping[str, Sequence[str]], gathers: Mapping[str, Sequence[str]]
) -> dict[str, int]:
    """Return how many gathers lie on the longest way to each chore.

    A chore's stage is the maximum of the stages of its upstream chores and, for each group that it
    gathers, 1 + the highest stage of those members that are not downstream of the chore itself (at
    least 1: chores that do not exist yet may join the group). A gather may be released when every
    chore of a lower stage has ended. O(chores + edges), members and gathers counted as edges.

    Parameters
    ----------
    graph
        Of all chores; acyclic.
    members
        Gathered group → ids of its chores.
    gathers
        Chore id → the groups it gathers.
    """
    found = _stages_in_order(graph, members, gathers)
    return _stages_of_components(graph, members, gathers) if found is None else found


def _stages_in_order(
    graph: Graph, members: Mapping[str, Sequence[str]], gathers: Mapping[str, Sequence[str]]
) -> dict[str, int] | None:
    """Return the stages where no chore is downstream of a gather of its own group, else None."""
    group_of = {chore_id: group for group, chore_ids in members.items() for chore_id in chore_ids}
    missing = {chore_id: len(upstream) for chore_id, upstream in graph.pred.items()}
    gatherers: dict[str, list[str]] = {group: [] for group in members}
    unseen = {group: len(chore_ids) for group, chore_ids in members.items()}
    for chore_id, groups in gathers.items():
        for group in dict.fromkeys(groups):
            if unseen.get(group):
                gatherers[group].append(chore_id)
                missing[chore_id] += 1

    result: dict[str, int] = {}
    highest: dict[str, int] = {}  # group → stage, of the members seen so far
    work = [chore_id for chore_id, count in missing.items() if not count]
    while work:
        chore_id = work.pop()
        stage = max((result[source] for source in graph.pred[chore_id]), default=0)
        for group in gathers.get(chore_id, ()):
            stage = max(stage, 1 + highest.get(group, 0))
        result[chore_id] = stage
        released: list[Iterable[str]] = [graph.succ[chore_id]]
        own = group_of.get(chore_id)
        if own is not None:
            highest[own] = max(highest.get(own, 0), stage)
            unseen[own] -= 1
            if not unseen[own]:
                released.append(gatherers[own])
        for target in chain.from_iterable(released):
            missing[target] -= 1
            if not missing[target]:
                work.append(target)
    return result if len(result) == len(graph) else None


def _stages_of_components(
    graph: Graph, members: Mapping[str, Sequence[str]], gathers: Mapping[str, Sequence[str]]
) -> dict[str, int]:
    """Return the stages of any graph; takes five times as long, and fifteen times the memory."""
    # One node a group instead of an edge a member and gatherer. Chores of a group that lie on a
    # cycle through its node are downstream of a gather of it; a cycle is a strong component.
    extended: nx.DiGraph[str | tuple[str]] = nx.DiGraph()
    extended.add_nodes_from(graph)
    extended.add_edges_from(graph.edges)
    for group, chore_ids in members.items():
        extended.add_edges_from((chore_id, (group,)) for chore_id in chore_ids)
    for chore_id, groups in gathers.items():
        extended.add_edges_from(((group,), chore_id) for group in groups)
    group_of = {chore_id: group for group, chore_ids in members.items() for chore_id in chore_ids}
    position = {chore_id: index for index, chore_id in enumerate(topological_order(graph))}
    condensed = nx.condensation(extended)

    result: dict[str, int] = {}
    highest: dict[str, int] = {}  # group → stage, of the members seen so far
    for component in nx.topological_sort(condensed):
        parts = condensed.nodes[component]["members"]
        outside = {part[0]: highest.get(part[0], 0) for part in parts if isinstance(part, tuple)}
        for chore_id in sorted((p for p in parts if isinstance(p, str)), key=position.__getitem__):
            stage = max((result[source] for source in graph.pred[chore_id]), default=0)
            for group in gathers.get(chore_id, ()):
                below = outside[group] if group in outside else highest.get(group, 0)
                stage = max(stage, 1 + below)
            result[chore_id] = stage
            group_name = group_of.get(chore_id)
            if group_name is not None:
                highest[group_name] = max(highest.get(group_name, 0), stage)
    return result
