"""The index of one run: a private SQLite file, fed from its headers and journals by offset.

Owns how far each file was read, and when what was read is void: a file that was truncated or
replaced, a takeover that accepts less than was read. The index is then made anew. A batch is one
transaction, which also holds the bookmarks, so that several processes may feed one file in turns
and a killed one leaves no half batch. Called by `feed`; only reads the run.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from matensemble.dashboard.index.fold import Fold
from matensemble.dashboard.index.schema import add_sorting, open_for_writing, reset
from matensemble.dashboard.index.tail import Bookmark, bookmark, fits, lines_from
from matensemble.errors import FormatError
from matensemble.foreign_json import open_foreign, parse_foreign_json
from matensemble.records import Chapter, JournalRecord, journal_chain, scan_lines
from matensemble.workdir import RunDir

_T = TypeVar("_T")

BATCH_LINES = 20_000
"""Lines a transaction: fewer cost more writes, more cost memory and let others wait."""

PIECE_LINES = 1_000
"""Headers or records that are taken in memory together, to look up at once what they are about."""

PIECE_BYTES = 1024 * 1024
"""Bytes of them from which on there are no more."""

BATCH_BYTES = 64 * 1024 * 1024
"""Bytes of headers a transaction, from which on it ends: a chore may have very many upstream."""

_NEXT_GENERATION = "UPDATE meta SET value = value + 1 WHERE name = 'generation'"


class Mark(NamedTuple):
    """How far one file of the run was read."""

    bookmark: Bookmark
    length: int | None
    """Bytes that count of it; None: all."""
    epoch: int
    sequence: int
    """Of the last record; 0 for headers."""


class Progress(NamedTuple):
    """How much of the run the index holds."""

    num_bytes: int
    """Read so far, of headers and journals."""
    total_bytes: int
    """There, when the files were opened last."""
    is_complete: bool
    """Whether nothing more was there."""


class RunIndex:
    """The index of one run, for the one thread that feeds it.

    Parameters
    ----------
    run
        The run.
    path
        The SQLite file; made where it is not there.

    Raises
    ------
    sqlite3.Error, OSError
        If it cannot be opened.
    """

    def __init__(self, run: RunDir, path: Path) -> None:
        self.run = run
        self.path = path
        self._database = open_for_writing(path)
        self._fold = Fold(self._database)
        self._generation: int | None = None
        self._is_chain_known = False
        self._chain: list[Chapter] = []
        self._seen: tuple[int, int] | None = None  # inode and size of the newest journal
        self._num_header_bytes = 0
        self._has_changed = False  # by this batch

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def update(self) -> Progress:
        """Read the next batch.

        Raises
        ------
        FormatError
            If a file of the run makes no sense; what stands before that is in the index.
        OSError, sqlite3.Error
            If the run cannot be read, or the index not be written.
        """
        run_problem: FormatError | None = None
        self._has_changed = False
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._notice_others()
            marks = self._valid_marks()
            try:
                is_complete = self._read_headers(marks) and self._read_journal(marks)
            except FormatError as error:
                run_problem = error
                is_complete = False
            self._fold.write()
            if is_complete or run_problem is not None:
                add_sorting(self._database)
            if self._has_changed:
                self._database.execute(_NEXT_GENERATION)
            self._database.execute("COMMIT")
        except BaseException:
            self._fold.forget()
            self._generation = None
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
        if self._generation is not None and self._has_changed:
            self._generation += 1
        os.utime(self.path)  # somebody looks at it: see `place`
        if run_problem is not None:
            raise run_problem
        num_bytes = sum(mark.bookmark.offset for mark in marks.values())
        return Progress(num_bytes, max(self._total_bytes(), num_bytes), is_complete)

    def catch_up(self) -> Progress:
        """Read until nothing more is there; raises as `update`."""
        while not (progress := self.update()).is_complete:
            pass
        return progress

    def _total_bytes(self) -> int:
        """Return the bytes of headers and journals, as they were when this batch began."""
        newest = self._seen[1] if self._seen is not None else 0
        lengths = (newest if chapter.length is None else chapter.length for chapter in self._chain)
        return self._num_header_bytes + sum(lengths)

    def _notice_others(self) -> None:
        found = self._database.execute(
            "SELECT value FROM meta WHERE name = 'generation'"
        ).fetchone()[0]
        if found != self._generation:
            self._fold.forget()
            self._is_chain_known = False
            self._generation = found

    def _valid_marks(self) -> dict[int, Mark]:
        """Return how far each file was read; nothing where it does not hold any more."""
        marks = {
            part: Mark(Bookmark(*at), length, epoch, sequence)
            for part, *at, length, epoch, sequence in self._database.execute(
                "SELECT part, inode, offset, first, last, length, epoch, sequence FROM bookmarks"
            )
        }
        self._learn_chain()
        if self._is_valid(marks):
            return marks
        reset(self._database)
        self._has_changed = True
        self._fold.forget()
        self._generation = self._database.execute(
            "SELECT value FROM meta WHERE name = 'generation'"
        ).fetchone()[0]
        return {}

    def _learn_chain(self) -> None:
        """Learn which journals there are, if the newest is another one than before."""
        try:
            found = self.run.journal_path.lstat()
            seen = (found.st_ino, found.st_size)
        except FileNotFoundError:
            seen = None
        is_same_file = seen is not None and self._seen is not None and seen[0] == self._seen[0]
        was_begun = bool(self._chain) and self._chain[-1].path == self.run.journal_path
        if not (self._is_chain_known and is_same_file and was_begun):
            self._is_chain_known = False
            try:
                self._chain = journal_chain(self.run)
            except FileNotFoundError:
                self._chain = []  # not started, or a takeover is under way
        self._seen = seen

    def _is_valid(self, marks: dict[int, Mark]) -> bool:
        if not marks:
            return True
        num_journals = len(marks) - 1
        if num_journals > len(self._chain):
            return False
        # Files that are not the last of the chain do not change: once is enough.
        parts = [num_journals] if self._is_chain_known else range(num_journals + 1)
        for part in parts:
            mark = marks[part]
            path = self.run.chores_path if part == 0 else self._chain[part - 1].path
            if part > 0:
                length = self._chain[part - 1].length
                is_longer = length is not None and mark.bookmark.offset > length
                if is_longer or (part < num_journals and length != mark.length):
                    return False
            try:
                with open_foreign(path) as file:
                    if not fits(file, mark.bookmark):
                        return False
            except FileNotFoundError:
                return False
        self._is_chain_known = True
        return True

    def _read_headers(self, marks: dict[int, Mark]) -> bool:
        """Read the next headers; return whether all were there before."""
        known = marks.get(0)
        if known is not None and known.length is not None:
            self._num_header_bytes = known.length
            return True
        path = self.run.chores_path
        offset = known.bookmark.offset if known else 0
        last, is_end = offset + BATCH_BYTES, False
        with open_foreign(path) as file:
            self._num_header_bytes = os.fstat(file.fileno()).st_size
            headers = _headers(lines_from(file, offset, str(path)), offset, path)
            try:
                for piece in _in_pieces(headers, offset, BATCH_LINES):
                    self._fold.expect_upstream(header for _, header in piece)
                    for end, header in piece:
                        self._fold.admit(0, offset, end - offset, header)
                        offset = end
                    if offset > last:
                        break
                is_end = offset == self._num_header_bytes
            finally:
                length = offset if is_end else None
                self._set(marks, 0, Mark(bookmark(file, offset), length, 0, 0))
        return is_end

    def _read_journal(self, marks: dict[int, Mark]) -> bool:
        """Read the next records; return whether nothing more is there."""
        budget = BATCH_LINES
        for part in range(max(len(marks) - 1, 1), len(self._chain) + 1):
            budget -= self._read_chapter(marks, part, budget)
            if budget <= 0:
                return False
        return True

    def _read_chapter(self, marks: dict[int, Mark], part: int, budget: int) -> int:
        """Read up to `budget` records of one journal; return how many there were."""
        chapter = self._chain[part - 1]
        known = marks.get(part)
        offset = known.bookmark.offset if known else 0
        epoch, sequence = (known.epoch, known.sequence) if known else (0, 0)
        num_read = 0
        with open_foreign(chapter.path) as file:
            records = scan_lines(
                lines_from(file, offset, str(chapter.path)),
                chapter.path,
                start=offset,
                length=chapter.length,
                skip_damaged=chapter.is_recovered,
            )
            try:
                for piece in _in_pieces(_whole(records), offset, budget):
                    if not num_read and not chapter.is_recovered:
                        _check_order(chapter, piece[0][1], epoch, sequence)
                    self._fold.expect(record for _, record in piece)
                    for end, record in piece:
                        self._fold.apply(record, part, offset, end - offset)
                        offset, epoch, sequence = end, record.epoch, record.sequence
                        num_read += 1
            finally:
                self._set(
                    marks, part, Mark(bookmark(file, offset), chapter.length, epoch, sequence)
                )
        return num_read

    def _set(self, marks: dict[int, Mark], part: int, mark: Mark) -> None:
        if marks.get(part) != mark:
            marks[part] = mark
            self._has_changed = True
            self._database.execute(
                "INSERT OR REPLACE INTO bookmarks VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (part, *mark.bookmark, mark.length, mark.epoch, mark.sequence),
            )


def _headers(lines: Iterable[bytes], offset: int, path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the header in each line, with the offset behind it."""
    for line in lines:
        offset += len(line)
        yield offset, parse_foreign_json(line, path)


