"""Two runs side by side: groups, durations, failures, chores that stand elsewhere."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Query
from pydantic import BaseModel, NonNegativeFloat, NonNegativeInt, PositiveInt

from matensemble.dashboard.index.chores import count_states, read_clusters, read_groups
from matensemble.dashboard.index.comparison import compare_chores
from matensemble.dashboard.index.durations import read_durations
from matensemble.dashboard.index.feed import Freshness, Indexes
from matensemble.dashboard.schemas import DurationsResponse, FreshnessResponse
from matensemble.model import ChoreState, Reason

MAX_GROUPS = 500
MAX_FAILURES = 200
MAX_KINDS = 2_000
"""More than any index holds: what only one run has must be told from what is cut."""
MAX_RUN_ID = 255


class ComparedRunResponse(BaseModel):
    """One of the two runs."""

    id: str
    total: NonNegativeInt
    """Chores."""
    states: dict[ChoreState, PositiveInt]
    """How many stand where; states of none are left out."""
    freshness: FreshnessResponse


class GroupSideResponse(BaseModel):
    """A group in one of the runs."""

    total: PositiveInt
    states: dict[ChoreState, PositiveInt]
    durations: DurationsResponse


class GroupComparisonResponse(BaseModel):
    """A group in both runs."""

    name: str
    a: GroupSideResponse | None
    """None where the run has none of it."""
    b: GroupSideResponse | None
    ratio: NonNegativeFloat | None
    """Median duration of b over that of a; None where one of them is missing or 0."""


class Where(StrEnum):
    """In which of the runs something is."""

    ONLY_A = "only_a"
    ONLY_B = "only_b"
    BOTH = "both"


class FailureComparisonResponse(BaseModel):
    """Failures that have reason and wording in common, in both runs."""

    reason: Reason
    pattern: str
    where: Where
    failed_a: NonNegativeInt
    """Chores that failed like this."""
    failed_b: NonNegativeInt
    skipped_a: NonNegativeInt
    """Chores that did not run because one of these failed."""
    skipped_b: NonNegativeInt
    sample_a: str | None
    """Id of a chore that failed like this."""
    sample_b: str | None


class DifferenceResponse(BaseModel):
    """A chore that both runs have and that stands elsewhere in them."""

    id: str
    name: str
    """Its group, in a."""
    state_a: ChoreState
    state_b: ChoreState
    reason_a: Reason | None
    reason_b: Reason | None
    seconds_a: NonNegativeFloat | None
    seconds_b: NonNegativeFloat | None


class ComparisonResponse(BaseModel):
    """Two runs side by side."""

    a: ComparedRunResponse
    b: ComparedRunResponse
    groups: list[GroupComparisonResponse]
    """Those with most chores first."""
    num_groups: NonNegativeInt
    """How many there are, of which the first are listed."""
    failures: list[FailureComparisonResponse]
    """Those that only one run has first, then by their number."""
    num_failures: NonNegativeInt
    """How many kinds there are, of which the first are listed."""
    differences: list[DifferenceResponse]
    """The first in the order of a."""
    num_differences: NonNegativeInt
    num_only_a: NonNegativeInt
    """Chores whose id b has not."""
    num_only_b: NonNegativeInt
    is_complete: bool
    """Whether all chores were compared; else there was no time for it, `num_differences` counts
    those that were found, and how many only one run has is not known (0)."""


RunQuery = Annotated[str, Query(min_length=1, max_length=MAX_RUN_ID)]


def compare_routes(indexes: Indexes) -> APIRouter:
    """Return the route that compares two runs."""
    router = APIRouter()

    @router.get("/compare", operation_id="compareRuns", summary="Two runs side by side")
    def compare_runs(a: RunQuery, b: RunQuery) -> ComparisonResponse:
        sides = {run_id: _read_side(indexes, run_id) for run_id in (a, b)}
        side_a, side_b = sides[a], sides[b]
        compared = compare_chores(indexes.of(a).path, indexes.of(b).path)
        groups = _compare_groups(side_a, side_b)
        failures = _compare_failures(side_a, side_b)
        return ComparisonResponse(
            a=_describe_run(a, side_a),
            b=_describe_run(b, side_b),
            groups=groups[:MAX_GROUPS],
            num_groups=len(groups),
            failures=failures[:MAX_FAILURES],
            num_failures=len(failures),
            differences=[DifferenceResponse(**dict(row)) for row in compared.rows],
            num_differences=compared.num_differences,
            num_only_a=compared.num_only_a,
            num_only_b=compared.num_only_b,
            is_complete=compared.is_complete,
        )

    return router


class _Side(NamedTuple):
    """What was read of one run."""

    groups: dict[str, GroupSideResponse]
    states: dict[ChoreState, int]
    clusters: dict[tuple[str, str], tuple[sqlite3.Row, sqlite3.Row]]
    freshness: Freshness


def _read_side(indexes: Indexes, run_id: str) -> _Side:
    with indexes.open(run_id) as (database, freshness):
        found, _ = read_groups(database)
        groups = {}
        for name, counts in found.items():
            groups[name] = GroupSideResponse(
                total=sum(counts.values()),
                states={ChoreState(state): count for state, count in counts.items()},
                durations=DurationsResponse(**asdict(read_durations(database, name))),
            )
        states = {ChoreState(state): count for state, count in count_states(database).items()}
        clusters = {
            (row["reason"], row["pattern"]): (row, sample)
            for row, sample in read_clusters(database, MAX_KINDS)
        }
    return _Side(groups, states, clusters, freshness)


def _describe_run(run_id: str, side: _Side) -> ComparedRunResponse:
    return ComparedRunResponse(
        id=run_id,
        total=sum(side.states.values()),
        states=side.states,
        freshness=FreshnessResponse.of(side.freshness),
    )


def _compare_groups(a: _Side, b: _Side) -> list[GroupComparisonResponse]:
    found = []
    for name in {**a.groups, **b.groups}:
        of_a, of_b = a.groups.get(name), b.groups.get(name)
        before, after = (side.durations.median if side else None for side in (of_a, of_b))
        ratio = after / before if before and after is not None else None
        found.append(GroupComparisonResponse(name=name, a=of_a, b=of_b, ratio=ratio))
    found.sort(key=lambda one: (-max(side.total for side in (one.a, one.b) if side), one.name))
    return found


def _compare_failures(a: _Side, b: _Side) -> list[FailureComparisonResponse]:
    found = []
    for key in {**a.clusters, **b.clusters}:
        reason, pattern = key
        of_a, of_b = a.clusters.get(key), b.clusters.get(key)
        where = Where.ONLY_B if of_a is None else Where.ONLY_A if of_b is None else Where.BOTH
        found.append(
            FailureComparisonResponse(
                reason=Reason(reason),
                pattern=pattern,
                where=where,
                failed_a=of_a[0]["failed"] if of_a else 0,
                failed_b=of_b[0]["failed"] if of_b else 0,
                skipped_a=of_a[0]["skipped"] if of_a else 0,
                skipped_b=of_b[0]["skipped"] if of_b else 0,
                sample_a=of_a[1]["id"] if of_a else None,
                sample_b=of_b[1]["id"] if of_b else None,
            )
        )
    found.sort(key=lambda one: (one.where is Where.BOTH, -one.failed_a - one.failed_b))
    return found
