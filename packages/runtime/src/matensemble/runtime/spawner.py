"""Chores that a run adds to itself: strategy chores, and what they ask for.

Owns the numbering of such chores and the judgement of a spec. Reads `spawned.jsonl`, which holds
headers only, so nothing of the user's data is unpickled. Called by the engine before a completion
is handled, so that a gather cannot slip through between parent and child.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from matensemble import workdir
from matensemble.chore import Chore, ChoreSpec, check_name, make_chore_id
from matensemble.errors import FormatError, MatEnsembleError
from matensemble.foreign_json import parse_foreign_json, read_foreign_bytes
from matensemble.model import ChoreType
from matensemble.references import Sibling
from matensemble.runtime.scheduler.events import ChoreAdded, SpecRejected
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.spec import SpecWriter
from matensemble.workflow import StrategyEntry, Workflow

if TYPE_CHECKING:
    from matensemble.references import Dependency

MAX_SPAWNED_BYTES = 256 << 20
"""Of what one strategy chore may ask for: about a million specs."""

STRATEGY = "strategy"
"""Stands as the parent of what a processing strategy adds; no chore id looks like this."""

Addition = ChoreAdded | SpecRejected


class Spawner:
    """Makes chores while the run is alive.

    Parameters
    ----------
    workflow
        The saved run: registered callables, strategies, next number.
    state
        What is known; read only.
    parents
        Chores that have asked already, under an earlier driver: none asks twice, not even where its
        result is made again.
    num_added
        How many chores joined under earlier drivers.
    """

    def __init__(
        self,
        workflow: Workflow,
        state: SchedulerState,
        parents: Iterable[str] = (),
        num_added: int = 0,
    ) -> None:
        self._run = workflow.run
        self._state = state
        self._callables = workflow.manifest.callables
        self._by_value = tuple(map(str.encode, workflow.manifest.by_value))
        self._next_number = workflow.manifest.next_number + num_added
        self._parents = set(parents)
        self._strategies: dict[str, list[StrategyEntry]] = {}
        for strategy in workflow.manifest.strategies:
            for group in strategy.triggers:
                self._strategies.setdefault(group, []).append(strategy)

    def after(self, chore: Chore) -> list[Addition]:
        """Return what joins the graph when a chore has completed, in topological order.

        Raises
        ------
        FormatError
            If what a strategy chore asked for is gone or damaged.
        OSError
            If the disk does not let it be read.
        """
        additions: list[Addition] = []
        if chore.id in self._parents:
            return additions
        if chore.is_strategy:
            additions += self._read_specs(chore)
        for strategy in self._strategies.get(chore.name, ()):
            additions.append(ChoreAdded(self._strategy_chore(strategy, chore), parent=chore.id))
        if additions:
            self._parents.add(chore.id)
        return additions

    def admit(self, spec: ChoreSpec) -> Addition:
        """Return what joins the graph for a spec of a processing strategy.

        Its arguments are frozen now, behind those of the saved chores.

        Raises
        ------
        OSError
            If they cannot be written.
        """
        path = self._run.arguments_path
        writer = SpecWriter(workdir.ARGUMENTS, [spec], path.stat().st_size, self._by_value)
        row = json.loads(json.dumps(writer.row(spec)))
        with path.open("ab") as file:
            file.writelines(writer.tail.chunks)
        return self._judge(row, [self._new_id(_name_of(row))], 0, {}, None)

    def _new_id(self, name: str) -> str:
        number = self._next_number
        self._next_number += 1
        return make_chore_id(name, number)

    def _strategy_chore(self, strategy: StrategyEntry, watched: Chore) -> Chore:
        return Chore(
            id=self._new_id(strategy.name),
            name=strategy.name,
            kind=ChoreType.PYTHON,
            deps=(watched.id,),
            resources=strategy.resources,
            nice=strategy.nice,
            success_codes=strategy.success_codes,
            policy=strategy.policy,
            callable=strategy.name,
            arguments=strategy.arguments,
            env_place=strategy.env_place,
            is_strategy=True,
            stage=watched.stage,
        )

    # --- what a strategy asked for ------------------------------------------------------------

    def _read_specs(self, parent: Chore) -> list[Addition]:
        path = self._run.chore_file(parent.id, workdir.SPAWNED)
        try:
            lines = read_foreign_bytes(path, MAX_SPAWNED_BYTES).splitlines()
        except FileNotFoundError as error:
            raise FormatError(str(path), "is not there") from error
        rows = [parse_foreign_json(line, path) for line in lines]
        ids = [self._new_id(_name_of(row)) for row in rows]
        stages: dict[str, int] = {}
        additions: dict[int, Addition] = {}
        for position in _in_order(rows):
            additions[position] = self._judge(rows[position], ids, position, stages, parent)
            stages[ids[position]] = additions[position].chore.stage
        for position, chore_id in enumerate(ids):
            if position not in additions:  # in a circle, or behind one
                additions[position] = _reject(
                    chore_id, _name_of(rows[position]), parent, "it waits for itself, by siblings"
                )
        return list(additions.values())

    def _judge(
        self,
        row: Mapping[str, Any],
        ids: Sequence[str],
        position: int,
        stages: Mapping[str, int],
        parent: Chore | None,
    ) -> Addition:
        chore_id = ids[position]
        try:
            if "error" in row:
                return _reject(chore_id, _name_of(row), parent, str(row["error"]["detail"]))
            spec = Chore.from_header(row)
            check_name(spec.name)
            chore = replace(spec, id=chore_id, deps=tuple(_resolve(dep, ids) for dep in spec.deps))
            chore = self._check_call(chore, row)
            self._check_dependencies(chore, stages)
            stage = self._stage(chore, stages, parent.stage if parent else 0)
            return ChoreAdded(replace(chore, stage=stage), _parent_id(parent))
        except (MatEnsembleError, KeyError, ValueError, TypeError, AttributeError) as error:
            return _reject(chore_id, _name_of(row), parent, f"{error}")

    def _check_call(self, chore: Chore, row: Mapping[str, Any]) -> Chore:
        """Return a Python chore with its defaults, after checking that the call is possible."""
        if chore.kind is not ChoreType.PYTHON:
            return chore
        entry = self._callables.get(chore.callable or "")
        if entry is None:
            known = ", ".join(sorted(self._callables)) or "none"
            raise ValueError(f"no callable is registered as {chore.callable!r}; known: {known}")
        num_args, keywords = row["call"]
        entry.shape.check(chore.name, num_args, keywords)
        if row.get("registered_resources"):
            chore = replace(chore, resources=entry.resources, env_place=entry.env_place)
        if row.get("registered_policy"):
            chore = replace(chore, policy=entry.policy)
        return chore

    def _check_dependencies(self, chore: Chore, siblings: Mapping[str, int]) -> None:
        for upstream in chore.upstream:
            if upstream not in self._state and upstream not in siblings:
                raise ValueError(f"it depends on {upstream}, which is not a chore of this run")
        for name in chore.gathers:
            if not self._state.members(name) and name not in self._callables:
                raise ValueError(f"it gathers {name!r}, of which there are no chores")

    def _stage(self, chore: Chore, siblings: Mapping[str, int], stage: int) -> int:
        for upstream in chore.upstream:
            known = siblings.get(upstream)
            stage = max(stage, self._state.entry(upstream).chore.stage if known is None else known)
        if chore.gathers:
            gathered = [e.chore.stage for name in chore.gathers for e in self._state.members(name)]
            stage = max([stage, *gathered]) + 1
        return stage


def _resolve(dep: Dependency, ids: Sequence[str]) -> Dependency:
    if not isinstance(dep, Sibling):
        return dep
    position = dep.token
    if not isinstance(position, int) or not 0 <= position < len(ids):
        raise ValueError(f"it refers to spec {position!r}, which was not returned")
    return ids[position]


def _in_order(rows: Sequence[Mapping[str, Any]]) -> Iterator[int]:
    """Yield positions, each after those of its siblings it depends on; none in a circle."""
    graph: TopologicalSorter[int] = TopologicalSorter()
    for position, row in enumerate(rows):
        deps = row.get("deps") if isinstance(row, dict) else None
        if not isinstance(deps, list):
            deps = []
        graph.add(position, *(dep["spec"] for dep in deps if _is_sibling(dep, len(rows))))
    with suppress(CycleError):  # what can be ordered still comes out
        graph.prepare()
    while ready := sorted(graph.get_ready()):
        yield from ready
        graph.done(*ready)


def _is_sibling(dep: object, num_rows: int) -> bool:
    return (
        isinstance(dep, dict) and isinstance(dep.get("spec"), int) and (0 <= dep["spec"] < num_rows)
    )


def _name_of(row: Any) -> str:
    """Return the group of a row for its id, also where the row is bad."""
    try:
        return check_name(row["error"]["name"] if "error" in row else row["name"])
    except (MatEnsembleError, KeyError, TypeError):
        return "invalid"


def _reject(chore_id: str, name: str, parent: Chore | None, detail: str) -> SpecRejected:
    chore = Chore(
        id=chore_id,
        name=name,
        kind=ChoreType.PYTHON,
        callable=name,
        stage=parent.stage if parent else 0,
    )
    return SpecRejected(chore, _parent_id(parent), detail)


def _parent_id(parent: Chore | None) -> str:
    return parent.id if parent else STRATEGY
