"""What the book of a pool decides where workers, nodes and channels fail, fact by fact."""

from __future__ import annotations

from typing import Any

from pool_world import World, make_request

from matensemble import pool_messages as messages
from matensemble.model import Reason
from matensemble.runtime.executors.base import JobEnded
from matensemble.runtime.executors.pool_worker import Worker
from matensemble.runtime.scheduler.events import (
    AttemptLost,
    NodesChanged,
    PoolLost,
)

ONE, TWO, THREE = "worker-1-1", "worker-1-2", "worker-1-3"


def names(count: int, prefix: str = "c") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


class WithoutChannel(World):
    """One in which no worker can be submitted at first."""

    has_channel = False

    def start(self, worker: Worker) -> None:
        if self.has_channel:
            super().start(worker)
        else:
            self.book.refuse(worker, "no channel")


# --- workers that fail --------------------------------------------------------------------------


def test_a_worker_that_dies_loses_what_it_had_once() -> None:
    world = World((1, 0)).pooled("a").hello().die()
    assert world.lost() == [], "its last report may be on its way"
    world.wait(1.0)
    assert world.lost() == ["a"]
    assert "signal 9" in world.of("a")[-1].detail
    assert "last words" in world.of("a")[-1].detail
    world.pooled("a", attempt=2).hello(TWO).die(TWO).wait(1.0)
    assert world.of("a")[-2].reason is Reason.NODE_FAILURE
    assert "second time" in world.of("a")[-2].detail


def test_what_stood_behind_has_no_part_in_the_death_of_a_worker() -> None:
    world = World((2, 0)).pooled("a", "b", "c", "d").hello().started("c").die().wait(1.0)
    assert sorted(world.lost()) == ["a", "b", "c", "d"]
    for chore_id in "abcd":
        world.book.submit(make_request(chore_id, attempt=2))
    world.arrange().hello(TWO).finish("a", by=TWO, attempt=2).die(TWO).wait(1.0)
    failed = {e.chore_id for e in world.posted if isinstance(e, JobEnded) and e.reason}
    assert failed == {"c"}, "b had not been charged, d stood behind"


def test_what_a_worker_said_before_it_died_counts() -> None:
    world = World().pooled("a", "b").hello()
    staffer = world.staff[ONE]
    world.die()
    world.staff[ONE] = staffer
    world.finish("a")
    del world.staff[ONE]
    world.wait(1.0)
    assert world.posted_kinds("a") == ["ChoreSubmitted", "JobEnded", "ResourcesFreed"]
    assert world.lost() == ["b"]


def test_a_worker_that_was_told_to_end_and_dies_is_no_fault_of_its_chores() -> None:
    world = World((1, 0)).pooled("a").hello().job("j").die().wait(1.0)
    assert world.lost() == ["a"]
    assert [*world.jobs] == [("j", 1)]
    world.end_job("j").pooled("a", attempt=2).hello(TWO).die(TWO).wait(1.0)
    assert world.lost() == ["a", "a"]


def test_no_worker_can_be_had_for_what_may_run_anywhere() -> None:
    world = WithoutChannel((2, 0), (2, 0))
    world.pooled("a", "b", node=None).wait(1.0)
    assert [type(event) for event in world.posted] == [PoolLost, AttemptLost, AttemptLost]
    world.has_channel = True
    world.book.take_event(NodesChanged(back=frozenset({1})))
    world.wait(1.0)
    assert not world.staff, "they are forgotten: they run as jobs by now"
    assert world.book.is_quiet


def test_no_worker_starts() -> None:
    world = World().pooled("a", "b").pooled("c", node=None)
    world.die(ONE, exit_code=1)
    assert world.posted == []
    world.die(TWO, exit_code=1)
    assert isinstance(world.posted[0], PoolLost)
    assert "exit code 1: last words" in world.posted[0].detail
    assert sorted(world.lost()) == ["a", "b", "c"]
    world.pooled("d")
    assert world.lost()[-1] == "d"
    assert not world.staff
    assert [*world.job("j").jobs] == [("j", 1)]


def test_a_worker_that_started_forgives_one_that_did_not() -> None:
    world = World().pooled("a").die(ONE, exit_code=1).hello(TWO).finish("a", by=TWO)
    world.die(TWO).pooled("b").die(THREE, exit_code=1)
    assert not [event for event in world.posted if isinstance(event, PoolLost)]
    assert "worker-1-4" in world.staff


