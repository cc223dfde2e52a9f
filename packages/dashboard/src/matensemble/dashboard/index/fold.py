"""What records change in the tables of an index, folded in memory and written in batches.

Owns the rows that a batch touches, the earlier attempts, the counts and the clusters of failures,
which are kept up to date with each batch. What a record means for a chore's standing is said by
`matensemble.standing`, what a header means by `admission`, what happened to the run as a whole by
`events`. Called by `run_index` within a transaction; reads no file of a run.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from matensemble.dashboard.index.admission import Admission
from matensemble.dashboard.index.bounds import (
    MAX_NAME,
    MAX_NUMBER,
    MAX_SEQUENCE,
    MAX_WALL,
    clean,
    request_of,
)
from matensemble.dashboard.index.cells import Cells
from matensemble.dashboard.index.durations import DurationCounts
from matensemble.dashboard.index.events import NOTHING, EventKind, capacity_of, event_of
from matensemble.dashboard.index.lanes import Lanes
from matensemble.dashboard.index.moments import Moments
from matensemble.dashboard.index.rows import STATE_TEXT, Row, read_row, read_rows, write_rows
from matensemble.errors import FormatError
from matensemble.model import ChoreState, Reason
from matensemble.records import JournalRecord, RecordKind
from matensemble.standing import Standing, after

MAX_CLUSTERS = 1_000
"""Clusters by pattern; what fails in yet another way is one cluster by its reason."""
MAX_PATTERN = 200
_VARIABLE = re.compile(
    r"'[^']*'|\"[^\"]*\"|(?<!\w)/[^\s:,;]+|0x[0-9a-fA-F]+|[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
)
_INSERT_ATTEMPT = (
    "INSERT OR REPLACE INTO attempts (chore, attempt, reason, exit_code, detail, host, jobid, "
    "submitted_at, started_at, ended_at, seconds, cores, gpus, is_pooled) "
    f"VALUES (?{', ?' * 13})"
)
_ADD_TIERS = (
    "INSERT INTO tiers VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET "
    "pooled = pooled + excluded.pooled, jobs = jobs + excluded.jobs"
)
_BEGINNINGS = (EventKind.OPENED, EventKind.TAKEN_OVER)
_ENDS = frozenset(
    kind.value
    for kind in (
        RecordKind.COMPLETED,
        RecordKind.FAILED,
        RecordKind.CANCELLED,
        RecordKind.REQUEUED,
    )
)
_RUNNING = ChoreState.RUNNING


def pattern_of(detail: str) -> str:
    """Return what failures of one kind have in common: detail without numbers, paths, quotes."""
    return _VARIABLE.sub("…", detail)[:MAX_PATTERN]


class Fold:
    """Rows that records change; `write` brings them into the tables.

    Parameters
    ----------
    database
        Within a transaction whenever a method is called.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._cells = Cells(database)
        self._admission = Admission(database, self._cells)
        self._moments = Moments()
        self._lanes = Lanes()
        self._durations = DurationCounts()
        self._rows: dict[str, Row] = {}
        self._touched: dict[str, Row] = {}
        self._attempts: list[tuple[Any, ...]] = []
        self._counts: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._begun: Counter[tuple[str, bool]] = Counter()  # attempts, by group and tier
        self._clusters: dict[tuple[str, str], int] | None = None

    def forget(self) -> None:
        """Drop what is remembered: the tables were changed by somebody else, or not written."""
        self.__init__(self._database)  # type: ignore[misc]

    def expect_upstream(self, headers: Iterable[Any]) -> None:
        """Look up at once what the next headers depend on; see `Admission.expect`."""
        self._admission.expect(headers)

    def admit(self, part: int, offset: int, length: int, header: Mapping[str, Any]) -> None:
        """Add the next chore; see `Admission.admit`."""
        self._admission.admit(part, offset, length, header)

    def expect(self, records: Iterable[JournalRecord]) -> None:
        """Read at once the chores that the next records are about, as far as they are there."""
        ids = {record.chore_id for record in records if type(record.chore_id) is str}
        self._rows |= read_rows(self._database, ids - self._rows.keys())

    def apply(self, record: JournalRecord, part: int, offset: int, length: int) -> None:
        """Take the next record.

        Parameters
        ----------
        record
            The record.
        part, offset, length
            Where its line stands.

        Raises
        ------
        FormatError
            If it makes no sense. Kinds of later versions are ignored.
        """
        try:
            _check(record)
            if record.chore_id is None:
                self._apply_to_run(record)
            elif record.kind == RecordKind.CHORE_ADDED:
                self.admit(part, offset, length, record.fields["header"])
            else:
                self._apply_to_chore(self._row(record.chore_id), record)
        except (KeyError, TypeError, ValueError, AttributeError, sqlite3.Error) as error:
            if isinstance(error, FormatError | sqlite3.OperationalError):
                raise
            raise FormatError(
                "journal.jsonl",
                f"record {record.sequence} of epoch {record.epoch} is no {record.kind} ({error!r})",
            ) from error

    def release(self, wall: float) -> None:
        """Let all that runs keep nothing busy any more: its driver has ended, or was replaced.

        Parameters
        ----------
        wall
            When that was known, seconds since the Unix epoch.
        """
        self.write()
        busy = "state = 'running' AND started_epoch != 0"
        found = self._database.execute(
            "SELECT host, name, count(*), sum(cores), sum(gpus) FROM chores "
            f"WHERE {busy} GROUP BY host, name"
        ).fetchall()
        for host, name, count, cores, gpus in found:
            self._moments.occupy(wall, -count, -cores, -gpus)
            self._lanes.occupy(host, name, wall, -count, -cores, -gpus)
        if found:
            self._database.execute(f"UPDATE chores SET started_epoch = 0 WHERE {busy}")
            self._rows.clear()

    def write(self) -> None:
        """Write what has changed; keep in memory only what lives."""
        self._admission.write()
        self._moments.write(self._database)
        self._lanes.write(self._database)
        failed: Counter[int] = Counter()
        skipped: Counter[int] = Counter()
        for row in self._touched.values():
            state, before = row.standing.state, row.written_state
            if state is not before:
                old, new = STATE_TEXT[before], STATE_TEXT[state]
                self._counts[row.name, old] -= 1
                self._counts[row.name, new] += 1
                self._cells.move(row.level, row.rank, old, new)
            if (row.cluster, state) != (row.written_cluster, before):
                for cluster, its_state, by in (
                    (row.written_cluster, before, -1),
                    (row.cluster, state, 1),
                ):
                    if cluster is not None:
                        (skipped if its_state is ChoreState.SKIPPED else failed)[cluster] += by
            if row.seconds != row.written_seconds:
                self._durations.count(row.name, row.written_seconds, -1)
                self._durations.count(row.name, row.seconds, 1)
            row.written_state, row.written_cluster = state, row.cluster
            row.written_seconds = row.seconds
        begun, self._begun = self._begun, Counter()
        self._cells.write()
        self._durations.write(self._database)
        write = self._database.executemany
        write_rows(self._database, self._touched.values())
        write(_INSERT_ATTEMPT, self._attempts)
        write(
            "INSERT INTO counts VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET count = count + excluded.count",
            [(*key, count) for key, count in self._counts.items() if count],
        )
        write(
            _ADD_TIERS,
            [(name, begun[name, True], begun[name, False]) for name in {name for name, _ in begun}],
        )
        write("UPDATE clusters SET failed = failed + ? WHERE id = ?", _swapped(failed))
        write("UPDATE clusters SET skipped = skipped + ? WHERE id = ?", _swapped(skipped))
        self._rows = {id_: row for id_, row in self._rows.items() if row.standing.is_live}
        self._touched, self._attempts = {}, []
        self._counts.clear()

    def _apply_to_run(self, record: JournalRecord) -> None:
        event = event_of(record)
        if event is None:
            return
        kind, text = event
        capacity = capacity_of(record.fields) if kind in _BEGINNINGS else NOTHING
        told = (record.wall, record.epoch)
        if kind in _BEGINNINGS or kind is EventKind.CLOSED:
            self.release(record.wall)
            self._database.execute(
                "INSERT INTO capacities VALUES (?, ?, ?, ?, ?)", (*told, *capacity)
            )
        self._database.execute(
            "INSERT INTO events (at, epoch, kind, text) VALUES (?, ?, ?, ?)",
            (*told, kind.value, text),
        )

    def _apply_to_chore(self, row: Row, record: JournalRecord) -> None:
        before, host = row.standing, row.host
        was_busy = before.state is _RUNNING and row.started_epoch != 0
        standing = after(before, record)
        cores, gpus = row.cores, row.gpus
        request = (cores, gpus)
        unseen = _unseen_run(row, before, record) if "el" in record.fields else None
        if standing.resources is not before.resources:
            request = request_of(standing.resources)
        row.standing = standing
        try:
            self._keep_facts(row, before, record, unseen)
        except BaseException:
            row.standing = before  # so that it is as wrong when it is read again
            raise
        row.cores, row.gpus = request
        self._moments.count(record.kind, record.wall)
        if was_busy:
            self._moments.occupy(record.wall, -1, -cores, -gpus)
            self._lanes.occupy(host, row.name, record.wall, -1, -cores, -gpus)
        if standing.state is _RUNNING and row.started_epoch != 0:
            self._moments.occupy(record.wall, 1, *request)
            self._lanes.occupy(row.host, row.name, record.wall, 1, *request)
        if unseen is not None:
            host, began_at, _ = unseen
            self._moments.count(RecordKind.STARTED, began_at)
            for at, change in ((began_at, 1), (record.wall, -1)):
                self._moments.occupy(at, change, change * cores, change * gpus)
                self._lanes.occupy(host, row.name, at, change, change * cores, change * gpus)
        if before.state is _RUNNING or unseen is not None:
            self._lanes.count(host, row.name, record)
        self._touched[row.id] = row

    def _keep_facts(
        self, row: Row, before: Standing, record: JournalRecord, unseen: _UnseenRun | None
    ) -> None:
        kind, now = record.kind, float(record.wall)
        if kind == RecordKind.SUBMIT_INTENT:
            row.forget_attempt()
            row.submitted_at = now
            row.is_pooled = record.fields.get("p") == 1
            self._begun[row.name, row.is_pooled] += 1
        elif kind == RecordKind.SUBMITTED:
            row.jobid = clean(row.standing.jobid or "", MAX_NAME)
        elif kind == RecordKind.STARTED:
            row.host = clean(row.standing.host, MAX_NAME)
            row.started_at, row.started_epoch = now, record.epoch
            row.started_monotonic = float(record.monotonic)
        elif kind in _ENDS:
            row.ended_at = now
            if unseen is not None:
                row.host, row.started_at, row.seconds = unseen
            elif row.started_at:
                is_same = record.epoch == row.started_epoch
                start, end = row.started_monotonic, float(record.monotonic)
                row.seconds = max(end - start if is_same else now - row.started_at, 0.0)
            if kind == RecordKind.REQUEUED:
                reason = record.fields.get("r")
                told = None if reason is None else Reason(reason)
                self._keep_attempt(
                    row,
                    before._replace(
                        reason=told, exit_code=record.fields.get("x"), detail=row.standing.detail
                    ),
                )
        elif kind in (RecordKind.RETRIED, RecordKind.REVOKED):
            if row.submitted_at:
                self._keep_attempt(row, before)
        elif kind in (RecordKind.SKIPPED, RecordKind.REUSED):
            row.ended_at = now
        if row.standing.state is not before.state:
            row.cluster = self._cluster_of(row)

    def _keep_attempt(self, row: Row, standing: Standing) -> None:
        reason = standing.reason.value if standing.reason is not None else None
        self._attempts.append((
            row.number, standing.attempt, reason, standing.exit_code, clean(standing.detail),
            row.host, row.jobid, row.submitted_at, row.started_at, row.ended_at, row.seconds,
            row.cores, row.gpus, row.is_pooled,
        ))  # fmt: skip
        row.forget_attempt()

    def _cluster_of(self, row: Row) -> int | None:
        standing = row.standing
        if standing.state is ChoreState.SKIPPED:
            return None if standing.root is None else self._row(standing.root).cluster
        if standing.state is not ChoreState.FAILED or standing.reason is None:
            return None
        if self._clusters is None:
            found = self._database.execute("SELECT reason, pattern, id FROM clusters")
            self._clusters = {(reason, pattern): number for reason, pattern, number in found}
        key = (standing.reason.value, pattern_of(clean(standing.detail)))
        if key not in self._clusters and len(self._clusters) >= MAX_CLUSTERS:
            key = (key[0], "")
        if key not in self._clusters:
            insert = "INSERT INTO clusters (reason, pattern, sample) VALUES (?, ?, ?) RETURNING id"
            number: int = self._database.execute(insert, (*key, row.number)).fetchone()[0]
            self._clusters[key] = number
        return self._clusters[key]

    def _row(self, chore_id: str) -> Row:
        row = self._rows.get(chore_id)
        if row is None:
            row = self._rows[chore_id] = read_row(self._database, chore_id)
        return row


