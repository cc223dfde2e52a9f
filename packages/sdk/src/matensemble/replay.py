"""Where every chore of a run stands, folded from the records of its journal.

Owns the fold over all chores: results, the command line and a driver that resumes a run read the
journal through this module. What one record means for one chore is said by `matensemble.standing`.
Loads no pickle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from matensemble.chore import Chore
from matensemble.errors import FormatError
from matensemble.model import RunState
from matensemble.records import JournalRecord, RecordKind
from matensemble.standing import UNTOUCHED, Standing, after

__all__ = ["UNTOUCHED", "Added", "Replay", "Standing", "after"]


class Added(NamedTuple):
    """A chore that joined the live graph."""

    chore: Chore
    parent: str
    """Who asked for it."""


class Replay:
    """The records of a run so far, folded; feed it with `apply`.

    Attributes
    ----------
    standings
        Chore id → where it stands, of every chore that a record is about.
    added
        Chores that joined while it ran, in the order of their admission.
    run_state
        The last state of the run that was recorded, None before the first.
    epoch
        Of the last record, 0 before the first.
    run_started
        Fields of the latest `run_started` record, empty before the first.
    tiers
        Group → what was found to suit its chores: ``trial``, ``pool`` or ``job``.
    """

    def __init__(self) -> None:
        self.standings: dict[str, Standing] = {}
        self.added: list[Added] = []
        self.run_state: RunState | None = None
        self.epoch = 0
        self.run_started: Mapping[str, Any] = {}
        self.tiers: dict[str, str] = {}

    @classmethod
    def of(cls, records: Iterable[JournalRecord]) -> Replay:
        """Return the replay of some records; raises FormatError where one makes no sense."""
        replay = cls()
        for record in records:
            replay.apply(record)
        return replay

    def standing(self, chore_id: str) -> Standing:
        """Return where a chore stands."""
        return self.standings.get(chore_id, UNTOUCHED)

    def apply(self, record: JournalRecord) -> None:
        """Take the next record.

        Raises
        ------
        FormatError
            If it lacks what its kind promises. Kinds of later versions are ignored.
        """
        try:
            self.epoch = record.epoch
            if record.chore_id is None:
                self._apply_to_run(record)
            elif record.kind == RecordKind.CHORE_ADDED:
                chore = Chore.from_header(record.fields["header"])
                self.added.append(Added(chore, str(record.fields["parent"])))
            else:
                before = self.standings.get(record.chore_id, UNTOUCHED)
                self.standings[record.chore_id] = after(before, record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(
                "journal.jsonl",
                f"record {record.sequence} of epoch {record.epoch} is no {record.kind} ({error!r})",
            ) from error

    def _apply_to_run(self, record: JournalRecord) -> None:
        if record.kind == RecordKind.RUN_STATE:
            self.run_state = RunState(record.fields["state"])
        elif record.kind == RecordKind.RUN_STARTED:
            self.run_started = record.fields
            self.run_state = RunState.RUNNING
        elif record.kind == RecordKind.WORKERS and "g" in record.fields:
            # Without a group it says that a driver had no warm workers; another one may have.
            self.tiers[str(record.fields["g"])] = str(record.fields["tier"])
