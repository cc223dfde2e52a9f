"""What was busy over time, and what ran where and when: against every attempt of a made-up run."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from itertools import pairwise
from math import ceil
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings, strategies as st

from matensemble.dashboard.index import timeline as timeline_module
from matensemble.dashboard.index.bins import Window, bins_of, extent_of, gaps_of, outside
from matensemble.dashboard.index.durations import read_durations
from matensemble.dashboard.index.fold import Fold
from matensemble.dashboard.index.schema import reset
from matensemble.dashboard.index.series import count_moments, integrate_load, integrate_room
from matensemble.dashboard.index.timeline import Axis, TimelineMode, read_timeline
from matensemble.dashboard.index.utilisation import count_lanes, read_use
from matensemble.records import JournalRecord, RecordKind

T = 1_700_000_000


class Attempt(NamedTuple):
    """One attempt of a chore of its own; None as end: it runs."""

    group: str
    host: str
    cores: int
    start: float
    end: float | None
    kind: RecordKind = RecordKind.COMPLETED
    is_unseen: bool = False
    """Whether it was over before anybody reported that it had started."""

    @property
    def lane(self):
        return {Axis.HOST: self.host, Axis.GROUP: self.group}

    @property
    def fields(self):
        told = {"r": "node_failure"} if self.kind is not RecordKind.COMPLETED else {}
        return told | ({"el": self.end - self.start, "h": self.host} if self.is_unseen else {})


class Teller:
    """Folds records into a new index in memory."""

    def __init__(self) -> None:
        self.database = sqlite3.connect(":memory:", isolation_level=None)
        self.database.row_factory = sqlite3.Row
        self.database.execute("BEGIN")
        reset(self.database)
        self.fold = Fold(self.database)
        self.num_told = 0

    def tell(self, kind, at, chore=None, attempt=1, *, epoch=1, **fields):
        self.num_told += 1
        self.fold.apply(
            JournalRecord(self.num_told, epoch, at, at - T, kind, chore, attempt, fields), 1, 0, 1
        )

    def open(self, at, *, epoch=1, nodes=(("a", 64, 8), ("b", 64, 8))):
        previous = {"previous": {"epoch": epoch - 1, "length": 1}} if epoch > 1 else {}
        self.tell(RecordKind.RUN_STARTED, at, epoch=epoch, format=1, nodes=nodes, **previous)

    def admit(self, number, one):
        header = {
            "id": f"chore-{number}",
            "name": one.group,
            "kind": "executable",
            "resources": {"num_tasks": one.cores, "gpus_per_task": 1},
        }
        self.fold.admit(0, 0, 1, header)

    def close(self):
        self.fold.write()
        self.database.execute("COMMIT")


@contextmanager
def told(attempts, *, opened=T, closed=None):
    """Yield the index of a run of these attempts, each of a chore of its own."""
    teller = Teller()
    try:
        teller.open(opened)
        happened = []
        for number, one in enumerate(attempts):
            teller.admit(number, one)
            happened.append((one.start, 1, number))
            if one.end is not None:
                happened.append((one.end, 2, number))
        # At one instant, what began earlier ends first, and nothing ends before it begins.
        for at, step, number in sorted(happened):
            one, chore = attempts[number], f"chore-{number}"
            if step == 1:
                teller.tell(RecordKind.SUBMIT_INTENT, at, chore)
                if not one.is_unseen:
                    teller.tell(RecordKind.STARTED, at, chore, h=one.host)
            else:
                teller.tell(one.kind, at, chore, **one.fields)
        if closed is not None:
            teller.tell(RecordKind.RUN_STATE, closed, state="completed")
        teller.close()
        yield teller.database
    finally:
        teller.database.close()


def instants(low=0.0, high=4_000.0):
    return st.floats(low, high).map(lambda seconds: T + round(seconds, 2))


@st.composite
def attempts(draw, *, may_run=True):
    start = draw(instants())
    seconds = draw(st.one_of(st.floats(0, 5), st.floats(0, 4_000)))
    is_running = may_run and draw(st.booleans()) and draw(st.booleans())
    return Attempt(
        draw(st.sampled_from(["relax", "md"])),
        draw(st.sampled_from(["node2", "node10", ""])),
        draw(st.integers(1, 9)),
        start,
        None if is_running else round(start + seconds, 2),
        draw(st.sampled_from([RecordKind.COMPLETED, RecordKind.FAILED, RecordKind.REQUEUED])),
        not is_running and draw(st.booleans()),
    )


RUNS = st.lists(attempts(), min_size=1, max_size=12)


def exact(one, window, until):
    """Return how many seconds of an attempt lie within a window."""
    end = until if one.end is None else one.end
    return max(min(end, window[1], until) - max(one.start, window[0]), 0.0)


# --- bins -------------------------------------------------------------------------------------


@given(
    st.integers(0, 10**11), st.integers(0, 10**10), st.integers(2, 2_000), st.sampled_from([1, 60])
)
@example(0, 10**10, 2, 60)
@settings(deadline=None)
def test_bins_tile_the_window_without_gap(start, seconds, most, least):
    window = Window(start, start + seconds)
    bins = bins_of(window, most, least)
    edges = bins.edges()
    assert len(edges) - 1 == bins.number <= most
    assert {right - left for left, right in pairwise(edges)} == {bins.seconds}
    assert edges[0] <= window.start < edges[1]
    assert edges[-2] < max(window.end, window.start + 1) <= edges[-1]
    assert bins.start % bins.seconds == 0
    assert bins.seconds >= least
    assert sum(bins.covered(window)) == seconds


@pytest.mark.parametrize(
    ("seconds", "most", "length"),
    [(10, 10, 1), (100, 20, 5), (86_400, 300, 300), (10**8, 10, 86_400 * 116)],
)
def test_bins_are_as_fine_as_they_may_be(seconds, most, length):
    assert bins_of(Window(0, seconds), most).seconds == length


@given(
    st.lists(st.integers(0, 100), max_size=8, unique=True), st.integers(0, 100), st.integers(0, 100)
)
@settings(deadline=None)
def test_what_is_outside_gaps(cuts, start, end):
    cuts.sort()
    gaps = [Window(*pair) for pair in zip(cuts[::2], cuts[1::2], strict=False)]
    left = outside(gaps, start, end)
    inside = [any(gap.start <= second < gap.end for gap in gaps) for second in range(100)]
    seconds = {second for second in range(start, end) if not inside[second]}
    assert {second for a, b in left for second in range(int(a), int(b))} == seconds


# --- what was busy ----------------------------------------------------------------------------


@pytest.mark.slow
@given(RUNS, st.integers(10, 1_000), st.integers(-50, 5_000), st.integers(1, 6_000))
@settings(deadline=None)
def test_busy_seconds_over_bins_are_those_of_the_attempts(run, most, first, seconds):
    with told(run) as database:
        extent = extent_of(database, T + 5_000.5)
        asked = Window(T + first, T + first + seconds)
        bins = bins_of(asked, most)
        window = (bins.start, bins.end)
        loads = integrate_load(database, bins.edges(), [], extent.end)
        (total,) = integrate_load(database, list(window), [], extent.end)
    seconds_of = [exact(one, window, extent.end) for one in run]
    expected = (
        sum(seconds_of),
        sum(s * one.cores for s, one in zip(seconds_of, run, strict=True)),
        sum(s * one.cores for s, one in zip(seconds_of, run, strict=True)),
    )
    assert tuple(map(sum, zip(*loads, strict=True))) == pytest.approx(expected, abs=1e-3)
    assert total == pytest.approx(expected, abs=1e-3)
    for load, pair in zip(loads, pairwise(bins.edges()), strict=True):
        ran = sum(exact(one, pair, extent.end) for one in run)
        assert load.running == pytest.approx(ran, abs=1e-3)


def test_chores_of_milliseconds_keep_cores_busy_for_as_long_as_they_take():
    # A batch of reports: hundreds end at one instant, just behind the edge of a second.
    run = [
        Attempt("md", "node1", 1, T + 4.998 + i / 1e6, T + 5.008, is_unseen=True)
        for i in range(256)
    ]
    with told(run) as database:
        edges = [T, T + 4, T + 5, T + 6, T + 9]
        loads = integrate_load(database, edges, [], T + 9)
    assert [load.cores for load in loads] == pytest.approx([0, 0.479, 2.048, 0], abs=1e-3)


@pytest.mark.slow
@given(RUNS, st.integers(10, 200))
@settings(deadline=None)
def test_counts_over_bins_are_those_of_the_records(run, most):
    with told(run) as database:
        extent = extent_of(database, None)
        bins = bins_of(extent, most)
        counts = count_moments(database, bins)
    for left, right, *found in zip(
        bins.edges(), bins.edges()[1:], counts["started"], counts["completed"], counts["failed"],
        counts["requeued"], strict=False,
    ):  # fmt: skip
        ended = [one.kind for one in run if one.end is not None and left <= one.end < right]
        assert found == [
            sum(left <= one.start < right for one in run),
            ended.count(RecordKind.COMPLETED),
            ended.count(RecordKind.FAILED),
            ended.count(RecordKind.REQUEUED),
        ]


@pytest.mark.slow
@given(RUNS)
@settings(deadline=None)
def test_use_of_lanes_is_that_of_the_attempts_to_the_fraction_of_a_second(run):
    with told(run) as database:
        until = extent_of(database, T + 9_000).end
        used = {axis: read_use(database, axis, [], until) for axis in Axis}
        numbers = {axis: count_lanes(database, axis) for axis in Axis}
    for axis, found in used.items():
        assert {use.name for use in found} == {one.lane[axis] for one in run}
        assert numbers[axis] == len(found)
        assert [use.core_seconds for use in found] == sorted(
            (use.core_seconds for use in found), reverse=True
        )
        for use in found:
            its = [one for one in run if one.lane[axis] == use.name]
            ended = [one.kind for one in its if one.end is not None]
            seconds = sum(exact(one, (0, until), until) * one.cores for one in its)
            assert use.core_seconds == pytest.approx(seconds, abs=1e-3)
            assert use.gpu_seconds == pytest.approx(seconds, abs=1e-3)
            assert use.running == sum(one.end is None for one in its)
            assert use.cores_busy == sum(one.cores for one in its if one.end is None)
            assert use.completed == ended.count(RecordKind.COMPLETED)
            assert use.failed == len(ended) - use.completed


def test_durations_occurred_and_are_those_of_the_latest_attempts():
    run = [Attempt("md", "node1", 1, T + i, T + i + (i + 1)) for i in range(100)]
    run += [Attempt("md", "node1", 1, T, None), Attempt("relax", "node1", 1, T, T + 7.5)]
    with told(run) as database:
        md, relax = read_durations(database, "md"), read_durations(database, "relax")
        nothing = read_durations(database, "nobody")
    assert (md.count, md.total, md.median, md.p95, md.max) == (100, 5050, 50, 95, 100)
    assert (relax.count, relax.median, relax.p95, relax.max) == (1, 7.5, 7.5, 7.5)
    assert (nothing.count, nothing.median) == (0, None)


# --- drivers and clocks -----------------------------------------------------------------------


@pytest.fixture
def resumed():
    """Two chores on 4 cores, one of which ran when the driver was killed; resumed a day later."""
    teller = Teller()
    teller.open(T)
    both = [Attempt("md", "a", 4, 0, 0), Attempt("md", "a", 4, 0, 0)]
    for number, one in enumerate(both):
        teller.admit(number, one)
        teller.tell(RecordKind.SUBMIT_INTENT, T + 10, f"chore-{number}")
        teller.tell(RecordKind.STARTED, T + 10, f"chore-{number}", h="a")
    teller.tell(RecordKind.COMPLETED, T + 100, "chore-0")
    day = T + 86_400
    teller.open(day, epoch=2, nodes=[["a", 32, 0]])
    teller.tell(RecordKind.REQUEUED, day, "chore-1", epoch=2, b="loss", r="node_failure")
    teller.tell(RecordKind.SUBMIT_INTENT, day + 20, "chore-1", 2, epoch=2)
    teller.tell(RecordKind.STARTED, day + 20, "chore-1", 2, epoch=2, h="a")
    teller.tell(RecordKind.COMPLETED, day + 50, "chore-1", 2, epoch=2)
    teller.tell(RecordKind.RUN_STATE, day + 60, epoch=2, state="completed")
    teller.close()
    yield teller.database
    teller.database.close()


def test_nothing_is_busy_while_nobody_watches(resumed):
    day = T + 86_400
    extent, gaps = extent_of(resumed, None), gaps_of(resumed)
    assert extent == Window(T, day + 60)
    assert gaps == [Window(T + 101, day)]
    bins = bins_of(extent, 1_000)
    loads = integrate_load(resumed, bins.edges(), gaps, extent.end)
    rooms = integrate_room(resumed, bins.edges(), gaps, extent.end)
    busy = 4 * (90 + 91 + 30)
    assert sum(load.cores for load in loads) == busy
    assert sum(room.cores for room in rooms) == 101 * 128 + 60 * 32
    assert sum(room.nodes for room in rooms) == 101 * 2 + 60 * 1
    assert max(load.running for load in loads) <= 2 * bins.seconds
    inside = [i for i, edge in enumerate(bins.edges()[:-1]) if T + 200 < edge < day - 200]
    assert inside
    assert {(loads[i].running, rooms[i].cores) for i in inside} == {(0, 0)}
    for axis, name in ((Axis.HOST, "a"), (Axis.GROUP, "md")):
        (use,) = read_use(resumed, axis, gaps, extent.end)
        assert (use.name, use.core_seconds) == (name, busy)
        assert (use.running, use.completed, use.failed) == (0, 2, 1)


@pytest.mark.parametrize("look", [50_000, 0])
def test_occupancy_leaves_out_what_nobody_watched(resumed, monkeypatch, look):
    monkeypatch.setattr(timeline_module, "MAX_BARS", 0)
    monkeypatch.setattr(timeline_module, "MAX_LOOKED_AT", look)
    extent, gaps = extent_of(resumed, None), gaps_of(resumed)
    for window in (extent, Window(T, T + 700), Window(extent.end - 700, extent.end)):
        found = read_timeline(
            resumed, Axis.HOST, window, first_lane=0, num_lanes=9, max_bins=1_000, gaps=gaps,
            extent=extent,
        )  # fmt: skip
        covered = found.bins.covered(extent)
        seconds = sum(m * s for m, s in zip(found.lanes[0].running, covered, strict=True))
        parts = [90 + 91, 30]
        wanted = {T: parts[0], extent.end - 700: parts[1]}.get(window.start)
        assert seconds == pytest.approx(sum(parts) if window == extent else wanted, abs=0.01)


def test_a_run_that_is_resumed_at_once_has_no_gap():
    teller = Teller()
    teller.open(T)
    teller.admit(0, Attempt("md", "a", 4, 0, 0))
    teller.tell(RecordKind.SUBMIT_INTENT, T + 10, "chore-0")
    teller.tell(RecordKind.STARTED, T + 10, "chore-0", h="a")
    teller.open(T + 60, epoch=2)
    teller.close()
    assert gaps_of(teller.database) == []
    teller.database.close()


def test_a_clock_that_is_set_back_makes_nothing_negative():
    teller = Teller()
    teller.open(T + 5_000)
    for number in range(3):
        teller.admit(number, Attempt("md", "a", 4, 0, 0))
        teller.tell(RecordKind.SUBMIT_INTENT, T + 5_010, f"chore-{number}")
        teller.tell(RecordKind.STARTED, T + 5_010, f"chore-{number}", h="a")
    teller.tell(RecordKind.COMPLETED, T + 1_400, "chore-0")
    teller.tell(RecordKind.RUN_STATE, T + 1_500, state="interrupted")
    teller.open(T + 1_510, epoch=2)
    teller.tell(RecordKind.REQUEUED, T + 1_520, "chore-1", epoch=2)
    teller.tell(RecordKind.FAILED, T + 1_520, "chore-2", epoch=2, r="signal")
    teller.close()
    database = teller.database
    extent, gaps = extent_of(database, None), gaps_of(database)
    assert (extent.start, extent.end) == (T + 1_400, T + 5_011)
    bins = bins_of(extent, 100)
    for load in integrate_load(database, bins.edges(), gaps, extent.end):
        assert min(load) >= 0
    for room in integrate_room(database, bins.edges(), gaps, extent.end):
        assert min(room) >= 0
    for axis in Axis:
        for use in read_use(database, axis, gaps, extent.end):
            assert min(use[1:]) >= 0
        for most in (0, 2_000):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(timeline_module, "MAX_BARS", most)
                found = read_timeline(
                    database, axis, extent, first_lane=0, num_lanes=9, max_bins=50, gaps=gaps,
                    extent=extent,
                )  # fmt: skip
            for lane in found.lanes:
                assert all(mean >= 0 for mean in lane.running)
                assert all(
                    bar.ended_at is None or bar.ended_at >= bar.started_at for bar in lane.bars
                )
    database.close()


# --- what ran where and when ------------------------------------------------------------------


@pytest.mark.slow
@given(
    RUNS, st.sampled_from(Axis), st.integers(-50, 5_000), st.integers(1, 3_000), st.integers(0, 3)
)
@settings(deadline=None)
def test_bars_are_the_attempts_in_the_window(run, axis, first, seconds, num_long):
    window = Window(T + first, T + first + seconds)
    with told(run) as database, pytest.MonkeyPatch.context() as patch:
        patch.setattr(timeline_module, "MAX_LONG", num_long)
        extent = extent_of(database, T + 5_000)
        found = read_timeline(
            database, axis, window, first_lane=0, num_lanes=9, max_bins=50, gaps=[], extent=extent
        )
    assert (found.mode, found.bins, found.window) == (TimelineMode.BARS, None, window)
    wanted = [
        number
        for number, one in enumerate(run)
        if one.start < window.end and (one.end is None or one.end >= window.start)
    ]
    bars = [bar for lane in found.lanes for bar in lane.bars]
    assert sorted(bar.id for bar in bars) == sorted(f"chore-{number}" for number in wanted)
    assert found.num_bars == len(bars)
    assert {lane.name for lane in found.lanes} == {one.lane[axis] for one in run}
    for lane in found.lanes:
        ends = {}
        assert [bar.started_at for bar in lane.bars] == sorted(bar.started_at for bar in lane.bars)
        for bar in lane.bars:
            one = run[int(bar.id.removeprefix("chore-"))]
            assert one.lane[axis] == lane.name
            assert (bar.host, bar.name, bar.attempt) == (one.host, one.group, 1)
            assert (bar.started_at, bar.ended_at) == (one.start, one.end)
            state = "completed" if one.kind is RecordKind.COMPLETED else "failed"
            assert bar.state == ("running" if one.end is None else state)
            assert ends.get(bar.row, 0) <= bar.started_at
            ends[bar.row] = bar.ended_at or float("inf")
        assert sorted(ends) == list(range(lane.num_rows))


@pytest.mark.slow
@given(RUNS, st.sampled_from(Axis), st.integers(-50, 5_000), st.integers(1, 6_000), st.booleans())
@settings(deadline=None)
def test_occupancy_is_that_of_the_attempts(run, axis, first, seconds, is_coarse):
    window = Window(T + first, T + first + seconds)
    with told(run) as database, pytest.MonkeyPatch.context() as patch:
        patch.setattr(timeline_module, "MAX_BARS", -1)
        patch.setattr(timeline_module, "MAX_LOOKED_AT", -1 if is_coarse else 10)
        extent = extent_of(database, T + 5_000)
        found = read_timeline(
            database, axis, window, first_lane=0, num_lanes=9, max_bins=50, gaps=[], extent=extent
        )
    assert found.mode is TimelineMode.OCCUPANCY
    assert found.window == (found.bins.start, found.bins.end)
    if is_coarse:
        assert found.bins.seconds % 60 == 0
    covered = found.bins.covered(extent)
    for lane in found.lanes:
        its = [one for one in run if one.lane[axis] == lane.name]
        for place, pair in enumerate(pairwise(found.bins.edges())):
            ran = sum(exact(one, pair, extent.end) for one in its)
            assert lane.running[place] * covered[place] == pytest.approx(ran, abs=1e-2)
            assert lane.failed[place] == sum(
                one.kind is not RecordKind.COMPLETED
                and one.end is not None
                and pair[0] <= one.end < pair[1]
                for one in its
            )


def test_lanes_keep_their_order_and_are_paged():
    hosts = ["node10", "node9", "node1", "n2b", "n2a", "", "node١", "node010"]
    run = [Attempt(f"group{i}", host, 1, T + i, T + i + 1) for i, host in enumerate(hosts)]

    def names(axis, first, number):
        with told(run) as database:
            found = read_timeline(
                database, axis, Window(T, T + 99), first_lane=first, num_lanes=number, max_bins=50,
                gaps=[], extent=Window(T, T + 99),
            )  # fmt: skip
        assert found.num_lanes == len(hosts)
        return [lane.name for lane in found.lanes]

    natural = names(Axis.HOST, 0, 99)
    assert sorted(natural) == sorted(hosts)
    assert natural.index("node1") < natural.index("node9") < natural.index("node10")
    assert natural.index("n2a") < natural.index("n2b")
    assert names(Axis.HOST, 3, 2) == natural[3:5]
    assert names(Axis.HOST, 8, 2) == []
    assert names(Axis.GROUP, 0, 3) == ["group0", "group1", "group2"]


def test_earlier_attempts_are_bars_too():
    teller = Teller()
    teller.open(T)
    teller.admit(0, Attempt("md", "a", 4, 0, 0))
    for attempt, host in ((1, "a"), (2, "b")):
        at = T + 100 * attempt
        teller.tell(RecordKind.SUBMIT_INTENT, at, "chore-0", attempt)
        teller.tell(RecordKind.STARTED, at, "chore-0", attempt, h=host)
        if attempt == 1:
            teller.tell(RecordKind.REQUEUED, at + 50, "chore-0", r="signal", d="killed")
    teller.close()
    found = read_timeline(
        teller.database, Axis.HOST, Window(T, T + 300), first_lane=0, num_lanes=9, max_bins=50,
        gaps=[], extent=Window(T, T + 300),
    )  # fmt: skip
    teller.database.close()
    told_of = [
        (lane.name, bar.attempt, bar.state, bar.reason, bar.started_at, bar.ended_at)
        for lane in found.lanes
        for bar in lane.bars
    ]
    assert told_of == [
        ("a", 1, "failed", "signal", T + 100, T + 150),
        ("b", 2, "running", None, T + 200, None),
    ]


def test_attempts_whose_end_alone_tells_of_them_are_as_long_as_it_says():
    teller = Teller()
    teller.open(T)
    for number in range(4):
        teller.admit(number, Attempt("md", "", 4, 0, 0))
    for chore in ("chore-0", "chore-1", "chore-2"):
        teller.tell(RecordKind.SUBMIT_INTENT, T + 10, chore, p=1)
    teller.tell(RecordKind.COMPLETED, T + 100, "chore-0", el=2.5, h="a")
    teller.tell(RecordKind.REQUEUED, T + 100, "chore-1", r="exception", x=1, el=4, h="b")
    teller.tell(RecordKind.COMPLETED, T + 11, "chore-2", el=30.0, h="a")  # clocks differ
    teller.tell(RecordKind.FAILED, T + 100, "chore-3", r="submit_error", el=30.0)  # never begun
    teller.tell(RecordKind.SUBMIT_INTENT, T + 100, "chore-1", 2)
    teller.tell(RecordKind.STARTED, T + 101, "chore-1", 2, h="b")
    teller.close()
    columns = "started_at, ended_at, seconds, host, is_pooled"
    chores, attempts = (
        [tuple(row) for row in teller.database.execute(f"SELECT {columns} FROM {table}")]
        for table in ("chores", "attempts")
    )
    assert chores == [
        (T + 97.5, T + 100, 2.5, "a", 1),
        (T + 101, 0, -1, "b", 0),
        (T + 10, T + 11, 30.0, "a", 1),
        (0, T + 100, -1, "", 0),
    ]
    assert attempts == [(T + 96, T + 100, 4.0, "b", 1)]
    used = {use.name: use for use in read_use(teller.database, Axis.HOST, [], T + 101)}
    assert {name: (use.core_seconds, use.completed, use.failed) for name, use in used.items()} == {
        "a": (14.0, 2, 0),
        "b": (16.0, 0, 1),
    }
    teller.database.close()


def test_there_is_no_extent_before_anything_happened():
    teller = Teller()
    teller.admit(0, Attempt("md", "a", 4, 0, 0))
    teller.close()
    assert extent_of(teller.database, None) is None
    assert extent_of(teller.database, T + 5.0) is None
    teller.open(T + 0.5)
    teller.fold.write()
    assert extent_of(teller.database, None) == Window(T, T + 1)
    assert extent_of(teller.database, T + 7.2) == Window(T, ceil(T + 7.2))
    teller.database.close()
