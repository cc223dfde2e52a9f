"""Why one chore waits, failed, was skipped, ran again, or was not run at all.

Shapes the answer. What is asked of the index is said in `matensemble.dashboard.index.ancestry`; the
words are those of ``matensemble explain``, from `matensemble.waiting` and `matensemble.standing`.
The journal is not read: the answer comes from the index, the headers of a few chores and the small
files of one.
"""

from __future__ import annotations

import sqlite3

from fastapi import APIRouter
from pydantic import BaseModel, NonNegativeFloat, NonNegativeInt

from matensemble.dashboard.catalog import Catalog
from matensemble.dashboard.files.failure import read_remains
from matensemble.dashboard.index.ancestry import (
    MAX_WAITS_FOR,
    Chain,
    count_upstream,
    read_ended_badly,
    read_facts,
    read_gathered,
    read_pause,
    read_waits,
    standing_of,
    way_to_root,
    way_up,
)
from matensemble.dashboard.index.chores import read_attempts
from matensemble.dashboard.index.feed import Indexes
from matensemble.dashboard.index.header import Terms, read_terms
from matensemble.dashboard.routes.parameters import ChoreId, RunId
from matensemble.dashboard.schemas import FreshnessResponse
from matensemble.errors import RunDirectoryError
from matensemble.model import ChoreState, Reason, Resources, RunState
from matensemble.policy import is_satisfied
from matensemble.reasons import MEANINGS
from matensemble.runs import Look
from matensemble.standing import Standing, describe_standing
from matensemble.terminal import describe_seconds, plural
from matensemble.waiting import (
    describe_hold,
    describe_order,
    describe_request,
    describe_room,
    why_not_again,
)
from matensemble.workdir import RunDir

_MAX_NAMED = 5
_LOST = (Reason.NODE_FAILURE, Reason.IO_ERROR)
"""Reasons whose further attempts are not those of the chore's retries."""


class RelatedChoreResponse(BaseModel):
    """Another chore that has to do with the one in question."""

    id: str
    name: str
    """Its group."""
    state: ChoreState
    because: str
    """One line about that state; empty where it says all."""


class GatheredGroupResponse(BaseModel):
    """A group whose results the chore collects."""

    name: str
    total: NonNegativeInt
    ended: NonNegativeInt


class RoomResponse(BaseModel):
    """What the chore asks for, against what there is."""

    request: str
    """In words: ``2 tasks of 4 cores``."""
    cores: NonNegativeInt
    gpus: NonNegativeInt
    duration: NonNegativeFloat | None
    """Its limit in seconds; it starts only where that much time is left."""
    free_cores: NonNegativeInt
    total_cores: NonNegativeInt
    free_gpus: NonNegativeInt
    total_gpus: NonNegativeInt
    avoids: list[str]
    """Names of nodes that it keeps off."""


class OutputResponse(BaseModel):
    """The end of what a chore printed."""

    stream: str
    """`stderr` or `stdout`."""
    lines: list[str]
    """The last ones that hold anything."""


class FailureResponse(BaseModel):
    """How the chore, or the root of its being skipped, failed."""

    chore: RelatedChoreResponse
    reason: Reason
    meaning: str
    """What the reason code says."""
    advice: str
    """What to do about it."""
    exit_code: int | None
    detail: str
    error_type: str
    """Name of the exception; empty where there was none."""
    message: str
    """Of the exception."""
    traceback: str
    outputs: list[OutputResponse]
    """Streams that hold anything."""
    not_again: str
    """Why it was not tried again; empty where nothing can be said."""


class EarlierAttemptResponse(BaseModel):
    """An attempt that was not the last, and why."""

    attempt: NonNegativeInt
    text: str


class ExplanationResponse(BaseModel):
    """Why a chore is where it is."""

    chore_id: str
    state: ChoreState
    """`ready` where only resources, or what holds the whole run, can be in its way."""
    because: list[str]
    """Why, the most important first; one line each."""
    hold: str
    """What keeps every chore of the run from starting; empty where nothing does."""
    waits_for: list[RelatedChoreResponse]
    """Chores upstream that are not done, the first `MAX_WAITS_FOR`."""
    num_waits_for: NonNegativeInt
    num_upstream: NonNegativeInt
    gathers: list[GatheredGroupResponse]
    not_before: NonNegativeFloat | None
    """When its next attempt may begin, in seconds since the Unix epoch; None: at once."""
    room: RoomResponse | None
    """Of one that has not ended."""
    chain: list[RelatedChoreResponse]
    """From this chore up to the root of its failure, or to what it waits for in the end; the first
    is the chore itself, and the only one where it depends on nothing that matters."""
    num_chain_left_out: NonNegativeInt
    """How many of a long chain are left out in its middle."""
    failure: FailureResponse | None
    earlier: list[EarlierAttemptResponse]
    """Why it ran again, the first attempt first; the newest of very many."""
    source: str
    """Where its result was taken over from; empty where it ran."""
    freshness: FreshnessResponse


