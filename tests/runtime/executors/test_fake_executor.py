"""The fake executor keeps the promises of a real one, and does as it is told."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from contract import PortContract, Session, orphan_of

from matensemble.model import ChoreType, Reason, Resources
from matensemble.runtime.executors.base import ExecutorEvent, ExecutorLost, JobEnded
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.scheduler.events import (
    AttemptLost,
    ChoreStarted,
    ChoreSubmitted,
    NodesChanged,
    ResourcesFreed,
)
from matensemble.runtime.testing import FakeExecutor, ManualClock, Outcome, make_chore

OUTCOMES = {
    ("true",): Outcome(),
    ("sh", "-c", "exit 3"): Outcome(3),
    ("sh", "-c", "kill -9 $$"): Outcome(-9),
    ("sleep", "600"): None,
    ("no-such-program",): Outcome(None, Reason.EXECUTABLE_NOT_FOUND, "no program no-such-program"),
}


class TestContract(PortContract):
    @pytest.fixture
    def executor(self) -> FakeExecutor:
        return FakeExecutor(script=lambda request: OUTCOMES[request.argv])


@pytest.fixture
def fake() -> FakeExecutor:
    return FakeExecutor()


@pytest.fixture
def session(fake: FakeExecutor, tmp_path: Path) -> Session:
    return Session(fake, tmp_path)


def test_chores_run_until_finished(fake: FakeExecutor, session: Session) -> None:
    session.submit("anything")
    session.submit("anything", chore_id="b")
    assert list(fake.running) == ["a", "b"]
    assert session.events == [
        ChoreSubmitted("a", 1, "fake-1"),
        ChoreStarted("a", 1, "fake-node"),
        ChoreSubmitted("b", 1, "fake-2"),
        ChoreStarted("b", 1, "fake-node"),
    ]
    fake.finish("b", -9, Reason.OUT_OF_MEMORY, "too big")
    assert session.events[4:] == [
        JobEnded("b", 1, -9, Reason.OUT_OF_MEMORY, "too big"),
        ResourcesFreed("b", 1),
    ]
    assert list(fake.running) == ["a"]


def test_finish_all_goes_by_age(fake: FakeExecutor, session: Session) -> None:
    for chore_id in "cab":
        session.submit("anything", chore_id=chore_id)
    assert fake.finish_all() == 3
    ended = [event.chore_id for event in session.events if isinstance(event, JobEnded)]
    assert ended == ["c", "a", "b"]
    assert fake.finish_all() == 0


def test_finishing_what_does_not_run(fake: FakeExecutor, session: Session) -> None:
    session.submit("anything")
    with pytest.raises(LookupError, match=r"x does not run here; running: \['a'\]"):
        fake.finish("x")


def test_auto_keeps_nothing(tmp_path: Path) -> None:
    fake = FakeExecutor(auto=True)
    session = Session(fake, tmp_path)
    for chore_id in "ab":
        session.submit("anything", chore_id=chore_id)
        assert session.wait_for(JobEnded, chore_id=chore_id).exit_code == 0
    assert (fake.num_submitted, fake.running) == (2, {})


def test_a_lost_executor_is_silent(fake: FakeExecutor, session: Session) -> None:
    session.submit("anything")
    fake.lose("the broker is gone")
    assert session.events[-1] == ExecutorLost("the broker is gone")
    posted = len(session.events)
    session.submit("anything", chore_id="b")
    assert len(session.events) == posted


def test_what_an_earlier_driver_submitted_is_adopted(
    fake: FakeExecutor, session: Session, tmp_path: Path
) -> None:
    session.submit("anything", attempt=2)
    session.submit("anything", chore_id="b")
    fake.close(abandon=True)
    second = FakeExecutor(adopts=fake.running)
    orphans = [
        orphan_of(tmp_path, attempt=2, jobid="fake-1"),
        orphan_of(tmp_path, "b", 2),
        orphan_of(tmp_path, "c", 1),
    ]
    adopted = Session(second, tmp_path, orphans)
    assert adopted.events[:2] == [
        ChoreSubmitted("a", 2, "fake-1"),
        ChoreStarted("a", 2, "fake-node"),
    ]
    assert [type(event) for event in adopted.events[2:]] == [AttemptLost] * 2
    assert [*second.running] == ["a"]
    assert second.num_submitted == 0
    second.finish("a")
    assert adopted.events[-2:] == [JobEnded("a", 2, 0), ResourcesFreed("a", 2)]


def test_what_ended_meanwhile_is_adopted_by_the_script(
    fake: FakeExecutor, session: Session, tmp_path: Path
) -> None:
    session.submit("anything")
    second = FakeExecutor(adopts=fake.running, script=lambda request: Outcome(3))
    adopted = Session(second, tmp_path, [orphan_of(tmp_path)])
    assert adopted.wait_for(JobEnded).exit_code == 3
    assert adopted.kinds() == ["ChoreSubmitted", "ChoreStarted", "JobEnded", "ResourcesFreed"]


def test_signals_and_extensions_are_noted(fake: FakeExecutor, session: Session) -> None:
    session.submit("anything")
    fake.signal("a", 1, 10)
    fake.extend("a", 1, 90.0)
    assert (fake.signals, fake.extended) == ([("a", 1, 10)], [("a", 1, 90.0)])
    assert [*fake.running] == ["a"]


def test_nodes_come_and_go(fake: FakeExecutor, session: Session) -> None:
    fake.lose_nodes(0, 2)
    fake.bring_back_nodes(2)
    assert session.events == [
        NodesChanged(lost=frozenset({0, 2})),
        NodesChanged(back=frozenset({2})),
    ]


def test_the_end_of_its_allocation() -> None:
    assert FakeExecutor(time_left=60.0).time_left() == 60.0
    assert FakeExecutor().time_left() is None


def test_waiting_for_chores_of_another_thread(fake: FakeExecutor, session: Session) -> None:
    thread = threading.Thread(target=session.submit, args=("anything",))
    thread.start()
    fake.wait_running("a")
    thread.join()
    with pytest.raises(TimeoutError, match="b"):
        fake.wait_running("a", "b", timeout=0)


def test_finishing_inside_post(tmp_path: Path) -> None:
    """An engine may answer an event at once, on the thread that posts it."""
    fake = FakeExecutor()
    events: list[ExecutorEvent] = []

    def post(event: ExecutorEvent) -> None:
        events.append(event)
        if isinstance(event, ResourcesFreed) and event.chore_id == "a":
            fake.submit(request("b"))

    def request(chore_id: str) -> LaunchRequest:
        out = tmp_path / "out"
        return LaunchRequest(chore_id, 1, "work", ("x",), tmp_path, out, out, Resources(), {})

    fake.open(post)
    fake.submit(request("a"))
    fake.finish("a")
    assert list(fake.running) == ["b"]


def test_manual_clock() -> None:
    clock = ManualClock(monotonic=5, time=1000)
    clock.advance(2.5)
    assert (clock.monotonic(), clock.time()) == (7.5, 1002.5)
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)


def test_make_chore() -> None:
    chore = make_chore("a", deps=["x"], after=["y"], cores=2, gpus=1, tasks=3, nice=4)
    assert chore.upstream == ("x", "y")
    assert (chore.resources.num_cores, chore.resources.num_gpus, chore.nice) == (6, 3, 4)
    assert chore.command == ("true",)
    assert make_chore("b", kind=ChoreType.PYTHON, name="f").callable == "f"
