"""Which runs are there, and where each stands by what was published last.

Owns how a run is found: by the name of its directory, never by a path. What lies there may have
been put there by others, so nothing is followed and nothing is believed: links, pipes and devices
are refused, sizes are bounded, content is validated. Looking must not hurt the run either: the
metadata server of the file system is shared with it, so however many pages are open, a run is
looked at once a second at most, and a list of them costs `OPERATIONS_PER_SECOND`.
"""

from __future__ import annotations

import json
import math
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from matensemble.dashboard.files.artifact import open_file
from matensemble.dashboard.schemas import RunStatusResponse
from matensemble.errors import FormatError, RunDirectoryError
from matensemble.runs import Look, look_at
from matensemble.status import RunStatus
from matensemble.terminal import clean_line
from matensemble.workdir import DIRECTORY_PREFIX, MANIFEST, STATUS, RunDir

MAX_STATUS_BYTES = 16 * 1024 * 1024
"""More than any status has: ten thousand groups take 2 MB."""
MAX_UNSTARTED_RUNS = 10
"""How many of the newest runs are asked for their status before the newest is shown unstarted."""
REFRESH_SECONDS = 1.0
"""Age up to which a status is served from memory."""
REST_SECONDS = 60.0
"""The same for a run of a list that is over: somebody may resume it."""
SCAN_SECONDS = 5.0
"""Age up to which the names of the runs are served from memory."""
MAX_LISTED_RUNS = 200
"""How many of the newest runs are listed."""
OPERATIONS_PER_SECOND = 5.0
"""Metadata operations that a list of runs may cost, on the average."""
MAX_OPERATIONS = 100.0
"""How many of them may come at once after a rest."""
OPERATIONS_OF_A_LOOK = 5.0
MAX_OTHERS = 1000
"""How many directories of other names are asked, once each, whether they are renamed runs."""


