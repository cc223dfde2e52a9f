"""The values that users and all distributions share.

Owns resources, references, chore states, reason codes and the result of an executable. Every value
is immutable and validated when it is made, so nothing downstream checks again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from matensemble import references
from matensemble.errors import InvalidOptionError, InvalidResourcesError, ReferenceUseError

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class ChoreType(StrEnum):
    """What a chore is."""

    PYTHON = "python"
    """A delayed function call."""
    EXECUTABLE = "executable"
    """A program with its arguments."""


class ChoreState(StrEnum):
    """Where a chore is on its way."""

    BLOCKED = "blocked"
    """At least one dependency has not completed."""
    READY = "ready"
    """Every dependency completed; waits for resources."""
    SUBMITTED = "submitted"
    """Handed to the executor."""
    RUNNING = "running"
    """Its processes were started."""
    COMPLETED = "completed"
    """Ended well, its result is intact."""
    FAILED = "failed"
    """Ended badly; `Reason` says why."""
    CANCELLED = "cancelled"
    """Stopped on request."""
    SKIPPED = "skipped"
    """A dependency failed; shown to users as failed with `dependency_failed`."""

    @property
    def is_terminal(self) -> bool:
        """Whether a chore in this state has ended."""
        return self in _TERMINAL


_TERMINAL = frozenset(
    {ChoreState.COMPLETED, ChoreState.FAILED, ChoreState.CANCELLED, ChoreState.SKIPPED}
)


class RunState(StrEnum):
    """State of a run as `status.json` shows it."""

    RUNNING = "running"
    """The driver is at work."""
    PAUSED = "paused"
    """Nothing more starts, until it is told to go on."""
    DRAINING = "draining"
    """It was asked to stop, and ends what runs."""
    DEGRADED = "degraded"
    """Its files cannot be written: nothing more starts until they can, what runs goes on."""
    INTERRUPTED = "interrupted"
    """It was stopped before its chores had ended, or the driver could not go on."""
    COMPLETED = "completed"
    """All chores completed, or are such whose failure is ignored."""
    FAILED = "failed"
    """At least one chore failed."""
    CANCELLED = "cancelled"
    """At least one chore was stopped on request, and none failed."""

    @property
    def is_terminal(self) -> bool:
        """Whether no driver works on a run in this state."""
        return self in (
            RunState.INTERRUPTED,
            RunState.COMPLETED,
            RunState.FAILED,
            RunState.CANCELLED,
        )


class Reason(StrEnum):
    """Why a chore has no result. The codes are stable; programs may compare them."""

    NONZERO_EXIT = "nonzero_exit"
    """The process ended with a code that is not a success code."""
    SIGNAL = "signal"
    """The process was ended by a signal that MatEnsemble did not send."""
    EXCEPTION = "exception"
    """The function raised."""
    IMPORT_ERROR = "import_error"
    """A module that the chore needs is missing in the compute environment."""
    UNPICKLABLE_RESULT = "unpicklable_result"
    """The function returned something that cannot be pickled."""
    RESULT_MISSING = "result_missing"
    """The process ended well, but a result or a declared output is not there."""
    RESULT_CORRUPT = "result_corrupt"
    """A result does not match its footer."""
    EXECUTABLE_NOT_FOUND = "executable_not_found"
    """The program is not on the path or cannot be executed."""
    SUBMIT_ERROR = "submit_error"
    """The executor refused the chore."""
    EXCEEDS_ALLOCATION = "exceeds_allocation"
    """The chore can never fit into the allocation."""
    DURATION_EXCEEDED = "duration_exceeded"
    """The chore ran longer than its `duration`."""
    IDLE_TIMEOUT = "idle_timeout"
    """The chore wrote nothing for too long."""
    OUTPUT_EXCEEDED = "output_exceeded"
    """The chore wrote more to stdout and stderr than its `max_output`."""
    OUT_OF_MEMORY = "out_of_memory"
    """The chore ran out of memory."""
    NODE_FAILURE = "node_failure"
    """The node under the chore was lost."""
    IO_ERROR = "io_error"
    """A file of the chore could not be read or written."""
    INVALID_SPEC = "invalid_spec"
    """A strategy returned a chore that cannot exist."""
    DEPENDENCY_FAILED = "dependency_failed"
    """A chore that this one needs has no result; `upstream` names the root."""
    CANCELLED = "cancelled"
    """Stopped on request."""


# --- resources --------------------------------------------------------------------------------

NICE_RANGE = (-1_000_000, 1_000_000)
_DURATION = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h|d)?\s*")
_UNIT_SECONDS = {"ms": 1e-3, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: float | str, option: str = "duration") -> float:
    """Return a duration in seconds.

    Parameters
    ----------
    value
        Seconds as a number, or text with a unit: ``"90s"``, ``"30m"``, ``"1.5h"``, ``"2d"``,
        ``"250ms"``. The units are those of Flux Standard Duration (Flux RFC 23).
    option
        What to call it in an error.

    Raises
    ------
    InvalidOptionError
        If it is no duration, or not greater than zero and finite.
    """
    expected = "a number of seconds above 0, or text like '30m' (ms, s, m, h, d)"
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if match is None:
            raise InvalidOptionError(option, value, expected)
        seconds = float(match[1]) * _UNIT_SECONDS[match[2]]
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise InvalidOptionError(option, value, expected)
    if not 0 < seconds < float("inf"):
        raise InvalidOptionError(option, value, expected)
    return seconds


def check_nice(nice: object) -> int:
    """Return a valid `nice`: an integer, lower runs first.

    Raises
    ------
    InvalidOptionError
        If it is none.
    """
    low, high = NICE_RANGE
    if not isinstance(nice, int) or isinstance(nice, bool) or not low <= nice <= high:
        raise InvalidOptionError("nice", nice, f"an integer from {low} to {high}")
    return nice


@dataclass(frozen=True, slots=True)
class Resources:
    """What a chore needs to run.

    A chore takes ``num_tasks × cores_per_task`` cores and ``num_tasks × gpus_per_task`` GPUs; each
    task must fit on one node.

    Raises
    ------
    InvalidResourcesError
        If a value is impossible in itself.
    """

    num_tasks: int = 1
    """Number of processes (MPI ranks), at least 1."""
    cores_per_task: int = 1
    """CPU cores of each task, at least 1."""
    gpus_per_task: int = 0
    """GPUs of each task, at least 0."""
    mpi: bool = False
    """Whether the tasks are ranks of one MPI program."""
    env: Mapping[str, str] | None = None
    """Environment variables laid over the inherited ones; None adds nothing."""
    inherit_env: bool = True
    """Whether the driver's environment, as it is at run time, is passed on."""
    num_nodes: int | None = None
    """Spread the tasks evenly over this many nodes, 1 to `num_tasks`; None lets them fall."""
    exclusive: bool = False
    """Whether no other chore may share the nodes; needs `num_nodes`."""
    duration: float | None = None
    """Limit and plan of time in seconds (or text like ``"30m"``); None is no limit."""

    def __post_init__(self) -> None:
        for name, minimum in (("num_tasks", 1), ("cores_per_task", 1), ("gpus_per_task", 0)):
            value = getattr(self, name)
            if not _is_integer(value) or value < minimum:
                raise InvalidResourcesError(name, value, f"an integer of at least {minimum}")
        for name in ("mpi", "inherit_env", "exclusive"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidResourcesError(name, getattr(self, name), "True or False")
        if self.num_nodes is not None:
            if not _is_integer(self.num_nodes) or not 1 <= self.num_nodes <= self.num_tasks:
                raise InvalidResourcesError(
                    "num_nodes", self.num_nodes, f"an integer from 1 to num_tasks={self.num_tasks}"
                )
        elif self.exclusive:
            raise InvalidResourcesError("exclusive", True, "given together with num_nodes")
        if self.duration is not None:
            try:
                seconds = parse_duration(self.duration)
            except InvalidOptionError as error:
                raise InvalidResourcesError("duration", self.duration, error.expected) from None
            object.__setattr__(self, "duration", seconds)
        if self.env is not None:
            if not isinstance(self.env, Mapping):
                raise InvalidResourcesError("env", self.env, "a mapping of names to text")
            if not all(
                isinstance(key, str)
                and isinstance(value, str)
                and key
                and "=" not in key
                and "\0" not in key + value
                for key, value in self.env.items()
            ):
                raise InvalidResourcesError(
                    "env", sorted(map(str, self.env)), "a mapping of names to text"
                )
            object.__setattr__(self, "env", _Environment(self.env))

    @property
    def num_cores(self) -> int:
        """Cores of all tasks together."""
        return self.num_tasks * self.cores_per_task

    @property
    def num_gpus(self) -> int:
        """GPUs of all tasks together."""
        return self.num_tasks * self.gpus_per_task

    def but(self, **changes: Any) -> Resources:
        """Return the same request with some fields changed."""
        return replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """Return what differs from the defaults, without the environment (it may hold secrets)."""
        return {
            name: value
            for name, default in _RESOURCE_DEFAULTS
            if (value := getattr(self, name)) != default
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], env: Mapping[str, str] | None = None) -> Resources:
        """Return the resources of `to_json`; unknown keys of later versions are ignored."""
        known = {name: data[name] for name, _ in _RESOURCE_DEFAULTS if name in data}
        return cls(env=env, **known)

    def describe(self) -> str:
        """Return the request in words, for messages."""
        text = f"{self.num_tasks} task{'s' if self.num_tasks > 1 else ''}"
        text += f" of {self.cores_per_task} core{'s' if self.cores_per_task > 1 else ''}"
        if self.gpus_per_task:
            text += f" and {self.gpus_per_task} GPU{'s' if self.gpus_per_task > 1 else ''}"
        if self.num_nodes:
            text += f" on {self.num_nodes} {'whole ' if self.exclusive else ''}node"
            text += "s" if self.num_nodes > 1 else ""
        return text


