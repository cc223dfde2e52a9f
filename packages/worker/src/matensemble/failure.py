"""Say why a chore failed: `error.json` for the driver, a traceback on stderr for people.

Owns the reason code, the exit code and the bounds of what is written. It must report whatever the
function raised, also exceptions that cannot be shown or pickled. Called by
`matensemble.runtime_worker` and `matensemble.pool.slot`, and loaded only when a chore fails.

Which task speaks
-----------------
Rank 0 replaces `error.json`; any other rank creates it only where there is none (`link`). So
whichever order tasks fail in, the record is that of rank 0 if it failed, else that of the first of
the others; and all their tracebacks are on stderr.
"""

from __future__ import annotations

import os
import sys

from matensemble import disk, environment, wire, workdir
from matensemble.disk import DISK_TROUBLE, EXIT_DISK_TROUBLE
from matensemble.errors import (
    ChoreFailedError,
    FormatError,
    ResultCorruptError,
    ResultMissingError,
    UnpicklableError,
)
from matensemble.terminal import clean_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from traceback import TracebackException
    from typing import Any

    from matensemble.runtime_worker import Task

ERROR_FORMAT = 1
MAX_MESSAGE = 10_000
"""Characters of the message that are kept."""
MAX_TRACEBACK = 100_000
"""Characters of the traceback that are kept."""

_REASONS: tuple[tuple[tuple[str, ...], tuple[type[BaseException], ...], str], ...] = (
    (("read",), (ResultMissingError,), "result_missing"),
    (("read",), (ResultCorruptError,), "result_corrupt"),
    (("read",), (ChoreFailedError,), "dependency_failed"),
    (("read", "commit"), (OSError, FormatError), "io_error"),
    (("commit",), (UnpicklableError,), "unpicklable_result"),
    (("execute",), (OSError,), "executable_not_found"),
    # A pickle that finds no such name in a module has met another version of that module.
    (("load",), (ImportError, AttributeError), "import_error"),
    (("call",), (ImportError,), "import_error"),
)
"""Stages of the worker, what was raised in them, and the reason code; the first match counts."""

_WORKER_FILES = ("runtime_worker", "light_pickle", "program", "failure", "ignored", "spawned")


def report(task: Task, error: BaseException) -> int:
    """Record a failure and return the exit code of the process.

    Parameters
    ----------
    task
        This process; `task.stage` says what it was doing.
    error
        What was raised.
    """
    reason, exit_code = find_reason(task.stage, error), find_exit_code(task.stage, error)
    traceback = format_traceback(task.stage, error)
    record = {
        "format": ERROR_FORMAT,
        "chore_id": task.chore_id,
        "attempt": find_attempt(task),
        "rank": task.rank,
        "reason": reason,
        "type": clean_text(type(error).__qualname__),
        "module": clean_text(str(type(error).__module__)),
        "message": clean_text(_shorten(describe(reason, error), MAX_MESSAGE)),
        "traceback": traceback,
        "exit_code": exit_code,
    }
    if isinstance(error, OSError) and error.errno is not None:
        record["errno"] = error.errno
    if (culprit := find_culprit(task, error)) is not None:
        record["upstream"] = culprit
        record["upstream_attempt"] = find_upstream_attempt(task, culprit)
    problem = _write(task, record)
    if problem is not None and problem.errno in DISK_TROUBLE:
        exit_code = EXIT_DISK_TROUBLE
    _print(task, traceback, problem)
    _abort_mpi(exit_code)
    return exit_code


def find_attempt(task: Task) -> int | None:
    """Return the attempt: what the record says, else the variable that the driver set."""
    if "attempt" in task.record:
        return int(task.record["attempt"])
    told = os.environ.get(environment.ATTEMPT, "")
    return int(told) if told.isdecimal() else None


def find_reason(stage: str, error: BaseException) -> str:
    """Return the reason code (`matensemble.model.Reason`) of an error in a stage of the worker."""
    if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
        return "out_of_memory"
    for stages, types, reason in _REASONS:
        if stage in stages and isinstance(error, types):
            return reason
    return "exception"


def find_culprit(task: Task, error: BaseException) -> str | None:
    """Return the chore upstream whose result is gone or damaged, None where that is not why."""
    if task.stage == "read" and isinstance(error, (ResultMissingError, ResultCorruptError)):
        return error.chore_id
    return None


def find_upstream_attempt(task: Task, chore_id: str) -> int | None:
    """Return which attempt of a chore upstream had completed when this one was prepared."""
    for dep in task.record.get("deps", ()):
        for upstream in dep.get("gather", [dep]):
            if upstream["id"] == chore_id and "attempt" in upstream:
                return int(upstream["attempt"])
    return None


