"""Why a chore is in its state, in words. Reads the state, never changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from matensemble.model import ChoreState
from matensemble.runtime.scheduler.entry import Entry, Transition
from matensemble.runtime.scheduler.states import BLOCKED, READY, SKIPPED, Phase
from matensemble.runtime.scheduler.tiers import Tier

if TYPE_CHECKING:
    from matensemble.runtime.scheduler.state import SchedulerState


class Story(NamedTuple):
    """Why a chore is in its state."""

    chore_id: str
    state: ChoreState
    because: str
    waits_for: tuple[str, ...]
    """Chores whose results are missing, for one that is blocked."""
    transitions: tuple[Transition, ...]
    """The latest ones of this chore that are remembered."""


def tell_story(state: SchedulerState, entry: Entry) -> Story:
    """Return why a chore is in its state. O(dependencies)."""
    waits_for = tuple(
        chore_id
        for chore_id in entry.chore.upstream
        if entry.state is BLOCKED and not state.entry(chore_id).is_satisfied
    )
    chore_id = entry.chore.id
    return Story(
        chore_id,
        entry.state,
        _because(state, entry, waits_for),
        waits_for,
        tuple(transition for transition in state.history if transition.chore_id == chore_id),
    )


def _because(state: SchedulerState, entry: Entry, waits_for: tuple[str, ...]) -> str:
    if entry.state is BLOCKED:
        return _why_blocked(entry, waits_for)
    if entry.state is READY:
        return _why_ready(state, entry)
    if entry.state is SKIPPED:
        return f"{entry.root} has no result"
    words = (entry.reason.value if entry.reason else None, entry.detail)
    return ": ".join(filter(None, words)) or entry.state.value


def _why_blocked(entry: Entry, waits_for: tuple[str, ...]) -> str:
    if entry.past.is_delayed:
        return f"waits before attempt {entry.attempt + 1}"
    if waits_for:
        return f"waits for {', '.join(waits_for[:5])}" + (" …" if len(waits_for) > 5 else "")
    return "waits until every chore of an earlier stage has ended, to gather their results"


def _why_ready(state: SchedulerState, entry: Entry) -> str:
    if entry.chore.id in state.starter.too_long:
        return f"asks for {entry.chore.resources.duration:g} s, and less is left"
    if not entry.is_probe and state.tiers.tier_of(entry.chore) is Tier.UNKNOWN:
        return "waits until the first chores of its group tell how long one takes"
    if state.phase is not Phase.STARTING:
        return f"nothing is started: the run is {state.phase.name.lower()}"
    wants = entry.chore.resources.describe()
    free = f"{state.ledger.free_cores} cores and {state.ledger.free_gpus} GPUs are free"
    first = "; it is the first that does not fit" if entry is state.waiter else ""
    return f"waits for room for {wants}; {free}{first}"
