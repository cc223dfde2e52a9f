"""Chores as values, the specs that strategies return, and the registry of callables.

Owns what a chore *is* (not where it stands: that is the scheduler's), how it is written as one JSON
header, and how its arguments are frozen. Nothing here runs a chore.
"""

from __future__ import annotations

import inspect
import json
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from matensemble import references, wire
from matensemble.command import Command, freeze_command
from matensemble.errors import (
    DuplicateNameError,
    InvalidArgumentsError,
    InvalidNameError,
    InvalidOptionError,
    ReferenceUseError,
    UnknownNameError,
    UnpicklableError,
)
from matensemble.model import ALLOWED_NAME, ChoreType, OutputReference, Resources, check_nice
from matensemble.place import Place
from matensemble.policy import DEFAULT_POLICY, ChorePolicy, PolicyKeywords, make_policy
from matensemble.references import Gather, Sibling

if TYPE_CHECKING:
    from typing import Unpack

    from matensemble.references import Dependency


def make_chore_id(name: str, number: int) -> str:
    """Return the id of the `number`-th chore of a pipeline (from 1), named `name`."""
    return f"chore-{name}-{number:04d}"


def chore_id_order(chore_id: str) -> tuple[int, str]:
    """Return a sort key: ids of one group in the order in which they were given.

    They differ in their number only, which widens past 9999.
    """
    return len(chore_id), chore_id


def check_name(name: object) -> str:
    """Return a name that is a single path segment.

    Raises
    ------
    InvalidNameError
        If it is not.
    """
    if not isinstance(name, str):
        raise InvalidNameError(name, "is not text")
    if "/" in name or "\\" in name:
        raise InvalidNameError(name, "contains a path separator")
    if not ALLOWED_NAME.fullmatch(name):
        raise InvalidNameError(name, "is empty" if not name else "cannot be a file name everywhere")
    return name


def check_success_codes(codes: object) -> tuple[int, ...]:
    """Return exit codes as a sorted tuple; a single integer stands for itself.

    Raises
    ------
    InvalidOptionError
        If they are not integers from -64 (a signal) to 255, or there is none.
    """
    if type(codes) is tuple and len(codes) == 1 and type(codes[0]) is int and not codes[0]:
        return codes  # as nearly always
    expected = "exit codes from 0 to 255, or -1 to -64 for signals, at least one"
    if isinstance(codes, int) and not isinstance(codes, bool):
        codes = (codes,)
    if isinstance(codes, (str, bytes)) or not isinstance(codes, (Sequence, set, frozenset, range)):
        raise InvalidOptionError("success_codes", codes, expected)
    for code in codes:
        if not isinstance(code, int) or isinstance(code, bool) or not -64 <= code <= 255:
            raise InvalidOptionError("success_codes", codes, expected)
    if not codes:
        raise InvalidOptionError("success_codes", codes, expected)
    return tuple(sorted(set(codes)))


def check_after(after: object) -> tuple[str, ...]:
    """Return the chore ids of an ``after=[…]`` list of references.

    Raises
    ------
    InvalidOptionError
        If it holds anything else.
    """
    if isinstance(after, OutputReference):
        after = [after]
    if not isinstance(after, (list, tuple, set, frozenset)) or not all(
        isinstance(item, OutputReference) and isinstance(item.dependency, str) for item in after
    ):
        raise InvalidOptionError("after", after, "a list of references to chores")
    return tuple(dict.fromkeys(item.chore_id for item in after))


