"""Parts of the graph that a page can draw: groups, what is around a chore, what led to failures.

Owns the SQL of walking along edges, and that it stays bounded: a walk takes so many chores at most,
each once, so a circle ends it and a chore that a million others depend on costs one range of an
index. Called by the routes with a connection of `schema.open_for_reading`.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from matensemble.dashboard.index.edges import read_edges_within
from matensemble.model import ChoreState

MAX_NODES = 500
MAX_EDGES = 1_000
MAX_DEPTH = 1_000

_UP = "SELECT upstream FROM edges WHERE downstream = :number ORDER BY upstream LIMIT :limit"
_DOWN = (
    "SELECT downstream FROM edges WHERE upstream = :number UNION SELECT downstream FROM gathers "
    "WHERE name = (SELECT name FROM chores WHERE number = :number) "
    "ORDER BY downstream LIMIT :limit"
)


class NodeKind(StrEnum):
    """What a node stands for."""

    CHORE = "chore"
    GROUP = "group"
    """A whole group, whose results are gathered."""
    CASCADE = "cascade"
    """What was skipped because of one failure."""


class Node(NamedTuple):
    """A node of a drawing."""

    kind: NodeKind
    id: str | None
    """Of a chore; of a cascade, the failure it follows from."""
    name: str | None
    """Group; None for a cascade over several."""
    state: ChoreState | None = None
    states: Mapping[ChoreState, int] = MappingProxyType({})
    """Of a group or a cascade: how many chores stand where."""
    level: int | None = None
    num_upstream: int = 0
    """Of a chore: direct connections in all."""
    num_downstream: int = 0


class Edge(NamedTuple):
    """Connections of two nodes, by their places among the nodes."""

    upstream: int
    downstream: int
    num_connections: int = 1


class Graph(NamedTuple):
    """Nodes and what connects them."""

    nodes: list[Node]
    edges: list[Edge]
    num_left_out: int
    num_edges_left_out: int


def read_group_graph(database: sqlite3.Connection, limit: int) -> Graph:
    """Return the groups with most chores and how many connections lead from which to which.

    Parameters
    ----------
    database
        The index.
    limit
        Groups at most, from 1.
    """
    select = "SELECT name FROM heights ORDER BY size DESC, name LIMIT ?"
    names = [row[0] for row in database.execute(select, (limit,))]
    places = {name: place for place, name in enumerate(names)}
    # The sign lets the connections of each be read, instead of being sought for each pair.
    connected = (
        "WITH shown AS (SELECT value FROM json_each(:shown)) SELECT upstream, downstream, count "
        "FROM shown CROSS JOIN group_edges ON upstream = shown.value "
        "WHERE +downstream IN (SELECT value FROM shown) ORDER BY count DESC LIMIT :limit"
    )
    found = database.execute(connected, {"shown": json.dumps(names), "limit": MAX_EDGES})
    edges = [Edge(places[one], places[other], count) for one, other, count in found]
    total, num_edges = (
        database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for table in ("heights", "group_edges")
    )
    nodes = _read_groups(database, names)
    return Graph(nodes, edges, total - len(nodes), num_edges - len(edges))


def read_neighbourhood(
    database: sqlite3.Connection, chore_id: str, *, up: int, down: int, limit: int
) -> Graph | None:
    """Return a chore with what it depends on and what depends on it, or None if it is not there.

    Where there is no room for all, both directions get half of it, the nearest first.

    Parameters
    ----------
    database
        The index.
    chore_id
        The chore in the middle, the first of the nodes.
    up, down
        Steps to go.
    limit
        Nodes at most, from 1; gathered groups are nodes too.
    """
    found = database.execute("SELECT number FROM chores WHERE id = ?", (chore_id,)).fetchone()
    if found is None:
        return None
    above = _walk(database, [found[0]], up, limit, is_up=True)
    below = _walk(database, [found[0]], down, limit, is_up=False)
    half = max(limit - len(below.numbers), (limit - 1) // 2)
    numbers = list(dict.fromkeys([*above.numbers[: half + 1], *below.numbers]))[:limit]
    return _draw(database, numbers, limit, above=above.expanded, below=below.expanded)


def read_failed_graph(
    database: sqlite3.Connection, *, up: int, limit: int
) -> tuple[Graph, int, int]:
    """Return failures with what they depend on, how many there are, and how many of them are nodes.

    What was skipped because of a failure is one node, a cascade. A third of the room is for
    failures, in the order of admission, and a third for their cascades.

    Parameters
    ----------
    database
        The index.
    up
        Steps to go from failures to what they depend on.
    limit
        Nodes at most, from 1.
    """
    count = "SELECT total(count) FROM counts WHERE state = 'failed'"
    total = int(database.execute(count).fetchone()[0])
    select = "SELECT number, id FROM chores WHERE state = 'failed' ORDER BY number LIMIT ?"
    roots = database.execute(select, (-(-limit // 3),)).fetchall()
    cascades = _read_cascades(database, [row[1] for row in roots])[: limit // 3]
    room = limit - len(cascades)
    walk = _walk(database, [row[0] for row in roots], up, room, is_up=True)
    graph = _draw(database, walk.numbers, room, above=walk.expanded, below=set())
    places = {node.id: place for place, node in enumerate(graph.nodes)}
    for cascade in cascades:
        graph.edges.append(Edge(places[cascade.id], len(graph.nodes)))
        graph.nodes.append(cascade)
    return graph, total, len(roots)


class _Walked(NamedTuple):
    """Chores that were reached along edges, the nearest first."""

    numbers: list[int]
    expanded: set[int]
    """Those of them from which it would have gone on."""


class _Chore(NamedTuple):
    """What is drawn of a chore."""

    gathers: Mapping[str, None]
    """The first `MAX_NODES` of the groups."""
    id: str
    name: str
    state: str
    level: int
    num_upstream: int
    num_downstream: int
    num_gathers: int


def _walk(
    database: sqlite3.Connection, starts: Sequence[int], depth: int, limit: int, *, is_up: bool
) -> _Walked:
    """Go along edges so many steps, until there are `limit` chores."""
    seen = dict.fromkeys(starts)
    expanded: set[int] = set()
    frontier: Sequence[int] = starts
    for _ in range(depth):
        if not frontier:
            break
        num_before = len(seen)
        for number in frontier:
            expanded.add(number)
            if len(seen) < limit:
                # So many that there is room for no more even if all that were seen are among them.
                found = database.execute(
                    _UP if is_up else _DOWN, {"number": number, "limit": limit + 1}
                )
                new = [row[0] for row in found if row[0] not in seen]
                seen.update(dict.fromkeys(new[: limit - len(seen)]))
        frontier = list(seen)[num_before:]
    return _Walked(list(seen), expanded)


def _draw(
    database: sqlite3.Connection,
    numbers: Sequence[int],
    limit: int,
    *,
    above: Set[int],
    below: Set[int],
) -> Graph:
    """Return chores, the groups they gather, and what connects them.

    Parameters
    ----------
    database
        The index.
    numbers
        The chores, the most important first: groups take up to a quarter of the room from the last.
    limit
        Nodes at most.
    above, below
        Chores of which all that is upstream, or downstream, should be there.
    """
    chores = _read_chores(database, numbers)
    names = {chore.name for chore in chores.values()}
    gathered = {
        name: None
        for number, chore in chores.items()
        for name in chore.gathers
        if number in above or name in names
    }
    groups = list(gathered)[: max(limit - len(chores), limit // 4)]
    chores = dict(list(chores.items())[: limit - len(groups)])
    num_gatherers = _count_gatherers(database, names)
    nodes = [_node_of(chore, num_gatherers[chore.name]) for chore in chores.values()]
    nodes += _read_groups(database, groups)
    places = {number: place for place, number in enumerate(chores)}
    direct = [
        Edge(places[upstream], places[downstream])
        for upstream, downstream in read_edges_within(
            database, {number: chore.num_upstream for number, chore in chores.items()}
        )
    ]
    gathering = [
        Edge(group, place)
        for group, name in enumerate(groups, len(chores))
        for place, chore in enumerate(chores.values())
        if name in chore.gathers
    ]
    members = [
        Edge(place, group)
        for group, name in enumerate(groups, len(chores))
        for place, chore in enumerate(chores.values())
        if name == chore.name and name not in chore.gathers
    ]
    edges = [*gathering, *members, *direct]
    hidden = _count_hidden(nodes, places, direct, gathering, above=above, below=below)
    return Graph(nodes, edges[:MAX_EDGES], hidden, len(edges[MAX_EDGES:]))


def _count_hidden(
    nodes: Sequence[Node],
    places: Mapping[int, int],
    direct: Sequence[Edge],
    gathering: Sequence[Edge],
    *,
    above: Set[int],
    below: Set[int],
) -> int:
    """Return how many connections that should be there lead to what is not among the nodes."""
    # Each is counted as often as the totals of the nodes count it.
    num_upstream = Counter(edge.downstream for edge in [*direct, *gathering])
    num_downstream = Counter(edge.upstream for edge in direct)
    num_gatherers = Counter(nodes[edge.upstream].name for edge in gathering)
    num_hidden = 0
    for number, place in places.items():
        node = nodes[place]
        if number in above:
            num_hidden += node.num_upstream - num_upstream[place]
        if number in below:
            num_shown = num_downstream[place] + num_gatherers[node.name]
            num_hidden += node.num_downstream - num_shown
    return num_hidden


def _node_of(chore: _Chore, num_gatherers: int) -> Node:
    return Node(
        NodeKind.CHORE,
        chore.id,
        chore.name,
        ChoreState(chore.state),
        {},
        chore.level,
        chore.num_upstream + chore.num_gathers,
        chore.num_downstream + num_gatherers,
    )


def _read_chores(database: sqlite3.Connection, numbers: Sequence[int]) -> dict[int, _Chore]:
    """Return what is drawn of chores, in the order of their numbers as given."""
    # The order of the joins keeps the planner from reading all chores.
    select = (
        "SELECT number, chores.id, name, state, level, "
        "(SELECT count(*) FROM edges WHERE downstream = number), "
        "(SELECT count(*) FROM edges WHERE upstream = number), "
        "(SELECT count(*) FROM gathers WHERE downstream = number) "
        "FROM json_each(?) AS asked CROSS JOIN chores ON number = asked.value"
    )
    gathered = "SELECT name FROM gathers WHERE downstream = ? ORDER BY name LIMIT ?"
    chores: dict[int, _Chore] = {}
    for number, *columns in database.execute(select, (json.dumps(numbers),)):
        names = database.execute(gathered, (number, MAX_NODES))
        chores[number] = _Chore(dict.fromkeys(row[0] for row in names), *columns)
    return chores


def _read_groups(database: sqlite3.Connection, names: Sequence[str]) -> list[Node]:
    states: dict[str, dict[ChoreState, int]] = {name: {} for name in names}
    select = "SELECT name, state, count FROM counts WHERE count > 0 AND name = ?"
    for name in names:
        for _, state, count in database.execute(select, (name,)):
            states[name][ChoreState(state)] = count
    return [Node(NodeKind.GROUP, None, name, states=states[name]) for name in names]


def _count_gatherers(database: sqlite3.Connection, names: Iterable[str]) -> dict[str, int]:
    """Return how many chores gather each group."""
    count = "SELECT count(*) FROM gathers WHERE name = ?"
    return {name: database.execute(count, (name,)).fetchone()[0] for name in names}


def _read_cascades(database: sqlite3.Connection, roots: Sequence[str]) -> list[Node]:
    """Return what was skipped because of some failures, in the order of these."""
    # Each a look into an index of its own kind: together they would be asked of every chore.
    select = (
        "SELECT value, (SELECT min(name) FROM chores WHERE root = value), "
        "(SELECT max(name) FROM chores WHERE root = value), "
        "(SELECT count(*) FROM chores WHERE root = value) FROM json_each(?) ORDER BY key"
    )
    return [
        Node(
            NodeKind.CASCADE,
            root,
            first if first == last else None,
            states={ChoreState.SKIPPED: count},
        )
        for root, first, last, count in database.execute(select, (json.dumps(roots),))
        if count
    ]
