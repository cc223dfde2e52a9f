"""The book of a pool through any sequence of facts: nothing is lost, given twice or forgotten."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)
from pool_world import Staffer, World, make_request

from matensemble import pool_messages as messages
from matensemble.model import Reason
from matensemble.pool_messages import Ended
from matensemble.runtime.executors.base import JobEnded
from matensemble.runtime.scheduler.events import (
    AttemptLost,
    ChoreStarted,
    NodesChanged,
    PoolLost,
    ResourcesFreed,
)
from matensemble.runtime.scheduler.resources import Allocation, Ledger, Node, Shape

NODES = ((2, 0), (3, 1))


class PoolMachine(RuleBasedStateMachine):
    """A scheduler that keeps to its ledger, workers that do as they are told or die."""

    pooled = Bundle("pooled")

    @initialize()
    def begin(self) -> None:
        self.world = World(*NODES, idle_seconds=5.0)
        nodes = tuple(Node(f"n{i}", cores, gpus) for i, (cores, gpus) in enumerate(NODES))
        self.ledger = Ledger(Allocation(nodes))
        self.held: dict[str, object] = {}
        self.submitted: dict[str, bool] = {}
        self.over: set[str] = set()
        """Jobs that have ended."""
        self.num_seen = 0

    # --- what the scheduler does ----------------------------------------------------------------

    def _submit(self, cores: int, gpus: int, *, is_pooled: bool) -> str | None:
        placement = self.ledger.find(Shape(1, cores, gpus, None, False))
        if placement is None:
            return None
        chore_id = f"c{len(self.submitted)}"
        self.submitted[chore_id] = is_pooled
        self.ledger.take(placement)
        self.held[chore_id] = placement
        node = placement[0].node
        request = make_request(chore_id, node, cores=cores, gpus=gpus, is_pooled=is_pooled)
        self.world.book.submit(request)
        return chore_id

    @rule(target=pooled, cores=st.integers(1, 3), gpus=st.integers(0, 1))
    def submit_pooled(self, cores: int, gpus: int) -> str:
        return self._submit(cores, gpus, is_pooled=True) or "none"

    @rule(target=pooled, cores=st.integers(1, 2))
    def submit_ahead(self, cores: int) -> str:
        chore_id = f"c{len(self.submitted)}"
        self.submitted[chore_id] = True
        self.world.book.submit(make_request(chore_id, None, cores=cores))
        return chore_id

    @rule(cores=st.integers(1, 3))
    def submit_job(self, cores: int) -> None:
        self._submit(cores, 0, is_pooled=False)

    @rule(chore_id=consumes(pooled))
    def cancel(self, chore_id: str) -> None:
        self.world.book.cancel((chore_id, 1))

    @rule(chore_id=pooled)
    def extend(self, chore_id: str) -> None:
        self.world.book.extend((chore_id, 1), 9.0)

    # --- what happens ---------------------------------------------------------------------------

    def _pick(self, choice: int, staff: list[Staffer]) -> Staffer | None:
        return staff[choice % len(staff)] if staff else None

    @rule()
    def arrange(self) -> None:
        self.world.arrange()

    @rule(choice=st.integers(0, 9))
    def hello(self, choice: int) -> None:
        starting = [s for s in self.world.staff.values() if not s.is_up]
        if staffer := self._pick(choice, starting):
            self.world.hello(staffer.key)

    @rule(choice=st.integers(0, 9), count=st.integers(1, 4), has_started=st.booleans())
    def work(self, choice: int, count: int, has_started: bool) -> None:
        self.world.arrange()
        up = [s for s in self.world.staff.values() if s.is_up]
        if staffer := self._pick(choice, up):
            self._work(staffer, count, has_started=has_started)

    def _work(self, staffer: Staffer, count: int, *, has_started: bool = False) -> None:
        if not staffer.is_closing:
            staffer.run_what_fits()
        keys = [*staffer.running][:count]
        for key in keys:
            del staffer.running[key]
        cancelled = {(m.chore_id, m.attempt) for m in staffer.told if type(m) is messages.Cancel}
        ended = [
            Ended(*key, 0, "cancelled" if key in cancelled else None, "", 0.01, True, None)
            for key in keys
        ]
        started = tuple(keys if has_started else ())
        self.world.report(staffer.key, started=started, ended=tuple(ended))

    @rule(choice=st.integers(0, 9))
    def obey(self, choice: int) -> None:
        """Let a worker give back what it was asked for, and leave when it is done."""
        self.world.arrange()
        up = [s for s in self.world.staff.values() if s.is_up]
        if staffer := self._pick(choice, up):
            self._obey(staffer)

    def _obey(self, staffer: Staffer) -> None:
        limit = sum(m.limit for m in staffer.told if type(m) is messages.Withdraw)
        if staffer.is_closing:
            limit = len(staffer.queue)
        keys = [*staffer.queue][::-1][:limit]
        staffer.told.clear()
        for key in keys:
            del staffer.queue[key]
        self.world.report(staffer.key, returned=tuple(keys))
        if staffer.is_closing and not staffer.running:
            self.world.leave(staffer.key)

    @rule(choice=st.integers(0, 9))
    def die(self, choice: int) -> None:
        self.world.arrange()
        if staffer := self._pick(choice, [*self.world.staff.values()]):
            self.world.die(staffer.key)

    @rule()
    def stop(self) -> None:
        """Let the executor inside do what it was asked for."""
        for key, _ in self.world.stopped:
            if key in self.world.staff:
                self.world.die(key, exit_code=-15)
        self.world.stopped.clear()

    @rule(choice=st.integers(0, 9))
    def end_job(self, choice: int) -> None:
        jobs = [chore_id for chore_id, _ in self.world.jobs]
        if jobs:
            self.over.add(jobs[choice % len(jobs)])
            self.world.end_job(jobs[choice % len(jobs)])

    @rule()
    def start_jobs(self) -> None:
        for chore_id, _ in self.world.jobs:
            self.world.book.take_event(ChoreStarted(chore_id, 1))

    @rule(seconds=st.sampled_from([0.01, 0.3, 3.0, 12.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    @precondition(lambda self: self.submitted)
    @rule(node=st.integers(0, 1))
    def lose_node(self, node: int) -> None:
        self.world.book.take_event(NodesChanged(lost=frozenset({node})))
        self.world.arrange()
        self.world.book.take_event(NodesChanged(back=frozenset({node})))

    # --- what holds -----------------------------------------------------------------------------

    @invariant()
    def give_back(self) -> None:
        """Play the scheduler: what is over holds nothing."""
        if not hasattr(self, "world"):
            return
        for event in self.world.posted[self.num_seen :]:
            if isinstance(event, (ResourcesFreed, AttemptLost)) and event.chore_id in self.held:
                self.ledger.give_back(self.held.pop(event.chore_id))
        self.num_seen = len(self.world.posted)
        # Jobs end by themselves, without an event of the book.
        for chore_id, is_pooled in self.submitted.items():
            if not is_pooled and chore_id in self.over and chore_id in self.held:
                self.ledger.give_back(self.held.pop(chore_id))

    @invariant()
    def nothing_is_told_twice(self) -> None:
        if not hasattr(self, "world"):
            return
        for chore_id in self.submitted:
            kinds = self.world.posted_kinds(chore_id)
            ends = [kind for kind in kinds if kind in ("JobEnded", "AttemptLost")]
            assert len(ends) <= 1, kinds
            assert kinds.count("ChoreSubmitted") <= 1, kinds
            if ends:
                last = {"JobEnded": "ResourcesFreed", "AttemptLost": "AttemptLost"}
                assert kinds[-1] == last[ends[0]], kinds

    @invariant()
    def nobody_has_what_another_has(self) -> None:
        if not hasattr(self, "world"):
            return
        given = [name for key in self.world.staff for name in self.world.given(key)]
        assert len(given) == len(set(given)), given

    @invariant()
    def the_executor_inside_has_room(self) -> None:
        if hasattr(self, "world"):
            self.world.check_capacity()

    def teardown(self) -> None:
        """Let everything go well from here on: every chore has its end, and then nobody is left."""
        if not hasattr(self, "world"):
            return
        world = self.world
        for _ in range(400):
            self.stop()
            for staffer in [*world.staff.values()]:
                if not staffer.is_up:
                    world.hello(staffer.key)
            for staffer in [*world.staff.values()]:
                self._work(staffer, 9)
                self._obey(staffer)
            for chore_id, _ in [*world.jobs]:
                world.end_job(chore_id)
            world.wait(0.5)
            if world.book.is_quiet and not world.jobs:
                break
        assert world.book.is_quiet, world.states
        assert not world.staff
        for chore_id, is_pooled in self.submitted.items():
            if is_pooled:
                assert world.posted_kinds(chore_id)[-1:] in (["ResourcesFreed"], ["AttemptLost"])
        ended = [e for e in world.posted if isinstance(e, JobEnded)]
        assert all(e.reason in (None, Reason.CANCELLED, Reason.NODE_FAILURE) for e in ended)
        assert len([e for e in world.posted if isinstance(e, PoolLost)]) <= 1


PoolMachine.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestPoolMachine = pytest.mark.slow(PoolMachine.TestCase)
