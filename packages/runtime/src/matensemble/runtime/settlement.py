"""What the end of an attempt means: did the chore complete, and if not, why.

Owns the rules of the contract's section 6 for one chore: success codes, result footer, declared
outputs, the worker's error record, and the last lines of the chore's stderr. Also tells whether
what completed, or was lost sight of, has its result. Looks at files of the chore and never loads a
pickle. Called by `judgement`, `resumption` and the engine.

On a network file system a file can be there and not be seen yet, or be seen as the one that it
replaced. So what is missing is looked for again after its directory was listed, which asks the
server; what is missing then may still come, and `settle` can leave that open.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, overload

from matensemble import wire, workdir
from matensemble.chore import Chore
from matensemble.disk import EXIT_DISK_TROUBLE
from matensemble.errors import FormatError, ResultCorruptError, ResultMissingError
from matensemble.foreign_json import read_foreign_json
from matensemble.model import ChoreType, Reason
from matensemble.runtime.executors.base import JobEnded
from matensemble.runtime.graph import Graph
from matensemble.runtime.scheduler.events import ChoreFinished
from matensemble.terminal import clean_line
from matensemble.workdir import RunDir

MAX_DETAIL_CHARACTERS = 500
MAX_ERROR_BYTES = 1 << 20
"""Of an `error.json`; the worker bounds message and traceback far below."""
MAX_TAIL_BYTES = 4096
"""How much of what a chore wrote is searched for its last words."""

_T = TypeVar("_T")


class _Verdict(NamedTuple):
    """What an attempt came to."""

    reason: Reason | None = None
    detail: str = ""
    error_type: str = ""
    culprit: str | None = None
    errno: int | None = None
    culprit_attempt: int | None = None


_COMPLETED = _Verdict()


@overload
def settle(
    run: RunDir,
    chore: Chore,
    ended: JobEnded,
    graph: Graph | None = None,
    *,
    may_lag: Literal[False] = False,
) -> ChoreFinished: ...


@overload
def settle(
    run: RunDir, chore: Chore, ended: JobEnded, graph: Graph | None = None, *, may_lag: bool
) -> ChoreFinished | None: ...


def settle(
    run: RunDir,
    chore: Chore,
    ended: JobEnded,
    graph: Graph | None = None,
    *,
    may_lag: bool = False,
) -> ChoreFinished | None:
    """Return the outcome of an attempt, and note a failure at the end of its stderr.

    Parameters
    ----------
    run, chore, ended
        Whose end it is.
    graph
        Where the chores stand, to tell whether a culprit is among those that the chore gathers;
        None knows of its direct dependencies only.
    may_lag
        Whether a result or output that is missing after a clean exit may only be late.

    Returns
    -------
    ChoreFinished or None
        None, with `may_lag` only: it cannot be told yet. Nothing was changed; ask again later.
    """
    verdict = _judge(run, chore, ended, graph, may_lag)
    if verdict is None:
        return None
    if verdict.detail:
        verdict = verdict._replace(detail=_one_line(verdict.detail))
    # Where the disk refuses to work, more of the same helps nobody.
    is_quiet = verdict.reason is Reason.CANCELLED or verdict.errno is not None
    if verdict.reason is not None and not is_quiet:
        annotate(run, chore, verdict.reason, ended.exit_code, verdict.detail)
    return ChoreFinished(
        chore.id,
        ended.attempt,
        verdict.reason,
        ended.exit_code,
        verdict.detail,
        verdict.error_type,
        verdict.culprit,
        verdict.errno,
        verdict.culprit_attempt,
        ended.elapsed,
        ended.host,
    )


def find_damage(run: RunDir, chore: Chore, attempt: int) -> str | None:
    """Return what is wrong with the result of a chore that completed; None where nothing is.

    One `open` and `pread` for a Python chore, one `stat` for each declared output of a program.
    May be called from any thread.

    Parameters
    ----------
    run, chore
        Whose result.
    attempt
        The attempt that completed: a result of another one is none.

    Raises
    ------
    OSError
        If it cannot be told, because the disk does not answer: nothing need be wrong.
    """
    if chore.kind is ChoreType.EXECUTABLE:
        missing = (name for name, file in chore.outputs.items() if not _exists(run, chore, file))
        return next((f"its output {name!r} is not there" for name in missing), None)
    path = run.chore_file(chore.id, workdir.RESULT)
    try:
        wrote = _look(path, lambda: wire.check_result(path, chore.id))
    except ResultMissingError:
        return "its result is not there"
    except ResultCorruptError as error:
        return f"its result is damaged: {error.problem}"
    return None if wrote == attempt else f"the result is of attempt {wrote}, not of {attempt}"


def salvage(run: RunDir, chore: Chore, attempt: int) -> bool:
    """Return whether an attempt of which nothing is known has committed its result.

    Only a Python chore of one task can be told by its result: a program has none that says which
    attempt wrote it, and another task may have failed.

    Raises
    ------
    OSError
        As `find_damage`.
    """
    if chore.kind is not ChoreType.PYTHON or chore.resources.num_tasks != 1:
        return False
    return find_damage(run, chore, attempt) is None


# --- the outcome ------------------------------------------------------------------------------


def _judge(
    run: RunDir, chore: Chore, ended: JobEnded, graph: Graph | None, may_lag: bool
) -> _Verdict | None:
    if ended.reason is Reason.DURATION_EXCEEDED and not ended.detail:
        limit = chore.resources.duration
        detail = f"longer than its duration of {limit:g} s; ask for more, or save state"
        return _Verdict(ended.reason, detail)
    if ended.reason is not None:
        # A warm worker says so, where it could not make the files of a chore.
        is_of_disk = ended.reason is Reason.IO_ERROR and ended.exit_code == EXIT_DISK_TROUBLE
        return _Verdict(ended.reason, ended.detail, errno=errno.EIO if is_of_disk else None)
    if ended.exit_code not in chore.success_codes:
        return _why_it_failed(run, chore, ended, graph)
    if chore.kind is not ChoreType.PYTHON:
        return _check_outputs(run, chore, may_lag)
    # What a strategy asked for is read here, so its files have to be seen here.
    if ended.is_committed and not chore.is_strategy:
        return _COMPLETED
    return _check_result(run, chore, ended.attempt, graph, may_lag)


def _why_it_failed(run: RunDir, chore: Chore, ended: JobEnded, graph: Graph | None) -> _Verdict:
    code = ended.exit_code
    if code is not None and code < 0:
        return _Verdict(Reason.SIGNAL, ended.detail or _describe_signal(-code))
    if chore.needs_worker:
        told = _what_the_worker_told(run, chore, ended.attempt, graph)
        if told is not None:
            return told
        if code == EXIT_DISK_TROUBLE and chore.kind is ChoreType.PYTHON:
            detail = "the disk did not take the reason of its failure; stderr may have it"
            return _Verdict(Reason.IO_ERROR, detail, errno=errno.EIO)
    return _Verdict(Reason.NONZERO_EXIT, ended.detail or _last_words(run, chore.id))


def _what_the_worker_told(
    run: RunDir, chore: Chore, attempt: int, graph: Graph | None
) -> _Verdict | None:
    """Return what the worker's error record says, if it wrote one in this attempt."""
    path = run.chore_file(chore.id, workdir.ERROR)
    try:
        error = _look(path, lambda: read_foreign_json(path, MAX_ERROR_BYTES))
        if error.get("attempt") not in (attempt, None):
            return None
        reason = Reason(error["reason"])
    except (OSError, FormatError, KeyError, ValueError, AttributeError):
        return None  # the worker did not come so far, or the chore wrote over it
    error_type = str(error.get("type", ""))
    number = error.get("errno") if reason is Reason.IO_ERROR else None
    culprit_attempt = error.get("upstream_attempt")
    return _Verdict(
        reason,
        f"{error_type}: {error.get('message', '')}".strip(": "),
        error_type.rpartition(".")[2],  # as users write it, also of a class inside a function
        _check_culprit(chore, error.get("upstream"), graph),
        number if isinstance(number, int) else None,
        culprit_attempt if isinstance(culprit_attempt, int) else None,
    )


