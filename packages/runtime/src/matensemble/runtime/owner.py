"""Claim a run directory for this process: `owner.json`.

Owns who drives a run. The file is made by `link`, which either succeeds or finds it there, on
network file systems too, so that of two drivers that start at the same moment one is refused.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from matensemble import wire
from matensemble.runtime.clock import Clock
from matensemble.workdir import RunDir

OWNER_FORMAT = 1
FIRST_EPOCH = 1

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def claim(run: RunDir, clock: Clock) -> int:
    """Write who drives this run, and return the epoch of its ownership.

    Raises
    ------
    FileExistsError
        If somebody drives it, or did.
    OSError
        If it cannot be written.
    """
    owner = {
        "format": OWNER_FORMAT,
        "epoch": FIRST_EPOCH,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "boot_id": _boot_id(),
        "flux_uri": os.environ.get("FLUX_URI"),
        "started_at": datetime.fromtimestamp(clock.time(), UTC).isoformat(timespec="seconds"),
    }
    draft = run.owner_path.with_suffix(f".{os.urandom(4).hex()}.draft")
    wire.write_atomic(draft, json.dumps(owner).encode())
    try:
        os.link(draft, run.owner_path)
    finally:
        with suppress(OSError):
            draft.unlink()
    return FIRST_EPOCH


def _boot_id() -> str | None:
    """Return what tells two boots of a machine apart, where the system says it."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return None
