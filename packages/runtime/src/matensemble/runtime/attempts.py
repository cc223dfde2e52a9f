"""Keep what an attempt left behind: `out/<chore-id>/attempts/<n>/`.

Owns the move of those files before the next attempt is prepared, by renames only, so that nothing
is copied and nothing is in two places. Called by `launch` on the thread that owns the state.

The directory of a chore says by its record (`chore.pickle`) which attempt its files are of. The
record goes last: whenever a driver is killed in the middle, the next one reads the same number and
goes on with what is left. Where there is no record, as of a chore that ran on a warm worker, the
files are of the attempt before the new one; a record that says no more than this stands there while
they are moved.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from pickle import dumps
from typing import Any

from matensemble import disk, workdir
from matensemble.foreign_json import read_foreign_bytes
from matensemble.preview import load_inert
from matensemble.workdir import RunDir

MAX_RECORD_BYTES = 256 << 20
"""Of a record: a chore that gathers a million others has a long one."""

_NFS_GHOST = ".nfs"
"""How a network file system calls a file that was removed while somebody had it open."""


def set_aside(run: RunDir, chore_id: str, attempt: int) -> None:
    """Move what earlier attempts of a chore left in its directory to where it is kept.

    Does nothing where there is nothing to move, and where the files are of `attempt` itself: it
    was prepared before, in part or whole.

    Parameters
    ----------
    run
        The run directory.
    chore_id
        The chore.
    attempt
        The attempt that is about to be prepared, from 1.

    Raises
    ------
    OSError
        If something cannot be moved; calling it again goes on from there.
    """
    directory = run.chore_dir(chore_id)
    names = _names_to_move(directory)
    if not names:
        return
    earlier = _find_attempt(directory / workdir.RECORD)
    if earlier is None:
        earlier = attempt - 1
        if workdir.RECORD not in names:
            disk.write_atomic(directory / workdir.RECORD, dumps({"attempt": earlier}))
    if earlier >= attempt:
        return
    kept = run.attempt_dir(chore_id, earlier)
    for path in (kept.parent, kept):
        _make_real_dir(path)
    for name in _names_to_move(directory):
        if name == workdir.RECORD and _says_no_more(directory / name):
            (directory / name).unlink()
        else:
            _rename(directory / name, kept / name)


def find_previous(run: RunDir, chore_id: str, attempt: int) -> Path | None:
    """Return where the files of the latest attempt before this one are; None where there are none.

    An attempt of which there is nothing but the records of its preparation never started, and is
    passed over.
    """
    try:
        kept = [
            path
            for path in run.attempt_dir(chore_id, attempt).parent.iterdir()
            if path.name.isdecimal() and int(path.name) < attempt
        ]
    except (FileNotFoundError, NotADirectoryError):
        return None
    for path in sorted(kept, key=lambda path: int(path.name), reverse=True):
        with suppress(NotADirectoryError):  # a file of the chore's own that is called so
            if not all(_is_record(file.name) for file in path.iterdir()):
                return path
    return None


def _names_to_move(directory: Path) -> list[str]:
    """Return what lies in the directory of a chore and is to be moved, the record last."""
    try:
        names = [path.name for path in directory.iterdir()]
    except FileNotFoundError:
        return []
    kept = {workdir.ATTEMPTS} if _is_real_dir(directory / workdir.ATTEMPTS) else set()
    return sorted(
        (
            name
            for name in names
            if name not in kept
            and not name.startswith(_NFS_GHOST)
            and (name == workdir.SPAWNED or not workdir.is_spawned(name))
        ),
        key=lambda name: (name == workdir.RECORD, name),
    )


def _find_attempt(record: Path) -> int | None:
    """Return the attempt that a record is of; None where there is none that makes sense."""
    try:
        attempt = _load(record)["attempt"]
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            return None
        raise  # the disk: perhaps it can be read a little later
    except Exception:  # the chore wrote over it
        return None
    return attempt if isinstance(attempt, int) and attempt > 0 else None


def _says_no_more(record: Path) -> bool:
    """Whether a record tells the attempt only: it was written for the move."""
    try:
        return set(_load(record)) == {"attempt"}
    except OSError:
        raise
    except Exception:  # the chore wrote over it
        return False


def _load(record: Path) -> Any:
    return load_inert(read_foreign_bytes(record, MAX_RECORD_BYTES))


def _is_record(name: str) -> bool:
    own = (workdir.RECORD, workdir.METADATA)
    return name in own or (name.endswith(".tmp") and name.startswith(own))


def _make_real_dir(path: Path) -> None:
    """Make a directory; something else of that name, which a chore made, gets out of its way."""
    if _is_real_dir(path):
        return
    if os.path.lexists(path):
        path.rename(_free(path))
    disk.make_dir(path)


def _rename(path: Path, target: Path) -> None:
    path.rename(_free(target) if os.path.lexists(target) else target)


def _free(path: Path) -> Path:
    """Return a name beside this one that is not taken: nothing that is kept is replaced."""
    number = 2
    while os.path.lexists(free := path.with_name(f"{path.name}~{number}")):
        number += 1
    return free


def _is_real_dir(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
