"""The state of a finished run as the mappings that `matensemble.results.Results` looks into.

Views, not copies: a run may have a million chores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from matensemble.chore import Chore
from matensemble.model import ChoreState
from matensemble.results import COMPLETED, Outcome, Results
from matensemble.runtime.scheduler.entry import Entry
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.workdir import RunDir


class _Chores(Mapping[str, Chore]):
    def __init__(self, state: SchedulerState) -> None:
        self._state = state

    def __getitem__(self, chore_id: str) -> Chore:
        return self._state.entry(chore_id).chore

    def __iter__(self) -> Iterator[str]:
        return (entry.chore.id for entry in self._state)

    def __len__(self) -> int:
        return len(self._state)


class _Outcomes(Mapping[str, Outcome]):
    def __init__(self, state: SchedulerState) -> None:
        self._state = state

    def __getitem__(self, chore_id: str) -> Outcome:
        entry = self._state.entry(chore_id)
        if not entry.state.is_terminal:
            raise KeyError(chore_id)
        return _outcome(entry)

    def __iter__(self) -> Iterator[str]:
        return (entry.chore.id for entry in self._state if entry.state.is_terminal)

    def __len__(self) -> int:
        counts = self._state.counts()
        return counts.completed + counts.failed + counts.cancelled


def results_of(run: RunDir, state: SchedulerState) -> Results:
    """Return the results of every chore that has ended."""
    return Results(run, _Chores(state), _Outcomes(state))


def result_of(run: RunDir, state: SchedulerState, chore_id: str) -> Results:
    """Return the results of one chore that has ended, and of the root of its failure.

    They share nothing with the state.

    Raises
    ------
    KeyError
        If there is none of this id.
    """
    entries = [state.entry(chore_id)]
    if entries[0].root is not None:
        entries.append(state.entry(entries[0].root))
    chores = {entry.chore.id: entry.chore for entry in entries}
    return Results(run, chores, {entry.chore.id: _outcome(entry) for entry in entries})


def _outcome(entry: Entry) -> Outcome:
    if entry.state is ChoreState.COMPLETED and not entry.exit_code:
        return COMPLETED
    return Outcome(entry.state, entry.reason, entry.exit_code, entry.root, entry.detail)
