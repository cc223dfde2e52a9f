"""Signs of life of a driver that has claimed a run and does not drive it yet.

Reading the journal of a large run and looking at its results takes longer than the silence after
which a driver is taken for dead. Until the recorder publishes, this thread does: the last status
with a new driver in it. It stops with its process, as a frozen driver must seem.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from matensemble import disk
from matensemble.errors import FormatError
from matensemble.model import RunState
from matensemble.runtime.clock import Clock
from matensemble.status import RunStatus, read_status
from matensemble.workdir import RunDir

BEAT_SECONDS = 5.0


class StartingBeat:
    """Publishes that a driver is starting, until it is stopped.

    Parameters
    ----------
    run
        The run, claimed by this process.
    epoch
        Of this driver.
    clock
        For the times in the status.
    """

    def __init__(self, run: RunDir, epoch: int, clock: Clock) -> None:
        self._run = run
        self._clock = clock
        self._status = self._first_status(epoch)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="matensemble-starting", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Publish no more; may be called twice. Afterwards nothing is being written."""
        self._is_over.set()
        self._thread.join()

    def _first_status(self, epoch: int) -> RunStatus:
        now = self._now()
        status = RunStatus(run=self._run.root.name, state=RunState.RUNNING)
        with suppress(OSError, FormatError):  # none, or none that can be read
            status = read_status(self._run.status_path)
        return replace(
            status,
            state=RunState.RUNNING,
            detail="starting",
            epoch=epoch,
            beat=0,
            sequence=0,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=now,
            updated_at=now,
            ended_at=None,
            ends_at=None,
            rate=0.0,
        )

    def _beat(self) -> None:
        while not self._is_over.wait(BEAT_SECONDS):
            self._status = replace(self._status, beat=self._status.beat + 1, updated_at=self._now())
            with suppress(OSError):  # a disk that fails shows as soon as the run begins
                data = json.dumps(self._status.to_json(), separators=(",", ":")).encode()
                disk.write_atomic(self._run.status_path, data)

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock.time(), UTC).isoformat(timespec="seconds")