_RESOURCE_DEFAULTS = tuple((f.name, f.default) for f in fields(Resources) if f.name != "env")


class _Environment(dict[str, str]):
    """Environment of a frozen `Resources`: hashable, never changed after it was made."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __repr__(self) -> str:
        return f"<environment: {', '.join(sorted(self))}>"  # values may be secrets


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# --- results ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What an executable chore left behind.

    ``result["log"]`` is the path of a declared output; ``str(result)`` is the text of its stdout
    without the last newline.
    """

    exit_code: int
    """Exit code of the program, one of the chore's success codes."""
    workdir: Path
    """Directory it ran in."""
    stdout_path: Path
    """What it wrote to standard output."""
    outputs: Mapping[str, Path] = field(default_factory=dict)
    """The declared outputs by name."""

    def __getitem__(self, name: str) -> Path:
        return self.outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __str__(self) -> str:
        text = self.stdout_path.read_text(encoding="utf-8", errors="replace")
        return text.removesuffix("\n").removesuffix("\r")


class ResultSource(Protocol):
    """Where `OutputReference.result` looks: the pipeline that recorded the chore."""

    def wait_result(self, dependency: references.Dependency, timeout: float | None) -> Any:
        """Return the result of a chore (or the list of a gather), waiting for it."""


class OutputReference(Generic[R_co]):
    """Placeholder for the result of a chore.

    Pass it to other chores, also inside lists, tuples, dicts, sets, named tuples and dataclass
    instances. ``ref["key"]``, ``ref[0]`` and ``ref.attr("name")`` are references to a part.

    Parameters
    ----------
    dependency
        Chore id, or what else the value depends on.
    path
        Which part of the result; empty for the whole.
    source
        Where `result` finds it; None for a reference that was made by hand.
    """

    __slots__ = ("_source", "dependency", "path")

    def __init__(
        self,
        dependency: references.Dependency,
        path: references.Path = (),
        source: ResultSource | None = None,
    ) -> None:
        self.dependency = dependency
        self.path = path
        self._source = source

    def is_from(self, source: ResultSource) -> bool:
        """Return whether this pipeline made the reference, or nobody did (made by hand)."""
        return self._source is None or self._source is source

    @property
    def chore_id(self) -> str:
        """Id of the chore whose result this stands for.

        Raises
        ------
        AttributeError
            For a reference that stands for no single chore: `Pipeline.gather`, `ChoreSpec.ref`.
        """
        if isinstance(self.dependency, str):
            return self.dependency
        raise AttributeError(f"{self!r} stands for no single chore")

    def result(self, timeout: float | None = None) -> R_co:
        """Wait for the chore and return its result.

        Parameters
        ----------
        timeout
            Seconds to wait at most; None waits without limit, 0 does not wait.

        Raises
        ------
        ChoreFailedError
            If the chore failed, was skipped or was cancelled.
        TimeoutError
            If it has not ended in time.
        RunInterruptedError
            If the run ended before the chore did.
        """
        if self._source is None:
            raise ReferenceUseError(repr(self), "asking for the result outside its pipeline")
        value: R_co = references.select(  # type: ignore[assignment]
            self._source.wait_result(self.dependency, timeout), self.path
        )
        return value

    def attr(self, name: str) -> OutputReference[Any]:
        """Return a reference to an attribute of the result."""
        return OutputReference(self.dependency, (*self.path, ("attr", name)), self._source)

    def __getattr__(self, name: str) -> NoReturn:
        if name == "chore_id":  # the property above had none to give
            raise AttributeError(f"{self!r} stands for no single chore")
        hint = "" if name.startswith("_") else f"; a part of the result is ref.attr({name!r})"
        raise AttributeError(f"a reference has no attribute {name!r}{hint}")

    def __getitem__(self, key: object) -> OutputReference[Any]:
        if isinstance(key, OutputReference):
            raise ReferenceUseError(repr(key), "using it as a key")
        return OutputReference(self.dependency, (*self.path, ("item", key)), self._source)

    def __reduce__(self) -> Any:
        reduced = references.reduce(self.dependency, self.path, self._source)
        # Outside a chore's arguments it stays a reference, without its pipeline.
        return reduced or (OutputReference, (self.dependency, self.path))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, OutputReference)
            and other.dependency == self.dependency
            and other.path == self.path
        )

    def __hash__(self) -> int:
        return hash(self.dependency)

    def __repr__(self) -> str:
        return f"OutputReference({self.dependency!r}){references.describe(self.path)}"

    # Without these, Python would try ref[0], ref[1], … for ever.
    def __iter__(self) -> NoReturn:
        raise ReferenceUseError(repr(self), "iterating or unpacking it")

    def __contains__(self, item: object) -> NoReturn:
        raise ReferenceUseError(repr(self), "looking for something in it")

    def __bool__(self) -> NoReturn:
        raise ReferenceUseError(repr(self), "using it as a condition")

    def __len__(self) -> NoReturn:
        raise ReferenceUseError(repr(self), "asking for its length")


ALLOWED_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
"""A chore's name: one path segment, no leading dot or dash."""
