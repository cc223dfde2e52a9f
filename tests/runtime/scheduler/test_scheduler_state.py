"""The scheduler core, one fact at a time."""

from __future__ import annotations

import pytest

from matensemble.chore import Chore
from matensemble.model import ChoreState, ChoreType, Reason, Resources
from matensemble.records import RecordKind
from matensemble.references import Gather
from matensemble.replay import Standing
from matensemble.runtime.scheduler import events as ev
from matensemble.runtime.scheduler.instructions import Cancel, Record, Signal, Submit
from matensemble.runtime.scheduler.policy import Policy
from matensemble.runtime.scheduler.resources import Allocation, Node, Share
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.runtime.scheduler.states import TRANSITIONS


def chore(chore_id: str, *deps: str, name: str = "x", nice: int = 0, stage: int = 0, **resources):
    return Chore(
        id=chore_id,
        name=name,
        kind=ChoreType.PYTHON,
        deps=deps,
        nice=nice,
        stage=stage,
        resources=Resources(**resources),
    )


class Scheduler:
    """A state that is validated after every event."""

    def __init__(self, *nodes: tuple[int, int], policy: Policy | None = None) -> None:
        self.state = SchedulerState(policy)
        self.records: list[Record] = []
        self.tell(
            ev.AllocationLearned(Allocation(tuple(Node(f"n{i}", *n) for i, n in enumerate(nodes))))
        )

    def tell(self, event):
        out = self.state.handle(event)
        self.state.validate()
        self.records += [i for i in out if isinstance(i, Record)]
        return [i for i in out if not isinstance(i, Record)]

    def add(self, *chores):
        for one in chores:
            self.tell(ev.ChoreAdded(one))

    def start(self) -> list[str]:
        return [i.chore.id for i in self.tell(ev.StartsConsidered()) if isinstance(i, Submit)]

    def end(self, chore_id: str, reason: Reason | None = None, exit_code: int | None = 0):
        attempt = self.state.entry(chore_id).attempt
        out = self.tell(ev.ChoreFinished(chore_id, attempt, reason, exit_code))
        return out + self.tell(ev.ResourcesFreed(chore_id, attempt))

    def state_of(self, chore_id: str) -> ChoreState:
        return self.state.entry(chore_id).state


def test_a_chain_runs_in_order():
    s = Scheduler((4, 0))
    s.add(chore("a"), chore("b", "a"), chore("c", "b"))
    assert s.start() == ["a"]
    s.end("a")
    assert s.start() == ["b"]
    s.end("b")
    assert s.start() == ["c"]
    s.end("c")
    assert s.state.is_finished
    assert s.state.counts().completed == 3


def test_lower_nice_first_then_admission():
    s = Scheduler((1, 0))
    s.add(chore("a", nice=5), chore("b"), chore("c", nice=-1), chore("d"))
    order = []
    while started := s.start():
        order += started
        s.end(started[0])
    assert order == ["c", "b", "d", "a"]


def test_fit_is_per_node_not_on_sums():
    s = Scheduler((2, 0), (2, 0))
    s.add(chore("wide", cores_per_task=3), chore("two", num_tasks=2, cores_per_task=2))
    assert s.state_of("wide") is ChoreState.FAILED
    entry = s.state.entry("wide")
    assert entry.reason is Reason.EXCEEDS_ALLOCATION
    assert "1 task of 3 cores" in entry.detail
    assert "2 nodes with 2 cores each" in entry.detail
    assert s.start() == ["two"]
    assert s.state.entry("two").placement == (Share(0, 2, 0), Share(1, 2, 0))


def test_gpus_are_counted_per_node():
    s = Scheduler((8, 1), (8, 2))
    s.add(chore("a", gpus_per_task=2), chore("b", num_tasks=2, gpus_per_task=1), chore("c"))
    assert s.start() == ["a", "c"]
    assert s.state.entry("a").placement == (Share(1, 1, 2),)
    s.end("a")
    assert s.start() == ["b"]


def test_num_nodes_spreads_and_exclusive_takes_whole_nodes():
    s = Scheduler((4, 1), (4, 1), (4, 1))
    s.add(chore("small"))
    assert s.start() == ["small"]
    s.add(chore("e", num_tasks=2, num_nodes=2, exclusive=True))
    assert s.start() == ["e"]
    busy = s.state.entry("small").placement[0].node
    assert sorted(s.state.entry("e").placement) == [Share(n, 4, 1) for n in range(3) if n != busy]


