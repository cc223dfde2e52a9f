"""Append to `journal.jsonl`: what the state decided, before it is carried out.

Owns the file and the sequence numbers. Written by the thread that owns the state, and by nobody
else. What a record holds is decided by the scheduler core and encoded by `matensemble.status`.

A killed process loses nothing that was written, so `flush` does not sync; `sync` is called by the
engine in groups, at most about a second apart, and bounds what the loss of a node can cost.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from matensemble.records import encode_journal_record, journal_stamp
from matensemble.runtime.clock import SYSTEM_CLOCK, Clock
from matensemble.runtime.scheduler.instructions import Record
from matensemble.workdir import FILE_MODE

MAX_LINES = 8192
"""Taken at most before they are written unasked: an event can end a million chores."""
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC


class Journal(Protocol):
    """Where records go."""

    @property
    def sequence(self) -> int:
        """Number of the last record, 0 before the first."""

    @property
    def epoch(self) -> int:
        """Epoch of the owner that writes it, from 1."""

    def append(self, record: Record) -> None:
        """Take a record; it is on its way to the file at the next `flush`, or before."""

    def flush(self) -> None:
        """Write what was taken, in one piece: before anything is carried out."""

    def sync(self) -> None:
        """Bring what was written to the disk, if anything was since the last time."""

    def close(self) -> None:
        """Sync and close; may be called twice."""


class FileJournal:
    """The journal of a run directory.

    Parameters
    ----------
    path
        The file; must not exist.
    epoch
        Epoch of the owner, from 1.
    clock
        Stamps the records.

    Raises
    ------
    FileExistsError
        If the run was started before.
    OSError
        If it cannot be created.
    """

    def __init__(self, path: Path, epoch: int = 1, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._started = clock.monotonic()
        self.epoch = epoch
        self.sequence = 0
        self._is_dirty = False
        self._lines: list[bytes] = []
        self._stamp = ""
        self._path = path
        self._descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, FILE_MODE)
        self._inode = os.fstat(self._descriptor).st_ino

    @classmethod
    def begin(cls, path: Path, epoch: int, first: Record, clock: Clock) -> FileJournal:
        """Return a new journal that holds its first record, on the disk, from the moment it is.

        Whoever reads it finds out from that record what came before.

        Raises
        ------
        FileExistsError
            If there is one.
        OSError
            If it cannot be written.
        """
        if path.exists():
            raise FileExistsError(f"{path} exists")
        draft = path.with_suffix(f".{os.urandom(4).hex()}.draft")
        journal = cls(draft, epoch, clock)
        try:
            journal.append(first)
            journal.sync()
            draft.rename(path)
        except BaseException:
            with suppress(OSError):
                os.close(journal._descriptor)
                draft.unlink()
            raise
        journal._path = path
        return journal

    def append(self, record: Record) -> None:
        """Take a record; it is on its way to the file at the next `flush`, or before."""
        if len(self._lines) >= MAX_LINES:
            with suppress(OSError):  # nothing is lost, and `flush` tells
                self.flush()
        if not self._lines:
            clock = self._clock
            elapsed = clock.monotonic() - self._started
            self._stamp = journal_stamp(self.epoch, clock.time(), elapsed)
        self.sequence += 1
        self._lines.append(
            encode_journal_record(
                self.sequence,
                self._stamp,
                record.kind,
                record.chore_id,
                record.attempt,
                record.fields,
            )
        )

    def flush(self) -> None:
        """Write what was taken, in one piece.

        Raises
        ------
        OSError
            If it could not be written whole.
        """
        if not self._lines:
            return
        rest = b"".join(self._lines)
        try:
            while rest:
                rest = rest[self._write(rest) :]
                self._is_dirty = True
        finally:
            # Kept, not lost, where the write failed: what follows must not leave a gap.
            self._lines = [rest] if rest else []

    def _write(self, data: bytes) -> int:
        try:
            return os.write(self._descriptor, data)
        except OSError as error:
            if error.errno != errno.ESTALE or not self._reopen():
                raise
            return os.write(self._descriptor, data)

    def _reopen(self) -> bool:
        """Open the file anew where its server has forgotten it; never that of another driver."""
        with suppress(OSError):
            descriptor = os.open(self._path, _FLAGS)
            if os.fstat(descriptor).st_ino == self._inode:
                os.dup2(descriptor, self._descriptor, inheritable=False)
                os.close(descriptor)
                return True
            os.close(descriptor)
        return False

    def sync(self) -> None:
        """Bring what was written to the disk, if anything was since the last time."""
        self.flush()
        if self._is_dirty:
            os.fsync(self._descriptor)
            self._is_dirty = False

    def close(self) -> None:
        """Sync and close; may be called twice.

        Raises
        ------
        OSError
            If what was taken cannot be written; it is closed all the same.
        """
        if self._descriptor >= 0:
            try:
                self.sync()
            finally:
                os.close(self._descriptor)
                self._descriptor = -1
