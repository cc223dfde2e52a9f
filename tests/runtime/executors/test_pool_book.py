"""What the book of a pool decides, fact by fact."""

from __future__ import annotations

from typing import Any

import pytest
from pool_world import World, make_request

from matensemble import pool_messages as messages
from matensemble.model import Reason
from matensemble.pool_messages import Ended
from matensemble.runtime.executors.base import JobEnded
from matensemble.runtime.executors.pool_worker import WorkerState
from matensemble.runtime.scheduler.events import (
    ChorePlaced,
    ChoreStarted,
    ChoreSubmitted,
    LaunchMeasured,
    ResourcesFreed,
)
from matensemble.runtime.scheduler.resources import Share

ONE, TWO, THREE = "worker-1-1", "worker-1-2", "worker-1-3"


def names(count: int, prefix: str = "c") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


# --- one worker ---------------------------------------------------------------------------------


def test_a_worker_has_what_is_free_on_its_node() -> None:
    world = World((4, 2), (8, 0)).job("j", cores=1, gpus=1).pooled("a")
    worker = world.staff[ONE].worker
    assert (worker.node, worker.cores, worker.gpus) == (0, 3, 1)
    assert len(world.staff) == 1


def test_chores_wait_for_the_hello_and_come_in_one_message() -> None:
    world = World().pooled(*names(4))
    assert world.posted == []
    world.hello()
    (run,) = world.told(messages.Run)
    assert [order.chore_id for order in run.orders] == names(4)
    submitted = [event for event in world.posted if isinstance(event, ChoreSubmitted)]
    assert submitted == [ChoreSubmitted(name, 1, f"job-of-{ONE}/{ONE}") for name in names(4)]


def test_a_thousand_chores_are_a_few_messages() -> None:
    world = World().pooled("first").hello()
    for name in names(1000):
        world.book.submit(make_request(name, None))
    world.arrange()
    assert [len(run.orders) for run in world.told(messages.Run)] == [1, 256, 256, 256, 232]


def test_what_an_order_says() -> None:
    world = World().pooled("a", cores=2, resources={"duration": 5.0}, wants=7).hello()
    (run,) = world.told(messages.Run)
    (order,) = run.orders
    assert order[:-1] == ("a", 1, 2, 0, 5.0, "program", 7)
    payload = messages.decode_payload(order.payload)
    assert payload.argv == ("true",)
    assert payload.cwd == "/run/out/a"
    assert payload.record is None


def test_records_say_what_they_are_of() -> None:
    world = World()
    world.book.submit(make_request("f", record=b"r")._replace(argv=()))
    world.book.submit(make_request("p", record=b"r", is_program=True)._replace(argv=()))
    world.arrange().hello()
    (run,) = world.told(messages.Run)
    assert [order.kind for order in run.orders] == ["call", "program"]


def test_an_end_is_passed_on_with_all_that_was_told() -> None:
    world = World().pooled("a").hello()
    end = Ended("a", 1, 3, "out_of_memory", "so much", 0.5, False, b"result")
    world.report(ONE, ended=(end,))
    assert world.of("a")[1:] == [
        JobEnded("a", 1, 3, Reason.OUT_OF_MEMORY, "so much", 0.5, "n0", False, b"result"),
        ResourcesFreed("a", 1),
    ]


def test_a_start_is_told_once_with_its_place() -> None:
    world = World((4, 0)).pooled("a").hello().started("a").started("a", "unknown")
    assert world.of("a")[1:] == [
        ChorePlaced("a", 1, (Share(0, 1, 0),)),
        ChoreStarted("a", 1, "n0"),
    ]


def test_what_a_worker_says_of_chores_that_it_has_not_means_nothing() -> None:
    world = World().pooled("a").hello().finish("a")
    posted = [*world.posted]
    end = Ended("a", 1, 0, None, "", 0.5, True, None)
    world.report(ONE, ended=(end, end._replace(chore_id="z")), returned=(("a", 1),))
    world.started("a")
    assert world.posted == posted


