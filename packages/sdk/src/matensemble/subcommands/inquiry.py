"""Hand a request to the driver of a run, and say what became of it.

Owns what the subcommands that control a run share: which chores are meant, whom the request
concerns where nothing drives the run, the words and the exit codes. The rule of what can be done
with which chore is in `matensemble.selection`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import click

from matensemble.control import (
    ANSWER_TIMEOUT_SECONDS,
    Request,
    Selection,
    Verb,
    leave_request,
    make_request,
    wait_for_answer,
    withdraw_request,
)
from matensemble.history import ChoreIndex, find_chores, known_chores
from matensemble.model import ChoreState, Reason
from matensemble.records import RecordKind, read_records
from matensemble.replay import Replay, Standing
from matensemble.report import quote_path
from matensemble.runs import find_run, look_at, why_undriven
from matensemble.selection import Plan, describe_refused, plan
from matensemble.terminal import clean_line, clean_text, plural
from matensemble.workdir import RunDir

EXIT_REFUSED = 1
EXIT_UNANSWERED = 3


def ask(
    directory: str,
    verb: Verb,
    names: Iterable[str] = (),
    *,
    failed: bool = False,
    reason: Reason | None = None,
    everything: bool = False,
    nice: int | None = None,
    seconds: float | None = None,
) -> None:
    """Carry a request to the driver of a run and print its answer.

    Parameters
    ----------
    directory
        A run directory, or a folder of runs.
    verb, nice, seconds
        What to do.
    names
        Chores and groups as the user typed them.
    failed, reason, everything
        Which chores besides, see `Selection`.

    Raises
    ------
    click.exceptions.Exit
        With 1 where nothing was done, 3 where no answer came.
    """
    run = find_run(Path(directory))
    ids, groups = find_chores(run, names)
    selection = Selection(
        chores=tuple(ids), groups=tuple(groups), failed=failed, reason=reason, everything=everything
    )
    request = make_request(verb, selection, nice=nice, seconds=seconds)
    problem = why_undriven(look_at(run))
    if problem is None:
        leave_request(run, request)
        _tell_answer(run, request)
    elif verb.can_wait:
        _leave_for_later(run, request, problem)
    else:
        _refuse(f"nothing was done: {problem}")


def _tell_answer(run: RunDir, request: Request) -> None:
    answer = wait_for_answer(run, request.id)
    if answer is not None:
        if answer.done:
            click.echo(clean_text(answer.text))
            return
        _refuse(answer.text)
    problem = why_undriven(look_at(run))
    if problem is not None and withdraw_request(run, request):
        if not request.verb.can_wait:
            _refuse(f"nothing was done: {problem}")
        _leave_for_later(run, request, problem)
        return
    click.echo(
        f"not answered within {ANSWER_TIMEOUT_SECONDS:.0f} s; it stays in the queue "
        f"({clean_line(run.control_dir)})",
        err=True,
    )
    raise click.exceptions.Exit(EXIT_UNANSWERED)


def _leave_for_later(run: RunDir, request: Request, problem: str) -> None:
    """Check a request by the journal, and leave it for the driver that goes on with the run."""
    board = _RecordBoard(run)
    chosen = plan(request, board)
    refused = describe_refused(request, chosen)
    if not chosen.chores:
        _refuse("\n".join(("nothing was done:", *refused)))
    leave_request(run, request)
    verb = "resume" if run.journal_path.exists() else "run"
    click.echo(f"{_foretell(request, chosen, board)}: matensemble {verb} {quote_path(run.root)}")
    for line in (*refused, f"({problem})"):
        click.echo(clean_text(line), err=True)


def _foretell(request: Request, chosen: Plan, board: _RecordBoard) -> str:
    """Say what will happen when the run goes on."""
    who = plural(len(chosen.chores), "chore")
    match request.verb:
        case Verb.RETRY:
            num = board.count_skipped(chosen.chores)
            pronoun = "it" if len(chosen.chores) == 1 else "them"
            others = f", and {num:,} skipped because of {pronoun}" if num else ""
            return f"{who} will run again{others}"
        case Verb.CANCEL:
            return f"{who} will be cancelled when the run goes on"
        case _:
            return f"{who} will have nice {request.nice} when the run goes on"


def _refuse(text: str) -> NoReturn:
    click.echo(clean_text(text), err=True)
    raise click.exceptions.Exit(EXIT_REFUSED)


_PASSING = tuple(f'"k":"{kind}"'.encode() for kind in (RecordKind.SUBMITTED, RecordKind.STARTED))


def _tells_of_an_end(line: bytes) -> bool:
    """Return whether a record matters to a request; half of them only tell that something runs."""
    return not any(mark in line for mark in _PASSING)


class _RecordBoard:
    """The chores of a run that nothing drives, by its records."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._index = ChoreIndex(run)
        try:
            self._replay = Replay.of(read_records(run, wanted=_tells_of_an_end))
        except FileNotFoundError:  # not started
            self._replay = Replay()

    def standing(self, chore_id: str) -> Standing | None:
        return self._replay.standing(chore_id) if chore_id in self._index else None

    def has_limit(self, chore_id: str) -> bool:
        return self._index[chore_id].resources.duration is not None

    def members(self, group: str) -> Iterable[str]:
        return [chore_id for chore_id, name in known_chores(self._run, group) if name == group]

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def count_skipped(self, chore_ids: Iterable[str]) -> int:
        """Return how many other chores were skipped because of some."""
        ids = set(chore_ids)
        return sum(
            standing.state is ChoreState.SKIPPED and standing.root in ids and chore_id not in ids
            for chore_id, standing in self._replay.standings.items()
        )