@dataclass(frozen=True, slots=True)
class Chore:
    """Immutable specification of one submission."""

    id: str
    """Unique in the run; empty for a spec that the driver has not admitted yet."""
    name: str
    """Name of the group."""
    kind: ChoreType
    """Python function or executable."""
    deps: tuple[Dependency, ...] = ()
    """What fills the slots of the frozen arguments, in slot order."""
    after: tuple[str, ...] = ()
    """Chores that must complete first, without data."""
    resources: Resources = field(default_factory=Resources)
    """What it needs; `env` is read from `env_place` where the chore was loaded from disk."""
    nice: int = 0
    """Order among the ready: lower first, then admission."""
    success_codes: tuple[int, ...] = (0,)
    """Exit codes that mean success."""
    callable: str | None = None
    """Registry name of the function; None for an executable."""
    command: tuple[str, ...] | None = None
    """Program and arguments of an executable; with `arguments`, only a preview for people."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Files an executable must leave behind: name → path relative to its directory."""
    arguments: Place | None = None
    """Frozen ``(args, kwargs)`` of a call, or ``(command, inputs)`` of an executable that needs
    the worker to resolve references or write inputs."""
    env_place: Place | None = None
    """Where `resources.env` stands as JSON: values may be secrets, so no header holds them."""
    is_strategy: bool = False
    """Whether the function returns chore specs."""
    policy: ChorePolicy = DEFAULT_POLICY
    """What is to happen when it does not go well."""
    stage: int = 0
    """How many gathers lie on the longest way to this chore (see `matensemble.dag`)."""

    @property
    def needs_worker(self) -> bool:
        """Whether the worker must start it (else the command is run as it is)."""
        return self.kind is ChoreType.PYTHON or self.arguments is not None

    @property
    def upstream(self) -> tuple[str, ...]:
        """Ids of all chores that must complete first, each once."""
        deps = self.deps
        if not self.after and (not deps or all(type(dep) is str for dep in deps)):
            return deps  # type: ignore[return-value]
        return tuple(dict.fromkeys([d for d in self.deps if isinstance(d, str)] + [*self.after]))

    @property
    def gathers(self) -> tuple[str, ...]:
        """Names of the groups whose results it collects."""
        return tuple(dep.name for dep in self.deps if isinstance(dep, Gather))

    def to_header(self) -> dict[str, Any]:  # noqa: PLR0912 one a field
        """Return the chore as a JSON object; what has its default is left out."""
        header: dict[str, Any] = {"id": self.id, "name": self.name, "kind": self.kind.value}
        if self.deps:
            header["deps"] = [_dependency_to_json(dep) for dep in self.deps]
        if self.after:
            header["after"] = self.after
        if resources := self.resources.to_json():
            header["resources"] = resources
        if self.nice:
            header["nice"] = self.nice
        if self.success_codes != (0,):
            header["success_codes"] = self.success_codes
        if self.callable is not None and self.callable != self.name:
            header["callable"] = self.callable
        if self.command is not None:
            header["command"] = self.command
        if self.outputs:
            header["outputs"] = self.outputs
        if self.arguments is not None:
            header["arguments"] = self.arguments
        if self.env_place is not None:
            header["env"] = self.env_place
        if self.is_strategy:
            header["strategy"] = True
        if self.policy is not DEFAULT_POLICY and (policy := self.policy.to_json()):
            header["policy"] = policy
        if self.stage:
            header["stage"] = self.stage
        return header

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> Chore:
        """Return the chore of `to_header`; unknown keys are ignored.

        Raises
        ------
        KeyError, ValueError, TypeError
            If it is no chore header.
        """
        kind = ChoreType(header["kind"])
        name = header["name"]
        command = header.get("command")
        return cls(
            id=header["id"],
            name=name,
            kind=kind,
            deps=tuple(_dependency_from_json(dep) for dep in header.get("deps", ())),
            after=tuple(header.get("after", ())),
            resources=_resources(tuple(header.get("resources", {}).items())),
            nice=header.get("nice", 0),
            success_codes=tuple(header.get("success_codes", (0,))),
            callable=header.get("callable", name) if kind is ChoreType.PYTHON else None,
            command=tuple(command) if command is not None else None,
            outputs=header.get("outputs", _NO_OUTPUTS),
            arguments=Place.from_json(header.get("arguments")),
            env_place=Place.from_json(header.get("env")),
            is_strategy=header.get("strategy", False),
            policy=_policy(json.dumps(header["policy"])) if "policy" in header else DEFAULT_POLICY,
            stage=header.get("stage", 0),
        )


_NO_OUTPUTS: Mapping[str, str] = {}  # one for all


@lru_cache(maxsize=1024)  # a million chores share a few requests
def _resources(items: tuple[tuple[str, Any], ...]) -> Resources:
    return Resources.from_json(dict(items))


@lru_cache(maxsize=1024)
def _policy(text: str) -> ChorePolicy:
    return ChorePolicy.from_json(json.loads(text))


def _dependency_to_json(dep: Dependency) -> Any:
    if isinstance(dep, Gather):
        return {"gather": dep.name}
    if isinstance(dep, Sibling):
        return {"spec": dep.token}
    return dep


