"""The scheduler's state: the only thing that changes where a chore stands.

`SchedulerState.handle(event)` takes a fact and returns orders; it reads no clock, file, thread or
Flux handle. The engine is its only caller. Every event about a chore costs O(log n) plus the chores
it changes; only what a person asks for (`RetryRequested`) looks at all of them.

Gathers
-------
A chore that gathers a group becomes ready when every chore of a lower stage has ended (and its
other dependencies completed); see `matensemble.dag` for stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from matensemble.chore import Chore
from matensemble.model import ChoreState, Reason
from matensemble.policy import OnFailure
from matensemble.records import RecordKind
from matensemble.runtime.scheduler import assigning, attempts, events as ev, requests, submitting
from matensemble.runtime.scheduler.assigning import Ran, where_it_ran
from matensemble.runtime.scheduler.entry import Entry, Transition
from matensemble.runtime.scheduler.instructions import Cancel, Instruction, Record
from matensemble.runtime.scheduler.invariants import validate
from matensemble.runtime.scheduler.policy import Policy
from matensemble.runtime.scheduler.resources import Allocation, Ledger
from matensemble.runtime.scheduler.restoring import restore
from matensemble.runtime.scheduler.retrying import Failure
from matensemble.runtime.scheduler.roster import Roster
from matensemble.runtime.scheduler.starter import Starter
from matensemble.runtime.scheduler.states import (
    BLOCKED,
    CANCELLED,
    COMPLETED,
    FAILED,
    LIVE,
    READY,
    RUNNING,
    SKIPPED,
    SUBMITTED,
    Phase,
)
from matensemble.runtime.scheduler.story import Story, tell_story
from matensemble.runtime.scheduler.tiers import Tiers
from matensemble.status import MAX_ROOT_FAILURES, Counts, RootFailure

_END_RECORDS = {
    COMPLETED: RecordKind.COMPLETED,
    FAILED: RecordKind.FAILED,
    CANCELLED: RecordKind.CANCELLED,
    SKIPPED: RecordKind.SKIPPED,
}
_ON_ITS_WAY = frozenset({READY, SUBMITTED, RUNNING})


class SchedulerState:
    """All chores, what is free, and what to do next.

    Attributes
    ----------
    policy
        What the contract leaves open.
    phase
        What it is willing to do.
    root_failures
        The first failures that are no consequences of others.
    num_root_failures
        How many there are; of these, `num_ignored` by their own policy.
    num_delayed
        Chores that wait before another attempt.
    is_signalled
        Whether what runs was told by a signal that the allocation ends.
    stopped_because
        Why everything is cancelled, empty where it is not.
    jobids
        Job ids of pooled attempts of which no start was told: recorded if they run that long.
    is_disturbed
        Whether a chore lost a result that its dependents had counted on, so that one may wait for
        more than it has counted.
    roster, starter, tiers
        The parts of the state, for the modules of this package that change it with it.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.phase = Phase.STARTING
        self.root_failures: list[RootFailure] = []
        self.num_root_failures = 0
        self.num_ignored = 0
        self.roster = Roster()
        self.starter = Starter(self.policy)
        self.tiers = Tiers(self.policy.workers, self.policy.tiers)
        self.num_delayed = 0
        self.is_signalled = False
        self.stopped_because = ""
        self.is_disturbed = False
        self._has_unchecked_ready = False
        self.jobids: dict[str, str] = {}
        self._event: type = object
        self._out: list[Instruction] = []

    # --- reading ------------------------------------------------------------------------------

    def __contains__(self, chore_id: object) -> bool:
        return chore_id in self.roster.entries

    def __len__(self) -> int:
        return len(self.roster.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.roster)

    def entry(self, chore_id: str) -> Entry:
        """Return a chore and where it stands; raises KeyError for an unknown id."""
        return self.roster.entries[chore_id]

    def members(self, group: str) -> list[Entry]:
        """Return the chores of a group in the order of their admission."""
        known = self.roster.groups.get(group)
        return known.members if known is not None else []

    @property
    def ledger(self) -> Ledger:
        """What is free, node by node."""
        return self.starter.ledger

    @property
    def allocation(self) -> Allocation:
        """The nodes that chores may use; those that are lost have nothing."""
        return self.ledger.allocation

    @property
    def num_live(self) -> int:
        """Attempts that are with the executor."""
        return len(self.roster.live)

    @property
    def num_ready(self) -> int:
        """Chores that wait for resources only."""
        return self.roster.total[READY]

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do in this phase."""
        if self.roster.live:
            return False
        if self.phase in (Phase.INTERRUPTING, Phase.DRAINING):
            return True
        return not self.roster.total[READY] and not self.roster.total[BLOCKED]

    @property
    def is_out_of_time(self) -> bool:
        """Whether all that is left asks for more time than was left when starts were considered."""
        too_long = self.starter.too_long
        if not too_long or self.roster.live or self.num_delayed:
            return False
        ready = sum(entry.state is READY for entry in too_long.values())
        return bool(ready) and ready == self.roster.total[READY]

    def counts(self) -> Counts:
        """Return how many chores stand where."""
        return self.roster.counts()

    def counts_by_group(self) -> dict[str, Counts]:
        """Return the same by group."""
        return self.roster.counts_by_group()

    @property
    def history(self) -> list[Transition]:
        """The latest changes of state, oldest first."""
        return self.roster.history

    @property
    def waiter(self) -> Entry | None:
        """The first ready chore, in order, that did not fit when starts were last considered."""
        return self.starter.waiter

    def story(self, chore_id: str) -> Story:
        """Return why a chore is in its state. O(dependencies)."""
        return tell_story(self, self.entry(chore_id))

    # --- the one door -------------------------------------------------------------------------

    def handle(self, event: ev.Event) -> list[Instruction]:
        """Take a fact, change the state, and return what is to be done, in order.

        Facts about attempts that are not live any more are ignored, so an executor may repeat or
        delay them.

        Raises
        ------
        ValueError
            If the event contradicts the state: an unknown dependency, an id that is taken.
        """
        self._event = type(event)
        out: list[Instruction] = []
        self._out = out
        _HANDLERS[type(event)](self, event)
        return out

    def _on_allocation(self, event: ev.AllocationLearned) -> None:
        if len(self):
            raise ValueError("the allocation must be known before the first chore")
        self.starter.begin(event.allocation)

    def _on_added(self, event: ev.ChoreAdded) -> None:
        entry = self.roster.admit(event.chore)
        if event.parent is not None:
            self._record_added(event.chore, event.parent)
        self.decide_anew(entry)

    def _on_spec_rejected(self, event: ev.SpecRejected) -> None:
        entry = self.roster.admit(event.chore)
        self._record_added(event.chore, event.parent)
        self.fail(entry, Failure(event.reason, None, event.detail))

    def _on_restored(self, event: ev.ChoreRestored) -> None:
        restore(self, event.chore, event.standing)

    def _on_starts(self, event: ev.StartsConsidered) -> None:
        if self.phase is not Phase.STARTING:
            return
        if self.roster.gathering:
            for entry in self.roster.take_released_gathers():
                self.one_less(entry)
        if not self.roster.total[READY]:
            self.starter.forget_waiter()
            return
        if self._has_unchecked_ready:
            self._hold_back_what_cannot_run()
        has_probes = True
        while has_probes:
            for start in self.starter.starts(event.time_left, event.pool_look_ahead):
                submitting.submit(self, start)
            has_probes = assigning.replace_late_probes(self)

    def _on_placed(self, event: ev.ChorePlaced) -> None:
        entry = self._holding_attempt(event)
        if entry is not None:
            self.starter.correct(entry, event.placement)

    def _on_finished(self, event: ev.ChoreFinished) -> None:
        entry = self.live_attempt(event)
        if entry is None:
            return
        ran = where_it_ran(event) if entry.state is SUBMITTED else None
        self.bury(entry)
        entry.exit_code = event.exit_code
        if self.tiers.is_probing(entry.chore):
            assigning.learn(self, entry, event)
        if event.reason is None:
            self._end(entry, COMPLETED, ran)
            self.release(entry)
        else:
            attempts.end_badly(self, entry, event, ran)

    def _on_nodes(self, event: ev.NodesChanged) -> None:
        for index in event.lost:
            self.ledger.lose(index)
        for index in event.back - event.lost:
            self.ledger.regain(index)

    def _on_freed(self, event: ev.ResourcesFreed) -> None:
        entry = self._holding_attempt(event)
        if entry is not None:
            self.starter.give_back(entry)
        else:
            self.starter.give_back_lingering(event.chore_id, event.attempt)

    # --- admission ----------------------------------------------------------------------------

    def decide_anew(self, entry: Entry) -> None:
        """Decide where a blocked chore goes, from where its dependencies stand."""
        root = self.link(entry)
        if root is not None:
            self.skip(entry, root)
        elif self.phase is Phase.STOPPING:
            self.cancel_now(entry)
        elif not self.starter.can_ever_fit(entry.shape):
            self.fail(
                entry,
                Failure(
                    Reason.EXCEEDS_ALLOCATION,
                    None,
                    f"asks for {entry.chore.resources.describe()}; "
                    f"the allocation has {self.allocation.describe() or 'no usable node'}. "
                    "Ask for less, or run it in a larger allocation",
                ),
            )
        elif not entry.missing:
            self.become_ready(entry)

    def link(self, entry: Entry) -> str | None:
        """Connect a chore to its dependencies; return the root of one that has no result."""
        root: str | None = None
        entry.missing = 0
        for chore_id in entry.chore.upstream:
            upstream = self.roster.entries.get(chore_id)
            if upstream is None or upstream is entry:
                raise ValueError(f"{entry.chore.id} depends on {chore_id}, which is not known")
            if upstream.is_satisfied:
                continue
            if upstream.state.is_terminal:
                root = upstream.root or chore_id
                continue
            self.wait_for(entry, upstream)
        if entry.chore.gathers:
            # Released when starts are considered: only then is everything of the moment known.
            entry.missing += 1
            self.roster.gathering.setdefault(entry.chore.stage, []).append(entry)
        return root

    def wait_for(self, entry: Entry, upstream: Entry) -> None:
        """Let a chore wait for another one."""
        entry.missing += 1
        if upstream.dependents is None:
            upstream.dependents = []
        upstream.dependents.append(entry)

    def order(self, instruction: Instruction) -> None:
        """Order something, after what was ordered for this event before."""
        self._out.append(instruction)

    def record(self, kind: RecordKind, entry: Entry, fields: dict[str, Any] | None = None) -> None:
        """Order a record about a chore."""
        self._out.append(Record(kind, entry.chore.id, entry.attempt or 1, fields))

    def _record_added(self, chore: Chore, parent: str) -> None:
        fields = {"header": chore.to_header(), "parent": parent}
        self._out.append(Record(RecordKind.CHORE_ADDED, chore.id, fields=fields))

    def disturb(self) -> None:
        """Note that a result is gone on which dependents had counted.

        Who they are is not remembered: the ready are looked at once, and the blocked when they
        would become ready.
        """
        self.is_disturbed = self._has_unchecked_ready = True

    def _hold_back_what_cannot_run(self) -> None:
        """Let the ready wait for results that are made again. O(ready chores), and rare."""
        self._has_unchecked_ready = False
        for entry in [*self.starter.waiting(), *self.tiers.waiting()]:
            if entry.state is READY and not self._has_all(entry):
                self.move(entry, BLOCKED)
                self.decide_anew(entry)

    def _has_all(self, entry: Entry) -> bool:
        return all(self.entry(upstream).is_satisfied for upstream in entry.chore.upstream)

    def bury(self, entry: Entry) -> None:
        """Note that the live attempt of a chore is over."""
        del self.roster.live[entry.chore.id]
        self.starter.queued.pop(entry.chore.id, None)
        self.jobids.pop(entry.chore.id, None)

    # --- ending -------------------------------------------------------------------------------

    def release(self, entry: Entry) -> None:
        """Let the dependents of a chore wait for one less."""
        dependents, entry.dependents = entry.dependents, None
        for dependent in dependents or ():
            self.one_less(dependent)

    def one_less(self, entry: Entry) -> None:
        """Note that one of the things a chore waits for is there."""
        entry.missing -= 1
        if entry.missing or entry.state is not BLOCKED:
            return
        if self.is_disturbed and not self._has_all(entry):
            self.decide_anew(entry)
        else:
            self.become_ready(entry)

    def become_ready(self, entry: Entry) -> None:
        """Let a chore wait for resources only."""
        self.move(entry, READY)
        assigning.enlist(self, entry)

    def fail(self, entry: Entry, failure: Failure, ran: Ran = None) -> None:
        """End a chore that has no live attempt as failed, with all consequences.

        Parameters
        ----------
        entry, failure
            Which, and of what.
        ran
            Further fields of the record.
        """
        entry.reason, entry.exit_code, entry.detail = failure[:3]
        self._end(entry, FAILED, ran)
        self.count_failure(entry)
        if entry.is_ignoring:
            self.release(entry)
            return
        self._skip_dependents(entry)
        limit = self.policy.max_root_failures
        num_counted = self.num_root_failures - self.num_ignored
        if entry.chore.policy.on_failure is OnFailure.ABORT:
            self.stop(f"the run stopped because {entry.chore.id} failed")
        elif limit is not None and num_counted >= limit:
            what = "the first failure" if limit == 1 else f"{limit} failures"
            self.stop(f"the run stopped at {what}")

    def count_failure(self, entry: Entry) -> None:
        """Note a failure that is no consequence of another."""
        self.num_root_failures += 1
        self.num_ignored += entry.is_ignoring
        if len(self.root_failures) < MAX_ROOT_FAILURES:
            self.root_failures.append(self._root_failure(entry))

    @staticmethod
    def _root_failure(entry: Entry) -> RootFailure:
        reason = entry.reason.value if entry.reason else ""
        return RootFailure(entry.chore.id, reason, entry.exit_code, entry.detail)

    def uncount_failure(self, entry: Entry) -> None:
        """Forget a failure that is to be tried again."""
        self.num_root_failures -= 1
        self.num_ignored -= entry.is_ignoring
        self.root_failures = [f for f in self.root_failures if f.chore_id != entry.chore.id]

    def list_failures_anew(self) -> None:
        """Name the first failures that are left, after some were tried again. O(chores)."""
        failed = (entry for entry in self if entry.state is FAILED)
        first = islice(failed, MAX_ROOT_FAILURES)
        self.root_failures = [self._root_failure(entry) for entry in first]

    def cancel_now(self, entry: Entry, detail: str = "", ran: Ran = None) -> None:
        """Cancel a chore that has no live attempt; `ran` as for `fail`."""
        attempts.end_delay(self, entry)
        entry.reason, entry.detail = Reason.CANCELLED, detail or self.stopped_because
        self._end(entry, CANCELLED, ran)
        self._skip_dependents(entry)

    def stop(self, why: str) -> None:
        """Cancel all that has not ended, and from now on what is added.

        Parameters
        ----------
        why
            Said of every chore that this cancels, and of the run.
        """
        if self.phase in (Phase.STARTING, Phase.PAUSED, Phase.DRAINING):
            self.phase, self.stopped_because = Phase.STOPPING, why
            self.cancel_all(self.roster.entries)

    def cancel_all(self, chore_ids: Iterable[str]) -> None:
        """Cancel what has not ended of some chores."""
        for chore_id in list(chore_ids):
            entry = self.entry(chore_id)
            if entry.state.is_terminal or entry.is_cancelling:
                continue
            if entry.state in LIVE:
                entry.is_cancelling = True  # and on the record: it outlives this driver
                self.record(RecordKind.CHANGED, entry, {"cancel": True})
                self._out.append(Cancel(chore_id, entry.attempt))
            else:
                self.cancel_now(entry)

    def skip(self, entry: Entry, root: str) -> None:
        """End a chore that needs what another one does not have."""
        entry.reason, entry.root = Reason.DEPENDENCY_FAILED, root
        self._end(entry, SKIPPED)

    def _skip_dependents(self, failed: Entry) -> None:
        """Skip everything downstream; a worklist, because chains can be very long."""
        work = [failed]
        while work:
            entry = work.pop()
            dependents, entry.dependents = entry.dependents, None
            for dependent in dependents or ():
                if dependent.state is not BLOCKED:
                    continue
                self.skip(dependent, failed.root or failed.chore.id)
                if dependent.is_ignoring:
                    self.release(dependent)
                else:
                    work.append(dependent)

    def _end(self, entry: Entry, state: ChoreState, ran: Ran = None) -> None:
        """Bring a chore to a terminal state and record it; `ran` as for `fail`."""
        self.move(entry, state)
        fields: dict[str, Any] = {}
        if state is SKIPPED:
            fields["u"] = entry.root
        elif entry.reason is not None:
            fields["r"] = entry.reason.value
        if entry.exit_code or (entry.exit_code == 0 and state is not COMPLETED):
            fields["x"] = entry.exit_code
        if entry.detail:
            fields["d"] = entry.detail
        if ran:
            fields.update(ran)
        self.record(_END_RECORDS[state], entry, fields or None)

    # --- bookkeeping --------------------------------------------------------------------------

    def move(self, entry: Entry, state: ChoreState) -> None:
        """Bring a chore into another state."""
        self.roster.move(entry, state, self._event)
        if entry.is_probe and state not in _ON_ITS_WAY:
            assigning.end_probe(self, entry)

    def reopen(self, entry: Entry) -> None:
        """Bring a chore that has ended back to the start; `decide_anew` says how it goes on."""
        if entry.state is FAILED:
            self.uncount_failure(entry)
        if entry.is_satisfied:
            self.disturb()
        self.starter.let_linger(entry)
        self.move(entry, BLOCKED)
        entry.reason = entry.exit_code = entry.root = None
        entry.detail, entry.is_cancelling = "", False
        avoid, entry.own_past = entry.past.avoid, None
        if avoid:  # fresh budgets, and the same bad nodes
            entry.remember().avoid = avoid
        self.record(RecordKind.RETRIED, entry)

    def live_attempt(
        self,
        event: ev.ChoreSubmitted
        | ev.ChoreStarted
        | ev.ChoreFinished
        | ev.AttemptLost
        | ev.LimitExceeded,
    ) -> Entry | None:
        """Return the chore of an event if the attempt it is about is live, else None."""
        entry = self.roster.live.get(event.chore_id)
        return entry if entry is not None and entry.attempt == event.attempt else None

    def _holding_attempt(self, event: ev.ChorePlaced | ev.ResourcesFreed) -> Entry | None:
        entry = self.roster.entries.get(event.chore_id)
        if entry is None or entry.attempt != event.attempt:
            return None
        return entry if entry.placement is not None or event.chore_id in self.roster.live else None

    def validate(self) -> None:
        """Assert every invariant; O(n), for tests and for hunting a defect."""
        validate(self)


_HANDLERS: dict[type, Callable[[SchedulerState, Any], None]] = {
    ev.AllocationLearned: SchedulerState._on_allocation,
    ev.ChoreAdded: SchedulerState._on_added,
    ev.ChoreRestored: SchedulerState._on_restored,
    ev.SpecRejected: SchedulerState._on_spec_rejected,
    ev.StartsConsidered: SchedulerState._on_starts,
    ev.ChoreSubmitted: submitting.on_submitted,
    ev.ChorePlaced: SchedulerState._on_placed,
    ev.ChoreStarted: submitting.on_started,
    ev.ChoreFinished: SchedulerState._on_finished,
    ev.AttemptLost: attempts.on_lost,
    ev.DelayOver: attempts.on_delay_over,
    ev.LimitExceeded: attempts.on_limit,
    ev.NodesChanged: SchedulerState._on_nodes,
    ev.LaunchMeasured: assigning.on_launch,
    ev.ProbesOverdue: assigning.on_overdue,
    ev.PoolLost: assigning.on_pool_lost,
    ev.ResourcesFreed: SchedulerState._on_freed,
    ev.CancelRequested: requests.on_cancel,
    ev.RetryRequested: requests.on_retry,
    ev.PriorityChanged: requests.on_priority,
    ev.DurationExtended: requests.on_extended,
    ev.DrainRequested: requests.on_drain,
    ev.InterruptRequested: requests.on_interrupt,
    ev.PauseRequested: requests.on_pause,
    ev.ResumeRequested: requests.on_resume,
}
