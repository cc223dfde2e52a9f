"""Which chores run on warm workers, and which become jobs of their own."""

from __future__ import annotations

from collections import defaultdict
from unittest.mock import patch

import pytest
from hypothesis import given, settings, strategies as st

from matensemble.model import Reason, Resources
from matensemble.policy import ChorePolicy, OnFailure, Retry
from matensemble.records import RecordKind
from matensemble.replay import Standing
from matensemble.runtime.scheduler import events as ev, tiers
from matensemble.runtime.scheduler.instructions import Cancel, Record, Submit, Watch
from matensemble.runtime.scheduler.policy import Policy
from matensemble.runtime.scheduler.resources import Allocation, Node
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.runtime.scheduler.states import READY, SUBMITTED
from matensemble.runtime.scheduler.tiers import MIN_CHORES, PROBE_SECONDS, PROBES, Tier
from matensemble.runtime.testing import make_chore

TERMINAL = {RecordKind.COMPLETED, RecordKind.FAILED, RecordKind.CANCELLED, RecordKind.SKIPPED}


class Play:
    """Plays the executor of a state, and remembers what it was ordered."""

    def __init__(self, workers: str = "auto", *, cores: int = 64, **policy) -> None:
        self.state = SchedulerState(Policy(workers=workers, **policy))
        self.live: dict[str, Submit] = {}
        self.watches: list[str] = []
        self.records: list[Record] = []
        self.tell(ev.AllocationLearned(Allocation((Node("n", cores),))))

    def tell(self, event) -> list[Record]:
        orders = self.state.handle(event)
        for order in orders:
            if isinstance(order, Submit):
                self.live[order.chore.id] = order
            elif isinstance(order, Watch):
                assert order.seconds == PROBE_SECONDS
                self.watches.append(order.group)
        records = [order for order in orders if isinstance(order, Record)]
        self.records += records
        self.state.validate()
        return records

    def add(self, count: int, name: str = "work", **fields) -> list[str]:
        known = len(self.state)
        ids = [f"{name}-{number}" for number in range(known, known + count)]
        for chore_id in ids:
            self.tell(ev.ChoreAdded(make_chore(chore_id, name=name, **fields)))
        return ids

    def start(self, pool_look_ahead: int = 0, time_left: float | None = None) -> list[str]:
        """Consider starts; return which were started."""
        before = set(self.live)
        self.tell(ev.StartsConsidered(time_left, pool_look_ahead))
        return [chore_id for chore_id in self.live if chore_id not in before]

    def run(self, *chore_ids: str) -> None:
        """Tell that the processes of chores run."""
        for chore_id in chore_ids:
            self.tell(ev.ChoreStarted(chore_id, self.live[chore_id].attempt, "n"))

    def end(self, chore_id: str, elapsed: float | None = 0.01, reason=None) -> list[Record]:
        order = self.live.pop(chore_id)
        code = 0 if reason is None else 1
        records = self.tell(
            ev.ChoreFinished(chore_id, order.attempt, reason, code, elapsed=elapsed, host="n")
        )
        self.tell(ev.ResourcesFreed(chore_id, order.attempt))
        return records

    def is_pooled(self, *chore_ids: str) -> set[bool]:
        return {self.live[chore_id].is_pooled for chore_id in chore_ids}

    @property
    def decisions(self) -> list[dict]:
        return [dict(one.fields) for one in self.records if one.kind is RecordKind.WORKERS]


# --- auto ---------------------------------------------------------------------------------------


def test_few_of_a_large_group_run_until_one_tells_how_long_it_takes():
    play = Play()
    ids = play.add(100)
    assert play.start() == ids[:PROBES]
    assert play.is_pooled(*play.live) == {False}
    assert play.watches == [], "what queues at the executor says nothing"
    play.run(*ids[:3])
    assert play.watches == ["work"], "one timer for all of them"
    assert play.start() == []
    assert "first chores of its group" in play.state.story(ids[50]).because
    play.end(ids[3])
    started = play.start()
    assert started == ids[PROBES : PROBES + 33]
    assert play.is_pooled(*started) == {True}
    assert play.decisions == [{"g": "work", "tier": "trial", "elapsed": 0.01}]


