"""What a chore that failed left behind to say why: its error record, the ends of what it printed.

Owns how much of that is taken. The files are opened by `matensemble.dashboard.files.artifacts`; the
text commands nothing and is bounded. Called by whatever shows a failure.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from matensemble.dashboard.files.artifacts import ChoreFiles
from matensemble.errors import FormatError, RunDirectoryError
from matensemble.terminal import clean_text
from matensemble.workdir import ERROR, STDERR, STDOUT

MAX_TAIL_BYTES = 8192
MAX_TAIL_LINES = 12
MAX_LINE = 500
"""Characters of a line."""
MAX_MESSAGE = 2_000
MAX_TRACEBACK = 20_000
_CUT = "…"


class Remains(NamedTuple):
    """What is left of a failure; empty text where there is nothing, or it cannot be read."""

    error_type: str
    """Qualified name of the exception type."""
    message: str
    traceback: str
    """Its end, where it is long."""
    tails: dict[str, list[str]]
    """Stream → its last lines that hold anything; streams without any are left out."""


def read_remains(
    run_dir: Path, chore_id: str, streams: tuple[str, ...] = (STDERR, STDOUT)
) -> Remains:
    """Return what the latest attempt of a chore left behind; what cannot be read is left out.

    Parameters
    ----------
    run_dir
        A run directory that the catalog found.
    chore_id
        Id of a chore.
    streams
        Of which the end is wanted.
    """
    record: dict[str, Any] = {}
    tails: dict[str, list[str]] = {}
    # A damaged file, or one that somebody replaced, must not hide the failure that is asked about.
    with suppress(RunDirectoryError, FormatError, OSError), ChoreFiles(run_dir, chore_id) as files:
        with suppress(RunDirectoryError, FormatError, OSError):
            record, _, _ = files.read_record(ERROR)
        for stream in streams:
            with suppress(RunDirectoryError, FormatError, OSError):
                lines = _read_tail(files, stream)
                if lines:
                    tails[stream] = lines
    traceback = _text(record, "traceback")
    if len(traceback) > MAX_TRACEBACK:
        traceback = _CUT + traceback[-MAX_TRACEBACK:]
    message = _text(record, "message")
    if len(message) > MAX_MESSAGE:
        message = message[:MAX_MESSAGE] + _CUT
    return Remains(_text(record, "type")[:MAX_LINE], message, traceback, tails)


def _text(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    return value if isinstance(value, str) else ""


def _read_tail(files: ChoreFiles, stream: str) -> list[str]:
    with files.open(stream) as log:
        data = log.read(max(log.look().size - MAX_TAIL_BYTES, 0), MAX_TAIL_BYTES)
    text = clean_text(data.decode(errors="replace"))
    lines = [line.rstrip() for line in text.split("\n") if line.strip()]
    return [
        line if len(line) <= MAX_LINE else line[:MAX_LINE] + _CUT
        for line in lines[-MAX_TAIL_LINES:]
    ]
