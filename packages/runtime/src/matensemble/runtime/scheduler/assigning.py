"""Let chores wait for what is to run them: a warm worker, or room for a job of their own.

Owns how decisions of `tiers` reach the chores: those that are ready wait anew, and a record says
what was decided. Works on the state for `SchedulerState`, its only caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from matensemble.model import Reason
from matensemble.records import RecordKind
from matensemble.runtime.scheduler import events as ev
from matensemble.runtime.scheduler.entry import Entry
from matensemble.runtime.scheduler.instructions import Record
from matensemble.runtime.scheduler.states import READY, RUNNING
from matensemble.runtime.scheduler.tiers import Decision, Tier

if TYPE_CHECKING:
    from matensemble.runtime.scheduler.state import SchedulerState

Ran = Mapping[str, Any] | None
"""Where and how long an attempt ran, for the record of its end; None: other records tell, or
nobody knows."""


def enlist(state: SchedulerState, entry: Entry) -> None:
    """Let a ready chore wait for its turn, with what is to run it; may be called again."""
    tier = state.tiers.tier_of(entry.chore)
    if tier is Tier.UNKNOWN:
        decision = state.tiers.grown(entry.chore, len(entry.group.members))
        if decision is not None:
            _decide(state, decision)
            tier = decision.tier
        elif not entry.is_probe:
            if not state.tiers.admit(entry):
                return
            entry.is_probe = True
    entry.wait_as(is_pooled=tier.is_pooled)
    state.starter.push(entry)


def end_probe(state: SchedulerState, entry: Entry) -> bool:
    """Let a chore be a probe no longer, and another one in its place; return whether one is."""
    entry.is_probe = False
    instead = state.tiers.dismiss(entry.chore)
    if instead is not None:
        enlist(state, instead)
    return instead is not None


def replace_late_probes(state: SchedulerState) -> bool:
    """Let others be probes for those that would not end in time; return whether some are."""
    late, state.starter.put_aside = state.starter.put_aside, []
    return any([end_probe(state, entry) for entry in late if entry.is_probe])


def learn(state: SchedulerState, entry: Entry, event: ev.ChoreFinished) -> None:
    """Take what the end of an attempt tells of its group.

    One that was ended tells nothing, nor does one whose warm worker was lost with its driver: its
    result alone was found.
    """
    num_known, was_pooled = len(entry.group.members), entry.shape.is_pooled
    was_found = was_pooled and event.elapsed is None
    if event.exit_code is None or event.reason is Reason.CANCELLED or was_found:
        return
    _decide(state, state.tiers.ended(entry.chore, event.elapsed, num_known, was_pooled=was_pooled))


def on_launch(state: SchedulerState, event: ev.LaunchMeasured) -> None:
    """Take what it costs to start a process."""
    for decision in state.tiers.learn_launch(event.seconds):
        _decide(state, decision)


def on_overdue(state: SchedulerState, event: ev.ProbesOverdue) -> None:
    """Wait no longer for the probes of a group, if some run still."""
    members = state.members(event.group)
    is_running = any(entry.is_probe and entry.state is RUNNING for entry in members)
    _decide(state, state.tiers.overdue(event.group, is_running=is_running))


def on_pool_lost(state: SchedulerState, event: ev.PoolLost) -> None:
    """Let everything be a job from now on."""
    _decide(state, state.tiers.lose(event.detail))


def where_it_ran(event: ev.ChoreFinished) -> Ran:
    """Return what the record of an end tells where no start was recorded."""
    if event.elapsed is None:
        return None
    fields: dict[str, Any] = {"el": _rounded(event.elapsed)}
    if event.host:
        fields["h"] = event.host
    return fields


def _rounded(seconds: float) -> float:
    """Return four significant digits of a duration."""
    return float(f"{seconds:.4g}")


def _decide(state: SchedulerState, decision: Decision | None) -> None:
    """Record what runs the chores of a group from now on, and let them wait for that.

    O(chores of the group), or of the run where no warm worker can be had.
    """
    if decision is None:
        return
    fields: dict[str, Any] = {} if decision.group is None else {"g": decision.group}
    fields["tier"] = decision.tier.value
    for name, seconds in (("elapsed", decision.elapsed), ("launch", decision.launch)):
        if seconds is not None:
            fields[name] = _rounded(seconds)
    if decision.detail:
        fields["d"] = decision.detail
    state.order(Record(RecordKind.WORKERS, fields=fields))
    for entry in state.tiers.take_waiting(decision.group):
        enlist(state, entry)
    if decision.tier is Tier.POOL:
        return  # they wait as they did on trial
    for entry in state if decision.group is None else state.members(decision.group):
        if entry.state is READY and entry.chore.id not in state.starter.too_long:
            tier = state.tiers.tier_of(entry.chore)
            if tier.is_pooled is not entry.shape.is_pooled:
                enlist(state, entry)
