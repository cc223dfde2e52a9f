"""What files were when content keys were computed, so that a later change of them is seen.

Owns `workflow.files`: the programs, named files and modules that keys cover, each with a digest of
its content and a *stamp* (inode, size, times of change). The same stamp means that nobody wrote to
it in between; equal content does not, since it can have been another one meanwhile. Called by
`matensemble.content_key` and `matensemble.imported`, which make marks, and by
`matensemble.file_watch`, which looks again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from hashlib import file_digest, sha256
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import NamedTuple

from matensemble.errors import FormatError
from matensemble.plain_value import token

FILES_FORMAT = 1
MAX_FILES = 10_000
"""Of a package; one with more is surely no package."""
MAX_HASHED_BYTES = 256 << 20
"""Of a file; larger ones count by size and time of change."""
YOUNG_NS = 3_000_000_000
"""Nanoseconds after its last change in which a file can change again and keep its stamp."""
_SUFFIXES = (".py", *EXTENSION_SUFFIXES)


class Mark(NamedTuple):
    """What a file, or the code in the directory of a package, was."""

    path: str
    """Absolute."""
    digest: str | None
    """Of its content; None where it is not there or cannot be read."""
    stamp: str
    """Changes with every write; empty where there is no such file."""
    is_young: bool
    """Whether it had changed just before, so that the stamp alone does not say enough."""


class Stamp(NamedTuple):
    """When something was changed last."""

    text: str
    """As `Mark.stamp`."""
    is_young: bool
    """As `Mark.is_young`."""


def stamp(path: Path) -> Stamp:
    """Return the stamp of a file, or of the code in a directory; opens nothing."""
    now, last, parts = time.time_ns(), 0, []
    try:
        for name, file in code_files(path):
            status = file.stat()
            last = max(last, status.st_ctime_ns)
            times = (status.st_mtime_ns, status.st_ctime_ns)
            parts.append(repr((name, status.st_ino, status.st_size, *times)))
    except (OSError, ValueError):  # not there, or no path at all
        return Stamp("", is_young=False)
    text = sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
    return Stamp(text[:32], is_young=now - last < YOUNG_NS)


def digest(path: Path) -> str | None:
    """Return the digest of a file, or of the code in a directory; None where it cannot be read."""
    try:
        status = path.stat()
        if S_ISDIR(status.st_mode):
            return digest_of((name, file.read_bytes()) for name, file in code_files(path))
        if not S_ISREG(status.st_mode):
            return None
        size_and_time = f"{status.st_size} bytes of {status.st_mtime_ns}"
        if status.st_size > MAX_HASHED_BYTES:
            return size_and_time
        try:
            with path.open("rb") as file:
                return file_digest(file, "sha256").hexdigest()
        except PermissionError:  # a program need not be readable
            return size_and_time
    except (OSError, ValueError):
        return None


def digest_of(contents: Iterable[tuple[str, bytes]]) -> str:
    """Return the digest of the code in a directory, by the names and contents of its files."""
    found = sha256()
    for name, content in contents:
        found.update(token(name.encode("utf-8", "surrogateescape"), content))
    return found.hexdigest()


def mark(path: Path) -> Mark:
    """Look at a file; at its content last, so that a change while it is read shows later."""
    text, is_young = stamp(path)
    return Mark(os.fspath(path), digest(path), text, is_young)


def code_files(place: Path) -> Iterator[tuple[str, Path]]:
    """Yield what a worker can import of a package, with names relative to it, sorted; or a file."""
    if not place.is_dir():
        yield place.name, place
        return
    for path in sorted(place.rglob("*")):
        if path.name.endswith(_SUFFIXES):
            yield str(path.relative_to(place)), path


def write_marks(marks: Sequence[Mark]) -> Iterator[str]:
    """Yield the lines of `workflow.files`, without newline; the first mark has number 0."""
    yield json.dumps({"format": FILES_FORMAT})
    for one in marks:
        yield json.dumps([one.path, one.digest, one.stamp, one.is_young])


def read_marks(path: Path) -> list[Mark]:
    """Return the marks of a saved run.

    Raises
    ------
    FileNotFoundError
        If it was saved without keys.
    FormatError
        If the file is damaged, or of a later format.
    """
    with path.open(encoding="utf-8") as lines:
        try:
            if (found := json.loads(next(lines, "{}")).get("format")) != FILES_FORMAT:
                problem = f"has format {found}; this version reads {FILES_FORMAT}"
                raise FormatError(str(path), problem)
            return [Mark(str(name), *rest) for name, *rest in map(json.loads, lines)]
        except (ValueError, TypeError, AttributeError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(str(path), f"holds a line that is no mark ({error})") from error
