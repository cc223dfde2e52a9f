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
``e`` epoch of the owner, from 1; left out for the first
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
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from json.encoder import encode_basestring_ascii
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from matensemble.errors import FormatError
from matensemble.foreign_json import open_foreign
from matensemble.workdir import RunDir

JOURNAL_FORMAT = 1
_MAX_FIRST_BYTES = 64 * 1024 * 1024  # the first record names every node
_HINT = "`matensemble resume --recover` goes on with what is whole"


class RecordKind(StrEnum):
    """Kinds of journal records."""

    RUN_STARTED = "run_started"
    """First record of a journal: ``format, run, executor, nodes`` (name, cores, GPUs), ``host,
    pid``, ``workers`` and ``recycle_after`` (as `RunOptions`); after a takeover ``previous``:
    ``epoch`` of the journal before, the ``length`` in bytes that is accepted of it, and whether
    damaged lines in it, and in those before it, are passed over (``recovered``)."""
    CHORE_ADDED = "chore_added"
    """A chore joined the live graph: ``header`` (as in `workflow.jsonl`), ``parent``."""
    SUBMIT_INTENT = "intent"
    """The chore is about to be handed to the executor: ``p`` (1 where a warm worker is to serve
    it)."""
    SUBMITTED = "submitted"
    """The executor took it: ``j`` (job id). Of a chore on a warm worker only with `STARTED`."""
    STARTED = "started"
    """Its processes run: ``h`` (host, where it is known). A chore on a warm worker that ended soon
    has none: the record of its end then has ``el`` (seconds that it ran) and ``h`` instead."""
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
    """Somebody changed what it asks for (``nice``, ``resources``), or asked for the end of what
    runs of it (``cancel``)."""
    CONTROL = "control"
    """A request from outside was answered: ``id, verb, by, args, answer``."""
    RUN_STATE = "run_state"
    """The run changed state: ``state, d``."""
    WORKERS = "workers"
    """What runs the chores of a group from now on: ``g`` (group; absent: all, because no warm
    worker can be had), ``tier`` (``trial``, ``pool`` or ``job``), ``elapsed`` (seconds that they
    take) and ``launch`` (seconds that a process takes to start), where known, and ``d``."""