class _UnseenRun(NamedTuple):
    """An attempt on a warm worker that was over before anybody reported that it had started."""

    host: str
    started_at: float
    seconds: float


def _unseen_run(row: Row, before: Standing, record: JournalRecord) -> _UnseenRun | None:
    """Return where and when an attempt ran of which its end alone tells; None for all others.

    For a record that has ``el``.
    """
    if record.kind not in _ENDS or before.state is _RUNNING or not row.submitted_at:
        return None
    elapsed = record.fields["el"]
    # Not before it was handed over, however exact the clocks are.
    began_at = min(max(record.wall - elapsed, row.submitted_at), record.wall)
    return _UnseenRun(clean(record.fields.get("h", ""), MAX_NAME), began_at, float(elapsed))


def _check(record: JournalRecord) -> None:
    """Check numbers that no table could hold; raises TypeError or ValueError."""
    sequence, epoch, wall, monotonic, _, _, attempt, fields = record
    if not (0 <= wall < MAX_WALL and -MAX_WALL < monotonic < MAX_WALL):
        raise ValueError("its time is none")
    code = fields.get("x") or 0
    if not (type(attempt) is type(code) is int and 0 < attempt < MAX_NUMBER > abs(code)):
        raise ValueError("one of its numbers is none")
    if "el" in fields and not (
        type(elapsed := fields["el"]) in (int, float) and 0 <= elapsed < MAX_WALL
    ):
        raise ValueError("it cannot have taken so long")
    if not (0 < epoch < MAX_NUMBER and 0 < sequence < MAX_SEQUENCE):
        raise ValueError("its place is none")


def _swapped(counts: Counter[int]) -> list[tuple[int, int]]:
    return [(count, key) for key, count in counts.items()]
