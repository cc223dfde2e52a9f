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
from collections.abc import Callable, Iterator
from typing import Any

import networkx as nx
from row import HEADER, Row, print_rows

from matensemble.pipeline import Pipeline

SHAPES = ("independent", "pairs", "chain", "programs")
"""No edge; every second chore takes the result of the one before; every chore does; no edge, and
executables with arguments of their own instead of functions."""
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
        if shape == "programs":
            pipe.exec(["relax", "--cell", index, "--scale", 0.5], name="relax")
            continue
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


def rows(small: int, large: int, rounds: int) -> Iterator[Row]:
    """Yield time, growth and memory of each shape."""
    for shape in SHAPES:
        seconds = measure("author", shape, large, rounds)
        least = measure("floor", shape, large, rounds)
        yield Row(
            "S4",
            f"record, check, save {large:,}: {shape}",
            seconds * 1e6,
            "µs",
            seconds / least,
            TARGET_MICROSECONDS,
            is_ratio_limited=False,
        )
        growth = seconds / measure("author", shape, small, rounds)
        yield Row("S4", f"  growth from {small:,}", growth, "×", growth, TARGET_GROWTH)
        size = measure("author", shape, large, 1, memory=True)
        yield Row("S4", "  memory", size, "bytes", None, TARGET_BYTES, is_ratio_limited=False)


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
    print(HEADER)
    print_rows(rows(options.small, options.large, options.rounds))


if __name__ == "__main__":
    main()
