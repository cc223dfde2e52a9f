"""Decisions handed to the core as values, so that it needs no `if` for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from matensemble.runtime.scheduler.tiers import Tier


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
    workers: str = "job"
    """What runs chores that do not say it themselves, as `RunOptions.workers`."""
    tiers: Mapping[str, Tier] = field(default_factory=dict)
    """Group → what an earlier driver found to suit its chores."""
