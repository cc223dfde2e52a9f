"""Which chores a request changes, and why it cannot change others.

Owns the rule, in one place: a driver applies it to its state, a command to the journal of a run
that nothing drives, so that both say the same. Reads no file. Called by the runtime
and by the subcommands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from matensemble.control import Request, Selection, Verb
from matensemble.model import ChoreState
from matensemble.replay import Standing
from matensemble.terminal import plural

MAX_NAMED = 5


class Board(Protocol):
    """The chores of a run, as their driver or their records know them."""

    def standing(self, chore_id: str) -> Standing | None:
        """Return where a chore stands, None for an unknown id."""

    def has_limit(self, chore_id: str) -> bool:
        """Return whether a chore has a `duration`."""

    def members(self, group: str) -> Iterable[str]:
        """Return the chores of a group; nothing for one that is not known."""

    def __iter__(self) -> Iterator[str]:
        """Return the ids of all chores."""


class Plan(NamedTuple):
    """What is to be done for a request."""

    chores: tuple[str, ...]
    """To be changed, in order, each once."""
    refused: Mapping[str, tuple[str, ...]]
    """Why → chores or groups that it cannot be done for."""
    num_live: int = 0
    """How many of `chores` have an attempt that was handed to the executor."""


def plan(request: Request, board: Board) -> Plan:
    """Return which chores a request changes, and why it cannot change others.

    O(chores it selects); with `failed`, `reason` or `everything` O(chores of the run).
    """
    taken: dict[str, None] = {}
    refused: dict[str, list[str]] = {}
    num_live = 0
    for group in request.selection.groups:
        if next(iter(board.members(group)), None) is None:
            refused.setdefault("no group of this name", []).append(group)
    for chore_id in _selected(request.selection, board):
        standing = board.standing(chore_id)
        if standing is None:
            refused.setdefault("no chore of this id", []).append(chore_id)
            continue
        problem = _why_not(request.verb, standing, board.has_limit(chore_id))
        if problem is not None:
            refused.setdefault(problem, []).append(chore_id)
            continue
        if request.verb is Verb.RETRY and standing.root is not None:
            root = board.standing(standing.root)
            if root is not None and _why_not(request.verb, root) is None:
                taken[standing.root] = None  # else this one would be skipped again at once
        if chore_id not in taken:
            taken[chore_id] = None
            num_live += standing.is_live
    return Plan(tuple(taken), {why: tuple(ids) for why, ids in refused.items()}, num_live)


_SELECTABLE = (ChoreState.FAILED, ChoreState.CANCELLED)
"""What can be selected by how it ended; what was skipped runs again with its root."""


def _selected(selection: Selection, board: Board) -> Iterator[str]:
    """Yield what a selection names; what it describes only where it applies."""
    yield from selection.chores
    for group in selection.groups:
        yield from board.members(group)
    if not (selection.failed or selection.reason or selection.everything):
        return
    for chore_id in board:
        standing = board.standing(chore_id)
        if standing is None:
            continue
        if selection.everything:
            is_meant = not standing.state.is_terminal
        else:
            is_meant = standing.state in _SELECTABLE and (
                standing.reason is selection.reason
                if selection.reason is not None
                else standing.state is ChoreState.FAILED
            )
        if is_meant:
            yield chore_id


def _why_not(verb: Verb, standing: Standing, has_limit: bool = True) -> str | None:
    """Return why something cannot be done with a chore, None where it can."""
    state = standing.state
    if verb is Verb.RETRY:
        if state is ChoreState.COMPLETED:
            return "completed, the result is there"
        return None if state.is_terminal else "has not ended"
    if state.is_terminal:
        return f"had ended already ({state.value})"
    if verb is Verb.PRIORITISE and standing.is_live:
        return "was started already"
    if verb is Verb.ADD_TIME and not has_limit:
        return "has no duration that could be extended"
    return None


def describe_refused(request: Request, chosen: Plan) -> list[str]:
    """Return one line for each reason why a request is not done, or not with all chores."""
    lines = [f"{name_chores(ids)}: {why}" for why, ids in chosen.refused.items()]
    selection = request.selection
    if chosen.chores or lines:
        return lines
    if selection.reason is not None:
        return [f"no chore ended with {selection.reason.value}"]
    if selection.failed:
        return ["no chore failed"]
    return ["every chore has ended" if selection.everything else "it names no chore"]


def name_chores(ids: tuple[str, ...]) -> str:
    """Return some chores in words: their names where they are few."""
    if len(ids) <= MAX_NAMED:
        return ", ".join(ids)
    return f"{plural(len(ids), 'chore')} ({', '.join(ids[:2])} …)"
