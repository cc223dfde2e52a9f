"""What follows an attempt that failed: another one, or the failure of its chore.

Owns the order in which the budgets are asked. Pure: it changes nothing; `SchedulerState` is its
only caller and carries out what it returns.
"""

from __future__ import annotations

from enum import StrEnum
from math import ceil
from typing import Any, NamedTuple

from matensemble.model import Reason, Resources
from matensemble.runtime.scheduler.entry import Entry
from matensemble.runtime.scheduler.policy import Policy

INFRASTRUCTURE = frozenset({Reason.NODE_FAILURE, Reason.IO_ERROR})
"""Reasons that say nothing about the chore itself."""


class Budget(StrEnum):
    """What another attempt is charged to."""

    NONE = ""
    """Nothing: it could not help it."""
    RETRY = "retry"
    """The chore's own retries."""
    LOSS = "loss"
    """What may be lost to the infrastructure."""


class Again(NamedTuple):
    """Another attempt is to be made."""

    budget: Budget
    delay: float = 0.0
    """Seconds to wait before."""
    resources: Resources | None = None
    """What it asks for from now on; None: as before."""
    avoids_nodes: bool = False
    """Whether to keep off the nodes of this attempt."""


class Failure(NamedTuple):
    """How an attempt failed."""

    reason: Reason
    exit_code: int | None
    detail: str
    error_type: str = ""


def what_follows(entry: Entry, failure: Failure, policy: Policy) -> Again | None:
    """Return the next attempt of a chore, or None where it has failed.

    A node is asked for elsewhere and charged to the infrastructure; only then comes the chore's own
    policy, so that a reboot costs nobody a retry.
    """
    past = entry.past
    if failure.reason in INFRASTRUCTURE and past.losses < policy.max_losses:
        return Again(Budget.LOSS, avoids_nodes=failure.reason is Reason.NODE_FAILURE)
    retry = entry.chore.policy.retry
    if retry is None or past.retries >= retry.limit:
        return None
    if not retry.covers(failure.reason, failure.exit_code, failure.error_type):
        return None
    factors = retry.grow.get(failure.reason.value)
    return Again(
        Budget.RETRY,
        delay=retry.wait_before(past.retries + 1),
        resources=grow(entry.chore.resources, factors) if factors else None,
    )


def grow(resources: Resources, factors: Any) -> Resources:
    """Return a request multiplied field by field; counts are rounded up, what is None stays so.

    There are never more nodes than tasks.

    Parameters
    ----------
    resources
        What was asked for.
    factors
        Field of `Resources` → factor of at least 1.
    """
    changes: dict[str, Any] = {}
    for name, factor in factors.items():
        value = getattr(resources, name)
        if value is not None:
            # Rounded before it is rounded up: 10 × 1.1 is 11, and a little more in binary.
            grown = round(value * factor, 6)
            changes[name] = grown if name == "duration" else ceil(grown)
    if "num_nodes" in changes:
        num_tasks = changes.get("num_tasks", resources.num_tasks)
        changes["num_nodes"] = min(changes["num_nodes"], num_tasks)
    return resources.but(**changes)
