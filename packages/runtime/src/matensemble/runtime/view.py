"""The state of a run for those who may look and not touch: processing strategies."""

from __future__ import annotations

from matensemble.model import ChoreState
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.status import Counts


class View:
    """Read-only face of a `SchedulerState`; see `matensemble.strategy.RunView`."""

    __slots__ = ("_state",)

    def __init__(self, state: SchedulerState) -> None:
        self._state = state

    @property
    def counts(self) -> Counts:
        """How many chores stand where."""
        return self._state.counts()

    @property
    def counts_by_group(self) -> dict[str, Counts]:
        """The same by group."""
        return self._state.counts_by_group()

    @property
    def num_live(self) -> int:
        """Chores that are submitted or running."""
        return self._state.num_live

    @property
    def num_ready(self) -> int:
        """Chores that wait for resources only."""
        return self._state.num_ready

    @property
    def free_cores(self) -> int:
        """Cores that no chore holds."""
        return self._state.ledger.free_cores

    @property
    def free_gpus(self) -> int:
        """GPUs that no chore holds."""
        return self._state.ledger.free_gpus

    def state_of(self, chore_id: str) -> ChoreState:
        """Return where a chore stands; raises KeyError for an unknown id."""
        return self._state.entry(chore_id).state

    def group_of(self, chore_id: str) -> str:
        """Return the name of a chore's group; raises KeyError for an unknown id."""
        return self._state.entry(chore_id).chore.name