def test_small_chores_pass_a_big_one_but_not_for_ever():
    s = Scheduler((4, 0), policy=Policy(patience=1.0))
    s.add(chore("first", cores_per_task=1), chore("big", cores_per_task=4))
    s.add(*[chore(f"s{i}") for i in range(50)])
    running = s.start()
    assert running == ["first", "s0", "s1", "s2"]
    overtakers = 0
    while "big" not in running:
        s.end(running.pop(0))
        started = s.start()
        overtakers += sum(name.startswith("s") for name in started)
        running += started
    # three in the first pass, then until four cores' worth have passed it
    assert overtakers <= 4
    assert running == ["big"]


def test_nodes_set_aside_leave_the_others_to_small_chores():
    s = Scheduler((4, 0), (4, 0), policy=Policy(patience=0.5))
    s.add(*[chore(f"f{i}") for i in range(8)])
    running = s.start()
    s.add(chore("big", cores_per_task=4), *[chore(f"s{i}") for i in range(100)])
    for _ in range(40):
        s.end(running.pop(0))
        running += s.start()
        if "big" in running:
            break
    assert "big" in running
    assert len(running) == 5  # the other node stayed full


def test_patience_zero_is_strict_order():
    s = Scheduler((4, 0), policy=Policy(patience=0))
    s.add(chore("first"), chore("big", cores_per_task=4), chore("small"))
    assert s.start() == ["first"]
    s.end("first")
    assert s.start() == ["big"]


def test_failure_skips_everything_downstream_with_its_root():
    s = Scheduler((4, 0))
    s.add(chore("a"), chore("b", "a"), chore("c", "b"), chore("free"))
    assert s.start() == ["a", "free"]
    s.end("a", Reason.NONZERO_EXIT, 3)
    assert s.state_of("c") is ChoreState.SKIPPED
    assert s.state.entry("c").root == "a"
    assert s.state.counts().failed == 3
    assert s.state.num_root_failures == 1
    assert [r.chore_id for r in s.records if r.kind is RecordKind.SKIPPED] == ["b", "c"]
    s.end("free")
    assert s.state.is_finished


def test_a_long_chain_fails_without_recursion():
    s = SchedulerState()
    s.handle(ev.AllocationLearned(Allocation((Node("n", 1),))))
    s.handle(ev.ChoreAdded(chore("0")))
    for i in range(1, 20_000):
        s.handle(ev.ChoreAdded(chore(str(i), str(i - 1))))
    s.handle(ev.StartsConsidered())
    s.handle(ev.ChoreFinished("0", 1, Reason.EXCEPTION, 1))
    assert s.counts().failed == 20_000
    s.validate()


def test_a_chore_added_to_ended_dependencies():
    s = Scheduler((4, 0))
    s.add(chore("good"), chore("bad"))
    s.start()
    s.end("good")
    s.end("bad", Reason.EXCEPTION, 1)
    s.tell(ev.ChoreAdded(chore("after-good", "good"), parent="good"))
    s.tell(ev.ChoreAdded(chore("after-bad", "good", "bad"), parent="good"))
    assert s.start() == ["after-good"]
    assert s.state.entry("after-bad").root == "bad"
    added = [r for r in s.records if r.kind is RecordKind.CHORE_ADDED]
    assert [r.fields["parent"] for r in added] == ["good", "good"]
    assert added[0].fields["header"]["deps"] == ["good"]


def test_a_rejected_spec_is_a_failed_chore():
    s = Scheduler((4, 0))
    s.tell(ev.SpecRejected(chore("bad"), "parent", "no such name"))
    assert s.state.entry("bad").reason is Reason.INVALID_SPEC
    assert s.state.is_finished


def test_a_gather_waits_for_lower_stages_even_when_added_first():
    s = Scheduler((4, 0))
    table = Chore(id="t", name="table", kind=ChoreType.PYTHON, deps=(Gather("x"),), stage=1)
    s.add(table, chore("a"), chore("b"))
    assert s.start() == ["a", "b"]
    s.end("a", Reason.EXCEPTION, 1)
    assert s.start() == []
    s.tell(ev.ChoreAdded(chore("spawned", "b"), parent="b"))
    s.end("b")
    assert s.start() == ["spawned"]
    assert "earlier stage" in s.state.story("t").because
    s.end("spawned")
    assert s.start() == ["t"]
    s.end("t")
    assert s.state.is_finished


