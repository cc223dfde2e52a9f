"""D: what it costs the dashboard to index a run, and to answer from the index.

The run is made by `runs.py`. Measured is one process from an empty index to the last record, its
memory, and the first page of some tables, each with a connection of its own as a route has it.

    python benchmarks/dashboard_index.py [CHORES]
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from row import HEADER, Row, print_rows
from runs import make_run

from matensemble.dashboard.index.chores import ChoreFilter, Sort, count_chores, read_page
from matensemble.dashboard.index.run_index import RunIndex
from matensemble.dashboard.index.schema import open_for_reading
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


def ask(path: Path, wanted: ChoreFilter, sort: Sort) -> float:
    """Return the milliseconds of the first page of a table with its total."""
    start = time.perf_counter()
    with closing(open_for_reading(path)) as database:
        total = count_chores(database, wanted)
        is_descending = sort is not Sort.ORDER
        read_page(
            database,
            wanted,
            sort=sort,
            is_descending=is_descending,
            cursor=None,
            limit=100,
            total=total,
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
    return rows


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
    print(HEADER)
    print_rows(rows)
