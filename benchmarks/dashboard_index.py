"""D: what it costs the dashboard to index a run, and to answer from the index.

The run is made by `runs.py`. Measured is one process from an empty index to the last record, its
memory, and the first page of some tables, and parts of the graph, each with a connection of its own
as a route has it.

    python benchmarks/dashboard_index.py [CHORES]
"""

from __future__ import annotations

import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from row import HEADER, Row, print_rows
from runs import make_run

from matensemble.dashboard.index.chores import ChoreFilter, Sort, find_chores, read_page
from matensemble.dashboard.index.graph import (
    read_failed_graph,
    read_group_graph,
    read_neighbourhood,
)
from matensemble.dashboard.index.run_index import RunIndex
from matensemble.dashboard.index.schema import open_for_reading
from matensemble.dashboard.index.waiting import read_blocked
from matensemble.dashboard.index.whole import MAX_PLACE, read_window
from matensemble.model import ChoreState

TARGET_RECORDS = 50_000.0
TARGET_MILLISECONDS = 150.0
QUESTIONS = {
    "all chores": (ChoreFilter(), Sort.ORDER),
    "failed chores": (ChoreFilter(state=ChoreState.FAILED), Sort.ORDER),
    "completed, longest first": (ChoreFilter(state=ChoreState.COMPLETED), Sort.SECONDS),
    "one group, last ended first": (ChoreFilter(name="md"), Sort.ENDED_AT),
    "with more than one attempt": (ChoreFilter(is_retried=True), Sort.SECONDS),
    "one host, failed": (ChoreFilter(host="node3", state=ChoreState.FAILED), Sort.ORDER),
    "part of an id": (ChoreFilter(text="md-3333"), Sort.SECONDS),
}


def read_part(database: sqlite3.Connection, num_ranks: int, limit: int) -> None:
    """Read so much of the top of the whole graph."""
    window = {"level_from": 0, "level_to": MAX_PLACE, "rank_from": 0, "rank_to": num_ranks}
    read_window(database, **window, limit=limit)


DRAWINGS: dict[str, Callable[[sqlite3.Connection], object]] = {
    "groups": lambda database: read_group_graph(database, 500),
    "around a chore": lambda database: read_neighbourhood(
        database, "chore-relax-0001", up=9, down=9, limit=500
    ),
    "failures": lambda database: read_failed_graph(database, up=9, limit=500),
    "whole, as cells": lambda database: read_part(database, MAX_PLACE, 5_000),
    "part, 5,000 chores": lambda database: read_part(database, 5_000 // 3, 5_000),
    "part, 20,000 chores": lambda database: read_part(database, 20_000 // 3, 20_000),
    "what waits for what": read_blocked,
}


def draw(path: Path, question: Callable[[sqlite3.Connection], object]) -> float:
    """Return the milliseconds of a part of the graph."""
    start = time.perf_counter()
    with closing(open_for_reading(path)) as database:
        question(database)
    return (time.perf_counter() - start) * 1e3


def ask(path: Path, wanted: ChoreFilter, sort: Sort) -> float:
    """Return the milliseconds of the first page of a table with its total."""
    start = time.perf_counter()
    with closing(open_for_reading(path)) as database:
        found = find_chores(database, wanted)
        is_descending = sort is not Sort.ORDER
        read_page(
            database,
            wanted,
            sort=sort,
            is_descending=is_descending,
            cursor=None,
            limit=100,
            found=found,
        )
    return (time.perf_counter() - start) * 1e3


def measure(folder: Path, count: int) -> list[Row]:
    """Return the figures of a run of `count` chores."""
    run, path = make_run(folder, count), folder / "index.sqlite"
    index = RunIndex(run, path)
    start = time.perf_counter()
    index.catch_up()
    seconds = time.perf_counter() - start
    index.close()
    with run.journal_path.open("rb") as journal:
        num_records = sum(1 for _ in journal)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rate = num_records / seconds
    rows = [
        Row("D", f"index {count:,} chores", rate, "rec/s", None, TARGET_RECORDS, True, False),
        Row("D", "its memory", memory, "MiB"),
        Row("D", "its file", path.stat().st_size / 1e6, "MB"),
    ]
    for what, question in QUESTIONS.items():
        best = min(ask(path, *question) for _ in range(3))
        limit = TARGET_MILLISECONDS
        rows.append(Row("D", f"page: {what}", best, "ms", None, limit, False, False))
    for what, drawing in DRAWINGS.items():
        best = min(draw(path, drawing) for _ in range(3))
        limit = TARGET_MILLISECONDS
        rows.append(Row("D", f"graph: {what}", best, "ms", None, limit, False, False))
    return rows


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
    print(HEADER)
    print_rows(rows)