@pytest.mark.parametrize(("elapsed", "tier"), [(0.5, "pool"), (2.0, "job")])
def test_a_trial_weighs_what_chores_take_against_what_a_start_takes(elapsed, tier):
    play = Play(cores=33)
    ids = play.add(60)
    play.start()
    play.end(ids[0], 0.1)
    on_trial = play.start()
    assert len(on_trial) == 2
    play.end(on_trial[0], elapsed)
    play.end(on_trial[1], elapsed)
    play.tell(ev.LaunchMeasured(0.7))
    play.tell(ev.LaunchMeasured(0.1))
    play.tell(ev.LaunchMeasured(0.3))
    (another, *_) = play.start()
    assert len(play.decisions) == 1, "two are not enough"
    play.end(another, elapsed)
    assert play.decisions[1] == {"g": "work", "tier": tier, "elapsed": elapsed, "launch": 0.1}
    assert play.is_pooled(*play.start()) == {tier == "pool"}
    play.tell(ev.LaunchMeasured(0.001))
    assert len(play.decisions) == 2, "that is settled"


def test_the_cost_of_a_start_may_be_known_last():
    play = Play()
    ids = play.add(50)
    play.start()
    play.end(ids[0])
    for chore_id in play.start()[:5]:
        play.end(chore_id, 0.02)
    assert len(play.decisions) == 1
    play.tell(ev.LaunchMeasured(0.1))
    assert [one["tier"] for one in play.decisions] == ["trial", "pool"]


def test_chores_that_take_long_become_jobs():
    play = Play()
    ids = play.add(100)
    play.start()
    play.end(ids[0], PROBE_SECONDS)
    assert play.decisions == [{"g": "work", "tier": "job", "elapsed": PROBE_SECONDS}]
    assert play.is_pooled(*play.start()) == {False}
    assert len(play.live) == 64


def test_nobody_is_held_back_for_longer_than_the_time_of_a_probe():
    play = Play()
    play.add(100)
    play.start()
    play.tell(ev.ProbesOverdue("work"))
    assert play.decisions == [], "none runs"
    play.run(*play.live)
    play.tell(ev.ProbesOverdue("work"))
    assert [one["tier"] for one in play.decisions] == ["job"]
    assert len(play.start()) == 64 - PROBES
    play.tell(ev.ProbesOverdue("work"))
    assert len(play.decisions) == 1


def test_a_timer_that_finds_no_probe_running_says_nothing():
    play = Play()
    (one,) = play.add(1)
    play.start()
    play.run(one)
    play.tell(ev.AttemptLost(one, 1))
    del play.live[one]
    play.tell(ev.ProbesOverdue("work"))
    assert play.decisions == []
    assert play.start() == [one]
    play.run(one)
    assert play.watches == ["work", "work"]


def test_an_executor_that_knows_no_times_gets_jobs():
    play = Play()
    ids = play.add(100)
    play.start()
    play.end(ids[0], None)
    assert [one["tier"] for one in play.decisions] == ["job"]


@pytest.mark.parametrize("reason", [Reason.CANCELLED, None])
def test_what_did_not_run_to_its_end_tells_nothing(reason):
    play = Play()
    ids = play.add(100)
    play.start()
    code = None if reason is None else -15
    play.tell(ev.ChoreFinished(ids[0], 1, reason or Reason.SUBMIT_ERROR, code, elapsed=0.01))
    play.tell(ev.ResourcesFreed(ids[0], 1))
    assert play.decisions == []
    assert play.start() == [ids[PROBES]], "another one is a probe instead"


def test_a_result_that_was_found_of_an_earlier_driver_tells_nothing():
    play = Play()
    standing = Standing(state=SUBMITTED, attempt=1, is_pooled=True)
    play.tell(ev.ChoreRestored(make_chore("work-0", name="work"), standing))
    play.add(40)
    play.tell(ev.ChoreFinished("work-0", 1, None, 0))
    assert play.decisions == []


