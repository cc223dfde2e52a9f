"""What ran where and when, in a window: attempts as bars, or how many ran in each bin.

Owns the choice between the two, and that neither reads a whole run: bars are found by their start,
and many are never looked at one by one but as the minutes of `lanes`. Only where bins are shorter
than a minute are up to `MAX_LOOKED_AT` attempts counted into them. Called by the routes.
"""

from __future__ import annotations

import heapq
import re
import sqlite3
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from matensemble.dashboard.index.bins import Bins, Window, bins_of
from matensemble.dashboard.index.minutes import COUNTS, LOADS, SECONDS as MINUTE, sum_moments
from matensemble.dashboard.index.occupancy import Occupancy
from matensemble.dashboard.index.schema import indexed_by
from matensemble.model import ChoreState, Reason

MAX_BARS = 2_000
MAX_LOOKED_AT = 50_000
"""Attempts that are looked at one by one, to draw how many ran in bins below a minute."""
MAX_LONG = 1_000
"""Chores that ran longest. They are looked for by that, and all others by when they can have
started, which is therefore not long before the window."""
SLACK_SECONDS = 60.0
"""By how much a clock may have been set while a chore ran, so that it is found all the same."""
_DIGITS = re.compile(r"(\d+)")


class Axis(StrEnum):
    """What a lane is."""

    HOST = "host"
    GROUP = "group"


class TimelineMode(StrEnum):
    """How a timeline is told."""

    BARS = "bars"
    """Each attempt in the window; `MAX_BARS` at most."""
    OCCUPANCY = "occupancy"
    """How many ran and failed in each bin."""


class Bar(NamedTuple):
    """One attempt."""

    id: str
    name: str
    host: str
    attempt: int
    state: ChoreState
    reason: Reason | None
    started_at: float
    ended_at: float | None
    row: int


class Lane(NamedTuple):
    """One host or group."""

    name: str
    num_rows: int = 0
    bars: tuple[Bar, ...] = ()
    running: tuple[float, ...] = ()
    failed: tuple[int, ...] = ()


class Timeline(NamedTuple):
    """Some lanes in a window."""

    mode: TimelineMode
    window: Window
    bins: Bins | None
    """None where there are bars."""
    lanes: list[Lane]
    num_lanes: int
    num_bars: int


def read_timeline(
    database: sqlite3.Connection,
    axis: Axis,
    window: Window,
    *,
    first_lane: int,
    num_lanes: int,
    max_bins: int,
    gaps: list[Window],
    extent: Window,
) -> Timeline:
    """Return some lanes of a run in a window.

    Parameters
    ----------
    database
        The index.
    axis
        What a lane is.
    window
        The window.
    first_lane, num_lanes
        Which lanes, from 0, and how many at most.
    max_bins
        Bins in occupancy mode, at most.
    gaps
        When nothing counts as running in occupancy mode.
    extent
        From when to when the run lasts.
    """
    names = _lane_names(database, axis)
    shown = names[first_lane : first_lane + num_lanes]
    num_bars = _count_attempts(database, window)
    if num_bars <= MAX_BARS:
        # What ran when its driver was lost is told by no moment, so there may be more after all.
        found = _read_bars(database, window)
        if len(found) <= MAX_BARS:
            lanes = _lanes_of_bars(axis, shown, found)
            return Timeline(TimelineMode.BARS, window, None, lanes, len(names), len(found))
        num_bars = len(found)
    is_coarse = num_bars > MAX_LOOKED_AT
    bins = bins_of(window, max_bins, MINUTE if is_coarse else 1)
    read = _read_minutes if bins.seconds % MINUTE == 0 else _read_attempts
    occupied = read(database, axis, shown, bins, gaps, extent)
    covered = bins.covered(extent)
    lanes = [
        Lane(
            name,
            running=tuple(occupied[name].means(covered)),
            failed=tuple(occupied[name].failed),
        )
        for name in shown
    ]
    wide = Window(bins.start, bins.end)
    return Timeline(TimelineMode.OCCUPANCY, wide, bins, lanes, len(names), num_bars)


def _lane_names(database: sqlite3.Connection, axis: Axis) -> list[str]:
    if axis is Axis.HOST:
        # The names alone, each found behind the one before: a lane has a row for each minute.
        found = database.execute(
            "WITH RECURSIVE names(lane) AS ("
            "SELECT min(lane) FROM lanes WHERE axis = 'host' UNION ALL "
            "SELECT (SELECT min(lane) FROM lanes WHERE axis = 'host' AND lane > names.lane) "
            "FROM names WHERE lane IS NOT NULL) SELECT lane FROM names WHERE lane IS NOT NULL"
        )
        return sorted((name for (name,) in found), key=_natural)
    found = database.execute(
        "SELECT name FROM (SELECT DISTINCT name FROM counts) AS groups "
        "ORDER BY (SELECT min(number) FROM chores WHERE chores.name = groups.name)"
    )
    return [name for (name,) in found]