def test_what_a_launch_costs_is_measured_without_the_queue() -> None:
    world = World().pooled("a")
    world.book.now = 100.0
    world.book.take_event(ChorePlaced(ONE, 1, (Share(0, 4, 0),)))
    world.book.now = 101.5
    world.hello()
    assert world.posted[0] == LaunchMeasured(1.5)


def test_an_idle_worker_is_ended() -> None:
    world = World(idle_seconds=10.0).pooled("a").hello().finish("a")
    world.wait(9.0)
    assert world.told(messages.Close) == []
    world.wait(1.0)
    assert world.told(messages.Close) == [messages.Close()]
    world.leave()
    assert world.book.is_quiet
    world.pooled("b")
    assert [*world.staff] == [TWO], "another one is started when it is needed"


def test_chores_do_not_go_to_a_worker_that_is_ending() -> None:
    world = World().pooled("a").hello().finish("a").wait(10.0).pooled("b")
    assert world.given() == []
    assert [*world.staff] == [ONE]
    world.leave()
    world.hello(TWO)
    assert world.given(TWO) == ["b"]


# --- look-ahead ---------------------------------------------------------------------------------


def test_look_ahead_follows_how_long_chores_take() -> None:
    world = World((4, 0))
    assert world.book.look_ahead == 0
    world.pooled("a")
    assert world.book.look_ahead == 0
    world.hello()
    assert world.book.look_ahead == 4, "nothing is known yet"
    world.finish("a", elapsed=0.01)
    assert world.book.look_ahead == 40
    world.pooled("b").finish("b", elapsed=0.0)
    for name in names(200):
        world.pooled(name).finish(name, elapsed=1e-6)
    assert world.book.look_ahead == 4 * 128
    for name in names(200):
        world.pooled(name).finish(name, elapsed=60.0)
    assert world.book.look_ahead == 4
    world.wait(20.0)
    assert world.book.look_ahead == 0, "it is being ended"


def test_chores_ahead_go_to_the_worker_with_least_to_do() -> None:
    world = World((2, 0), (4, 0)).pooled("a", node=0).pooled("b", node=1).hello(ONE).hello(TWO)
    world.pooled(*names(10), node=None)
    assert (len(world.given(ONE)), len(world.given(TWO))) == (4, 8)


def test_chores_ahead_start_a_worker_where_there_is_none() -> None:
    world = World((2, 0), (4, 0)).job("j", node=1, cores=3).pooled("a", node=None, cores=2)
    assert world.staff[ONE].worker.node == 0
    assert world.hello().given() == ["a"]


# --- room in workers ----------------------------------------------------------------------------


def test_another_worker_is_started_on_what_became_free() -> None:
    world = World((4, 0)).job("j", cores=2).pooled("a", "b").hello()
    assert world.staff[ONE].worker.cores == 2
    world.end_job("j").pooled("c")
    assert world.given() == ["a", "b"]
    assert world.staff[TWO].worker.cores == 2
    world.hello(TWO)
    assert world.given(TWO) == ["c"]


def test_a_chore_too_large_for_two_workers_gets_one_that_is_not() -> None:
    world = World((4, 0)).job("j", cores=2).pooled("a", "b").hello().end_job("j").pooled("c")
    world.hello(TWO).finish("a", "b").finish("c", by=TWO).pooled("d", cores=3)
    assert set(world.states.values()) == {WorkerState.CLOSING}
    world.leave(ONE).leave(TWO)
    assert world.staff[THREE].worker.cores == 4
    assert world.hello(THREE).given(THREE) == ["d"]


def test_a_chore_with_gpus_gets_a_worker_with_gpus() -> None:
    world = World((4, 2)).job("j", cores=1, gpus=2).pooled("a").hello()
    assert world.staff[ONE].worker.gpus == 0
    world.end_job("j").finish("a").pooled("g", gpus=1)
    assert world.staff[TWO].worker.gpus == 2
    assert world.hello(TWO).given(TWO) == ["g"]


def test_what_the_scheduler_placed_beside_others_queues_where_no_core_is_free() -> None:
    world = World((2, 0)).pooled("a", "b").hello().pooled("c")
    assert world.given() == ["a", "b", "c"]


