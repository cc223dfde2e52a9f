"""Why a chore waits, failed, ran again, or was not run.

Owns the answer to one question about one chore, from the records of its run alone: it asks nobody,
so it works from any host, on a run that goes on or is over. The words on the screen are those of
``matensemble explain``, its caller. Arguments are previewed, which loads nothing that they name.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from matensemble.chronicle import Attempt, Chronicle
from matensemble.history import ChoreIndex
from matensemble.model import ChoreState, Resources
from matensemble.policy import is_satisfied
from matensemble.preview import preview_arguments
from matensemble.records import JournalRecord, about, read_records
from matensemble.replay import UNTOUCHED, Replay
from matensemble.results import read_error_record
from matensemble.reuse import why_not_reused
from matensemble.runs import look_at
from matensemble.standing import describe_standing
from matensemble.terminal import describe_seconds
from matensemble.waiting import (
    describe_hold,
    describe_order,
    describe_request,
    describe_room,
    why_not_again,
)
from matensemble.workdir import ERROR, STDERR, STDOUT, RunDir
from matensemble.workflow import Workflow

MAX_NAMED = 5
MAX_CHAIN = 10
MAX_ANCESTORS = 10_000
"""So many chores upstream are looked at, at most."""
MAX_TAIL_BYTES = 8192
MAX_TAIL_LINES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The end of what a chore printed."""

    path: str
    """The file."""
    lines: tuple[str, ...]
    """The last ones that hold anything, at most 12."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How a chore failed."""

    chore_id: str
    """Which one: the chore itself, or the root of those that were skipped."""
    reason: str
    """Reason code."""
    exit_code: int | None
    """Of its processes; None where none ended."""
    detail: str
    """One line for people."""
    traceback: str
    """The remote traceback of a Python chore; empty where there is none."""
    outputs: tuple[Output, ...]
    """The end of stderr and stdout, where they hold anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What the records say of one chore."""

    chore_id: str
    """Its id."""
    group: str
    """Its name."""
    kind: str
    """`python` or `executable`."""
    state: str
    """Where it stands; `ready` where only resources, or a pause, can hold it."""
    because: tuple[str, ...]
    """Why, the most important first; one line each."""
    chain: tuple[str, ...]
    """Chores from this one up to the root of its failure, or to what it waits for in the end."""
    failure: Failure | None
    """Where it, or the root of its being skipped, failed."""
    attempts: tuple[Attempt, ...]
    """All that were begun."""
    remarks: tuple[str, ...]
    """What befell it besides, oldest first."""
    call: str
    """What is run: function and arguments as far as they can be shown, or command."""
    resources: str
    """What it asks for now."""
    environment: tuple[str, ...]
    """Names of the variables that it sets, in order."""
    not_reused: str
    """Why it runs although results of an earlier run were to be reused; empty where it was reused,
    or nobody asked for that."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values, for programs."""
        return asdict(self)


def explain_chore(run: RunDir, chore_id: str, now: datetime) -> Explanation:
    """Return why a chore is where it is.

    O(chores + records of the run), most of which are looked at without being decoded.

    Parameters
    ----------
    run
        The run.
    chore_id
        One of its chores, see `history.find_chore`.
    now
        This instant, aware.

    Raises
    ------
    FormatError, RunDirectoryError
        If the records cannot be read.
    """
    return _Explainer(run, chore_id, now).explain()


