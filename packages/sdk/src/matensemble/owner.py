"""Who drives a run: the shape of `owner.json`, which claim counts, and whether its process lives.

Only reads: to claim a run is the business of `matensemble.runtime.owner`, which calls this module,
as does whoever shows runs. No clock is compared here.

Each driver of a run has an epoch, from 1. The first claims it as `owner.json`; whoever takes over
claims the next one as `owner-<epoch>.json` and then replaces `owner.json` by the same content. A
claim is made once and never removed, since a name that could be taken twice would give an epoch two
owners. The highest claim counts: where `owner.json` is behind, whoever took over was killed before
it could replace it.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from matensemble.errors import FormatError
from matensemble.foreign_json import read_foreign_json
from matensemble.workdir import RunDir

OWNER_FORMAT = 1
FIRST_EPOCH = 1
MAX_OWNER_BYTES = 65_536

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")
_NAMELESS_HOSTS = ("", "localhost", "localhost.localdomain")
"""Names that many hosts have, and so say nothing."""
_EPOCH_IN_NAME = re.compile(r"(owner|journal)-([1-9][0-9]{0,17})\.jsonl?")
_ENDED = "ZXx"
"""States of a process in `/proc` that only waits for its parent to ask how it ended."""


class Life(StrEnum):
    """What can be said from here of the process of an owner."""

    ALIVE = "alive"
    """It is there, perhaps frozen."""
    DEAD = "dead"
    """It is gone, or has given the run back."""
    UNKNOWN = "unknown"
    """It is on another host or in another container, or its claim cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Content of `owner.json`: one claim."""

    epoch: int
    """From 1."""
    host: str = ""
    """Host of the driver; empty where the claim cannot be read."""
    pid: int = 0
    """Process of the driver; 0 where the claim cannot be read."""
    process_started: int | None = None
    """When that process started, in clock ticks since the boot; None where the system does not
    say. It tells the process from a later one with the same number."""
    boot_id: str | None = None
    """What tells two boots of a host apart; None where the system does not say."""
    pid_namespace: str | None = None
    """What tells the process numbers of two containers apart; None where there is no such thing."""
    flux_uri: str | None = None
    """Flux instance that the driver ran in."""
    slurm_job_id: str | None = None
    """Slurm job that the driver ran in."""
    started_at: str | None = None
    """ISO 8601, UTC: when the run was claimed."""
    released_at: str | None = None
    """ISO 8601, UTC: when the driver gave the run back; None while it drives."""

    @property
    def is_known(self) -> bool:
        """Whether the claim could be read, so that it says who made it."""
        return bool(self.host)

    @classmethod
    def of_this_process(cls, epoch: int, started_at: str) -> Owner:
        """Return the claim of an epoch by this process."""
        found = _look_up(os.getpid())
        return cls(
            epoch=epoch,
            host=socket.gethostname(),
            pid=os.getpid(),
            process_started=found[1] if found else None,
            boot_id=_boot_id(),
            pid_namespace=_pid_namespace(),
            flux_uri=os.environ.get("FLUX_URI"),
            slurm_job_id=os.environ.get("SLURM_JOB_ID"),
            started_at=started_at,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the object that is written to `owner.json`."""
        return {"format": OWNER_FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, data: Any, path: str = "owner.json") -> Owner:
        """Return the owner of `to_json`; fields of later versions are ignored.

        Raises
        ------
        FormatError
            If it is none, or of a format that this version does not know.
        """
        try:
            if data["format"] != OWNER_FORMAT:
                raise FormatError(
                    path, f"has format {data['format']}; this version reads {OWNER_FORMAT}"
                )
            owner = cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})
        except (KeyError, TypeError) as error:
            raise FormatError(path, f"names no owner ({type(error).__name__}: {error})") from error
        numbers, texts = (owner.epoch, owner.pid), (owner.host, owner.started_at or "")
        if not all(type(n) is int and n > 0 for n in numbers) or not all(
            type(text) is str for text in texts
        ):
            raise FormatError(path, f"names no owner ({numbers} {texts})")
        return owner

    def describe(self) -> str:
        """Return who it is in a few words: ``process 77 on node3``."""
        if not self.is_known:
            return "a process that cannot be identified (its claim cannot be read)"
        return f"process {self.pid} on {self.host}"


def read_owner(path: Path) -> Owner:
    """Read one claim.

    Raises
    ------
    FileNotFoundError, OSError
        If it is not there, or cannot be read.
    FormatError
        If it is being written, or damaged, or of a format that this version does not know.
    """
    data: Mapping[str, Any] = read_foreign_json(path, MAX_OWNER_BYTES)
    return Owner.from_json(data, str(path))


def present_owner(run: RunDir) -> Owner | None:
    """Return who drives a run, or was the last to do so; None where nobody ever did.

    A claim that cannot be read is an owner of which only the epoch is known; and a run that has a
    journal has such an owner too, if somebody removed the claims.

    Raises
    ------
    OSError
        If the run directory cannot be read.
    """
    try:
        named = read_owner(run.owner_path)
    except FileNotFoundError:
        named = None
    except FormatError:
        named = Owner(epoch=FIRST_EPOCH)
    claimed, journalled = _epochs_in_names(run)
    if named is None and not claimed:
        return Owner(epoch=journalled) if journalled else None
    epoch = max(claimed, named.epoch if named is not None else 0)
    # On a network file system, a listing may be older than what a look at one name finds.
    while run.claim_path(epoch + 1).exists():
        epoch += 1
    if named is not None and named.is_known and named.epoch == epoch:
        return named
    with suppress(FileNotFoundError, FormatError):
        claim = read_owner(run.claim_path(epoch))
        if claim.epoch == epoch:
            return claim
    return Owner(epoch=epoch)


def _epochs_in_names(run: RunDir) -> tuple[int, int]:
    """Return the highest epoch that a takeover claimed, and the highest that has a journal."""
    highest = {"owner": 0, "journal": 0}
    with os.scandir(run.root) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        if found := _EPOCH_IN_NAME.fullmatch(name):
            highest[found[1]] = max(highest[found[1]], int(found[2]))
    if run.journal_path.name in names:
        highest["journal"] += 1
    return highest["owner"], highest["journal"]


def judge(owner: Owner) -> Life:
    """Return what can be said from here of the process of an owner."""
    if owner.released_at is not None:
        return Life.DEAD
    if owner.host != socket.gethostname() or owner.pid_namespace != _pid_namespace():
        return Life.UNKNOWN
    boot_id = _boot_id()
    if owner.host in _NAMELESS_HOSTS and (boot_id is None or owner.boot_id != boot_id):
        return Life.UNKNOWN  # perhaps another host of that name
    if owner.boot_id != boot_id:
        return Life.DEAD
    return Life.ALIVE if is_running(owner.pid, owner.process_started) else Life.DEAD


def is_running(pid: int, process_started: int | None = None) -> bool:
    """Return whether a process of this host runs, or is stopped; one that has ended does not.

    Parameters
    ----------
    pid
        Its number.
    process_started
        When it started, as in `Owner`: another one with this number does not count. None takes
        any.
    """
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # gone; no number that a process could have
        return False
    except PermissionError:  # somebody else's
        pass
    found = _look_up(pid)
    if found is None:
        return True
    state, started = found
    return state not in _ENDED and process_started in (None, started)


def _look_up(pid: int) -> tuple[str, int] | None:
    """Return the state of a process and when it started; None where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field is the name of the program, in parentheses, and may hold any character.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _boot_id() -> str | None:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return None


def _pid_namespace() -> str | None:
    try:
        return str(_PID_NAMESPACE.readlink())
    except OSError:
        return None