def test_a_chore_whose_node_has_become_too_small_runs_elsewhere() -> None:
    """Flux placed a job elsewhere than expected."""
    world = World((2, 0), (2, 0)).job("j", node=1, cores=2).place("j", Share(0, 2, 0))
    world.pooled("a", node=0)
    assert world.staff[ONE].worker.node == 1
    assert world.hello().given() == ["a"]


def test_a_chore_that_has_no_room_holds_up_nobody() -> None:
    world = World((4, 0)).job("i", cores=2).pooled("a").hello().pooled("big", node=None, cores=4)
    world.pooled("b", "c", node=None)
    assert world.given() == ["a", "b", "c"]
    world.book.cancel(("big", 1))
    assert world.posted_kinds("big") == ["JobEnded", "ResourcesFreed"]
    world.pooled("large", node=None, cores=3).finish("a", "b", "c").end_job("i")
    assert world.told(messages.Close)
    world.leave()
    assert world.hello(TWO).given(TWO) == ["large"]


def test_a_worker_in_a_queue_gives_way_to_a_job_that_got_its_cores() -> None:
    """Flux placed a job elsewhere than expected, and what was expected there goes elsewhere."""
    world = World((2, 0), (2, 0)).job("j", node=1, cores=2).pooled("a", node=0)
    world.place("j", Share(0, 2, 0))
    assert world.stopped == [(ONE, 1)]
    world.die()
    assert world.staff[TWO].worker.node == 1
    assert world.hello(TWO).given(TWO) == ["a"]


def test_a_chore_waits_where_jobs_hold_everything() -> None:
    world = World((2, 0)).job("j", cores=2).pooled("a")
    assert not world.staff
    world.end_job("j")
    assert world.hello().given() == ["a"]


# --- jobs ---------------------------------------------------------------------------------------


def test_a_job_is_handed_on_at_once_where_there_is_room() -> None:
    assert [*World().job("j").jobs] == [("j", 1)]


def test_a_job_gets_the_cores_of_an_idle_worker() -> None:
    world = World((2, 0)).pooled("a").hello().finish("a").job("j")
    assert world.told(messages.Close)
    assert not world.jobs
    world.leave()
    assert [*world.jobs] == [("j", 1)]
    world.check_capacity()


def test_the_smallest_idle_worker_that_suffices_ends() -> None:
    world = World((4, 0)).job("i", cores=1).pooled("a").hello()
    world.end_job("i").pooled(*names(3)).hello(TWO)
    world.finish("a", "c0", "c1").finish("c2", by=TWO)
    assert [s.worker.cores for s in world.staff.values()] == [3, 1]
    world.job("j", cores=1)
    assert world.states == {ONE: WorkerState.READY, TWO: WorkerState.CLOSING}


def test_a_job_waits_for_what_runs_in_a_busy_worker() -> None:
    world = World((2, 0)).pooled("a").hello().pooled(*names(3), node=None).job("j")
    assert world.told(messages.Close), "else it would never be free"
    world.give_back("c1", "c2")
    assert not world.jobs
    world.finish("a", "c0").leave()
    assert [*world.jobs] == [("j", 1)]
    assert world.staff[TWO].worker.cores == 1, "what came back goes on beside the job"
    assert world.hello(TWO).given(TWO) == ["c1", "c2"]
    world.check_capacity()


def test_an_idle_worker_ends_rather_than_a_busy_one() -> None:
    world = World((4, 0)).job("i", cores=2).pooled("a").hello().end_job("i").pooled("b", "c")
    world.hello(TWO).finish("a", "b")
    world.job("j", cores=2)
    assert world.states == {ONE: WorkerState.CLOSING, TWO: WorkerState.READY}


def test_a_worker_that_was_not_started_is_taken_back_for_a_job() -> None:
    world = World((2, 0)).pooled("a").job("j", cores=2)
    assert world.stopped == [(ONE, 1)]
    world.die()
    assert [*world.jobs] == [("j", 1)]
    assert not world.posted, "that was no failure, and the chore waits"
    world.end_job("j")
    assert world.hello(TWO).given(TWO) == ["a"]


def test_a_worker_that_is_about_to_be_there_is_waited_for() -> None:
    world = World((2, 0)).pooled("a").launched(ONE).job("j", cores=2)
    assert world.stopped == []
    world.hello()
    assert world.told(messages.Close)


