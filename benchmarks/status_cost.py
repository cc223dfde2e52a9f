"""S8: what it costs to publish the status, whatever the number of chores and failures.

    python benchmarks/status_cost.py [CHORES]

The same publication (`status.json` written atomically, one line in the log) is made of a small run
and of larger ones, in turn, in one process; the medians of their CPU times are compared. The small
run has `SMALL` chores and no failure; in the worst of the larger ones every chore has failed.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from row import HEADER, Row, print_rows

from matensemble.model import Reason, RunState
from matensemble.runtime.recorder import Recorder
from matensemble.runtime.scheduler.events import (
    AllocationLearned,
    ChoreAdded,
    ChoreFinished,
    ResourcesFreed,
    StartsConsidered,
)
from matensemble.runtime.scheduler.resources import Allocation, Node
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.runtime.testing import make_chore
from matensemble.workdir import RunDir

SMALL = 1000
TARGET = 1.3
PUBLICATIONS = 200


def make_state(num_chores: int, *, is_failed: bool) -> SchedulerState:
    """Return a state in which every chore has ended."""
    state = SchedulerState()
    state.handle(AllocationLearned(Allocation((Node("node", num_chores),))))
    chore_ids = [f"chore-{number}" for number in range(num_chores)]
    for number, chore_id in enumerate(chore_ids):
        state.handle(ChoreAdded(make_chore(chore_id, name=f"group-{number % 10}")))
    state.handle(StartsConsidered())
    reason, detail = (Reason.NONZERO_EXIT, "exit code 1") if is_failed else (None, "")
    for chore_id in chore_ids:
        state.handle(ChoreFinished(chore_id, 1, reason, int(is_failed), detail))
        state.handle(ResourcesFreed(chore_id, 1))
    return state


def make_recorder(folder: str, name: str) -> Recorder:
    """Return a recorder of a run that has nothing but its directory."""
    run = RunDir(Path(folder, name))
    run.root.mkdir()
    logger = logging.getLogger("benchmark")
    return Recorder(run, executor_name="none", epoch=1, log_delay=5.0, logger=logger)


def microseconds(recorder: Recorder, state: SchedulerState, sequence: int) -> float:
    """Return µs of CPU that one publication takes."""
    start = time.process_time()
    assert recorder.publish(state, RunState.RUNNING, sequence, force=True)
    return (time.process_time() - start) * 1e6


def rows(num_chores: int) -> Iterator[Row]:
    """Yield the cost of a publication by size of the run."""
    cases = {
        f"publish the status: {SMALL:,} chores": make_state(SMALL, is_failed=False),
        f"  {num_chores:,} chores": make_state(num_chores, is_failed=False),
        f"  {SMALL:,} chores, all failed": make_state(SMALL, is_failed=True),
        f"  {num_chores:,} chores, all failed": make_state(num_chores, is_failed=True),
    }
    times: dict[str, list[float]] = {what: [] for what in cases}
    with tempfile.TemporaryDirectory() as folder:
        recorders = {what: make_recorder(folder, str(i)) for i, what in enumerate(cases)}
        for sequence in range(PUBLICATIONS):
            for what, state in cases.items():
                times[what].append(microseconds(recorders[what], state, sequence))
    medians = [(what, statistics.median(values)) for what, values in times.items()]
    for small, large in (medians[:2], medians[2:]):
        yield Row("S8", *small, "µs", 1.0)
        yield Row("S8", *large, "µs", large[1] / small[1], TARGET)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chores", type=int, nargs="?", default=100_000)
    print(HEADER)
    print_rows(rows(parser.parse_args().chores))


if __name__ == "__main__":
    main()
