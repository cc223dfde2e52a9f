"""The graph of a run: by groups, around a chore, behind failures, and windows of the whole.

Shapes questions and answers. What is drawn in a page is bounded, and each answer says what it has
left out. The whole is asked for by window: columns of numbers stand for chores or, where these are
too many, for cells that count them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, NonNegativeInt, PositiveInt

from matensemble.dashboard.index.chores import COLUMNS
from matensemble.dashboard.index.feed import Indexes
from matensemble.dashboard.index.graph import (
    MAX_DEPTH,
    MAX_NODES,
    Graph,
    NodeKind,
    read_failed_graph,
    read_group_graph,
    read_neighbourhood,
)
from matensemble.dashboard.index.whole import MAX_PLACE, MAX_POINTS, Window, read_window
from matensemble.dashboard.schemas import ChoreRow, FreshnessResponse, GroupResponse
from matensemble.errors import RunDirectoryError
from matensemble.model import ChoreState

MAX_ID = 255


class GraphEdgeResponse(BaseModel):
    """A connection: what is upstream must end before what is downstream begins."""

    upstream: NonNegativeInt
    """Which node, by its place in the list of this answer, from 0; so is `downstream`."""
    downstream: NonNegativeInt
    num_connections: PositiveInt
    """How many connections it stands for. The two ends may be one node: chores of a group may
    depend on others of it."""


class GroupGraphResponse(BaseModel):
    """The groups of a run and what depends on what."""

    groups: list[GroupResponse]
    """Those with most chores first."""
    edges: list[GraphEdgeResponse]
    num_left_out: NonNegativeInt
    """Groups that are not listed."""
    num_edges_left_out: NonNegativeInt
    """Connections of groups that are not listed: there are too many, or an end is not."""
    freshness: FreshnessResponse


class GraphNodeResponse(BaseModel):
    """A node: a chore, a group that is gathered, or what was skipped because of a failure."""

    kind: NodeKind
    id: str | None
    """Of a chore; of a cascade, the failed chore it follows from; None for a group."""
    name: str | None
    """Group; None for a cascade over several."""
    state: ChoreState | None
    """Of a chore."""
    states: dict[ChoreState, PositiveInt]
    """Of a group or a cascade: how many of its chores stand where; empty for a chore."""
    level: NonNegativeInt | None
    """Of a chore: chores on the longest path to it."""
    num_upstream: NonNegativeInt
    """Of a chore: direct connections in all, drawn or not; a gathered group counts once."""
    num_downstream: NonNegativeInt


class GraphResponse(BaseModel):
    """A part of the graph."""

    nodes: list[GraphNodeResponse]
    edges: list[GraphEdgeResponse]
    num_left_out: NonNegativeInt
    """Connections within the depth that lead to chores for which there was no room."""
    num_edges_left_out: NonNegativeInt
    """Connections between the nodes that are not listed because there are too many."""
    freshness: FreshnessResponse


class FailedGraphResponse(GraphResponse):
    """Failures, what they depend on, and what was skipped because of each, folded."""

    num_failures: NonNegativeInt
    """Chores that failed by themselves, in the whole run."""
    num_failures_left_out: NonNegativeInt
    """Of these, not among the nodes; the first to be admitted are."""


class WindowMode(StrEnum):
    """What a window of the whole graph is made of."""

    CHORES = "chores"
    CELLS = "cells"


class PointsResponse(BaseModel):
    """Chores by their places: columns of equal length."""

    level: list[NonNegativeInt]
    """The position to the right: all that it depends on has a lower one."""
    rank: list[NonNegativeInt]
    """The position downwards; each within a level is taken once, from 0 on."""
    state: list[NonNegativeInt]
    """Place in `states`."""


class LinesResponse(BaseModel):
    """Connections by the places of their ends in the columns of points."""

    upstream: list[NonNegativeInt]
    downstream: list[NonNegativeInt]


class CellsResponse(BaseModel):
    """Rectangles with chores in them: columns of equal length."""

    num_levels: PositiveInt
    """Size of each."""
    num_ranks: PositiveInt
    level: list[NonNegativeInt]
    """The lowest level and rank in it, which are multiples of its size."""
    rank: list[NonNegativeInt]
    counts: dict[ChoreState, list[NonNegativeInt]]
    """Chores in each cell by state; states that are nowhere are left out."""


class WindowResponse(BaseModel):
    """A window of the whole graph: its chores where they are few enough, else cells."""

    num_levels: NonNegativeInt
    """Extent of the whole graph: levels, and chores in the widest of them."""
    num_ranks: NonNegativeInt
    level_from: NonNegativeInt
    """The window that is answered, up to but without `level_to` and `rank_to`: what was asked for,
    cut to the extent, with cells widened to whole ones."""
    level_to: NonNegativeInt
    rank_from: NonNegativeInt
    rank_to: NonNegativeInt
    num_chores: NonNegativeInt
    """In the window."""
    mode: WindowMode
    states: list[ChoreState]
    """What the numbers of states mean."""
    points: PointsResponse | None
    """With mode `chores`."""
    lines: LinesResponse | None
    """Between the points, with mode `chores`."""
    num_lines_left_out: NonNegativeInt
    """Connections of the points that are not listed: the other end is out of the window, or they
    are too many."""
    num_gathers_left_out: NonNegativeInt
    """Whole groups that the points gather, each as often as it is gathered: no line is drawn from
    the chores of these."""
    cells: CellsResponse | None
    """With mode `cells`."""
    freshness: FreshnessResponse


class PlaceResponse(BaseModel):
    """Who stands at a place of the whole graph."""

    chore: ChoreRow
    freshness: FreshnessResponse


Nodes = Annotated[int, Query(ge=1, le=MAX_NODES, description="Nodes at most")]
Depth = Annotated[int, Query(ge=0, le=MAX_DEPTH, description="Steps to go")]
Place = Annotated[int, Query(ge=0, le=MAX_PLACE)]
End = Annotated[int | None, Query(ge=1, le=MAX_PLACE, description="Behind the last")]


def graph_routes(indexes: Indexes) -> APIRouter:
    """Return the routes about the graph of a run."""
    router = APIRouter(prefix="/runs/{run_id}/graph")
    _add_groups(router, indexes)
    _add_parts(router, indexes)
    _add_whole(router, indexes)
    return router


def _add_groups(router: APIRouter, indexes: Indexes) -> None:
    @router.get("/groups", operation_id="readGroupGraph", summary="What groups depend on what")
    def read_groups(run_id: str, limit: Nodes = MAX_NODES) -> GroupGraphResponse:
        with indexes.open(run_id) as (database, freshness):
            graph = read_group_graph(database, limit)
        return GroupGraphResponse(
            groups=[
                GroupResponse(
                    name=node.name or "", total=sum(node.states.values()), states=dict(node.states)
                )
                for node in graph.nodes
            ],
            edges=_edges(graph),
            num_left_out=graph.num_left_out,
            num_edges_left_out=graph.num_edges_left_out,
            freshness=FreshnessResponse.of(freshness),
        )


def _add_parts(router: APIRouter, indexes: Indexes) -> None:
    @router.get(
        "/neighbourhood",
        operation_id="readNeighbourhood",
        summary="A chore, what it depends on and what depends on it",
    )
    def read_around(
        run_id: str,
        chore: Annotated[str, Query(max_length=MAX_ID, description="Id of the chore")],
        up: Depth = 2,
        down: Depth = 2,
        limit: Nodes = 200,
    ) -> GraphResponse:
        with indexes.open(run_id) as (database, freshness):
            graph = read_neighbourhood(database, chore, up=up, down=down, limit=limit)
        if graph is None:
            raise RunDirectoryError(run_id, "has no chore of that id")
        return GraphResponse(
            nodes=_nodes(graph),
            edges=_edges(graph),
            num_left_out=graph.num_left_out,
            num_edges_left_out=graph.num_edges_left_out,
            freshness=FreshnessResponse.of(freshness),
        )

    @router.get(
        "/failed",
        operation_id="readFailedGraph",
        summary="Failures, what they depend on, and what was skipped because of them",
    )
    def read_failed(run_id: str, up: Depth = 3, limit: Nodes = 200) -> FailedGraphResponse:
        with indexes.open(run_id) as (database, freshness):
            graph, num_failures, num_shown = read_failed_graph(database, up=up, limit=limit)
        return FailedGraphResponse(
            nodes=_nodes(graph),
            edges=_edges(graph),
            num_left_out=graph.num_left_out,
            num_edges_left_out=graph.num_edges_left_out,
            num_failures=num_failures,
            num_failures_left_out=num_failures - num_shown,
            freshness=FreshnessResponse.of(freshness),
        )


def _add_whole(router: APIRouter, indexes: Indexes) -> None:
    @router.get("/whole", operation_id="readWholeGraph", summary="A window of the whole graph")
    def read_whole(
        run_id: str,
        level_from: Place = 0,
        level_to: End = None,
        rank_from: Place = 0,
        rank_to: End = None,
        limit: Annotated[
            int, Query(ge=1, le=MAX_POINTS, description="Chores, or cells, at most")
        ] = 5_000,
    ) -> WindowResponse:
        with indexes.open(run_id) as (database, freshness):
            window = read_window(
                database,
                level_from=level_from,
                level_to=level_to or MAX_PLACE,
                rank_from=rank_from,
                rank_to=rank_to or MAX_PLACE,
                limit=limit,
            )
        return _shape(window, FreshnessResponse.of(freshness))

    @router.get("/at", operation_id="readPlace", summary="The chore at a place of the whole graph")
    def read_at(run_id: str, level: Place, rank: Place) -> PlaceResponse:
        select = f"SELECT {COLUMNS} FROM chores WHERE level = ? AND rank = ?"
        with indexes.open(run_id) as (database, freshness):
            row = database.execute(select, (level, rank)).fetchone()
        if row is None:
            raise RunDirectoryError(run_id, "has no chore at that place")
        return PlaceResponse(chore=ChoreRow(**dict(row)), freshness=FreshnessResponse.of(freshness))


def _nodes(graph: Graph) -> list[GraphNodeResponse]:
    return [
        GraphNodeResponse(**node._asdict() | {"states": dict(node.states)}) for node in graph.nodes
    ]


def _edges(graph: Graph) -> list[GraphEdgeResponse]:
    return [GraphEdgeResponse(**edge._asdict()) for edge in graph.edges]


def _shape(window: Window, freshness: FreshnessResponse) -> WindowResponse:
    points, cells = window.points, window.cells
    return WindowResponse(
        num_levels=window.num_levels,
        num_ranks=window.num_ranks,
        level_from=window.level_from,
        level_to=window.level_to,
        rank_from=window.rank_from,
        rank_to=window.rank_to,
        num_chores=window.num_chores,
        mode=WindowMode.CHORES if cells is None else WindowMode.CELLS,
        states=list(ChoreState),
        points=None
        if points is None
        else PointsResponse(level=points.level, rank=points.rank, state=points.state),
        lines=None
        if points is None
        else LinesResponse(upstream=points.upstream, downstream=points.downstream),
        num_lines_left_out=0 if points is None else points.num_lines_left_out,
        num_gathers_left_out=0 if points is None else points.num_gathers,
        cells=None if cells is None else CellsResponse(**cells._asdict()),
        freshness=freshness,
    )
