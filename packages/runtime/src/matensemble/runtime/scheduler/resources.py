"""Capacity and who holds it, node by node.

Owns the ledger of cores and GPUs. Fit is decided per node, never on sums: a task must fit on one
node. Identities of cores and GPUs are the executor's; here they are counted.
"""

from __future__ import annotations

from bisect import insort
from functools import lru_cache
from typing import NamedTuple

from matensemble.model import Resources


class Node(NamedTuple):
    """One node of the allocation."""

    name: str
    """Host name, for messages."""
    cores: int
    """Usable cores."""
    gpus: int = 0
    """Usable GPUs."""


class Allocation(NamedTuple):
    """The nodes that chores may use."""

    nodes: tuple[Node, ...]

    @property
    def num_cores(self) -> int:
        """Cores of all nodes."""
        return sum(node.cores for node in self.nodes)

    @property
    def num_gpus(self) -> int:
        """GPUs of all nodes."""
        return sum(node.gpus for node in self.nodes)

    def describe(self) -> str:
        """Return the allocation in words, equal nodes together, for messages."""
        kinds: dict[tuple[int, int], int] = {}
        for node in self.nodes:
            if not node.cores:
                continue  # lost
            kinds[node.cores, node.gpus] = kinds.get((node.cores, node.gpus), 0) + 1
        return ", ".join(
            f"{count} node{'s' if count > 1 else ''} with {cores} core{'s' if cores > 1 else ''}"
            + (f" and {gpus} GPU{'s' if gpus > 1 else ''}" if gpus else "")
            + (" each" if count > 1 else "")
            for (cores, gpus), count in sorted(kinds.items(), reverse=True)
        )


class Share(NamedTuple):
    """What a chore holds of one node."""

    node: int
    """Index into `Allocation.nodes`."""
    cores: int
    gpus: int


Placement = tuple[Share, ...]


class Shape(NamedTuple):
    """The part of a request that decides where it fits; chores of one shape wait together."""

    num_tasks: int
    cores_per_task: int
    gpus_per_task: int
    num_nodes: int | None
    exclusive: bool
    is_pooled: bool = False
    """Whether a warm worker is to serve it: such chores wait apart from those that become jobs."""

    @classmethod
    def of(cls, resources: Resources, *, is_pooled: bool = False) -> Shape:
        """Return the shape of a request."""
        return cls(
            resources.num_tasks,
            resources.cores_per_task,
            resources.gpus_per_task,
            resources.num_nodes,
            resources.exclusive,
            is_pooled,
        )

    @property
    def num_cores(self) -> int:
        """Cores of all tasks together."""
        return self.num_tasks * self.cores_per_task


@lru_cache(maxsize=1024)  # a million chores share a few shapes
def turned(shape: Shape) -> Shape:
    """Return the same shape for a warm worker instead of a job, or the other way round."""
    return shape._replace(is_pooled=not shape.is_pooled)