def test_a_small_group_stays_as_it_is_until_it_grows():
    play = Play()
    ids = play.add(MIN_CHORES - 1)
    play.start()
    play.end(ids[0])
    assert play.decisions == []
    assert play.is_pooled(*play.live) == {False}
    play.add(1)
    assert [one["tier"] for one in play.decisions] == ["trial"]
    assert play.is_pooled(*play.start()) == {True}


def test_a_group_that_is_held_back_holds_back_no_other():
    play = Play()
    play.add(100, "slow")
    quick = play.add(3, "quick")
    assert play.start()[-3:] == quick


def test_a_held_chore_can_be_cancelled_and_put_first():
    play = Play()
    ids = play.add(100)
    play.tell(ev.CancelRequested((ids[0], ids[90])))
    play.tell(ev.PriorityChanged((ids[80],), -5))
    play.start()
    play.end(ids[1], None, Reason.SUBMIT_ERROR)
    play.end(ids[2])
    assert play.start()[0] == ids[80]
    assert ids[90] not in play.live


def test_probes_that_would_not_end_in_time_make_room():
    play = Play()
    play.add(100, resources=Resources(duration=60))
    assert play.start(time_left=30) == []
    assert play.state.is_out_of_time


def test_what_an_earlier_driver_found_is_known():
    play = Play(tiers={"work": Tier.POOL, "other": Tier.JOB})
    pooled, jobs = play.add(20), play.add(20, "other")
    play.start()
    assert play.is_pooled(*pooled) == {True}
    assert play.is_pooled(*jobs) == {False}
    assert play.watches == []


# --- what is asked for --------------------------------------------------------------------------


def test_a_chore_can_say_it_itself():
    play = Play("pool")
    own = play.add(2, policy=ChorePolicy(workers="job"))
    rest = play.add(2)
    play.start()
    assert play.is_pooled(*own) == {False}
    assert play.is_pooled(*rest) == {True}
    assert play.decisions == []
    auto = Play("job")
    ids = auto.add(2, policy=ChorePolicy(workers="pool"))
    auto.start()
    assert auto.is_pooled(*ids) == {True}


@pytest.mark.parametrize(
    "resources",
    [
        Resources(num_tasks=2),
        Resources(mpi=True),
        Resources(num_nodes=1, exclusive=True),
        Resources(num_tasks=2, num_nodes=1),
    ],
)
def test_what_a_warm_worker_cannot_run_is_a_job(resources):
    play = Play("pool")
    ids = play.add(1, resources=resources)
    play.start()
    assert play.is_pooled(*ids) == {False}


@pytest.mark.parametrize("workers", ["auto", "pool"])
def test_without_warm_workers_everything_is_a_job(workers):
    play = Play(workers, cores=40)
    ids = play.add(200)
    play.start()
    if workers == "auto":
        play.end(ids[0])
        play.start()
    lost = next(chore_id for chore_id, order in play.live.items() if order.is_pooled)
    play.tell(ev.PoolLost("pyzmq is not installed"))
    play.tell(ev.PoolLost("again"))
    assert play.decisions[-1] == {"tier": "job", "d": "pyzmq is not installed"}
    assert len(play.decisions) == (2 if workers == "auto" else 1)
    del play.live[lost]
    play.tell(ev.AttemptLost(lost, 1))
    started = play.start()
    assert lost in started
    assert play.is_pooled(*started) == {False}
    while play.live:
        play.end(next(iter(play.live)))
        play.start()
    assert play.state.is_finished


def test_a_retry_that_asks_for_more_tasks_is_a_job():
    play = Play("pool")
    policy = ChorePolicy(retry=Retry(1, grow={"exception": {"num_tasks": 2}}))
    (one,) = play.add(1, policy=policy)
    play.start()
    assert play.is_pooled(one) == {True}
    play.end(one, reason=Reason.EXCEPTION)
    play.start()
    assert play.is_pooled(one) == {False}


# --- records ------------------------------------------------------------------------------------


