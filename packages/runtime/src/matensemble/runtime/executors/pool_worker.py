"""A pooled chore and a warm worker, as the driver's book has them.

Owns what one worker has been given and what that asks for. Decides nothing: `pool_book` does, its
only caller besides `pool_nodes`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from matensemble.pool_messages import Order, Payload, encode_payload
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.scheduler.resources import Placement, Share

Key = tuple[str, int]
"""Chore id and attempt."""


@dataclass(slots=True, eq=False)
class PooledChore:
    """One attempt that warm workers are to serve, until its end was posted."""

    request: LaunchRequest
    number: int
    """Of the submission: lower ones came earlier."""
    node: int | None
    """Where the scheduler expects it; None: it may run anywhere."""
    queued_at: float
    """When it last began to wait for a worker."""
    key: Key = field(init=False)
    cores: int = field(init=False)
    gpus: int = field(init=False)
    duration: float | None = field(init=False)
    """Its limit in seconds, as last asked for."""
    worker: Worker | None = None
    """Who has it; None: nobody yet."""
    is_told: bool = False
    """Whether `ChoreSubmitted` was posted."""
    is_started: bool = False
    """Whether a worker reported its start."""
    is_cancelled: bool = False

    def __post_init__(self) -> None:
        request = self.request
        self.key = request.chore_id, request.attempt
        self.cores, self.gpus = request.resources.num_cores, request.resources.num_gpus
        self.duration = request.resources.duration

    def order(self) -> Order:
        """Return what its worker is told."""
        request = self.request
        payload = Payload(
            request.record,
            request.argv,
            dict(request.env),
            request.inherit_env,
            str(request.cwd),
            str(request.stdout_path),
            str(request.stderr_path),
        )
        return Order(
            *(request.chore_id, request.attempt, self.cores, self.gpus, self.duration),
            "program" if request.record is None or request.is_program else "call",
            request.wants,
            encode_payload(payload),
        )


class WorkerState(Enum):
    """Where a worker stands."""

    STARTING = auto()
    """Asked for; it has not said hello."""
    READY = auto()
    """It takes chores."""
    CLOSING = auto()
    """It was told to end, and ends what runs."""
    ENDED = auto()
    """Its processes are gone; what it has not accounted for may still be on the way."""


@dataclass(slots=True, eq=False)
class Worker:
    """One warm worker, from its submission until nothing is owed by it or to it."""

    key: str
    """The id of its job at the executor inside."""
    node: int
    host: str
    cores: int
    gpus: int
    submitted_at: float
    state: WorkerState = WorkerState.STARTING
    jobid: str = ""
    placed_at: float | None = None
    """When it left the queue of the executor inside, where that has one."""
    started_at: float | None = None
    """When its process was started."""
    is_unwanted: bool = False
    """Whether its end was asked for: that is no failure of its own."""
    is_freed: bool = False
    """Whether its cores and GPUs are back."""
    has_taken_leave: bool = False
    """Whether it said that nothing is left with it."""
    chores: dict[Key, PooledChore] = field(default_factory=dict)
    """What it was given and has not accounted for, in that order."""
    load: int = 0
    """Cores that these ask for."""
    expected_cores: int = 0
    """Cores of those that the scheduler placed on its node."""
    expected_gpus: int = 0
    idle_since: float = 0.0
    """When it last had nothing to do, while `chores` is empty."""
    crowded_since: float | None = None
    """Since when it has more than fits at once."""
    asked_at: float = 0.0
    """When it was last asked to give something back, or to end."""
    num_unanswered: int = 0
    """Pings since it was last heard."""
    settle_at: float = 0.0
    """When what it has not accounted for is lost, once it has `ENDED`."""
    complaint: str = ""
    """Why the driver ended it, where it did wrong."""
    problem: str = ""
    """How it ended."""

    @property
    def is_open(self) -> bool:
        """Whether it takes chores, or will."""
        return self.state in (WorkerState.STARTING, WorkerState.READY)

    @property
    def is_ready(self) -> bool:
        """Whether it takes chores now."""
        return self.state is WorkerState.READY

    @property
    def is_queued(self) -> bool:
        """Whether the executor inside has not found a place for it, or has not said so."""
        is_placed = self.placed_at is not None or self.started_at is not None
        return self.state is WorkerState.STARTING and not is_placed

    @property
    def is_idle(self) -> bool:
        """Whether it is ready and has nothing to do."""
        return self.state is WorkerState.READY and not self.chores

    @property
    def crowding(self) -> float:
        """Cores asked of it for each that it has."""
        return self.load / self.cores

    def can_hold(self, chore: PooledChore) -> bool:
        """Whether a chore fits into it when it is empty."""
        return chore.cores <= self.cores and chore.gpus <= self.gpus

    def has_room(self, chore: PooledChore) -> bool:
        """Whether a chore fits beside what the scheduler placed here."""
        return (
            self.expected_cores + chore.cores <= self.cores
            and self.expected_gpus + chore.gpus <= self.gpus
        )

    def take(self, chore: PooledChore, now: float) -> None:
        """Note that a chore is given to it."""
        chore.worker = self
        self.chores[chore.key] = chore
        self.load += chore.cores
        if chore.node == self.node:
            self.expected_cores += chore.cores
            self.expected_gpus += chore.gpus
        if self.crowded_since is None and self.load > self.cores:
            self.crowded_since = now

    def drop(self, key: Key, now: float) -> PooledChore | None:
        """Note that it has a chore no more; return that, None where it never had it."""
        chore = self.chores.pop(key, None)
        if chore is None:
            return None
        chore.worker = None
        self.load -= chore.cores
        if chore.node == self.node:
            self.expected_cores -= chore.cores
            self.expected_gpus -= chore.gpus
        if self.load <= self.cores:
            self.crowded_since = None
            if not self.chores:
                self.idle_since = now
        return chore

    def place_of(self, chore: PooledChore) -> Placement:
        """Return what a chore holds that runs here."""
        return (Share(self.node, chore.cores, chore.gpus),)

    def suspects(self) -> set[Key]:
        """Return what may have run when it died, of what it has not accounted for.

        Those that it reported as started, and as many of the oldest as fit into it: what stood
        further behind had no part in its death.
        """
        found = {key for key, chore in self.chores.items() if chore.is_started}
        left = self.cores - sum(self.chores[key].cores for key in found)
        for key, chore in self.chores.items():
            if key not in found:
                left -= chore.cores
                if left < 0:
                    break
                found.add(key)
        return found
