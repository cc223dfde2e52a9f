"""The results of a run as a lazy, read-only mapping.

Owns how an outcome and the files of a chore become a value: the loaded result, an `ExecResult`, or
a `ChoreFailedError`. The runtime hands over what it knows of each chore; a finished run is read
back from its journal. Loading a result runs the code of its pickle, see `wire.open_trusted`.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matensemble import wire, workdir
from matensemble.chore import Chore, chore_id_order
from matensemble.errors import ChoreFailedError, FormatError
from matensemble.foreign_json import read_foreign_json
from matensemble.model import ChoreState, ChoreType, ExecResult, Reason
from matensemble.records import read_records
from matensemble.replay import Replay, Standing
from matensemble.workdir import RunDir
from matensemble.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a chore ended. Equal outcomes may be one object: a run can have a million."""

    state: ChoreState
    """A terminal state."""
    reason: Reason | None = None
    """Why it has no result; None where it completed."""
    exit_code: int | None = None
    """Exit code of its processes, negative for a signal; None where none ended."""
    upstream: str | None = None
    """For a skipped chore: the failed chore that is the root."""
    detail: str = ""
    """One line for people."""


MAX_ERROR_BYTES = 1 << 20
"""A larger `error.json` is not one that a worker wrote."""

COMPLETED = Outcome(ChoreState.COMPLETED, exit_code=0)
"""The outcome that most chores share."""


class Results(Mapping[str, Any]):
    """Chore id → result, of every chore that ended.

    A value is loaded each time it is looked at and not kept, so that a run may be larger than
    memory; hold on to what you need. A damaged result raises for its own key only.

    Parameters
    ----------
    run
        The run directory.
    chores
        Chore id → chore, of all outcomes at least.
    outcomes
        Chore id → how it ended. Both mappings are kept, not copied.
    """

    __slots__ = ("_chores", "_outcomes", "run")

    def __init__(
        self, run: RunDir, chores: Mapping[str, Chore], outcomes: Mapping[str, Outcome]
    ) -> None:
        self.run = run
        self._chores = chores
        self._outcomes = outcomes

    @classmethod
    def read(cls, run_dir: RunDir | str | os.PathLike[str]) -> Results:
        """Read the outcomes of a run from its journals, also of one that was interrupted.

        O(records). A torn last line is what a killed driver leaves; it is ignored.

        Raises
        ------
        RunDirectoryError, FormatError
            If the directory or its journal cannot be read.
        FileNotFoundError
            If the run was never started.
        """
        workflow = Workflow.read(run_dir)
        replay = Replay.of(read_records(workflow.run))
        chores = {chore.id: chore for chore in workflow.chores()}
        chores.update((chore.id, chore) for chore, _ in replay.added)
        outcomes = {
            chore_id: outcome_of(standing)
            for chore_id, standing in replay.standings.items()
            if standing.state.is_terminal and chore_id in chores
        }
        return cls(workflow.run, chores, outcomes)

    def __getitem__(self, chore_id: str) -> Any:
        outcome = self._outcomes[chore_id]
        chore = self._chores[chore_id]
        if outcome.state is not ChoreState.COMPLETED:
            return self._failure(chore, outcome)
        if chore.kind is ChoreType.EXECUTABLE:
            return self._exec_result(chore, outcome)
        path = self.run.chore_file(chore_id, workdir.RESULT)
        return wire.load_result(path, chore_id, pickle.loads)

    def __iter__(self) -> Iterator[str]:
        return iter(self._outcomes)

    def __len__(self) -> int:
        return len(self._outcomes)

    def __contains__(self, chore_id: object) -> bool:
        return chore_id in self._outcomes  # without loading anything

    def __repr__(self) -> str:
        return f"<results of {len(self)} chores in {self.run.root}>"

    def outcome(self, chore_id: str) -> Outcome:
        """Return how a chore ended, without loading its result.

        Raises
        ------
        KeyError
            If it has not ended, or there is none of this id.
        """
        return self._outcomes[chore_id]

    def group(self, name: str) -> list[str]:
        """Return the ids of all completed chores of a group, in order. O(number of chores)."""
        ids = [
            chore_id
            for chore_id, outcome in self._outcomes.items()
            if outcome.state is ChoreState.COMPLETED and self._chores[chore_id].name == name
        ]
        return sorted(ids, key=chore_id_order)

    def failures(self) -> list[ChoreFailedError]:
        """Return the errors of all chores that failed by themselves. O(number of chores).

        Chores that were skipped because one of these failed are not among them.
        """
        return [
            self._failure(self._chores[chore_id], outcome)
            for chore_id, outcome in self._outcomes.items()
            if outcome.state is ChoreState.FAILED
        ]

    def gather(self, name: str) -> list[Any]:
        """Return all completed results of a group, in order of their ids."""
        return [self[chore_id] for chore_id in self.group(name)]

    def _exec_result(self, chore: Chore, outcome: Outcome) -> ExecResult:
        directory = self.run.chore_dir(chore.id)
        return ExecResult(
            exit_code=outcome.exit_code or 0,
            workdir=directory,
            stdout_path=directory / workdir.STDOUT,
            outputs={name: directory / path for name, path in chore.outputs.items()},
        )

    def _failure(self, chore: Chore, outcome: Outcome) -> ChoreFailedError:
        if outcome.upstream is not None and outcome.upstream in self._outcomes:
            return self._skipped(chore, outcome.upstream)
        directory = self.run.chore_dir(chore.id)
        remote = read_error_record(directory / workdir.ERROR)
        detail = outcome.detail
        if not detail and "type" in remote:
            detail = f"{remote['type']}: {remote.get('message', '')}"
        return ChoreFailedError(
            chore.id,
            (outcome.reason or _DEFAULT_REASONS[outcome.state]).value,
            exit_code=outcome.exit_code,
            upstream=outcome.upstream,
            detail=detail,
            traceback=remote.get("traceback"),
            directory=str(directory) if directory.is_dir() else None,
        )

    def _skipped(self, chore: Chore, upstream: str) -> ChoreFailedError:
        """Return the failure of a chore that never started, with what befell its root."""
        root = self._failure(self._chores[upstream], self._outcomes[upstream])
        code = "" if root.exit_code is None else f" (exit code {root.exit_code})"
        return ChoreFailedError(
            chore.id,
            Reason.DEPENDENCY_FAILED.value,
            upstream=upstream,
            detail=f"{root.reason}{code}" + (f": {root.detail}" if root.detail else ""),
            traceback=root.traceback,
            directory=root.directory,
        )


_DEFAULT_REASONS = {
    ChoreState.FAILED: Reason.NONZERO_EXIT,
    ChoreState.SKIPPED: Reason.DEPENDENCY_FAILED,
    ChoreState.CANCELLED: Reason.CANCELLED,
}


def read_error_record(path: Path) -> dict[str, str]:
    """Return what the worker wrote about a failure; nothing where it wrote nothing readable.

    A damaged record must not hide the failure that it describes.
    """
    try:
        data = read_foreign_json(path, MAX_ERROR_BYTES)
    except (OSError, FormatError):
        return {}
    if not isinstance(data, dict):
        return {}
    return {key: value for key, value in data.items() if isinstance(value, str)}


def outcome_of(standing: Standing) -> Outcome:
    """Return the outcome of a chore that has ended, from where it stands by the journal."""
    if standing.state is ChoreState.COMPLETED:
        code = standing.exit_code
        return Outcome(ChoreState.COMPLETED, exit_code=code) if code else COMPLETED
    return Outcome(
        standing.state, standing.reason, standing.exit_code, standing.root, standing.detail
    )
