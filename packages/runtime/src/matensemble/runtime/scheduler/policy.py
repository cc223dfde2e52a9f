"""Decisions handed to the core as values, so that it needs no `if` for them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """How the core decides where the contract leaves a choice."""

    look_ahead: int = 0
    """How many chores may queue at the executor beyond what fits (its `look_ahead`)."""
    patience: float = 1.0
    """How often the cores of the allocation may be given to chores that overtake a waiting one,
    before nodes are set aside for it. 0 lets nothing overtake; infinity never sets nodes aside."""
    max_root_failures: int | None = None
    """Cancel the rest after this many failures that are neither consequences nor ignored; None
    never does."""
    max_losses: int = 3
    """How many attempts of a chore may be lost to the infrastructure before it fails of it."""
    max_revocations: int = 3
    """How often a chore may wait for a damaged result to be made again before it fails of it."""
