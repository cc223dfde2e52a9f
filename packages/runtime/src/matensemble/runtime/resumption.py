"""What an earlier driver of a run left behind: its journal, its results, its attempts.

Owns what of it counts. Called by the manager when a run is resumed, after the run was claimed and
before the executor is opened; changes nothing but the name of the journal that ends.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from matensemble import wire, workdir
from matensemble.chore import Chore
from matensemble.errors import (
    FormatError,
    ResultCorruptError,
    ResultMissingError,
    RunFailedError,
)
from matensemble.model import ChoreState, ChoreType, Resources
from matensemble.records import JournalRecord, RecordKind, journal_chain, scan_journal
from matensemble.replay import Replay, Standing
from matensemble.runtime.background import map_in_threads
from matensemble.runtime.executors.base import Orphan
from matensemble.runtime.scheduler.events import ChoreRestored
from matensemble.runtime.scheduler.instructions import Record
from matensemble.runtime.settlement import find_damage
from matensemble.runtime.spawner import STRATEGY
from matensemble.workdir import RunDir
from matensemble.workflow import Workflow

NUM_LOOKERS = 16
"""Threads that look at results: on a network file system each look is a wait, and little work."""
LOOKS_AT_ONCE = 256
"""Results that one of them looks at before it takes others."""
TAKEN_OVER = "another driver has taken the run over"
"""Why a driver leaves that was replaced."""


class Accepted(NamedTuple):
    """The journal of the driver before, as far as it counts."""

    epoch: int
    length: int
    """Bytes."""
    recovered: bool
    """Whether damaged lines in it, and in those before it, are passed over."""


class Legacy:
    """What an earlier driver left; everything in it is as the journal tells it.

    Parameters
    ----------
    workflow
        The run.
    replay
        Its records, folded.
    accepted
        What counts of the last journal; None where there was none.

    """

    def __init__(
        self, workflow: Workflow, replay: Replay, accepted: Accepted | None = None
    ) -> None:
        self.replay = replay
        self.accepted = accepted
        self._workflow = workflow
        self._run = workflow.run

    @property
    def is_empty(self) -> bool:
        """Whether no chore has a past."""
        return not self.replay.standings and not self.replay.added

    @cached_property
    def chores(self) -> list[Chore]:
        """All chores, those that joined while it ran last."""
        added = (one.chore for one in self.replay.added)
        return [*self._workflow.chores(), *added]

    @property
    def parents(self) -> set[str]:
        """Chores that have asked for further ones."""
        return {added.parent for added in self.replay.added if added.parent != STRATEGY}

    def restored(self) -> Iterator[ChoreRestored]:
        """Yield each chore with where it stood."""
        for chore in self.chores:
            yield ChoreRestored(chore, self.replay.standing(chore.id))

    def orphans(self) -> list[Orphan]:
        """Return the attempts of which the journal does not tell the end."""
        if self.is_empty:
            return []
        return [
            self._orphan(chore, standing)
            for chore in self.chores
            if (standing := self.replay.standing(chore.id)).is_live
        ]

    def _orphan(self, chore: Chore, standing: Standing) -> Orphan:
        asked = standing.resources
        resources = chore.resources if asked is None else Resources.from_json(asked)
        return Orphan(
            chore.id,
            standing.attempt,
            standing.jobid,
            standing.host,
            resources,
            self._run.root,
            standing.is_pooled,
        )

    def amend(self, record: Record, epoch: int) -> None:
        """Take a record that this driver adds to the story before it begins."""
        self.replay.apply(
            JournalRecord(
                0,
                epoch,
                0.0,
                0.0,
                record.kind,
                record.chore_id,
                record.attempt,
                record.fields or {},
            )
        )

    # --- do the results still hold? -----------------------------------------------------------

    def find_revoked(self, logger: logging.Logger) -> list[Record]:
        """Return a record for each chore that completed and whose result is gone or damaged."""
        if self.is_empty:
            return []
        completed = [
            (chore, standing.attempt)
            for chore in self.chores
            if (standing := self.replay.standing(chore.id)).state is ChoreState.COMPLETED
        ]
        # Shares, because to hand a thing over costs about as much as to look at it on a fast disk.
        shares = [completed[i : i + LOOKS_AT_ONCE] for i in range(0, len(completed), LOOKS_AT_ONCE)]
        records = []
        looks = map_in_threads(self._look, shares, NUM_LOOKERS, "matensemble-look")
        for chore, attempt, problem in chain.from_iterable(looks):
            logger.warning("%s runs again: %s", chore.id, problem)
            records.append(Record(RecordKind.REVOKED, chore.id, attempt, {"d": problem}))
        return records

    def _look(self, completed: Sequence[tuple[Chore, int]]) -> list[tuple[Chore, int, str]]:
        """Return those of some chores whose result cannot be used, and why."""
        found = []
        for chore, attempt in completed:
            with suppress(OSError):  # nothing need be wrong; whoever loads it will tell
                problem = find_damage(self._run, chore, attempt)
                if problem is not None:
                    found.append((chore, attempt, problem))
        return found

    def find_committed(self, logger: logging.Logger) -> list[Record]:
        """Return a record for each intact result of which the journal does not know.

        Only of use where lines of the journal are damaged: the footers then tell what they told.
        """
        records = []
        for chore in self.chores:
            standing = self.replay.standing(chore.id)
            if standing.state.is_terminal or chore.kind is not ChoreType.PYTHON:
                continue
            try:
                path = self._run.chore_file(chore.id, workdir.RESULT)
                attempt = wire.check_result(path, chore.id)
            except (ResultMissingError, ResultCorruptError, OSError):
                continue
            logger.warning("%s completed by the evidence of its result", chore.id)
            records.append(Record(RecordKind.COMPLETED, chore.id, attempt))
        return records


def was_started(run: RunDir) -> bool:
    """Return whether a driver has begun a journal of this run."""
    try:
        journal_chain(run)
    except FileNotFoundError:
        return False
    except FormatError:  # damaged: somebody wrote it
        return True
    return True


def take_over_journal(
    run: RunDir, epoch: int, *, skip_damaged: bool = False
) -> tuple[Replay, Accepted | None]:
    """Move the last journal out of the way, and fold what counts of all of them.

    Parameters
    ----------
    run
        A run that this process has claimed.
    epoch
        Of this driver.
    skip_damaged
        Whether to go on behind damaged lines.

    Raises
    ------
    FormatError
        If a journal is damaged where that cannot be a torn end.
    RunFailedError
        If the journal is that of a driver which took the run over meanwhile: it is left alone.
    """
    if run.journal_path.exists():
        present = _epoch_of(run)
        if present is None:
            # Its driver did not come to write a whole record; kept for whoever wonders.
            run.journal_path.rename(run.journal_path.with_suffix(".unreadable"))
        elif present < epoch:
            run.journal_path.rename(run.journal_of(present))
        else:
            raise RunFailedError(str(run.root), TAKEN_OVER)
    try:
        *earlier, (last, _, _) = journal_chain(run, skip_damaged=skip_damaged)
    except FileNotFoundError:
        return Replay(), None
    accepted, uncommitted = _fold(earlier, last, None, skip_damaged)
    if uncommitted is not None:
        accepted, _ = _fold(earlier, last, uncommitted, skip_damaged)
    replay, length = accepted
    _sync(last)
    return replay, Accepted(int(last.stem.rpartition("-")[2]), length, skip_damaged)


def _fold(
    earlier: Sequence[tuple[Path, int | None, bool]],
    last: Path,
    limit: int | None,
    skip_damaged: bool,
) -> tuple[tuple[Replay, int], int | None]:
    """Fold all journals, the last one up to a limit.

    Returns
    -------
    tuple
        The replay and the bytes of the last journal that are in it; and where in it begins what a
        strategy chore asked for whose completion is missing, None where there is no such. That
        counts with the completion: a driver that was killed between the two had carried out
        nothing of it, and the chore will ask again.
    """
    replay = Replay.of(
        record
        for path, length, is_recovered in earlier
        for _, record in scan_journal(
            path, length=length, skip_damaged=skip_damaged or is_recovered
        )
        if record is not None
    )
    length = 0
    begun: dict[str, int] = {}
    for end, record in scan_journal(last, length=limit, skip_damaged=skip_damaged):
        if record is None:
            continue
        if record.kind == RecordKind.CHORE_ADDED:
            parent = str(record.fields.get("parent"))
            is_committed = replay.standing(parent).state is ChoreState.COMPLETED
            if parent != STRATEGY and not is_committed:
                begun.setdefault(parent, length)
        elif record.kind == RecordKind.COMPLETED:
            begun.pop(record.chore_id or "", None)
        replay.apply(record)
        length = end
    return (replay, length), min(begun.values(), default=None)


def _sync(path: Path) -> None:
    """Bring a journal to the disk: a later one, which will be there, builds on its length."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _epoch_of(run: RunDir) -> int | None:
    """Return the epoch of the present journal, None where it holds no whole record."""
    for _, record in scan_journal(run.journal_path, skip_damaged=True):
        if record is not None:
            return record.epoch
    return None
