"""Which nodes of the allocation are lost, by the journal of Flux's resource module.

Pure: events come in as RFC 21 and the journal word them, `NodesChanged` goes out. A node is lost
while its broker is away (``offline``) or somebody has drained it: Flux starts nothing there. Called
by `flux_driver`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matensemble.runtime.executors.resource_set import parse_idset
from matensemble.runtime.scheduler.events import NodesChanged


class NodeWatch:
    """The nodes that were told to be lost, and what is known of each rank.

    Parameters
    ----------
    nodes
        Index into `Allocation.nodes` by Flux rank. All of them are usable at first.
    """

    def __init__(self, nodes: Mapping[int, int]) -> None:
        self._nodes = nodes
        self._offline: set[int] = set()
        self._drained: set[int] = set()
        self._lost: frozenset[int] = frozenset()
        self._is_caught_up = False

    def begin(self) -> None:
        """Expect the journal from its beginning, once more."""
        self._offline.clear()
        self._drained.clear()
        self._is_caught_up = False

    def apply(self, message: Mapping[str, Any]) -> NodesChanged | None:
        """Return what a message of the journal changes, None where that is nothing.

        Parameters
        ----------
        message
            Its ``events``; without any, it ends the history of which only the outcome counts.
        """
        if not message["events"]:
            self._is_caught_up = True
        for event in message["events"]:
            self._note(event["name"], event.get("context") or {})
        return self._change() if self._is_caught_up else None

    def _note(self, name: str, context: Mapping[str, Any]) -> None:
        if name == "restart":
            self._offline = {*parse_idset(context["ranks"])} - {*parse_idset(context["online"])}
        elif name == "offline":
            self._offline.update(parse_idset(context["idset"]))
        elif name == "online":
            self._offline.difference_update(parse_idset(context["idset"]))
        elif name == "drain":
            self._drained.update(parse_idset(context["idset"]))
        elif name == "undrain":
            self._drained.difference_update(parse_idset(context["idset"]))

    def _change(self) -> NodesChanged | None:
        ranks = self._offline | self._drained
        lost = frozenset(self._nodes[rank] for rank in ranks if rank in self._nodes)
        if lost == self._lost:
            return None
        changed = NodesChanged(lost - self._lost, self._lost - lost)
        self._lost = lost
        return changed