def find_exit_code(stage: str, error: BaseException) -> int:
    """Return the exit code: 1, or what `sys.exit` asked for, or what shells use for programs."""
    if isinstance(error, SystemExit) and isinstance(error.code, int) and 0 < error.code < 256:
        return int(error.code)
    if stage == "execute" and isinstance(error, OSError):
        return 127 if isinstance(error, FileNotFoundError) else 126
    return 1


def describe(reason: str, error: BaseException) -> str:
    """Return the message of an error, with what a reader who sees only this line needs to know."""
    try:
        return _explain(reason, error) or str(error)
    except Exception as failed:
        return f"(its message cannot be shown: str() raised {type(failed).__name__})"


def _explain(reason: str, error: BaseException) -> str | None:
    """Return what to say instead of the message of an error, None where that says it all."""
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        what = "was interrupted"
        if isinstance(error, SystemExit):
            what = f"called sys.exit({error.code!r})"
        return f"the function {what} and so returned no result"
    if reason == "import_error":
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        what = f"the module {missing!r}" if missing else "what is named here"
        return f"{error}: the environment that runs the chore ({sys.prefix}) lacks {what}"
    if isinstance(error, UnpicklableError):
        return (
            f"what the function returned cannot be pickled: the problem is {error.culprit} "
            f"({error.cause}). Return plain data instead: numbers, text, lists, dicts, arrays"
        )
    if reason == "dependency_failed" and isinstance(error, ChoreFailedError):
        return error.detail
    if reason == "executable_not_found" and isinstance(error, OSError):
        return _describe_program(error)
    return None


def _describe_program(error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and "/" not in error.filename:
        return f"no program {error.filename!r} in PATH={os.environ.get('PATH', os.defpath)}"
    return f"the program {error.filename!r} cannot be executed: {error.strerror}"


def format_traceback(stage: str, error: BaseException) -> str:
    """Return the traceback without the worker's own frames, shortened in its middle.

    Where the function was being called and no frame of it is left, the frames are kept: a built-in
    function was called, or the fault is the worker's.
    """
    try:
        import traceback

        shown = traceback.TracebackException.from_exception(error)
        if stage == "execute":
            shown.stack.clear()  # where `os` looked for the program
        elif stage != "call" or not all(_is_own(frame.filename) for frame in shown.stack):
            _strip(shown)
        text = "".join(shown.format())
    except Exception as failed:  # the report must not be lost to what a foreign exception does
        text = (
            f"{type(error).__module__}.{type(error).__qualname__}\n"
            f"(its traceback cannot be shown: {type(failed).__name__} was raised)\n"
        )
    return _shorten(text.encode("utf-8", "backslashreplace").decode(), MAX_TRACEBACK)


def _strip(shown: TracebackException) -> None:
    """Drop the worker's frames from a traceback and from those of its causes."""
    import traceback

    pending = [shown]
    while pending:
        current = pending.pop()
        frames = [frame for frame in current.stack if not _is_own(frame.filename)]
        current.stack = traceback.StackSummary.from_list(frames)
        linked = (current.__cause__, current.__context__, *(current.exceptions or ()))
        pending += [one for one in linked if one is not None]


def _is_own(file: str) -> bool:
    folder, name = os.path.split(file)
    if name in ("wire.py", "references.py"):
        return folder == os.path.dirname(wire.__file__)
    if name == "slot.py":
        return folder == os.path.join(os.path.dirname(__file__), "pool")
    return folder == os.path.dirname(__file__) and name.removesuffix(".py") in _WORKER_FILES


def _shorten(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def _write(task: Task, record: dict[str, Any]) -> OSError | None:
    """Write `error.json`; return what prevented it, if anything did."""
    import json

    content = json.dumps(record, indent=1).encode()
    path = task.path(workdir.ERROR)
    try:
        if task.rank == 0:
            disk.write_atomic(path, content)
            return None
        own = f"{path}.{task.rank}"
        disk.write_atomic(own, content)
        try:
            os.link(own, path)
        except FileExistsError:  # another task spoke first
            pass
        finally:
            os.unlink(own)
    except OSError as error:
        return error
    return None


def _print(task: Task, traceback: str, problem: OSError | None) -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):  # full disk, or closed by the function
            continue
    text = traceback if task.rank == 0 else f"task {task.rank}: {traceback}"
    if problem is not None:
        text += f"{task.path(workdir.ERROR)} could not be written: {problem}\n"
    try:
        with open(2, "wb", closefd=False) as stderr:
            stderr.write(text.encode("utf-8", "backslashreplace"))
    except OSError:  # stderr is gone; what can be said stands in error.json
        pass


def _abort_mpi(exit_code: int) -> None:
    """End the other ranks, which would wait for this one in a collective call for ever."""
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None or not mpi.Is_initialized() or mpi.Is_finalized():
        return
    if mpi.COMM_WORLD.Get_size() > 1:
        mpi.COMM_WORLD.Abort(exit_code)
