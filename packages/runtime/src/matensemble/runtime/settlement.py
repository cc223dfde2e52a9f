"""What the end of an attempt means: did the chore complete, and if not, why.

Owns the rules of the contract's section 6 for one chore: success codes, result footer, declared
outputs, the worker's error record, and the last lines of the chore's stderr. Looks at files of the
chore and never loads a pickle. Called by the engine.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from matensemble import wire, workdir
from matensemble.chore import Chore
from matensemble.errors import FormatError, ResultCorruptError, ResultMissingError
from matensemble.foreign_json import read_foreign_json
from matensemble.model import ChoreType, Reason
from matensemble.runtime.executors.base import JobEnded
from matensemble.runtime.scheduler.events import ChoreFinished
from matensemble.terminal import clean_line
from matensemble.workdir import RunDir

MAX_DETAIL_CHARACTERS = 500
MAX_ERROR_BYTES = 1 << 20
"""Of an `error.json`; the worker bounds message and traceback far below."""
MAX_TAIL_BYTES = 4096
"""How much of what a chore wrote is searched for its last words."""


def settle(run: RunDir, chore: Chore, ended: JobEnded) -> ChoreFinished:
    """Return the outcome of an attempt, and note a failure at the end of its stderr."""
    reason, detail = _judge(run, chore, ended)
    detail = _one_line(detail)
    if reason is not None and reason is not Reason.CANCELLED:
        _annotate(run, chore, reason, ended.exit_code, detail)
    return ChoreFinished(chore.id, ended.attempt, reason, ended.exit_code, detail)


def _judge(run: RunDir, chore: Chore, ended: JobEnded) -> tuple[Reason | None, str]:
    if ended.reason is Reason.DURATION_EXCEEDED and not ended.detail:
        limit = chore.resources.duration
        return ended.reason, f"longer than its duration of {limit:g} s; ask for more, or save state"
    if ended.reason is not None:
        return ended.reason, ended.detail
    if ended.exit_code not in chore.success_codes:
        return _why_it_failed(run, chore, ended)
    if chore.kind is ChoreType.PYTHON:
        return _check_result(run, chore, ended.attempt)
    return _check_outputs(run, chore)


def _why_it_failed(run: RunDir, chore: Chore, ended: JobEnded) -> tuple[Reason, str]:
    code = ended.exit_code
    if code is not None and code < 0:
        return Reason.SIGNAL, ended.detail or _describe_signal(-code)
    told = _what_the_worker_told(run, chore, ended.attempt) if chore.needs_worker else None
    return told or (Reason.NONZERO_EXIT, ended.detail or _last_words(run, chore.id))


def _what_the_worker_told(run: RunDir, chore: Chore, attempt: int) -> tuple[Reason, str] | None:
    """Return reason and detail of the worker's error record, if it wrote one in this attempt."""
    try:
        error = read_foreign_json(run.chore_file(chore.id, workdir.ERROR), MAX_ERROR_BYTES)
        if error.get("attempt") not in (attempt, None):
            return None
        reason = Reason(error["reason"])
    except (OSError, FormatError, KeyError, ValueError, AttributeError):
        return None  # the worker did not come so far, or the chore wrote over it
    return reason, f"{error.get('type', '')}: {error.get('message', '')}".strip(": ")


def _check_result(run: RunDir, chore: Chore, attempt: int) -> tuple[Reason | None, str]:
    path = run.chore_file(chore.id, workdir.RESULT)
    try:
        wrote = wire.check_result(path, chore.id)
    except ResultMissingError:
        # A failure can look like a success: its exit code may be among the success codes.
        return _what_the_worker_told(run, chore, attempt) or (
            Reason.RESULT_MISSING,
            "the process ended well without writing a result (did it call os._exit?)",
        )
    except ResultCorruptError as error:
        return Reason.RESULT_CORRUPT, error.problem
    except OSError as error:
        return Reason.IO_ERROR, f"{path} cannot be read: {error.strerror}"
    if wrote != attempt:
        return Reason.RESULT_MISSING, f"the result is of attempt {wrote}, not of {attempt}"
    return None, ""


def _check_outputs(run: RunDir, chore: Chore) -> tuple[Reason | None, str]:
    for name, path in chore.outputs.items():
        try:
            is_there = run.chore_file(chore.id, path).exists()
        except OSError as error:
            return Reason.IO_ERROR, f"the declared output {name!r} ({path}): {error.strerror}"
        if not is_there:
            return Reason.RESULT_MISSING, f"the declared output {name!r} ({path}) was not written"
    return None, ""


def _annotate(
    run: RunDir, chore: Chore, reason: Reason, exit_code: int | None, detail: str
) -> None:
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
