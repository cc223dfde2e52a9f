"""A chore and where it stands, and one change of it."""

from __future__ import annotations

from typing import NamedTuple

from matensemble.chore import Chore
from matensemble.model import ChoreState, Reason
from matensemble.runtime.scheduler.resources import Placement, Shape
from matensemble.runtime.scheduler.states import BLOCKED


class Group:
    """All chores of one name. Written by `SchedulerState` only."""

    __slots__ = ("counts", "members")

    def __init__(self) -> None:
        self.members: list[Entry] = []
        """In the order of their admission."""
        self.counts = dict.fromkeys(ChoreState, 0)
        """How many of them stand where."""


class Entry:
    """A chore and where it stands. Written by `SchedulerState` only."""

    __slots__ = (
        "attempt",
        "chore",
        "dependents",
        "detail",
        "exit_code",
        "group",
        "is_cancelling",
        "missing",
        "order",
        "placement",
        "reason",
        "root",
        "shape",
        "state",
    )

    def __init__(self, chore: Chore, group: Group, shape: Shape, admission: int) -> None:
        self.chore = chore
        self.group = group
        self.shape = shape
        self.order = (chore.nice, admission)
        """`nice`, then admission; unique."""
        self.state = BLOCKED
        self.missing = 0
        """Dependencies that have not completed; all gathers together count as one."""
        self.dependents: list[Entry] | None = None
        self.attempt = 0
        """Latest attempt, from 1; 0 before the first."""
        self.placement: Placement | None = None
        """What it holds, from its submission to the return of its resources."""
        self.is_cancelling = False
        """Whether somebody asked for its end."""
        self.reason: Reason | None = None
        self.exit_code: int | None = None
        self.root: str | None = None
        """For SKIPPED: the failure it is a consequence of."""
        self.detail = ""


class Transition(NamedTuple):
    """One change of state, for people and tests."""

    chore_id: str
    before: ChoreState
    after: ChoreState
    event: str