def _whole(
    records: Iterable[tuple[int, JournalRecord | None]],
) -> Iterator[tuple[int, JournalRecord]]:
    for end, record in records:
        assert record is not None  # all are wanted
        yield end, record


def _in_pieces(
    items: Iterator[tuple[int, _T]], offset: int, number: int
) -> Iterator[list[tuple[int, _T]]]:
    """Yield up to so many items by pieces; where they end with an error, those before it too.

    Parameters
    ----------
    items
        Each with the offset behind it.
    offset
        Where the first begins.
    number
        Of items in all.
    """
    problem: FormatError | None = None
    piece: list[tuple[int, _T]] = []
    try:
        for item in islice(items, number):
            piece.append(item)
            if len(piece) == PIECE_LINES or item[0] - offset >= PIECE_BYTES:
                yield piece
                offset = item[0]
                piece = []
    except FormatError as error:
        problem = error
    if piece:
        yield piece
    if problem is not None:
        raise problem


def _check_order(chapter: Chapter, record: JournalRecord, epoch: int, sequence: int) -> None:
    """Raise FormatError if a record cannot follow those before this batch; the rest is checked."""
    if record.sequence != sequence + 1 or record.epoch != (epoch or record.epoch):
        problem = f"record {record.sequence} stands behind record {sequence}"
        raise FormatError(str(chapter.path), problem)
