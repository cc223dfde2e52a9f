"""Warm workers as jobs of a real Flux instance: where they run, and for whom they end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from contract import Session, make_fifo, orphan_of, read_line, wait_gone

from matensemble import environment, pool_messages
from matensemble.runtime.executors.flux_executor import FluxExecutor
from matensemble.runtime.executors.pool_driver import PoolOptions
from matensemble.runtime.executors.pool_executor import PoolExecutor
from matensemble.runtime.scheduler.events import (
    AttemptLost,
    ChorePlaced,
    ChoreStarted,
    ChoreSubmitted,
    LaunchMeasured,
    ResourcesFreed,
)
from matensemble.runtime.scheduler.resources import Share
from matensemble.workdir import RunDir

pytestmark = [pytest.mark.flux, pytest.mark.slow]

StartFlux = Callable[..., str]
Opener = Callable[..., Session]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    """Open pools on an instance that are closed at the end of the test."""
    with ExitStack() as stack:

        def open_(uri: str, orphans: Any = (), epoch: int = 1) -> Session:
            run = RunDir(tmp_path / "run")
            run.out_dir.mkdir(parents=True, exist_ok=True)
            inner = FluxExecutor(str(run.root), uri=uri, epoch=epoch)
            executor = PoolExecutor(inner, PoolOptions(run, epoch=epoch, is_remote=True))
            stack.callback(executor.close)
            return Session(executor, tmp_path, orphans)

        yield open_


def test_every_node_has_a_worker_of_its_own(
    start_flux: StartFlux, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(environment.POOL_ADDRESS, "127.0.0.1")  # as if they were other machines
    session = opened(start_flux("--test-size=4"))
    nodes = range(len(session.allocation.nodes))
    assert len(nodes) >= 3
    script = "sleep 0.5; echo $FLUX_JOB_ID"
    for node in nodes:
        placement = (Share(node, 1, 0),)
        session.submit(
            *("sh", "-c", script), chore_id=f"c{node}", is_pooled=True, placement=placement
        )
    for node in nodes:
        session.wait_for(ResourcesFreed, chore_id=f"c{node}")
        placed = session.wait_for(ChorePlaced, chore_id=f"c{node}").placement
        assert placed == (Share(node, 1, 0),)
    assert len({session.text(f"c{node}") for node in nodes}) == len(nodes), "a job each"
    jobids = {session.wait_for(ChoreSubmitted, chore_id=f"c{node}").jobid for node in nodes}
    assert len(jobids) == len(nodes)
    assert session.wait_for(LaunchMeasured, chore_id=None).seconds > 0
    address = pool_messages.read_address(session.directory / "run/out/.pool/1/address.json")
    assert address.endpoint.startswith("tcp://127.0.0.1:")
    assert address.server_key


def test_a_job_gets_the_cores_of_a_worker(start_flux: StartFlux, opened: Opener) -> None:
    session = opened(start_flux())
    cores = session.allocation.nodes[0].cores
    session.run("true", is_pooled=True)
    placement = (Share(0, cores, 0),)
    ended = session.run("true", chore_id="b", cores_per_task=cores, placement=placement)
    assert ended.exit_code == 0
    assert session.run("true", chore_id="c", is_pooled=True).exit_code == 0
    jobids = [session.wait_for(ChoreSubmitted, chore_id=c).jobid for c in "ac"]
    assert [jobid.rpartition("/")[2] for jobid in jobids] == ["worker-1-1", "worker-1-2"]


def test_what_a_driver_that_died_had_served_is_lost_when_its_worker_is_gone(
    start_flux: StartFlux, opened: Opener
) -> None:
    uri = start_flux()
    first = opened(uri)
    fifo = make_fifo(first.directory)
    script = f"echo $$ > '{fifo}'; exec sleep 600"
    first.submit("sh", "-c", script, is_pooled=True)
    pid = int(read_line(fifo))
    first.wait_for(ChoreStarted)
    jobid = first.wait_for(ChoreSubmitted).jobid
    first.executor.close(abandon=True)
    orphan = orphan_of(first.directory / "run", jobid=jobid)._replace(is_pooled=True)
    second = opened(uri, [orphan], epoch=2)
    assert "warm workers" in second.wait_for(AttemptLost).detail
    wait_gone(pid)
    assert second.run("true", attempt=2, is_pooled=True).exit_code == 0