def test_a_short_pooled_attempt_has_two_records():
    play = Play("pool")
    (one,) = play.add(1)
    play.start()
    play.tell(ev.ChoreSubmitted(one, 1, "f1/worker-1-1"))
    play.end(one, 0.0123456)
    kinds = [(record.kind, record.fields) for record in play.records]
    assert kinds == [
        (RecordKind.SUBMIT_INTENT, {"p": 1}),
        (RecordKind.COMPLETED, {"el": 0.01235, "h": "n"}),
    ]


def test_a_pooled_attempt_that_was_seen_to_run_has_all_records():
    play = Play("pool")
    (one,) = play.add(1)
    play.start()
    play.tell(ev.ChoreSubmitted(one, 1, "f1/worker-1-1"))
    play.tell(ev.ChoreStarted(one, 1, "n"))
    play.end(one, 3.0)
    assert [(record.kind, record.fields) for record in play.records] == [
        (RecordKind.SUBMIT_INTENT, {"p": 1}),
        (RecordKind.SUBMITTED, {"j": "f1/worker-1-1"}),
        (RecordKind.STARTED, {"h": "n"}),
        (RecordKind.COMPLETED, None),
    ]


@pytest.mark.parametrize("reason", [Reason.EXCEPTION, Reason.CANCELLED])
@pytest.mark.parametrize("is_tried_again", [False, True])
def test_every_way_to_end_tells_where_it_ran(reason, is_tried_again):
    play = Play("pool")
    policy = ChorePolicy(retry=Retry(2) if is_tried_again else None)
    (one,) = play.add(1, policy=policy)
    play.start()
    (record,) = play.end(one, 1.5, reason)
    assert record.fields["el"] == 1.5
    assert record.fields["h"] == "n"


def test_a_pooled_attempt_of_an_earlier_driver_is_one_still():
    play = Play("job")
    standing = Standing(SUBMITTED, 1, is_pooled=True)
    play.tell(ev.ChoreRestored(make_chore("one"), standing))
    play.tell(ev.AttemptLost("one", 1))
    assert play.start() == ["one"]
    assert play.is_pooled("one") == {False}, "this driver has no warm workers"


# --- look-ahead ---------------------------------------------------------------------------------


def test_chores_queue_at_warm_workers_and_hold_what_comes_free():
    play = Play("pool", cores=2)
    ids = play.add(10)
    assert play.start(pool_look_ahead=4) == ids[:6]
    assert len(play.state.starter.queued) == 4
    play.end(ids[0])
    assert len(play.state.starter.queued) == 3
    assert play.state.ledger.free_cores == 0
    assert play.start(pool_look_ahead=4) == [ids[6]]


def test_one_shape_at_a_time_queues():
    play = Play("pool", cores=2)
    small, large = play.add(4), play.add(2, "large", cores=2)
    assert play.start(pool_look_ahead=8) == small
    assert play.start(pool_look_ahead=8) == [], "the queue holds others"
    play.end(small[0])
    play.end(small[1])
    assert play.start(pool_look_ahead=8) == large


def starts_in_a_stream(play: Play, chore_id: str, rounds: int) -> bool:
    """Return whether a chore starts while others come and end, one a round."""
    for _ in range(rounds):
        play.add(1)
        play.start(pool_look_ahead=16)
        if chore_id in play.live:
            return True
        play.end(next(iter(play.live)))
    return False


@pytest.mark.parametrize("is_job", [True, False])
def test_a_large_chore_does_not_starve_behind_a_stream_for_warm_workers(is_job):
    play = Play("pool", cores=4)
    play.add(40)
    policy = ChorePolicy(workers="job" if is_job else "pool")
    (large,) = play.add(1, "large", cores=4, nice=-1, policy=policy)
    play.live.clear()
    assert starts_in_a_stream(play, large, rounds=60)


def test_a_large_chore_that_comes_late_starts_in_time():
    play = Play("pool", cores=4)
    play.add(40)
    play.start(pool_look_ahead=16)
    (large,) = play.add(1, "large", cores=4, policy=ChorePolicy(workers="job"))
    assert starts_in_a_stream(play, large, rounds=100)


# --- whatever happens ---------------------------------------------------------------------------

