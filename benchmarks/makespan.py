"""S7: how long graphs of published shapes take, against a simulation without overhead.

    python benchmarks/makespan.py [--rounds N] [--shapes NAME …] [--peers-python PATH]

Every chore sleeps for its duration, so a machine with few cores can play one with `SLOTS`. Ours
runs as users run it (``workers="auto"``), each chore a Python function whose directory, result and
journal records are kept, from the first recorded chore to the last completion, the start of
processes included. The simulation is the scheduler's own core with a clock that jumps: the same
policy, and everything that is not a chore takes no time. Dask and Parsl run the same graph on
workers that are up already.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Container, Iterable, Iterator
from functools import partial
from heapq import heappop, heappush
from pathlib import Path

import ours
import peers
from row import HEADER, LeftOut, Row, print_rows
from scratch import scratch
from workflow_shapes import Shape, shapes

from matensemble.runtime.scheduler.events import (
    AllocationLearned,
    ChoreAdded,
    ChoreFinished,
    ChoreStarted,
    ChoreSubmitted,
    ResourcesFreed,
    StartsConsidered,
)
from matensemble.runtime.scheduler.instructions import Submit
from matensemble.runtime.scheduler.resources import Allocation, Node
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.runtime.testing import make_chore

SLOTS = 8
TARGET = 1.05
PEERS = ("dask", "parsl")
CHART = "Makespan, as a multiple of a simulation without overhead"


def simulate(shape: Shape, slots: int) -> float:
    """Return the seconds that a graph takes where only the chores take time."""
    state = SchedulerState()
    state.handle(AllocationLearned(Allocation((Node("simulated", slots),))))
    seconds = {}
    for place, step in enumerate(shape.steps):
        chore_id = f"chore-{place}"
        seconds[chore_id] = step.seconds
        upstream = [f"chore-{one}" for one in step.upstream]
        state.handle(ChoreAdded(make_chore(chore_id, name=step.group, deps=upstream)))
    running: list[tuple[float, str]] = []
    now = 0.0
    while not state.is_finished:
        for order in state.handle(StartsConsidered()):
            if isinstance(order, Submit):
                state.handle(ChoreSubmitted(order.chore.id, 1, "simulated"))
                state.handle(ChoreStarted(order.chore.id, 1))
                heappush(running, (now + seconds[order.chore.id], order.chore.id))
        now, chore_id = heappop(running)
        state.handle(ChoreFinished(chore_id, 1, None, 0))
        state.handle(ResourcesFreed(chore_id, 1))
    return now


def run_ours(shape: Shape, slots: int, folder: str) -> float:
    """Return the seconds that ours takes."""
    file = Path(folder, f"{shape.name}-ours.json")
    file.write_text(json.dumps([[one.seconds, one.upstream, one.group] for one in shape.steps]))
    setting = ours.Setting(slots, workers="auto")
    return ours.measure(setting, "graph", file=str(file))["makespan"]


def run_peer(name: str, shape: Shape, slots: int, folder: str, python: str) -> float:
    """Return the seconds that a peer takes."""
    file = Path(folder, f"{shape.name}-peers.json")
    file.write_text(json.dumps([[one.seconds, one.upstream] for one in shape.steps]))
    makespan: float = peers.measure(python, name, "graph", slots=slots, file=str(file))["makespan"]
    return makespan


def measure(shape: Shape, rounds: int, python: str) -> Iterator[tuple[str, float | LeftOut]]:
    """Yield the median seconds of each system, or why there are none; the cases take turns."""
    seconds: dict[str, list[float]] = {}
    missing: dict[str, LeftOut] = {}
    folder = tempfile.mkdtemp()  # see `scratch`
    cases: dict[str, Callable[[], float]] = {"MatEnsemble": lambda: run_ours(shape, SLOTS, folder)}
    for name in PEERS:
        cases[peers.PEERS[name].title] = partial(run_peer, name, shape, SLOTS, folder, python)
    for _ in range(rounds):
        for title, case in cases.items():
            if title in missing:
                continue
            try:
                seconds.setdefault(title, []).append(case())
            except peers.PeerError as error:
                missing[title] = LeftOut("S7", f"  {title}", str(error))
    for title in cases:
        yield title, missing.get(title) or statistics.median(seconds[title])


def rows(graphs: Iterable[Shape], rounds: int, python: str) -> Iterator[Row | LeftOut]:
    """Yield the makespan of each graph by each system.

    Parameters
    ----------
    graphs
        What is run, with the seconds that it takes.
    rounds
        How often each is run.
    python
        Interpreter that has the peers.
    """
    for shape in graphs:
        simulated = simulate(shape, SLOTS)
        what = f"{shape.name}, {len(shape.steps)} chores on {SLOTS} cores: simulated"
        yield Row("S7", what, simulated, "s", 1.0)
        measured = dict(measure(shape, rounds, python))
        for title, value in measured.items():
            if isinstance(value, LeftOut):
                yield value
                continue
            limit = TARGET if title == "MatEnsemble" else None
            ratio = value / simulated
            bar = f"{shape.name}: {title}"
            yield Row("S7", f"  {title}", value, "s", ratio, limit, chart=CHART, bar=bar)
        own = measured.pop("MatEnsemble")
        others = [value for value in measured.values() if isinstance(value, float)]
        if isinstance(own, float) and others:
            what = "  MatEnsemble against the quickest of the others"
            yield Row("S7", what, own, "s", own / min(others), 1.0)


def graphs_of(seconds: float, share: float, names: Container[str] | None = None) -> list[Shape]:
    """Return the graphs.

    Parameters
    ----------
    seconds
        Work of a graph by slot.
    share
        Of the usual number of chores.
    names
        Of shapes; None takes all.
    """
    wanted = (one for one in shapes(share) if names is None or one.name in names)
    return [one.scaled(seconds * SLOTS) for one in wanted]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="work of a graph by slot")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of chores")
    parser.add_argument("--shapes", nargs="+", metavar="NAME", help="some only: Montage BLAST …")
    parser.add_argument("--peers-python", default=sys.executable)
    asked = parser.parse_args()
    print(HEADER)
    graphs = graphs_of(asked.seconds, asked.share, asked.shapes)
    with scratch():
        print_rows(rows(graphs, asked.rounds, asked.peers_python))


if __name__ == "__main__":
    main()
