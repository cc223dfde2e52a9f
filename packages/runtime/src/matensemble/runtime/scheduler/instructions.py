"""Orders that the core gives: imperatives. The engine journals first, then carries out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from matensemble.chore import Chore
from matensemble.records import RecordKind
from matensemble.runtime.scheduler.resources import Placement


class Record(NamedTuple):
    """Append this to the journal."""

    kind: RecordKind
    chore_id: str | None = None
    attempt: int = 1
    fields: Mapping[str, Any] | None = None


class Submit(NamedTuple):
    """Hand this chore to the executor."""

    chore: Chore
    attempt: int
    placement: Placement | None
    """Where it is expected to run; None for one that queues at the executor (look-ahead)."""
    avoid: frozenset[int] = frozenset()
    """Nodes that are set aside for another chore; an executor that places must keep off them."""
    is_pooled: bool = False
    """Whether a warm worker is to serve it; else it is a job of its own."""
    is_awaited: bool = False
    """Whether other chores wait for its result."""


class Cancel(NamedTuple):
    """End this attempt."""

    chore_id: str
    attempt: int


class Delay(NamedTuple):
    """Post `DelayOver` for this attempt after a while."""

    chore_id: str
    attempt: int
    seconds: float


class Watch(NamedTuple):
    """Post `ProbesOverdue` for a group after a while."""

    group: str
    seconds: float


class Extend(NamedTuple):
    """Let this attempt run longer than its duration."""

    chore_id: str
    attempt: int
    duration: float
    """Seconds from its start, in all."""


class Signal(NamedTuple):
    """Send a signal to the processes of this attempt."""

    chore_id: str
    attempt: int
    number: int


Instruction = Record | Submit | Cancel | Delay | Watch | Extend | Signal