def test_a_job_on_two_nodes_makes_room_on_both() -> None:
    world = World((2, 0), (2, 0)).pooled("a", node=0).pooled("b", node=1).hello(ONE).hello(TWO)
    world.finish("a").finish("b", by=TWO)
    request = make_request("j", is_pooled=False)
    world.book.submit(request._replace(placement=(Share(0, 2, 0), Share(1, 2, 0))))
    world.arrange()
    assert set(world.states.values()) == {WorkerState.CLOSING}
    world.leave(ONE)
    assert not world.jobs
    world.leave(TWO)
    assert [*world.jobs] == [("j", 1)]


def test_a_job_ahead_is_handed_on_and_idle_workers_end_for_it() -> None:
    world = World((2, 0)).pooled("a").hello().job("j", node=None, cores=2)
    assert [*world.jobs] == [("j", 1)]
    world.wait(1.0)
    assert not world.told(messages.Close), "it is busy"
    world.finish("a").wait(1.0)
    assert world.told(messages.Close)


def test_a_busy_worker_ends_for_a_job_that_has_waited_long() -> None:
    world = World((2, 0)).pooled("a").hello().job("j", node=None, cores=2).wait(9.0)
    assert not world.told(messages.Close)
    world.wait(2.0)
    assert world.told(messages.Close)


@pytest.mark.parametrize(
    "told", [ChoreStarted("j", 1), ChorePlaced("j", 1, (Share(0, 2, 0),))], ids=["start", "place"]
)
def test_a_job_that_is_placed_needs_no_worker_to_end(told: Any) -> None:
    world = World((4, 0)).job("i", cores=2).pooled("a").hello().job("j", node=None, cores=2)
    world.book.take_event(ChoreStarted("i", 1))
    world.book.take_event(told)
    world.wait(20.0)
    assert not world.told(messages.Close)


def test_a_job_of_an_earlier_driver_holds_its_cores() -> None:
    world = World((4, 0))
    world.book.take_event(ChorePlaced("old", 1, (Share(0, 3, 0),)))
    world.pooled("a").hello()
    assert world.staff[ONE].worker.cores == 1
    world.book.take_event(ResourcesFreed("old", 1))
    world.pooled("b")
    assert world.staff[TWO].worker.cores == 3


# --- cancel, signal, extend ---------------------------------------------------------------------


def test_a_chore_is_cancelled_in_the_queue() -> None:
    world = World().pooled("a", "b").pooled("c", node=None)
    for chore_id in ("a", "c"):
        world.book.cancel((chore_id, 1))
    world.book.cancel(("a", 1))
    for chore_id in ("a", "c"):
        assert world.of(chore_id) == [
            JobEnded(chore_id, 1, None, Reason.CANCELLED),
            ResourcesFreed(chore_id, 1),
        ]
    assert world.hello().given() == ["b"]


def test_a_chore_is_cancelled_at_its_worker() -> None:
    world = World().pooled("a").hello()
    world.book.cancel(("a", 1))
    assert world.told(messages.Cancel) == [messages.Cancel("a", 1)]
    assert world.posted_kinds("a") == ["ChoreSubmitted"]
    end = Ended("a", 1, -15, "cancelled", "", 0.1, False, None)
    world.report(ONE, ended=(end,))
    assert world.of("a")[1].reason is Reason.CANCELLED


def test_a_cancelled_chore_that_comes_back_has_ended() -> None:
    world = World((1, 0)).pooled("a", "b").hello()
    world.book.cancel(("b", 1))
    world.give_back("b")
    assert world.of("b")[1:] == [JobEnded("b", 1, None, Reason.CANCELLED), ResourcesFreed("b", 1)]
    assert world.given() == ["a"]


def test_a_cancelled_chore_whose_worker_died_is_cancelled() -> None:
    world = World().pooled("a").hello()
    world.book.cancel(("a", 1))
    world.die().wait(1.0)
    assert world.of("a")[1].reason is Reason.CANCELLED
    assert world.lost() == []


