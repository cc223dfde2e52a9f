"""S4: what it costs to record, check and save a chore, in time and in memory.

Run: ``python benchmarks/authoring.py [--small N] [--large N] [--rounds N]``. Each measurement runs
in a process of its own. Times are CPU time, since machines are shared, in µs a chore and as a ratio
to a floor of the same run: pickling the same arguments and adding the same nodes and edges to a
networkx graph. Memory is the peak of all Python allocations, beyond the arguments themselves,
which go to a file.
"""

from __future__ import annotations

import argparse
import gc
import json
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import networkx as nx

from matensemble.pipeline import Pipeline

SHAPES = ("independent", "pairs", "chain")
"""No edge; every second chore takes the result of the one before; every chore does."""
TARGET_MICROSECONDS = 15.0
TARGET_BYTES = 800.0
TARGET_GROWTH = 1.3


def _needs_previous(shape: str, index: int) -> bool:
    return shape == "chain" or (shape == "pairs" and index % 2 == 1)


def author(shape: str, num_chores: int, basedir: str) -> None:
    """Record, check and save."""
    pipe = Pipeline(basedir)

    @pipe.chore
    def step(value: object, scale: float) -> object:
        return value

    reference: Any = 0
    for index in range(num_chores):
        reference = step(reference if _needs_previous(shape, index) else index, 0.5)
    pipe.save()


def floor(shape: str, num_chores: int, basedir: str) -> None:
    """Pickle the arguments and build the graph, nothing else."""
    graph: nx.DiGraph[int] = nx.DiGraph()
    for index in range(num_chores):
        pickle.dumps(((index, 0.5), {}), 5)
        graph.add_node(index)
        if index and _needs_previous(shape, index):
            graph.add_edge(index - 1, index)


def measure_here(what: str, shape: str, num_chores: int, in_memory: bool) -> float:
    """Return seconds, or bytes, a chore."""
    work: Callable[[str, int, str], None] = {"author": author, "floor": floor}[what]
    basedir = tempfile.mkdtemp()
    try:
        work(shape, 100, basedir)  # imports and caches
        gc.collect()
        if in_memory:
            tracemalloc.start()
        start = time.process_time()
        work(shape, num_chores, basedir)
        seconds = time.process_time() - start
        total = tracemalloc.get_traced_memory()[1] if in_memory else seconds
        return total / num_chores
    finally:
        shutil.rmtree(basedir)


def measure(what: str, shape: str, num_chores: int, rounds: int, *, memory: bool = False) -> float:
    """Return the median over processes of seconds, or bytes, a chore."""
    request = json.dumps([what, shape, num_chores, memory])
    command = [sys.executable, __file__, "--measure", request]
    outputs = [subprocess.check_output(command, text=True) for _ in range(rounds)]
    return statistics.median(map(float, outputs))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=20_000)
    parser.add_argument("--large", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(measure_here(*json.loads(options.measure)))
        return
    print(f"S4, a chore of {options.large:,} (medians of {options.rounds})")
    print(
        f"targets: at most {TARGET_MICROSECONDS:.0f} µs, {TARGET_BYTES:.0f} bytes, "
        f"growth from {options.small:,} {TARGET_GROWTH}"
    )
    print(f"{'shape':<12} {'µs':>6} {'floor µs':>9} {'ratio':>6} {'bytes':>6} {'growth':>7}")
    for shape in SHAPES:
        large = measure("author", shape, options.large, options.rounds)
        small = measure("author", shape, options.small, options.rounds)
        least = measure("floor", shape, options.large, options.rounds)
        size = measure("author", shape, options.large, 1, memory=True)
        print(
            f"{shape:<12} {large * 1e6:6.1f} {least * 1e6:9.1f} {large / least:6.2f} "
            f"{size:6.0f} {large / small:7.2f}"
        )


if __name__ == "__main__":
    main()
