"""What runs a chore: a warm worker, or a job of its own.

Owns what is known of that, group by group, and the chores that wait until more is known. It has no
clock: how long a chore took comes with the facts, and a probe that takes too long is told by a
timer that was ordered. Written by `SchedulerState` only.

A chore that can run on a warm worker does so where it says so itself, or the run does. Where
neither decides (``"auto"``) its group is looked at::

    UNKNOWN ── one ended soon, and the group has MIN_CHORES ──> TRIAL ── short, against ──> POOL
       │ few run at a time, as jobs; the others wait              │ on warm workers   a launch
       └──── one takes long, or nobody knows how long ──> JOB <───┘ not so short

A chore that takes long must not run where it could hold up others, so nothing of a group runs on a
warm worker before one of it was seen to be short.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from heapq import heappop, heappush
from typing import NamedTuple

from matensemble.chore import Chore
from matensemble.model import Resources
from matensemble.runtime.scheduler.entry import Entry
from matensemble.runtime.scheduler.states import READY

PROBES = 32
"""Chores of a group that are on their way as jobs, at most, until one of them has ended."""
PROBE_SECONDS = 5.0
"""A chore that takes so long has a job of its own, whatever it costs to start one."""
MIN_CHORES = 16
"""Of groups with fewer chores it does not matter what they cost to start."""
NUM_MEASURED = 3
"""Chores of a group that are measured on warm workers before it is decided."""
WORTH = 10.0
"""Chores that take less than so many times the start of a process run on warm workers."""


class Tier(StrEnum):
    """What suits the chores of a group."""

    UNKNOWN = "unknown"
    """Not known yet: some run as jobs and are measured, the others wait."""
    TRIAL = "trial"
    """Short enough for warm workers, where it is measured whether they are worth it."""
    POOL = "pool"
    """Warm workers."""
    JOB = "job"
    """A job of its own for each."""

    @property
    def is_pooled(self) -> bool:
        """Whether warm workers run what is of this tier."""
        return self is Tier.TRIAL or self is Tier.POOL


class Decision(NamedTuple):
    """From now on something else runs the chores of a group."""

    group: str | None
    """None: all groups, since no warm worker can be had."""
    tier: Tier
    elapsed: float | None = None
    """Seconds that its chores take, as far as they were measured."""
    launch: float | None = None
    """Seconds that it takes to start a process, where that counted."""
    detail: str = ""
    """Why, where these do not tell."""


def can_be_pooled(resources: Resources) -> bool:
    """Return whether a warm worker can run what asks for this."""
    return (
        resources.num_tasks == 1
        and not resources.mpi
        and not resources.exclusive
        and resources.num_nodes in (None, 1)
    )


class _Group:
    """What is known of a group that decides for itself."""

    __slots__ = (
        "has_short",
        "is_timed",
        "num_measured",
        "num_probes",
        "seconds",
        "tier",
        "waiting",
    )

    def __init__(self, tier: Tier) -> None:
        self.tier = tier
        self.num_probes = 0
        """Chores that may run before it is decided: they wait for room only, or run."""
        self.is_timed = False
        """Whether a timer was ordered for its probes."""
        self.has_short = False
        """Whether one of them ended soon."""
        self.num_measured = 0
        """Of those that warm workers ran; together they took `seconds`."""
        self.seconds = 0.0
        self.waiting: list[tuple[tuple[int, int], Entry]] = []
        """A heap of the others; what has moved on meanwhile is dropped when it is met."""


class Tiers:
    """What runs which chore.

    Parameters
    ----------
    workers
        As `RunOptions.workers`; for chores that do not say it themselves.
    known
        Group → tier that an earlier driver had found.
    """

    def __init__(self, workers: str, known: Mapping[str, Tier]) -> None:
        self._workers = workers
        self._groups = {name: _Group(tier) for name, tier in known.items()}
        self._launch: float | None = None
        self.is_lost = False
        """Whether no warm worker can be had."""

    # --- what runs a chore --------------------------------------------------------------------

    def tier_of(self, chore: Chore) -> Tier:
        """Return what is to run a chore that starts now."""
        workers = chore.policy.workers or self._workers
        if workers == "job" or self.is_lost or not can_be_pooled(chore.resources):
            return Tier.JOB
        return Tier.POOL if workers == "pool" else self._group(chore.name).tier

    def _group(self, name: str) -> _Group:
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = _Group(Tier.UNKNOWN)
        return group

    def is_probing(self, chore: Chore) -> bool:
        """Whether the end of a chore tells something about its group."""
        if (chore.policy.workers or self._workers) != "auto" or self.is_lost:
            return False
        group = self._groups.get(chore.name)
        is_open = group is None or group.tier in (Tier.UNKNOWN, Tier.TRIAL)
        return is_open and can_be_pooled(chore.resources)

    # --- probes -------------------------------------------------------------------------------

    def admit(self, entry: Entry) -> bool:
        """Let a ready chore of an unknown group be a probe; else it waits here: return which."""
        group = self._group(entry.chore.name)
        if group.num_probes < PROBES:
            group.num_probes += 1
            return True
        heappush(group.waiting, (entry.order, entry))
        return False

    def dismiss(self, chore: Chore) -> Entry | None:
        """Note that a probe is one no longer; return the chore that is to be one instead."""
        group = self._group(chore.name)
        group.num_probes -= 1
        while group.tier is Tier.UNKNOWN and group.waiting:
            order, entry = heappop(group.waiting)
            if _still_waits(entry, order):
                return entry
        return None

    def begin_timer(self, chore: Chore) -> bool:
        """Note that a probe runs; return whether a timer is to be set for its group."""
        group = self._group(chore.name)
        if group.is_timed or group.tier is not Tier.UNKNOWN:
            return False
        group.is_timed = True
        return True

    def waiting(self) -> Iterator[Entry]:
        """Yield the chores that wait until more is known of their group; some perhaps twice."""
        for group in self._groups.values():
            yield from (entry for order, entry in group.waiting if _still_waits(entry, order))

    def take_waiting(self, name: str | None = None) -> list[Entry]:
        """Return the chores that waited, of one group or all, and forget them."""
        groups = self._groups.values() if name is None else (self._group(name),)
        taken = []
        for group in groups:
            taken += [entry for order, entry in group.waiting if _still_waits(entry, order)]
            group.waiting.clear()
        return taken

    def num_probes(self) -> dict[str, int]:
        """Return how many probes the unknown groups have on their way."""
        unknown = Tier.UNKNOWN
        return {n: g.num_probes for n, g in self._groups.items() if g.tier is unknown}

    # --- what becomes known -------------------------------------------------------------------

    def ended(
        self, chore: Chore, elapsed: float | None, num_known: int, *, was_pooled: bool
    ) -> Decision | None:
        """Take how long an attempt took, of a chore for which `is_probing` holds.

        Parameters
        ----------
        chore
            The chore.
        elapsed
            Seconds; None where nobody knows.
        num_known
            How many chores its group has.
        was_pooled
            Whether a warm worker ran it.
        """
        group = self._group(chore.name)
        if group.tier is Tier.UNKNOWN:
            if elapsed is None:
                return self._decide(chore.name, Tier.JOB, detail="nobody knows how long they take")
            if elapsed >= PROBE_SECONDS:
                return self._decide(chore.name, Tier.JOB, elapsed)
            group.has_short = True
            return self.grown(chore, num_known, elapsed)
        if not was_pooled or elapsed is None:
            return None
        group.num_measured += 1
        group.seconds += elapsed
        return self._weigh(chore.name)

    def grown(self, chore: Chore, num_known: int, elapsed: float | None = None) -> Decision | None:
        """Take that the group of a chore has so many now."""
        group = self._group(chore.name)
        if group.tier is Tier.UNKNOWN and group.has_short and num_known >= MIN_CHORES:
            return self._decide(chore.name, Tier.TRIAL, elapsed)
        return None

    def overdue(self, name: str, *, is_running: bool) -> Decision | None:
        """Take that the timer of a group is over.

        Parameters
        ----------
        name
            The group.
        is_running
            Whether a probe runs still.
        """
        group = self._group(name)
        group.is_timed = False
        if self.is_lost or group.tier is not Tier.UNKNOWN or group.has_short or not is_running:
            return None
        return self._decide(name, Tier.JOB, detail=f"one takes more than {PROBE_SECONDS:g} s")

    def learn_launch(self, seconds: float) -> list[Decision]:
        """Take what it costs to start a process; the least that was seen counts."""
        self._launch = seconds if self._launch is None else min(self._launch, seconds)
        trials = [name for name, group in self._groups.items() if group.tier is Tier.TRIAL]
        return [d for name in trials if (d := self._weigh(name)) is not None]

    def lose(self, detail: str) -> Decision | None:
        """Take that no warm worker can be had; None where that was known."""
        if self.is_lost:
            return None
        self.is_lost = True
        return Decision(None, Tier.JOB, detail=detail)

    def _weigh(self, name: str) -> Decision | None:
        """Decide about a group on trial, once enough is known of it."""
        group = self._groups[name]
        if self.is_lost or self._launch is None or group.num_measured < NUM_MEASURED:
            return None
        mean = group.seconds / group.num_measured
        tier = Tier.POOL if mean < WORTH * self._launch else Tier.JOB
        return self._decide(name, tier, mean, self._launch)

    def _decide(
        self,
        name: str,
        tier: Tier,
        elapsed: float | None = None,
        launch: float | None = None,
        detail: str = "",
    ) -> Decision:
        self._groups[name].tier = tier
        return Decision(name, tier, elapsed, launch, detail)


def _still_waits(entry: Entry, order: tuple[int, int]) -> bool:
    """Whether a chore is where it was put: its state or its order may have changed since."""
    return entry.state is READY and not entry.is_probe and entry.order == order
