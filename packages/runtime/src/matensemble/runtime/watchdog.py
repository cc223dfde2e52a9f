"""Watch what running chores write: silence for too long, or too much of it.

Owns the limits `idle_timeout` and `max_output`, for every executor in the same way, because it
looks at the files and not at processes. Ends nothing: it posts `LimitExceeded`, and the scheduler
core decides. A duty of the engine; the caretaker tells it what runs, on the same thread.

Silence is measured by our monotonic clock from the moment at which a change was last seen. What a
file says of its time is only compared with what it said before, so no clock of another machine
matters.
"""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from matensemble import workdir
from matensemble.chore import Chore
from matensemble.model import Reason
from matensemble.runtime.clock import Clock
from matensemble.runtime.scheduler.events import LimitExceeded
from matensemble.terminal import describe_bytes, describe_seconds
from matensemble.workdir import RunDir

PASS_INTERVAL_SECONDS = 1.0
"""Between two passes over the running chores, at least."""
MAX_PASS_SECONDS = 0.1
"""Of one pass: what is not reached is looked at in the next, so a slow disk slows the watch and not
the run."""
LARGE_OUTPUT_BYTES = 1 << 30
"""A stdout larger than this is worth a warning, also where nothing limits it."""

_Look = Callable[[Path], os.stat_result]
_Seen = tuple[tuple[int, int], ...]
"""Size and time of change of stdout and stderr; zeros for one that is not there."""


class _Watched:
    """A running attempt with a limit."""

    __slots__ = ("attempt", "changed_at", "chore", "seen")

    def __init__(self, chore: Chore, attempt: int, now: float) -> None:
        self.chore = chore
        self.attempt = attempt
        self.seen: _Seen | None = None
        self.changed_at = now


class Watchdog:
    """Posts `LimitExceeded` for running attempts that go beyond their limits, once each.

    Costs nothing where no running chore has such a limit; else a pass a second, in which the
    chores that have one are looked at in turn, for at most `MAX_PASS_SECONDS`.

    Parameters
    ----------
    run
        The run directory.
    clock
        For the time since a change.
    post
        Where the events go.
    """

    def __init__(self, run: RunDir, clock: Clock, post: Callable[[LimitExceeded], object]) -> None:
        self._run = run
        self._clock = clock
        self._post = post
        self._watched: OrderedDict[str, _Watched] = OrderedDict()
        """By chore id; the first is the next to be looked at."""
        self._next_pass_at = float("-inf")

    def started(self, chore: Chore, attempt: int) -> None:
        """Watch an attempt from now on, if it has a limit; silence counts from now."""
        policy = chore.policy
        if policy.idle_timeout is not None or policy.max_output is not None:
            self._watched[chore.id] = _Watched(chore, attempt, self._clock.monotonic())

    def ended(self, chore_id: str, attempt: int) -> None:
        """Watch an attempt no longer; unknown ones are ignored."""
        watched = self._watched.get(chore_id)
        if watched is not None and watched.attempt == attempt:
            del self._watched[chore_id]

    def check(self, now: float) -> None:
        """Look at what runs, if a pass is due.

        Parameters
        ----------
        now
            Seconds by the monotonic clock.
        """
        if not self._watched or now < self._next_pass_at:
            return
        self._next_pass_at = now + PASS_INTERVAL_SECONDS
        deadline = self._clock.monotonic() + MAX_PASS_SECONDS
        for _ in range(len(self._watched)):
            chore_id, watched = next(iter(self._watched.items()))
            self._watched.move_to_end(chore_id)
            exceeded = self._judge(watched, now)
            if exceeded is not None:
                del self._watched[chore_id]
                self._post(exceeded)
            if self._clock.monotonic() > deadline:
                break

    def _judge(self, watched: _Watched, now: float) -> LimitExceeded | None:
        chore, policy = watched.chore, watched.chore.policy
        seen = self._see(chore.id, os.lstat)
        if seen is None:
            return None
        size = sum(size for size, _ in seen)
        if policy.max_output is not None and size > policy.max_output:
            detail = (
                f"stdout and stderr hold {describe_bytes(size)}, "
                f"more than its max_output of {describe_bytes(policy.max_output)}"
            )
            return LimitExceeded(chore.id, watched.attempt, Reason.OUTPUT_EXCEEDED, detail)
        limit = policy.idle_timeout
        if limit is None or self._has_changed(watched, seen, now):
            return None
        if now - watched.changed_at <= limit:
            return None
        # What a network file system remembers of a file may be old; to open it asks the server.
        seen = self._see(chore.id, _ask)
        if seen is None or self._has_changed(watched, seen, now):
            return None
        silence = describe_seconds(now - watched.changed_at)
        detail = f"nothing on stdout or stderr for {silence} (idle_timeout={limit:g} s)"
        return LimitExceeded(chore.id, watched.attempt, Reason.IDLE_TIMEOUT, detail)

    def _has_changed(self, watched: _Watched, seen: _Seen, now: float) -> bool:
        """Take note of what is seen, and return whether that is a sign of life."""
        if seen == watched.seen:
            return False
        is_first = watched.seen is None
        watched.seen = seen
        if is_first and not any(size for size, _ in seen):
            return False  # empty, as at its start
        watched.changed_at = now
        return True

    def _see(self, chore_id: str, look: _Look) -> _Seen | None:
        """Return what the files look like; None where the disk does not tell."""
        seen = []
        for name in (workdir.STDOUT, workdir.STDERR):
            try:
                status = look(self._run.chore_file(chore_id, name))
            except FileNotFoundError:
                seen.append((0, 0))
            except OSError:  # no reason to end anything
                return None
            else:
                seen.append((status.st_size, status.st_mtime_ns))
        return tuple(seen)


def _ask(path: Path) -> os.stat_result:
    """Return the status of a file as whoever keeps it knows it."""
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):  # the chore put something else there: no need to touch it
        return status
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def find_large_output(run: RunDir, chore_id: str) -> str | None:
    """Return what to warn of when a chore has ended: an oversized stdout; None where it is not.

    One `stat`. May be called from any thread.
    """
    path = run.chore_file(chore_id, workdir.STDOUT)
    try:
        size = os.lstat(path).st_size
    except OSError:  # only a warning would depend on it
        return None
    if size <= LARGE_OUTPUT_BYTES:
        return None
    return f"{path} holds {describe_bytes(size)}; max_output= can limit what a chore writes there"