class Ledger:
    """Free cores and GPUs of each node; `free_cores` and `free_gpus` of all that are not lost.

    Nodes of equal free capacity form a class, so that a search costs the number of classes
    (bounded by cores × GPUs of a node), not the number of nodes.
    """

    def __init__(self, allocation: Allocation) -> None:
        self.allocation = allocation
        self._whole = allocation
        self._free: list[tuple[int, int]] = [(n.cores, n.gpus) for n in allocation.nodes]
        self._classes: dict[tuple[int, int], dict[int, None]] = {}
        self._keys: list[tuple[int, int]] = []  # sorted; the keys of _classes
        for index, free in enumerate(self._free):
            self._enter(index, free)
        self._lost: set[int] = set()
        self.free_cores = allocation.num_cores
        self.free_gpus = allocation.num_gpus

    def _enter(self, index: int, free: tuple[int, int]) -> None:
        members = self._classes.get(free)
        if members is None:
            members = self._classes[free] = {}
            insort(self._keys, free)
        members[index] = None

    def _leave(self, index: int, free: tuple[int, int]) -> None:
        members = self._classes[free]
        del members[index]
        if not members:
            del self._classes[free]
            self._keys.remove(free)

    def free_on(self, index: int) -> tuple[int, int]:
        """Return the free cores and GPUs of a node (may be negative after a correction)."""
        return self._free[index]

    def change(self, index: int, cores: int, gpus: int) -> None:
        """Add to the free capacity of a node (negative numbers take)."""
        before = self._free[index]
        after = (before[0] + cores, before[1] + gpus)
        self._leave(index, before)
        self._free[index] = after
        self._enter(index, after)
        if index not in self._lost:
            self.free_cores += cores
            self.free_gpus += gpus

    def lose(self, index: int) -> None:
        """Take a node out; what is held there is given back to nobody. Does nothing twice."""
        if index not in self._lost:
            # What runs on there (a drained node goes on) must not count against the others.
            cores, gpus = self._free[index]
            self.free_cores -= cores
            self.free_gpus -= gpus
            self._lost.add(index)
            self._resize(index, 0, 0)

    def regain(self, index: int) -> None:
        """Take a node in again with all it has. Does nothing twice."""
        if index in self._lost:
            self._resize(index, *self._whole.nodes[index][1:])
            self._lost.remove(index)
            cores, gpus = self._free[index]
            self.free_cores += cores
            self.free_gpus += gpus

    def _resize(self, index: int, cores: int, gpus: int) -> None:
        node = self.allocation.nodes[index]
        self.change(index, cores - node.cores, gpus - node.gpus)
        nodes = [*self.allocation.nodes]
        nodes[index] = Node(node.name, cores, gpus)
        self.allocation = Allocation(tuple(nodes))

    def take(self, placement: Placement) -> None:
        """Mark a placement as held."""
        for share in placement:
            self.change(share.node, -share.cores, -share.gpus)

    def give_back(self, placement: Placement) -> None:
        """Mark a placement as free again."""
        for share in placement:
            self.change(share.node, share.cores, share.gpus)

    def find(self, shape: Shape, barred: frozenset[int] = frozenset()) -> Placement | None:
        """Return a placement for a shape on what is free now, or None.

        Tasks go to the nodes with most free cores first, as Flux's own schedulers do (worst fit),
        so that a prediction for Flux is usually right.

        Parameters
        ----------
        shape
            What is asked for.
        barred
            Nodes that are set aside for another chore.
        """
        if shape.num_nodes is not None:
            return self._find_on_nodes(shape, shape.num_nodes, barred)
        cores, gpus = shape.cores_per_task, shape.gpus_per_task
        left = shape.num_tasks
        if left == 1 and not barred:
            return self._find_one(cores, gpus)
        shares: list[Share] = []
        for free_cores, free_gpus in reversed(self._keys):
            slots = _slots(free_cores, free_gpus, cores, gpus)
            if slots <= 0:
                if free_cores < cores:
                    break  # keys are sorted by cores first
                continue
            for index in self._classes[free_cores, free_gpus]:
                if index in barred:
                    continue
                count = min(slots, left)
                shares.append(Share(index, count * cores, count * gpus))
                left -= count
                if not left:
                    return tuple(shares)
        return None

    def _find_one(self, cores: int, gpus: int) -> Placement | None:
        for key in reversed(self._keys):
            if key[0] < cores:
                return None
            if key[1] >= gpus:
                return (Share(next(iter(self._classes[key])), cores, gpus),)
        return None

    def _find_on_nodes(
        self, shape: Shape, num_nodes: int, barred: frozenset[int]
    ) -> Placement | None:
        # As Flux: every node gets the same number of task slots.
        slots = -(-shape.num_tasks // num_nodes)
        cores, gpus = slots * shape.cores_per_task, slots * shape.gpus_per_task
        shares: list[Share] = []
        for key in reversed(self._keys):
            if key[0] < cores:
                break
            if key[1] < gpus:
                continue
            for index in self._classes[key]:
                if index in barred:
                    continue
                node = self.allocation.nodes[index]
                if not shape.exclusive:
                    shares.append(Share(index, cores, gpus))
                elif key == (node.cores, node.gpus):
                    shares.append(Share(index, node.cores, node.gpus))
                else:
                    continue
                if len(shares) == num_nodes:
                    return tuple(shares)
        return None


def _slots(free_cores: int, free_gpus: int, cores: int, gpus: int) -> int:
    """Return how many tasks fit into a node with so much free."""
    slots = free_cores // cores
    return min(slots, free_gpus // gpus) if gpus else slots


def can_ever_fit(shape: Shape, allocation: Allocation) -> bool:
    """Return whether a shape fits into the empty allocation."""
    return Ledger(allocation).find(shape) is not None


def nodes_to_set_aside(shape: Shape, ledger: Ledger) -> frozenset[int]:
    """Return nodes that hold a shape once they are empty: those with least to wait for.

    O(nodes · log nodes); called once for a chore whose patience is over.
    """
    nodes = ledger.allocation.nodes
    tasks_per_node = -(-shape.num_tasks // shape.num_nodes) if shape.num_nodes else None
    left = shape.num_nodes or shape.num_tasks
    chosen = []
    for index in sorted(
        range(len(nodes)), key=lambda index: (nodes[index].cores - ledger.free_on(index)[0], index)
    ):
        node = nodes[index]
        slots = _slots(node.cores, node.gpus, shape.cores_per_task, shape.gpus_per_task)
        gain = slots if tasks_per_node is None else int(slots >= tasks_per_node)
        if gain <= 0:
            continue
        chosen.append(index)
        left -= gain
        if left <= 0:
            break
    return frozenset(chosen)