def test_a_job_is_cancelled_where_it_waits_and_where_it_runs() -> None:
    world = World((2, 0)).pooled("a").hello().job("j", cores=2)
    world.book.cancel(("j", 1))
    assert world.of("j") == [JobEnded("j", 1, None, Reason.CANCELLED), ResourcesFreed("j", 1)]
    world.finish("a").leave()
    assert not world.jobs
    world.job("k")
    world.book.cancel(("k", 1))
    assert world.stopped == [("k", 1)]


def test_signals_reach_what_a_worker_or_the_executor_inside_has() -> None:
    world = World((2, 0)).pooled("a")
    world.book.signal(("a", 1), 10)
    world.hello()
    world.book.signal(("a", 1), 12)
    world.book.signal(("j", 1), 12)
    assert world.told(messages.Signal) == [messages.Signal("a", 1, 12)]
    assert world.signals == [(("j", 1), 12)]


def test_more_time_is_given_wherever_the_attempt_is() -> None:
    world = World((2, 0)).pooled("a", resources={"duration": 1.0})
    world.book.extend(("a", 1), 5.0)
    world.hello()
    (run,) = world.told(messages.Run)
    assert run.orders[0].duration == 5.0
    world.book.extend(("a", 1), 9.0)
    assert world.told(messages.Extend) == [messages.Extend("a", 1, 9.0)]
    world.job("j", cores=2, resources={"duration": 1.0})
    world.book.extend(("j", 1), 7.0)
    world.finish("a").leave()
    assert world.jobs["j", 1].resources.duration == 7.0
    world.book.extend(("j", 1), 8.0)
    assert world.extended == [(("j", 1), 8.0)]


# --- balance ------------------------------------------------------------------------------------


def two_workers() -> World:
    world = World((2, 0), (2, 0)).pooled("a", node=0).pooled("b", node=1)
    return world.hello(ONE).hello(TWO)


def test_what_waits_at_a_worker_is_withdrawn_for_an_idle_one() -> None:
    world = two_workers().pooled(*names(8), node=0).finish("b", by=TWO)
    world.wait(0.1)
    assert not world.told(messages.Withdraw)
    world.wait(0.3)
    assert world.told(messages.Withdraw) == [messages.Withdraw(4)]
    world.give_back("c7", "c6", "c5")
    assert world.given(TWO) == ["c5", "c6", "c7"]
    assert world.posted_kinds("c5") == ["ChoreSubmitted"], "once"
    world.finish("c5", "c6", "c7", by=TWO)
    assert world.posted_kinds("c7") == ["ChoreSubmitted", "JobEnded", "ResourcesFreed"]


def test_nothing_is_withdrawn_while_nobody_is_idle() -> None:
    world = two_workers().pooled(*names(8), node=0).wait(1.0).wait(1.0)
    assert not world.told(messages.Withdraw)


def test_nothing_is_withdrawn_of_what_runs() -> None:
    world = two_workers().pooled("c", node=0).finish("b", by=TWO).wait(1.0).wait(1.0)
    assert not world.told(messages.Withdraw)


def test_what_waits_for_a_worker_to_start_goes_to_an_idle_one() -> None:
    world = World((2, 0), (2, 0)).pooled("a", node=0).hello().finish("a").pooled("b", node=1)
    assert len(world.staff) == 2
    world.wait(0.3).wait(0.3)
    assert world.given(ONE) == ["b"]


def test_cores_that_become_free_get_a_worker_where_another_one_is_full() -> None:
    world = World((4, 0)).job("j", cores=3).pooled("a").hello().pooled(*names(4)).end_job("j")
    world.wait(0.1)
    assert [*world.staff] == [ONE]
    world.wait(0.3)
    assert [*world.staff] == [ONE, TWO]
    world.wait(0.3)
    assert [*world.staff] == [ONE, TWO], "one at a time"
    world.hello(TWO).wait(0.3)
    assert world.told(messages.Withdraw) == [messages.Withdraw(2)]


def test_a_full_worker_is_all_that_a_full_node_has() -> None:
    world = World((4, 0)).job("j", cores=3).pooled("a").hello().pooled(*names(4))
    world.wait(0.3).wait(0.3)
    assert [*world.staff] == [ONE]
