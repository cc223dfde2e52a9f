"""Shapes of `status.json` and of the records of `journal.jsonl`: encode, decode, validate.

Owns the formats, not when they are written: that is the runtime's. Read by the command line and
the dashboard, which never load a pickle.

A journal line is one JSON object, written by hand because a generic encoder costs three times as
much. Its keys are short because a run may have a million chores:

===== ==========================================================================================
key   meaning
===== ==========================================================================================
``s`` sequence number in this journal, from 1, without gaps
``e`` epoch of the owner, from 1
``t`` wall-clock time, seconds since the Unix epoch, for display only
``m`` seconds since the driver started, by its monotonic clock, for durations within one epoch
``k`` kind, a `RecordKind`
``c`` chore id, where the record is about one
``n`` attempt, where the record is about one; left out for the first
…     further fields by kind (docs/reference/files)
``z`` CRC-32 of the line up to the comma before this key, eight hexadecimal digits; always last
===== ==========================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from matensemble.errors import FormatError
from matensemble.model import RunState

STATUS_FORMAT = 1
JOURNAL_FORMAT = 1
MAX_ROOT_FAILURES = 20


class RecordKind(StrEnum):
    """Kinds of journal records."""

    RUN_STARTED = "run_started"
    """First record: ``format, run, executor, nodes`` (name, cores, GPUs), ``host, pid``."""
    CHORE_ADDED = "chore_added"
    """A chore joined the live graph: ``header`` (as in `workflow.jsonl`), ``parent``."""
    SUBMIT_INTENT = "intent"
    """The chore is about to be handed to the executor."""
    SUBMITTED = "submitted"
    """The executor took it: ``j`` (job id)."""
    STARTED = "started"
    """Its processes run: ``h`` (host, where it is known)."""
    COMPLETED = "completed"
    """It ended well: ``x`` (exit code, where it is not 0)."""
    FAILED = "failed"
    """It ended badly: ``r`` (reason), ``x``, ``d`` (one line of detail)."""
    CANCELLED = "cancelled"
    """It was stopped on request: ``r``, ``x``, ``d``."""
    SKIPPED = "skipped"
    """A dependency failed: ``u`` (the root)."""
    REQUEUED = "requeued"
    """Its attempt was ended by an interruption; it will run again: ``d``."""
    RUN_STATE = "run_state"
    """The run changed state: ``state, d``."""


_KIND_TEXT = {kind: kind.value for kind in RecordKind}
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


class JournalRecord(NamedTuple):
    """One decoded line of the journal."""

    sequence: int
    epoch: int
    wall: float
    monotonic: float
    kind: str
    chore_id: str | None
    attempt: int
    """Attempt, from 1; 1 also where the record is about none."""
    fields: Mapping[str, Any]


def journal_stamp(epoch: int, wall: float, monotonic: float) -> str:
    """Return the part of a line that records written in one piece share."""
    return f'"e":{epoch},"t":{wall:.2f},"m":{monotonic:.4f}'


def encode_journal_record(
    sequence: int,
    stamp: str,
    kind: RecordKind,
    chore_id: str | None = None,
    attempt: int = 1,
    fields: Mapping[str, Any] | None = None,
) -> bytes:
    """Return one journal line with its checksum and newline.

    Parameters
    ----------
    sequence
        From 1, without gaps.
    stamp
        As `journal_stamp` returned it.
    kind, chore_id, attempt, fields
        What happened. Chore ids are slugs and need no escaping.
    """
    line = f'{{"s":{sequence},{stamp},"k":"{_KIND_TEXT[kind]}"'
    if chore_id is not None:
        line += f',"c":"{chore_id}"'
    if attempt > 1:
        line += f',"n":{attempt}'
    for key, value in fields.items() if fields else ():
        # Nearly all fields are text, for which the encoder itself costs three times as much.
        text = encode_basestring_ascii(value) if type(value) is str else _encode(value)
        line += f',"{key}":{text}'
    data = line.encode("ascii")
    return b'%b,"z":"%08x"}\n' % (data, crc32(data))


def decode_journal_line(line: bytes, path: str = "journal.jsonl") -> JournalRecord:
    """Return the record of one line, with or without its newline.

    Raises
    ------
    FormatError
        If the line is torn, its checksum does not match, or it is no record.
    """
    line = line.rstrip(b"\n")
    body, mark, tail = line.rpartition(b',"z":"')
    if not mark or not tail.endswith(b'"}') or tail[:-2] != b"%08x" % crc32(body):
        raise FormatError(path, f"a journal line is damaged: {line[:80]!r}")
    try:
        data = json.loads(line)
        data.pop("z")
        return JournalRecord(
            data.pop("s"),
            data.pop("e"),
            data.pop("t"),
            data.pop("m"),
            data.pop("k"),
            data.pop("c", None),
            data.pop("n", 1),
            data,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(path, f"a journal line is no record ({error!r})") from error


@dataclass(frozen=True, slots=True)
class Counts:
    """How many chores stand where."""

    total: int = 0
    """All chores known so far."""
    pending: int = 0
    """Blocked, ready or submitted."""
    running: int = 0
    """Started and not ended."""
    completed: int = 0
    """Ended well."""
    failed: int = 0
    """Ended badly, dependents of failures included."""
    cancelled: int = 0
    """Stopped on request."""


@dataclass(frozen=True, slots=True)
class RootFailure:
    """A failure that is not the consequence of another."""

    chore_id: str
    reason: str
    exit_code: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """Content of `status.json`."""

    run: str
    """Name of the run directory."""
    state: RunState
    """State of the run."""
    sequence: int = 0
    """Number of the journal record it reflects; grows within an epoch."""
    epoch: int = 1
    """Epoch of the owner that wrote it."""
    counts: Counts = field(default_factory=Counts)
    """In all."""
    groups: Mapping[str, Counts] = field(default_factory=dict)
    """By group."""
    executor: str = ""
    """Name of the executor."""
    num_nodes: int = 0
    """Usable nodes of the allocation."""
    total_cores: int = 0
    """Usable cores of the allocation."""
    free_cores: int = 0
    """Cores that no chore holds."""
    total_gpus: int = 0
    """Usable GPUs of the allocation."""
    free_gpus: int = 0
    """GPUs that no chore holds."""
    rate: float = 0.0
    """Chores that ended per second, lately (an exponential mean over about a minute)."""
    root_failures: tuple[RootFailure, ...] = ()
    """The first 20."""
    num_root_failures: int = 0
    """How many there are."""
    host: str = ""
    """Host of the driver."""
    pid: int = 0
    """Process of the driver."""
    started_at: str | None = None
    """ISO 8601, UTC."""
    updated_at: str | None = None
    """ISO 8601, UTC."""
    ended_at: str | None = None
    """ISO 8601, UTC; None while the run is alive."""
    detail: str = ""
    """Why it is in this state, where that needs a word."""

    def to_json(self) -> dict[str, Any]:
        """Return the object that is written to `status.json`."""
        return {"format": STATUS_FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], path: str = "status.json") -> RunStatus:
        """Return the status of `to_json`; fields of later versions are ignored.

        Raises
        ------
        FormatError
            If it is none, or of a format that this version does not know.
        """
        try:
            if data["format"] != STATUS_FORMAT:
                raise FormatError(
                    path, f"has format {data['format']}; this version reads {STATUS_FORMAT}"
                )
            known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
            known["state"] = RunState(known["state"])
            known["counts"] = _only_fields(Counts, known["counts"])
            known["groups"] = {
                name: _only_fields(Counts, counts) for name, counts in known["groups"].items()
            }
            known["root_failures"] = tuple(
                _only_fields(RootFailure, failure) for failure in known["root_failures"]
            )
            return cls(**known)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(path, f"is no status ({type(error).__name__}: {error})") from error


def _only_fields(cls: Any, data: Mapping[str, Any]) -> Any:
    if not isinstance(data, Mapping):
        raise TypeError(f"{data!r} is no mapping")
    return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})


def read_status(path: Path) -> RunStatus:
    """Read `status.json`.

    Raises
    ------
    FileNotFoundError
        If the run has not been started.
    FormatError
        If it cannot be read.
    """
    try:
        data = json.loads(path.read_bytes())
    except ValueError as error:
        raise FormatError(str(path), f"is no JSON ({error})") from error
    return RunStatus.from_json(data, str(path))
