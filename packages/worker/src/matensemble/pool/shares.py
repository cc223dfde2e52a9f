"""The cores and GPUs of a warm worker, and who holds which of them.

A value object, no process. Called by `service`.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import NamedTuple


class Share(NamedTuple):
    """Some cores and GPUs of a worker, by their ids."""

    cores: tuple[int, ...]
    gpus: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of cores and GPUs."""
        return len(self.cores), len(self.gpus)


class Shares:
    """What is free.

    Parameters
    ----------
    cores, gpus
        Ids of all there are.
    """

    def __init__(self, cores: Sequence[int], gpus: Sequence[str]) -> None:
        self.num_cores = len(cores)
        self.num_gpus = len(gpus)
        self._cores = list(cores)
        self._gpus = list(gpus)
        self._free_cores = set(cores)
        self._free_gpus = set(gpus)

    def fits(self, num_cores: int, num_gpus: int) -> bool:
        """Return whether so much is free."""
        return num_cores <= len(self._free_cores) and num_gpus <= len(self._free_gpus)

    def find(
        self, num_cores: int, num_gpus: int, unwanted: Container[int | str] = ()
    ) -> Share | None:
        """Return a free share of a shape, as far as possible without unwanted ids; take nothing."""
        if not self.fits(num_cores, num_gpus):
            return None
        cores = [core for core in self._cores if core in self._free_cores]
        gpus = [gpu for gpu in self._gpus if gpu in self._free_gpus]
        cores.sort(key=lambda core: core in unwanted)  # stable: ascending otherwise
        gpus.sort(key=lambda gpu: gpu in unwanted)
        return Share(tuple(cores[:num_cores]), tuple(gpus[:num_gpus]))

    def is_free(self, share: Share) -> bool:
        """Return whether all of a share is free."""
        return self._free_cores.issuperset(share.cores) and self._free_gpus.issuperset(share.gpus)

    def take(self, share: Share) -> None:
        """Mark a share as held."""
        self._free_cores.difference_update(share.cores)
        self._free_gpus.difference_update(share.gpus)

    def give_back(self, share: Share) -> None:
        """Mark a share as free."""
        self._free_cores.update(share.cores)
        self._free_gpus.update(share.gpus)
