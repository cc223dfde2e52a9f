"""What chores of a slot write to stdout and stderr, moved to each chore's own file.

Owns the two files that descriptors 1 and 2 of a slot are, one after the other. A chore that writes
nothing costs a look at each and leaves no file. Called by `slot`.
"""

from __future__ import annotations

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
KEPT_FROM: Final = 64
"""Descriptors that stay open are from here, out of the way of what chores open."""


class Capture:
    """One stream of a slot.

    Parameters
    ----------
    path
        The file that the stream is now; the next ones get its name.
    number
        The stream's descriptor, 1 or 2.
    """

    __slots__ = ("_identity", "_kept", "_number", "_path")

    def __init__(self, path: str, number: int) -> None:
        self._path = path
        self._number = number
        self._kept = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, KEPT_FROM)
        self._identity = _identify(number)

    def settle(self, destination: str) -> None:
        """Make what was written the file of the chore that wrote it, and go on with an empty one.

        Raises
        ------
        OSError
            If the stream cannot be brought back to what it was.
        """
        try:
            status = os.fstat(self._number)
            is_same = (status.st_ino, status.st_dev) == self._identity
        except OSError:  # closed by the chore
            is_same = False
        if not is_same:
            os.dup2(self._kept, self._number)
            status = os.fstat(self._kept)
        if status.st_size:
            os.rename(self._path, destination)
            self._renew()

    def _renew(self) -> None:
        try:
            descriptor = os.open(self._path, _FLAGS, 0o600)
        except FileExistsError:  # the node had linked it to its destination: nothing was renamed
            os.unlink(self._path)
            descriptor = os.open(self._path, _FLAGS, 0o600)
        os.dup2(descriptor, self._number)
        os.dup2(descriptor, self._kept, inheritable=False)
        os.close(descriptor)
        self._identity = _identify(self._number)


def _identify(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_ino, status.st_dev
