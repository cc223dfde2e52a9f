"""What befell one chore, attempt by attempt, folded from the records of its run.

Owns the story that lies between the records: which attempts there were, how each ended, why another
one followed, and who asked for what. Where a chore stands now is the business of
`matensemble.replay`. Called by `matensemble.explanation`. Loads no pickle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from matensemble.errors import FormatError
from matensemble.model import Resources
from matensemble.records import JournalRecord, RecordKind
from matensemble.terminal import describe_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt of a chore."""

    number: int
    """From 1."""
    outcome: str = "submitted"
    """`submitted`, `running`, or how it ended: `completed`, `failed`, `cancelled`, `requeued`."""
    reason: str = ""
    """Reason code of a failure; empty where there is none."""
    exit_code: int | None = None
    """Of its processes; None where none ended."""
    detail: str = ""
    """One line for people."""
    host: str = ""
    """Where it ran, as far as that is known."""
    jobid: str = ""
    """Its id at the executor."""
    is_pooled: bool = False
    """Whether it went to a warm worker; else it was a job of its own."""
    started_at: float | None = None
    """Wall-clock time of its start, seconds since the Unix epoch; None where it never started."""
    seconds: float | None = None
    """How long it ran; None where it runs or never started."""
    then: str = ""
    """Why another one followed."""
    directory: str = ""
    """Where its files are; empty where there are none."""


class Wait(NamedTuple):
    """A chore is held back before its next attempt."""

    until: float
    """Wall-clock time, seconds since the Unix epoch."""
    seconds: float
    """How long the wait is in all."""


class Hold(NamedTuple):
    """Somebody paused the run."""

    who: str
    """User and host."""
    at: float
    """When, seconds since the Unix epoch."""


