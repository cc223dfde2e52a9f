"""What people, signals and the end of the allocation ask of a run as a whole, or of some chores.

Works on the state for `SchedulerState`, its only caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from matensemble.records import RecordKind
from matensemble.runtime.scheduler import events as ev
from matensemble.runtime.scheduler.assigning import enlist
from matensemble.runtime.scheduler.entry import Entry
from matensemble.runtime.scheduler.instructions import Cancel, Extend, Record, Signal
from matensemble.runtime.scheduler.states import (
    BLOCKED,
    CANCELLED,
    FAILED,
    LIVE,
    READY,
    SKIPPED,
    SUBMITTED,
    Phase,
)

if TYPE_CHECKING:
    from matensemble.runtime.scheduler.state import SchedulerState


def on_cancel(state: SchedulerState, event: ev.CancelRequested) -> None:
    """Cancel some chores, or all and what would still join them."""
    if event.chore_ids is None:
        state.stop("the whole run was cancelled")
    else:
        state.cancel_all(event.chore_ids)


def on_retry(state: SchedulerState, event: ev.RetryRequested) -> None:
    """Let chores without a result run again, and what was skipped because of them.

    O(chores of the run): who was skipped because of whom is not remembered.
    """
    _forget_ended_dependents(state)
    reopened = False
    for chore_id in event.chore_ids:
        entry = state.entry(chore_id)
        if entry.state in (FAILED, CANCELLED):
            state.reopen(entry)
            state.decide_anew(entry)
            reopened = True
    if not reopened:
        return
    for entry in state:  # in topological order, so that chains reopen in one pass
        if entry.state is SKIPPED and is_wrongly_skipped(state, entry):
            state.reopen(entry)
            state.decide_anew(entry)
    state.list_failures_anew()


def _forget_ended_dependents(state: SchedulerState) -> None:
    """Leave no chore waiting that has ended: it would wait twice once it is reopened."""
    for entry in state:
        if entry.dependents is not None:
            entry.dependents = [one for one in entry.dependents if one.state is BLOCKED]
    gathering = state.roster.gathering
    for stage, waiting in gathering.items():
        gathering[stage] = [one for one in waiting if one.state is BLOCKED]


def is_wrongly_skipped(state: SchedulerState, entry: Entry) -> bool:
    """Whether a chore could run after all, or is skipped because of one that is to run again.

    In the latter case another one may stand in its way, which is to be named instead.
    """
    if entry.root is not None and state.entry(entry.root).state not in (FAILED, CANCELLED):
        return True
    upstream = (state.entry(chore_id) for chore_id in entry.chore.upstream)
    return all(one.is_satisfied or not one.state.is_terminal for one in upstream)


def on_priority(state: SchedulerState, event: ev.PriorityChanged) -> None:
    """Change the place in the order of chores that have not started."""
    for chore_id in event.chore_ids:
        entry = state.entry(chore_id)
        if entry.state not in (BLOCKED, READY) or entry.chore.nice == event.nice:
            continue
        entry.change(nice=event.nice)
        state.record(RecordKind.CHANGED, entry, {"nice": event.nice})
        if entry.state is READY:
            enlist(state, entry)


def on_extended(state: SchedulerState, event: ev.DurationExtended) -> None:
    """Let a chore run longer; one without a limit needs nothing."""
    entry = state.entry(event.chore_id)
    resources = entry.chore.resources
    if entry.state.is_terminal or resources.duration is None:
        return
    duration = resources.duration + event.seconds
    entry.change(resources=resources.but(duration=duration))
    fields = {"resources": entry.chore.resources.to_json()}
    state.order(Record(RecordKind.CHANGED, event.chore_id, entry.attempt or 1, fields))
    if entry.state in LIVE:
        state.order(Extend(event.chore_id, entry.attempt, duration))


def on_drain(state: SchedulerState, event: ev.DrainRequested) -> None:
    """Start nothing any more, and tell what runs that the time is nearly over.

    What still queues at the executor is taken back, or it would start with no time left.
    """
    if state.phase not in (Phase.STARTING, Phase.PAUSED):
        return
    state.phase = Phase.DRAINING
    state.is_signalled = event.signal is not None
    for entry in state.roster.live.values():
        if entry.state is SUBMITTED:
            state.order(Cancel(entry.chore.id, entry.attempt))
        elif event.signal is not None:
            state.order(Signal(entry.chore.id, entry.attempt, event.signal))


def on_interrupt(state: SchedulerState, _: ev.InterruptRequested) -> None:
    """End what runs; it will run again when the run is resumed."""
    if state.phase is Phase.INTERRUPTING:
        return
    state.phase = Phase.INTERRUPTING
    for entry in state.roster.live.values():
        state.order(Cancel(entry.chore.id, entry.attempt))


def on_pause(state: SchedulerState, _: ev.PauseRequested) -> None:
    """Start nothing until further notice."""
    if state.phase is Phase.STARTING:
        state.phase = Phase.PAUSED


def on_resume(state: SchedulerState, _: ev.ResumeRequested) -> None:
    """End a pause."""
    if state.phase is Phase.PAUSED:
        state.phase = Phase.STARTING
