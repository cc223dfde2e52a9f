"""The results of a run that is over, and of one that is not: views of the state."""

from __future__ import annotations

import pytest

from matensemble.chore import Chore
from matensemble.model import ChoreState, ChoreType, Reason
from matensemble.runtime.outcomes import results_of
from matensemble.runtime.scheduler.events import (
    AllocationLearned,
    CancelRequested,
    ChoreAdded,
    ChoreFinished,
    StartsConsidered,
)
from matensemble.runtime.scheduler.resources import Allocation, Node
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.workdir import RunDir


@pytest.fixture
def state():
    state = SchedulerState()
    state.handle(AllocationLearned(Allocation((Node("n", 3),))))
    for chore_id in ("good", "bad", "busy", "waiting", "unwanted"):
        state.handle(ChoreAdded(Chore(chore_id, "g", ChoreType.EXECUTABLE)))
    state.handle(ChoreAdded(Chore("behind", "g", ChoreType.EXECUTABLE, after=("bad",))))
    state.handle(StartsConsidered())
    state.handle(ChoreFinished("good", 1, None, 0))
    state.handle(ChoreFinished("bad", 1, Reason.NONZERO_EXIT, 3))
    state.handle(CancelRequested(("unwanted",)))
    return state


def test_what_has_ended_is_there_and_nothing_else(state, tmp_path):
    results = results_of(RunDir(tmp_path), state)
    ended = {chore_id: results.outcome(chore_id).state for chore_id in results}
    assert ended == {
        "good": ChoreState.COMPLETED,
        "bad": ChoreState.FAILED,
        "unwanted": ChoreState.CANCELLED,
        "behind": ChoreState.SKIPPED,
    }
    assert len(results) == len(ended)
    assert "busy" not in results
    with pytest.raises(KeyError):
        results.outcome("waiting")
    state.handle(ChoreFinished("busy", 1, None, 0))
    assert len(results) == len(list(results)) == 5
