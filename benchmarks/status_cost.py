"""S8: what one publication of the status costs, by the number of chores, failures and groups.

It must not grow with chores and failures. It grows with groups, which `status.json` lists, and so
a publication that takes long is made less often: what counts is the share of the driver's time.
The floor is the cost for a run of 1,000 chores of one group, 100 of which failed. The file is
written each time; the times are CPU time of the driver, medians of many publications, between which
chores move on.

    python benchmarks/status_cost.py
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from row import HEADER, Row, print_rows

from matensemble.chore import Chore
from matensemble.model import ChoreType, Reason, RunState
from matensemble.runtime.recorder import MAX_SHARE, PUBLISH_INTERVAL_SECONDS, Recorder
from matensemble.runtime.scheduler.events import (
    AllocationLearned,
    ChoreAdded,
    ChoreFinished,
    ChoreStarted,
    StartsConsidered,
)
from matensemble.runtime.scheduler.resources import Allocation, Node
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.workdir import RunDir

ROUNDS = 200
MOVES = 100
"""Chores that start between two publications."""
TARGET_GROWTH = 1.5
"""Of a figure of a fifth of a millisecond: what is left of noise."""


def make_state(num_chores: int, num_failures: int = 0, num_groups: int = 1) -> SchedulerState:
    """Return a state with so many chores, all submitted, the first of which have failed."""
    state = SchedulerState()
    state.handle(AllocationLearned(Allocation((Node("n", 10_000_000),))))
    for number in range(num_chores):
        name = f"g{number % num_groups}"
        state.handle(ChoreAdded(Chore(f"chore-{name}-{number:04d}", name, ChoreType.PYTHON)))
    state.handle(StartsConsidered())
    for entry in list(state)[:num_failures]:
        detail = "ValueError: the cell does not converge"
        state.handle(ChoreFinished(entry.chore.id, 1, Reason.EXCEPTION, 1, detail))
    return state


def cost(state: SchedulerState, rounds: int = ROUNDS) -> float:
    """Return seconds of CPU of one publication, the median."""
    waiting = iter([entry for entry in state if not entry.state.is_terminal])
    logger = logging.getLogger("benchmark")
    times = []
    with tempfile.TemporaryDirectory() as directory:
        run = RunDir(Path(directory))
        recorder = Recorder(run, executor_name="fake", epoch=1, log_delay=5.0, logger=logger)
        for sequence in range(rounds):
            for entry, _ in zip(waiting, range(MOVES), strict=False):
                state.handle(ChoreStarted(entry.chore.id, 1, "n"))
            start = time.process_time()
            recorder.publish(state, RunState.RUNNING, sequence, force=True)
            times.append(time.process_time() - start)
    return statistics.median(times)


def rows() -> Iterator[Row]:
    """Yield what a publication costs, and what share of the driver's time that is."""
    floor = cost(make_state(1_000, 100))
    yield Row("S8", "a publication: 1,000 chores, 100 failures", floor * 1e6, "µs", 1.0)
    for num_chores, num_failures in ((100_000, 100), (100_000, 50_000)):
        seconds = cost(make_state(num_chores, num_failures))
        what = f"{num_chores:,} chores, {num_failures:,} failures"
        yield Row("S8", what, seconds * 1e6, "µs", seconds / floor, TARGET_GROWTH)
    for num_groups in (10, 100, 1_000, 10_000):
        rounds = max(ROUNDS * 10 // num_groups, 10)
        seconds = cost(make_state(20_000, num_groups=num_groups), rounds)
        yield Row("S8", f"20,000 chores, {num_groups:,} groups", seconds * 1e6, "µs")
        share = seconds / max(seconds / MAX_SHARE, PUBLISH_INTERVAL_SECONDS)
        what, limit = "  share of the driver's time", 100 * MAX_SHARE
        yield Row("S8", what, 100 * share, "%", None, limit, is_ratio_limited=False)


def main() -> None:
    """Print the table."""
    print(HEADER)
    print_rows(rows())


if __name__ == "__main__":
    main()
