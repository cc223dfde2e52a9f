"""``matensemble explain``: why a chore waits, failed or ran again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from matensemble.history import find_chore
from matensemble.report import quote_path
from matensemble.runs import find_run
from matensemble.terminal import clean_line, clean_text, describe_seconds

if TYPE_CHECKING:
    from matensemble.chronicle import Attempt
    from matensemble.explanation import Explanation, Failure
    from matensemble.workdir import RunDir

WORDS = {
    "blocked": "is blocked",
    "ready": "is ready to start",
    "submitted": "was submitted",
    "running": "runs",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "was cancelled",
    "skipped": "was skipped",
}
COLOURS = {"completed": "green", "failed": "red", "skipped": "red", "running": "cyan"}
INDENT = "  "


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.argument("chore", metavar="CHORE")
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object, on one line.")
def explain(directory: str, chore: str, as_json: bool) -> None:
    """Say why a chore waits, failed, ran again, or was not run.

    DIR is a run directory, or a folder of runs, of which the newest is taken. CHORE is an id, or
    the beginning of an id or of a name where that fits one chore only. It reads the records only:
    the run may go on or be over, on whatever host.
    """
    from matensemble.explanation import explain_chore

    run = find_run(Path(directory))
    explanation = explain_chore(run, find_chore(run, chore), datetime.now(UTC))
    if as_json:
        click.echo(json.dumps(explanation.to_json()))
        return
    for line in describe(explanation, run):
        click.echo(line)


def describe(explanation: Explanation, run: RunDir) -> Iterator[str]:
    """Yield the lines for a terminal; every text of the run is cleaned."""
    state = explanation.state
    chore_id = clean_line(explanation.chore_id)
    yield f"{chore_id} {click.style(WORDS[state], fg=COLOURS.get(state, 'yellow'), bold=True)}"
    yield from (INDENT + clean_line(text) for text in explanation.because)
    if explanation.not_reused:
        yield f"{INDENT}no earlier result was reused: {clean_line(explanation.not_reused)}"
    if len(explanation.chain) > 2:
        yield INDENT + clean_line(" ← ".join(explanation.chain))
    yield ""
    yield "What it runs:"
    yield INDENT + clean_line(explanation.call)
    sets = f", and sets {', '.join(explanation.environment)}" if explanation.environment else ""
    yield f"{INDENT}asks for {clean_line(explanation.resources + sets)}"
    if explanation.attempts:
        yield ""
        yield "Attempts:"
        for attempt in explanation.attempts:
            yield from _describe_attempt(attempt, run)
    if explanation.remarks:
        yield ""
        yield "Besides:"
        yield from (INDENT + clean_line(text) for text in explanation.remarks)
    if explanation.failure is not None:
        is_own = explanation.failure.chore_id == explanation.chore_id
        yield from _describe_failure(explanation.failure, run, is_own)
    if state in ("failed", "cancelled", "skipped"):
        yield ""
        yield f"To run it again: matensemble retry {quote_path(run.root)} {chore_id}"


def _describe_attempt(attempt: Attempt, run: RunDir) -> Iterator[str]:
    text = "ended" if attempt.outcome == "requeued" else attempt.outcome
    if attempt.seconds is not None:
        text += f" after {describe_seconds(attempt.seconds)}"
    if attempt.host:
        text += f" on {attempt.host}"
    if attempt.is_pooled:
        text += " (warm worker)"
    why = attempt.reason
    if attempt.exit_code:
        why += f" (exit code {attempt.exit_code})"
    number = f"{INDENT}{attempt.number:>2}  "
    yield number + clean_line(": ".join(filter(None, (text, why, attempt.detail))))
    indent = " " * len(number)
    if attempt.then:
        yield indent + clean_line(attempt.then)
    if attempt.directory:
        yield f"{indent}files in {_relative(attempt.directory, run)}"


def _relative(path: str, run: RunDir) -> str:
    """Return a path below the run directory, which the user has just typed."""
    return clean_line(os.path.relpath(path, run.root))


def _describe_failure(failure: Failure, run: RunDir, is_own: bool) -> Iterator[str]:
    chore_id = clean_line(failure.chore_id)
    if not is_own:  # else it was said above
        code = "" if failure.exit_code is None else f" (exit code {failure.exit_code})"
        reason = click.style(clean_line(failure.reason), fg="red")
        detail = f": {clean_line(failure.detail)}" if failure.detail else ""
        yield ""
        yield f"{chore_id} failed: {reason}{code}{detail}"
    told = set()
    if failure.traceback:
        text = clean_text(failure.traceback).rstrip().splitlines()
        told = {line.strip() for line in text}
        if is_own:
            yield ""
        yield from (INDENT + line for line in text)
    for output in failure.outputs:
        # The worker writes the traceback to stderr too, and the driver the failure.
        lines = [_last_step(line) for line in output.lines if line.strip() not in told]
        lines = [line for line in lines if not line.startswith(f"[matensemble] {chore_id} failed")]
        if lines:
            yield ""
            yield f"Last lines of {_relative(output.path, run)}:"
            yield from (INDENT + line for line in lines)


def _last_step(line: str) -> str:
    """Return a line as a terminal would leave it: of a progress bar, its last step."""
    return clean_text(line).rstrip().rpartition("\n")[2]
