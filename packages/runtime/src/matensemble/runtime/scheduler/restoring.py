"""Bring a chore back to where it stood by the journal of an earlier driver.

Owns what a standing means for the live state, and the healing of what that driver had no time to
write: the consequences of its last records. Works on the state for `SchedulerState`, its only
caller. Chores come in the order of their admission, so that dependencies are known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from matensemble.chore import Chore
from matensemble.model import Reason, Resources
from matensemble.replay import Standing
from matensemble.runtime.scheduler.entry import Entry
from matensemble.runtime.scheduler.instructions import Cancel
from matensemble.runtime.scheduler.requests import is_wrongly_skipped
from matensemble.runtime.scheduler.states import FAILED, LIVE, SKIPPED

if TYPE_CHECKING:
    from matensemble.runtime.scheduler.state import SchedulerState


def restore(state: SchedulerState, chore: Chore, standing: Standing) -> None:
    """Admit a chore with its past."""
    entry = state.roster.admit(chore)
    entry.attempt = standing.attempt
    if standing.nice is not None:
        entry.change(nice=standing.nice)
    if standing.resources is not None:
        entry.change(resources=Resources.from_json(standing.resources, chore.resources.env))
    if standing.retries or standing.losses or standing.avoid:
        past = entry.remember()
        past.retries, past.losses = standing.retries, standing.losses
        nodes = enumerate(state.allocation.nodes)
        past.avoid = frozenset(index for index, node in nodes if node.name in standing.avoid)
    if standing.state in LIVE:
        _restore_live(state, entry, standing)
    elif standing.state.is_terminal:
        _restore_ended(state, entry, standing)
    else:
        state.decide_anew(entry)


def _restore_live(state: SchedulerState, entry: Entry, standing: Standing) -> None:
    """Note an attempt that may be with the executor, which will say what became of it."""
    state.roster.place(entry, standing.state)
    state.roster.live[entry.chore.id] = entry
    entry.wait_as(is_pooled=standing.is_pooled)
    if not all(state.entry(upstream).is_satisfied for upstream in entry.chore.upstream):
        state.disturb()  # another attempt of it would have to wait
    # What it holds is not known before the executor tells.
    state.starter.queued[entry.chore.id] = entry
    if standing.is_cancelling:
        entry.is_cancelling = True
        state.order(Cancel(entry.chore.id, entry.attempt))


def _restore_ended(state: SchedulerState, entry: Entry, standing: Standing) -> None:
    state.roster.place(entry, standing.state)
    entry.reason, entry.exit_code = standing.reason, standing.exit_code
    entry.detail, entry.root = standing.detail, standing.root
    if standing.state is FAILED:
        state.count_failure(entry)
        fits = state.starter.can_ever_fit(entry.shape)
        if entry.reason is Reason.EXCEEDS_ALLOCATION and fits:
            state.reopen(entry)
            state.decide_anew(entry)
    elif standing.state is SKIPPED and is_wrongly_skipped(state, entry):
        state.reopen(entry)
        state.decide_anew(entry)
