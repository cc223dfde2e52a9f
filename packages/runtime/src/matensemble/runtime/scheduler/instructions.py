"""Orders that the core gives: imperatives. The engine journals first, then carries out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matensemble.chore import Chore
from matensemble.runtime.scheduler.resources import Placement
from matensemble.status import RecordKind


@dataclass(frozen=True, slots=True)
class Record:
    """Append this to the journal."""

    kind: RecordKind
    chore_id: str | None = None
    attempt: int | None = None
    fields: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Submit:
    """Hand this chore to the executor."""

    chore: Chore
    attempt: int
    placement: Placement | None
    """Where it is expected to run; None for one that queues at the executor (look-ahead)."""
    avoid: frozenset[int] = frozenset()
    """Nodes that are set aside for another chore; an executor that places must keep off them."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """End this attempt."""

    chore_id: str
    attempt: int


Instruction = Record | Submit | Cancel
