"""What must hold after every event. Runs after each step in tests, never in a run."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from matensemble.runtime.scheduler import tiers
from matensemble.runtime.scheduler.resources import Share
from matensemble.runtime.scheduler.states import BLOCKED, FAILED, LIVE, READY, SUBMITTED
from matensemble.runtime.scheduler.tiers import Tier, can_be_pooled

if TYPE_CHECKING:
    from matensemble.runtime.scheduler.state import SchedulerState


def validate(state: SchedulerState) -> None:
    """Assert every invariant of the scheduler's state; O(chores + nodes).

    Raises
    ------
    AssertionError
        If one does not hold; names the chore or node.
    """
    _check_resources(state)
    _check_counts(state)
    _check_chores(state)
    _check_tiers(state)


def _check_resources(state: SchedulerState) -> None:
    held: dict[int, list[int]] = {}
    for entry in state:
        for share in entry.placement or ():
            _add(held, share)
    for placement in state.starter.lingering.values():
        for share in placement:
            _add(held, share)
    ledger = state.ledger
    for index, node in enumerate(state.allocation.nodes):
        cores, gpus = held.get(index, (0, 0))
        assert ledger.free_on(index) == (node.cores - cores, node.gpus - gpus), (
            f"node {index}: held + free is not its capacity"
        )
    kept = [i for i in range(len(state.allocation.nodes)) if i not in ledger._lost]
    total_cores = sum(ledger.free_on(i)[0] for i in kept)
    assert ledger.free_cores == total_cores, "free cores are not the sum over the nodes"
    for key, members in ledger._classes.items():
        assert members, "an empty class of nodes"
        assert all(ledger.free_on(index) == key for index in members), "a node in a wrong class"
    assert ledger._keys == sorted(ledger._classes), "the classes are not the sorted keys"


def _add(held: dict[int, list[int]], share: Share) -> None:
    cores_gpus = held.setdefault(share.node, [0, 0])
    cores_gpus[0] += share.cores
    cores_gpus[1] += share.gpus


def _check_counts(state: SchedulerState) -> None:
    roster = state.roster
    by_state = Counter(entry.state for entry in state)
    assert {s: n for s, n in roster.total.items() if n} == dict(by_state), "counts differ"
    for name, group in roster.groups.items():
        recount = Counter(entry.state for entry in group.members)
        assert {s: n for s, n in group.counts.items() if n} == dict(recount), (
            f"counts of {name} differ"
        )
    unended = Counter(e.chore.stage for e in state if not e.state.is_terminal)
    assert {s: n for s, n in enumerate(roster.unended) if n} == dict(unended), "stages differ"
    live = {entry.chore.id for entry in state if entry.state in LIVE}
    assert set(roster.live) == live, "live attempts differ from submitted and running chores"
    delayed = sum(entry.past.is_delayed for entry in state)
    assert delayed == state.num_delayed, "delayed chores differ from a recount"
    failed = [entry for entry in state if entry.state is FAILED]
    assert len(failed) == state.num_root_failures, "root failures differ from a recount"
    assert sum(e.is_ignoring for e in failed) == state.num_ignored, "ignored failures differ"
    assert set(state.starter.queued) <= live, "a queued chore is not live"


def _check_chores(state: SchedulerState) -> None:
    gathering = {entry.chore.id for waiting in state.roster.gathering.values() for entry in waiting}
    for entry in state:
        name = entry.chore.id
        waits = sum(not state.entry(up).is_satisfied for up in entry.chore.upstream)
        waits += (name in gathering) + entry.past.is_delayed
        if entry.state is BLOCKED:
            assert entry.missing > 0, f"{name} is blocked without a reason"
            counts_all = waits == entry.missing or (state.is_disturbed and waits > entry.missing)
            assert counts_all, f"{name} waits for {waits} and counts {entry.missing}"
        elif entry.state is READY and not state.is_disturbed:
            assert waits == 0, f"{name} is {entry.state} before its dependencies completed"
        if entry.state in (BLOCKED, READY):
            assert entry.placement is None or entry.attempt, f"{name} holds resources too early"
        if entry.state is SUBMITTED and entry.placement is None:
            assert name in state.starter.queued, (
                f"{name} was submitted and neither holds nor queues"
            )


def _check_tiers(state: SchedulerState) -> None:
    """Whoever is ready stands where it is found: in a queue, put aside, or held back for probes."""
    held = {entry.chore.id for entry in state.tiers.waiting()}
    queued = {(entry.chore.id, entry.shape) for entry in state.starter.waiting()}
    probes: Counter[str] = Counter()
    for entry in state:
        name, tier = entry.chore.id, state.tiers.tier_of(entry.chore)
        probes[entry.chore.name] += entry.is_probe
        if entry.is_probe:
            assert entry.state in (READY, *LIVE), f"{name} is a probe and {entry.state}"
        if entry.state is not READY:
            continue
        assert not entry.shape.is_pooled or can_be_pooled(entry.chore.resources), (
            f"{name} waits for a warm worker, which cannot run it"
        )
        if name in state.starter.too_long:
            continue
        if name in held:
            assert tier is Tier.UNKNOWN, f"{name} is held back, and its group is {tier}"
        else:
            assert (name, entry.shape) in queued, f"{name} is ready and waits nowhere"
            assert entry.shape.is_pooled is tier.is_pooled, f"{name} waits for what it is not"
            assert entry.is_probe or tier is not Tier.UNKNOWN, f"{name} is no probe, and not held"
    for group, num_probes in state.tiers.num_probes().items():
        assert probes[group] == num_probes <= tiers.PROBES, f"{group}: {num_probes} probes"
        waits = any(state.entry(name).chore.name == group for name in held)
        assert not waits or num_probes == tiers.PROBES, f"{group} is held back for nothing"