def test_cancelling_waiting_and_running_chores():
    s = Scheduler((1, 0))
    s.add(chore("a"), chore("b"), chore("c", "b"))
    s.start()
    orders = s.tell(ev.CancelRequested(("a", "b")))
    assert orders == [Cancel("a", 1)]
    assert s.state_of("b") is ChoreState.CANCELLED
    assert s.state_of("c") is ChoreState.SKIPPED
    s.end("a", Reason.CANCELLED, -15)
    assert s.state_of("a") is ChoreState.CANCELLED
    assert s.state.is_finished


def test_an_interruption_returns_running_chores_to_ready():
    s = Scheduler((2, 0))
    s.add(chore("a"), chore("b"), chore("c"))
    s.start()
    assert s.tell(ev.InterruptRequested("SIGINT")) == [Cancel("a", 1), Cancel("b", 1)]
    s.end("a")  # it was just done
    s.end("b", Reason.CANCELLED, -15)
    assert s.state_of("a") is ChoreState.COMPLETED
    assert s.state_of("b") is ChoreState.READY
    assert s.start() == []
    assert s.state.is_finished


def test_pause_starts_nothing():
    s = Scheduler((2, 0))
    s.add(chore("a"))
    s.tell(ev.PauseRequested())
    assert s.start() == []
    assert "paused" in s.state.story("a").because
    s.tell(ev.ResumeRequested())
    assert s.start() == ["a"]


def test_fail_fast_cancels_the_rest():
    s = Scheduler((2, 0), policy=Policy(max_root_failures=1))
    s.add(chore("a"), chore("b"), chore("c"))
    s.start()
    assert Cancel("b", 1) in s.end("a", Reason.EXCEPTION, 1)
    assert s.state_of("c") is ChoreState.CANCELLED


def test_fail_fast_cancels_what_is_admitted_later_too():
    s = Scheduler((2, 0), policy=Policy(max_root_failures=1))
    s.add(chore("too-big", cores_per_task=9), chore("a"), chore("b", "a"), chore("c", "too-big"))
    assert s.state_of("a") is ChoreState.CANCELLED
    assert s.state_of("b") is ChoreState.SKIPPED
    assert s.state_of("c") is ChoreState.SKIPPED
    assert s.start() == []
    assert s.state.is_finished


def test_cancelling_the_run_cancels_what_a_strategy_still_adds():
    s = Scheduler((2, 0))
    s.add(chore("a"))
    s.start()
    s.tell(ev.CancelRequested())
    s.tell(ev.ChoreAdded(chore("late"), parent="a"))
    assert s.state_of("late") is ChoreState.CANCELLED
    s.end("a", Reason.CANCELLED, -15)
    assert s.state.is_finished


def test_repeated_and_late_facts_change_nothing():
    s = Scheduler((2, 0))
    s.add(chore("a"))
    s.start()
    s.tell(ev.ChoreStarted("a", 1))
    s.tell(ev.ChoreStarted("a", 1))
    s.end("a")
    before = len(s.records)
    s.end("a", Reason.EXCEPTION, 1)
    s.tell(ev.ChoreStarted("a", 1))
    s.tell(ev.ChoreFinished("a", 7, Reason.EXCEPTION))
    assert len(s.records) == before
    assert s.state_of("a") is ChoreState.COMPLETED
    assert s.state.ledger.free_cores == 2


def test_resources_come_back_after_the_end():
    s = Scheduler((1, 0))
    s.add(chore("a"), chore("b"))
    s.start()
    s.tell(ev.ChoreFinished("a", 1, None, 0))
    assert s.start() == []
    s.tell(ev.ResourcesFreed("a", 1))
    assert s.start() == ["b"]


def test_a_placement_other_than_predicted_is_believed():
    s = Scheduler((2, 0), (2, 0))
    s.add(chore("a", cores_per_task=2), chore("b", cores_per_task=2))
    s.start()
    predicted = s.state.entry("a").placement[0].node
    s.tell(ev.ChorePlaced("a", 1, (Share(1 - predicted, 2, 0),)))
    assert s.state.ledger.free_on(predicted) == (2, 0)
    s.tell(ev.ChorePlaced("b", 1, (Share(predicted, 2, 0),)))
    s.end("a")
    s.end("b")
    assert s.state.ledger.free_cores == 4


def test_look_ahead_queues_one_shape_only():
    s = Scheduler((1, 0), policy=Policy(look_ahead=2))
    s.add(*[chore(f"a{i}") for i in range(5)])
    assert s.start() == ["a0", "a1", "a2"]
    assert s.state.entry("a1").placement is None
    s.end("a0")
    assert s.state.entry("a1").placement == (Share(0, 1, 0),)
    assert s.start() == ["a3"]
    two = Scheduler((2, 0), policy=Policy(look_ahead=2))
    two.add(chore("a"), chore("b", cores_per_task=2), *[chore(f"c{i}") for i in range(5)])
    assert two.start() == ["a", "c0"]


