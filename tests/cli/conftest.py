"""Runs on disk, made by hand where no process is needed, and Python in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from matensemble.model import RunState
from matensemble.pipeline import Pipeline
from matensemble.records import RecordKind, encode_journal_record, journal_stamp
from matensemble.status import Counts, RootFailure, RunStatus
from matensemble.workdir import RunDir


@pytest.fixture(autouse=True)
def on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATENSEMBLE_EXECUTOR", "local")
    monkeypatch.setenv("MATENSEMBLE_CORES", "2")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def saved(tmp_path: Path) -> RunDir:
    """A run of three chores that was saved: two of `energy`, and `fit` of both."""
    pipe = Pipeline(tmp_path / "runs")

    @pipe.chore
    def energy(strain: float) -> float:
        print("strain", strain)
        return strain

    @pipe.chore
    def fit(energies: list[float]) -> float:
        return sum(energies)

    fit([energy(0.1), energy(0.2)])
    return RunDir(pipe.save())


class Journal:
    """Writes records as the driver does."""

    def __init__(self, run: RunDir, epoch: int = 1, **fields: Any) -> None:
        self._run = run
        self._epoch = epoch
        self._sequence = 0
        self.write(RecordKind.RUN_STARTED, fields={"format": 1, **fields})

    def write(
        self,
        kind: RecordKind,
        chore_id: str | None = None,
        fields: Mapping[str, Any] | None = None,
        *,
        attempt: int = 1,
        at: float = 0.0,
    ) -> None:
        """Append a record of `at` seconds after the start of the run."""
        self._sequence += 1
        stamp = journal_stamp(self._epoch, JOURNAL_BEGAN + at, at)
        line = encode_journal_record(self._sequence, stamp, kind, chore_id, attempt, fields)
        with self._run.journal_path.open("ab") as journal:
            journal.write(line)

    def replace(self) -> Journal:
        """Take over as another driver: the journal so far counts to its present end."""
        length = self._run.journal_path.stat().st_size
        self._run.journal_path.rename(self._run.journal_of(self._epoch))
        previous = {"epoch": self._epoch, "length": length}
        return Journal(self._run, self._epoch + 1, previous=previous)


JOURNAL_BEGAN = 1_772_366_220.0
"""2026-03-01 11:57:00 UTC, as in `make_status`."""


@pytest.fixture
def journal(saved: RunDir) -> Journal:
    return Journal(saved)


@pytest.fixture(name="make_status")
def make_status_() -> Callable[..., RunStatus]:
    return make_status


def make_status(**changes: Any) -> RunStatus:
    """Return a status of a run with two groups and one failure."""
    values: dict[str, Any] = {
        "run": "matensemble_workflow-20260301_115700",
        "state": RunState.RUNNING,
        "sequence": 40,
        "counts": Counts(total=12, pending=3, running=2, completed=5, failed=2),
        "groups": {
            "energy": Counts(total=10, pending=2, running=2, completed=5, failed=1),
            "fit": Counts(total=2, pending=1, failed=1),
        },
        "executor": "local",
        "num_nodes": 1,
        "total_cores": 4,
        "free_cores": 2,
        "rate": 0.5,
        "root_failures": (
            RootFailure("chore-energy-0003", "exception", 1, "ValueError: no minimum"),
        ),
        "num_root_failures": 1,
        "host": "elsewhere",
        "pid": 4242,
        "started_at": "2026-03-01T11:57:00+00:00",
        "updated_at": "2026-03-01T11:59:59+00:00",
    }
    return RunStatus(**values | changes)


@pytest.fixture
def write_status() -> Callable[[RunDir, RunStatus], None]:
    def write(run: RunDir, status: RunStatus) -> None:
        run.status_path.write_text(json.dumps(status.to_json()))

    return write


@pytest.fixture
def now() -> datetime:
    """Three minutes after the start of the run of `make_status`."""
    return datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def _listen_to_ctrl_c() -> None:
    """Undo what a shell does to what it starts in the background, these tests perhaps."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a Python process in a session of its own; whatever is left of it is killed."""
    started: list[subprocess.Popen[str]] = []

    def start_python(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        process = subprocess.Popen(
            [sys.executable, *arguments],
            text=True,
            start_new_session=True,
            preexec_fn=_listen_to_ctrl_c,
            **streams,
        )
        started.append(process)
        return process

    yield start_python
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    """Ask again until something true is answered, and return it."""

    def wait(condition: Callable[[], Any], timeout: float = 60.0) -> Any:
        deadline = time.monotonic() + timeout
        while not (answer := condition()):
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)  # files and processes of others have no event to wait for
        return answer

    return wait
