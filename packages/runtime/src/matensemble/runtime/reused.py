"""Results that need not be computed: taken over from an earlier run or a cache, and put into one.

Owns the files of a chore that is reused, and the layout of a cache. Which result fits which chore
was decided when the run was saved, see `matensemble.reuse`; that a chore is completed by it is the
journal's to say. Loads no pickle. Called by the manager before the first start, and by the
caretaker when a chore completed.

Cache
-----
``<cache>/<first two digits>/<key>/`` is one result: ``entry.json`` beside a copy of the directory
of the chore that made it, with its result, or its declared outputs and stdout. An entry appears in
one rename and never changes. Names that end in ``.tmp`` are what a killed driver left behind.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

from matensemble import disk, wire, workdir
from matensemble.chore import Chore
from matensemble.content_key import ChoreKey, read_keys
from matensemble.errors import FormatError, MatEnsembleError
from matensemble.file_watch import FileWatch
from matensemble.foreign_json import read_foreign_json
from matensemble.model import ChoreType
from matensemble.reuse import Found, read_plan
from matensemble.runtime.background import BackgroundThread
from matensemble.workdir import DIRECTORY_MODE, RunDir
from matensemble.workflow import Workflow

ENTRY = "entry.json"
ENTRY_FORMAT = 1
MAX_ENTRY_BYTES = 1 << 16
LOGGER = logging.getLogger("matensemble")


class TakenOver(NamedTuple):
    """A chore whose result stands in its place without having been computed in this run."""

    chore_id: str
    """The chore."""
    attempt: int
    """Attempt that made the result, from 1, as its footer says."""
    exit_code: int
    """Exit code of that attempt, one of the chore's success codes."""
    source: str
    """Directory of the chore that made it, in an earlier run or a cache."""
    key: str
    """Content key of both."""


def take_over(
    run: RunDir,
    cache: ResultCache | None = None,
    is_settled: Callable[[str], bool] = lambda chore_id: False,
    logger: logging.Logger = LOGGER,
) -> Iterator[TakenOver]:
    """Put every result that can be reused into its place, and yield what was put there.

    To be called before anything is started. A chore that is yielded is completed once that is
    recorded; where the driver dies before, the same is done again. What cannot be taken over is
    logged, and runs.

    Parameters
    ----------
    run
        A saved run. Nothing is yielded where its pipeline did not ask for reuse.
    cache
        Looked into for what no earlier run has; None looks into none.
    is_settled
        Whether the journal of the run, where it was started before, says anything of a chore:
        such a chore is left alone.
    logger
        Is told what could not be taken over.

    Raises
    ------
    FormatError
        If the run is damaged.
    """
    plan = read_plan(run)
    if plan is None or (not plan.found and cache is None):
        return
    for chore in Workflow.read(run).chores():
        if is_settled(chore.id):
            continue
        for found in (plan.found.get(chore.id), cache.find(chore.id) if cache else None):
            if found is None:
                continue
            try:
                attempt = _bring(found, chore, run.chore_dir(chore.id))
            except (OSError, MatEnsembleError) as error:
                logger.warning("%s is not taken over: %s", chore.id, error)
                shutil.rmtree(run.chore_dir(chore.id), ignore_errors=True)
                continue
            code, source = found.exit_code, os.fspath(found.chore_dir)
            yield TakenOver(chore.id, attempt, code, source, found.key)
            break


