"""A chore and where it stands, and one change of it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from matensemble.chore import Chore
from matensemble.model import ChoreState, Reason, Resources
from matensemble.policy import OnFailure, is_satisfied
from matensemble.runtime.scheduler.resources import Placement, Shape, turned
from matensemble.runtime.scheduler.states import BLOCKED
from matensemble.status import Counts


class Group:
    """All chores of one name. Written by `SchedulerState` only."""

    __slots__ = ("counts", "members", "shown")

    def __init__(self) -> None:
        self.members: list[Entry] = []
        """In the order of their admission."""
        self.counts = dict.fromkeys(ChoreState, 0)
        """How many of them stand where."""
        self.shown: Counts | None = None
        """The same as people see it; None since it changed."""


class Past:
    """What befell a chore beside the plain way; most chores have none, so it has an object."""

    __slots__ = ("avoid", "cause", "cause_detail", "is_delayed", "losses", "retries", "revocations")

    def __init__(self) -> None:
        self.retries = 0
        """Attempts that were charged to its own budget."""
        self.losses = 0
        """Attempts that were lost to the infrastructure."""
        self.revocations = 0
        """How often it waited for the result of another to be made again."""
        self.avoid: frozenset[int] = frozenset()
        """Nodes that it keeps off, because attempts were lost there."""
        self.is_delayed = False
        """Whether it waits before another attempt; counts as one that is missing."""
        self.cause: Reason | None = None
        """The limit for which its live attempt is being ended."""
        self.cause_detail = ""


_NO_PAST = Past()


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
        "is_probe",
        "missing",
        "order",
        "own_past",
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
        """Dependencies that are not satisfied; all gathers together count as one, a wait before
        another attempt too."""
        self.dependents: list[Entry] | None = None
        self.attempt = 0
        """Latest attempt, from 1; 0 before the first."""
        self.placement: Placement | None = None
        """What it holds, from its submission to the return of its resources."""
        self.is_cancelling = False
        """Whether somebody asked for its end."""
        self.is_probe = False
        """Whether it is one of the first of its group, by which is found out what runs the rest."""
        self.reason: Reason | None = None
        self.exit_code: int | None = None
        self.root: str | None = None
        """For SKIPPED: the failure it is a consequence of."""
        self.detail = ""
        self.own_past: Past | None = None

    @property
    def past(self) -> Past:
        """What befell it beside the plain way; read only."""
        return self.own_past or _NO_PAST

    def remember(self) -> Past:
        """Return its past for writing."""
        if self.own_past is None:
            self.own_past = Past()
        return self.own_past

    def change(self, *, nice: int | None = None, resources: Resources | None = None) -> None:
        """Let it ask for something else from now on; None keeps."""
        if nice is not None:
            self.chore = replace(self.chore, nice=nice)
            self.order = (nice, self.order[1])
        if resources is not None:
            self.chore = replace(self.chore, resources=resources)
            self.shape = Shape.of(resources, is_pooled=self.shape.is_pooled)

    def wait_as(self, *, is_pooled: bool) -> None:
        """Let it wait for a warm worker, or for room for a job of its own."""
        if self.shape.is_pooled is not is_pooled:
            self.shape = turned(self.shape)

    @property
    def is_ignoring(self) -> bool:
        """Whether its dependents run although it has no result."""
        return self.chore.policy.on_failure is OnFailure.IGNORE

    @property
    def is_satisfied(self) -> bool:
        """Whether its dependents need not wait for it any more."""
        return is_satisfied(self.state, self.chore.policy.on_failure)


class Transition(NamedTuple):
    """One change of state, for people and tests."""

    chore_id: str
    before: ChoreState
    after: ChoreState
    event: str
