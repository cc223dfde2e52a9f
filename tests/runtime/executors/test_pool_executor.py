"""The executor around another one: what goes to workers, and what happens when they fail."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from contract import Session
from pool_stage import (
    TWO_NODES,
    FakeInside,
    FakeWorker,
    connect,
    ended,
    finish_at_once,
    greeting,
)

from matensemble import pool_messages as messages
from matensemble.errors import ExecutorUnavailableError
from matensemble.model import Reason
from matensemble.pool_messages import Report
from matensemble.runtime.executors import pool_link
from matensemble.runtime.executors.base import ExecutorLost, JobEnded
from matensemble.runtime.executors.pool_book import PoolBook
from matensemble.runtime.executors.pool_driver import PoolOptions
from matensemble.runtime.executors.pool_executor import PoolExecutor
from matensemble.runtime.executors.pool_link import PoolLink
from matensemble.runtime.scheduler.events import (
    AttemptLost,
    LaunchMeasured,
    NodesChanged,
    PoolLost,
    ResourcesFreed,
)
from matensemble.runtime.scheduler.resources import Share
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


def test_jobs_go_to_the_executor_inside_with_all_their_events(opened: Opener) -> None:
    inside = FakeInside()
    session = opened(inside)
    session.start("true")
    inside.finish("a")
    session.wait_for(ResourcesFreed)
    assert session.kinds() == ["ChoreSubmitted", "ChoreStarted", "JobEnded", "ResourcesFreed"]
    assert not (session.directory / "run" / "out" / ".pool").exists(), "no channel was needed"


def test_what_is_of_the_executor_inside_is_passed_on(opened: Opener) -> None:
    inside = FakeInside(look_ahead=7, time_left=60.0, name="inside")
    inside.sees_files_late = True
    session = opened(inside)
    executor = session.executor
    assert (executor.name, executor.look_ahead, executor.time_left()) == ("inside", 7, 60.0)
    assert executor.sees_files_late
    inside.lose_nodes(0)
    assert session.wait_for(NodesChanged, chore_id=None) == NodesChanged(lost=frozenset({0}))


def test_many_chores_and_the_look_ahead(opened: Opener) -> None:
    session = opened(FakeInside())
    assert session.executor.pool_look_ahead == 0
    for number in range(500):
        session.submit("true", chore_id=f"c{number}", is_pooled=True)
    for number in range(500):
        session.wait_for(ResourcesFreed, chore_id=f"c{number}")
    assert session.executor.pool_look_ahead > 4
    session.executor.close()
    assert session.executor.pool_look_ahead == 0


def test_a_worker_that_cannot_be_started(opened: Opener) -> None:
    """Its end says why; the second time, everything becomes jobs."""

    def fail(worker: FakeWorker, message: Any) -> None:
        worker.request.stderr_path.write_text("Traceback\nModuleNotFoundError: \x1b[31mzmq\n\n")
        worker.die()

    session = opened(FakeInside(fail))
    session.submit("true", is_pooled=True)
    lost = session.wait_for(PoolLost, chore_id=None)
    assert "ModuleNotFoundError: zmq" in lost.detail
    assert "\x1b" not in lost.detail
    assert session.wait_for(AttemptLost)
    session.submit("true", chore_id="b", is_pooled=True)
    assert session.wait_for(AttemptLost, chore_id="b")


def test_no_channel_can_be_had(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> PoolLink:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pool_link, "PoolLink", refuse)
    session = opened(FakeInside())
    session.submit("true", is_pooled=True)
    assert "No space left" in session.wait_for(PoolLost, chore_id=None).detail
    assert session.wait_for(AttemptLost)


def test_the_library_of_the_channel_is_missing(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "matensemble.runtime.executors.pool_link")
    monkeypatch.setitem(sys.modules, "zmq", None)
    session = opened(FakeInside())
    session.submit("true", is_pooled=True)
    assert "zmq" in session.wait_for(PoolLost, chore_id=None).detail
    session.start("true", chore_id="b")


def test_a_worker_dies_with_a_chore(opened: Opener) -> None:
    def die(worker: FakeWorker, message: Any) -> None:
        if isinstance(message, messages.Run):
            worker.die()

    session = opened(FakeInside(greeting(die)))
    session.submit("true", is_pooled=True)
    assert "exit code 1" in session.wait_for(AttemptLost).detail
    ended = session.run("true", attempt=2, is_pooled=True)
    assert ended.reason is Reason.NODE_FAILURE


def test_what_a_dying_worker_said_last_counts(opened: Opener) -> None:
    def work_and_die(worker: FakeWorker, message: Any) -> None:
        if isinstance(message, messages.Run):
            worker.say(Report(ended=tuple(map(ended, message.orders))))
            worker.die()

    session = opened(FakeInside(greeting(work_and_die)))
    assert session.run("true", is_pooled=True).exit_code == 0


GARBAGE = [
    [b"", b""],
    [b"{}", b""],
    [b"\xff" * 100, b"\x80\x04."],
    [b'{"op":"report"}', b""],
    [b'{"op":"bye"}'],
    [b'{"op":"report","started":[],"ended":[["a",1,0,"no such reason","",0,true,-1]],'
     b'"returned":[]}', b""],
    [b'{"op":"report","started":[["a"]],"ended":[],"returned":[]}', b""],
]  # fmt: skip


@pytest.mark.parametrize("frames", GARBAGE)
def test_a_worker_that_talks_nonsense_is_ended(opened: Opener, frames: list[bytes]) -> None:
    def rave(worker: FakeWorker, message: Any) -> None:
        if isinstance(message, messages.Run):
            worker.say_frames(frames)

    inside = FakeInside(greeting(rave))
    session = opened(inside)
    session.submit("true", is_pooled=True)
    detail = session.wait_for(AttemptLost).detail
    assert "malformed" in detail or "no such reason" in detail
    inside.answer = greeting()
    assert session.run("true", attempt=2, is_pooled=True).exit_code == 0, "another one serves"


def test_a_worker_of_another_format_does_not_count_as_one(opened: Opener) -> None:
    def greet(worker: FakeWorker, message: Any) -> None:
        worker.say(worker.hello(format=messages.FORMAT + 1))

    session = opened(FakeInside(greet))
    session.submit("true", is_pooled=True)
    assert "speaks format 2" in session.wait_for(PoolLost, chore_id=None).detail
    assert session.wait_for(AttemptLost)


def test_nobody_who_is_no_worker_is_heard(opened: Opener) -> None:
    """One who has the address, but no name that the driver gave."""

    def pretend(worker: FakeWorker, message: Any) -> None:
        if isinstance(message, messages.Run):
            with zmq.Context() as context:
                path = worker.request.argv[worker.request.argv.index("--address-file") + 1]
                stranger = connect(context, messages.read_address(path), "worker-9-9")
                hello = worker.hello(worker="worker-9-9")
                stranger.send_multipart(messages.encode(hello))
                end = ended(message.orders[0], exit_code=5)
                stranger.send_multipart(messages.encode(Report(ended=(end,))))
                stranger.close(linger=1000)
            finish_at_once(worker, message)

    session = opened(FakeInside(greeting(pretend)))
    assert session.run("true", is_pooled=True).exit_code == 0


def test_cancel_signal_and_extend_reach_the_worker(opened: Opener) -> None:
    def cancel(worker: FakeWorker, message: Any) -> None:
        if isinstance(message, messages.Cancel):
            (order,) = worker.orders()
            end = ended(order, -15, reason="cancelled", is_committed=False)
            worker.say(Report(started=((order.chore_id, 1),), ended=(end,)))

    inside = FakeInside(greeting(cancel))
    session = opened(inside)
    session.submit("true", is_pooled=True)
    (worker,) = inside.wait_workers(1)
    worker.wait_told(messages.Run)
    session.executor.signal("a", 1, signal.SIGUSR1)
    session.executor.extend("a", 1, 9.0)
    session.executor.cancel("a", 1)
    assert session.wait_for(JobEnded).reason is Reason.CANCELLED
    assert worker.wait_told(messages.Signal) == [messages.Signal("a", 1, signal.SIGUSR1)]
    assert worker.wait_told(messages.Extend) == [messages.Extend("a", 1, 9.0)]
    with pytest.raises(ValueError, match="number of a signal"):
        session.executor.signal("a", 1, 4711)


def test_a_job_gets_the_cores_of_an_idle_worker(opened: Opener) -> None:
    inside = FakeInside()
    session = opened(inside)
    session.run("true", is_pooled=True)
    session.start("true", chore_id="b", cores_per_task=4, placement=(Share(0, 4, 0),))
    assert [*inside.running] == ["b"]


def test_the_executor_inside_is_lost(opened: Opener) -> None:
    inside = FakeInside(greeting(lambda worker, message: None))
    session = opened(inside)
    session.submit("true", is_pooled=True)
    inside.wait_workers(1)[0].wait_told(messages.Run)
    inside.lose("the broker is gone")
    assert session.wait_for(ExecutorLost, chore_id=None) == ExecutorLost("the broker is gone")
    session.executor.close()
    assert isinstance(session.events[-1], ExecutorLost), "the last word"
    assert not (session.directory / "run" / "out" / ".pool" / "1" / "address.json").exists()


def test_closing_while_chores_run(opened: Opener) -> None:
    inside = FakeInside(greeting(lambda worker, message: None))
    session = opened(inside)
    session.submit("true", is_pooled=True)
    (worker,) = inside.wait_workers(1)
    worker.wait_told(messages.Run)
    address = messages.read_address(session.directory / "run/out/.pool/1/address.json")
    session.executor.close()
    posted = [*session.events]
    session.executor.close()
    session.executor.cancel("a", 1)
    assert session.events == posted
    assert not Path(address.endpoint.removeprefix("ipc://")).parent.exists()
    with pytest.raises(RuntimeError, match="not open"):
        session.submit("true", chore_id="b", is_pooled=True)


def test_an_executor_inside_that_cannot_be_opened(tmp_path: Path) -> None:
    class Unavailable(FakeInside):
        def open(self, *arguments: Any) -> Any:
            raise ExecutorUnavailableError("inside", "it is not there", "Wait")

    options = PoolOptions(RunDir(tmp_path), epoch=1, is_remote=False)
    executor = PoolExecutor(Unavailable(), options)
    with pytest.raises(ExecutorUnavailableError, match="it is not there"):
        executor.open(lambda event: None)
    executor.close()


def test_a_failure_of_the_thread_ends_the_run_and_not_its_patience(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(FakeInside())
    monkeypatch.setattr(PoolBook, "submit", lambda book, request: 1 / 0)
    session.submit("true", is_pooled=True)
    assert "ZeroDivisionError" in session.wait_for(ExecutorLost, chore_id=None).problem


def test_a_worker_is_started_with_what_it_needs(opened: Opener, tmp_path: Path) -> None:
    inside = FakeInside()
    session = opened(inside, script_dir=tmp_path / "scripts", recycle_after=7)
    session.run("true", is_pooled=True)
    (request,) = inside.requests
    run_dir = tmp_path / "run"
    assert request.argv[1:] == (
        *("-P", "-m", "matensemble.pool.node", "--worker", "worker-1-1"),
        *("--address-file", str(run_dir / "out/.pool/1/address.json")),
        *("--cores", "4", "--gpus", "2", "--recycle-after", "7"),
    )
    assert request.env == {
        "MATENSEMBLE_CHORE_ID": "worker-1-1",
        "MATENSEMBLE_RUN_DIR": str(run_dir),
        "MATENSEMBLE_ATTEMPT": "1",
        "MATENSEMBLE_WARM_WORKER": "1",
        "MATENSEMBLE_SCRIPT_DIR": str(tmp_path / "scripts"),
    }
    assert request.stderr_path.parent == run_dir / "out/.pool/1"


def test_workers_of_two_nodes_keep_to_theirs(opened: Opener) -> None:
    inside = FakeInside(allocation=TWO_NODES)
    session = opened(inside)
    for node, chore_id in enumerate("ab"):
        session.run("true", chore_id=chore_id, is_pooled=True, placement=(Share(node, 1, 0),))
    assert [request.avoid for request in inside.requests] == [frozenset({1}), frozenset({0})]
    assert session.wait_for(JobEnded, chore_id="b").host == "two"