def test_what_queues_keeps_off_the_node_on_which_it_was_lost():
    s = Scheduler((1, 0), (1, 0), policy=Policy(look_ahead=2))
    s.add(chore("a"), chore("b"))
    assert s.start() == ["a", "b"]
    s.end("a", Reason.NODE_FAILURE)
    (submit,) = s.tell(ev.StartsConsidered())
    assert (submit.chore.id, submit.attempt, submit.placement) == ("a", 2, None)
    assert submit.avoid == {0}
    assert s.state.entry("a").placement is None, "it is not expected there either"
    s.end("b")
    assert s.state.entry("a").placement == (Share(1, 1, 0),)


def test_what_would_not_end_in_time_does_not_queue_either():
    s = Scheduler((1, 0), policy=Policy(look_ahead=2))
    s.add(chore("a"), chore("long", duration=100.0), chore("short", duration=10.0))
    started = s.tell(ev.StartsConsidered(50.0))
    assert [submit.chore.id for submit in started] == ["a", "short"]
    assert s.state_of("long") is ChoreState.READY


@pytest.mark.parametrize("signal", [None, 10])
def test_draining_takes_back_what_queues(signal):
    s = Scheduler((1, 0), policy=Policy(look_ahead=2))
    s.add(chore("a"), chore("b"))
    assert s.start() == ["a", "b"]
    s.tell(ev.ChoreStarted("a", 1, "n0"))
    told = [Signal("a", 1, signal)] if signal else []
    assert s.tell(ev.DrainRequested("time", signal)) == [*told, Cancel("b", 1)]
    s.end("b", Reason.CANCELLED)
    assert s.state_of("b") is ChoreState.READY
    assert s.state_of("a") is ChoreState.RUNNING
    assert s.start() == []


def test_what_contradicts_the_state_is_refused():
    s = Scheduler((1, 0))
    s.add(chore("a"))
    with pytest.raises(ValueError, match="added twice"):
        s.state.handle(ev.ChoreAdded(chore("a")))
    with pytest.raises(ValueError, match="not known"):
        s.state.handle(ev.ChoreAdded(chore("b", "nobody")))


def test_the_story_says_what_a_chore_waits_for():
    s = Scheduler((1, 0))
    s.add(chore("a"), chore("b", "a"), chore("c", "b"), chore("d"))
    s.start()
    assert s.state.story("c").waits_for == ("b",)
    assert "room for 1 task of 1 core" in s.state.story("d").because
    s.end("a", Reason.EXCEPTION, 1)
    assert s.state.story("c").because == "a has no result"
    steps = [(t.before, t.after) for t in s.state.story("a").transitions]
    assert steps[-1] == (ChoreState.SUBMITTED, ChoreState.FAILED)


def test_the_table_names_every_state_and_what_has_ended_can_only_begin_again():
    assert set(TRANSITIONS) == set(ChoreState)
    for state, following in TRANSITIONS.items():
        # What has ended can only begin again: revoked, or tried again on request.
        assert state.is_terminal == (following == {ChoreState.BLOCKED})


def test_old_news_of_a_damaged_result_do_not_take_the_new_one_away():
    scheduler = Scheduler((4, 0))
    scheduler.add(chore("up"), chore("one", "up"), chore("other", "up"))
    scheduler.start()
    scheduler.end("up")
    assert scheduler.start() == ["one", "other"]
    corrupt = (Reason.RESULT_CORRUPT, 1, "damaged", "", "up", None, 1)
    scheduler.tell(ev.ChoreFinished("one", 1, *corrupt))
    assert scheduler.start() == ["up"]
    scheduler.end("up")
    scheduler.tell(ev.ChoreFinished("other", 1, *corrupt))  # of the result before
    assert scheduler.state_of("up") is ChoreState.COMPLETED
    assert sorted(scheduler.start()) == ["one", "other"]
    assert [r.chore_id for r in scheduler.records if r.kind is RecordKind.REVOKED] == ["up"]


