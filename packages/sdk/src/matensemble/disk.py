"""Private files and directories, written whole or not at all, and what a disk in trouble says.

Owns the modes and the atomic write of every file of a run, and the list of errors that speak of the
disk and not of what was asked of it, for the driver and the worker alike. Knows no content. Loaded
at the worker's start: no `pathlib`, no `contextlib`.
"""

from __future__ import annotations

import errno
import os

from matensemble.workdir import DIRECTORY_MODE, FILE_MODE

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


def make_dir(path: str | os.PathLike[str]) -> None:
    """Create a private directory, whatever the umask; its parent must exist.

    Raises
    ------
    FileExistsError
        If something of that name is there.
    """
    os.mkdir(path, DIRECTORY_MODE)
    os.chmod(path, DIRECTORY_MODE)


def write_atomic(path: str | os.PathLike[str], *chunks: bytes, durable: bool = False) -> None:
    """Write a private file so that readers see the old content or the new, never a part.

    Parameters
    ----------
    path
        The file; it is replaced if it is there.
    chunks
        Its content.
    durable
        Whether content and name are on the disk before this returns, so that they survive even
        the loss of the node in the next moment. It takes milliseconds.
    """
    path = os.fspath(path)
    # Not the process id: ranks of one chore on two nodes may share it, and the file.
    temporary = f"{path}.{os.urandom(4).hex()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        with open(descriptor, "wb", buffering=0) as file:
            for chunk in chunks:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[file.write(rest) or 0 :]
            if durable:
                os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        raise
    if durable:
        _sync_directory(os.path.dirname(path) or ".")


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
