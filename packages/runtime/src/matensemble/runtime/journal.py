"""Append to `journal.jsonl`: what the state decided, before it is carried out.

Owns the file and the sequence numbers. Written by the thread that owns the state, and by nobody
else. What a record holds is decided by the scheduler core and encoded by `matensemble.status`.

A killed process loses nothing that was written, so `flush` does not sync; `sync` is called by the
engine in groups, at most about a second apart, and bounds what the loss of a node can cost.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from matensemble.records import encode_journal_record, journal_stamp
from matensemble.runtime.clock import SYSTEM_CLOCK, Clock
from matensemble.runtime.scheduler.instructions import Record
from matensemble.workdir import FILE_MODE


class Journal(Protocol):
    """Where records go."""

    @property
    def sequence(self) -> int:
        """Number of the last record, 0 before the first."""

    @property
    def epoch(self) -> int:
        """Epoch of the owner that writes it, from 1."""

    def append(self, record: Record) -> None:
        """Take a record; it is on its way to the file at the next `flush`."""

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
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, FILE_MODE)

    def append(self, record: Record) -> None:
        """Take a record; it is on its way to the file at the next `flush`."""
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
                rest = rest[os.write(self._descriptor, rest) :]
                self._is_dirty = True
        finally:
            # Kept, not lost, where the write failed: what follows must not leave a gap.
            self._lines = [rest] if rest else []

    def sync(self) -> None:
        """Bring what was written to the disk, if anything was since the last time."""
        self.flush()
        if self._is_dirty:
            os.fsync(self._descriptor)
            self._is_dirty = False

    def close(self) -> None:
        """Sync and close; may be called twice."""
        if self._descriptor >= 0:
            self.sync()
            os.close(self._descriptor)
            self._descriptor = -1