def test_a_chore_that_is_skipped_for_two_reasons_names_the_one_that_is_left():
    scheduler = Scheduler((4, 0))
    scheduler.add(chore("a"), chore("b"), chore("c", "a", "b"))
    scheduler.start()
    scheduler.end("a", Reason.EXCEPTION, 1)
    scheduler.end("b", Reason.EXCEPTION, 1)
    assert scheduler.state.entry("c").root == "a"
    scheduler.tell(ev.RetryRequested(("a",)))
    assert scheduler.state_of("c") is ChoreState.SKIPPED
    assert scheduler.state.entry("c").root == "b"
    scheduler.tell(ev.RetryRequested(("b",)))
    assert scheduler.state_of("c") is ChoreState.BLOCKED


def _two_wait_behind_a_result(**resources) -> Scheduler:
    """`u` completed; `d` runs and will find its result damaged, `e` is ready beside it."""
    s = Scheduler((1, 0))
    s.add(chore("u"), chore("d", "u"), chore("e", "u", **resources))
    s.start()
    s.end("u")
    return s


def _find_damage(s: Scheduler) -> None:
    s.tell(ev.ChoreFinished("d", 1, Reason.EXCEPTION, 1, culprit="u", culprit_attempt=1))
    s.tell(ev.ResourcesFreed("d", 1))


@pytest.mark.parametrize(
    "there_and_back",
    [
        (ev.PriorityChanged(("e",), 5), ev.PriorityChanged(("e",), 0)),
        (ev.CancelRequested(("e",)), ev.RetryRequested(("e",))),
    ],
)
def test_what_left_the_ready_and_came_back_waits_once_for_a_damaged_result(there_and_back):
    s = _two_wait_behind_a_result()
    assert s.start() == ["d"]
    for event in there_and_back:
        s.tell(event)
    _find_damage(s)
    assert s.start() == ["u"]
    assert s.state_of("e") is ChoreState.BLOCKED
    s.end("u")
    assert s.start() == ["d"]
    s.end("d")
    assert s.start() == ["e"]
    s.end("e")
    assert s.state.is_finished


def test_what_was_put_aside_and_cancelled_stays_so_where_a_result_is_damaged():
    s = _two_wait_behind_a_result(duration=100.0)
    s.tell(ev.PriorityChanged(("e",), -1))
    s.tell(ev.StartsConsidered(time_left=50.0))  # too long for the time that is left
    s.tell(ev.CancelRequested(("e",)))
    _find_damage(s)
    s.start()
    assert s.state_of("e") is ChoreState.CANCELLED


def test_what_runs_on_a_lost_node_keeps_no_other_node_idle():
    s = Scheduler((4, 1), (4, 1))
    s.add(chore("a", cores_per_task=4, gpus_per_task=1))
    s.start()
    (share,) = s.state.entry("a").placement
    s.tell(ev.NodesChanged(frozenset({share.node}), frozenset()))  # drained: what runs goes on
    assert (s.state.ledger.free_cores, s.state.ledger.free_gpus) == (4, 1)
    s.add(chore("b", cores_per_task=4))
    assert s.start() == ["b"]
    assert s.state.ledger.free_cores == 0
    s.tell(ev.NodesChanged(frozenset(), frozenset({share.node})))
    assert s.state.ledger.free_cores == 0
    s.end("a")
    s.tell(ev.NodesChanged(frozenset({share.node}), frozenset()))
    assert s.state.ledger.free_cores == 0
    s.tell(ev.NodesChanged(frozenset(), frozenset({share.node})))
    assert s.state.ledger.free_cores == 4


def test_a_cancel_that_was_taken_outlives_the_driver():
    s = Scheduler((4, 0))
    s.add(chore("a"))
    s.start()
    s.tell(ev.CancelRequested(("a",)))
    assert (s.records[-1].kind, s.records[-1].fields) == (RecordKind.CHANGED, {"cancel": True})
    standing = Standing(ChoreState.SUBMITTED, 1, is_cancelling=True)
    after = Scheduler((4, 0))
    orders = after.tell(ev.ChoreRestored(chore("a"), standing))
    assert [order for order in orders if isinstance(order, Cancel)] == [Cancel("a", 1)]
    after.tell(ev.AttemptLost("a", 1, "gone"))
    assert after.state_of("a") is ChoreState.CANCELLED


def test_after_a_retry_the_first_failures_that_are_left_are_named():
    s = Scheduler((64, 0))
    names = [f"c{i:02}" for i in range(25)]
    for name in names:
        s.add(chore(name))
    s.start()
    for name in names:
        s.end(name, Reason.EXCEPTION, 1)
    s.tell(ev.RetryRequested(tuple(names[:10])))
    assert s.state.num_root_failures == 15
    assert [failure.chore_id for failure in s.state.root_failures] == names[10:]
