"""Remove files of chores that have ended for good, as far as the option `keep` allows.

Owns what stays: always what a result consists of and what other chores still read. Follows no
symbolic link, and leaves a directory alone where one of its declared outputs is reached by one.
Called by the caretaker when a chore has ended, on a thread of its own: nobody else writes there,
unless the chore is to run again, which the caretaker looks at first.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from matensemble import disk, workdir
from matensemble.chore import Chore
from matensemble.model import ChoreState, ChoreType
from matensemble.workdir import RunDir

LOGGER = logging.getLogger("matensemble")
TAIL_BYTES = 64 << 10
"""What stays of the stdout and stderr of a failed chore with ``keep="results"``."""

_STREAMS = (workdir.STDOUT, workdir.STDERR)
_Path = tuple[str, ...]


def tidy(run: RunDir, chore: Chore, state: ChoreState, keep: str) -> None:
    """Remove what need not stay of a chore that has ended for good.

    Problems are logged: files that stay are no reason to stop a run.

    Parameters
    ----------
    run, chore
        Whose files.
    state
        How it ended.
    keep
        As `RunOptions.keep`: ``"all"`` removes nothing; ``"failed"`` removes, of completed chores,
        all but the result (of a program: declared outputs, stdout and stderr); ``"results"``
        removes also, of the others, all but `error.json` and the ends of stdout and stderr.
    """
    if keep == "all" or (keep == "failed" and state is not ChoreState.COMPLETED):
        return
    directory = run.chore_dir(chore.id)
    try:
        if directory.is_symlink():
            return
        kept = _what_stays(directory, chore, state)
        if kept is None:
            return
        _remove_all_but(directory, kept)
        if state is not ChoreState.COMPLETED:
            for name in _STREAMS:
                _cut(directory / name)
    except FileNotFoundError:  # it never had a directory
        pass
    except OSError as error:
        LOGGER.warning("files of %s that need not stay could not be removed: %s", chore.id, error)


def _what_stays(directory: Path, chore: Chore, state: ChoreState) -> set[_Path] | None:
    """Return the paths that stay, relative to the directory; None where everything does."""
    kept: set[_Path] = {(name,) for name in _STREAMS}
    if state is not ChoreState.COMPLETED:
        kept.add((workdir.ERROR,))
    elif chore.kind is ChoreType.PYTHON:
        kept = {(workdir.RESULT,)}
    else:
        outputs = {PurePosixPath(file).parts for file in chore.outputs.values()}
        if any(_passes_a_link(directory, output) for output in outputs):
            return None
        kept |= outputs
    if chore.is_strategy:  # the arguments of chores that joined the graph because of it
        names = (path.name for path in directory.iterdir())
        kept |= {(name,) for name in names if workdir.is_spawned(name)}
    return kept


def _passes_a_link(directory: Path, output: _Path) -> bool:
    """Return whether a declared output, or a directory on the way to it, is a symbolic link."""
    return any(
        directory.joinpath(*output[:depth]).is_symlink() for depth in range(1, len(output) + 1)
    )


def _remove_all_but(directory: Path, kept: Collection[_Path]) -> None:
    """Remove what a directory holds, except some paths relative to it and the way to them."""
    with os.scandir(directory) as entries:
        found = list(entries)
    for entry in found:
        below = {path[1:] for path in kept if path[0] == entry.name}
        if () in below:
            continue
        if not entry.is_dir(follow_symlinks=False):
            Path(entry.path).unlink()
        elif below:
            _remove_all_but(Path(entry.path), below)
        else:
            shutil.rmtree(entry.path)


def _cut(path: Path) -> None:
    """Cut a file down to its end, and say so in its first line."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= TAIL_BYTES:
                return
            file.seek(size - TAIL_BYTES)
            tail = file.read(TAIL_BYTES)
    except FileNotFoundError:
        return
    note = f"[matensemble] {size - len(tail)} bytes before this were removed\n"
    disk.write_atomic(path, note.encode(), tail)