def _dependency_from_json(value: Any) -> Dependency:
    if isinstance(value, str):
        return value
    return Gather(value["gather"]) if "gather" in value else Sibling(value["spec"])


# --- specs ------------------------------------------------------------------------------------


class ChoreSpec:
    """A request to add a chore while the run is alive; strategies return them.

    Parameters
    ----------
    args
        Positional arguments; may hold references to earlier chores and `ref` of sibling specs.
    kwargs
        Keyword arguments, likewise.
    qualname
        Name the callable is registered under, and of the new chore's group.
    resources
        What it needs; None means what the callable was registered with.
    nice
        Order among the ready: lower first.
    after
        Chores that must complete first, without data.
    success_codes
        Exit codes that mean success.
    command
        For an executable: program and arguments; use `ChoreSpec.exec`.
    inputs
        For an executable: files to write first.
    outputs
        For an executable: files it must leave behind.
    **policy
        What is to happen when it does not go well, as for `Pipeline.chore`: ``retries,
        idle_timeout, max_output, on_failure, durable, version, workers``. If none of them is
        given, the chore has the policy that the callable was registered with.

    Raises
    ------
    InvalidOptionError, InvalidNameError
        If a value is impossible in itself.
    """

    __slots__ = (
        "after", "args", "command", "inputs", "kwargs", "nice", "outputs", "policy", "qualname",
        "resources", "success_codes",
    )  # fmt: skip

    def __init__(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        qualname: str = "",
        resources: Resources | None = None,
        nice: int = 0,
        *,
        after: Sequence[OutputReference[Any]] = (),
        success_codes: int | Sequence[int] = (0,),
        command: Command | None = None,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, str] | None = None,
        **policy: Unpack[PolicyKeywords],
    ) -> None:
        if resources is not None and not isinstance(resources, Resources):
            raise InvalidOptionError("resources", resources, "a Resources object or None")
        self.args = args
        self.kwargs = kwargs
        self.qualname = check_name(qualname)
        self.resources = resources
        self.nice = check_nice(nice)
        self.after = after
        self.success_codes = check_success_codes(success_codes)
        self.command = command
        self.inputs: Mapping[str, Any] = inputs or {}
        self.outputs: Mapping[str, str] = outputs or {}
        self.policy = make_policy(**policy) if policy else None

    @classmethod
    def exec(
        cls,
        command: Command,
        name: str | None = None,
        *,
        resources: Resources | None = None,
        nice: int = 0,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, str] | None = None,
        after: Sequence[OutputReference[Any]] = (),
        success_codes: int | Sequence[int] = (0,),
        **policy: Unpack[PolicyKeywords],
    ) -> ChoreSpec:
        """Return the spec of an executable; the arguments are those of `Pipeline.exec`."""
        frozen = freeze_command(name, command, inputs or {}, outputs or {})
        return cls(
            qualname=frozen.name,
            resources=resources,
            nice=nice,
            after=after,
            success_codes=success_codes,
            command=command,
            inputs=inputs,
            outputs=outputs,
            **policy,
        )

    @property
    def ref(self) -> OutputReference[Any]:
        """A reference to the result of the chore this spec will become, for its siblings."""
        return OutputReference(Sibling(self))

    def __repr__(self) -> str:
        return f"<ChoreSpec {self.qualname}>"  # a command can hold secrets, arguments can be large


# --- callables --------------------------------------------------------------------------------


class CallShape(NamedTuple):
    """Signature of a callable as data, so that calls can be checked without loading it."""

    parameters: tuple[tuple[str, int, bool], ...] | None
    """Name, kind (as `inspect.Parameter.kind`) and whether it has a default; None: unknown."""

    @classmethod
    def of(cls, function: Callable[..., Any]) -> CallShape:
        """Return the shape of a callable; of some built-in ones it cannot be known."""
        try:
            parameters = inspect.signature(function).parameters.values()
        except (ValueError, TypeError):
            return cls(None)
        return cls(
            tuple(
                (p.name, int(p.kind), p.default is not inspect.Parameter.empty) for p in parameters
            )
        )

    def check(self, name: str, num_args: int, keywords: Sequence[str]) -> None:
        """Check that a call with so many positional and these keyword arguments is possible.

        Raises
        ------
        InvalidArgumentsError
            If it is not.
        """
        if self.parameters is None:
            return
        signature = inspect.Signature(
            [
                inspect.Parameter(
                    parameter,
                    inspect._ParameterKind(kind),
                    default=... if has_default else inspect.Parameter.empty,
                )
                for parameter, kind, has_default in self.parameters
            ]
        )
        try:
            signature.bind(*[None] * num_args, **dict.fromkeys(keywords))
        except TypeError as error:
            raise InvalidArgumentsError(name, str(signature), str(error)) from None