class ResultCache:
    """The cache that a run shares with others.

    What completed is put into it on a thread of its own, so that large outputs do not keep the
    driver waiting.

    Parameters
    ----------
    run
        The run.
    root
        Where the cache is; belongs to this user.
    keys
        Chore id → content key, of the chores whose results can be shared.
    watch
        Knows whether the files that a key covers are what they were when it was computed.
    logger
        Is told what could not be put into the cache.
    """

    def __init__(
        self,
        run: RunDir,
        root: Path,
        keys: Mapping[str, ChoreKey],
        watch: FileWatch,
        logger: logging.Logger,
    ) -> None:
        self._run = run
        self._root = root
        self._keys = keys
        self._watch = watch
        self._warned: set[str] = set()
        self._logger = logger
        self._background = BackgroundThread("matensemble-cache", logger)

    @classmethod
    def open(
        cls, run: RunDir, watch: FileWatch | None, logger: logging.Logger = LOGGER
    ) -> Self | None:
        """Return the cache of a run; None where it has none, or it cannot be trusted (logged).

        Parameters
        ----------
        run
            The run.
        watch
            What watches its files; None where there are no keys, and so no cache.
        logger
            Is told what could not be put into the cache.

        Raises
        ------
        FormatError
            If the run is damaged.
        """
        plan = read_plan(run)
        if plan is None or plan.cache_dir is None or watch is None:
            return None
        try:
            plan.cache_dir.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
            status = plan.cache_dir.stat()
        except OSError as error:
            logger.warning("no cache in %s: %s", plan.cache_dir, error.strerror)
            return None
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
            logger.warning(
                "no cache in %s: others can write to it, and loading a result runs its code "
                "(chmod go-w, or take a directory of your own)",
                plan.cache_dir,
            )
            return None
        # A result that depends on more than its key says is nobody else's.
        keys = {k.id: k for k in read_keys(run) if k.key is not None and not k.is_conditional}
        return cls(run, plan.cache_dir, keys, watch, logger)

    def find(self, chore_id: str) -> Found | None:
        """Return what the cache holds for a chore, or None."""
        key = self._key(chore_id)
        if key is None:
            return None
        entry = self._entry(key)
        try:
            data = read_foreign_json(entry / ENTRY, MAX_ENTRY_BYTES)
            if data["format"] != ENTRY_FORMAT or data["key"] != key:
                return None
            directory = entry / os.path.basename(data["id"])  # noqa: PTH119 a name, not a path
            return Found(chore_id, key, directory, int(data["attempt"]), int(data["exit_code"]))
        except FileNotFoundError:
            return None
        except (OSError, FormatError, KeyError, TypeError, ValueError) as error:
            self._logger.warning("the entry %s of the cache is not used: %r", entry, error)
            return None

    def store(self, chore: Chore, attempt: int, exit_code: int) -> threading.Event:
        """Put the result of a completed chore into the cache, soon; failures are logged.

        Where a file that its key covers may have been another one when it ran, it is not put there.

        Parameters
        ----------
        chore
            The chore; one without a key is left out.
        attempt, exit_code
            Of the attempt that made the result.

        Returns
        -------
        threading.Event
            Set when its files are not needed any more: until then nothing of them may be removed.
        """
        is_done = threading.Event()
        if chore.id in self._keys:
            work = partial(self._store_sure, chore, attempt, exit_code, time.monotonic(), is_done)
            self._background.do(f"putting {chore.id} into the cache", work)
        else:
            is_done.set()
        return is_done

    def close(self, *, abandon: bool = False) -> None:
        """Wait until everything is stored; with `abandon` only for what is being stored now."""
        self._background.close(abandon=abandon)

    def _key(self, chore_id: str) -> str | None:
        known = self._keys.get(chore_id)
        return None if known is None else known.key

    def _store_sure(
        self,
        chore: Chore,
        attempt: int,
        exit_code: int,
        ended_at: float,
        is_done: threading.Event,
    ) -> None:
        try:
            known = self._keys[chore.id]
            assert known.key is not None
            changed = self._watch.changed(known.files, ended_at)
            if changed is None:
                self._store(chore, known.key, attempt, exit_code)
            elif changed not in self._warned:
                self._warned.add(changed)
                self._logger.warning(
                    "%s is not put into the cache, nor is what else depends on %s: it changed "
                    "after the run was saved",
                    chore.id,
                    changed,
                )
        finally:
            is_done.set()

    def _entry(self, key: str) -> Path:
        return self._root / key[:2] / key

    def _store(self, chore: Chore, key: str, attempt: int, exit_code: int) -> None:
        entry = self._entry(key)
        temporary = entry.with_name(f"{key}.{secrets.token_hex(4)}.tmp")
        data = {
            "format": ENTRY_FORMAT,
            "key": key,
            "id": chore.id,
            "attempt": attempt,
            "exit_code": exit_code,
        }
        try:
            if entry.exists():
                return
            entry.parent.mkdir(DIRECTORY_MODE, exist_ok=True)
            disk.make_dir(temporary)
            directory = self._run.chore_dir(chore.id)
            found = Found(chore.id, key, directory, attempt, exit_code)
            _bring(found, chore, temporary / chore.id)
            disk.write_atomic(temporary / ENTRY, json.dumps(data).encode())
            temporary.rename(entry)
        except (OSError, MatEnsembleError) as error:
            is_there = isinstance(error, OSError) and error.errno in (
                errno.EEXIST,
                errno.ENOTEMPTY,
            )
            if not is_there:  # another run was faster
                self._logger.warning("%s is not put into the cache: %s", chore.id, error)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


# --- files ------------------------------------------------------------------------------------


def _bring(found: Found, chore: Chore, target: Path) -> int:
    """Bring the files of a chore into another directory; return the attempt that made them.

    The result comes last. Everything else is copied, since it may be written to.

    Raises
    ------
    OSError, MatEnsembleError
        If something is missing or damaged, or cannot be written.
    """
    with suppress(FileExistsError):  # of a driver that was killed at this point
        disk.make_dir(target)
    for path in chore.outputs.values():
        _copy(found.chore_dir / path, target / path)
    for name in (workdir.STDOUT, workdir.STDERR):
        source = found.chore_dir / name
        if source.exists():
            _copy(source, target / name)
    if chore.kind is not ChoreType.PYTHON:
        return found.attempt
    return _bring_result(found.chore_dir, chore, target / workdir.RESULT)


def _bring_result(source_dir: Path, chore: Chore, target: Path) -> int:
    """Link a result that a chore of the same id made; else write it anew, because it is bound."""
    source, source_id = source_dir / workdir.RESULT, source_dir.name
    attempt = wire.check_result(source, source_id)
    if source_id == chore.id and not chore.policy.durable:
        os.close(wire.open_trusted(source))
        with suppress(OSError):  # another file system, or one without links
            _link(source, target)
            return attempt
    payload = wire.read_result(source, source_id)
    wire.write_result(target, payload, attempt, chore_id=chore.id, durable=chore.policy.durable)
    return attempt


def _link(source: Path, target: Path) -> None:
    with suppress(FileExistsError):
        os.link(source, target)
        return
    temporary = _temporary(target)  # of a driver that was killed at this point
    os.link(source, temporary)
    temporary.replace(target)
    with suppress(FileNotFoundError):  # it stays where both are the same file already
        temporary.unlink()


def _copy(source: Path, target: Path) -> None:
    """Copy a file or a directory; it becomes visible as a whole."""
    target.parent.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
    temporary = _temporary(target)
    try:
        if source.is_dir():
            shutil.copytree(source, temporary, symlinks=True)
            shutil.rmtree(target, ignore_errors=True)
        else:
            shutil.copy2(source, temporary)
        temporary.replace(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):
            temporary.unlink()
        raise


def _temporary(target: Path) -> Path:
    return target.with_name(f"{target.name}.{secrets.token_hex(4)}.tmp")
