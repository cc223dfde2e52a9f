"""The contract of every executor, kept by warm workers: all requests are pooled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract import ExecutorContract, Session

from matensemble.runtime.executors.base import Executor
from matensemble.runtime.executors.flux_executor import FluxExecutor
from matensemble.runtime.executors.local import LocalExecutor
from matensemble.runtime.executors.pool_driver import PoolOptions
from matensemble.runtime.executors.pool_executor import PoolExecutor
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.scheduler.events import ChoreSubmitted
from matensemble.workdir import RunDir


class Pooled(PoolExecutor):
    """Serves by workers whatever they can serve: what has one task."""

    def submit(self, request: LaunchRequest) -> None:
        is_pooled = request.resources.num_tasks == 1
        super().submit(request._replace(is_pooled=is_pooled))


def pooled(inner: Executor, directory: Path, **options: Any) -> Pooled:
    """Return a pool around an executor."""
    run = RunDir(directory / "run")
    run.out_dir.mkdir(parents=True)
    return Pooled(inner, PoolOptions(run, epoch=1, **options))


class PoolContract(ExecutorContract):
    """What chores owe differently that share a worker."""

    def test_job_ids_differ(self, session: Session) -> None:
        """They name the job and the worker; chores of one worker have that in common."""
        session.run("true")
        session.run("true", chore_id="b")
        jobids = {session.wait_for(ChoreSubmitted, chore_id=c).jobid for c in ("a", "b")}
        assert {jobid.rpartition("/")[2] for jobid in jobids} == {"worker-1-1"}


@pytest.mark.slow
class TestContractOnThisMachine(PoolContract):
    @pytest.fixture
    def executor(self, tmp_path: Path) -> Executor:
        return pooled(LocalExecutor(cores=2), tmp_path, is_remote=False)


@pytest.mark.flux
@pytest.mark.slow
class TestContractOnFlux(PoolContract):
    abandons = True

    @pytest.fixture
    def executor(self, start_flux: Callable[..., str], tmp_path: Path) -> Executor:
        inner = FluxExecutor(str(tmp_path / "run"), uri=start_flux())
        return pooled(inner, tmp_path, is_remote=True)