_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode
_decode = json.JSONDecoder().raw_decode  # `json.loads` first guesses the encoding


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
    """Return the part of a line that records written in one piece share.

    Hundredths of a second: what was found out in one round of the loop has one time.
    """
    owner = f'"e":{epoch},' if epoch > 1 else ""
    return f'{owner}"t":{wall:.2f},"m":{monotonic:.2f}'


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
    # `value` of an enumeration is a property, and slow: a million chores have four million lines.
    line = f'{{"s":{sequence},{stamp},"k":"{kind._value_}"'
    if chore_id is not None:
        line = f'{line},"c":"{chore_id}"'
    if attempt > 1:
        line += f',"n":{attempt}'
    if fields:
        for key, value in fields.items():
            # Nearly all are of these, for which the encoder itself costs three times as much.
            if type(value) is str:
                text = encode_basestring_ascii(value)
            elif type(value) is int or (type(value) is float and isfinite(value)):
                text = repr(value)
            else:
                text = _encode(value)
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
        text = line.decode()
        data, end = _decode(text)
        if end != len(text):
            raise ValueError("something stands behind it")
        data.pop("z")
        sequence, epoch = data.pop("s"), data.pop("e", 1)
        if type(sequence) is not int or type(epoch) is not int:
            raise TypeError("it has no number")
        return JournalRecord(
            sequence,
            epoch,
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
        If a line is damaged and whole ones follow it, lines are missing, repeated or of another
        journal, or a journal of the chain is missing.
    """
    for path, length, is_recovered in journal_chain(run, skip_damaged=skip_damaged):
        for _, record in scan_journal(
            path, length=length, skip_damaged=skip_damaged or is_recovered, wanted=wanted
        ):
            if record is not None:
                yield record


class Chapter(NamedTuple):
    """One journal of a run, and what counts of it."""

    path: Path
    length: int | None
    """Bytes that a later journal accepts of it; None: all of it, up to its last whole line."""
    is_recovered: bool
    """Whether a later driver has decided to pass over its damaged lines."""


def journal_chain(run: RunDir, *, skip_damaged: bool = False) -> list[Chapter]:
    """Return the journals of a run, oldest first, each with what counts of it.

    Where a takeover was killed before it began a journal of its own, the chain ends with the newest
    there is.

    Parameters
    ----------
    run
        The run.
    skip_damaged
        Whether to go on where the first record of one is damaged, so that it names none before it,
        or one that it names is missing: with the newest of those that are older.

    Raises
    ------
    FileNotFoundError
        If there is none.
    FormatError
        If one that another names is missing, or is another one by what it holds, or is of a format
        that this version does not read.
    """
    path = run.journal_path if _has_begun(run.journal_path) else _newest_replaced(run)
    if path is None:
        if not run.journal_path.exists():
            raise FileNotFoundError(f"{run.journal_path}: the run was not started")
        path = run.journal_path
    chain: list[Chapter] = []
    length: int | None = None
    is_recovered = False
    while path is not None:
        chain.append(Chapter(path, length, is_recovered))
        epoch = _named_epoch(path)
        try:
            previous = _previous(path, epoch)
        except _BrokenChainError:
            if not (skip_damaged or is_recovered):
                raise
            path, length = _newest_replaced(run, epoch), None
            continue
        path = None
        if previous is not None:
            before = int(previous["epoch"])
            path, length = run.journal_of(before), int(previous["length"])
            is_recovered = is_recovered or bool(previous.get("recovered"))
            if not path.exists():
                if not (skip_damaged or is_recovered):
                    problem = f"is missing, and a later journal builds on it. {_HINT}"
                    raise FormatError(str(path), problem)
                path, length = _newest_replaced(run, before), None
    return chain[::-1]


class _BrokenChainError(FormatError):
    """A journal does not tell which one came before it."""


def _has_begun(path: Path) -> bool:
    """Whether a journal holds its first record; else its driver did nothing yet."""
    try:
        with open_foreign(path) as lines:
            return lines.readline(_MAX_FIRST_BYTES).endswith(b"\n")
    except FileNotFoundError:
        return False


def _named_epoch(path: Path) -> int | None:
    """Return the epoch that the name of a replaced journal tells; None for the present one."""
    number = path.stem.rpartition("-")[2]
    return int(number) if number.isdecimal() else None


def _newest_replaced(run: RunDir, before: int | None = None) -> Path | None:
    """Return the replaced journal of the highest epoch (before one); None where there is none."""
    found = ((_named_epoch(path), path) for path in run.root.glob("journal-*.jsonl"))
    return max(
        ((e, path) for e, path in found if e is not None and (before is None or e < before)),
        default=(0, None),
    )[1]


def _previous(path: Path, epoch: int | None) -> Mapping[str, Any] | None:
    """Return what the first record of a journal says of the one before it.

    Raises
    ------
    _BrokenChainError
        If it cannot be told.
    FormatError
        If it is of a format that this version does not read.
    """
    with open_foreign(path) as lines:
        first = lines.readline(_MAX_FIRST_BYTES)
    if not first.endswith(b"\n"):
        return None  # killed before its first record was whole
    try:
        record = decode_journal_line(first, "its first line")
        is_readable = record.fields["format"] <= JOURNAL_FORMAT
        previous: Mapping[str, Any] | None = record.fields.get("previous")
        if is_readable:
            _check_beginning(record, epoch)
    except (KeyError, TypeError, ValueError) as error:  # FormatError is one of them
        problem = f"a journal does not begin like this ({error}). {_HINT}"
        raise _BrokenChainError(f"{path}, line 1", problem) from error
    if not is_readable:
        version = record.fields["format"]
        raise FormatError(str(path), f"has format {version}; this version reads {JOURNAL_FORMAT}")
    return previous


def _check_beginning(record: JournalRecord, epoch: int | None) -> None:
    """Raise KeyError, TypeError or ValueError where a first record contradicts itself or a name."""
    if epoch is not None and record.epoch != epoch:
        raise ValueError(f"it is that of epoch {record.epoch}")
    previous = record.fields.get("previous")
    if previous is not None:
        before, length = int(previous["epoch"]), int(previous["length"])
        if not 0 < before < record.epoch or length < 0:
            raise ValueError(f"it builds on {length} bytes of epoch {before}")


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
        If a line is damaged and others follow it, if it is not the next of its journal, or if less
        is there than counts. Of lines that are not wanted, only the order is told by the others.
    """
    with open_foreign(path) as lines:
        lines.seek(start)
        yield from scan_lines(
            lines, path, start=start, length=length, skip_damaged=skip_damaged, wanted=wanted
        )


def scan_lines(
    lines: Iterable[bytes],
    path: Path,
    *,
    start: int = 0,
    length: int | None = None,
    skip_damaged: bool = False,
    wanted: Callable[[bytes], bool] | None = None,
) -> Iterator[tuple[int, JournalRecord | None]]:
    """Yield as `scan_journal`, from lines that the caller has read.

    Parameters
    ----------
    lines
        The lines from `start` on, each with its newline, besides a last one that is not whole.
    path
        Where they are from, for messages.
    start, length, skip_damaged, wanted
        As for `scan_journal`.

    Raises
    ------
    FormatError
        As `scan_journal`.
    """
    offset = start
    whole = start
    behind = f" behind byte {start}" if start else ""
    damage: FormatError | None = None
    before: JournalRecord | None = None
    for number, line in enumerate(lines, 1):
        offset += len(line)
        if not line.endswith(b"\n") or (length is not None and offset > length):
            break
        record = None
        if wanted is None or wanted(line):
            try:
                record = decode_journal_line(line, str(path))
            except FormatError as error:
                place = f"{path}, line {number}{behind}"
                damage = damage or FormatError(place, f"{error.problem}. {_HINT}")
                continue
            is_next = wanted is None and not skip_damaged
            problem = ""
            if before is None or record[:2] != (before.sequence + 1, before.epoch):
                problem = _misplacement(record, before, is_next=is_next, is_first=not start)
            if problem and skip_damaged:
                continue
            if problem and damage is None:
                damage = FormatError(f"{path}, line {number}{behind}", f"{problem}. {_HINT}")
            before = record
        if damage is not None and not skip_damaged:
            raise damage
        whole = offset
        yield offset, record
    if length is not None and whole < length and not skip_damaged:
        problem = f"ends {length - whole} bytes before what a later journal builds on. {_HINT}"
        raise damage or FormatError(str(path), problem)


def _misplacement(
    record: JournalRecord, before: JournalRecord | None, *, is_next: bool, is_first: bool
) -> str:
    """Return why a record cannot stand behind another one, or first; empty where it can.

    Parameters
    ----------
    record, before
        The record, and the one that was read before it.
    is_next
        Whether nothing may be missing between the two.
    is_first
        Whether the journal was read from its beginning.
    """
    if before is None:
        if is_first and is_next and record.sequence != 1:
            return f"record {record.sequence} is the first"
    elif record.epoch != before.epoch:
        return f"a record of epoch {record.epoch} stands in the journal of epoch {before.epoch}"
    elif record.sequence <= before.sequence or (is_next and record.sequence != before.sequence + 1):
        return f"record {record.sequence} stands behind record {before.sequence}"
    return ""
