"""Whether the files that content keys cover stayed what they were since a run was saved.

Owns `files.json`, by which a later run knows it of an earlier one. A driver looks at the files when
it begins, when a result is to be shared, and when it ends. A file counts as unchanged where its
stamp is the same as at the save; or the same as when the first driver began, where its content was
that of the save then (as on a node that has its own copy). Whatever else happened to it, no result
is known to be made with the file that the key speaks of. Used by `matensemble.reuse` and by the
runtime.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from matensemble import disk
from matensemble.errors import FormatError
from matensemble.file_marks import Mark, digest, read_marks, stamp
from matensemble.workdir import RunDir

WATCH_FORMAT = 1


class FileWatch:
    """What a driver knows of the files that the keys of its run cover; for one thread at a time.

    Parameters
    ----------
    run
        The run.
    marks
        What the files were when it was saved.
    changed
        Numbers of those that have changed since.
    """

    def __init__(self, run: RunDir, marks: Mapping[int, Mark], changed: Iterable[int]) -> None:
        self._run = run
        self._marks = dict(marks)
        self._changed = set(changed)
        self._adopted: dict[int, str] = {}
        self._looked_at: dict[int, float] = {}

    @classmethod
    def open(cls, run: RunDir) -> Self | None:
        """Look at the files of a run before anything is started; None where it has no keys.

        Raises
        ------
        OSError
            If the run cannot be written to.
        FormatError
            If it is damaged.
        """
        try:
            saved = read_marks(run.files_path)
        except FileNotFoundError:
            return None
        known = _read(run)
        if known is None:
            watch = cls(run, dict(enumerate(saved)), ())
            for number, mark in enumerate(saved):
                watch._begin(number, mark)
        else:
            watch = cls(run, _with_stamps(saved, known), known["changed"])
            watch._adopted = {int(number): text for number, text in known["stamps"].items()}
        watch._write(is_final=False)
        return watch

    def changed(self, numbers: Iterable[int], since: float) -> str | None:
        """Return the path of a file that may not have been the same all the time; else None.

        Parameters
        ----------
        numbers
            Of the marks of the files.
        since
            Reading of the monotonic clock; what was looked at later is not looked at again.
        """
        for number in numbers:
            if number not in self._changed and self._looked_at.get(number, -1.0) < since:
                self._look(number)
            if number in self._changed:
                return self._marks[number].path
        return None

    def close(self, logger: logging.Logger) -> None:
        """Look at everything for the last time, and leave that for later runs."""
        for number in self._marks.keys() - self._changed:
            self._look(number)
        try:
            self._write(is_final=True)
        except OSError as error:
            logger.warning("later runs may not reuse results of this one: %s", error)

    def _begin(self, number: int, mark: Mark) -> None:
        """Accept a file that is another one with the same content: nothing has run yet."""
        if is_same(mark):
            return
        text, is_young = stamp(Path(mark.path))
        if mark.digest is not None and digest(Path(mark.path)) == mark.digest:
            self._marks[number] = mark._replace(stamp=text, is_young=is_young)
            self._adopted[number] = text
        else:
            self._changed.add(number)

    def _look(self, number: int) -> None:
        now, mark = time.monotonic(), self._marks[number]
        is_young = mark.is_young and stamp(Path(mark.path)).is_young
        if is_same(mark):
            self._looked_at[number] = now
            self._marks[number] = mark._replace(is_young=is_young)
        else:
            self._changed.add(number)

    def _write(self, *, is_final: bool) -> None:
        data = {
            "format": WATCH_FORMAT,
            "stamps": self._adopted,
            "changed": sorted(self._changed),
            "is_final": is_final,
        }
        disk.write_atomic(self._run.watched_path, json.dumps(data).encode())


class PastFiles:
    """What a later run can know of the files that the keys of an earlier one cover.

    Parameters
    ----------
    marks
        What they were when the earlier run was saved, or began.
    changed
        Numbers of those that changed while it was alive.
    is_final
        Whether its last driver looked at the end; else one sees whether they are still the same.
    """

    def __init__(
        self, marks: Mapping[int, Mark], changed: Iterable[int], *, is_final: bool
    ) -> None:
        self._marks = marks
        self._verdicts = dict.fromkeys(changed, True)
        if is_final:
            self._verdicts = {number: number in self._verdicts for number in marks}

    @classmethod
    def read(cls, run: RunDir) -> Self:
        """Return what is known of a run that has keys.

        Raises
        ------
        FormatError
            If it is damaged, or of an earlier version.
        """
        try:
            saved = read_marks(run.files_path)
        except FileNotFoundError:
            raise FormatError(str(run.files_path), "is missing") from None
        known = _read(run)
        if known is None:
            return cls(dict(enumerate(saved)), (), is_final=False)
        return cls(_with_stamps(saved, known), known["changed"], is_final=known["is_final"])

    def changed(self, numbers: Iterable[int]) -> str | None:
        """Return the path of a file that may not have been the same all the time; else None."""
        for number in numbers:
            if number not in self._verdicts:
                self._verdicts[number] = not is_same(self._marks[number])
            if self._verdicts[number]:
                return self._marks[number].path
        return None


def is_same(mark: Mark) -> bool:
    """Return whether nobody can have written to a file since its mark was made."""
    path = Path(mark.path)
    if stamp(path).text != mark.stamp:
        return False
    return not mark.is_young or (mark.digest is not None and digest(path) == mark.digest)


def _read(run: RunDir) -> dict[str, Any] | None:
    path = run.watched_path
    try:
        data = json.loads(path.read_bytes())
        if data["format"] != WATCH_FORMAT:
            raise FormatError(str(path), f"has format {data['format']}")
        return {name: data[name] for name in ("stamps", "changed", "is_final")}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(str(path), f"cannot be read ({error!r})") from error


def _with_stamps(saved: list[Mark], known: Mapping[str, Any]) -> dict[int, Mark]:
    """Return marks with the stamps that the first driver found; whether young is found out anew."""
    marks = dict(enumerate(saved))
    for number, text in known["stamps"].items():
        marks[int(number)] = marks[int(number)]._replace(stamp=text, is_young=True)
    return marks
