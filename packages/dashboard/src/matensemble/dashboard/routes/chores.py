"""The chores of a run: pages and tables to keep, one of them, its group's counts, failures."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from enum import StrEnum
from itertools import chain, islice
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Query, Response
from fastapi.exceptions import RequestValidationError
from starlette.responses import StreamingResponse

from matensemble.dashboard.catalog import Catalog
from matensemble.dashboard.index.chores import (
    MAX_CURSOR,
    MAX_LIMIT,
    ChoreFilter,
    CursorError,
    Sort,
    Tiers,
    count_clusters,
    find_chore,
    find_chores,
    read_all,
    read_attempts,
    read_clusters,
    read_groups,
    read_page,
    read_tiers,
)
from matensemble.dashboard.index.feed import Indexes
from matensemble.dashboard.index.header import read_header
from matensemble.dashboard.schemas import (
    AttemptResponse,
    ChorePageResponse,
    ChoreResponse,
    ChoreRow,
    FailureClusterResponse,
    FailuresResponse,
    FreshnessResponse,
    GroupsResponse,
    ListedGroupResponse,
)
from matensemble.dashboard.spreadsheet import cell
from matensemble.errors import RunDirectoryError
from matensemble.model import ChoreState, Reason

MAX_TEXT = 255
JSON_TABLE = "application/vnd.matensemble.chores+json"
"""Of its own, so that a page of chores keeps the usual one."""
_ROWS_A_PIECE = 500
_COLUMNS = list(ChoreRow.model_fields)

_ROW = {"$ref": "#/components/schemas/ChoreRow"}
_TABLES = {
    "text/csv": {"schema": {"type": "string"}},
    JSON_TABLE: {"schema": {"type": "array", "items": _ROW}},
}

Text = Annotated[str | None, Query(max_length=MAX_TEXT)]


class Format(StrEnum):
    """Form of an answer."""

    PAGE = "page"
    """Some chores, and how to go on."""
    CSV = "csv"
    """All chores of the filter in one table; `cursor` and `limit` do not count."""
    JSON = "json"
    """The same as one array of objects."""


def chore_routes(catalog: Catalog, indexes: Indexes) -> APIRouter:
    """Return the routes about the chores of a run."""
    router = APIRouter(prefix="/runs/{run_id}")
    _add_table(router, indexes)
    _add_chore(router, catalog, indexes)
    _add_sums(router, indexes)
    return router


def _add_table(router: APIRouter, indexes: Indexes) -> None:
    @router.get(
        "/chores",
        operation_id="listChores",
        summary="Chores by filter, in pages or as one table",
        response_model=ChorePageResponse,
        responses={200: {"content": _TABLES}},
    )
    def list_chores(
        run_id: str,
        state: ChoreState | None = None,
        group: Text = None,
        reason: Reason | None = None,
        host: Text = None,
        cluster: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
        retried: bool = False,
        text: Text = None,
        sort: Sort = Sort.ORDER,
        descending: bool = False,
        cursor: Annotated[str | None, Query(max_length=MAX_CURSOR)] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
        format: Format = Format.PAGE,
    ) -> Any:
        wanted = ChoreFilter(
            state=state,
            name=group,
            reason=reason,
            host=host,
            cluster=cluster,
            is_retried=retried,
            text=text,
        )
        if format is not Format.PAGE:
            question = Question(wanted, sort, descending)
            return _table(indexes, run_id, question, format)
        with indexes.open(run_id) as (database, freshness):
            found = find_chores(database, wanted)
            try:
                page = read_page(
                    database,
                    wanted,
                    sort=sort,
                    is_descending=descending,
                    cursor=cursor,
                    limit=limit,
                    found=found,
                )
            except CursorError as error:
                problem = {"loc": ("query", "cursor"), "msg": str(error)}
                raise RequestValidationError([problem]) from error
        return ChorePageResponse(
            chores=[ChoreRow(**dict(row)) for row in page.rows],
            total=found.total,
            next=page.next,
            freshness=FreshnessResponse.of(freshness),
        )


def _add_chore(router: APIRouter, catalog: Catalog, indexes: Indexes) -> None:
    @router.get("/chores/{chore_id}", operation_id="readChore", summary="One chore, its attempts")
    def read_chore(run_id: str, chore_id: str) -> ChoreResponse:
        with indexes.open(run_id) as (database, freshness):
            row = find_chore(database, chore_id)
            if row is None:
                raise RunDirectoryError(run_id, "has no chore of that id")
            attempts = read_attempts(database, row["number"])
        place = (row["part"], row["offset"], row["length"])
        header = read_header(catalog.find(run_id), row["id"], *place)
        return ChoreResponse(
            chore=ChoreRow(**dict(row)),
            attempts=[AttemptResponse(**dict(attempt)) for attempt in attempts],
            **header._asdict(),
            freshness=FreshnessResponse.of(freshness),
        )


def _add_sums(router: APIRouter, indexes: Indexes) -> None:
    @router.get("/groups", operation_id="listGroups", summary="Counts by group and state")
    def list_groups(run_id: str) -> GroupsResponse:
        with indexes.open(run_id) as (database, freshness):
            groups, total = read_groups(database)
            tiers, all_tiers = read_tiers(database)
        return GroupsResponse(
            groups=[
                ListedGroupResponse(
                    name=name,
                    total=sum(states.values()),
                    states={ChoreState(state): count for state, count in states.items()},
                    **tiers.get(name, Tiers())._asdict(),
                )
                for name, states in groups.items()
            ],
            total=total,
            **all_tiers._asdict(),
            freshness=FreshnessResponse.of(freshness),
        )

    @router.get("/failures", operation_id="listFailures", summary="Failures by their cause")
    def list_failures(run_id: str) -> FailuresResponse:
        with indexes.open(run_id) as (database, freshness):
            clusters, totals = read_clusters(database), count_clusters(database)
        return FailuresResponse(
            clusters=[
                FailureClusterResponse(**dict(cluster) | {"sample": ChoreRow(**dict(sample))})
                for cluster, sample in clusters
            ],
            **totals._asdict(),
            freshness=FreshnessResponse.of(freshness),
        )


class Question(NamedTuple):
    """Which chores a table holds, and in which order."""

    wanted: ChoreFilter
    sort: Sort
    is_descending: bool

    def rows(self, database: sqlite3.Connection) -> Iterator[sqlite3.Row]:
        """Yield them."""
        return read_all(database, self.wanted, sort=self.sort, is_descending=self.is_descending)


def _table(indexes: Indexes, run_id: str, question: Question, format: Format) -> Response:
    write, media_type = _WRITERS[format]
    with ExitStack() as stack:
        # Opened here, so that what is wrong is told before the answer has begun.
        database, _ = stack.enter_context(indexes.open(run_id))
        pieces = _pieces(stack.pop_all(), write(question.rows(database)))
    return StreamingResponse(
        pieces,
        media_type=media_type,
        headers={"content-disposition": f'attachment; filename="chores.{format.value}"'},
    )


def _pieces(opened: ExitStack, lines: Iterator[str]) -> Iterator[str]:
    with opened:
        while piece := "".join(islice(lines, _ROWS_A_PIECE)):
            yield piece


def _write_csv(rows: Iterator[sqlite3.Row]) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.writer(text)
    for cells in chain([_COLUMNS], ([cell(row[name]) for name in _COLUMNS] for row in rows)):
        writer.writerow(cells)
        yield text.getvalue()
        text.seek(0)
        text.truncate()


def _write_json(rows: Iterator[sqlite3.Row]) -> Iterator[str]:
    yield "["
    for number, row in enumerate(rows):
        line = json.dumps({name: row[name] for name in _COLUMNS}, ensure_ascii=False)
        yield f",\n{line}" if number else f"\n{line}"
    yield "\n]\n"


_WRITERS = {
    Format.CSV: (_write_csv, "text/csv; charset=utf-8"),
    Format.JSON: (_write_json, JSON_TABLE),
}
