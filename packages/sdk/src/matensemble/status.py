"""Shape of `status.json`: encode, decode, validate.

Owns the format, not when it is written: that is the runtime's. Read by the command line and the
dashboard, which never load a pickle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

from matensemble.errors import FormatError
from matensemble.foreign_json import read_foreign_json
from matensemble.model import RunState

STATUS_FORMAT = 1
MAX_ROOT_FAILURES = 20
MAX_STATUS_BYTES = 16 * 1024 * 1024
"""More than any status has: ten thousand groups take 2 MB."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many chores stand where."""

    total: int = 0
    """All chores known so far."""
    pending: int = 0
    """Blocked, ready or submitted."""
    running: int = 0
    """Started and not ended."""
    completed: int = 0
    """Ended well."""
    failed: int = 0
    """Ended badly, dependents of failures included."""
    cancelled: int = 0
    """Stopped on request."""


@dataclass(frozen=True, slots=True)
class RootFailure:
    """A failure that is not the consequence of another."""

    chore_id: str
    reason: str
    exit_code: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """Content of `status.json`."""

    run: str
    """Name of the run directory."""
    state: RunState
    """State of the run."""
    sequence: int = 0
    """Number of the journal record it reflects; grows within an epoch."""
    epoch: int = 1
    """Epoch of the owner that wrote it."""
    beat: int = 0
    """Number of the publication, from 1 in each epoch: a driver is alive while this moves. No clock
    is compared, so that hosts whose clocks differ agree."""
    counts: Counts = field(default_factory=Counts)
    """In all."""
    groups: Mapping[str, Counts] = field(default_factory=dict)
    """By group."""
    executor: str = ""
    """Name of the executor."""
    num_nodes: int = 0
    """Usable nodes of the allocation."""
    total_cores: int = 0
    """Usable cores of the allocation."""
    free_cores: int = 0
    """Cores that no chore holds."""
    total_gpus: int = 0
    """Usable GPUs of the allocation."""
    free_gpus: int = 0
    """GPUs that no chore holds."""
    rate: float = 0.0
    """Chores that ended per second, lately (an exponential mean over about a minute)."""
    root_failures: tuple[RootFailure, ...] = ()
    """The first 20."""
    num_root_failures: int = 0
    """How many there are."""
    host: str = ""
    """Host of the driver."""
    pid: int = 0
    """Process of the driver."""
    started_at: str | None = None
    """ISO 8601, UTC."""
    updated_at: str | None = None
    """ISO 8601, UTC."""
    ended_at: str | None = None
    """ISO 8601, UTC; None while the run is alive."""
    ends_at: str | None = None
    """When the allocation ends, as its driver learned at the start (ISO 8601, UTC); None where no
    end is known."""
    detail: str = ""
    """Why it is in this state, where that needs a word."""

    def to_json(self) -> dict[str, Any]:
        """Return the object that is written to `status.json`; O(groups)."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        data["counts"] = _fields_of_counts(self.counts)
        data["groups"] = {name: _fields_of_counts(counts) for name, counts in self.groups.items()}
        data["root_failures"] = [_fields_of_failure(failure) for failure in self.root_failures]
        return {"format": STATUS_FORMAT, **data}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], path: str = "status.json") -> RunStatus:
        """Return the status of `to_json`; fields of later versions are ignored.

        Raises
        ------
        FormatError
            If it is none, or of a format that this version does not know.
        """
        try:
            if data["format"] != STATUS_FORMAT:
                raise FormatError(
                    path, f"has format {data['format']}; this version reads {STATUS_FORMAT}"
                )
            known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
            known["state"] = RunState(known["state"])
            known["counts"] = _only_fields(Counts, known["counts"])
            known["groups"] = {
                name: _only_fields(Counts, counts) for name, counts in known["groups"].items()
            }
            known["root_failures"] = tuple(
                _only_fields(RootFailure, failure) for failure in known["root_failures"]
            )
            return cls(**known)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(path, f"is no status ({type(error).__name__}: {error})") from error


def _fields_of(cls: Any) -> Callable[[Any], dict[str, Any]]:
    """Return what does as `asdict`, for flat objects of a class, in a tenth of the time."""
    names = tuple(cls.__dataclass_fields__)
    values = attrgetter(*names)
    return lambda one: dict(zip(names, values(one), strict=True))


_fields_of_counts = _fields_of(Counts)  # there may be ten thousand groups
_fields_of_failure = _fields_of(RootFailure)


def _only_fields(cls: Any, data: Mapping[str, Any]) -> Any:
    if not isinstance(data, Mapping):
        raise TypeError(f"{data!r} is no mapping")
    return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})


def read_status(path: Path) -> RunStatus:
    """Read `status.json`.

    Raises
    ------
    FileNotFoundError
        If the run has not been started.
    FormatError
        If it cannot be read.
    """
    return RunStatus.from_json(read_foreign_json(path, MAX_STATUS_BYTES), str(path))
