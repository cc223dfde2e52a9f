"""What an earlier driver's warm workers served is lost, once these workers are gone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract import make_fifo, orphan_of, read_line

from matensemble import environment
from matensemble.runtime.executors.orphans import end_orphans

WORKER = "import os, sys, time; open(sys.argv[1], 'w').write('up' + chr(10)); time.sleep(600)"


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start a warm worker of each of two runs."""
    started = []
    for number, name in enumerate(("mine", "other")):
        run_dir = tmp_path / name
        run_dir.mkdir()
        variables = {
            environment.CHORE_ID: "worker-1-1",
            environment.ATTEMPT: "1",
            environment.RUN_DIR: str(run_dir),
            environment.WARM_WORKER: "1",
            environment.JOBID: f"cafe{number}.1",
        }
        fifo = make_fifo(run_dir)
        command = [sys.executable, "-c", WORKER, str(fifo)]
        started.append(subprocess.Popen(command, env={**os.environ, **variables}))
        assert read_line(fifo) == "up"
    yield started
    for process in started:
        process.kill()
        process.wait()


def test_the_worker_of_a_pooled_orphan_is_ended(
    workers: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    mine, other = workers
    orphan = orphan_of(tmp_path / "mine")
    end_orphans([orphan])
    assert mine.poll() is None, "it served nothing that is asked about"
    end_orphans([orphan._replace(is_pooled=True)])
    assert mine.wait(60) == -15
    assert other.poll() is None
