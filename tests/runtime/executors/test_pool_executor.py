"""The executor around another one: what goes to workers, and what happens when they fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from contract import Session
from pool_stage import FakeInside

from matensemble.runtime.executors.base import JobEnded
from matensemble.runtime.executors.pool_driver import PoolOptions
from matensemble.runtime.executors.pool_executor import PoolExecutor
from matensemble.runtime.scheduler.events import LaunchMeasured
from matensemble.workdir import RunDir

Opener = Callable[..., Session]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    """Open pools that are closed at the end of the test."""
    executors = []

    def open_(inside: FakeInside, **fields: Any) -> Session:
        run = RunDir(tmp_path / "run")
        run.out_dir.mkdir(parents=True)
        options = PoolOptions(run, epoch=1, is_remote=False, **fields)
        executors.append(PoolExecutor(inside, options))
        return Session(executors[-1], tmp_path)

    yield open_
    for executor in executors:
        executor.close()


def test_a_pooled_chore_is_served_by_a_worker(opened: Opener) -> None:
    inside = FakeInside()
    session = opened(inside)
    ended = session.run("true", is_pooled=True)
    assert ended == JobEnded("a", 1, 0, None, "", 0.001, "here", True)
    assert session.wait_for(LaunchMeasured, chore_id=None).seconds >= 0
    (request,) = inside.requests
    assert request.resources.cores_per_task == 4
    assert request.resources.gpus_per_task == 2
