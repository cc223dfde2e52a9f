"""Decorated functions: calling one records a chore instead of running it.

Owns how arguments are checked against the signature when the call is written, and the policies
that a call carries. `Pipeline` makes these objects and records what they ask for.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypedDict, TypeVar, cast

from matensemble import references
from matensemble.chore import check_after, check_success_codes
from matensemble.errors import InvalidArgumentsError, InvalidOptionError
from matensemble.model import OutputReference, Resources, check_nice
from matensemble.policy import DEFAULT_POLICY, ChorePolicy, PolicyKeywords, make_policy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

    from matensemble.draft import Template


R_co = TypeVar("R_co", covariant=True)

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class ResourceKeywords(TypedDict, total=False):
    """The fields of `Resources`, where they can be given as keywords."""

    num_tasks: int
    cores_per_task: int
    gpus_per_task: int
    mpi: bool
    env: Mapping[str, str] | None
    inherit_env: bool
    num_nodes: int | None
    exclusive: bool
    duration: float | str | None


class ChoreKeywords(ResourceKeywords, PolicyKeywords):
    """The fields of `Resources` and of `ChorePolicy`, where they can be given as keywords."""


def make_resources(resources: Resources | None, keywords: ResourceKeywords) -> Resources:
    """Return a `Resources` object that was given, or one made of keywords, but not of both.

    Raises
    ------
    InvalidResourcesError
        If a keyword has an impossible value.
    InvalidOptionError
        If both were given, or `resources` is something else.
    """
    made = Resources(**keywords)  # type: ignore[arg-type]  # duration may be text here
    if resources is None:
        return made
    if not isinstance(resources, Resources):
        raise InvalidOptionError("resources", resources, "a Resources object or None")
    if made != Resources():
        raise InvalidOptionError(
            "resources", resources, "given alone, or its fields as keywords, but not both"
        )
    return resources


class Policies(NamedTuple):
    """What a call asks for besides the function and its arguments."""

    resources: Resources = Resources()
    """What the chore needs."""
    nice: int = 0
    """Order among the ready: lower first."""
    success_codes: tuple[int, ...] = (0,)
    """Exit codes that mean success."""
    after: tuple[OutputReference[Any], ...] = ()
    """Chores that must complete first, without data."""
    policy: ChorePolicy = DEFAULT_POLICY
    """What is to happen when the chore does not go well."""


class Recorder(Protocol):
    """What a decorated function needs of its pipeline."""

    def template_of(self, name: str, policies: Policies) -> Template:
        """Return what the chores of a function with these policies have in common."""

    def record_call(
        self,
        template: Template,
        after: tuple[OutputReference[Any], ...],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> OutputReference[Any]:
        """Record one call, its arguments having been checked."""


class DelayedFunction(Generic[R_co]):
    """A function that records a chore when it is called.

    Name, docstring and signature are those of the function, which is `__wrapped__`. Inside a
    worker there is no pipeline: a chore that calls a decorated function just calls it.

    Parameters
    ----------
    recorder
        The pipeline.
    function
        What the chores run.
    name
        Name it is registered under.
    policies
        What its chores ask for.
    """

    __wrapped__: Callable[..., R_co]

    def __init__(
        self, recorder: Recorder, function: Callable[..., R_co], name: str, policies: Policies
    ) -> None:
        functools.update_wrapper(self, function)
        self.chore_name = name
        """Name of the group of its chores."""
        self.policies = policies
        """What its chores ask for."""
        self._recorder = recorder
        self._template = recorder.template_of(name, policies)
        self._signature = _signature(function)
        # A call with so many positional arguments and no others needs no closer look.
        self._arity = _plain_arity(self._signature)

    def __call__(self, *args: Any, **kwargs: Any) -> OutputReference[R_co]:
        """Record a chore that calls the function, and return a reference to its result.

        The arguments are frozen now: changing them afterwards changes nothing.

        Raises
        ------
        InvalidArgumentsError
            If the function cannot be called like this.
        UnpicklableError
            If an argument cannot travel to another process.
        UnknownReferenceError
            If an argument refers to a chore of another pipeline.
        PipelineSubmittedError
            If the pipeline was saved or submitted.
        """
        if kwargs or len(args) not in self._arity:
            self.check(args, kwargs)
        return self._recorder.record_call(self._template, self.policies.after, args, kwargs)

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Check that the function can be called with these arguments.

        Raises
        ------
        InvalidArgumentsError
            If it cannot.
        """
        if self._signature is None:
            return
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidArgumentsError(self.chore_name, str(self._signature), str(error)) from None

    def map(
        self, iterable: Iterable[Any], /, *iterables: Iterable[Any], **constants: Any
    ) -> list[OutputReference[R_co]]:
        """Record one chore an item, and return the references in order.

        Parameters
        ----------
        iterable, iterables
            As for the built-in `map`: item i of each becomes the positional arguments of call i;
            the shortest ends it.
        **constants
            Keyword arguments that every call gets.

        Raises
        ------
        InvalidArgumentsError, UnpicklableError, UnknownReferenceError, PipelineSubmittedError
            As a call; the chores before the offending item stay recorded.
        """
        return [self(*items, **constants) for items in zip(iterable, *iterables, strict=False)]

    def options(
        self,
        *,
        after: Sequence[OutputReference[Any]] | None = None,
        nice: int | None = None,
        success_codes: int | Sequence[int] | None = None,
        resources: Resources | None = None,
        **keywords: Unpack[ChoreKeywords],
    ) -> DelayedFunction[R_co]:
        """Return the same function with other policies for the calls made through it.

        ``energy.options(nice=-1, after=[relaxed])(0.1)`` records one such call. The policies are
        no keywords of the call itself, because those belong to the function.

        Parameters
        ----------
        after
            Chores that must complete first, without data; None keeps.
        nice
            Order among the ready, lower first; None keeps.
        success_codes
            Exit codes that mean success; None keeps.
        resources
            Replaces what the function was decorated with; None keeps.
        **keywords
            Single fields of `Resources`, and ``retries, idle_timeout, max_output, on_failure,
            durable, version, workers`` as for `Pipeline.chore`, laid over what would be asked for
            otherwise.

        Raises
        ------
        InvalidOptionError, InvalidResourcesError
            If a value is impossible.
        """
        if resources is not None and not isinstance(resources, Resources):
            raise InvalidOptionError("resources", resources, "a Resources object or None")
        chosen = self.policies.resources if resources is None else resources
        policy = {k: v for k, v in keywords.items() if k in PolicyKeywords.__optional_keys__}
        if len(keywords) > len(policy):
            fields: Any = {k: v for k, v in keywords.items() if k not in policy}
            chosen = replace(chosen, **fields)
        changed = Policies(
            chosen,
            self.policies.nice if nice is None else check_nice(nice),
            self.policies.success_codes
            if success_codes is None
            else check_success_codes(success_codes),
            self.policies.after if after is None else as_references(after),
            make_policy(self.policies.policy, **cast("PolicyKeywords", policy)),
        )
        return DelayedFunction(self._recorder, self.__wrapped__, self.chore_name, changed)

    def __reduce__(self) -> Any:
        return references.plain, (self.__wrapped__,)

    def __repr__(self) -> str:
        return f"<chore {self.chore_name}{self._signature or '(…)'}>"


def as_references(after: object) -> tuple[OutputReference[Any], ...]:
    """Return an ``after=[…]`` list as a tuple of references to chores, each once.

    Raises
    ------
    InvalidOptionError
        If it holds anything else.
    """
    if type(after) is tuple and not after:
        return after  # as nearly always
    check_after(after)
    return (after,) if isinstance(after, OutputReference) else tuple(dict.fromkeys(after))  # type: ignore[call-overload]


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """Return the signature; some built-in functions have none."""
    try:
        return inspect.signature(function)
    except (ValueError, TypeError):
        return None


def _plain_arity(signature: inspect.Signature | None) -> range:
    """Return the numbers of positional arguments with which a call surely fits."""
    if signature is None:
        return range(0)
    parameters = signature.parameters.values()
    empty = inspect.Parameter.empty
    if any(p.kind is p.KEYWORD_ONLY and p.default is empty for p in parameters):
        return range(0)
    positional = [p for p in parameters if p.kind in _POSITIONAL]
    required = sum(p.default is empty for p in positional)
    return range(required, len(positional) + 1)
