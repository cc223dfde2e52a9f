"""``matensemble logs``: what a chore printed."""

from __future__ import annotations

import codecs
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from matensemble.errors import RunDirectoryError
from matensemble.history import ChoreHistory, find_chore
from matensemble.model import ChoreState
from matensemble.runs import find_run, look_at
from matensemble.terminal import clean_line, clean_text
from matensemble.workdir import STDERR, STDOUT, RunDir

FOLLOW_INTERVAL_SECONDS = 0.2
LIFE_CHECK_ROUNDS = 25
CHUNK_BYTES = 1 << 16


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.argument("chore", metavar="CHORE")
@click.option("--stderr", is_flag=True, help="Show stderr instead of stdout.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the chore has ended.")
@click.option(
    "--attempt",
    type=click.IntRange(1),
    metavar="N",
    help="Show what this attempt printed, from 1.  [default: the latest]",
)
def logs(directory: str, chore: str, stderr: bool, follow: bool, attempt: int | None) -> None:
    """Show what a chore printed.

    DIR is a run directory, or a folder of runs, of which the newest is taken. CHORE is an id, or
    the beginning of an id or of a name where that fits one chore only.

    On a terminal, control characters are taken out; a pipe or a file gets the bytes as they are.
    """
    run = find_run(Path(directory))
    chore_id = find_chore(run, chore)
    history = ChoreHistory(run, chore_id)
    history.read()
    name = STDERR if stderr else STDOUT
    if attempt is not None and attempt != history.standing.attempt:
        _show_earlier(run, history, attempt, name)
        return
    path = run.chore_file(chore_id, name)
    write = _make_writer()
    if follow and not history.has_ended and not path.exists():
        has_started = history.state is ChoreState.RUNNING
        what = f"printed nothing to {name}" if has_started else "not started"
        _note(f"{chore_id} has {what} yet; waiting")
    is_empty = True
    for data in _follow(path, _make_ending(run, history)) if follow else _read(path):
        is_empty = False
        write(data)
    history.read()
    if is_empty:
        _note(_explain(chore_id, history, path))


def _show_earlier(run: RunDir, history: ChoreHistory, attempt: int, name: str) -> None:
    """Show what an attempt before the latest printed."""
    chore_id, latest = history.chore_id, history.standing.attempt
    if attempt > latest:
        raise RunDirectoryError(
            str(run.root), f"there is no attempt {attempt} of {chore_id}; the latest is {latest}"
        )
    write = _make_writer()
    is_empty = True
    for data in _read(run.attempt_dir(chore_id, attempt) / name):
        is_empty = False
        write(data)
    if is_empty:
        _note(f"attempt {attempt} of {chore_id} left nothing in {name}")


def _note(text: str) -> None:
    click.echo(clean_line(text), err=True)


def _make_writer() -> Callable[[bytes], None]:
    """Return what writes to stdout: bytes as they are, or clean text where people look at it."""
    out = sys.stdout
    if not out.isatty():

        def write_bytes(data: bytes) -> None:
            out.buffer.write(data)
            out.buffer.flush()

        return write_bytes
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write_text(data: bytes) -> None:
        out.write(clean_text(decoder.decode(data)))
        out.flush()

    return write_text


def _make_ending(run: RunDir, history: ChoreHistory) -> Callable[[], bool]:
    """Return what tells whether nothing more will be printed."""
    num_rounds = 0

    def has_ended() -> bool:
        nonlocal num_rounds
        history.read()
        num_rounds += 1
        if history.has_ended or num_rounds % LIFE_CHECK_ROUNDS:
            return history.has_ended
        lost = look_at(run).lost
        if lost is not None:
            _note(f"the driver seems lost: {lost}")
        return lost is not None

    return has_ended


def _read(path: Path) -> Iterator[bytes]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        while data := file.read(CHUNK_BYTES):
            yield data


def _follow(path: Path, has_ended: Callable[[], bool]) -> Iterator[bytes]:
    """Yield what is in a file and what is appended to it; a new file starts from its beginning."""
    offset, inode = 0, None
    while True:
        is_last_round = has_ended()  # before reading: what was written by then is read below
        try:
            file = path.open("rb")
        except FileNotFoundError:
            file = None
        if file is not None:
            with file:
                found = os.fstat(file.fileno())
                if found.st_ino != inode or found.st_size < offset:
                    offset, inode = 0, found.st_ino  # another attempt
                file.seek(offset)
                while data := file.read(CHUNK_BYTES):
                    offset += len(data)
                    yield data
        if is_last_round:
            return
        time.sleep(FOLLOW_INTERVAL_SECONDS)


def _explain(chore_id: str, history: ChoreHistory, path: Path) -> str:
    """Say why there is nothing to show."""
    is_stderr = path.name == STDERR
    state, because = history.state.value, f": {history.because}" if history.because else ""
    if path.exists():
        hint = "; try --stderr" if history.state is ChoreState.FAILED and not is_stderr else ""
        return f"{chore_id} ({state}{because}) printed nothing to {path.name}{hint}"
    if history.state is ChoreState.BLOCKED:
        if history.run_state is not None and history.run_state.is_terminal:
            return f"{chore_id} never ran: the run was {history.run_state.value} before{because}"
        return f"{chore_id} has not started yet{because}"
    if history.state is ChoreState.SKIPPED:
        return f"{chore_id} was skipped{because}"
    if history.is_pooled:
        hint = "a warm worker keeps one only where something was printed"
        return f"{chore_id} ({state}{because}) has no {path.name}; {hint}"
    return f"{chore_id} has no {path.name}: it is {state}{because}"
