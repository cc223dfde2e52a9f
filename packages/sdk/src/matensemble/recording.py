"""Recording chores: every way in which a user says what is to be run.

Owns the checks of one call (names, arguments, resources, references) and the moment at which it is
frozen. The whole pipeline is checked by `matensemble.snapshot`. `Pipeline` builds on this class.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast, overload

from matensemble import wire
from matensemble.chore import (
    CallShape,
    ChoreRegistry,
    check_name,
    check_success_codes,
)
from matensemble.command import REFERENCE_IN_TEXT, Command, freeze_command
from matensemble.delayed import (
    DelayedFunction,
    Policies,
    ResourceKeywords,
    as_references,
    make_resources,
)
from matensemble.draft import Draft, Template
from matensemble.errors import (
    InvalidNameError,
    InvalidOptionError,
    ReferenceUseError,
    UnknownReferenceError,
    UnpicklableError,
)
from matensemble.model import ChoreType, ExecResult, OutputReference, Resources, check_nice
from matensemble.policy import PolicyKeywords, make_policy
from matensemble.references import Gather, Sibling
from matensemble.session import is_notebook

if TYPE_CHECKING:
    from typing import Unpack

    from matensemble.references import Dependency

R = TypeVar("R")
_Function = TypeVar("_Function", bound=Callable[..., Any])
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Strategy(NamedTuple):
    """A registered strategy."""

    triggers: tuple[str, ...]
    """Names of the groups whose completed chores start it."""
    policies: Policies
    """What its chores ask for."""


_REFERENCE_IN_TEXT = REFERENCE_IN_TEXT.encode()


class Recording(ABC):
    """The half of a pipeline that records.

    Parameters
    ----------
    draft
        Receives the chores.
    registry
        Receives the callables.
    """

    def __init__(self, draft: Draft, registry: ChoreRegistry) -> None:
        self.registry = registry
        self._draft = draft
        self._functions: dict[str, DelayedFunction[Any]] = {}
        self._strategies: dict[str, Strategy] = {}
        self._templates: dict[tuple[Any, ...], Template] = {}

    @abstractmethod
    def _check_open(self, action: str) -> None:
        """Raise PipelineSubmittedError where nothing can be recorded any more."""

    @abstractmethod
    def wait_result(self, dependency: Dependency, timeout: float | None) -> Any:
        """Return the result of a chore or a gather; `OutputReference.result` calls this."""

    @overload
    def chore(self, name: Callable[..., R], /) -> DelayedFunction[R]: ...

    @overload
    def chore(
        self,
        name: str | None = None,
        num_tasks: int = 1,
        cores_per_task: int = 1,
        gpus_per_task: int = 0,
        mpi: bool = False,
        env: Mapping[str, str] | None = None,
        inherit_env: bool = True,
        *,
        resources: Resources | None = None,
        num_nodes: int | None = None,
        exclusive: bool = False,
        duration: float | str | None = None,
        nice: int = 0,
        success_codes: int | Sequence[int] = (0,),
        after: Sequence[OutputReference[Any]] = (),
        **policy: Unpack[PolicyKeywords],
    ) -> Callable[[Callable[..., R]], DelayedFunction[R]]: ...

    def chore(
        self,
        name: Any = None,
        num_tasks: int = 1,
        cores_per_task: int = 1,
        gpus_per_task: int = 0,
        mpi: bool = False,
        env: Mapping[str, str] | None = None,
        inherit_env: bool = True,
        *,
        resources: Resources | None = None,
        num_nodes: int | None = None,
        exclusive: bool = False,
        duration: float | str | None = None,
        nice: int = 0,
        success_codes: int | Sequence[int] = (0,),
        after: Sequence[OutputReference[Any]] = (),
        **policy: Unpack[PolicyKeywords],
    ) -> Any:
        """Decorate a function, so that calling it records a chore.

        Works with and without parentheses. The function travels by value: it may be defined in a
        script, a notebook or another function.

        Parameters
        ----------
        name
            Name of the group, a single path segment; None takes the function's.
        num_tasks, cores_per_task, gpus_per_task, mpi, env, inherit_env
            What each chore needs, as in `Resources`.
        resources
            The same as one object, instead of keywords.
        num_nodes, exclusive, duration
            As in `Resources`.
        nice
            Order among the ready: lower first.
        success_codes
            Exit codes that mean success.
        after
            Chores that must complete before any of these, without data. For a single call, use
            ``decorated.options(after=[…])(…)``.
        **policy
            What is to happen when such a chore does not go well, as in `ChorePolicy`: ``retries``
            (a number, or a `Retry`), ``idle_timeout``, ``max_output``, ``on_failure``,
            ``durable``, ``version``, ``workers`` (``"auto"``, ``"pool"``, ``"job"``; None: as the
            run is told).

        Raises
        ------
        InvalidResourcesError, InvalidOptionError, InvalidNameError
            If a value is impossible.
        DuplicateNameError
            If the name is registered already (in a notebook it is registered again).
        PipelineSubmittedError
            If the pipeline was saved or submitted.
        """
        if callable(name):
            return self.chore()(name)
        keywords = ResourceKeywords(
            num_tasks=num_tasks,
            cores_per_task=cores_per_task,
            gpus_per_task=gpus_per_task,
            mpi=mpi,
            env=env,
            inherit_env=inherit_env,
            num_nodes=num_nodes,
            exclusive=exclusive,
            duration=duration,
        )
        policies = Policies(
            make_resources(resources, keywords),
            check_nice(nice),
            check_success_codes(success_codes),
            as_references(after),
            make_policy(**policy),
        )

        def decorate(function: Callable[..., R]) -> DelayedFunction[R]:
            registered = self._register(name, function)
            delayed = DelayedFunction(self, function, registered, policies)
            self._functions[registered] = delayed
            return delayed

        return decorate

    def strategy(
        self,
        bolo_list: Any = None,
        name: str | None = None,
        num_tasks: int = 1,
        cores_per_task: int = 1,
        gpus_per_task: int = 0,
        mpi: bool = False,
        env: Mapping[str, str] | None = None,
        inherit_env: bool = True,
        *,
        triggers: Any = None,
        resources: Resources | None = None,
        num_nodes: int | None = None,
        exclusive: bool = False,
        duration: float | str | None = None,
        nice: int = 0,
        success_codes: int | Sequence[int] = (0,),
        **policy: Unpack[PolicyKeywords],
    ) -> Callable[[_Function], _Function]:
        """Decorate a strategy: a function that looks at results and asks for further chores.

        It is started as a chore on each completed chore of the groups it watches, with that
        chore's result as its argument, and returns None, a `ChoreSpec` or several. The function
        itself is returned unchanged.

        Parameters
        ----------
        bolo_list
            Published spelling of `triggers`.
        name
            Name of the group of the strategy's own chores; None takes the function's.
        num_tasks, cores_per_task, gpus_per_task, mpi, env, inherit_env, resources, num_nodes
            What a strategy chore needs, as for `chore`.
        exclusive, duration, nice, success_codes, **policy
            As for `chore`.
        triggers
            Names of the groups to watch, or the decorated functions; at least one.

        Raises
        ------
        InvalidArgumentsError
            If the function cannot be called with one argument.
        InvalidResourcesError, InvalidOptionError, InvalidNameError, DuplicateNameError
            As for `chore`.
        PipelineSubmittedError
            If the pipeline was saved or submitted.
        """
        watched = _check_triggers(bolo_list, triggers)
        keywords = ResourceKeywords(
            num_tasks=num_tasks,
            cores_per_task=cores_per_task,
            gpus_per_task=gpus_per_task,
            mpi=mpi,
            env=env,
            inherit_env=inherit_env,
            num_nodes=num_nodes,
            exclusive=exclusive,
            duration=duration,
        )
        policies = Policies(
            make_resources(resources, keywords),
            check_nice(nice),
            check_success_codes(success_codes),
            policy=make_policy(**policy),
        )

        def decorate(function: _Function) -> _Function:
            shown = str(name or getattr(function, "__name__", "strategy"))
            CallShape.of(function).check(shown, 1, ())
            self._strategies[self._register(name, function)] = Strategy(watched, policies)
            return function

        return decorate

    def exec(
        self,
        command: Command,
        name: str | None = None,
        num_tasks: int = 1,
        cores_per_task: int = 1,
        gpus_per_task: int = 0,
        mpi: bool = False,
        env: Mapping[str, str] | None = None,
        inherit_env: bool = True,
        inputs: Mapping[str, Any] = _NOTHING,
        outputs: Mapping[str, str] = _NOTHING,
        after: Sequence[OutputReference[Any]] = (),
        *,
        resources: Resources | None = None,
        num_nodes: int | None = None,
        exclusive: bool = False,
        duration: float | str | None = None,
        nice: int = 0,
        success_codes: int | Sequence[int] = (0,),
        **policy: Unpack[PolicyKeywords],
    ) -> OutputReference[ExecResult]:
        """Record an executable, and return a reference to its `ExecResult`.

        It runs in a directory of its own. A reference as an element of the command becomes the
        text of the result, or the path of a declared output file: ``[program, run["log"]]``.

        Parameters
        ----------
        command
            Text, split as a shell would (no shell runs it), or a list of elements: text, numbers,
            paths, references. What looks like a secret by its name (``--token x``, ``API_KEY=x``)
            reaches the program and is shown redacted.
        name
            Name of the group, a single path segment; None takes the program's.
        num_tasks, cores_per_task, gpus_per_task, mpi, env, inherit_env
            What it needs, as in `Resources`.
        inputs
            File name → text, bytes, a `Path` (read now) or a reference, written into the directory
            before the program starts. Not the name of a file that MatEnsemble keeps there.
        outputs
            Name → file that must exist at the end; ``ref[name]`` is its path. Also ``stdout`` and
            ``stderr``.
        after
            Chores that must complete first, without data.
        resources, num_nodes, exclusive, duration, nice, success_codes, **policy
            As for `chore`.

        Raises
        ------
        InvalidCommandError
            If the command is empty or cannot be split.
        InvalidOptionError, InvalidResourcesError, InvalidNameError
            If a value is impossible.
        UnknownReferenceError
            If it refers to a chore of another pipeline.
        PipelineSubmittedError
            If the pipeline was saved or submitted.
        """
        self._check_open("recording an executable")
        if name is not None:
            check_name(name)
        keywords = ResourceKeywords(
            num_tasks=num_tasks,
            cores_per_task=cores_per_task,
            gpus_per_task=gpus_per_task,
            mpi=mpi,
            env=env,
            inherit_env=inherit_env,
            num_nodes=num_nodes,
            exclusive=exclusive,
            duration=duration,
        )
        asked = make_resources(resources, keywords)
        by_value = self.registry.by_value_bytes
        try:
            frozen = freeze_command(name, command, inputs, outputs, by_value=by_value, source=self)
        except (UnknownReferenceError, UnpicklableError) as error:
            raise _about(self._draft.next_id(name or "exec"), error) from error.__cause__
        template = self._template_of_program(
            frozen.name,
            Policies(
                asked,
                check_nice(nice),
                check_success_codes(success_codes),
                policy=make_policy(**policy),
            ),
            {key: os.fspath(path) for key, path in outputs.items()},
        ).with_command(frozen.command)
        return self._add(template, frozen.data, frozen.deps, as_references(after))

    def call(
        self,
        name: str,
        /,
        *args: Any,
        resources: Resources | None = None,
        queue_nice: int | None = None,
        **kwargs: Any,
    ) -> OutputReference[Any]:
        """Record a call of a registered function, by name.

        Parameters
        ----------
        name
            Name it is registered under.
        *args, **kwargs
            Its arguments.
        resources
            What the chore needs; None means what the function was decorated with.
        queue_nice
            Order among the ready: lower first (`nice` elsewhere; here that name is left to the
            function). None means what the function was decorated with.

        Raises
        ------
        UnknownNameError
            If no function has this name.
        InvalidArgumentsError, UnpicklableError, UnknownReferenceError, PipelineSubmittedError
            As calling the decorated function.
        InvalidOptionError
            If `resources` or `queue_nice` is impossible.
        """
        function = self._functions.get(name)
        if function is None:
            function = DelayedFunction(self, self.registry[name], name, Policies())
            self._functions[name] = function
        if resources is not None or queue_nice is not None:
            function = function.options(resources=resources, nice=queue_nice)
        return function(*args, **kwargs)

    def gather(self, name: str) -> OutputReference[list[Any]]:
        """Return a reference to the list of all completed results of a group.

        The results stand in the order of their ids, those of chores that strategies added
        included. It is ready once every chore that is not downstream of a gather has ended, so a
        final table can be written before anybody knows how many rows it will have.

        Parameters
        ----------
        name
            Name of the group, or the decorated function.

        Raises
        ------
        InvalidNameError
            If it cannot be the name of a group. Whether there is such a group is checked when the
            pipeline is saved or submitted.
        """
        return OutputReference(Gather(check_name(_name_of(name))), (), self)

    def template_of(self, name: str, policies: Policies) -> Template:
        """Return what the chores of a function have in common; `DelayedFunction` calls this."""
        key = policies._replace(after=()), name
        template = self._templates.get(key)
        if template is None:
            template = self._templates[key] = Template(
                name,
                ChoreType.PYTHON,
                policies.resources,
                nice=policies.nice,
                success_codes=policies.success_codes,
                policy=policies.policy,
                callable=name,
            )
        return template

    def _template_of_program(
        self, name: str, policies: Policies, outputs: dict[str, str]
    ) -> Template:
        """Return what executables of one group have in common, whatever their commands."""
        key = policies, name, tuple(outputs.items())
        template = self._templates.get(key)
        if template is None:
            template = self._templates[key] = Template(
                name,
                ChoreType.EXECUTABLE,
                policies.resources,
                nice=policies.nice,
                success_codes=policies.success_codes,
                policy=policies.policy,
                outputs=outputs,
            )
        return template

    def record_call(
        self,
        template: Template,
        after: tuple[OutputReference[Any], ...],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> OutputReference[Any]:
        """Record a call whose arguments were checked; `DelayedFunction` calls this."""
        self._check_open("recording a chore")
        try:
            data, deps = wire.freeze((args, kwargs), self.registry.by_value_bytes, self)
        except (UnknownReferenceError, UnpicklableError) as error:
            raise _about(self._draft.next_id(template.name), error) from error.__cause__
        if _REFERENCE_IN_TEXT in data:
            chore_id = self._draft.next_id(template.name)
            raise ReferenceUseError(
                f"a reference in the arguments of {chore_id}", "formatting it into text"
            )
        return self._add(template, data, deps, after)

    def _add(
        self,
        template: Template,
        data: bytes | None,
        deps: tuple[Dependency, ...],
        after: tuple[OutputReference[Any], ...],
    ) -> OutputReference[Any]:
        for reference in after:
            if not reference.is_from(self):
                raise UnknownReferenceError(self._draft.next_id(template.name), reference.chore_id)
        for dep in deps:
            if type(dep) is Sibling:
                raise UnknownReferenceError(self._draft.next_id(template.name), repr(dep))
        after_ids = tuple([reference.chore_id for reference in after]) if after else ()
        return OutputReference(self._draft.add(template, data, deps, after_ids), (), self)

    def _register(self, name: str | None, function: Callable[..., Any]) -> str:
        self._check_open("registering a function")
        if name is None:
            name = getattr(function, "__name__", None)
            if name in (None, "<lambda>") and callable(function):
                raise InvalidNameError(name or repr(function), "is no name; pass name=…")
        self.registry.register(cast(str, name), function, replace=is_notebook())
        return cast(str, name)


def _check_triggers(bolo_list: Any, triggers: Any) -> tuple[str, ...]:
    if bolo_list is not None and triggers is not None:
        raise InvalidOptionError("triggers", triggers, "given alone; bolo_list is its old spelling")
    given = bolo_list if triggers is None else triggers
    if isinstance(given, (str, DelayedFunction)):
        given = [given]
    if not isinstance(given, (list, tuple, set, frozenset)) or not given:
        raise InvalidOptionError("triggers", given, "a list with the names of the groups to watch")
    return tuple(dict.fromkeys(check_name(_name_of(item)) for item in given))


def _name_of(item: Any) -> Any:
    return item.chore_name if isinstance(item, DelayedFunction) else item


def _about(
    chore_id: str, error: UnknownReferenceError | UnpicklableError
) -> UnknownReferenceError | UnpicklableError:
    """Return an error that names the chore, which whoever raised it could not know."""
    if isinstance(error, UnknownReferenceError):
        return UnknownReferenceError(chore_id, error.missing)
    return UnpicklableError(f"an argument of {chore_id}", error.culprit, error.cause)
