"""The files of a chore, opened by what they are and never by a path.

Owns which files may be asked for and how they are opened. A run, a chore, an attempt and a name
lead to a file; each is checked to be one segment, and each step is taken relative to the directory
before it without following a link. So whatever a chore, or somebody with access to the folder, puts
there or exchanges meanwhile, what is opened lies inside the directory of the chore and is a regular
file. It loads no pickle and decides nothing about access. Called by `routes.files`.

A file may be moved to ``attempts/<n>/`` while it is looked for: see `_open`.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, NamedTuple, Self

from matensemble import workdir
from matensemble.dashboard.files.artifact import Artifact, FileState, open_directory, open_file
from matensemble.errors import FormatError, RunDirectoryError
from matensemble.foreign_json import parse_foreign_json
from matensemble.terminal import clean_text

FILE_NAMES = (workdir.STDOUT, workdir.STDERR, workdir.ERROR, workdir.METADATA)
"""The files that every chore may have and that may be asked for by their names."""
MAX_RECORD_BYTES = 1 << 20
"""Of an `error.json` or `metadata.json` that is answered as a record."""
MAX_OUTPUTS = 200
"""How many declared outputs of a chore are listed."""

_MAX_METADATA_BYTES = 4 << 20
"""Of a `metadata.json` in which an attempt or outputs are looked up: it names what the chore waits
for, which may be many."""
_MAX_SEGMENT_BYTES = 255
_MAX_PATH_BYTES = 500
_MAX_DEPTH = 32
_MAX_ATTEMPTS_LISTED = 10_000
_NUM_TRIES = 3
"""How often a file is looked for while the attempts of its chore change."""
_OWN_FILES = frozenset(
    {
        workdir.RECORD,
        workdir.METADATA,
        workdir.RESULT,
        workdir.DAMAGED_RESULT,
        workdir.ERROR,
        workdir.ATTEMPTS,
    }
)


class Listed(NamedTuple):
    """A file of a chore as a list shows it."""

    name: str
    """A file name, or the name of a declared output."""
    is_output: bool
    """Whether it is a declared output."""
    state: FileState | None
    """None where it cannot be opened."""
    problem: str | None
    """Why not."""


class ChoreFiles:
    """The files of one attempt of a chore; a context manager that holds its directory open.

    Parameters
    ----------
    run_dir
        A run directory that the catalog found.
    chore_id
        Id of a chore; anything else is refused or not found.
    attempt
        From 1; None means the attempt whose files are in the chore's directory: the latest that
        was prepared.
    declared
        Returns what the header of the chore declares as outputs, by name: asked where no
        `metadata.json` tells it, which may be removed after the end of the run.

    Raises
    ------
    RunDirectoryError
        If the chore has no directory.
    FormatError
        If there is something in its place that is not followed.
    OSError
        If the file system refuses.
    """

    def __init__(
        self,
        run_dir: Path,
        chore_id: str,
        attempt: int | None = None,
        *,
        declared: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._declared = declared
        self._shown = f"{run_dir.name}/{workdir.OUT}/{clean_text(chore_id)}"
        self._attempt = attempt
        # What begins with a dot is no chore: the key of warm workers lies in such a directory.
        is_id = _is_segment(chore_id) and not chore_id.startswith(".")
        if not is_id or f"{workdir.OUT}/{chore_id}".casefold() == workdir.REGISTRY:
            raise RunDirectoryError(self._shown, "there is no such chore")
        try:
            root = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                self._directory = open_directory(root, (workdir.OUT, chore_id))
            finally:
                os.close(root)
        except OSError as error:
            raise self._explain(error, "there are no files of this chore") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        os.close(self._directory)

    def open(self, name: str) -> Artifact:
        """Open one of `FILE_NAMES`.

        Raises
        ------
        RunDirectoryError
            If there is none, or the name is another.
        FormatError
            If it is a link, a pipe, a device or a directory.
        OSError
            If the file system refuses.
        """
        if name not in FILE_NAMES:
            raise RunDirectoryError(self._shown, f"{clean_text(name)} cannot be asked for")
        return self._open((name,))

    def open_output(self, output: str) -> Artifact:
        """Open a declared output by the name that the pipeline gave it; raises as `open`."""
        parts = self.outputs().get(output)
        if parts is None:
            raise RunDirectoryError(self._shown, f"no output {clean_text(output)} was declared")
        return self._open(parts)

    def outputs(self) -> Mapping[str, tuple[str, ...]]:
        """Return the declared outputs: name and the segments below the chore's directory.

        By `metadata.json`, over which a chore could have written, or by its header where that is
        gone: what does not stay inside the directory, or is a file of MatEnsemble's own, is left
        out.
        """
        try:
            with self.open(workdir.METADATA) as artifact:
                declared = _read_json(artifact, self._shown, _MAX_METADATA_BYTES).get("outputs")
        except RunDirectoryError:
            declared = self._declared()
        except FormatError:
            return {}
        if not isinstance(declared, dict):
            return {}
        checked = {clean_text(name): _segments_of(path) for name, path in declared.items()}
        return {name: parts for name, parts in checked.items() if parts is not None}

    def read_record(self, name: str) -> tuple[dict[str, Any], FileState, int | None]:
        """Return the content of `error.json` or `metadata.json`, the file's state and its attempt.

        Text in it commands no terminal and holds no half characters, numbers are finite, and what
        is nested deeper than any record is left out.

        Raises
        ------
        FormatError
            If it is too large or no JSON object; otherwise as `open`.
        """
        with self.open(name) as artifact:
            content = _read_json(artifact, f"{self._shown}/{name}", MAX_RECORD_BYTES)
            return _clean(content, _MAX_DEPTH), artifact.look(), artifact.attempt

    def list_files(self) -> tuple[list[Listed], int]:
        """Return the files that there are and the declared outputs, and how many of those.

        At most `MAX_OUTPUTS` outputs are listed.

        Raises
        ------
        RunDirectoryError
            If the attempts of the chore change right now.
        OSError
            If the file system refuses.
        """
        outputs = self.outputs()
        for _ in range(_NUM_TRIES):
            present = self._present_attempt()
            found = [self._list(name, (name,), present, is_output=False) for name in FILE_NAMES]
            found += [
                self._list(name, parts, present, is_output=True)
                for name, parts in islice(outputs.items(), MAX_OUTPUTS)
            ]
            if present == self._present_attempt():
                return [entry for entry in found if entry is not None], len(outputs)
        raise self._changing()

    def _list(
        self, name: str, parts: tuple[str, ...], present: int | None, *, is_output: bool
    ) -> Listed | None:
        try:
            with Artifact(self._open_now(parts, present), name, present) as artifact:
                return Listed(name, is_output, artifact.look(), None)
        except FileNotFoundError:
            return Listed(name, is_output, None, "is not there") if is_output else None
        except FormatError as error:
            return Listed(name, is_output, None, error.problem)
        except OSError as error:
            return Listed(name, is_output, None, f"cannot be opened ({error.strerror})")

    def _open(self, parts: tuple[str, ...]) -> Artifact:
        """Open a file by the way to it from the directory of its attempt."""
        try:
            for _ in range(_NUM_TRIES):
                # Files move to `attempts` one after the other, metadata.json before the streams,
                # and it comes back before them. The same attempt before and after says that
                # nothing was moved between.
                present = self._present_attempt()
                artifact = Artifact(
                    self._open_now(parts, present), parts[-1], self._attempt or present
                )
                if present == self._present_attempt():
                    return artifact
                artifact.close()
        except OSError as error:
            what = "" if self._attempt is None else f" of attempt {self._attempt}"
            raise self._explain(error, f"there is no {clean_text(parts[-1])}{what}") from error
        raise self._changing()

    def _open_now(self, parts: tuple[str, ...], present: int | None) -> int:
        """Return a descriptor; `present` is the attempt whose files the chore's directory holds."""
        if self._attempt is not None:
            with suppress(FileNotFoundError):
                kept = (workdir.ATTEMPTS, str(self._attempt), *parts)
                return open_file(self._directory, kept)
            if self._attempt != present:
                raise FileNotFoundError(errno.ENOENT, "no such attempt")
        return open_file(self._directory, parts)

    def _changing(self) -> RunDirectoryError:
        return RunDirectoryError(self._shown, "its next attempt begins right now; ask again")

    def _present_attempt(self) -> int | None:
        """Return the attempt whose files are in the chore's directory; None where nobody knows."""
        with suppress(OSError, FormatError):
            descriptor = open_file(self._directory, (workdir.METADATA,))
            with Artifact(descriptor, workdir.METADATA, None) as artifact:
                told = _read_json(artifact, self._shown, _MAX_METADATA_BYTES).get("attempt")
            # Not True, which is an int.
            return told if type(told) is int and told > 0 else None
        try:
            os.stat(workdir.RECORD, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:  # removed, as it may be after the end; no attempt is prepared
            return 1 + max(self._kept_attempts(), default=0)
        return None

    def _kept_attempts(self) -> list[int]:
        try:
            kept = open_directory(self._directory, (workdir.ATTEMPTS,))
        except (OSError, FormatError):
            return []
        try:
            with os.scandir(kept) as entries:
                names = [entry.name for entry in islice(entries, _MAX_ATTEMPTS_LISTED)]
        finally:
            os.close(kept)
        return [int(name) for name in names if name.isascii() and name.isdecimal()]

    def _explain(self, error: OSError, missing: str) -> Exception:
        if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
            return RunDirectoryError(self._shown, missing)
        return error


def _read_json(artifact: Artifact, shown: str, max_bytes: int) -> dict[str, Any]:
    data = b""
    while piece := artifact.read(len(data), max_bytes + 1 - len(data)):
        data += piece
    if len(data) > max_bytes:
        raise FormatError(shown, f"holds more than {max_bytes} bytes")
    content = parse_foreign_json(data, shown)
    if not isinstance(content, dict):
        raise FormatError(shown, "is no JSON object")
    return content


def _clean(value: Any, depth: int) -> Any:
    """Return a JSON value as any answer can carry it."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if not isinstance(value, (dict, list)):
        return value
    if depth == 0:
        return "…"
    if isinstance(value, list):
        return [_clean(item, depth - 1) for item in value]
    return {clean_text(key): _clean(item, depth - 1) for key, item in value.items()}


def _is_segment(text: str) -> bool:
    """Tell whether a text names something in a directory, and neither it nor its parent."""
    if not text or text in (".", "..") or "/" in text or "\0" in text:
        return False
    try:
        return len(os.fsencode(text)) <= _MAX_SEGMENT_BYTES
    except UnicodeEncodeError:
        return False


def _segments_of(path: object) -> tuple[str, ...] | None:
    """Return the segments of a declared output; None where it is no path that one can have."""
    if not isinstance(path, str) or path.startswith("/") or len(path) > _MAX_PATH_BYTES:
        return None
    parts = PurePosixPath(path).parts
    if not parts or not all(map(_is_segment, parts)):
        return None
    # File systems of macOS do not tell upper and lower case apart.
    own = parts[0].casefold()
    return None if own in _OWN_FILES or workdir.is_spawned(own) else parts
