"""The scheduler's state: the only thing that changes where a chore stands.

`SchedulerState.handle(event)` takes a fact and returns orders; it reads no clock, file, thread or
Flux handle. The engine is its only caller. Every event costs O(log n) plus the chores it changes.

Gathers
-------
A chore that gathers a group becomes ready when every chore of a lower stage has ended (and its
other dependencies completed); see `matensemble.dag` for stages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from matensemble.chore import Chore
from matensemble.model import ChoreState, Reason
from matensemble.records import RecordKind
from matensemble.runtime.scheduler import events as ev
from matensemble.runtime.scheduler.entry import Entry, Group, Transition
from matensemble.runtime.scheduler.instructions import Cancel, Instruction, Record, Submit
from matensemble.runtime.scheduler.invariants import validate
from matensemble.runtime.scheduler.policy import Policy
from matensemble.runtime.scheduler.resources import Allocation, Ledger, Shape
from matensemble.runtime.scheduler.starter import Start, Starter
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
    TRANSITIONS,
    Phase,
)
from matensemble.runtime.scheduler.story import Story, tell_story
from matensemble.status import MAX_ROOT_FAILURES, Counts, RootFailure

HISTORY_LENGTH = 1000

_END_RECORDS = {
    COMPLETED: RecordKind.COMPLETED,
    FAILED: RecordKind.FAILED,
    CANCELLED: RecordKind.CANCELLED,
    SKIPPED: RecordKind.SKIPPED,
}


class SchedulerState:
    """All chores, what is free, and what to do next."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.phase = Phase.STARTING
        self.root_failures: list[RootFailure] = []
        self.num_root_failures = 0
        self._history: deque[tuple[str, ChoreState, ChoreState, type]] = deque(
            maxlen=HISTORY_LENGTH
        )
        self._starter = Starter(self.policy)
        self._entries: dict[str, Entry] = {}
        self._groups: dict[str, Group] = {}
        self._total: dict[ChoreState, int] = dict.fromkeys(ChoreState, 0)
        self._live: dict[str, Entry] = {}  # an attempt is with the executor
        self._unended: list[int] = []  # chores that have not ended, by stage
        self._stage = 0  # lowest stage that has such chores
        self._gathering: dict[int, list[Entry]] = {}  # waiting for the stages below
        self._event: type = object
        self._out: list[Instruction] = []

    # --- reading ------------------------------------------------------------------------------

    def __contains__(self, chore_id: object) -> bool:
        return chore_id in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def entry(self, chore_id: str) -> Entry:
        """Return a chore and where it stands; raises KeyError for an unknown id."""
        return self._entries[chore_id]

    def members(self, group: str) -> list[Entry]:
        """Return the chores of a group in the order of their admission."""
        known = self._groups.get(group)
        return known.members if known is not None else []

    @property
    def ledger(self) -> Ledger:
        """What is free, node by node."""
        return self._starter.ledger

    @property
    def allocation(self) -> Allocation:
        """The nodes that chores may use."""
        return self.ledger.allocation

    @property
    def num_live(self) -> int:
        """Attempts that are with the executor."""
        return len(self._live)

    @property
    def num_ready(self) -> int:
        """Chores that wait for resources only."""
        return self._total[READY]

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do in this phase."""
        if self._live:
            return False
        if self.phase is Phase.INTERRUPTING:
            return True
        return not self._total[READY] and not self._total[BLOCKED]

    def counts(self) -> Counts:
        """Return how many chores stand where."""
        return _counts(self._total)

    def counts_by_group(self) -> dict[str, Counts]:
        """Return the same by group."""
        return {name: _counts(group.counts) for name, group in self._groups.items()}

    @property
    def history(self) -> list[Transition]:
        """The latest changes of state, oldest first; at most `HISTORY_LENGTH`."""
        return [
            Transition(chore_id, before, after, event.__name__)
            for chore_id, before, after, event in self._history
        ]

    @property
    def waiter(self) -> Entry | None:
        """The first ready chore, in order, that did not fit when starts were last considered."""
        return self._starter.waiter

    def story(self, chore_id: str) -> Story:
        """Return why a chore is in its state. O(dependencies)."""
        return tell_story(self, self._entries[chore_id])

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
        if self._entries:
            raise ValueError("the allocation must be known before the first chore")
        self._starter.begin(event.allocation)

    def _on_added(self, event: ev.ChoreAdded) -> None:
        entry = self._admit(event.chore)
        if event.parent is not None:
            self._record_added(event.chore, event.parent)
        root = self._link(entry)
        if root is not None:
            self._skip(entry, root)
        elif self.phase is Phase.STOPPING:
            self._cancel_now(entry)
        elif not self._starter.can_ever_fit(entry.shape):
            self._fail(
                entry,
                Reason.EXCEEDS_ALLOCATION,
                detail=f"asks for {event.chore.resources.describe()}; "
                f"the allocation has {self.allocation.describe() or 'no usable node'}. "
                "Ask for less, or run it in a larger allocation",
            )
        elif not entry.missing:
            self._become_ready(entry)

    def _on_spec_rejected(self, event: ev.SpecRejected) -> None:
        entry = self._admit(event.chore)
        self._record_added(event.chore, event.parent)
        self._fail(entry, event.reason, detail=event.detail)

    def _on_starts(self, _: ev.StartsConsidered) -> None:
        if self.phase is not Phase.STARTING:
            return
        if self._gathering:
            self._release_gathers()
        if not self._total[READY]:
            self._starter.forget_waiter()
            return
        for start in self._starter.starts():
            self._submit(start)

    def _on_submitted(self, event: ev.ChoreSubmitted) -> None:
        if self._live_attempt(event) is not None:
            fields = {"j": event.jobid}
            self._out.append(Record(RecordKind.SUBMITTED, event.chore_id, event.attempt, fields))

    def _on_placed(self, event: ev.ChorePlaced) -> None:
        entry = self._holding_attempt(event)
        if entry is not None:
            self._starter.correct(entry, event.placement)

    def _on_started(self, event: ev.ChoreStarted) -> None:
        entry = self._live_attempt(event)
        if entry is not None and entry.state is SUBMITTED:
            self._move(entry, RUNNING)
            fields = {"h": event.host} if event.host else None
            self._out.append(Record(RecordKind.STARTED, event.chore_id, event.attempt, fields))

    def _on_finished(self, event: ev.ChoreFinished) -> None:
        entry = self._live_attempt(event)
        if entry is None:
            return
        del self._live[event.chore_id]
        self._starter.queued.pop(event.chore_id, None)
        entry.exit_code = event.exit_code
        if event.reason is None:
            self._complete(entry)
        elif event.reason is not Reason.CANCELLED:
            self._fail(entry, event.reason, event.exit_code, event.detail)
        elif self.phase is Phase.INTERRUPTING and not entry.is_cancelling:
            self._move(entry, READY)
            fields = {"d": "interrupted"}
            self._out.append(Record(RecordKind.REQUEUED, event.chore_id, event.attempt, fields))
        else:
            self._cancel_now(entry, event.detail)

    def _on_freed(self, event: ev.ResourcesFreed) -> None:
        entry = self._holding_attempt(event)
        if entry is not None:
            self._starter.give_back(entry)

    def _on_cancel(self, event: ev.CancelRequested) -> None:
        if event.chore_ids is None:
            self._stop()
        else:
            self._cancel_all(event.chore_ids)

    def _on_interrupt(self, event: ev.InterruptRequested) -> None:
        if self.phase is Phase.INTERRUPTING:
            return
        self.phase = Phase.INTERRUPTING
        for entry in self._live.values():
            self._out.append(Cancel(entry.chore.id, entry.attempt))

    def _on_pause(self, _: ev.PauseRequested) -> None:
        if self.phase is Phase.STARTING:
            self.phase = Phase.PAUSED

    def _on_resume(self, _: ev.ResumeRequested) -> None:
        if self.phase is Phase.PAUSED:
            self.phase = Phase.STARTING

    # --- admission ----------------------------------------------------------------------------

    def _admit(self, chore: Chore) -> Entry:
        if chore.id in self._entries:
            raise ValueError(f"{chore.id} was added twice")
        group = self._groups.get(chore.name)
        if group is None:
            group = self._groups[chore.name] = Group()
        entry = Entry(chore, group, Shape.of(chore.resources), len(self._entries))
        self._entries[chore.id] = entry
        group.members.append(entry)
        group.counts[BLOCKED] += 1
        self._total[BLOCKED] += 1
        stage = chore.stage
        while len(self._unended) <= stage:
            self._unended.append(0)
        self._unended[stage] += 1
        self._stage = min(self._stage, stage)
        return entry

    def _link(self, entry: Entry) -> str | None:
        """Connect a new chore to its dependencies; return the root of one that has no result."""
        root: str | None = None
        for chore_id in entry.chore.upstream:
            upstream = self._entries.get(chore_id)
            if upstream is None or upstream is entry:
                raise ValueError(f"{entry.chore.id} depends on {chore_id}, which is not known")
            if upstream.state is COMPLETED:
                continue
            if upstream.state.is_terminal:
                root = upstream.root or chore_id
                continue
            entry.missing += 1
            if upstream.dependents is None:
                upstream.dependents = []
            upstream.dependents.append(entry)
        if entry.chore.gathers:
            # Released when starts are considered: only then is everything of the moment known.
            entry.missing += 1
            self._gathering.setdefault(entry.chore.stage, []).append(entry)
        return root

    def _record_added(self, chore: Chore, parent: str) -> None:
        fields = {"header": chore.to_header(), "parent": parent}
        self._out.append(Record(RecordKind.CHORE_ADDED, chore.id, fields=fields))

    def _submit(self, start: Start) -> None:
        entry, chore = start.entry, start.entry.chore
        entry.attempt += 1
        self._move(entry, SUBMITTED)
        self._live[chore.id] = entry
        self._out.append(Record(RecordKind.SUBMIT_INTENT, chore.id, entry.attempt))
        self._out.append(Submit(chore, entry.attempt, start.placement, start.avoid))

    # --- ending -------------------------------------------------------------------------------

    def _complete(self, entry: Entry) -> None:
        self._end(entry, COMPLETED)
        dependents, entry.dependents = entry.dependents, None
        for dependent in dependents or ():
            self._one_less(dependent)

    def _one_less(self, entry: Entry) -> None:
        entry.missing -= 1
        if not entry.missing and entry.state is BLOCKED:
            self._become_ready(entry)

    def _become_ready(self, entry: Entry) -> None:
        self._move(entry, READY)
        self._starter.push(entry)

    def _fail(
        self, entry: Entry, reason: Reason, exit_code: int | None = None, detail: str = ""
    ) -> None:
        entry.reason, entry.exit_code, entry.detail = reason, exit_code, detail
        self._end(entry, FAILED)
        self.num_root_failures += 1
        if len(self.root_failures) < MAX_ROOT_FAILURES:
            self.root_failures.append(RootFailure(entry.chore.id, reason.value, exit_code, detail))
        self._skip_dependents(entry)
        limit = self.policy.max_root_failures
        if limit is not None and self.num_root_failures >= limit:
            self._stop()

    def _cancel_now(self, entry: Entry, detail: str = "") -> None:
        entry.reason, entry.detail = Reason.CANCELLED, detail
        self._end(entry, CANCELLED)
        self._skip_dependents(entry)

    def _stop(self) -> None:
        """Cancel all that has not ended, and from now on what is added."""
        if self.phase in (Phase.STARTING, Phase.PAUSED):
            self.phase = Phase.STOPPING
            self._cancel_all(self._entries)

    def _cancel_all(self, chore_ids: Iterable[str]) -> None:
        for chore_id in list(chore_ids):
            entry = self._entries[chore_id]
            if entry.state.is_terminal or entry.is_cancelling:
                continue
            entry.is_cancelling = True
            if entry.state in LIVE:
                self._out.append(Cancel(chore_id, entry.attempt))
            else:
                self._cancel_now(entry)

    def _skip(self, entry: Entry, root: str) -> None:
        entry.reason, entry.root = Reason.DEPENDENCY_FAILED, root
        self._end(entry, SKIPPED)

    def _skip_dependents(self, failed: Entry) -> None:
        """Skip everything downstream; a worklist, because chains can be very long."""
        work = [failed]
        while work:
            entry = work.pop()
            dependents, entry.dependents = entry.dependents, None
            for dependent in dependents or ():
                if dependent.state is BLOCKED:
                    dependent.reason, dependent.root = Reason.DEPENDENCY_FAILED, failed.chore.id
                    self._end(dependent, SKIPPED)
                    work.append(dependent)

    def _end(self, entry: Entry, state: ChoreState) -> None:
        """Bring a chore to a terminal state and record it."""
        self._move(entry, state)
        self._unended[entry.chore.stage] -= 1
        fields: dict[str, Any] = {}
        if state is SKIPPED:
            fields["u"] = entry.root
        elif entry.reason is not None:
            fields["r"] = entry.reason.value
        if entry.exit_code or (entry.exit_code == 0 and state is not COMPLETED):
            fields["x"] = entry.exit_code
        if entry.detail:
            fields["d"] = entry.detail
        kind = _END_RECORDS[state]
        self._out.append(Record(kind, entry.chore.id, entry.attempt or 1, fields or None))

    def _lowest_stage(self) -> int:
        while self._stage < len(self._unended) and not self._unended[self._stage]:
            self._stage += 1
        return self._stage

    def _release_gathers(self) -> None:
        lowest = self._lowest_stage() if self._gathering else 0
        for stage in [stage for stage in self._gathering if stage <= lowest]:
            for entry in self._gathering.pop(stage):
                self._one_less(entry)

    # --- bookkeeping --------------------------------------------------------------------------

    def _move(self, entry: Entry, state: ChoreState) -> None:
        before = entry.state
        if state not in TRANSITIONS[before]:
            raise ValueError(f"{entry.chore.id} cannot go from {before} to {state}")
        entry.state = state
        counts = entry.group.counts
        counts[before] -= 1
        counts[state] += 1
        self._total[before] -= 1
        self._total[state] += 1
        self._history.append((entry.chore.id, before, state, self._event))

    def _live_attempt(
        self, event: ev.ChoreSubmitted | ev.ChoreStarted | ev.ChoreFinished
    ) -> Entry | None:
        entry = self._live.get(event.chore_id)
        return entry if entry is not None and entry.attempt == event.attempt else None

    def _holding_attempt(self, event: ev.ChorePlaced | ev.ResourcesFreed) -> Entry | None:
        entry = self._entries.get(event.chore_id)
        if entry is None or entry.attempt != event.attempt:
            return None
        return entry if entry.placement is not None or event.chore_id in self._live else None

    def validate(self) -> None:
        """Assert every invariant; O(n), for tests and for hunting a defect."""
        validate(self)


def _counts(counts: dict[ChoreState, int]) -> Counts:
    return Counts(
        total=sum(counts.values()),
        pending=counts[BLOCKED] + counts[READY] + counts[SUBMITTED],
        running=counts[RUNNING],
        completed=counts[COMPLETED],
        failed=counts[FAILED] + counts[SKIPPED],
        cancelled=counts[CANCELLED],
    )


_HANDLERS: dict[type, Callable[[SchedulerState, Any], None]] = {
    ev.AllocationLearned: SchedulerState._on_allocation,
    ev.ChoreAdded: SchedulerState._on_added,
    ev.SpecRejected: SchedulerState._on_spec_rejected,
    ev.StartsConsidered: SchedulerState._on_starts,
    ev.ChoreSubmitted: SchedulerState._on_submitted,
    ev.ChorePlaced: SchedulerState._on_placed,
    ev.ChoreStarted: SchedulerState._on_started,
    ev.ChoreFinished: SchedulerState._on_finished,
    ev.ResourcesFreed: SchedulerState._on_freed,
    ev.CancelRequested: SchedulerState._on_cancel,
    ev.InterruptRequested: SchedulerState._on_interrupt,
    ev.PauseRequested: SchedulerState._on_pause,
    ev.ResumeRequested: SchedulerState._on_resume,
}
