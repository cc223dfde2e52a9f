"""Who is told of the lives of chores, besides the journal.

Owns what the engine promises to tell; `caretaker` is one of those that it tells.
"""

from __future__ import annotations

from typing import Protocol

from matensemble.chore import Chore
from matensemble.runtime.scheduler.entry import Entry


class Observer(Protocol):
    """Is told of the lives of chores, on the thread that owns the state; must be quick."""

    def started(self, chore: Chore, attempt: int) -> None:
        """Note that the processes of an attempt run."""

    def attempt_ended(self, chore: Chore, attempt: int) -> None:
        """Note that they do not any more."""

    def ended(self, entry: Entry) -> None:
        """Note that a chore has ended for good."""