class Seen(NamedTuple):
    """What was seen of a run when it was last looked at."""

    id: str
    """Name of its directory."""
    at: float
    """When, by the clock of the catalog; minus infinity: never."""
    look: Look | None = None
    """What was seen; None where it was not looked at, or cannot be read."""
    status: RunStatusResponse | None = None
    """Its status, validated."""
    problem: str = ""
    """Why it cannot be read; empty where it can."""

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is expected to change."""
        status = self.look and self.look.status
        return status is not None and status.state.is_terminal


class Catalog:
    """The run, or the folder of runs, that a dashboard shows.

    Parameters
    ----------
    root
        A run directory, or a folder in which the newest started run is looked for at each look.
    clock
        Monotonic seconds.

    Raises
    ------
    RunDirectoryError
        If `root` is no directory that can be read.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        # The user chose this path, links in it included; below it none is followed.
        self.root = root.resolve()
        if not self.root.is_dir():
            raise RunDirectoryError(str(root), "is no directory")
        self._clock = clock
        self._lock = threading.Lock()
        self._status_lock = threading.Lock()
        self._looked_at = float("-inf")
        self._seen: RunStatusResponse | Exception = RunDirectoryError(
            str(root), "not looked at yet"
        )
        self._runs: dict[str, Seen] = {}
        self._known_names: list[str] = []
        self._saved_at: dict[tuple[str, int], str | None] = {}  # of renamed runs; None: no run
        self._scanned_at = float("-inf")
        self._saved, self._earned_at = MAX_OPERATIONS, clock()

    @property
    def is_run(self) -> bool:
        """Whether the root is a run itself; what is saved there later makes it one."""
        return self.root.name.startswith(DIRECTORY_PREFIX) or any(
            (self.root / name).exists() for name in (STATUS, MANIFEST)
        )

    def read_status(self) -> RunStatusResponse:
        """Return the content of `status.json`, validated, with fields this version does not know.

        Raises
        ------
        RunDirectoryError
            If there is no run, or it has not been started.
        FormatError
            If the status cannot be opened safely, is damaged or of a format not known here.
        OSError
            If the file system refuses.
        """
        with self._status_lock:  # its own: a look may wait for a driver that comes
            now = self._clock()
            if now - self._looked_at >= REFRESH_SECONDS:
                try:
                    self._seen = self._look()
                except (RunDirectoryError, FormatError, OSError) as error:
                    self._seen = error
                self._looked_at = now
            seen = self._seen
        if isinstance(seen, Exception):
            raise seen.with_traceback(None)
        return seen

    def find(self, run_id: str) -> RunDir:
        """Return the run of a name.

        Raises
        ------
        RunDirectoryError
            If there is none of that name here.
        """
        with self._lock:
            if run_id not in self._names():
                raise RunDirectoryError(run_id, "is not the name of a run that is shown here")
        return self.place(run_id)

    def place(self, run_id: str) -> RunDir:
        """Return where the run of a name lies that is known to be here; asks no disk for it."""
        return RunDir(self.root if self.is_run else self.root / run_id)

    def look(self, run_id: str) -> Seen:
        """Return what is seen of one run; looks at most once a second.

        Raises
        ------
        RunDirectoryError
            If there is none of that name here.
        """
        run = self.find(run_id)
        with self._lock:
            return self._look_at(run, run_id, REFRESH_SECONDS)

    def list_runs(self) -> tuple[list[Seen], int]:
        """Return the newest runs, newest first, and how many there are.

        Those that were never looked at come first when the disk may be asked, then what was seen
        longest ago; the others are as they were.

        Raises
        ------
        OSError
            If the folder cannot be read.
        """
        with self._lock:
            names = self._names()
            listed = names[:MAX_LISTED_RUNS]
            for name in sorted(listed, key=self._age_of, reverse=True):
                if self._operations() < OPERATIONS_OF_A_LOOK:
                    break
                known = self._runs.get(name)
                is_at_rest = known is not None and known.is_at_rest
                self._look_at(
                    self.place(name), name, REST_SECONDS if is_at_rest else REFRESH_SECONDS
                )
            return [self._runs.get(name, Seen(name, -math.inf)) for name in listed], len(names)

    def _age_of(self, name: str) -> float:
        known = self._runs.get(name)
        return math.inf if known is None else self._clock() - known.at

    def _operations(self) -> float:
        """Return how many metadata operations may be made now."""
        now = self._clock()
        earned = (now - self._earned_at) * OPERATIONS_PER_SECOND
        self._saved = min(self._saved + earned, MAX_OPERATIONS)
        self._earned_at = now
        return self._saved

    def _look_at(self, run: RunDir, name: str, max_age: float) -> Seen:
        known, now = self._runs.get(name), self._clock()
        if known is not None and now - known.at < max_age:
            return known
        self._saved = self._operations() - OPERATIONS_OF_A_LOOK
        try:
            look = look_at(run, patience=0)
            data = _read_bounded(run.root)
            status = None if data is None else _decode(data, str(run.status_path))
            seen = Seen(name, now, look, status)
        except (RunDirectoryError, FormatError, OSError) as error:
            seen = Seen(name, now, problem=clean_line(error))
        self._runs[name] = seen
        return seen

    def _names(self) -> list[str]:
        """Return the names of the runs, newest first."""
        if self.is_run:
            return [self.root.name]
        now = self._clock()
        if now - self._scanned_at >= SCAN_SECONDS:
            self._known_names = [path.name for path in self._candidates()]
            self._scanned_at = now
            present = frozenset(self._known_names)
            self._runs = {name: seen for name, seen in self._runs.items() if name in present}
        return self._known_names

    def _look(self) -> RunStatusResponse:
        with self._lock:
            candidates = self._candidates()[:MAX_UNSTARTED_RUNS]
        for run_dir in candidates:
            if _read_bounded(run_dir) is None:
                continue
            # A driver that was replaced may publish once more: its successor gets a moment.
            look_at(RunDir(run_dir))
            data = _read_bounded(run_dir)
            if data is not None:
                return _decode(data, str(run_dir / STATUS))
        if candidates:
            raise RunDirectoryError(
                str(candidates[0]),
                "this run has not been started yet; start it with `matensemble run DIR`",
            )
        raise RunDirectoryError(
            str(self.root), f"no run is here yet; runs are directories called {DIRECTORY_PREFIX}…"
        )

    def _candidates(self) -> list[Path]:
        """Return run directories, newest first."""
        if self.is_run:
            return [self.root]
        saved_at: dict[str, str] = {}
        known: dict[tuple[str, int], str | None] = {}
        with os.scandir(self.root) as entries:
            for entry in entries:
                # Bytes that are no UTF-8 can stand in no answer.
                if not entry.name.isprintable() or entry.name.startswith("."):
                    continue
                if entry.name.startswith(DIRECTORY_PREFIX):
                    if entry.is_dir(follow_symlinks=False):
                        saved_at[entry.name] = entry.name.removeprefix(DIRECTORY_PREFIX)
                elif len(known) < MAX_OTHERS:
                    self._consider(entry, known)
        self._saved_at = known
        saved_at |= {name: at for (name, _), at in known.items() if at is not None}
        names = sorted(saved_at, key=lambda name: (saved_at[name], name), reverse=True)
        return [self.root / name for name in names]

    def _consider(self, entry: os.DirEntry[str], known: dict[tuple[str, int], str | None]) -> None:
        """Note whether a directory of another name is a run, as soon as the disk may be asked."""
        key = (entry.name, entry.inode())
        if key in self._saved_at:
            known[key] = self._saved_at[key]
        elif self._operations() >= 1 and entry.is_dir(follow_symlinks=False):
            self._saved -= 1
            try:
                found = os.lstat(self.root / entry.name / MANIFEST)
            except OSError:
                known[key] = None
            else:
                is_run = stat.S_ISREG(found.st_mode)
                at = time.strftime("%Y%m%d_%H%M%S", time.localtime(found.st_mtime))
                known[key] = at if is_run else None  # as the names of the others say it


def _read_bounded(run_dir: Path) -> bytes | None:
    """Return the bytes of `status.json`, or None where there is none."""
    path = str(run_dir / STATUS)
    directory = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        file = open_file(directory, (STATUS,))
    except FileNotFoundError:
        return None
    except FormatError as error:
        raise FormatError(path, error.problem) from error
    finally:
        os.close(directory)
    with os.fdopen(file, "rb") as stream:
        data = stream.read(MAX_STATUS_BYTES + 1)
    if len(data) > MAX_STATUS_BYTES:
        raise FormatError(path, f"is larger than {MAX_STATUS_BYTES} bytes, which no status is")
    return data


def _decode(data: bytes, path: str) -> RunStatusResponse:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(path, f"is no JSON ({error})") from error
    RunStatus.from_json(content, path)
    try:
        # From the bytes again: the strict reader refuses text that no answer could carry.
        return RunStatusResponse.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise FormatError(path, f"is no status ({place}: {first['msg']})") from error
