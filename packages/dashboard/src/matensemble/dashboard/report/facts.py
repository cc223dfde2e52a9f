"""What a report says, collected from the index, the status and small files of a few chores.

Owns what is chosen and what is left out; a report says both. Called by `page`.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime

from matensemble.dashboard.catalog import Catalog
from matensemble.dashboard.extent import NOTHING, find_extent
from matensemble.dashboard.files.failure import Remains, read_remains
from matensemble.dashboard.index.bins import bins_of, gaps_of
from matensemble.dashboard.index.bounds import clean
from matensemble.dashboard.index.chores import (
    ChoreFilter,
    Sort,
    count_clusters,
    count_states,
    find_chores,
    read_clusters,
    read_groups,
    read_page,
)
from matensemble.dashboard.index.durations import Durations, read_durations
from matensemble.dashboard.index.feed import Freshness
from matensemble.dashboard.index.history import read_events
from matensemble.dashboard.index.series import count_moments, integrate_load, integrate_room
from matensemble.dashboard.report.charts import Chart, draw
from matensemble.dashboard.schemas import RunResponse
from matensemble.dashboard.summary import describe_run
from matensemble.model import ChoreState, Reason
from matensemble.reasons import MEANINGS, Meaning
from matensemble.workdir import STDERR

MAX_GROUPS = 200
MAX_FAILURES = 30
MAX_SLOWEST = 20
MAX_EVENTS = 100
MAX_EVENT = 500
"""Characters of one."""
MAX_TRACEBACK = 4_000
NUM_BINS = 180


@dataclass(frozen=True, slots=True)
class Group:
    """All chores of one name."""

    name: str
    states: dict[str, int]
    durations: Durations

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self.states.values())


@dataclass(frozen=True, slots=True)
class Failure:
    """Failures of one cause, with one of them."""

    reason: Reason
    meaning: Meaning
    failed: int
    skipped: int
    sample: sqlite3.Row
    remains: Remains

    @property
    def traceback(self) -> str:
        """Its end."""
        text = self.remains.traceback
        return text if len(text) <= MAX_TRACEBACK else "…" + text[-MAX_TRACEBACK:]


@dataclass(frozen=True, slots=True)
class Activity:
    """What happened over time, and how much was busy."""

    ended: Chart
    cores: Chart | None
    gpus: Chart | None
    bin_seconds: int
    core_hours: float
    """Busy."""
    share: float | None
    """Of the cores that were there, from 0 to 1; None where that is not told."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a report says."""

    run: RunResponse
    states: dict[str, int]
    groups: list[Group]
    failures: list[Failure]
    slowest: list[sqlite3.Row]
    events: list[tuple[float, str, str]]
    """When, kind, text; oldest first."""
    activity: Activity | None
    made_at: datetime
    left_out: list[str]
    """One sentence each."""

    @property
    def total(self) -> int:
        """How many chores there are."""
        return sum(self.states.values())


def collect(
    catalog: Catalog, run_id: str, database: sqlite3.Connection, freshness: Freshness
) -> Facts:
    """Return what a report of a run says.

    Parameters
    ----------
    catalog
        Knows the run.
    run_id
        Its name.
    database, freshness
        Its index, as `Indexes.open` gives it.

    Raises
    ------
    RunDirectoryError
        If there is no run of that name.
    FormatError, OSError, sqlite3.Error
        If it cannot be read.
    """
    groups, num_groups = read_groups(database)
    clusters = read_clusters(database)
    events = read_events(database, before=None, limit=MAX_EVENTS)
    num_clusters = count_clusters(database).num_clusters
    run_dir = catalog.find(run_id).root
    left_out = [] if freshness.is_complete else [_describe_freshness(freshness)]
    for shown, total, one, many in (
        (MAX_GROUPS, num_groups, "group", "groups"),
        (MAX_FAILURES, num_clusters, "cause of failure", "causes of failures"),
        (MAX_EVENTS, events.total, "older event", "older events"),
    ):
        if total > shown:
            left_out.append(f"{total - shown:,} {one if total - shown == 1 else many}.")
    return Facts(
        run=describe_run(catalog.look(run_id), catalog.place(run_id)),
        states=count_states(database),
        groups=_in_order_of_graph(
            database,
            [
                Group(name, states, read_durations(database, name))
                for name, states in list(groups.items())[:MAX_GROUPS]
            ],
        ),
        failures=[
            Failure(
                Reason(cluster["reason"]),
                MEANINGS[Reason(cluster["reason"])],
                cluster["failed"],
                cluster["skipped"],
                sample,
                read_remains(run_dir, sample["id"], (STDERR,)),
            )
            for cluster, sample in clusters[:MAX_FAILURES]
        ],
        slowest=_slowest(database),
        events=[
            (row["at"], row["kind"], clean(row["text"], MAX_EVENT)) for row in events.rows[::-1]
        ],
        activity=_activity(catalog, run_id, database),
        made_at=datetime.now(UTC),
        left_out=left_out,
    )


def _in_order_of_graph(database: sqlite3.Connection, groups: list[Group]) -> list[Group]:
    heights: dict[str, int] = dict(map(tuple, database.execute("SELECT name, level FROM heights")))
    return sorted(groups, key=lambda group: (heights.get(group.name, 0), group.name))


def _describe_freshness(freshness: Freshness) -> str:
    text = f"What was not read yet: the report holds {freshness.share:.0%} of the run's records"
    return f"{text} ({freshness.problem})." if freshness.problem else f"{text}."


def _slowest(database: sqlite3.Connection) -> list[sqlite3.Row]:
    wanted = ChoreFilter(state=ChoreState.COMPLETED)
    page = read_page(
        database,
        wanted,
        sort=Sort.SECONDS,
        is_descending=True,
        cursor=None,
        limit=MAX_SLOWEST,
        found=find_chores(database, wanted),
    )
    return [row for row in page.rows if row["seconds"] is not None]


def _activity(catalog: Catalog, run_id: str, database: sqlite3.Connection) -> Activity | None:
    extent = find_extent(database, catalog, run_id)
    if extent is NOTHING:
        return None
    bins = bins_of(extent.window, NUM_BINS)
    edges, gaps = bins.edges(), gaps_of(database)
    counts = count_moments(database, bins)
    loads = integrate_load(database, edges, gaps, extent.end)
    rooms = integrate_room(database, edges, gaps, extent.end)
    per_bin = [1 / seconds if seconds else 0.0 for seconds in bins.covered(extent.window)]

    def busy(loads: list[float], rooms: list[float]) -> Chart | None:
        if not any(rooms):
            return None
        used, there = (
            [value * mean for value, mean in zip(column, per_bin, strict=True)]
            for column in (loads, rooms)
        )
        if len(there) > 2:  # a run begins and ends somewhere in a bin, and has as much before
            there[0], there[-1] = max(there[:2]), max(there[-2:])
        return draw(edges, {"busy": used}, there)

    core_seconds, available = sum(load.cores for load in loads), sum(room.cores for room in rooms)
    names = ("completed", "failed", "skipped", "cancelled")
    return Activity(
        ended=draw(edges, {name: counts[name] for name in names if any(counts[name])}),
        cores=busy([load.cores for load in loads], [room.cores for room in rooms]),
        gpus=busy([load.gpus for load in loads], [room.gpus for room in rooms]),
        bin_seconds=bins.seconds,
        core_hours=core_seconds / 3600,
        share=core_seconds / available if available else None,
    )
