"""What a file system says when it is in trouble itself, and how a worker passes that on.

Owns the list of errors that speak of the disk and not of what was asked of it, for the driver and
the worker alike. Constants only.
"""

from __future__ import annotations

import errno

DISK_TROUBLE = frozenset(
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EIO", "EROFS", "ESTALE"),
        *("ETIMEDOUT", "EREMOTEIO", "ENOLCK", "EINTR"),
    )
    if hasattr(errno, name)
)
"""Errors that say something about the file system and nothing about what was asked of it.

`EINTR` too: Python repeats what a signal interrupted, but not `rename`, `link`, `mkdir` and
`unlink`, which file systems in user space and interruptible mounts let fail with it.
"""
NO_ROOM = frozenset(
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EROFS") if hasattr(errno, name)
)
"""Those that are everybody's, whatever was asked; the others can be of a single file."""
EXIT_DISK_TROUBLE = 74
"""By which a worker says that the disk did not even take the reason of its failure (`EX_IOERR` of
sysexits.h): the chore is not to blame."""
