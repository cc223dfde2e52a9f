"""Warm workers on this machine, as real processes: what a chore gets, and what ends with them."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from contract import SHOW, Session, make_fifo, read_line, wait_gone

from matensemble.model import Reason
from matensemble.runtime.executors.local import LocalExecutor, usable_cores
from matensemble.runtime.executors.pool_driver import PoolOptions
from matensemble.runtime.executors.pool_executor import PoolExecutor
from matensemble.runtime.scheduler.events import (
    AttemptLost,
    ChoreStarted,
    ChoreSubmitted,
    ResourcesFreed,
)
from matensemble.runtime.scheduler.resources import Share
from matensemble.workdir import RunDir

pytestmark = pytest.mark.slow
needs_two_cores = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(usable_cores()) < 2, reason="needs two cores"
)

Opener = Callable[..., Session]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    """Open pools on this machine that are closed at the end of the test."""
    executors = []

    def open_(cores: int = 2, gpus: int = 0, **options: Any) -> Session:
        run = RunDir(tmp_path / "run")
        run.out_dir.mkdir(parents=True)
        inner = LocalExecutor(cores, gpus, **options)
        executors.append(PoolExecutor(inner, PoolOptions(run, epoch=1, is_remote=False)))
        return Session(executors[-1], tmp_path)

    yield open_
    for executor in executors:
        executor.close()


def show(session: Session, chore_id: str, facts: str, **fields: Any) -> Any:
    """Return what a chore shows of itself."""
    argv = (sys.executable, "-c", SHOW % facts)
    ended = session.run(*argv, chore_id=chore_id, is_pooled=True, **fields)
    assert ended.exit_code == 0, ended
    return json.loads(session.text(chore_id))


@needs_two_cores
def test_a_chore_is_bound_to_as_many_cores_as_it_has(opened: Opener) -> None:
    session = opened()
    for chore_id, cores in (("a", 1), ("b", 2)):
        shown = show(session, chore_id, "'c': len(os.sched_getaffinity(0))", cores_per_task=cores)
        assert shown == {"c": cores}


def test_a_chore_sees_its_own_gpus(opened: Opener) -> None:
    session = opened(gpus=2, environ={**os.environ, "CUDA_VISIBLE_DEVICES": "3,5"})
    fact = "'gpus': os.environ.get('CUDA_VISIBLE_DEVICES')"
    assert show(session, "a", fact, gpus_per_task=2) == {"gpus": "3,5"}
    assert show(session, "b", fact, gpus_per_task=1)["gpus"] in ("3", "5")
    assert show(session, "c", fact) == {"gpus": "-1"}


@needs_two_cores
def test_a_job_waits_for_what_runs_in_the_worker_that_has_its_cores(opened: Opener) -> None:
    """The worker has all cores and a chore on one: it ends with that, and a smaller one comes."""
    session = opened()
    go = make_fifo(session.directory, "go")
    session.start("sh", "-c", f"read line < '{go}'", is_pooled=True)
    session.submit("true", chore_id="j", placement=(Share(0, 1, 0),))
    go.write_text("go\n")
    session.wait_for(ResourcesFreed, chore_id="j")
    assert session.wait_for(ResourcesFreed, chore_id="a")
    assert session.run("true", chore_id="b", is_pooled=True).exit_code == 0


def test_a_worker_that_is_killed_takes_its_chore_along(opened: Opener) -> None:
    session = opened()
    for attempt in (1, 2):
        fifo = make_fifo(session.directory, f"fifo-{attempt}")
        script = f"echo $$ $PPID > '{fifo}'; exec sleep 600"
        session.submit("sh", "-c", script, attempt=attempt, is_pooled=True)
        chore, worker = map(int, read_line(fifo).split())
        session.wait_for(ChoreStarted, attempt=attempt)
        os.kill(worker, signal.SIGKILL)
        wait_gone(chore)
        if attempt == 1:
            assert "signal 9" in session.wait_for(AttemptLost).detail
    session.wait_for(ResourcesFreed, attempt=2)
    (ended,) = [event for event in session.events if getattr(event, "reason", None)]
    assert ended.reason is Reason.NODE_FAILURE
    assert session.run("true", chore_id="b", is_pooled=True).exit_code == 0
    assert session.wait_for(ChoreSubmitted, chore_id="b").jobid.endswith("/worker-1-3")
