"""What the dependents of a chore ask about it: a port, so that no part of the state is needed.

Owns two protocols and nothing else. `SchedulerState` is such a graph; `matensemble.fluxlet` has a
small one of its own. Asked by what prepares chores (`launch`) and what judges them (`settlement`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from matensemble.chore import Chore
from matensemble.model import ChoreState, Reason


class Standing(Protocol):
    """A chore and where it stands, as far as its dependents ask."""

    @property
    def chore(self) -> Chore:
        """The chore."""

    @property
    def state(self) -> ChoreState:
        """Where it stands."""

    @property
    def attempt(self) -> int:
        """Its latest attempt, from 1; 0 before the first."""

    @property
    def exit_code(self) -> int | None:
        """How it ended; None where no process did."""

    @property
    def reason(self) -> Reason | None:
        """Why it has no result; None where it has one or has not ended."""

    @property
    def detail(self) -> str:
        """One line for people about that."""

    @property
    def root(self) -> str | None:
        """For one that was skipped: the failure it is a consequence of."""


class Graph(Protocol):
    """Where the chores of a run stand."""

    def entry(self, chore_id: str) -> Standing:
        """Return a chore and where it stands; raises KeyError for an unknown id."""

    def members(self, group: str) -> Sequence[Standing]:
        """Return the chores of a group."""
