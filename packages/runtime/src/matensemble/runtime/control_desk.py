"""Take the requests that other processes left in `control/`, and answer them.

Owns which files count as requests, and what a request means to the scheduler. The engine polls the
desk as one of its duties, hands the events to the state, journals `audit` and then answers::

    for request in desk.poll():
        events, answer = act(request, state)
        ...                      # handle the events; journal a `control` record of audit(…)
        desk.answer(request, answer)

A request that is malformed, too large, a link, or of another user is set aside under another name,
answered where its name tells to whom, and never carried out.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from matensemble import disk
from matensemble.control import (
    MAX_REQUEST_BYTES,
    REQUEST_NAME,
    Answer,
    Request,
    Verb,
    answer_path,
    check_control_dir,
)
from matensemble.errors import FormatError, RunDirectoryError
from matensemble.foreign_json import read_foreign_json
from matensemble.replay import Standing
from matensemble.runtime.scheduler.events import (
    CancelRequested,
    DurationExtended,
    Event,
    PauseRequested,
    PriorityChanged,
    ResumeRequested,
    RetryRequested,
)
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.runtime.scheduler.states import Phase
from matensemble.selection import MAX_NAMED, Plan, describe_refused, name_chores, plan
from matensemble.terminal import clean_line, describe_seconds, plural
from matensemble.workdir import RunDir

MAX_REQUESTS = 100
"""Requests of one round, so that a flood of them does not hold up the run."""
ANSWER_SECONDS = 86_400.0
"""How long an answer is kept for who asked."""
_PREFIX, _SUFFIX = "request-", ".json"


class ControlDesk:
    """The requests to one run; to be made once the run is claimed.

    What waits then was left for an earlier driver; what comes later is for this one, also while it
    is still starting.

    Parameters
    ----------
    run
        The run that this process drives.
    logger
        Is told what was refused.
    """

    def __init__(self, run: RunDir, logger: logging.Logger) -> None:
        self._run = run
        self._logger = logger
        self._last_problem = ""
        self._unwritten: dict[str, Answer] = {}  # carried out, but the answer could not be written
        self._left_behind: frozenset[str] = frozenset()
        with suppress(OSError):  # mostly: nobody has asked for anything yet
            self._left_behind = frozenset(self._waiting())
            self._forget_old_answers()

    def poll(self) -> list[Request]:
        """Return the requests that wait, oldest first; at most `MAX_REQUESTS`.

        Costs one look at a directory that has few entries or does not exist. Requests that were
        left for an earlier driver, and make no sense any more, are answered here. Never raises for
        what lies in the directory, nor for a disk that fails: what cannot be read now, is later.
        A request is returned again until it is answered.
        """
        try:
            names = self._waiting()
            if names:
                check_control_dir(self._run)
            return [
                request
                for name in names[:MAX_REQUESTS]
                if (request := self._take(name)) is not None
            ]
        except FileNotFoundError:
            return []
        except (OSError, RunDirectoryError) as error:
            self._complain(f"no requests are taken: {error}")
            return []

    def answer(self, request: Request, answer: Answer) -> None:
        """Tell who asked, and forget the request.

        Where the disk fails, that is tried again at the next `poll`; the request is not taken twice
        by this driver.
        """
        self._unwritten[request.id] = answer
        self._logger.info(
            "%s, asked for by %s on %s: %s",
            request.verb,
            clean_line(request.by.get("user", "?")),
            clean_line(request.by.get("host", "?")),
            clean_line(answer.text),
        )
        self._write(request.id)

    def _forget_old_answers(self) -> None:
        """Remove answers that nobody came for: who asked waits for seconds, not for a day."""
        for path in self._run.control_dir.glob("answer-*.json"):
            if time.time() - path.lstat().st_mtime > ANSWER_SECONDS:
                path.unlink()

    def _waiting(self) -> list[str]:
        with os.scandir(self._run.control_dir) as entries:
            names = [
                entry.name
                for entry in entries
                if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX)
            ]
        return sorted(names)

    def _take(self, name: str) -> Request | None:
        """Return the request of a file; None where it is set aside or done with."""
        match = REQUEST_NAME.fullmatch(name)
        if match is not None and match[1] in self._unwritten:
            self._write(match[1])
            return None
        try:
            request = self._read(name)
        except PermissionError as error:
            problem = FormatError(str(error.filename), "cannot be read by its driver")
            self._set_aside(name, match[1] if match is not None else None, problem)
            return None
        except FormatError as error:
            self._set_aside(name, match[1] if match is not None else None, error)
            return None
        except OSError as error:  # gone, or a disk that fails; the others are not to wait for it
            self._complain(f"a request cannot be read: {error}")
            return None
        if name in self._left_behind and not request.verb.can_wait:
            text = "it was left for the driver before this one; ask again if it still matters"
            self.answer(request, Answer(id=request.id, done=False, text=text))
            return None
        return request

    def _read(self, name: str) -> Request:
        path = self._run.control_dir / name
        if (uid := path.lstat().st_uid) != os.geteuid():
            raise FormatError(str(path), f"was left by user {uid}; only the owner controls a run")
        request = Request.from_json(read_foreign_json(path, MAX_REQUEST_BYTES), str(path))
        if name != f"{_PREFIX}{request.id}{_SUFFIX}":
            raise FormatError(str(path), "has the name of another request")
        return request

    def _set_aside(self, name: str, request_id: str | None, error: FormatError) -> None:
        self._logger.warning("a request is refused: %s", error)
        path = self._run.control_dir / name
        path.rename(path.with_name(f"refused-{name.removeprefix(_PREFIX)}"))
        if request_id is not None:
            text = f"the request was refused: it {error.problem}"
            self._unwritten[request_id] = Answer(id=request_id, done=False, text=text)
            self._write(request_id)

    def _write(self, request_id: str) -> None:
        """Write an answer, then remove its request: whoever crashes between leaves no riddle."""
        data = json.dumps(self._unwritten[request_id].to_json()).encode()
        try:
            disk.write_atomic(answer_path(self._run, request_id), data)
            (self._run.control_dir / f"{_PREFIX}{request_id}{_SUFFIX}").unlink(missing_ok=True)
        except OSError as error:
            self._complain(f"an answer cannot be written, it is tried again: {error}")
        else:
            del self._unwritten[request_id]

    def _complain(self, problem: str) -> None:
        if problem != self._last_problem:  # once, not each second
            self._logger.warning("%s", problem)
        self._last_problem = problem


def audit(request: Request, answer: Answer) -> dict[str, Any]:
    """Return the fields of the `control` record that the journal keeps of a request."""
    return {
        "id": request.id,
        "verb": request.verb.value,
        "by": dict(request.by),
        "args": request.args(),
        "answer": {"done": answer.done, "text": answer.text, "num_chores": answer.num_chores},
    }


def act(request: Request, state: SchedulerState) -> tuple[list[Event], Answer]:
    """Return the events that carry out a request, and the answer. Changes nothing.

    O(chores that the request selects).
    """
    if state.phase in _LAST_PHASES:
        text = _LAST_PHASES[state.phase]
        text += "; ask again when it has ended" if request.verb.can_wait else ""
        return [], Answer(id=request.id, done=False, text=text)
    if request.verb in (Verb.PAUSE, Verb.UNPAUSE):
        return _act_on_run(request, state)
    chosen = plan(request, _StateBoard(state))
    events = list(_events(request, chosen)) if chosen.chores or request.selection.everything else []
    first = _describe(request, chosen, state) if events else "nothing was done:"
    refused = describe_refused(request, chosen) if not request.selection.everything else []
    return events, Answer(
        id=request.id,
        done=bool(events),
        text="\n".join((first, *refused)),
        num_chores=len(chosen.chores),
        chores=chosen.chores[:MAX_NAMED],
    )


_LAST_PHASES = {
    Phase.STOPPING: "the run is being cancelled",
    Phase.INTERRUPTING: "the run is being interrupted",
}


def _act_on_run(request: Request, state: SchedulerState) -> tuple[list[Event], Answer]:
    phase, is_pause = state.phase, request.verb is Verb.PAUSE
    events: list[Event] = []
    if phase is Phase.DRAINING:
        text = "the allocation ends soon: nothing is started any more"
    elif is_pause and phase is Phase.STARTING:
        events.append(PauseRequested())
        text = "paused: nothing more starts; "
        text += f"{plural(state.num_live, 'started chore')} " if state.num_live else "nothing "
        text += "go on" if state.num_live > 1 else "goes on"
    elif not is_pause and phase is Phase.PAUSED:
        events.append(ResumeRequested())
        text = f"the pause is over: {plural(state.num_ready, 'chore')} can start"
    else:
        text = "the run is paused already" if is_pause else "the run is not paused"
    return events, Answer(id=request.id, done=bool(events), text=text)


def _events(request: Request, chosen: Plan) -> Iterable[Event]:
    match request.verb:
        case Verb.CANCEL:
            # The whole run also stops taking what strategies would add.
            yield CancelRequested(None if request.selection.everything else chosen.chores)
        case Verb.RETRY:
            yield RetryRequested(chosen.chores)
        case Verb.PRIORITISE if request.nice is not None:
            yield PriorityChanged(chosen.chores, request.nice)
        case Verb.ADD_TIME if request.seconds is not None:
            for chore_id in chosen.chores:
                yield DurationExtended(chore_id, request.seconds)


def _describe(request: Request, chosen: Plan, state: SchedulerState) -> str:
    who = name_chores(chosen.chores)
    match request.verb:
        case Verb.CANCEL:
            text = f"cancelled: {who}" if who else "cancelled: the run, in which nothing was left"
            if chosen.num_live:
                text += f"; {plural(chosen.num_live, 'chore')} of these had started, and "
                text += "is being ended" if chosen.num_live == 1 else "are being ended"
            return text
        case Verb.RETRY:
            paused = "; the run is paused" if state.phase is Phase.PAUSED else ""
            return f"will run again: {who}, and what was skipped because of them{paused}"
        case Verb.PRIORITISE:
            return f"nice is {request.nice} now: {who}"
        case _:
            return f"may run {describe_seconds(request.seconds or 0)} longer: {who}"


class _StateBoard:
    """What the rule of selection needs to know of the state."""

    def __init__(self, state: SchedulerState) -> None:
        self._state = state

    def standing(self, chore_id: str) -> Standing | None:
        if chore_id not in self._state:
            return None
        entry = self._state.entry(chore_id)
        return Standing(entry.state, entry.attempt, entry.reason, root=entry.root)

    def has_limit(self, chore_id: str) -> bool:
        return self._state.entry(chore_id).chore.resources.duration is not None

    def members(self, group: str) -> Iterable[str]:
        return (entry.chore.id for entry in self._state.members(group))

    def __iter__(self) -> Iterator[str]:
        return (entry.chore.id for entry in self._state)