class _Explainer:
    """What is known of a run, as far as it concerns one chore."""

    def __init__(self, run: RunDir, chore_id: str, now: datetime) -> None:
        self._run = run
        self._now = now
        self._workflow = Workflow.read(run)
        self._index = ChoreIndex(run)
        self._chore = self._index[chore_id]
        records: list[JournalRecord] = []
        with suppress(FileNotFoundError):  # not started
            records = list(read_records(run, wanted=about(chore_id)))
        self._chronicle = Chronicle.of(chore_id, self._chore.name, records)
        self._replay = Replay.of(records)
        self._standing = self._replay.standing(chore_id)
        look = look_at(run)
        self._status, self._lost = look.status, look.lost
        self._standings = {chore_id: self._standing}
        if self._standing.state in (ChoreState.BLOCKED, ChoreState.SKIPPED):
            self._learn_of_ancestors()

    def _learn_of_ancestors(self) -> None:
        """Fold the records of everything upstream."""
        ids = self._ancestors()
        try:
            standings = Replay.of(read_records(self._run, wanted=about(*ids))).standings
        except FileNotFoundError:
            standings = {}
        self._standings.update((i, standings.get(i, UNTOUCHED)) for i in ids)

    def _ancestors(self) -> list[str]:
        """Return the chores upstream, nearest first, and the root where it was skipped."""
        found = dict.fromkeys(self._chore.upstream)
        if self._standing.root is not None and self._standing.root in self._index:
            found[self._standing.root] = None
        level = list(found)
        while level and len(found) < MAX_ANCESTORS:
            above = dict.fromkeys(up for i in level for up in self._index[i].upstream)
            level = [chore_id for chore_id in above if chore_id not in found]
            found.update(dict.fromkeys(level))
        return list(found)

    def explain(self) -> Explanation:
        standing, chore = self._standing, self._chore
        state, failure = standing.state.value, None
        chain: tuple[str, ...] = (chore.id,)
        because: tuple[str, ...]
        match standing.state:
            case ChoreState.BLOCKED:
                state, because, chain = self._why_pending()
            case ChoreState.SKIPPED:
                chain = self._way_to(standing.root or "")
                because = (f"{standing.root}, which it depends on, has no result",)
                failure = self._failure(standing.root or "")
            case ChoreState.FAILED:
                because = self._why_failed()
                failure = self._failure(chore.id)
            case ChoreState.SUBMITTED:
                taker = "a warm worker" if self._is_pooled else "the executor"
                because = (f"handed to {taker}, which has not started it yet",)
                because += self._why_nothing_happens()
            case ChoreState.RUNNING:
                because = tuple(filter(None, (self._how_it_runs(), *self._why_nothing_happens())))
            case _:
                because = tuple(filter(None, [describe_standing(standing)]))
        return Explanation(
            chore_id=chore.id,
            group=chore.name,
            kind=chore.kind.value,
            state=state,
            because=because,
            chain=chain,
            failure=failure,
            attempts=tuple(self._with_directories()),
            remarks=tuple(self._chronicle.remarks),
            call=self._describe_call(),
            resources=self._resources().describe(),
            environment=self._environment(),
            not_reused=why_not_reused(self._run, chore.id) or "",
        )

    # --- pending ------------------------------------------------------------------------------

    def _why_pending(self) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """Return state, reasons, and the way up to what it waits for in the end."""
        waits_for = [i for i in self._chore.upstream if not self._is_satisfied(i)]
        general = self._why_nothing_happens()
        if waits_for:
            named = [f"{i} ({self._describe(i)})" for i in waits_for[:MAX_NAMED]]
            more = len(waits_for) - len(named)
            first = f"waits for {', '.join(named)}" + (f" and {more:,} more" if more else "")
            num = len(self._chore.upstream)
            if num > 1:
                first += f"; {num - len(waits_for):,} of the {num:,} it depends on are done"
            return "blocked", (first, *general), self._way_up(waits_for[0])
        alone = (self._chore.id,)
        wait = self._chronicle.wait
        if wait is not None and (left := wait.until - self._now.timestamp()) > 0:
            text = f"waits {describe_seconds(wait.seconds)} before it is tried again"
            return "blocked", (f"{text}, {describe_seconds(left)} of it left", *general), alone
        if self._chore.gathers and not self._chronicle.attempts:
            return "blocked", (self._describe_gather(), *general), alone
        return "ready", (*general, *self._why_no_room()), alone

    def _is_satisfied(self, chore_id: str) -> bool:
        state = self._standings.get(chore_id, UNTOUCHED).state
        if state is ChoreState.BLOCKED:
            return False  # without looking for its header
        return is_satisfied(state, self._index[chore_id].policy.on_failure)

    def _describe(self, chore_id: str) -> str:
        standing = self._standings.get(chore_id, UNTOUCHED)
        because = describe_standing(standing)
        return standing.state.value + (f", {because}" if because else "")

    def _way_up(self, chore_id: str) -> tuple[str, ...]:
        """Return the way from this chore to the first that waits for no other."""
        way = [self._chore.id, chore_id]
        while len(way) < MAX_CHAIN and self._standings.get(way[-1], UNTOUCHED).state is (
            ChoreState.BLOCKED
        ):
            above = (i for i in self._index[way[-1]].upstream if not self._is_satisfied(i))
            higher = next(above, None)
            if higher is None:
                break
            way.append(higher)
        return tuple(way)

    def _describe_gather(self) -> str:
        groups = " and ".join(repr(name) for name in self._chore.gathers)
        text = f"gathers the results of {groups}: waits until all chores of an earlier stage ended"
        counts = self._status.groups if self._status is not None else {}
        for name in self._chore.gathers:
            if name in counts:
                group = counts[name]
                ended = group.completed + group.failed + group.cancelled
                text += f"; {ended:,} of {group.total:,} of {name!r} have"
        return text

    def _why_nothing_happens(self) -> tuple[str, ...]:
        """Return what holds up every chore of the run; nothing where it goes on."""
        status = self._status
        goes_on = self._lost is None and status is not None and not status.state.is_terminal
        if self._standing.is_live and goes_on:
            return ()  # a chore that runs goes on, whatever else does not
        text = describe_hold(
            status,
            self._lost,
            has_begun=self._run.journal_path.exists(),
            paused_by=self._chronicle.hold.who if self._chronicle.hold is not None else "",
        )
        return (text,) if text else ()

    def _why_no_room(self) -> tuple[str, ...]:
        """Return what it asks for against what there is."""
        standing, status = self._standing, self._status
        lines = describe_request(
            self._resources(),
            has_attempts=bool(self._chronicle.attempts),
            has_upstream=bool(self._chore.upstream),
            avoid=standing.avoid,
        )
        if status is not None and not status.state.is_terminal:
            lines.append(describe_room(status, self._replay.run_started.get("nodes")))
            nice = standing.nice if standing.nice is not None else self._chore.nice
            lines += describe_order(nice, self._resources().duration)
        return tuple(lines)

    def _resources(self) -> Resources:
        """Return what it asks for now."""
        changed = self._standing.resources
        return self._chore.resources if changed is None else Resources.from_json(changed)

    # --- failed -------------------------------------------------------------------------------

    def _why_failed(self) -> tuple[str, ...]:
        standing = self._standing
        error_type = read_error_record(self._run.chore_file(self._chore.id, ERROR)).get("type", "")
        not_again = why_not_again(standing, self._chore.policy.retry, error_type)
        return tuple(filter(None, (describe_standing(standing), not_again)))

    def _failure(self, chore_id: str) -> Failure | None:
        standing = self._standings.get(chore_id, UNTOUCHED)
        if standing.reason is None or chore_id not in self._index:
            return None
        remote = read_error_record(self._run.chore_file(chore_id, ERROR))
        paths = (self._run.chore_file(chore_id, name) for name in (STDERR, STDOUT))
        return Failure(
            chore_id=chore_id,
            reason=standing.reason.value,
            exit_code=standing.exit_code,
            detail=standing.detail,
            traceback=remote.get("traceback", ""),
            outputs=tuple(
                Output(path=str(path), lines=lines) for path in paths if (lines := read_tail(path))
            ),
        )

    def _way_to(self, root: str) -> tuple[str, ...]:
        """Return a shortest way from this chore up to the root of its being skipped."""
        below = {self._chore.id: ""}
        level = [self._chore.id]
        while level and root not in below:
            found = [(up, i) for i in level for up in self._index[i].upstream if up not in below]
            below.update(found[::-1])
            level = list(dict(found))
        way = [root]
        while below.get(way[-1]):
            way.append(below[way[-1]])
        return tuple(way[::-1]) if way[-1] == self._chore.id else (self._chore.id, root)

    # --- what is run --------------------------------------------------------------------------

    def _describe_call(self) -> str:
        """Say what is run: it stands in no file of a chore that ran on a warm worker."""
        chore = self._chore
        arguments = preview_arguments(self._workflow, chore)
        if chore.callable is not None:
            return f"{chore.callable}({arguments or ''})"
        # Of a command with arguments the header holds a preview, which is redacted as well.
        return shlex.join(chore.command or ())

    def _environment(self) -> tuple[str, ...]:
        return tuple(sorted(self._workflow.read_env(self._chore.env_place) or ()))

    # --- attempts -----------------------------------------------------------------------------

    @property
    def _is_pooled(self) -> bool:
        """Whether its latest attempt went to a warm worker."""
        attempts = self._chronicle.attempts
        return bool(attempts) and attempts[-1].is_pooled

    def _how_it_runs(self) -> str:
        attempts = self._chronicle.attempts
        started_at = attempts[-1].started_at if attempts else None
        words = []
        if started_at is not None:
            words.append(f"for {describe_seconds(self._now.timestamp() - started_at)}")
        if self._standing.host:
            words.append(f"on {self._standing.host}")
        if self._is_pooled:
            words.append("by a warm worker")
        if (limit := self._resources().duration) is not None:
            words.append(f"with a limit of {describe_seconds(limit)}")
        return " ".join(words)

    def _with_directories(self) -> Iterable[Attempt]:
        latest = self._standing.attempt
        for attempt in self._chronicle.attempts:
            path = self._run.attempt_dir(self._chore.id, attempt.number)
            if not path.is_dir() and attempt.number == latest:
                path = self._run.chore_dir(self._chore.id)
            yield replace(attempt, directory=str(path) if path.is_dir() else "")


def read_tail(path: Path) -> tuple[str, ...]:
    """Return the last lines of a file that a chore wrote; none where it cannot be read.

    Follows no link and waits for no pipe: a chore could have left either in its place.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except OSError:
        return ()
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        return ()
    with os.fdopen(descriptor, "rb") as file:
        file.seek(max(status.st_size - MAX_TAIL_BYTES, 0))
        text = file.read(MAX_TAIL_BYTES).decode(errors="replace")
    lines = [line for line in text.split("\n") if line.strip()]
    return tuple(lines[-MAX_TAIL_LINES:])
