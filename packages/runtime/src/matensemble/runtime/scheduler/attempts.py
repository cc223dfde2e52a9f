"""An attempt that ends badly, and what becomes of its chore.

Owns the order in which causes are looked at: somebody's wish, an interruption, a limit, a damaged
result upstream, the infrastructure, and the chore's own retries (`retrying`). Works on the state
for `SchedulerState`, its only caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matensemble.model import Reason
from matensemble.records import RecordKind
from matensemble.runtime.scheduler import events as ev
from matensemble.runtime.scheduler.assigning import Ran
from matensemble.runtime.scheduler.entry import Entry
from matensemble.runtime.scheduler.instructions import Cancel, Delay
from matensemble.runtime.scheduler.resources import Shape
from matensemble.runtime.scheduler.retrying import Again, Budget, Failure, what_follows
from matensemble.runtime.scheduler.states import BLOCKED, COMPLETED, Phase

if TYPE_CHECKING:
    from matensemble.runtime.scheduler.state import SchedulerState

_LEAVING = (Phase.INTERRUPTING, Phase.DRAINING)
_ANSWERS_TO_A_SIGNAL = (Reason.NONZERO_EXIT, Reason.SIGNAL, Reason.EXCEPTION)
"""How a program may end that was told by a signal to write its state and leave."""


def end_badly(
    state: SchedulerState,
    entry: Entry,
    event: ev.ChoreFinished,
    ran: Ran = None,
) -> None:
    """Decide what follows an attempt that did not complete and is buried.

    Parameters
    ----------
    state, entry
        The chore.
    event
        How the attempt ended.
    ran
        What the record of its end says of where it ran.
    """
    assert event.reason is not None
    is_wanted = entry.is_cancelling or state.phase is Phase.STOPPING
    cause, reason, detail = entry.past.cause, event.reason, event.detail
    if reason is Reason.CANCELLED and cause is not None and not is_wanted:
        reason, detail = cause, entry.past.cause_detail
    if reason is Reason.CANCELLED:
        if state.phase in _LEAVING and not is_wanted:
            _requeue(state, entry, Again(Budget.NONE), {"d": "interrupted", **(ran or {})})
        else:
            state.cancel_now(entry, detail, ran)
        return
    failure = Failure(reason, event.exit_code, detail, event.error_type)
    if is_wanted:
        state.fail(entry, failure, ran)
    elif state.is_signalled and reason in _ANSWERS_TO_A_SIGNAL:
        fields = {"d": "interrupted by the end of the time", **(ran or {})}
        _requeue(state, entry, Again(Budget.NONE), fields)
    else:
        _try_again(state, entry, failure, event, ran)


def on_lost(state: SchedulerState, event: ev.AttemptLost) -> None:
    """Make an attempt again of which nothing is known."""
    entry = state.live_attempt(event)
    if entry is None:
        return
    state.bury(entry)
    state.starter.give_back(entry)
    if entry.is_cancelling or state.phase is Phase.STOPPING:
        state.cancel_now(entry, event.detail)
    else:
        _requeue(state, entry, Again(Budget.NONE), {"d": event.detail or "lost"})


def on_limit(state: SchedulerState, event: ev.LimitExceeded) -> None:
    """End an attempt that went beyond a limit; its end will say so."""
    entry = state.live_attempt(event)
    if entry is None or entry.is_cancelling or entry.past.cause is not None:
        return
    past = entry.remember()
    past.cause, past.cause_detail = event.reason, event.detail
    state.order(Cancel(event.chore_id, event.attempt))


def on_delay_over(state: SchedulerState, event: ev.DelayOver) -> None:
    """Let a chore start again that waited for it."""
    if event.chore_id not in state:
        return
    entry = state.entry(event.chore_id)
    if entry.attempt == event.attempt and end_delay(state, entry):
        state.one_less(entry)


def end_delay(state: SchedulerState, entry: Entry) -> bool:
    """Note that a chore does not wait any more before another attempt; return whether it did."""
    if not entry.past.is_delayed:
        return False
    entry.remember().is_delayed = False
    state.num_delayed -= 1
    return True


def _try_again(
    state: SchedulerState,
    entry: Entry,
    failure: Failure,
    event: ev.ChoreFinished,
    ran: Ran,
) -> None:
    if _make_again(state, entry, event, failure.detail):
        _requeue(state, entry, Again(Budget.NONE), _fields(failure, ran), is_behind=True)
        return
    again = what_follows(entry, failure, state.policy)
    bigger = again.resources if again is not None else None
    if bigger is not None and not state.starter.can_ever_fit(Shape.of(bigger)):
        asks = f"another attempt would ask for {bigger.describe()}"
        detail = f"{failure.detail} ({asks}, which the allocation does not have)"
        failure, again = failure._replace(detail=detail.strip()), None
    if again is None:
        state.fail(entry, failure, ran)
    else:
        _requeue(state, entry, again, _fields(failure, ran))


def _fields(failure: Failure, ran: Ran) -> dict[str, Any]:
    fields: dict[str, Any] = {"r": failure.reason.value}
    if failure.exit_code is not None:
        fields["x"] = failure.exit_code
    if failure.detail:
        fields["d"] = failure.detail
    fields.update(ran or {})
    return fields


def _make_again(state: SchedulerState, entry: Entry, event: ev.ChoreFinished, why: str) -> bool:
    """Let the damaged result of another chore be made again; return whether it will be there.

    What else depends on it finds out by itself, and comes here too.
    """
    if event.culprit is None or event.culprit not in state:
        return False
    if entry.past.revocations >= state.policy.max_revocations:
        return False
    culprit = state.entry(event.culprit)
    # It may have been made again already, since this one was prepared: that result is a good one.
    is_old_news = event.culprit_attempt not in (None, culprit.attempt)
    if culprit.state is COMPLETED and not is_old_news:
        state.move(culprit, BLOCKED)
        culprit.exit_code = None
        state.starter.let_linger(culprit)
        state.disturb()
        state.record(RecordKind.REVOKED, culprit, {"d": why} if why else None)
        state.decide_anew(culprit)
    if culprit.state.is_terminal and not culprit.is_satisfied:
        return False
    entry.remember().revocations += 1
    return True


def _requeue(
    state: SchedulerState,
    entry: Entry,
    again: Again,
    fields: dict[str, Any],
    *,
    is_behind: bool = False,
) -> None:
    """Let another attempt be made of a chore whose last one is over.

    Parameters
    ----------
    state, entry
        The chore, without a live attempt.
    again
        What the next attempt is charged to, when it may start and what it asks for.
    fields
        Why, for the journal.
    is_behind
        Whether a result that it needs must be made first.
    """
    if again.budget is not Budget.NONE:
        past = entry.remember()
        past.retries += again.budget is Budget.RETRY
        past.losses += again.budget is Budget.LOSS
        fields["b"] = again.budget.value
    if again.avoids_nodes:
        past = entry.remember()
        past.avoid |= {share.node for share in entry.placement or ()}
        fields["avoid"] = sorted(state.allocation.nodes[index].name for index in past.avoid)
    if entry.own_past is not None:
        entry.own_past.cause, entry.own_past.cause_detail = None, ""
    entry.exit_code = None
    state.starter.let_linger(entry)
    if again.resources is not None:
        entry.change(resources=again.resources)
        fields["resources"] = again.resources.to_json()
    if again.delay:
        fields["after"] = again.delay
    state.record(RecordKind.REQUEUED, entry, fields)
    if is_behind or (state.is_disturbed and not again.delay):
        state.move(entry, BLOCKED)
        state.decide_anew(entry)
    elif again.delay:
        state.move(entry, BLOCKED)
        entry.remember().is_delayed = True
        entry.missing += 1
        state.num_delayed += 1
        state.order(Delay(entry.chore.id, entry.attempt, again.delay))
    else:
        state.become_ready(entry)