def explanation_routes(catalog: Catalog, indexes: Indexes) -> APIRouter:
    """Return the route about why a chore is where it is."""
    router = APIRouter(prefix="/runs/{run_id}/chores/{chore_id}")

    @router.get(
        "/explanation",
        operation_id="explainChore",
        summary="Why a chore waits, failed, was skipped or ran again",
    )
    def explain_chore(run_id: RunId, chore_id: ChoreId) -> ExplanationResponse:
        run, look = catalog.find(run_id), catalog.look(run_id).look or Look(None, None, None)
        with indexes.open(run_id) as (database, freshness):
            row = read_facts(database, chore_id)
            if row is None:
                raise RunDirectoryError(run_id, "has no chore of that id")
            fresh = FreshnessResponse.of(freshness)
            return _Explainer(database, run, look, row).explain(fresh)

    return router


class _Explainer:
    """What is known of one chore while a question about it is answered."""

    def __init__(
        self, database: sqlite3.Connection, run: RunDir, look: Look, row: sqlite3.Row
    ) -> None:
        self._database, self._run, self._look, self._row = database, run, look, row
        self._standing = standing_of(row)
        self._terms = _terms_of(run, row)
        self._attempts = read_attempts(database, row["number"])
        self._num_upstream = count_upstream(database, row["number"])
        self._gathers = read_gathered(database, row["number"])
        self._waits, self._num_waits = self._read_waits()

    def explain(self, freshness: FreshnessResponse) -> ExplanationResponse:
        standing, hold, not_before = self._standing, self._hold(), self._not_before()
        state = standing.state
        gathers = self._gathers if state is ChoreState.BLOCKED and not self._attempts else []
        if state is ChoreState.BLOCKED and not (self._num_waits or gathers or not_before):
            state = ChoreState.READY
        chain, failure = self._chain(), None
        if state in (ChoreState.FAILED, ChoreState.SKIPPED):
            failure = self._failure(chain.rows[-1])
        return ExplanationResponse(
            chore_id=self._row["id"],
            state=state,
            because=self._because(state, hold, not_before),
            hold=hold,
            waits_for=[_relate(row) for row in self._waits],
            num_waits_for=self._num_waits,
            num_upstream=self._num_upstream,
            gathers=[GatheredGroupResponse(**group._asdict()) for group in self._gathers],
            not_before=not_before,
            room=None if state.is_terminal else self._room(),
            chain=[_relate(row) for row in chain.rows],
            num_chain_left_out=chain.num_left_out,
            failure=failure,
            earlier=self._earlier(),
            source=standing.source,
            freshness=freshness,
        )

    @property
    def _resources(self) -> Resources:
        changed = self._standing.resources
        return self._terms.resources if changed is None else Resources.from_json(changed)

    def _read_waits(self) -> tuple[list[sqlite3.Row], int]:
        """Return the first chores that this one waits for, and their number."""
        if self._standing.state is not ChoreState.BLOCKED:
            return [], 0
        first, num = read_waits(self._database, self._row["number"])
        # Of very many that failed the others are such whose failure is ignored as well: what waits
        # for one that is not would be skipped at once.
        failed = [
            row
            for row in read_ended_badly(self._database, self._row["number"])
            if not is_satisfied(
                ChoreState(row["state"]), _terms_of(self._run, row).policy.on_failure
            )
        ]
        return (failed + first)[:MAX_WAITS_FOR], num + len(failed)

    def _chain(self) -> Chain:
        if self._standing.state is ChoreState.SKIPPED and self._standing.root is not None:
            return way_to_root(self._database, self._row)
        if self._num_waits:
            return way_up(self._database, self._row)
        return Chain([self._row], 0)

    def _hold(self) -> str:
        """Return what keeps every chore of the run from starting."""
        if self._standing.state.is_terminal:
            return ""
        status, lost = self._look.status, self._look.lost
        is_driven = lost is None and status is not None and not status.state.is_terminal
        if self._standing.is_live and is_driven:
            return ""  # what runs goes on, whatever else does not
        has_begun = bool(self._attempts) or self._run.journal_path.exists()
        text = describe_hold(status, lost, has_begun=has_begun)
        if is_driven and status is not None and status.state is RunState.PAUSED:
            told = read_pause(self._database)
            text += f" ({told})" if told else ""
        return text

    def _not_before(self) -> float | None:
        """Return when its next attempt may begin, where it waits for that."""
        retry, standing = self._terms.policy.retry, self._standing
        if standing.state is not ChoreState.BLOCKED or not self._attempts or retry is None:
            return None
        last = self._attempts[-1]
        if last["reason"] is None or last["reason"] in _LOST or not standing.retries:
            return None
        seconds = retry.wait_before(standing.retries)
        return last["ended_at"] + seconds if seconds and last["ended_at"] is not None else None

    def _because(self, state: ChoreState, hold: str, not_before: float | None) -> list[str]:
        lines = []
        if self._num_waits:
            lines.append(self._describe_waits())
        elif not_before is not None:
            assert self._terms.policy.retry is not None  # it is what tells of a wait
            seconds = self._terms.policy.retry.wait_before(self._standing.retries)
            lines.append(f"waits {describe_seconds(seconds)} before it is tried again")
        elif state is ChoreState.BLOCKED:
            names = " and ".join(repr(group.name) for group in self._gathers)
            text = f"gathers the results of {names}: waits until all chores of an earlier stage"
            lines.append(f"{text} ended")
        elif state is ChoreState.SUBMITTED:
            is_pooled = bool(self._attempts) and self._attempts[-1]["is_pooled"]
            taker = "a warm worker" if is_pooled else "the executor"
            lines.append(f"handed to {taker}, which has not started it yet")
        elif state is not ChoreState.READY and (told := describe_standing(self._standing)):
            lines.append(told)
        lines += [hold] if hold else []
        if state is ChoreState.READY:
            lines += self._describe_wish()
        if self._standing.losses:
            lost = plural(self._standing.losses, "attempt")
            lines.append(f"{lost} lost to the infrastructure, not charged to its retries")
        if self._standing.retries:
            again = plural(self._standing.retries, "further attempt")
            lines.append(f"{again} made by its retries")
        return lines

    def _describe_waits(self) -> str:
        named = [f"{row['id']} ({_describe(row)})" for row in self._waits[:_MAX_NAMED]]
        more = self._num_waits - len(named)
        text = f"waits for {', '.join(named)}" + (f" and {more:,} more" if more else "")
        if self._num_upstream > 1:
            done = self._num_upstream - self._num_waits
            text += f"; {done:,} of the {self._num_upstream:,} it depends on are done"
        return text

    def _describe_wish(self) -> list[str]:
        """Return what one asks for that waits for room only."""
        standing, status = self._standing, self._look.status
        lines = describe_request(
            self._resources,
            has_attempts=bool(self._attempts),
            has_upstream=bool(self._num_upstream),
            avoid=standing.avoid,
        )
        if status is not None and not status.state.is_terminal:
            nice = self._terms.nice if standing.nice is None else standing.nice
            lines.append(describe_room(status))
            lines += describe_order(nice, self._resources.duration)
        return lines

    def _room(self) -> RoomResponse | None:
        status, resources = self._look.status, self._resources
        if status is None:
            return None
        return RoomResponse(
            request=resources.describe(),
            cores=resources.num_cores,
            gpus=resources.num_gpus,
            duration=resources.duration,
            free_cores=status.free_cores,
            total_cores=status.total_cores,
            free_gpus=status.free_gpus,
            total_gpus=status.total_gpus,
            avoids=list(self._standing.avoid),
        )

    def _failure(self, row: sqlite3.Row) -> FailureResponse | None:
        standing = standing_of(row)
        if standing.reason is None:
            return None
        remains = read_remains(self._run.root, row["id"])
        retry = _terms_of(self._run, row).policy.retry
        meaning = MEANINGS[standing.reason]
        return FailureResponse(
            chore=_relate(row),
            reason=standing.reason,
            meaning=meaning.what,
            advice=meaning.advice,
            exit_code=standing.exit_code,
            detail=standing.detail,
            error_type=remains.error_type,
            message=remains.message,
            traceback=remains.traceback,
            outputs=[
                OutputResponse(stream=stream, lines=lines)
                for stream, lines in remains.tails.items()
            ],
            not_again=why_not_again(standing, retry, remains.error_type),
        )

    def _earlier(self) -> list[EarlierAttemptResponse]:
        last = None if self._standing.state is ChoreState.BLOCKED else self._standing.attempt
        return [
            EarlierAttemptResponse(attempt=attempt["attempt"], text=_why_again(attempt))
            for attempt in self._attempts
            if attempt["attempt"] != last
        ]


def _terms_of(run: RunDir, row: sqlite3.Row) -> Terms:
    return read_terms(run, row["id"], row["part"], row["offset"], row["length"])


def _relate(row: sqlite3.Row) -> RelatedChoreResponse:
    because = describe_standing(standing_of(row))
    return RelatedChoreResponse(id=row["id"], name=row["name"], state=row["state"], because=because)


def _describe(row: sqlite3.Row) -> str:
    standing = standing_of(row)
    return ", ".join(filter(None, (standing.state.value, describe_standing(standing))))


def _why_again(attempt: sqlite3.Row) -> str:
    """Return why another attempt followed one, as far as the index tells."""
    reason = attempt["reason"]
    if reason is None and attempt["exit_code"] == 0:
        return "completed; its result was found gone or damaged later"
    ended = Standing(
        ChoreState.FAILED,
        reason=None if reason is None else Reason(reason),
        exit_code=attempt["exit_code"],
        detail=attempt["detail"],
    )
    return describe_standing(ended) or "was lost, or asked to be made again"
