"""From a chore to what an executor starts: its directory, its records, its command line.

Owns what is written into `out/<chore-id>` before a chore runs. For a chore on a warm worker that is
nothing: the worker makes the directory, and gets the record with the order. Called by the outbox
and by `matensemble.fluxlet`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from matensemble import disk, environment, wire, workdir
from matensemble.chore import Chore, chore_id_order
from matensemble.model import ChoreState, ChoreType, Reason
from matensemble.preview import preview_arguments
from matensemble.references import Gather
from matensemble.runtime.attempts import find_previous, set_aside
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.graph import Graph, Standing
from matensemble.runtime.scheduler.instructions import Submit
from matensemble.runtime.small_results import MAX_RESULT_BYTES, SmallResults
from matensemble.workflow import Workflow

METADATA_FORMAT = 1

START_WORKER = "from matensemble.runtime_worker import main; raise SystemExit(main())"
"""What the interpreter of a Python chore runs: ``-m`` would import more than the whole worker does,
only to find it, a tenth of what a short chore costs."""
MAX_DATA_BYTES = 256 << 10
"""Of small results that travel with one record; the others are read by who needs them."""

NO_RESULT = (ChoreState.FAILED, ChoreState.SKIPPED, ChoreState.CANCELLED)
"""Where a dependency stands that has no result, for a chore that runs all the same."""


class Preparer:
    """Prepares chores of one run for an executor.

    Parameters
    ----------
    workflow
        The saved run.
    state
        Where the dependencies stand.
    script_dir
        Directory appended to the workers' import path; None appends none.
    small_results
        Results that need not be read again; None: there are none.
    """

    def __init__(
        self,
        workflow: Workflow,
        state: Graph,
        script_dir: Path | None = None,
        small_results: SmallResults | None = None,
    ) -> None:
        self._workflow = workflow
        self._small_results = small_results or SmallResults()
        self._run = workflow.run
        self._root = str(workflow.run.root)
        self._state = state
        self._script_dir = script_dir
        self._cloudpickle = workflow.manifest.versions.get("cloudpickle", "")

    def prepare(self, order: Submit) -> LaunchRequest:
        """Return what the executor is to start, with the directory of a chore that becomes a job.

        What an earlier attempt left there is moved to where it is kept first.

        Raises
        ------
        OSError
            If the directory cannot be written. It may be prepared again later, as if never before.
        """
        chore = order.chore
        directory = self._run.chore_dir(chore.id)
        previous = None
        if order.attempt > 1:
            set_aside(self._run, chore.id, order.attempt)
            previous = find_previous(self._run, chore.id, order.attempt)
        env = self._workflow.read_env(chore.env_place) or chore.resources.env or {}
        record = argv = None
        if order.is_pooled:
            if chore.needs_worker:
                record = wire.encode_record(self._record(chore, order.attempt, is_pooled=True))
            argv = () if chore.needs_worker else chore.command
        else:
            self._write(directory, chore, order.attempt, env)
        return LaunchRequest(
            chore_id=chore.id,
            attempt=order.attempt,
            name=chore.name,
            argv=self._argv(chore) if argv is None else argv,
            cwd=directory,
            stdout_path=directory / workdir.STDOUT,
            stderr_path=directory / workdir.STDERR,
            resources=chore.resources,
            env=self._environment(chore, order.attempt, previous, env),
            inherit_env=chore.resources.inherit_env,
            placement=order.placement,
            avoid=order.avoid,
            is_pooled=order.is_pooled,
            record=record,
            wants=MAX_RESULT_BYTES if order.is_pooled and order.is_awaited else 0,
            is_program=chore.kind is ChoreType.EXECUTABLE,
        )

    def _write(self, directory: Path, chore: Chore, attempt: int, env: Mapping[str, str]) -> None:
        with suppress(FileExistsError):  # of an earlier attempt
            disk.make_dir(directory)
        record = wire.encode_record(self._record(chore, attempt))
        disk.write_atomic(directory / workdir.RECORD, record)
        disk.write_atomic(directory / workdir.METADATA, self._metadata(chore, attempt, env))

    def _argv(self, chore: Chore) -> tuple[str, ...]:
        if not chore.needs_worker:
            assert chore.command is not None
            return chore.command
        spec_file = f"{self._root}/{workdir.chore_file(chore.id, workdir.RECORD)}"
        return (
            *(sys.executable, "-P", "-c", START_WORKER),
            *("--chore-id", chore.id, "--spec-file", spec_file),
        )

    def _environment(
        self, chore: Chore, attempt: int, previous: Path | None, env: Mapping[str, str]
    ) -> dict[str, str]:
        variables = {
            **env,
            environment.CHORE_ID: chore.id,
            environment.RUN_DIR: self._root,
            environment.ATTEMPT: str(attempt),
        }
        if previous is not None:
            variables[environment.PREVIOUS_DIR] = str(previous)
        if self._script_dir is not None and chore.needs_worker:
            variables[environment.SCRIPT_DIR] = str(self._script_dir)
        return variables

    def _record(self, chore: Chore, attempt: int, *, is_pooled: bool = False) -> dict[str, Any]:
        record: dict[str, Any] = {
            "id": chore.id,
            "name": chore.name,
            "kind": chore.kind.value,
            "attempt": attempt,
            "num_tasks": chore.resources.num_tasks,
            "deps": [self._dependency(dep) for dep in chore.deps],
        }
        if is_pooled:
            self._add_small_results(record["deps"])
        if chore.arguments is not None:
            record["arguments"] = tuple(chore.arguments)
        if chore.kind is ChoreType.PYTHON:
            record["callable"] = chore.callable
            record["cloudpickle"] = self._cloudpickle
            if chore.is_strategy:
                record["strategy"] = True
            if chore.policy.durable:
                record["durable"] = True
        else:
            record["command"] = chore.command
            record["outputs"] = dict(chore.outputs)
        return record

    def _add_small_results(self, deps: Iterable[dict[str, Any]]) -> None:
        """Add to dependencies what they returned, where it is at hand; up to a size in all."""
        room = MAX_DATA_BYTES
        for dep in deps:
            if "attempt" not in dep:
                continue
            data = self._small_results.find(dep["id"], dep["attempt"])
            if data is not None and len(data) <= room:
                dep["data"] = data
                room -= len(data)

    def _dependency(self, dep: object) -> dict[str, Any]:
        if isinstance(dep, Gather):
            completed = [
                entry.chore.id
                for entry in self._state.members(dep.name)
                if entry.state is ChoreState.COMPLETED
            ]
            return {"gather": [self._upstream(i) for i in sorted(completed, key=chore_id_order)]}
        return self._upstream(str(dep))

    def _upstream(self, chore_id: str) -> dict[str, Any]:
        entry = self._state.entry(chore_id)
        described: dict[str, Any] = {"id": chore_id, "kind": entry.chore.kind.value}
        if entry.state in NO_RESULT:
            described["failed"] = self._failure(entry)
            return described
        described["attempt"] = entry.attempt
        if entry.chore.kind is ChoreType.EXECUTABLE:
            described["exit_code"] = entry.exit_code or 0
            described["outputs"] = dict(entry.chore.outputs)
        return described

    def _failure(self, entry: Standing) -> dict[str, Any]:
        """Return why a dependency has no result; the worker makes the error of it."""
        if entry.root is None:
            reason, detail = entry.reason or Reason.CANCELLED, entry.detail
            return {"reason": reason.value, "exit_code": entry.exit_code, "detail": detail}
        root = self._state.entry(entry.root)
        why = (root.reason or Reason.CANCELLED).value
        if root.exit_code is not None:
            why += f" (exit code {root.exit_code})"
        if root.detail:
            why += f": {root.detail}"
        reason = Reason.DEPENDENCY_FAILED
        return {"reason": reason.value, "exit_code": None, "detail": why, "upstream": entry.root}

    def _metadata(self, chore: Chore, attempt: int, env: Iterable[str]) -> bytes:
        """Return the chore for people: the environment by name only, arguments as a preview."""
        data = {
            "format": METADATA_FORMAT,
            "id": chore.id,
            "name": chore.name,
            "kind": chore.kind.value,
            "attempt": attempt,
            "callable": chore.callable,
            "command": chore.command,
            "arguments": preview_arguments(self._workflow, chore),
            "depends_on": list(chore.upstream),
            "gathers": list(chore.gathers),
            "outputs": dict(chore.outputs),
            "resources": chore.resources.to_json(),
            "environment_names": sorted(env),
            "inherit_env": chore.resources.inherit_env,
            "nice": chore.nice,
            "success_codes": chore.success_codes,
            "policy": chore.policy.to_json(),
        }
        return json.dumps({k: v for k, v in data.items() if v not in (None, [], {})}).encode()
