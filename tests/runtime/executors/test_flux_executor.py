"""The Flux executor on real brokers: the contract, and what only it owes."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from contract import ExecutorContract, Session, make_fifo, read_line

from matensemble.errors import ExecutorUnavailableError
from matensemble.model import Reason
from matensemble.protocols import RunOptions
from matensemble.runtime.executors import flux, flux_driver
from matensemble.runtime.executors.base import ExecutorLost, JobEnded
from matensemble.runtime.executors.flux_executor import FluxExecutor
from matensemble.runtime.scheduler.events import ChorePlaced, ResourcesFreed
from matensemble.runtime.scheduler.resources import Node

pytestmark = [pytest.mark.flux, pytest.mark.slow]

StartFlux = Callable[..., str]
OpenSession = Callable[..., Session]

ONE: tuple[str, ...] = ()
FOUR = ("--test-size=4",)
FAKE_GPUS = tuple(
    f"--conf=fake-resources.{setting}"
    for setting in ("nnodes=2", "cores-per-node=8", "gpus-per-node=4")
)
FAKE_THOUSAND = (
    *("--conf=fake-resources.nnodes=1000", "--conf=fake-resources.cores-per-node=64"),
    '--conf=resource.exclude="0"',  # where the start line is ours: faster than a constraint a job
)
FAKE_MANY = (f"--conf=fake-resources.nnodes={flux.MANY_NODES}",)
MOCK = {"exec": {"test": {"run_duration": "0.01s"}}}


class FluxContract(ExecutorContract):
    abandons = True

    def test_no_other_files_are_open(self, session: Session) -> None:
        session.run("sh", "-c", "echo $PMI_FD; exec ls /dev/fd")
        pmi, *listed = session.text().split()
        own = {"3", "4"}  # what the Flux shell opened for standard input, and the directory
        assert set(listed) <= {"0", "1", "2", pmi, *own}


class TestContractOnOneBroker(FluxContract):
    @pytest.fixture
    def executor(self, start_flux: StartFlux, tmp_path: Path) -> FluxExecutor:
        return FluxExecutor(str(tmp_path), uri=start_flux(*ONE))


class TestContractOnFourBrokers(FluxContract):
    @pytest.fixture
    def executor(self, start_flux: StartFlux, tmp_path: Path) -> FluxExecutor:
        return FluxExecutor(str(tmp_path), uri=start_flux(*FOUR))


@pytest.fixture
def open_session(start_flux: StartFlux, tmp_path: Path) -> Iterator[OpenSession]:
    """Open an executor on an instance started with some options."""
    with ExitStack() as stack:

        def open_on(options: tuple[str, ...], **settings: object) -> Session:
            label = str(tmp_path)
            executor = FluxExecutor(label, uri=start_flux(*options), **settings)  # type: ignore[arg-type]
            stack.callback(executor.close)
            return Session(executor, tmp_path)

        yield open_on


# --- the allocation ---------------------------------------------------------------------------


def test_broker_node_is_left_free_where_there_are_more(open_session: OpenSession) -> None:
    session = open_session(FOUR)
    assert len(session.allocation.nodes) == 3
    session.submit("true", num_tasks=3, num_nodes=3)
    placed = session.wait_for(ChorePlaced)
    assert [share.node for share in placed.placement] == [0, 1, 2]
    session.wait_for(ResourcesFreed)
    ended = session.run("true", chore_id="b", num_tasks=4, num_nodes=4)
    assert ended.reason is Reason.EXCEEDS_ALLOCATION


def test_broker_node_can_be_used(open_session: OpenSession) -> None:
    session = open_session(FOUR, reserve_broker_node=False)
    assert len(session.allocation.nodes) == 4
    assert session.run("true", num_tasks=4, num_nodes=4).exit_code == 0


def test_one_node_is_usable(open_session: OpenSession) -> None:
    session = open_session(ONE, reserve_broker_node=True)
    assert len(session.allocation.nodes) == 1
    assert session.allocation.num_cores >= 1


def test_instance_is_left_as_found(open_session: OpenSession, start_flux: StartFlux) -> None:
    def status() -> str:
        command = ["flux", "resource", "status", "-no", "{state} {ranks}"]
        env = {**os.environ, "FLUX_URI": start_flux(*FOUR)}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout

    before = status()
    session = open_session(FOUR)
    session.run("true")
    assert status() == before
    session.executor.close()
    assert status() == before
    assert "drain" not in before


def test_nodes_to_avoid_are_avoided(open_session: OpenSession) -> None:
    session = open_session(FOUR)
    for attempt, kept in enumerate((0, 1, 2), 1):
        session.submit("true", attempt=attempt, avoid=frozenset({0, 1, 2} - {kept}))
        (share,) = session.wait_for(ChorePlaced, attempt=attempt).placement
        assert share.node == kept
        session.wait_for(ResourcesFreed, attempt=attempt)


# --- shapes -----------------------------------------------------------------------------------


def test_gpu_shapes(open_session: OpenSession) -> None:
    session = open_session(FAKE_GPUS, extra_attributes=MOCK, reserve_broker_node=False)
    assert [node[1:] for node in session.allocation.nodes] == [Node("", 8, 4)[1:]] * 2
    session.submit("x", num_tasks=4, cores_per_task=2, gpus_per_task=1)
    placement = session.wait_for(ChorePlaced).placement
    assert (sum(s.cores for s in placement), sum(s.gpus for s in placement)) == (8, 4)
    spread = session.submit("x", chore_id="b", num_tasks=4, num_nodes=2, gpus_per_task=1)
    assert spread.is_dir()
    placement = session.wait_for(ChorePlaced, chore_id="b").placement
    assert [(s.cores, s.gpus) for s in placement] == [(2, 2), (2, 2)]
    ended = session.run("x", chore_id="c", gpus_per_task=5)
    assert ended.reason is Reason.EXCEEDS_ALLOCATION
    assert "5 GPU(s) each" in ended.detail


def test_many_chores_on_a_thousand_nodes(open_session: OpenSession) -> None:
    session = open_session(FAKE_THOUSAND, extra_attributes=MOCK)
    assert len(session.allocation.nodes) == 999
    numbers = [str(number) for number in range(500)]
    for number in numbers:
        session.submit("x", chore_id=number, cores_per_task=4)
    for number in numbers:
        session.wait_for(ResourcesFreed, chore_id=number)
    ended = [event for event in session.events if isinstance(event, JobEnded)]
    assert sorted(event.chore_id for event in ended) == sorted(numbers)
    assert all(event.exit_code == 0 and event.elapsed is not None for event in ended)
    placed = [event for event in session.events if isinstance(event, ChorePlaced)]
    assert len(placed) == 500
    assert all(sum(share.cores for share in event.placement) == 4 for event in placed)


@pytest.mark.parametrize(
    ("options", "settings", "is_said"),
    [
        (FAKE_MANY, {}, True),
        (FAKE_MANY, {"reserve_broker_node": False}, False),
        (FAKE_THOUSAND, {}, False),
    ],
)
def test_it_is_said_how_a_large_instance_is_told_once_to_leave_out_rank_0(
    options: tuple[str, ...],
    settings: dict[str, object],
    is_said: bool,
    open_session: OpenSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    open_session(options, **settings)
    assert ("resource.exclude" in caplog.text) is is_said


def test_mpi_ranks_talk_to_each_other(open_session: OpenSession) -> None:
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    program = (
        "from mpi4py import MPI\n"
        "world = MPI.COMM_WORLD\n"
        "left = world.sendrecv(world.rank, (world.rank + 1) % world.size)\n"
        "print(f'{world.rank} of {world.size}: {left} {world.allreduce(world.rank)}')\n"
    )
    session = open_session(FOUR)
    ended = session.run(sys.executable, "-c", program, num_tasks=3, num_nodes=3, mpi=True)
    assert ended.exit_code == 0, (session.directory / "a" / "stderr").read_text()
    assert sorted(session.text().splitlines()) == ["0 of 3: 2 3", "1 of 3: 0 3", "2 of 3: 1 3"]


# --- how chores end ---------------------------------------------------------------------------


def test_arguments_with_braces_are_not_filled_in(open_session: OpenSession) -> None:
    session = open_session(ONE)
    odd = ["{{id}}", "{{name}} {{{size}}}", "'{{' \"$HOME\"", "{{" + "x" * 3000 + "}}"]
    assert session.run("printf", "%s\n", *odd).exit_code == 0
    assert session.text() == "".join(f"{text}\n" for text in odd)


def test_a_code_above_128_is_no_signal(open_session: OpenSession) -> None:
    session = open_session(ONE)
    assert session.run("sh", "-c", "exit 134").exit_code == 134
    assert session.run("sh", "-c", "kill -ABRT $$", chore_id="b").exit_code == -signal.SIGABRT


def test_lost_node(open_session: OpenSession, tmp_path: Path) -> None:
    session = open_session(("--test-size=3", "-Slog-stderr-level=0"))
    fifo = make_fifo(tmp_path)
    session.submit(
        "sh", "-c", f"flux getattr broker.pid > '{fifo}'; exec sleep 600", avoid=frozenset({0})
    )
    os.kill(int(read_line(fifo)), signal.SIGKILL)
    session.wait_for(ResourcesFreed)
    ended = session.wait_for(JobEnded)
    assert ended.reason is Reason.NODE_FAILURE, ended


def test_a_job_that_somebody_else_cancels(open_session: OpenSession, start_flux: StartFlux) -> None:
    session = open_session(ONE)
    session.start("sleep", "600")
    env = {**os.environ, "FLUX_URI": start_flux(*ONE)}
    subprocess.run(["flux", "cancel", "--all", "-m", "no budget"], env=env, check=True)
    session.wait_for(ResourcesFreed)
    ended = session.wait_for(JobEnded)
    assert ended.reason is Reason.CANCELLED
    assert "no budget" in ended.detail


def test_a_directory_that_cannot_be_written(open_session: OpenSession, tmp_path: Path) -> None:
    session = open_session(ONE)
    ended = session.run("true", stdout_path=tmp_path / "missing" / "stdout")
    assert (ended.exit_code, ended.reason) == (None, Reason.IO_ERROR)
    assert "missing" in ended.detail


def test_an_argument_that_flux_cannot_take(open_session: OpenSession) -> None:
    ended = open_session(ONE).run("echo", "\udcff")
    assert (ended.exit_code, ended.reason) == (None, Reason.SUBMIT_ERROR)


def test_cancel_of_what_waits_at_flux(open_session: OpenSession) -> None:
    session = open_session(ONE)
    cores = session.allocation.num_cores
    session.start("sleep", "600", cores_per_task=cores)
    session.submit("sleep", "600", chore_id="b", cores_per_task=cores)
    session.executor.cancel("b", 1)
    session.wait_for(ResourcesFreed, chore_id="b")
    ended = session.wait_for(JobEnded, chore_id="b")
    assert (ended.exit_code, ended.reason) == (None, Reason.CANCELLED)


def test_cancel_before_flux_has_given_an_id(open_session: OpenSession) -> None:
    session = open_session(ONE)
    for number in range(30):
        session.submit("sleep", "600", chore_id=str(number))
        if number % 2:  # two at a time, so that some are on their way when they are cancelled
            session.executor.cancel(str(number - 1), 1)
            session.executor.cancel(str(number), 1)
    for number in range(30):
        session.wait_for(ResourcesFreed, chore_id=str(number))
        assert session.wait_for(JobEnded, chore_id=str(number)).reason is Reason.CANCELLED


def test_nothing_stays_open(open_session: OpenSession, start_flux: StartFlux) -> None:
    start_flux(*ONE)

    def count() -> int:
        gc.collect()
        return len(os.listdir("/dev/fd"))  # noqa: PTH208

    open_session(ONE).executor.close()
    before = count()
    for number in range(3):
        session = open_session(ONE)
        session.submit("sleep", "600", chore_id=str(number))
        session.executor.close()
    assert count() == before


# --- obstacles --------------------------------------------------------------------------------


def test_lost_broker(
    open_session: OpenSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flux_driver, "RECONNECT_SECONDS", 0.0)
    session = open_session(("--test-size=1", "-Slog-stderr-level=0"))
    fifo = make_fifo(tmp_path)
    session.submit("sh", "-c", f"flux getattr broker.pid > '{fifo}'; exec sleep 600")
    os.kill(int(read_line(fifo)), signal.SIGKILL)
    session.wait_for(ExecutorLost, chore_id=None)
    session.executor.close()
    assert sum(isinstance(event, ExecutorLost) for event in session.events) == 1


def test_no_broker(flux_library: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUX_URI", f"local://{tmp_path}/none")
    monkeypatch.setenv("FLUX_LOCAL_CONNECTOR_RETRY_COUNT", "0")
    executor = FluxExecutor("run")
    with pytest.raises(ExecutorUnavailableError, match="no Flux broker answers") as caught:
        executor.open(lambda _: None)
    assert "flux alloc" in caught.value.remedy
    executor.close()
    assert "no Flux broker" in (flux.find_obstacle() or "")


def test_an_instance_of_ours_is_no_obstacle(
    start_flux: StartFlux, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUX_URI", start_flux(*ONE))
    assert flux.find_obstacle() is None
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    assert "belongs to user" in (flux.find_obstacle() or "")


def test_from_options(start_flux: StartFlux, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUX_URI", start_flux(*FOUR))
    executor = FluxExecutor.from_options(RunOptions(reserve_broker_node=False), run_label="r")
    try:
        assert len(executor.open(lambda _: None).nodes) == 4
    finally:
        executor.close()