def _natural(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Return a key that sorts node9 before node10."""
    parts = _DIGITS.split(name)
    key = [(part.isascii() and part.isdecimal(), len(part.lstrip("0")), part) for part in parts]
    return [(is_number, length if is_number else 0, part) for is_number, length, part in key], name


def _count_attempts(database: sqlite3.Connection, window: Window) -> int:
    """Return how many attempts ran in a window, as far as moments tell."""
    counts, *_ = sum_moments(database, window.start, window.end)
    _, changes, _ = sum_moments(database, 0, window.start)
    return counts[COUNTS.index("started")] + max(changes[LOADS.index("running")], 0)


def _select_attempts(
    database: sqlite3.Connection, window: Window, columns: str, limit: int
) -> Iterator[Any]:
    """Yield columns of the attempts in a window, at most so many of each of four kinds."""
    found = database.execute(
        "SELECT seconds FROM chores ORDER BY seconds DESC LIMIT 1 OFFSET ?", (MAX_LONG,)
    ).fetchone()
    longest_usual = 0.0 if found is None else max(found[0], 0.0)
    values = {
        "start": window.start,
        "end": window.end,
        "early": max(window.start - longest_usual - SLACK_SECONDS, 0.0),
        "usual": longest_usual,
        "limit": limit,
    }
    before = "started_at > 0 AND started_at <= :early"
    ended = "max(ended_at, started_at) >= :start"
    for index, condition in (
        (
            "by_started",
            # One bound at each end: SQLite would walk from the lower of two.
            f"started_at > :early AND started_at < :end AND (state = 'running' OR {ended})",
        ),
        ("by_seconds", f"seconds > :usual AND {before} AND {ended}"),
        ("by_state", f"state = 'running' AND {before}"),
    ):
        yield from database.execute(
            f"SELECT {columns.format(id='id', state='state', name='name')} FROM chores "
            f"{indexed_by(database, index)} WHERE {condition} LIMIT :limit",
            values,
        )
    state = (
        "CASE WHEN attempts.reason = 'cancelled' THEN 'cancelled' "
        "WHEN attempts.reason IS NOT NULL THEN 'failed' "
        "WHEN attempts.exit_code = 0 THEN 'completed' ELSE 'cancelled' END"
    )
    of_chore = "(SELECT {} FROM chores WHERE number = chore)"
    its = columns.format(id=of_chore.format("id"), name=of_chore.format("name"), state=state)
    yield from database.execute(
        f"SELECT {its} FROM attempts WHERE started_at > 0 AND started_at < :end AND {ended} "
        "LIMIT :limit",
        values,
    )


def _read_bars(database: sqlite3.Connection, window: Window) -> list[Bar]:
    """Return the attempts in a window by their start; more than `MAX_BARS` where they are more."""
    columns = "{id}, {name}, host, attempt, {state}, reason, started_at, nullif(ended_at, 0)"
    bars = [
        Bar(
            id_, name, host, attempt, ChoreState(state), reason and Reason(reason), started,
            None if state == ChoreState.RUNNING or ended is None else max(ended, started), 0,
        )
        for id_, name, host, attempt, state, reason, started, ended in _select_attempts(
            database, window, columns, MAX_BARS + 1
        )
    ]  # fmt: skip
    return sorted(bars, key=lambda bar: (bar.started_at, bar.id, bar.attempt))


def _lanes_of_bars(axis: Axis, shown: list[str], bars: Iterable[Bar]) -> list[Lane]:
    by_lane: dict[str, list[Bar]] = {name: [] for name in shown}
    for bar in bars:
        lane = by_lane.get(bar.host if axis is Axis.HOST else bar.name)
        if lane is not None:
            lane.append(bar)
    return [_stack(name, found) for name, found in by_lane.items()]


def _stack(name: str, bars: list[Bar]) -> Lane:
    """Return a lane whose bars, sorted by start, have the lowest rows that are free."""
    free: list[int] = []
    taken: list[tuple[float, int]] = []  # until when, by which row
    num_rows = 0
    placed = []
    for bar in bars:
        while taken and taken[0][0] <= bar.started_at:
            heapq.heappush(free, heapq.heappop(taken)[1])
        if free:
            row = heapq.heappop(free)
        else:
            row, num_rows = num_rows, num_rows + 1
        heapq.heappush(taken, (float("inf") if bar.ended_at is None else bar.ended_at, row))
        placed.append(bar._replace(row=row))
    return Lane(name, num_rows, tuple(placed))


def _read_attempts(
    database: sqlite3.Connection,
    axis: Axis,
    shown: list[str],
    bins: Bins,
    gaps: list[Window],
    extent: Window,
) -> dict[str, Occupancy]:
    """Return how many ran in each bin, from the attempts."""
    occupied = {name: Occupancy(bins) for name in shown}
    lane = "host" if axis is Axis.HOST else "{name}"
    columns = f"{lane}, started_at, ended_at, {{state}}"
    window = Window(bins.start, bins.end)
    for name, started, ended, state in _select_attempts(database, window, columns, -1):
        lane_of_it = occupied.get(name)
        if lane_of_it is None:
            continue
        is_running = state == ChoreState.RUNNING
        lane_of_it.add(started, extent.end if is_running else ended, gaps)
        if state == ChoreState.FAILED:
            lane_of_it.count_failed(ended)
    return occupied


def _read_minutes(
    database: sqlite3.Connection,
    axis: Axis,
    shown: list[str],
    bins: Bins,
    gaps: list[Window],
    extent: Window,
) -> dict[str, Occupancy]:
    """Return how many ran in each bin, from the minutes of each lane."""
    occupied = {}
    first, last = bins.start // MINUTE, bins.end // MINUTE
    for name in shown:
        before = database.execute(
            "SELECT total(running) FROM lanes WHERE axis = ? AND lane = ? AND minute < ?",
            (axis.value, name, first),
        ).fetchone()[0]
        minutes = database.execute(
            "SELECT minute, running, run_seconds, failed FROM lanes "
            "WHERE axis = ? AND lane = ? AND minute >= ? AND minute < ? ORDER BY minute",
            (axis.value, name, first, last),
        )
        occupied[name] = Occupancy(bins)
        occupied[name].add_minutes(before, minutes, gaps, extent.end)
    return occupied
