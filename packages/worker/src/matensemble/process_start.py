"""What a process needs before it starts, and what it means where it cannot be started.

Owns the search for a program, the output files, and the words for people. Starts nothing. Called by
`matensemble.process_keeper`; imports the standard library only, and little of it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

NO_PROGRAM = (
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.ENOEXEC,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ETXTBSY,
)


class Refusal(Exception):  # noqa: N818 - an answer, not an error of the keeper
    """An attempt cannot be started."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def encode(environ: Mapping[str, str]) -> dict[bytes, bytes]:
    """Return an environment as the system takes it."""
    return {os.fsencode(name): os.fsencode(value) for name, value in environ.items()}


def open_stream(path: str) -> int:
    """Open an output file; appending, so that the tasks of a chore do not overwrite one another."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except OSError as error:
        raise Refusal("io_error", f"cannot write {path}: {error.strerror}") from error


def find_program(name: str, path: bytes | None) -> str:
    """Return the file to run for a program, which is looked up on a PATH unless it has a slash."""
    if "/" in name:
        return name
    listed = os.fsdecode(path) if path else os.defpath
    blocked = ""
    for directory in listed.split(os.pathsep):
        candidate = f"{directory or '.'}/{name}"
        if os.path.isfile(candidate):
            if os.access(candidate, os.X_OK):
                return candidate
            blocked = f"; {candidate} is not executable"
    searched = f"PATH={listed}" if path else f"{listed} (the chore has no PATH)"
    raise Refusal("executable_not_found", f"no program {name!r} in {searched}{blocked}")


def refusal_of(program: str, error: OSError) -> Refusal:
    """Return what an error of the start means for the chore."""
    shown = program if program.startswith("/") else f"{program} in {Path.cwd()}"
    if error.errno not in NO_PROGRAM:
        return Refusal("submit_error", f"{shown} cannot be started: {error.strerror}")
    problem = error.strerror or "unknown error"
    if error.errno == errno.ENOENT:
        problem = "does not exist"
        if Path(program).exists():
            problem = "names an interpreter in its first line (#!) that does not exist"
    elif error.errno == errno.ENOEXEC:
        problem = "is neither a program for this machine nor a script that begins with #!"
    elif error.errno == errno.EACCES:
        problem = "is not executable (a directory, or 'chmod +x' is missing)"
    return Refusal("executable_not_found", f"{shown}: {problem}")
