"""Resource sets of Flux (R, RFC 20) as placements.

Pure: it needs no Flux. Called by the Flux executor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from matensemble.runtime.scheduler.resources import Placement, Share


def parse_idset(text: str) -> list[int]:
    """Return the numbers of an idset such as ``"0-3,7"``, in the order given.

    Raises
    ------
    ValueError
        If it is none.
    """
    ids: list[int] = []
    for part in text.strip("[]").split(","):
        if part:
            first, _, last = part.partition("-")
            ids.extend(range(int(first), int(last or first) + 1))
    return ids


def format_idset(ids: Iterable[int]) -> str:
    """Return numbers as an idset, shortest form: ``"0-3,7"``."""
    runs: list[list[int]] = []
    for number in sorted(ids):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def holdings(resource_set: Mapping[str, Any]) -> dict[int, tuple[int, int]]:
    """Return the number of cores and GPUs by Flux rank.

    Raises
    ------
    KeyError, ValueError
        If it is no resource set of version 1.
    """
    held: dict[int, tuple[int, int]] = {}
    for part in resource_set["execution"]["R_lite"]:
        children = part["children"]
        cores = len(parse_idset(children.get("core", "")))
        gpus = len(parse_idset(children.get("gpu", "")))
        for rank in parse_idset(part["rank"]):
            held[rank] = (cores, gpus)
    return held


def placement_of(resource_set: Mapping[str, Any], nodes: Mapping[int, int]) -> Placement:
    """Return what a job holds of each node.

    Parameters
    ----------
    resource_set
        The R of the job.
    nodes
        Index into `Allocation.nodes` by Flux rank.
    """
    return tuple(
        Share(nodes[rank], cores, gpus)
        for rank, (cores, gpus) in sorted(holdings(resource_set).items())
        if rank in nodes
    )
