"""How completions are processed: when they are settled, and when starts are considered.

A strategy runs on the thread that owns the state of the run. It never touches that state: it uses
the public methods of `FutureProcessingStrategy`. Pass a class or an instance to
``Pipeline.submit(processing_strategy=…)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

from matensemble.chore import ChoreSpec
from matensemble.model import ChoreState, OutputReference
from matensemble.runtime.executors.base import JobEnded
from matensemble.status import Counts

Completion = JobEnded
"""An attempt that has ended and is not settled yet: ``chore_id, attempt, exit_code, reason``."""


class RunView(Protocol):
    """What a strategy may see of a run; reading it changes nothing."""

    @property
    def counts(self) -> Counts:
        """How many chores stand where."""

    @property
    def counts_by_group(self) -> dict[str, Counts]:
        """The same by group."""

    @property
    def num_live(self) -> int:
        """Chores that are submitted or running."""

    @property
    def num_ready(self) -> int:
        """Chores that wait for resources only."""

    @property
    def free_cores(self) -> int:
        """Cores that no chore holds."""

    @property
    def free_gpus(self) -> int:
        """GPUs that no chore holds."""

    def state_of(self, chore_id: str) -> ChoreState:
        """Return where a chore stands; raises KeyError for an unknown id."""

    def group_of(self, chore_id: str) -> str:
        """Return the name of a chore's group; raises KeyError for an unknown id."""


class Driver(Protocol):
    """What the engine lends to a strategy."""

    @property
    def view(self) -> RunView:
        """The run, read only."""

    def wait(self, timeout: float) -> list[Completion]:
        """Wait for completions."""

    def settle(self, ended: Completion) -> ChoreState:
        """Settle one."""

    def submit_ready(self) -> int:
        """Start what fits."""

    def add_chore(self, spec: ChoreSpec) -> OutputReference[Any]:
        """Add a chore."""


class FutureProcessingStrategy(ABC):
    """Base of processing strategies.

    Parameters
    ----------
    manager
        The `matensemble.manager.FluxManager` that runs it; set by `bind` where it is made without.
    """

    def __init__(self, manager: Driver | None = None) -> None:
        self._driver = manager

    def bind(self, manager: Driver) -> None:
        """Connect the strategy to the run; called before the first round."""
        self._driver = manager

    @abstractmethod
    def process_futures(self, buffer_time: float) -> None:
        """Do one round: wait at most `buffer_time` seconds for completions, and process them.

        Called again and again, until no chore is ready, blocked or running. Every completion that
        `wait` returns must be settled, in this round or a later one.
        """

    @property
    def view(self) -> RunView:
        """The run, read only."""
        return self._manager.view

    def wait(self, timeout: float) -> Sequence[Completion]:
        """Wait until at least one chore has ended, and return those that have, a few dozen at most.

        Parameters
        ----------
        timeout
            Seconds to wait at most, above 0. Returns earlier, and maybe nothing, when something
            else happened that could let a chore start.
        """
        return self._manager.wait(timeout)

    def settle(self, completion: Completion) -> ChoreState:
        """Record the outcome of a completion, unblock its dependents, add what it spawned.

        Returns
        -------
        ChoreState
            Where the chore stands now.
        """
        return self._manager.settle(completion)

    def submit_ready(self) -> int:
        """Start every ready chore that fits now, and return how many were started."""
        return self._manager.submit_ready()

    def add_chore(self, spec: ChoreSpec) -> OutputReference[Any]:
        """Add a chore to the live graph and return a reference to its result.

        A spec that cannot become a chore (unknown name, wrong arguments …) becomes one that failed
        with the reason `invalid_spec`; the run goes on.
        """
        return self._manager.add_chore(spec)

    @property
    def _manager(self) -> Driver:
        if self._driver is None:
            raise RuntimeError(f"{type(self).__name__} is not bound to a run")
        return self._driver


class AdaptiveStrategy(FutureProcessingStrategy):
    """Start what fits as soon as completions are settled, so the allocation stays full."""

    def process_futures(self, buffer_time: float) -> None:
        """Do one round."""
        self.submit_ready()
        for completion in self.wait(buffer_time):
            self.settle(completion)


class NonAdaptiveStrategy(FutureProcessingStrategy):
    """Start in waves: the next one starts when every chore of the last one has ended."""

    def process_futures(self, buffer_time: float) -> None:
        """Do one round."""
        if not self.view.num_live:
            self.submit_ready()
        for completion in self.wait(buffer_time):
            self.settle(completion)