class ChoreRegistry:
    """Callables by name; each travels to the workers by value.

    A callable is pickled when the pipeline is written, not when it is registered, so that it sees
    the helpers that a script defines below it.
    """

    def __init__(self, by_value: Sequence[ModuleType] = ()) -> None:
        self._callables: dict[str, Callable[..., Any]] = {}
        self.by_value_bytes: tuple[bytes, ...] = ()
        """The names of `by_value` as they would stand in a pickle."""
        self.ship_by_value(by_value)

    def register(self, name: str, function: Callable[..., Any], *, replace: bool = False) -> None:
        """Register a callable.

        Parameters
        ----------
        name
            A single path segment.
        function
            Any callable.
        replace
            Whether it may take the place of an earlier one (notebook cells that run again).

        Raises
        ------
        InvalidNameError, DuplicateNameError
            If the name cannot be used.
        InvalidOptionError
            If `function` cannot be called.
        """
        check_name(name)
        if not callable(function):
            raise InvalidOptionError("function", function, "callable")
        if name in self._callables and not replace:
            raise DuplicateNameError(name)
        self._callables[name] = function
        own = sys.modules.get(getattr(function, "__module__", None) or "")
        if (
            own is not None
            and own.__name__.encode() not in self.by_value_bytes
            and _is_user_module(own)
        ):
            # Its classes must be the same ones in the function and in its arguments.
            self.ship_by_value([own])

    def __getitem__(self, name: str) -> Callable[..., Any]:
        try:
            return self._callables[name]
        except KeyError:
            raise UnknownNameError(name, tuple(self)) from None

    def __contains__(self, name: object) -> bool:
        return name in self._callables

    def __iter__(self) -> Iterator[str]:
        return iter(self._callables)

    def __len__(self) -> int:
        return len(self._callables)

    def ship_by_value(self, modules: Sequence[ModuleType]) -> None:
        """Let the objects of further modules travel by value.

        Raises
        ------
        InvalidOptionError
            If one is no module.
        """
        for module in modules:
            if not isinstance(module, ModuleType):
                raise InvalidOptionError("by_value", module, "a list of imported modules")
        names = [module.__name__.encode() for module in modules]
        self.by_value_bytes = tuple(dict.fromkeys((*self.by_value_bytes, *names)))

    @property
    def by_value(self) -> tuple[str, ...]:
        """Names of the modules whose objects travel by value.

        They are those asked for, and those outside the installed ones that registered functions
        are defined in, since workers may lack them.
        """
        return tuple(map(bytes.decode, self.by_value_bytes))

    def dumps(self, name: str) -> bytes:
        """Return a registered callable, pickled by value with the module it is defined in.

        Raises
        ------
        UnknownNameError
            If there is none of this name.
        UnpicklableError
            If it cannot be pickled; names the object inside that is the problem.
        ReferenceUseError
            If it uses a reference that is not one of its arguments.
        """
        function = self[name]
        try:
            with references.collecting() as found:
                data = wire.cloudpickle_dumps(function, self.by_value_bytes)
        except UnpicklableError as error:
            raise UnpicklableError(f"the function {name!r}", error.culprit, error.cause) from error
        for dependency in found.dependencies:
            raise ReferenceUseError(
                repr(OutputReference(dependency)),
                f"using it inside the function {name!r} without passing it as an argument",
            )
        return data


def _is_user_module(module: ModuleType) -> bool:
    """Whether a module lies outside the installed ones, so that workers may lack it."""
    origin = getattr(module, "__file__", None)
    if module.__name__ == "__main__" or origin is None:
        return False  # cloudpickle pickles __main__ by value; built-in modules are everywhere
    installed = {
        sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")
    }
    path = Path(origin).resolve()
    return not any(path.is_relative_to(Path(root).resolve()) for root in installed) and (
        "site-packages" not in path.parts and "dist-packages" not in path.parts
    )
