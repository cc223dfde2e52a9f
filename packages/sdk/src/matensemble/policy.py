"""What is to happen when a chore does not go well: retries, limits, and what a failure means.

Owns these values and their form in a chore's header. Every value is immutable and validated when it
is made. Decisions are taken elsewhere: by the scheduler core (retries, consequences) and by the
runtime's watchdog (limits).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from matensemble.errors import InvalidOptionError
from matensemble.model import ChoreState, Reason, parse_duration

if TYPE_CHECKING:
    from typing import Unpack

MAX_RETRIES = 1000
WORKERS = ("auto", "pool", "job")
"""What runs chores: ``"pool"``, warm workers; ``"job"``, a job of its own for each; ``"auto"``:
what suits their group, by how long the first of them take. Only chores of one task that is no MPI
program, on a node that is not theirs alone, can run on warm workers; others are jobs."""
GROWING = ("num_tasks", "cores_per_task", "gpus_per_task", "num_nodes", "duration")
"""Fields of `Resources` that can change from one attempt to the next."""
NEVER_RETRIED = frozenset(
    {
        Reason.INVALID_SPEC,
        Reason.EXCEEDS_ALLOCATION,
        Reason.DEPENDENCY_FAILED,
        Reason.CANCELLED,
    }
)
"""Reasons that another attempt cannot change."""

_SIZE = re.compile(r"\s*(\d{1,18}(?:\.\d*)?|\.\d+)\s*(?:([kKMGT])(i)?)?B?\s*")
_PREFIXES = ("", "K", "M", "G", "T")
_CODE_LIKE = re.compile(r"[a-z]+(_[a-z]+)+")


class OnFailure(StrEnum):
    """What the failure of a chore means for the rest of the run."""

    CONTINUE = "continue"
    """Its dependents are skipped; independent branches go on."""
    ABORT = "abort"
    """The run stops: what runs is cancelled, nothing more starts."""
    IGNORE = "ignore"
    """Its dependents run, and receive the `ChoreFailedError` as its result."""


def is_satisfied(state: ChoreState, on_failure: OnFailure) -> bool:
    """Return whether the dependents of a chore need not wait for it any more.

    Parameters
    ----------
    state, on_failure
        Of the chore.
    """
    if state is ChoreState.COMPLETED:
        return True
    has_failed = state is ChoreState.FAILED or state is ChoreState.SKIPPED
    return has_failed and on_failure is OnFailure.IGNORE


@dataclass(frozen=True, slots=True)
class Retry:
    """When a chore that failed is tried again, after how long, and with what.

    Interruptions, lost drivers and infrastructure failures (`node_failure`, a full disk) are not
    counted here: they have budgets of their own.

    Raises
    ------
    InvalidOptionError
        If a value is impossible.
    """

    limit: int = 1
    """Further attempts after the first, 0 to 1000."""
    on: tuple[str | int, ...] = ()
    """What is tried again: reason codes (``"out_of_memory"``), exit codes (``137``, ``-9`` for a
    signal), names of exception types (``"ConvergenceError"``; exactly these, not their subclasses).
    Empty: every failure, except those that another attempt cannot change (`NEVER_RETRIED`)."""
    delay: float = 0.0
    """Seconds (or text like ``"30s"``) before the second attempt; 0 does not wait."""
    factor: float = 2.0
    """Each further wait is so many times the one before, 1 to 10."""
    max_delay: float = 3600.0
    """No wait is longer than so many seconds."""
    grow: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Reason code → resource → factor of at least 1 by which the next attempt asks for more:
    ``{"out_of_memory": {"cores_per_task": 2}, "duration_exceeded": {"duration": 1.5}}``."""

    def __post_init__(self) -> None:
        if not _is_integer(self.limit) or not 0 <= self.limit <= MAX_RETRIES:
            raise InvalidOptionError("retries", self.limit, f"an integer from 0 to {MAX_RETRIES}")
        object.__setattr__(self, "on", _check_on(self.on))
        for name in ("delay", "max_delay"):
            value = getattr(self, name)
            seconds = 0.0 if value == 0 else parse_duration(value, name)
            object.__setattr__(self, name, seconds)
        if (
            isinstance(self.factor, bool)
            or not isinstance(self.factor, (int, float))
            or not (1 <= self.factor <= 10)
        ):
            raise InvalidOptionError("factor", self.factor, "a number from 1 to 10")
        object.__setattr__(self, "grow", _check_grow(self.grow))

    def __hash__(self) -> int:
        grow = tuple((k, tuple(sorted(v.items()))) for k, v in sorted(self.grow.items()))
        return hash((self.limit, self.on, self.delay, self.factor, self.max_delay, grow))

    def covers(self, reason: Reason, exit_code: int | None, error_type: str = "") -> bool:
        """Return whether a failure of this kind is tried again.

        Parameters
        ----------
        reason
            Its reason code.
        exit_code
            Of its processes; None where none ended.
        error_type
            Qualified name of the exception type of a Python chore, empty where there was none.
        """
        if reason in NEVER_RETRIED:
            return False
        if not self.on:
            return True
        name = error_type.rpartition(".")[2]  # it may be defined inside a function or a class
        return not {reason.value, exit_code, name}.isdisjoint(self.on)

    def wait_before(self, attempt: int) -> float:
        """Return the seconds to wait before a retry, the first one being number 1."""
        if not self.delay:
            return 0.0
        # The exponent is bounded where the wait is: a thousand retries must not overflow.
        return min(self.max_delay, self.delay * self.factor ** min(attempt - 1, 300))

    def to_json(self) -> dict[str, Any]:
        """Return what differs from the defaults, and always the limit."""
        return {
            name: value
            for name, default in _RETRY_DEFAULTS
            if (value := getattr(self, name)) != default or name == "limit"
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Retry:
        """Return the policy of `to_json`; unknown keys of later versions are ignored."""
        return cls(**{f.name: data[f.name] for f in fields(cls) if f.name in data})


_RETRY_DEFAULTS = tuple((f.name, {} if f.name == "grow" else f.default) for f in fields(Retry))


def _check_on(on: Any) -> tuple[str | int, ...]:
    """Return what is tried again, each once.

    A misspelt reason code would never match, and nobody would notice: so what looks like a code
    must be one.
    """
    items = (on,) if isinstance(on, (str, int)) else on
    codes = ", ".join(sorted(set(Reason) - NEVER_RETRIED))
    expected = f"reason codes ({codes}), exit codes, or names of exception types"
    if not isinstance(items, (list, tuple, set, frozenset)):
        raise InvalidOptionError("on", on, expected)
    for item in items:
        if _is_integer(item):
            is_known = -64 <= item <= 255
        elif isinstance(item, str) and (item in list(Reason) or _CODE_LIKE.fullmatch(item)):
            is_known = item in set(Reason) - NEVER_RETRIED
        else:
            is_known = isinstance(item, str) and item.isidentifier()
        if not is_known:
            raise InvalidOptionError("on", on, expected)
    return tuple(dict.fromkeys(str(i) if isinstance(i, str) else i for i in items))


def _check_grow(grow: object) -> Mapping[str, Mapping[str, float]]:
    expected = (
        "reason code → resource → factor of at least 1, such as "
        '{"out_of_memory": {"cores_per_task": 2}}'
    )
    if not isinstance(grow, Mapping):
        raise InvalidOptionError("grow", grow, expected)
    for reason, factors in grow.items():
        if reason not in list(Reason) or not isinstance(factors, Mapping):
            raise InvalidOptionError("grow", grow, expected)
        for name, factor in factors.items():
            is_number = isinstance(factor, (int, float)) and not isinstance(factor, bool)
            if name not in GROWING or not is_number or not 1 <= factor < float("inf"):
                raise InvalidOptionError("grow", grow, expected)
    return {str(reason): dict(factors) for reason, factors in grow.items()}


@dataclass(frozen=True, slots=True)
class ChorePolicy:
    """What is to happen when a chore does not go well.

    Raises
    ------
    InvalidOptionError
        If a value is impossible.
    """

    retry: Retry | None = None
    """When it is tried again; None never tries again. A number stands for ``Retry(number)``."""
    idle_timeout: float | None = None
    """Seconds (or text like ``"10m"``) without output on stdout or stderr after which it is ended
    with `idle_timeout`; None is no limit."""
    max_output: int | None = None
    """Bytes (or text like ``"100MB"``) of stdout and stderr together after which it is ended with
    `output_exceeded`; None is no limit."""
    on_failure: OnFailure = OnFailure.CONTINUE
    """What its failure means for the rest of the run."""
    durable: bool = False
    """Whether its result is brought to the disk (fsync) before it counts: for results that are
    expensive enough to survive the loss of a node in the very second of their commit."""
    version: str = ""
    """Part of its content key: change it where the function's code says nothing of a change."""
    workers: Literal["auto", "pool", "job"] | None = None
    """What runs it, as `WORKERS` says; None: as the run is told (`RunOptions.workers`)."""

    def __post_init__(self) -> None:
        if self.retry is not None and not isinstance(self.retry, Retry):
            object.__setattr__(self, "retry", Retry(self.retry))
        if self.retry is not None and self.retry.limit == 0:
            object.__setattr__(self, "retry", None)
        if self.idle_timeout is not None:
            seconds = parse_duration(self.idle_timeout, "idle_timeout")
            object.__setattr__(self, "idle_timeout", seconds)
        if self.max_output is not None:
            object.__setattr__(self, "max_output", parse_size(self.max_output, "max_output"))
        if self.on_failure not in list(OnFailure):
            raise InvalidOptionError(
                "on_failure", self.on_failure, " or ".join(repr(str(o)) for o in OnFailure)
            )
        object.__setattr__(self, "on_failure", OnFailure(self.on_failure))
        if not isinstance(self.durable, bool):
            raise InvalidOptionError("durable", self.durable, "True or False")
        if not isinstance(self.version, str):
            raise InvalidOptionError("version", self.version, "text")
        if self.workers is not None and self.workers not in WORKERS:
            expected = f"{' or '.join(map(repr, WORKERS))}, or None"
            raise InvalidOptionError("workers", self.workers, expected)

    def to_json(self) -> dict[str, Any]:
        """Return what differs from the defaults."""
        data: dict[str, Any] = {
            name: value
            for name, default in _DEFAULTS
            if name != "retry" and (value := getattr(self, name)) != default
        }
        if self.retry is not None:
            data["retry"] = self.retry.to_json()
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ChorePolicy:
        """Return the policy of `to_json`; unknown keys of later versions are ignored."""
        known = {name: data[name] for name, _ in _DEFAULTS if name in data}
        if known.get("retry") is not None:
            known["retry"] = Retry.from_json(known["retry"])
        return cls(**known)


_DEFAULTS = tuple((f.name, f.default) for f in fields(ChorePolicy))
DEFAULT_POLICY = ChorePolicy()
"""What chores have that ask for nothing; one object, because a run has a million of them."""


class PolicyKeywords(TypedDict, total=False):
    """The fields of `ChorePolicy`, where they can be given as keywords."""

    retries: int | Retry | None
    idle_timeout: float | str | None
    max_output: int | str | None
    on_failure: OnFailure | Literal["continue", "abort", "ignore"]
    durable: bool
    version: str
    workers: Literal["auto", "pool", "job"] | None


def make_policy(
    base: ChorePolicy = DEFAULT_POLICY, /, **keywords: Unpack[PolicyKeywords]
) -> ChorePolicy:
    """Return a policy with what was given as keywords laid over it.

    Raises
    ------
    InvalidOptionError
        If a value is impossible.
    TypeError
        If there is no such keyword.
    """
    if not keywords:
        return base
    changes: dict[str, Any] = dict(keywords)
    for name in changes:
        if name not in PolicyKeywords.__optional_keys__:
            raise TypeError(f"got an unexpected keyword argument {name!r}")
    if "retries" in changes:
        changes["retry"] = changes.pop("retries")
    changed = replace(base, **changes)
    return DEFAULT_POLICY if changed == DEFAULT_POLICY else changed


def parse_size(value: int | str, option: str) -> int:
    """Return a number of bytes.

    Parameters
    ----------
    value
        Bytes as an integer, or text with a unit: ``"10kB"``, ``"100MB"`` (powers of 1000),
        ``"1GiB"`` (powers of 1024).
    option
        What to call it in an error.

    Raises
    ------
    InvalidOptionError
        If it is no size, or less than 1 byte.
    """
    expected = "a number of bytes above 0, or text like '100MB' (kB, MB, GB, TB; KiB, MiB …)"
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match is None:
            raise InvalidOptionError(option, value, expected)
        base = 1024 if match[3] else 1000
        size = int(float(match[1]) * base ** _PREFIXES.index((match[2] or "").upper()))
    elif _is_integer(value):
        size = value
    else:
        raise InvalidOptionError(option, value, expected)
    if size < 1:
        raise InvalidOptionError(option, value, expected)
    return size


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