def _check_culprit(chore: Chore, culprit: Any, graph: Graph | None) -> str | None:
    """Return the culprit that a worker named, if the chore depends on it at all."""
    if culprit in chore.upstream:
        return str(culprit)
    if graph is None or not chore.gathers or not isinstance(culprit, str):
        return None
    try:
        return culprit if graph.entry(culprit).chore.name in chore.gathers else None
    except KeyError:
        return None


def _check_result(
    run: RunDir, chore: Chore, attempt: int, graph: Graph | None, may_lag: bool
) -> _Verdict | None:
    path = run.chore_file(chore.id, workdir.RESULT)
    try:
        wrote = _look(path, lambda: wire.check_result(path, chore.id))
    except ResultMissingError:
        # A failure can look like a success: its exit code may be among the success codes.
        verdict = _what_the_worker_told(run, chore, attempt, graph)
        detail = "the process ended well without writing a result (did it call os._exit?)"
    except ResultCorruptError as error:
        _disown(path)
        return _Verdict(Reason.RESULT_CORRUPT, error.problem)
    except OSError as error:
        detail = f"{path} cannot be read: {error.strerror}"
        return _Verdict(Reason.IO_ERROR, detail, errno=error.errno)
    else:
        verdict = _COMPLETED if wrote == attempt else None
        detail = f"the result is of attempt {wrote}, not of {attempt}"
        if verdict is None and not may_lag:
            _disown(path)
    if verdict is not None or may_lag:
        return verdict
    return _Verdict(Reason.RESULT_MISSING, detail)


