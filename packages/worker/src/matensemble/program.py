"""The program of an executable chore: its command resolved, its inputs written, its start.

Owns what happens between frozen arguments and `exec`: references become text, input files are
written, signal dispositions are restored. Called by `matensemble.runtime_worker`, which replaces
itself by the program, and by `matensemble.pool.slot`, which only resolves it; both load this module
for executables only, so it is as light as they are.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # `signal` itself loads enum
import os

from matensemble import disk, references
from matensemble.errors import ChoreFailedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from matensemble.runtime_worker import Task


def resolve(task: Task) -> list[str]:
    """Write the inputs and return the command.

    Raises
    ------
    ResultMissingError, ResultCorruptError
        If a reference has no result.
    ChoreFailedError
        If the chore that it refers to failed: a program can be given no error.
    OSError
        If an input cannot be written.
    """
    elements, inputs = task.load_arguments() or (task.record["command"], {})
    task.stage = "read"  # the text of an executable's result is read from its stdout
    command = [_as_text(task, element) for element in elements]
    contents = {
        name: value if isinstance(value, bytes) else _encode(_as_text(task, value))
        for name, value in inputs.items()
    }
    task.stage = "commit"
    for name, content in contents.items():
        _write_input(task, name, content)
    return command


def execute(task: Task) -> NoReturn:
    """Resolve the command, write the inputs and become the program.

    Raises
    ------
    ResultMissingError, ResultCorruptError, ChoreFailedError
        As `resolve`.
    OSError
        If an input cannot be written or the program cannot be executed; `task.stage` tells which.
    """
    command = resolve(task)
    task.stage = "execute"
    # Python ignores these, and what is ignored stays ignored in the program.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        error.filename = command[0]  # the search of PATH leaves it out
        raise


def _as_text(task: Task, value: object) -> str:
    if isinstance(value, ChoreFailedError):
        raise ChoreFailedError(
            task.chore_id,
            "dependency_failed",
            upstream=value.upstream or value.chore_id,
            detail=f"this program needs the result of {value.chore_id}, which has none: "
            f"{value.reason}" + (f": {value.detail}" if value.detail else ""),
        )
    return references.as_text(value)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _write_input(task: Task, name: str, content: bytes) -> None:
    """Write an input file whole; every task does, so none finds it missing or in part."""
    path = task.path(name)
    _make_parents(os.path.dirname(path))
    # Tasks on different nodes may have the same process id, which names the temporary file.
    own = f"{path}.{task.rank}"
    disk.write_atomic(own, content)
    os.replace(own, path)


def _make_parents(path: str) -> None:
    if os.path.isdir(path):
        return
    _make_parents(os.path.dirname(path))
    try:
        disk.make_dir(path)
    except FileExistsError:  # another task was faster
        if not os.path.isdir(path):
            raise
