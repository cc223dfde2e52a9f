"""Records of `journal.jsonl`: encode, decode, and read them through all epochs of a run.

Owns the format, not when a record is written: that is the runtime's. Loads no pickle.

After a takeover a run has several journals. The first record of each names the one before and the
length that it accepts of it; whatever a driver that was replaced wrote behind that is not read.

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
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from matensemble.errors import FormatError
from matensemble.workdir import RunDir

JOURNAL_FORMAT = 1


class RecordKind(StrEnum):
    """Kinds of journal records."""

    RUN_STARTED = "run_started"
    """First record of a journal: ``format, run, executor, nodes`` (name, cores, GPUs), ``host,
    pid``; after a takeover ``previous``: ``epoch`` of the journal before and the ``length`` in
    bytes that is accepted of it."""
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
    """Its attempt is over and another one will be made: ``r`` (reason, of a failure), ``x``, ``d``;
    ``b`` (budget that is charged: ``retry`` or ``loss``; absent: none), ``after`` (seconds to
    wait), ``resources`` (what it asks for from now on), ``avoid`` (names of nodes to keep off)."""
    REVOKED = "revoked"
    """Its result is gone or damaged; it is not completed any more and will run again: ``d``."""
    REUSED = "reused"
    """It completed without running: ``from`` (where the result was taken over from), ``key``."""
    RETRIED = "retried"
    """It had ended without a result, and will run again because somebody asked: fresh budgets."""
    CHANGED = "changed"
    """Somebody changed what it asks for: ``nice``, ``resources``."""
    CONTROL = "control"
    """A request from outside was answered: ``id, verb, by, args, answer``."""
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


def about(*chore_ids: str) -> Callable[[bytes], bool]:
    """Return what tells the lines about these chores, and those about none, from all others.

    It looks at the first key ``c`` of a line, without decoding it: ids are slugs.
    """
    ids = {chore_id.encode() for chore_id in chore_ids}

    def is_wanted(line: bytes) -> bool:
        _, mark, rest = line.partition(b',"c":"')
        return not mark or rest[: rest.find(b'"')] in ids

    return is_wanted


def read_records(
    run: RunDir,
    *,
    skip_damaged: bool = False,
    wanted: Callable[[bytes], bool] | None = None,
) -> Iterator[JournalRecord]:
    """Yield all records of a run in order, through all its epochs. O(1) memory.

    What a killed driver or a lost node leaves at the end of a journal (a torn line, blocks that
    never reached the disk) is ignored: it was not carried out, or its results are found again.

    Parameters
    ----------
    run
        The run.
    skip_damaged
        Whether to go on behind a damaged line that whole ones follow. What stood there is lost to
        the journal; committed results are found by their footers.
    wanted
        Tells of a raw line whether its record is needed (see `about`): decoding costs ten times as
        much as looking. The other lines are not checked. None: all are needed.

    Raises
    ------
    FileNotFoundError
        If the run was never started.
    FormatError
        If a line is damaged and whole ones follow it, or a journal of the chain is missing.
    """
    for path, length in journal_chain(run):
        for _, record in scan_journal(
            path, length=length, skip_damaged=skip_damaged, wanted=wanted
        ):
            if record is not None:
                yield record


def whole_length(path: Path, *, skip_damaged: bool = False) -> int:
    """Return the bytes of a journal up to the end of its last whole line; raises as `read_records`.

    That is what a takeover accepts of it.
    """
    return max((end for end, _ in scan_journal(path, skip_damaged=skip_damaged)), default=0)


def journal_chain(run: RunDir) -> list[tuple[Path, int | None]]:
    """Return the journals of a run, oldest first, each with the bytes that count of it.

    None: all of it, up to its last whole line. Where a takeover was killed before it began a
    journal of its own, the chain ends with the newest there is.

    Raises
    ------
    FileNotFoundError
        If there is none.
    FormatError
        If one that another names is missing, or none of a format that this version reads.
    """
    path: Path | None = run.journal_path
    if not run.journal_path.exists():
        path = _newest_replaced(run)
    if path is None:
        raise FileNotFoundError(f"{run.journal_path}: the run was not started")
    chain: list[tuple[Path, int | None]] = []
    length: int | None = None
    while path is not None:
        chain.append((path, length))
        previous = _previous(path)
        path = None
        if previous is not None:
            path, length = run.journal_of(int(previous["epoch"])), int(previous["length"])
            if not path.exists():
                raise FormatError(str(path), "is missing, and a later journal builds on it")
    return chain[::-1]


def _newest_replaced(run: RunDir) -> Path | None:
    """Return the journal of the highest epoch that was replaced, None where there is none."""
    found = ((path, path.stem.rpartition("-")[2]) for path in run.root.glob("journal-*.jsonl"))
    return max(
        ((int(epoch), path) for path, epoch in found if epoch.isdecimal()), default=(0, None)
    )[1]


def _previous(path: Path) -> Mapping[str, Any] | None:
    """Return what the first record of a journal says of the one before it."""
    with path.open("rb") as lines:
        first = lines.readline()
    if not first.endswith(b"\n"):
        return None  # killed before its first record was whole
    fields = decode_journal_line(first, str(path)).fields
    try:
        if fields["format"] > JOURNAL_FORMAT:
            raise FormatError(
                str(path), f"has format {fields['format']}; this version reads {JOURNAL_FORMAT}"
            )
        previous: Mapping[str, Any] | None = fields.get("previous")
        if previous is not None:
            int(previous["epoch"]), int(previous["length"])
        return previous
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(str(path), f"does not begin as a journal ({error!r})") from error


def scan_journal(
    path: Path,
    *,
    start: int = 0,
    length: int | None = None,
    skip_damaged: bool = False,
    wanted: Callable[[bytes], bool] | None = None,
) -> Iterator[tuple[int, JournalRecord | None]]:
    """Yield the records of one journal, each with the offset behind its line.

    Parameters
    ----------
    path
        The journal.
    start
        Offset of the line to begin with.
    length
        Bytes that count of it; None: all, up to its last whole line.
    skip_damaged, wanted
        As for `read_records`; a line that is not wanted yields None.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    FormatError
        If a line is damaged and others follow it.
    """
    offset = start
    behind = f" behind byte {start}" if start else ""
    damage: FormatError | None = None
    with path.open("rb") as lines:
        lines.seek(start)
        for number, line in enumerate(lines, 1):
            offset += len(line)
            if not line.endswith(b"\n") or (length is not None and offset > length):
                return
            record = None
            if wanted is None or wanted(line):
                try:
                    record = decode_journal_line(line, f"{path}, line {number}{behind}")
                except FormatError as error:
                    damage = damage or error
                    continue
            if damage is not None and not skip_damaged:
                raise damage
            yield offset, record