def test_a_node_without_workers_leaves_its_chores_to_others() -> None:
    world = World((2, 0), (2, 0)).pooled("a", node=0).pooled("b", node=1).hello(TWO)
    world.die(ONE, exit_code=1).die(THREE, exit_code=1)
    assert world.given(TWO) == ["b", "a"]
    world.pooled("c", node=0)
    assert world.given(TWO) == ["b", "a", "c"]
    assert [*world.staff] == [TWO]


def test_what_no_node_can_serve_any_more_fails() -> None:
    world = World((2, 0), (4, 0)).pooled("a", node=0).hello().pooled("b", node=1, cores=4)
    world.die(TWO, exit_code=1).die(THREE, exit_code=1)
    assert world.of("b")[0].reason is Reason.NODE_FAILURE


def test_a_worker_that_does_not_answer_is_ended() -> None:
    world = World().pooled("a").hello()
    for second in range(130):
        assert second > 100 or world.stopped == []
        world.book.now += 1.0
        world.arrange()
    assert world.stopped == [(ONE, 1)]
    world.die(exit_code=-15).wait(1.0)
    assert "did not answer" in world.of("a")[-1].detail


def test_a_driver_that_was_frozen_ends_nobody_for_it() -> None:
    world = World().pooled("a").hello()
    world.book.now += 3600.0
    world.arrange()
    assert world.stopped == []
    world.finish("a")
    assert world.posted_kinds("a")[-1] == "ResourcesFreed"


def test_a_worker_that_never_says_hello_is_ended() -> None:
    world = World().pooled("a").wait(59.0)
    assert world.stopped == [], "it is in a queue"
    world.launched(ONE).wait(60.0)
    assert world.stopped == []
    world.wait(61.0)
    assert world.stopped == [(ONE, 1)]
    world.die(exit_code=-15)
    assert [*world.staff] == [TWO], "that was the first time"


def test_where_others_hold_cores_that_a_worker_waits_for_chores_become_jobs() -> None:
    world = World().pooled("a")
    for key in (ONE, TWO):
        world.wait(61.0)
        assert world.stopped[-1] == (key, 1), "nothing starts behind it"
        assert world.lost() == []
        world.die(key, exit_code=-15)
    (lost,) = (event for event in world.posted if isinstance(event, PoolLost))
    assert "no cores for 60 s" in lost.detail
    assert world.lost() == ["a"]


def test_a_worker_that_does_not_leave_is_ended() -> None:
    world = World().pooled("a").hello().finish("a").wait(10.0).wait(29.0)
    assert world.stopped == []
    world.wait(2.0)
    assert world.stopped == [(ONE, 1)]


def test_a_worker_that_is_distrusted_is_ended() -> None:
    world = World().pooled("a").hello()
    world.book.distrust(world.staff[ONE].worker, "it talks nonsense")
    assert world.stopped == [(ONE, 1)]
    world.die(exit_code=-15).wait(1.0)
    assert "it talks nonsense" in world.of("a")[-1].detail


def test_the_executor_inside_may_lose_a_worker() -> None:
    world = World().pooled("a").hello()
    del world.staff[ONE]
    world.book.take_event(AttemptLost(ONE, 1, "another driver ended it"))
    world.arrange().wait(1.0)
    assert world.lost() == ["a"]
    assert not world.of(ONE)


# --- nodes --------------------------------------------------------------------------------------


def test_a_lost_node_gets_nothing_more() -> None:
    world = World((2, 0), (2, 0)).pooled("a", node=0).hello()
    world.book.submit(make_request("b", 1))
    world.book.take_event(NodesChanged(lost=frozenset({0, 1})))
    world.arrange()
    assert world.told(messages.Close)
    world.finish("a").leave()
    assert not world.staff, "there is no node"
    assert world.posted_kinds("b") == []
    world.book.take_event(NodesChanged(back=frozenset({1})))
    world.arrange()
    assert world.staff[TWO].worker.node == 1
    assert world.hello(TWO).given(TWO) == ["b"]


def test_a_worker_that_was_starting_on_a_lost_node_is_ended() -> None:
    world = World((2, 0)).pooled("a").launched(ONE)
    world.book.take_event(NodesChanged(lost=frozenset({0})))
    world.hello()
    assert world.told(messages.Close)


# --- the executor inside is full of surprises ---------------------------------------------------


def test_a_channel_that_cannot_be_had_ends_the_pool() -> None:
    world = World()

    def refuse(worker: Any) -> None:
        world.book.refuse(worker, "no socket")

    world.start = refuse  # type: ignore[method-assign]
    world.pooled("a", "b").pooled("c", node=None)
    assert world.posted[0] == PoolLost("no socket")
    assert sorted(world.lost()) == ["a", "b", "c"]
    assert world.book.is_quiet