ELAPSED = [None, 0.01, 0.01, 1.0, 6.0]


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_whatever_happens_every_chore_ends(data):
    with patch.multiple(tiers, PROBES=2, MIN_CHORES=4, NUM_MEASURED=2):
        play = Play(
            data.draw(st.sampled_from(["auto", "auto", "pool", "job"]), "workers"),
            cores=data.draw(st.integers(1, 5), "cores"),
            look_ahead=data.draw(st.sampled_from([0, 2]), "look ahead"),
            patience=data.draw(st.sampled_from([0.0, 1.0, float("inf")]), "patience"),
        )
        _add_some(play, data, data.draw(st.integers(1, 15), "chores"))
        for _ in range(400):
            depth = data.draw(st.sampled_from([0, 3]), "depth")
            play.tell(ev.StartsConsidered(None, depth))
            if play.state.is_finished:
                break
            _let_something_happen(play, data)
        assert play.state.is_finished
    ended = [record.chore_id for record in play.records if record.kind in TERMINAL]
    assert sorted(ended) == sorted(entry.chore.id for entry in play.state)
    _check_decisions(play)


def _add_some(play: Play, data, count: int) -> None:
    for _ in range(count):
        play.add(
            1,
            data.draw(st.sampled_from("ab"), "group"),
            tasks=data.draw(st.sampled_from([1, 1, 1, 2]), "tasks"),
            nice=data.draw(st.integers(0, 1), "nice"),
            policy=ChorePolicy(
                on_failure=OnFailure.IGNORE,
                workers=data.draw(st.sampled_from([None, None, None, "pool", "job", "auto"])),
            ),
        )


def _let_something_happen(play: Play, data) -> None:
    what = data.draw(st.sampled_from(["end"] * 8 + ["lost", "add", "time", "cost", "gone", "wish"]))
    holding = [i for i in play.live if play.state.entry(i).placement is not None]
    if what == "add" and len(play.state) < 25:
        _add_some(play, data, 1)
    elif what == "time" and play.watches:
        play.tell(ev.ProbesOverdue(play.watches.pop(0)))
    elif what == "cost":
        play.tell(ev.LaunchMeasured(data.draw(st.sampled_from([0.01, 0.5]))))
    elif what == "gone":
        play.tell(ev.PoolLost("none"))
    elif what == "wish":
        ready = [entry.chore.id for entry in play.state if entry.state is READY]
        if ready:
            chosen = (data.draw(st.sampled_from(ready), "who"),)
            wish = ev.CancelRequested(chosen) if data.draw(st.booleans()) else None
            play.tell(wish or ev.PriorityChanged(chosen, -1))
    elif holding:
        one = data.draw(st.sampled_from(holding), "who")
        attempt = play.live[one].attempt
        if what == "lost" and attempt < 5:
            del play.live[one]
            play.tell(ev.AttemptLost(one, attempt))
            return
        if data.draw(st.booleans(), "is told to run"):
            play.tell(ev.ChoreStarted(one, attempt, "n"))
        reason = data.draw(st.sampled_from([None, None, Reason.EXCEPTION, Reason.CANCELLED]))
        play.end(one, data.draw(st.sampled_from(ELAPSED), "elapsed"), reason)


def _check_decisions(play: Play) -> None:
    """Each is a change that there can be, and none comes twice."""
    after = {"unknown": {"trial", "job"}, "trial": {"pool", "job"}}
    tier: dict[str, str] = defaultdict(lambda: "unknown")
    is_lost = False
    for one in play.decisions:
        assert not is_lost, "nothing is decided without warm workers"
        is_lost = "g" not in one
        if not is_lost:
            assert one["tier"] in after[tier[one["g"]]]
            tier[one["g"]] = one["tier"]


def test_cancelling_the_run_leaves_nobody_held():
    play = Play()
    play.add(100)
    play.start()
    orders = play.state.handle(ev.CancelRequested())
    assert sum(isinstance(order, Cancel) for order in orders) == PROBES
    for one in list(play.live):
        play.end(one, 0.01, Reason.CANCELLED)
    assert play.state.is_finished
    assert play.state.counts().cancelled == 100
