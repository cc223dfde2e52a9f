"""The text log of a run: a file that people read.

Owns the file and what goes into it: what one run says, and what nobody says for another run of the
same process. Opened and closed by the manager.

Nothing depends on it. A line that the disk does not take is lost and nothing else happens: the
journal and the status are what tells of a run.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import ClassVar

from matensemble import workdir
from matensemble.workdir import RunDir

LOGGER = logging.getLogger("matensemble")


class RunLog(logging.StreamHandler):  # type: ignore[type-arg]  # no generic at run time
    """The log of one run, written from its creation until it is closed.

    Parameters
    ----------
    run
        The run.
    logger
        By which it speaks, below `LOGGER`.

    Raises
    ------
    OSError
        If the file cannot be opened.
    """

    _names: ClassVar[set[str]] = set()
    """Loggers of the runs that are alive in this process."""

    def __init__(self, run: RunDir, logger: logging.Logger) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(run.log_path, flags, workdir.FILE_MODE)
        super().__init__(os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace"))
        self.name = logger.name
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self.addFilter(self._is_of_this_run)
        self._names.add(logger.name)
        LOGGER.addHandler(self)
        if LOGGER.level == logging.NOTSET:
            LOGGER.setLevel(logging.INFO)

    def _is_of_this_run(self, record: logging.LogRecord) -> bool:
        return record.name == self.name or record.name not in self._names

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - named by `logging`
        """Let a line go that the disk does not take; a fault of the line itself is told."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)

    def close(self) -> None:
        """Write nothing more; may be called twice."""
        LOGGER.removeHandler(self)
        self._names.discard(str(self.name))
        with suppress(OSError):  # lines that could not be written, once more
            self.stream.close()
        super().close()
