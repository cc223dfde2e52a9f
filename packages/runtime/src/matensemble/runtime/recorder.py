"""Publish where the run stands: `status.json`, and a line in the log.

Owns when that happens (throttled) and the rate. Called by the engine, on the thread that owns the
state. A publication costs the number of groups, not of chores or failures, and where there are so
many groups, or the disk is so slow, that it takes long, it is made less often.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from math import exp

from matensemble import disk
from matensemble.model import RunState
from matensemble.runtime.clock import SYSTEM_CLOCK, Clock
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.status import Counts, RunStatus
from matensemble.workdir import RunDir

PUBLISH_INTERVAL_SECONDS = 0.5
HEARTBEAT_SECONDS = 5.0
"""A status is published this often although nothing changed, as a sign of life."""
MAX_SHARE = 0.05
"""Of the driver's time that publications may take, as long as the heartbeat can be kept."""
RATE_MEMORY_SECONDS = 60.0
MAX_SECONDS_AHEAD = 100 * 365 * 86400.0
"""An allocation that lasts longer has no end that anybody waits for, and perhaps none with a date:
years have four digits."""

Listener = Callable[[RunStatus], None]


class Recorder:
    """Projection of the state for everybody outside the driver.

    Parameters
    ----------
    run
        Where `status.json` is written.
    executor_name
        For the status.
    epoch
        Of the owner.
    log_delay
        Seconds between two progress lines, at least.
    logger
        Receives the progress lines.
    clock
        Tells when the next one is due.
    ends_at
        When the allocation ends, by the monotonic clock; None where no end is known.
    listeners
        Called with each status that is published; must be quick.
    """

    def __init__(
        self,
        run: RunDir,
        *,
        executor_name: str,
        epoch: int,
        log_delay: float,
        logger: logging.Logger,
        clock: Clock = SYSTEM_CLOCK,
        ends_at: float | None = None,
        listeners: tuple[Listener, ...] = (),
    ) -> None:
        self._run = run
        self._clock = clock
        self._log_delay = log_delay
        self._logger = logger
        self._listeners = listeners
        self._next_publication = self._next_line = self._next_heartbeat = clock.monotonic()
        self._published = -1
        self._published_state: RunState | None = None
        self._has_told = False
        self._beat = 0
        self._logged = Counts()
        self._rate = 0.0
        self._rated_at = clock.monotonic()
        self._rated_ended: int | None = None  # what had ended before this driver is no rate of its
        self._template = RunStatus(
            run=run.root.name,
            state=RunState.RUNNING,
            epoch=epoch,
            executor=executor_name,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self._now(),
            ends_at=self._instant_after(ends_at),
        )

    def publish(
        self,
        state: SchedulerState,
        run_state: RunState,
        sequence: int,
        *,
        detail: str = "",
        force: bool = False,
    ) -> bool:
        """Write `status.json`, unless that was done a moment ago.

        A projection that cannot be written must not end the run: that is told in the log.

        Parameters
        ----------
        state, run_state, sequence, detail
            What to show.
        force
            Write it now; so does another state of the run than the last one that was written.

        Returns
        -------
        bool
            Whether it was written.
        """
        now = self._clock.monotonic()
        force = force or run_state is not self._published_state
        if not force:
            if now < self._next_publication:
                return False
            if sequence == self._published and now < self._next_heartbeat:
                return False
        self._published = sequence
        self._next_heartbeat = now + HEARTBEAT_SECONDS
        self._beat += 1
        status = self._status(state, run_state, sequence, detail, now)
        # The last one is tried twice, for nobody says it later.
        is_written = self._write(status) or (run_state.is_terminal and self._write(status))
        # Who watches this very driver learns it also where the disk takes nothing.
        self._log(status, now, force)
        for listener in self._listeners:
            listener(status)
        pause = max((self._clock.monotonic() - now) / MAX_SHARE, PUBLISH_INTERVAL_SECONDS)
        self._next_publication = now + min(pause, HEARTBEAT_SECONDS)
        return is_written

    def _write(self, status: RunStatus) -> bool:
        content = json.dumps(status.to_json(), separators=(",", ":")).encode()
        try:
            disk.write_atomic(self._run.status_path, content)
        except OSError as error:
            if not self._has_told:
                self._logger.error("the status cannot be written, the run goes on: %s", error)
            self._has_told = True
            return False
        self._published_state, self._has_told = status.state, False
        return True

    def _status(
        self, state: SchedulerState, run_state: RunState, sequence: int, detail: str, now: float
    ) -> RunStatus:
        counts = state.counts()
        self._measure_rate(counts.completed + counts.failed + counts.cancelled, now)
        ledger, updated_at = state.ledger, self._now()
        return replace(
            self._template,
            state=run_state,
            sequence=sequence,
            beat=self._beat,
            counts=counts,
            groups=state.counts_by_group(),
            num_nodes=sum(node.cores > 0 for node in ledger.allocation.nodes),
            total_cores=ledger.allocation.num_cores,
            free_cores=ledger.free_cores,
            total_gpus=ledger.allocation.num_gpus,
            free_gpus=ledger.free_gpus,
            rate=round(self._rate, 3),
            root_failures=tuple(state.root_failures),
            num_root_failures=state.num_root_failures,
            updated_at=updated_at,
            ended_at=updated_at if run_state.is_terminal else None,
            detail=detail,
        )

    def _measure_rate(self, num_ended: int, now: float) -> None:
        if self._rated_ended is None or num_ended < self._rated_ended:  # some run again
            self._rated_at, self._rated_ended = now, num_ended
        seconds = now - self._rated_at
        if seconds < PUBLISH_INTERVAL_SECONDS:
            return
        weight = exp(-seconds / RATE_MEMORY_SECONDS) if self._rate else 0.0
        lately = (num_ended - self._rated_ended) / seconds
        self._rate = weight * self._rate + (1 - weight) * lately
        self._rated_at, self._rated_ended = now, num_ended

    def _log(self, status: RunStatus, now: float, force: bool) -> None:
        counts = status.counts
        if not force and (now < self._next_line or counts == self._logged):
            return
        self._next_line, self._logged = now + self._log_delay, counts
        self._logger.info(
            "%s: pending %d, running %d, completed %d, failed %d, cancelled %d; "
            "%d of %d cores free, %d of %d GPUs free",
            status.state.value,
            counts.pending,
            counts.running,
            counts.completed,
            counts.failed,
            counts.cancelled,
            status.free_cores,
            status.total_cores,
            status.free_gpus,
            status.total_gpus,
        )

    def _now(self) -> str:
        return _format_instant(self._clock.time())

    def _instant_after(self, monotonic: float | None) -> str | None:
        """Return when the monotonic clock will show a time; None where that is no date."""
        seconds = None if monotonic is None else monotonic - self._clock.monotonic()
        if seconds is None or seconds > MAX_SECONDS_AHEAD:
            return None
        return _format_instant(self._clock.time() + seconds)


def _format_instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
