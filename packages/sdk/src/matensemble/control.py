"""Requests to the driver of a run, and its answers: files in `control/`.

Owns the format of both, leaving a request and waiting for its answer. Whoever sees the files of a
run can ask; no server is needed. Which chores a request changes is the business of
`matensemble.selection`; the runtime's `ControlDesk` carries requests out. Loads no pickle.

A request is `request-<id>.json`, written in one rename; its answer is `answer-<id>.json`. The id
begins with the time, so that requests are taken in the order in which they were made.
"""

from __future__ import annotations

import errno
import json
import os
import pwd
import re
import socket
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from matensemble import disk
from matensemble.errors import FormatError, InvalidOptionError, RunDirectoryError
from matensemble.foreign_json import read_foreign_json
from matensemble.model import Reason, check_nice, parse_duration
from matensemble.workdir import RunDir

CONTROL_FORMAT = 1
MAX_REQUEST_BYTES = 1 << 16
ANSWER_TIMEOUT_SECONDS = 10.0
POLL_SECONDS = 0.1
REQUEST_ID = r"[0-9TZ]{8,40}-[0-9a-f]{8,32}"
"""Form of the id of a request: a regular expression."""
REQUEST_NAME = re.compile(rf"request-({REQUEST_ID})\.json")


class Verb(StrEnum):
    """What can be asked for; the names of the subcommands."""

    PAUSE = "pause"
    """Start nothing more; what runs goes on."""
    UNPAUSE = "unpause"
    """End a pause."""
    CANCEL = "cancel"
    """End chores, and what depends on them."""
    RETRY = "retry"
    """Run chores without a result again, with fresh budgets."""
    PRIORITISE = "prioritise"
    """Change the order of chores that have not started."""
    ADD_TIME = "add-time"
    """Let chores run longer than their `duration`."""

    @property
    def can_wait(self) -> bool:
        """Whether a request makes sense to a driver that is started later."""
        return self in (Verb.CANCEL, Verb.RETRY, Verb.PRIORITISE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which chores a request is about: named ones, or all of some kind."""

    chores: tuple[str, ...] = ()
    """Ids."""
    groups: tuple[str, ...] = ()
    """Every chore of these groups."""
    failed: bool = False
    """Every chore that failed by itself."""
    reason: Reason | None = None
    """Every chore that failed with this reason."""
    everything: bool = False
    """The whole run, with what it would still add."""

    def to_json(self) -> dict[str, Any]:
        """Return what differs from the defaults."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if value
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Selection:
        """Return the selection of `to_json`; raises TypeError or ValueError where it is none."""
        reason = data.get("reason")
        return cls(
            chores=_texts(data.get("chores", [])),
            groups=_texts(data.get("groups", [])),
            failed=bool(data.get("failed")),
            reason=None if reason is None else Reason(reason),
            everything=bool(data.get("everything")),
        )


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError("names are to be a list of texts")
    return tuple(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What somebody asks the driver for."""

    id: str
    """Time and a random part; unique in the run."""
    verb: Verb
    """What to do."""
    selection: Selection = field(default_factory=Selection)
    """With which chores; nothing for `PAUSE` and `UNPAUSE`."""
    nice: int | None = None
    """For `PRIORITISE`: lower runs first."""
    seconds: float | None = None
    """For `ADD_TIME`: seconds to add to the duration, above 0."""
    by: Mapping[str, Any] = field(default_factory=dict)
    """Who asks: ``user, uid, host, pid``."""
    at: str = ""
    """When, by the clock of that host: ISO 8601, UTC. For display."""

    def args(self) -> dict[str, Any]:
        """Return what it asks for besides its verb, as it is written and journalled."""
        args = self.selection.to_json()
        if self.nice is not None:
            args["nice"] = self.nice
        if self.seconds is not None:
            args["seconds"] = self.seconds
        return args

    def to_json(self) -> dict[str, Any]:
        """Return the object that is written."""
        return {
            "format": CONTROL_FORMAT,
            "id": self.id,
            "verb": self.verb.value,
            "args": self.args(),
            "by": dict(self.by),
            "at": self.at,
        }

    @classmethod
    def from_json(cls, data: Any, path: str = "request.json") -> Request:
        """Return the request of `to_json`; unknown keys are ignored.

        Raises
        ------
        FormatError
            If it is none, asks for something impossible, or is of a format that is not known.
        """
        try:
            if data["format"] != CONTROL_FORMAT:
                raise FormatError(
                    path, f"has format {data['format']!r}; this version reads {CONTROL_FORMAT}"
                )
            verb, args = Verb(data["verb"]), data["args"]
            nice, seconds = args.get("nice"), args.get("seconds")
            if (verb is Verb.PRIORITISE) != (nice is not None):
                raise ValueError(f"{verb} with nice={nice!r}")
            if (verb is Verb.ADD_TIME) != (seconds is not None):
                raise ValueError(f"{verb} with seconds={seconds!r}")
            return cls(
                id=str(data["id"]),
                verb=verb,
                selection=Selection.from_json(args),
                nice=None if nice is None else check_nice(nice),
                seconds=None if seconds is None else parse_duration(seconds, "seconds"),
                by={str(k): v for k, v in data["by"].items() if isinstance(v, str | int)},
                at=str(data["at"]),
            )
        except FormatError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, InvalidOptionError) as error:
            raise FormatError(path, f"is no request ({error!r})") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a request."""

    id: str
    """Of the request."""
    done: bool
    """Whether anything was done."""
    text: str
    """What was done, or why nothing was; one or a few lines for people."""
    num_chores: int = 0
    """How many chores it changed."""
    chores: tuple[str, ...] = ()
    """The first of them."""

    def to_json(self) -> dict[str, Any]:
        """Return the object that is written."""
        return {"format": CONTROL_FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, data: Any, path: str = "answer.json") -> Answer:
        """Return the answer of `to_json`; raises FormatError where it is none."""
        try:
            return cls(
                id=str(data["id"]),
                done=bool(data["done"]),
                text=str(data["text"]),
                num_chores=int(data.get("num_chores", 0)),
                chores=_texts(data.get("chores", [])),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(path, f"is no answer ({error!r})") from error


# --- files ------------------------------------------------------------------------------------


def make_request(
    verb: Verb,
    selection: Selection | None = None,
    *,
    nice: int | None = None,
    seconds: float | None = None,
) -> Request:
    """Return a request of this process, now."""
    now = datetime.now(UTC)
    uid = os.geteuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:  # a container without an entry for this user
        user = str(uid)
    return Request(
        id=f"{now:%Y%m%dT%H%M%S%f}Z-{os.urandom(4).hex()}",
        verb=verb,
        selection=selection or Selection(),
        nice=nice,
        seconds=seconds,
        by={"user": user, "uid": uid, "host": socket.gethostname(), "pid": os.getpid()},
        at=now.isoformat(timespec="seconds"),
    )


def check_control_dir(run: RunDir) -> None:
    """Check that only this user can leave requests.

    Raises
    ------
    FileNotFoundError
        If there is no such directory.
    RunDirectoryError
        If it is none, belongs to somebody else, or can be written by others.
    """
    path = run.control_dir
    found = os.lstat(path)
    problem = None
    if not stat.S_ISDIR(found.st_mode):
        problem = "is no directory"
    elif found.st_uid != os.geteuid():
        problem = f"belongs to user {found.st_uid}, not to you: only the owner controls a run"
    elif found.st_mode & 0o022:
        problem = "can be written by others (chmod 700): it is not used"
    if problem is not None:
        raise RunDirectoryError(str(path), problem)


def leave_request(run: RunDir, request: Request) -> None:
    """Write a request where the driver of a run finds it.

    Raises
    ------
    RunDirectoryError
        If it cannot be written, or others could write there.
    """
    data = json.dumps(request.to_json()).encode()
    if len(data) > MAX_REQUEST_BYTES:
        raise RunDirectoryError(
            str(run.control_dir),
            f"a request of {len(data):,} bytes is too large: name groups instead of chores",
        )
    try:
        with suppress(FileExistsError):
            disk.make_dir(run.control_dir)
        check_control_dir(run)
        disk.write_atomic(request_path(run, request.id), data)
    except OSError as error:
        raise RunDirectoryError(
            str(run.control_dir), f"cannot be written ({error.strerror})"
        ) from error


def withdraw_request(run: RunDir, request: Request) -> bool:
    """Remove a request that nobody has answered; return whether it was still there."""
    try:
        request_path(run, request.id).unlink()
    except FileNotFoundError:
        return False
    return True


def request_path(run: RunDir, request_id: str) -> Path:
    """Return where a request waits."""
    return run.control_dir / f"request-{request_id}.json"


def answer_path(run: RunDir, request_id: str) -> Path:
    """Return where the answer to a request is."""
    return run.control_dir / f"answer-{request_id}.json"


def read_answer(run: RunDir, request_id: str) -> Answer | None:
    """Return the answer to a request; None where there is none yet.

    Raises
    ------
    FormatError
        If it is no answer.
    """
    path = answer_path(run, request_id)
    try:
        return Answer.from_json(read_foreign_json(path, MAX_REQUEST_BYTES), str(path))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):  # the latter on a network file system
            return None
        raise


def take_answer(run: RunDir, request_id: str) -> Answer | None:
    """Return the answer to a request and remove it; else as `read_answer`."""
    answer = read_answer(run, request_id)
    if answer is not None:
        answer_path(run, request_id).unlink(missing_ok=True)
    return answer


def wait_for_answer(
    run: RunDir, request_id: str, timeout: float = ANSWER_TIMEOUT_SECONDS
) -> Answer | None:
    """Return the answer to a request; None where none comes within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while (answer := take_answer(run, request_id)) is None:
        if time.monotonic() >= deadline:
            return None
        with suppress(OSError):
            next(run.control_dir.iterdir(), None)  # lets a network file system look again
        time.sleep(POLL_SECONDS)
    return answer