def _disown(result: Path) -> None:
    """Give what is no result another name: it is kept with the attempt, and read by nobody."""
    # Where the disk refuses, the journal says all the same that there is no result.
    with suppress(OSError):
        result.replace(result.with_name(workdir.DAMAGED_RESULT))


def _check_outputs(run: RunDir, chore: Chore, may_lag: bool) -> _Verdict | None:
    for name, file in chore.outputs.items():
        shown = f"the declared output {name!r} ({file})"
        try:
            if _exists(run, chore, file):
                continue
        except OSError as error:
            return _Verdict(Reason.IO_ERROR, f"{shown}: {error.strerror}", errno=error.errno)
        return None if may_lag else _Verdict(Reason.RESULT_MISSING, f"{shown} was not written")
    return _COMPLETED


def _exists(run: RunDir, chore: Chore, file: str) -> bool:
    path = run.chore_file(chore.id, file)
    try:
        _look(path, path.stat)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _look(path: Path, read: Callable[[], _T]) -> _T:
    """Read something of a file; a second time where the first may have seen an old directory."""
    try:
        return read()
    except (ResultMissingError, FileNotFoundError):
        try:
            is_listed = path in path.parent.iterdir()
        except FileNotFoundError:
            is_listed = False
        if not is_listed:
            raise
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
    return read()


# --- for people -------------------------------------------------------------------------------


def annotate(run: RunDir, chore: Chore, reason: Reason, exit_code: int | None, detail: str) -> None:
    """Let stderr end with what MatEnsemble knows, for people who look there first."""
    code = "" if exit_code is None else f" (exit code {exit_code})"
    text = f"\n[matensemble] {chore.id} failed: {reason.value}{code}"
    if detail:
        text += f": {detail}"
    path = run.chore_file(chore.id, workdir.STDERR)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    # A courtesy: the journal and the status say it as well.
    with suppress(OSError), os.fdopen(os.open(path, flags, workdir.FILE_MODE), "ab") as file:
        file.write(f"{text}\n".encode(errors="replace"))


def _one_line(text: str) -> str:
    text = clean_line(text)
    if len(text) > MAX_DETAIL_CHARACTERS:
        text = text[: MAX_DETAIL_CHARACTERS - 1] + "…"
    return text


def _last_words(run: RunDir, chore_id: str) -> str:
    """Return the line that best says why a program failed.

    The last one that speaks of an error, on stderr or else on stdout (where simulation programs
    like to put it); else the last one on stderr.
    """
    stderr, stdout = (
        _tail(run.chore_file(chore_id, name)) for name in (workdir.STDERR, workdir.STDOUT)
    )
    for lines in (stderr, stdout):
        for line in reversed(lines):
            if "error" in line.lower():
                return line
    return stderr[-1] if stderr else ""


def _tail(path: Path) -> list[str]:
    """Return the last lines of a file that hold anything; none where it cannot be read."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - MAX_TAIL_BYTES, 0))
            text = file.read().decode(errors="replace")
    except OSError:  # a courtesy: exit code and files are there all the same
        return []
    return [line.strip() for line in text.split("\n") if line.strip()]


_SIGNAL_HINTS = {
    signal.SIGKILL: "if nobody sent it, the memory of the node may have run out",
    signal.SIGSEGV: "compiled code crashed; stderr may say where",
    signal.SIGABRT: "compiled code gave up; stderr may say why",
    signal.SIGBUS: "compiled code crashed, or a file it had mapped was cut off",
    signal.SIGILL: "the program was compiled for another processor",
    signal.SIGXCPU: "a limit of processor time was reached",
    signal.SIGTERM: "somebody asked it to end",
}


def _describe_signal(number: int) -> str:
    try:
        known = signal.Signals(number)
    except ValueError:
        return f"ended by signal {number}"
    hint = _SIGNAL_HINTS.get(known)
    return f"ended by {known.name}" + (f": {hint}" if hint else "")
