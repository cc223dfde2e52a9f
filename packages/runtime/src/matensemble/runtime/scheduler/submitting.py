"""From the choice of a chore that starts to the news that it runs.

Owns what is recorded of that: all steps of a job, and of a chore on a warm worker only what is
needed to find it again, until it has run long enough to be worth more. Works on the state for
`SchedulerState`, its only caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from matensemble.records import RecordKind
from matensemble.runtime.scheduler import events as ev
from matensemble.runtime.scheduler.instructions import Submit, Watch
from matensemble.runtime.scheduler.starter import Start
from matensemble.runtime.scheduler.states import RUNNING, SUBMITTED
from matensemble.runtime.scheduler.tiers import PROBE_SECONDS

if TYPE_CHECKING:
    from matensemble.runtime.scheduler.state import SchedulerState

_POOLED_INTENT = {"p": 1}


def submit(state: SchedulerState, start: Start) -> None:
    """Order the next attempt of a chore."""
    entry, chore = start.entry, start.entry.chore
    entry.attempt += 1
    state.move(entry, SUBMITTED)
    state.roster.live[chore.id] = entry
    is_pooled, is_awaited = entry.shape.is_pooled, bool(entry.dependents)
    state.record(RecordKind.SUBMIT_INTENT, entry, _POOLED_INTENT if is_pooled else None)
    state.order(Submit(chore, entry.attempt, start.placement, start.avoid, is_pooled, is_awaited))


def on_submitted(state: SchedulerState, event: ev.ChoreSubmitted) -> None:
    """Note under which id the executor has an attempt."""
    entry = state.live_attempt(event)
    if entry is None:
        return
    if entry.shape.is_pooled and entry.state is SUBMITTED:
        state.jobids[event.chore_id] = event.jobid
    else:
        state.record(RecordKind.SUBMITTED, entry, {"j": event.jobid})


def on_started(state: SchedulerState, event: ev.ChoreStarted) -> None:
    """Note that an attempt runs."""
    entry = state.live_attempt(event)
    if entry is None or entry.state is not SUBMITTED:
        return
    state.move(entry, RUNNING)
    jobid = state.jobids.pop(event.chore_id, None)
    if jobid is not None:
        state.record(RecordKind.SUBMITTED, entry, {"j": jobid})
    state.record(RecordKind.STARTED, entry, {"h": event.host} if event.host else None)
    if entry.is_probe and state.tiers.begin_timer(entry.chore):
        state.order(Watch(entry.chore.name, PROBE_SECONDS))