class Chronicle:
    """The story of one chore; feed it with the records about it and about none.

    Attributes
    ----------
    attempts
        All that were begun, in order.
    remarks
        What befell it beside its attempts, one line each, oldest first.
    wait
        Why its next attempt may not begin yet, None where it may.
    hold
        The pause that holds the run; None where it is not paused on request.
    """

    def __init__(self, chore_id: str, group: str) -> None:
        self.chore_id = chore_id
        self.group = group
        self.attempts: list[Attempt] = []
        self.remarks: list[str] = []
        self.wait: Wait | None = None
        self.hold: Hold | None = None
        self._began: tuple[int, float, float] | None = None  # epoch and two times of the start
        self._asked: dict[str, str] = {}  # verb → who asked for it last

    @classmethod
    def of(cls, chore_id: str, group: str, records: Iterable[JournalRecord]) -> Chronicle:
        """Return the story that some records tell; raises FormatError where one makes no sense."""
        chronicle = cls(chore_id, group)
        for record in records:
            try:
                if record.chore_id == chore_id:
                    chronicle._take(record)
                elif record.kind == RecordKind.CONTROL:
                    chronicle._take_request(record)
                elif record.kind == RecordKind.RUN_STARTED:
                    chronicle.hold = None
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise FormatError(
                    "journal.jsonl",
                    f"record {record.sequence} of epoch {record.epoch} is no {record.kind} "
                    f"({error!r})",
                ) from error
        return chronicle

    def _take(self, record: JournalRecord) -> None:
        fields, kind = record.fields, record.kind
        if kind == RecordKind.SUBMIT_INTENT:
            is_pooled = bool(fields.get("p"))
            self.attempts.append(Attempt(number=record.attempt, is_pooled=is_pooled))
            self._began, self.wait = None, None
        elif kind == RecordKind.SUBMITTED:
            self._change(jobid=str(fields["j"]))
        elif kind == RecordKind.STARTED:
            self._began = (record.epoch, record.monotonic, record.wall)
            host = str(fields.get("h", ""))
            self._change(outcome="running", host=host, started_at=record.wall)
        elif kind in (RecordKind.COMPLETED, RecordKind.FAILED, RecordKind.CANCELLED):
            self._close(record)
            if kind == RecordKind.CANCELLED and "cancel" in self._asked:
                self._remark("was cancelled", "cancel")
        elif kind == RecordKind.REQUEUED:
            self._close(record)
            self._change(then=_why_again(fields))
            if "after" in fields:
                seconds = float(fields["after"])
                self.wait = Wait(record.wall + seconds, seconds)
        elif kind == RecordKind.REVOKED:
            detail = fields.get("d") or "the result is gone or damaged"
            self._remark(f"runs again because its result cannot be used: {detail}")
        elif kind == RecordKind.RETRIED:
            self._remark("runs again because somebody asked for it", "retry")
        elif kind == RecordKind.CHANGED:
            self._take_change(fields)
        elif kind == RecordKind.REUSED:
            self._remark(f"was not run: its result was taken over from {fields['from']}")

    def _take_change(self, fields: Mapping[str, Any]) -> None:
        if "nice" in fields:
            self._remark(f"has nice {fields['nice']} since then", "prioritise")
        if "resources" in fields:
            resources = Resources.from_json(fields["resources"])
            self._remark(f"asks for {_describe_request(resources)}", "add-time")

    def _take_request(self, record: JournalRecord) -> None:
        verb, by, args = str(record.fields["verb"]), record.fields["by"], record.fields["args"]
        if not record.fields["answer"]["done"]:
            return
        who = f"{by.get('user', 'somebody')} on {by.get('host', 'some host')}"
        if verb == "pause":
            self.hold = Hold(who, record.wall)
        elif verb == "unpause":
            self.hold = None
        elif verb != "cancel" or (
            # Its end comes later than the request; the records of others follow at once.
            args.get("everything")
            or self.chore_id in args.get("chores", ())
            or self.group in args.get("groups", ())
        ):
            self._asked[verb] = who

    def _remark(self, text: str, verb: str = "") -> None:
        who = self._asked.pop(verb, None)
        self.remarks.append(text if who is None else f"{text} (asked for by {who})")

    def _change(self, **changes: Any) -> None:
        if self.attempts:
            self.attempts[-1] = replace(self.attempts[-1], **changes)

    def _close(self, record: JournalRecord) -> None:
        """End the open attempt; a chore that fails before its first has none."""
        if not self.attempts or self.attempts[-1].outcome not in ("submitted", "running"):
            return
        fields = record.fields
        if "h" in fields:
            self._change(host=str(fields["h"]))
        if "el" in fields:  # of an attempt whose start was not recorded
            self._change(started_at=record.wall - float(fields["el"]))
        self._change(
            outcome=record.kind,
            reason=str(fields.get("r", "")),
            exit_code=fields.get("x", 0 if record.kind == RecordKind.COMPLETED else None),
            detail=str(fields.get("d", "")),
            seconds=self._seconds_until(record),
        )
        self._began = None

    def _seconds_until(self, record: JournalRecord) -> float | None:
        if self._began is None:
            elapsed = record.fields.get("el")
            return None if elapsed is None else float(elapsed)
        epoch, monotonic, wall = self._began
        if epoch == record.epoch:
            return max(record.monotonic - monotonic, 0.0)
        return max(record.wall - wall, 0.0)  # two drivers share no monotonic clock


def _why_again(fields: Mapping[str, Any]) -> str:
    """Say why another attempt follows, from the record that ended this one."""
    budget = fields.get("b")
    if budget == "retry":
        text = "tried again by its retries"
    elif budget == "loss":
        text = "lost to the infrastructure, not charged to its retries"
    else:
        text = "made again, not charged to its retries"
    if fields.get("after"):
        text += f", after a wait of {describe_seconds(float(fields['after']))}"
    if fields.get("avoid"):
        text += f", keeping off {', '.join(map(str, fields['avoid']))}"
    if fields.get("resources"):
        text += f", asking for {_describe_request(Resources.from_json(fields['resources']))}"
    return text


def _describe_request(resources: Resources) -> str:
    """Return what a chore asks for in words, its time included."""
    if resources.duration is None:
        return resources.describe()
    return f"{resources.describe()}, for {describe_seconds(resources.duration)} at most"
