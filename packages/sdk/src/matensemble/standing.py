"""Where a chore stands, and what each record of the journal means for it.

Owns that meaning, in one place: `matensemble.replay` folds a whole run with it, and whoever must
not load what a chore is made of (the dashboard) folds chore by chore. Reads no file, loads no
pickle. Consequences that the records do not tell (which chores are ready) are the scheduler's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from matensemble.model import ChoreState, Reason
from matensemble.records import JournalRecord, RecordKind


class Standing(NamedTuple):
    """Where a chore stands by the journal. Equal ones are often one object: a run has a million."""

    state: ChoreState = ChoreState.BLOCKED
    """`BLOCKED` also for what is ready: the journal does not tell these apart."""
    attempt: int = 0
    """Latest attempt, from 1; 0 before the first."""
    reason: Reason | None = None
    """Why it has no result; None where it completed or has not ended."""
    exit_code: int | None = None
    """Of its processes; None where none ended, 0 for one that completed."""
    detail: str = ""
    """One line for people."""
    root: str | None = None
    """For one that was skipped: the failure it is a consequence of."""
    jobid: str | None = None
    """Of the live attempt, where the executor has told it."""
    host: str = ""
    """Where the live attempt runs."""
    is_pooled: bool = False
    """Whether the live attempt was given to a warm worker."""
    retries: int = 0
    """Attempts that were charged to its own budget."""
    losses: int = 0
    """Attempts that were lost to the infrastructure."""
    resources: Mapping[str, Any] | None = None
    """What it asks for now, as `Resources.to_json`; None: what its header says."""
    nice: int | None = None
    """Its order now; None: what its header says."""
    avoid: tuple[str, ...] = ()
    """Names of nodes that it keeps off."""
    source: str = ""
    """Where its result was taken over from; empty for one that ran."""
    is_cancelling: bool = False
    """Whether somebody asked for the end of its live attempt."""

    @property
    def is_live(self) -> bool:
        """Whether an attempt was with the executor."""
        return self.state in (ChoreState.SUBMITTED, ChoreState.RUNNING)


UNTOUCHED = Standing()
"""Of a chore that no record is about."""
_FIRST_INTENT = Standing(ChoreState.SUBMITTED, 1)
_FIRST_POOLED_INTENT = Standing(ChoreState.SUBMITTED, 1, is_pooled=True)
_FIRST_COMPLETED = Standing(ChoreState.COMPLETED, 1, exit_code=0)
_OF_THE_RUN = Standing._fields.index("retries")
"""From here on the fields are of the chore and not of its latest attempt."""


def after(before: Standing, record: JournalRecord) -> Standing:  # noqa: PLR0911, PLR0912 one a kind
    """Return where a chore stands after a record about it.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the record lacks what its kind promises.
    """
    fields, attempt = record.fields, record.attempt
    match record.kind:
        case RecordKind.SUBMIT_INTENT:
            is_pooled = bool(fields.get("p"))
            if before is UNTOUCHED and attempt == 1:
                return _FIRST_POOLED_INTENT if is_pooled else _FIRST_INTENT
            return _renewed(before, ChoreState.SUBMITTED, attempt, is_pooled=is_pooled)
        case RecordKind.SUBMITTED:
            return before._replace(jobid=_text(fields["j"]))
        case RecordKind.STARTED:
            return before._replace(state=ChoreState.RUNNING, host=_text(fields.get("h", "")))
        case RecordKind.COMPLETED:
            code = _code(fields.get("x", 0))
            is_plain = code == 0 and attempt == 1
            if is_plain and before[_OF_THE_RUN:] == _FIRST_COMPLETED[_OF_THE_RUN:]:
                return _FIRST_COMPLETED
            return _renewed(before, ChoreState.COMPLETED, attempt, exit_code=code)
        case RecordKind.FAILED | RecordKind.CANCELLED | RecordKind.SKIPPED:
            return _ended(before, record)
        case RecordKind.REQUEUED:
            return _requeued(before, fields, attempt)
        case RecordKind.REVOKED:
            return _renewed(before, ChoreState.BLOCKED, before.attempt, source="")
        case RecordKind.REUSED:
            return _renewed(
                before,
                ChoreState.COMPLETED,
                attempt,
                exit_code=_code(fields.get("x", 0)),
                source=_text(fields["from"]),
            )
        case RecordKind.RETRIED:
            return _renewed(before, ChoreState.BLOCKED, before.attempt, retries=0, losses=0)
        case RecordKind.CHANGED:
            return before._replace(
                resources=fields.get("resources", before.resources),
                nice=fields.get("nice", before.nice),
                is_cancelling=bool(fields.get("cancel", before.is_cancelling)),
            )
        case _:
            return before


def describe_standing(standing: Standing) -> str:
    """Return one line about where a chore stands; empty where its state says it all."""
    state = standing.state
    if state is ChoreState.SKIPPED:
        return f"{standing.root}, which it depends on, has no result"
    if state is ChoreState.RUNNING:
        return f"on {standing.host}" if standing.host else ""
    if state is ChoreState.COMPLETED:
        return f"taken over from {standing.source}" if standing.source else ""
    reason = standing.reason.value if standing.reason is not None else ""
    if standing.exit_code is not None:
        reason += f" (exit code {standing.exit_code})"
    return ": ".join(filter(None, (reason, standing.detail)))


def _renewed(before: Standing, state: ChoreState, attempt: int, **changes: Any) -> Standing:
    """Return a standing without what belonged to the state before."""
    blank = {
        "reason": None,
        "exit_code": None,
        "detail": "",
        "root": None,
        "jobid": None,
        "host": "",
        "is_pooled": False,
        "is_cancelling": False,
    }
    return before._replace(state=state, attempt=attempt, **{**blank, **changes})


_ENDS = {
    RecordKind.FAILED: ChoreState.FAILED,
    RecordKind.CANCELLED: ChoreState.CANCELLED,
    RecordKind.SKIPPED: ChoreState.SKIPPED,
}


def _ended(before: Standing, record: JournalRecord) -> Standing:
    fields, kind = record.fields, RecordKind(record.kind)
    if kind is RecordKind.SKIPPED:
        reason, root = Reason.DEPENDENCY_FAILED, _text(fields["u"])
    else:
        told = fields["r"] if kind is RecordKind.FAILED else fields.get("r", Reason.CANCELLED)
        reason, root = Reason(told), None
    return _renewed(
        before,
        _ENDS[kind],
        before.attempt,  # of one that never started the record says 1
        reason=reason,
        exit_code=_code(fields.get("x")),
        detail=_text(fields.get("d", "")),
        root=root,
    )


def _requeued(before: Standing, fields: Mapping[str, Any], attempt: int) -> Standing:
    budget = fields.get("b")
    return _renewed(
        before,
        ChoreState.BLOCKED,
        attempt,
        detail=_text(fields.get("d", "")),
        retries=before.retries + (budget == "retry"),
        losses=before.losses + (budget == "loss"),
        resources=fields.get("resources", before.resources),
        avoid=tuple(fields.get("avoid", before.avoid)),
    )


def _code(value: Any) -> int | None:
    if not isinstance(value, int | None):
        raise TypeError(f"{value!r} is no exit code")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
