"""From what a pipeline recorded to a saved run directory: check everything, then write once.

Owns the checks that need the whole pipeline, and the assembly of its manifest. Called by
`Pipeline.save` and `Pipeline.submit`; the files themselves are written by `matensemble.workflow`.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from matensemble import dag, wire
from matensemble.chore import CallShape, ChoreRegistry
from matensemble.content_key import KeyMaker, write_keys
from matensemble.delayed import Policies
from matensemble.draft import Draft
from matensemble.errors import EmptyPipelineError, UnknownNameError
from matensemble.file_marks import write_marks
from matensemble.model import OutputReference
from matensemble.place import Place, Tail
from matensemble.reuse import ReuseWish, plan_reuse
from matensemble.workdir import ARGUMENTS
from matensemble.workflow import (
    CallableEntry,
    Manifest,
    StrategyEntry,
    Workflow,
    create_run_dir,
    present_versions,
    utc_now,
    write_workflow,
)

if TYPE_CHECKING:
    from matensemble.dag import Graph
    from matensemble.delayed import DelayedFunction
    from matensemble.recording import Strategy


def save_draft(
    draft: Draft,
    basedir: Path,
    registry: ChoreRegistry,
    *,
    functions: Mapping[str, DelayedFunction[Any]],
    strategies: Mapping[str, Strategy],
    name: str | None,
    reserve_broker_node: bool,
    wish: ReuseWish,
) -> Workflow:
    """Write a new run directory and return what stands there; O(chores + edges).

    Parameters
    ----------
    draft
        The chores.
    basedir
        Where to create the directory.
    registry
        The callables; all are written, since strategies may ask for any of them.
    functions
        Registry name → decorated function, which knows what its chores need by default.
    strategies
        Registry name → strategy.
    name
        For people; None takes the name of the directory.
    reserve_broker_node
        As in `Manifest`.
    wish
        What is to be reused; content keys are computed only where something is.

    Raises
    ------
    EmptyPipelineError, UnknownReferenceError, CycleError, UnknownNameError
        If it cannot run; nothing was written.
    UnpicklableError, ReferenceUseError
        If a callable cannot travel; nothing was written.
    RunDirectoryError
        If it cannot be written.
    """
    if not len(draft):
        raise EmptyPipelineError
    with _paused_collector():
        indices, stages = _check_graph(draft)
        groups = draft.groups()
        _check_names(draft, strategies, dict.fromkeys((*groups, *registry)))
        callables = {name: registry.dumps(name) for name in registry}
        known: Mapping[str, DelayedFunction[Any] | Strategy] = {**functions, **strategies}
        defaults = {
            name: known[name].policies if name in known else Policies() for name in registry
        }
        tail = Tail(ARGUMENTS, draft.arguments.size)  # a draft that cannot be saved is unchanged
        envs = draft.store_env((asked.resources for asked in defaults.values()), tail)
        trigger = tail.add(_freeze_trigger()) if strategies else None
        run = create_run_dir(basedir)
        manifest = Manifest(
            name=name or run.root.name,
            created_at=utc_now(),
            versions=present_versions(),
            num_chores=len(draft),
            next_number=draft.next_number,
            groups=groups,
            reserve_broker_node=reserve_broker_node,
            by_value=registry.by_value,
            callables={
                name: CallableEntry(
                    shape=CallShape.of(registry[name]),
                    resources=asked.resources,
                    env_place=envs.get(id(asked.resources.env)),
                    policy=asked.policy,
                )
                for name, asked in defaults.items()
            },
            strategies=tuple(
                StrategyEntry(
                    name=strategy_name,
                    triggers=triggers,
                    arguments=cast(Place, trigger),
                    resources=policies.resources,
                    env_place=envs.get(id(policies.resources.env)),
                    success_codes=policies.success_codes,
                    nice=policies.nice,
                    policy=policies.policy,
                )
                for strategy_name, (triggers, policies) in strategies.items()
            ),
        )
        headers = draft.headers(indices, stages, envs)
        arguments = chain(draft.arguments.blocks(), tail.chunks)
        further: dict[Path, Iterable[str]] = {}
        if wish.is_any:
            maker = KeyMaker(draft, registry, has_strategies=bool(strategies))
            by_stage = sorted(indices, key=lambda index: stages.get(draft.ids[index], 0))
            keys = list(maker.keys(by_stage))
            further[run.keys_path] = write_keys(keys)
            further[run.files_path] = write_marks(maker.marks())
            further[run.reuse_path] = plan_reuse(wish, run, keys, maker.upstream)
        write_workflow(run, manifest, headers, arguments, callables, further)
    return Workflow(run, manifest)


def _check_graph(draft: Draft) -> tuple[Sequence[int], Mapping[str, int]]:
    """Return the indices of the chores in topological order, and their stages."""
    graph, order = dag.build_graph(
        ((chore_id, draft.upstream(index)) for index, chore_id in enumerate(draft.ids)),
        is_bare=True,
    )
    indices: Sequence[int] = range(len(draft))
    if order is not graph:
        position = {chore_id: index for index, chore_id in enumerate(draft.ids)}
        indices = [position[chore_id] for chore_id in order]
    return indices, _stages(draft, graph)


def _stages(draft: Draft, graph: Graph) -> Mapping[str, int]:
    if not draft.gathers:
        return {}
    gathers = {draft.ids[index]: names for index, names in draft.gathers.items()}
    members = draft.members({name for names in gathers.values() for name in names})
    return dag.stages(graph, members, gathers)


def _check_names(
    draft: Draft, strategies: Mapping[str, Strategy], known: Mapping[str, None]
) -> None:
    """Raise UnknownNameError where a gather or a strategy waits for what can never come."""
    wanted = [name for names in draft.gathers.values() for name in names]
    wanted += [name for strategy in strategies.values() for name in strategy.triggers]
    for name in wanted:
        if name not in known:
            raise UnknownNameError(name, tuple(known))


def _freeze_trigger() -> bytes:
    """Return the arguments of every strategy chore: the result that started it, in slot 0."""
    data, _ = wire.freeze(((OutputReference("trigger"),), {}))
    return data


@contextmanager
def _paused_collector() -> Iterator[None]:
    """Pause the garbage collector, which would look at a growing graph again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
