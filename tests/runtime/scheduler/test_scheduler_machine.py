"""The core against a model, with crashes: whatever happens, its journal tells where it stands.

A driver is played by hypothesis: chores end well and badly, lose their nodes, are lost sight of,
cancelled, retried and reprioritised; results are damaged; the driver is killed between any two
records and a new one takes over from the journal. ``MATENSEMBLE_LONG=1`` looks much longer.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from matensemble.chore import Chore
from matensemble.model import ChoreState, ChoreType, Reason, Resources
from matensemble.policy import ChorePolicy, OnFailure, Retry
from matensemble.records import (
    JournalRecord,
    RecordKind,
    decode_journal_line,
    encode_journal_record,
    journal_stamp,
)
from matensemble.references import Gather
from matensemble.replay import Replay
from matensemble.runtime.scheduler import events as ev
from matensemble.runtime.scheduler.instructions import Cancel, Delay, Record, Submit
from matensemble.runtime.scheduler.policy import Policy
from matensemble.runtime.scheduler.resources import Allocation, Node
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.runtime.scheduler.states import LIVE, Phase

ALLOCATION = Allocation((Node("n0", 4, 1), Node("n1", 2), Node("n2", 4)))
UNENDED = (ChoreState.BLOCKED, ChoreState.READY)
BAD = [
    Reason.EXCEPTION,
    Reason.NONZERO_EXIT,
    Reason.NODE_FAILURE,
    Reason.IO_ERROR,
    Reason.OUT_OF_MEMORY,
    Reason.DURATION_EXCEEDED,
]

policies = st.builds(
    ChorePolicy,
    retry=st.sampled_from(
        [
            None,
            None,
            Retry(2),
            Retry(1, delay=5),
            Retry(3, on=("exception",)),
            Retry(2, grow={"out_of_memory": {"cores_per_task": 2}}),
        ]
    ),
    on_failure=st.sampled_from([*OnFailure, OnFailure.CONTINUE, OnFailure.IGNORE]),
)


@st.composite
def graphs(draw) -> list[Chore]:
    chores: list[Chore] = []
    for i in range(draw(st.integers(1, 12))):
        ups = draw(st.lists(st.integers(0, i - 1), max_size=3, unique=True)) if i else []
        stage = max((chores[u].stage for u in ups), default=0)
        deps: list = [chores[u].id for u in ups]
        if i > 3 and draw(st.integers(0, 6)) == 0:
            deps.append(Gather("g0"))
            stage = 1 + max([stage, *(c.stage for c in chores if c.name == "g0")])
        chores.append(
            Chore(
                id=f"c{i}",
                name=f"g{stage}-{i % 2}" if stage else f"g{i % 3}",
                kind=ChoreType.PYTHON,
                deps=tuple(deps),
                stage=stage,
                policy=draw(policies),
                resources=Resources(
                    cores_per_task=draw(st.integers(1, 3)),
                    duration=draw(st.sampled_from([None, None, 10.0, 1000.0])),
                ),
            )
        )
    return chores


class Driver(RuleBasedStateMachine):
    """One run through any number of drivers."""

    @initialize(chores=graphs(), limit=st.sampled_from([None, None, None, 2]))
    def begin(self, chores: list[Chore], limit: int | None) -> None:
        self.chores = chores
        self.policy = Policy(max_root_failures=limit, max_losses=1)
        self.epoch = 1
        self.journal: list[JournalRecord] = []
        self.committed: dict[str, int] = {}  # chore id → attempt whose result is on the disk
        self.executed: list[tuple[str, int]] = []
        self.start_driver(None)

    def start_driver(self, replay: Replay | None) -> None:
        self.state = SchedulerState(self.policy)
        self.live: dict[tuple[str, int], None] = {}
        self.unfreed: list[tuple[str, int]] = []
        self.delays: list[tuple[str, int]] = []
        self.tell(ev.AllocationLearned(ALLOCATION))
        for chore in self.chores:
            if replay is None:
                self.tell(ev.ChoreAdded(chore))
                continue
            standing = replay.standing(chore.id)
            if standing.is_live:  # what the executor, or the result, says of it comes later
                self.live[chore.id, standing.attempt] = None
            self.tell(ev.ChoreRestored(chore, standing), is_restoring=True)

    def tell(self, event: ev.Event, is_restoring: bool = False) -> None:
        for order in self.state.handle(event):
            if isinstance(order, Record):
                self.write(order)
            elif isinstance(order, Submit):
                key = (order.chore.id, order.attempt)
                assert key not in self.executed, "an attempt was made twice"
                assert order.chore.id not in self.committed, "a committed chore ran again"
                self.executed.append(key)
                self.live[key] = None
            elif isinstance(order, Cancel):
                assert (order.chore_id, order.attempt) in self.live
            elif isinstance(order, Delay):
                self.delays.append((order.chore_id, order.attempt))
        if not is_restoring:
            self.state.validate()

    def write(self, record: Record) -> None:
        """Journal a record, through its encoding."""
        line = encode_journal_record(
            len(self.journal) + 1,
            journal_stamp(self.epoch, 0.0, 0.0),
            record.kind,
            record.chore_id,
            record.attempt,
            record.fields,
        )
        self.journal.append(decode_journal_line(line))
        if record.kind is RecordKind.REVOKED:
            self.committed.pop(record.chore_id, None)

    def one_of(self, data, keys):
        return data.draw(st.sampled_from(sorted(keys)))

    # --- what happens -------------------------------------------------------------------------

    @rule(time_left=st.sampled_from([None, None, None, 100.0]))
    def consider_starts(self, time_left: float | None) -> None:
        self.tell(ev.StartsConsidered(time_left))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def complete(self, data) -> None:
        key = self.one_of(data, self.live)
        self.end(key, None, 0)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), reason=st.sampled_from(BAD))
    def end_badly(self, data, reason: Reason) -> None:
        self.end(self.one_of(data, self.live), reason, 1)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def be_cancelled(self, data) -> None:
        self.end(self.one_of(data, self.live), Reason.CANCELLED, -15)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def find_a_culprit(self, data) -> None:
        key = self.one_of(data, self.live)
        upstream = self.state.entry(key[0]).chore.upstream
        if upstream:
            culprit = data.draw(st.sampled_from(upstream))
            self.end(key, Reason.RESULT_CORRUPT, 1, culprit)

    def end(self, key, reason, exit_code, culprit=None) -> None:
        del self.live[key]
        self.unfreed.append(key)
        if key[0] in self.committed:  # by a driver that was killed before it could write it
            reason, exit_code, culprit = None, 0, None
        if reason is None and self.state.entry(key[0]).state in LIVE:
            self.committed[key[0]] = key[1]
        event = ev.ChoreFinished(*key, reason, exit_code, "detail", "ValueError", culprit)
        self.tell(event)
        self.tell(event)  # an executor may repeat itself

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def lose_sight(self, data) -> None:
        key = self.one_of(data, self.live)
        if key[0] in self.committed:
            self.end(key, None, 0)  # its result is the evidence
            return
        del self.live[key]
        self.tell(ev.AttemptLost(*key, "gone"))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def report_start(self, data) -> None:
        key = self.one_of(data, self.live)
        self.tell(ev.ChoreSubmitted(*key, "job"))
        self.tell(ev.ChoreStarted(*key, "n0"))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def exceed_a_limit(self, data) -> None:
        key = self.one_of(data, self.live)
        self.tell(ev.LimitExceeded(*key, Reason.IDLE_TIMEOUT, "silent"))

    @precondition(lambda self: self.unfreed)
    @rule(data=st.data())
    def free(self, data) -> None:
        key = self.one_of(data, self.unfreed)
        self.unfreed.remove(key)
        self.tell(ev.ResourcesFreed(*key))

    @precondition(lambda self: self.delays)
    @rule(data=st.data())
    def end_delay(self, data) -> None:
        key = self.one_of(data, self.delays)
        self.delays.remove(key)
        self.tell(ev.DelayOver(*key))

    @rule(lost=st.frozensets(st.integers(0, 2), max_size=1), back=st.frozensets(st.integers(0, 2)))
    def change_nodes(self, lost: frozenset[int], back: frozenset[int]) -> None:
        self.tell(ev.NodesChanged(lost, back))

    # --- what people ask ----------------------------------------------------------------------

    @rule(data=st.data())
    def retry(self, data) -> None:
        chosen = data.draw(
            st.lists(st.sampled_from([c.id for c in self.chores]), max_size=3, unique=True)
        )
        self.tell(ev.RetryRequested(tuple(chosen)))

    @rule(data=st.data())
    def cancel(self, data) -> None:
        self.tell(ev.CancelRequested((data.draw(st.sampled_from(self.chores)).id,)))

    @rule(data=st.data(), nice=st.integers(-3, 3))
    def prioritise(self, data, nice: int) -> None:
        self.tell(ev.PriorityChanged((data.draw(st.sampled_from(self.chores)).id,), nice))

    @rule(data=st.data())
    def extend(self, data) -> None:
        self.tell(ev.DurationExtended(data.draw(st.sampled_from(self.chores)).id, 60.0))

    @rule()
    def pause(self) -> None:
        self.tell(ev.PauseRequested())

    @rule()
    def go_on(self) -> None:
        self.tell(ev.ResumeRequested())

    @precondition(lambda self: len(self.journal) > 20)
    @rule(signal=st.sampled_from([None, 10]))
    def drain(self, signal: int | None) -> None:
        self.tell(ev.DrainRequested("time", signal))

    @precondition(lambda self: len(self.journal) > 20)
    @rule()
    def stop(self) -> None:
        self.tell(ev.CancelRequested())

    # --- crashes ------------------------------------------------------------------------------

    @rule(data=st.data())
    def be_killed_and_resumed(self, data) -> None:
        """Kill the driver; perhaps its last records did not reach the disk."""
        lost = data.draw(st.integers(0, min(4, len(self.journal))), "records that were lost")
        cut = self.journal[: len(self.journal) - lost] if lost else self.journal
        # A record is written before its order is carried out: what was executed is in the journal.
        known = {(r.chore_id, r.attempt) for r in cut if r.kind == RecordKind.SUBMIT_INTENT}
        if not set(self.executed) <= known or self.lost_a_commit(cut):
            cut = self.journal
        self.journal = list(cut)
        self.epoch += 1
        self.start_driver(Replay.of(self.journal))
        self.state.validate()
        self.compare()

    def lost_a_commit(self, cut: list[JournalRecord]) -> bool:
        replay = Replay.of(cut)
        return any(
            replay.standing(c).state is not ChoreState.COMPLETED and not replay.standing(c).is_live
            for c in self.committed
        )

    # --- what must hold -----------------------------------------------------------------------

    @invariant()
    def compare(self) -> None:
        """The journal, folded, is the live state."""
        if not hasattr(self, "state"):
            return
        replay = Replay.of(self.journal)
        for entry in self.state:
            told = replay.standing(entry.chore.id)
            state = ChoreState.BLOCKED if entry.state is ChoreState.READY else entry.state
            assert (told.state, told.attempt) == (state, entry.attempt), entry.chore.id
            assert (told.retries, told.losses) == (entry.past.retries, entry.past.losses)
            assert (told.nice or 0) == entry.chore.nice
            if entry.state in LIVE:
                assert told.is_cancelling == entry.is_cancelling
            asked = told.resources
            if asked is not None:
                assert Resources.from_json(asked) == entry.chore.resources
            if entry.state.is_terminal:
                assert (told.reason, told.root) == (entry.reason, entry.root)
                assert told.exit_code == entry.exit_code
                assert told.detail == entry.detail
            names = sorted(ALLOCATION.nodes[index].name for index in entry.past.avoid)
            assert sorted(told.avoid) == names

    @invariant()
    def keep_what_is_committed(self) -> None:
        if not hasattr(self, "state"):
            return
        for chore_id, attempt in self.committed.items():
            entry = self.state.entry(chore_id)
            assert entry.attempt == attempt
            assert entry.state is ChoreState.COMPLETED or entry.state in LIVE

    def teardown(self) -> None:
        """Let what is left run to its end: it must have one."""
        if not hasattr(self, "state") or self.state.phase not in (Phase.STARTING, Phase.PAUSED):
            return
        self.tell(ev.NodesChanged(back=frozenset({0, 1, 2})))
        self.tell(ev.ResumeRequested())
        for _ in range(40 * len(self.chores)):
            for key in [*self.delays]:
                self.tell(ev.DelayOver(*key))
            self.delays.clear()
            for key in [*self.unfreed]:
                self.tell(ev.ResourcesFreed(*key))
            self.unfreed.clear()
            self.tell(ev.StartsConsidered())
            for key in [*self.live]:
                self.end(key, None, 0)
            if self.state.is_finished or self.state.is_out_of_time:
                break
        assert self.state.is_finished or self.state.is_out_of_time, "the run does not end"
        for key in self.unfreed:
            self.tell(ev.ResourcesFreed(*key))
        assert self.state.ledger.free_cores == ALLOCATION.num_cores


Driver.TestCase.settings = settings(
    max_examples=1500 if os.environ.get("MATENSEMBLE_LONG") else 60,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestDriver = pytest.mark.slow(Driver.TestCase)
