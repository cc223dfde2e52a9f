"""Claim a run directory for this process, and notice when another one took it over.

Owns writing `owner.json` and its kin; what they mean is in `matensemble.owner`. Called by the
manager at the start and the end of a run, and by the engine while it drives.

Of all that claim the same epoch one wins: a claim is made by `link`, which either succeeds or finds
a claim there, on network file systems too. A driver that was replaced is not hindered: whatever it
still writes is not read, and `Lease.is_deposed` tells it to leave.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from matensemble import disk
from matensemble.errors import FormatError, RunOwnedError
from matensemble.owner import FIRST_EPOCH, Life, Owner, judge, present_owner, read_owner
from matensemble.runtime.clock import Clock
from matensemble.status import read_status
from matensemble.workdir import FILE_MODE, RunDir

SILENCE_SECONDS = 30.0
"""A driver publishes every 5 s at least. One that does not for so long is taken for dead."""
POLL_SECONDS = 1.0
"""How often the heartbeat of another driver is looked at."""

_LOGGER = logging.getLogger("matensemble")
_NO_LINKS = frozenset(
    (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
)  # what file systems without hard links answer

Pulse = tuple[int, str | None]


class Lease:
    """The right of this process to drive a run, for as long as nobody takes it over.

    Made by `claim`. Its methods may be called from one thread at a time.

    Attributes
    ----------
    epoch
        Of this driver, from 1.
    previous
        Who drove the run before, as it was found; None where nobody did.
    """

    def __init__(self, run: RunDir, owner: Owner, previous: Owner | None, clock: Clock) -> None:
        self.epoch = owner.epoch
        self.previous = previous
        self._run = run
        self._owner = owner
        self._clock = clock

    def is_deposed(self) -> bool:
        """Return whether another driver took the run over, so that this one must leave.

        To be asked about twice a second, and after every pause of this process: two looks at the
        file system. One that cannot be asked tells nothing: the answer is False, and the next call
        asks again. Nothing depends on it but how soon a replaced driver leaves.
        """
        try:
            if self._run.claim_path(self.epoch + 1).exists():
                return True
            # Opening a file sees what other hosts wrote before a directory listing does.
            return read_owner(self._run.owner_path).epoch > self.epoch
        except (OSError, FormatError):
            return False

    def release(self) -> None:
        """Give the run back at a clean end, so that whoever resumes it need not wait.

        Does nothing where another driver took it over.

        Raises
        ------
        OSError
            If that cannot be written; whoever resumes the run then waits for the heartbeat.
        """
        if self.is_deposed():
            return
        # Should a takeover happen right here, its higher claim counts and not what is written now.
        released = replace(self._owner, released_at=_stamp(self._clock))
        disk.write_atomic(self._run.owner_path, _encode(released))


def claim(
    run: RunDir,
    clock: Clock,
    *,
    takeover: bool = False,
    wait: Callable[[float], object] = time.sleep,
    silence: float = SILENCE_SECONDS,
    logger: logging.Logger = _LOGGER,
) -> Lease:
    """Make this process the driver of a run.

    A run that nobody drives is claimed at once; so is one whose driver gave it back or is known to
    be dead. Otherwise the heartbeat of the driver is watched, which takes up to `silence` seconds.

    Parameters
    ----------
    run
        The run.
    clock
        Measures the silence by its monotonic time; pauses of this process do not count as such.
    takeover
        Take the run at once, whoever drives it.
    wait
        Waits so many seconds; called about once a second while a heartbeat is watched.
    silence
        Seconds without a heartbeat after which a driver is taken for dead.
    logger
        Told why this waits, and of a run that is taken from a driver that may be alive.

    Raises
    ------
    RunOwnedError
        If its driver is alive.
    OSError
        If the run directory cannot be read or written.
    """
    while True:
        present = present_owner(run)
        if present is not None:
            if takeover:
                _tell_of_takeover(run, present, logger)
            elif not _is_gone(run, present, clock, wait, silence, logger):
                continue
        epoch = FIRST_EPOCH if present is None else present.epoch + 1
        owner = Owner.of_this_process(epoch, _stamp(clock))
        if _take(run, owner):
            return Lease(run, owner, present, clock)
        takeover = False  # it was meant for the driver that was there, not for who was faster
        wait(POLL_SECONDS)


# --- is the other one alive? ------------------------------------------------------------------


def _is_gone(
    run: RunDir,
    present: Owner,
    clock: Clock,
    wait: Callable[[float], object],
    silence: float,
    logger: logging.Logger,
) -> bool:
    """Return True once a driver is known or taken for dead, False where another one came.

    Raises
    ------
    RunOwnedError
        If it is alive.
    """
    if judge(present) is Life.DEAD:
        return True
    logger.warning(
        "%s holds this run and may be alive: watching its heartbeat for up to %.0f s",
        present.describe(),
        silence,
    )
    pulse = _pulse_of(run, present.epoch)
    silent_seconds, looked_at = 0.0, clock.monotonic()
    while silent_seconds < silence:
        wait(POLL_SECONDS)
        now = clock.monotonic()
        # Where this process was stopped, perhaps the other was stopped with it.
        silent_seconds += min(now - looked_at, 2 * POLL_SECONDS)
        looked_at = now
        if present_owner(run) != present:
            return False
        latest = _pulse_of(run, present.epoch)
        if latest is not None and latest != pulse:
            raise _owned(run, present, clock)
        if judge(present) is Life.DEAD:
            return True
    logger.warning(
        "%s gave no sign of life for %.0f s: taking its run over", present.describe(), silence
    )
    return True


def _pulse_of(run: RunDir, epoch: int) -> Pulse | None:
    """Return what changes while the driver of an epoch lives, None where it published nothing.

    Compared only for being another one. What a replaced driver published is nobody's pulse.
    """
    try:
        status = read_status(run.status_path)
    except (FileNotFoundError, FormatError):
        return None
    return (status.beat, status.updated_at) if status.epoch == epoch else None


def _owned(run: RunDir, owner: Owner, clock: Clock) -> RunOwnedError:
    if not owner.is_known:
        return RunOwnedError(str(run.root), None, None)
    age = None
    with suppress(TypeError, ValueError):
        age = clock.time() - datetime.fromisoformat(owner.started_at or "").timestamp()
    return RunOwnedError(str(run.root), owner.host, owner.pid, age=age)


def _tell_of_takeover(run: RunDir, present: Owner, logger: logging.Logger) -> None:
    life = judge(present)
    if life is not Life.DEAD:
        logger.warning(
            "taking %s away from %s, epoch %d, as asked (--takeover), %s: it will notice and "
            "leave, but what it runs may run twice",
            run.root,
            present.describe(),
            present.epoch,
            "which is ALIVE" if life is Life.ALIVE else "of which nothing is known from here",
        )


# --- writing a claim --------------------------------------------------------------------------


def _take(run: RunDir, owner: Owner) -> bool:
    """Claim an epoch; return whether it is ours, False where somebody was faster.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    is_first = owner.epoch == FIRST_EPOCH
    target = run.owner_path if is_first else run.claim_path(owner.epoch)
    draft = run.owner_path.with_suffix(f".{os.urandom(4).hex()}.draft")
    content = _encode(owner)
    _create(draft, content)
    try:
        is_ours = _link(draft, target, content)
        if is_ours and not is_first:
            draft.replace(run.owner_path)
        return is_ours
    finally:
        draft.unlink(missing_ok=True)


def _link(draft: Path, target: Path, content: bytes) -> bool:
    """Give a claim its name, exclusively; return whether that is ours now."""
    try:
        os.link(draft, target)
    except OSError as error:
        # A network file system repeats a request whose answer was lost, and then reports what the
        # repetition found: a name that is there. Or it gives up, though the server had done it.
        with draft.open("rb") as file:
            if os.fstat(file.fileno()).st_nlink > 1:
                return True
        if error.errno == errno.EEXIST:
            return False
        if error.errno not in _NO_LINKS:
            raise
    else:
        return True
    try:
        _create(target, content)
    except FileExistsError:
        return False
    return True


def _create(path: Path, content: bytes) -> None:
    """Write a private file that must not exist, and bring it to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _encode(owner: Owner) -> bytes:
    return json.dumps(owner.to_json()).encode()


def _stamp(clock: Clock) -> str:
    return datetime.fromtimestamp(clock.time(), UTC).isoformat(timespec="seconds")
