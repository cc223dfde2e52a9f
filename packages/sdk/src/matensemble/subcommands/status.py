"""``matensemble status``: where a run stands."""

from __future__ import annotations

import json
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from matensemble import report
from matensemble.errors import RunDirectoryError
from matensemble.model import RunState
from matensemble.runs import Look, find_run, look_at
from matensemble.status import MAX_ROOT_FAILURES, Counts, RunStatus
from matensemble.terminal import clean_line
from matensemble.workdir import RunDir

WATCH_INTERVAL_SECONDS = 1.0
WATCH_MAX_FAILURES = 3
CLEAR_SCREEN = "\x1b[H\x1b[2J"


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print status.json, checked, on one line.")
@click.option("--watch", is_flag=True, help="Print it again each second, until the run has ended.")
def status(directory: str, as_json: bool, watch: bool) -> None:
    """Show where a run stands.

    DIR is a run directory, or a folder of runs, of which the newest is shown. Exits with 0 if that
    can be shown, however the run goes.
    """
    run = find_run(Path(directory))
    while True:
        look = look_at(run)
        if as_json:
            click.echo(_as_json(run, look.status))
        elif watch and sys.stdout.isatty():
            room = shutil.get_terminal_size().lines
            lines = _as_lines(run, look, max(room - 20, 3), WATCH_MAX_FAILURES)
            click.echo(CLEAR_SCREEN + "\n".join(lines))
        else:
            click.echo("\n".join(_as_lines(run, look)))
        if not watch or _is_over(look):
            return
        time.sleep(WATCH_INTERVAL_SECONDS)


def _is_over(look: Look) -> bool:
    """Return whether nothing more will happen unless somebody resumes the run."""
    if look.lost is not None:
        return True
    return look.status is not None and look.status.state.is_terminal and look.successor is None


def _as_json(run: RunDir, seen: RunStatus | None) -> str:
    if seen is None:
        raise RunDirectoryError(str(run.root), "has no status yet: it was not started")
    return json.dumps(seen.to_json())


def _as_lines(
    run: RunDir,
    look: Look,
    max_groups: int = report.MAX_GROUPS,
    max_failures: int = MAX_ROOT_FAILURES,
) -> list[str]:
    if look.status is None:
        lines = _describe_unstarted(run, look, max_groups)
    else:
        lines = report.describe_status(
            look.status,
            run,
            datetime.now(UTC),
            look.lost,
            max_groups=max_groups,
            max_failures=max_failures,
        )
    return lines + _describe_next(run, look)


def _describe_unstarted(run: RunDir, look: Look, max_groups: int) -> list[str]:
    from matensemble.workflow import Workflow

    manifest = Workflow.read(run).manifest
    groups = {name: Counts(total=n, pending=n) for name, n in manifest.groups.items()}
    total = manifest.num_chores
    state = "saved, not started"
    if look.lost is not None:
        state = f"its start was cut short: {clean_line(look.lost)}"
    elif look.successor is not None:
        state = f"is being started by {clean_line(look.successor.describe())}"
    return [
        f"Run      {clean_line(run.root.name)}",
        f"Folder   {clean_line(run.root.parent)}",
        f"State    {state}",
        f"Saved    {clean_line(manifest.created_at)}, with Python "
        f"{clean_line(manifest.versions.get('python', '?'))}",
        "",
        *report.describe_groups(groups, Counts(total=total, pending=total), max_groups),
    ]


def _describe_next(run: RunDir, look: Look) -> list[str]:
    """Return what to do with a run that stands still, ready to be copied."""
    folder = report.quote_path(run.root)
    if look.owner is None and look.status is None:
        return ["", f"To run it: matensemble run {folder}"]
    if look.successor is not None:
        who = clean_line(look.successor.describe())
        word = f"{who} has taken it over, and has not published yet where it stands"
        return ["", word] if look.status is not None else []
    is_at_rest = look.status is None or look.status.state is RunState.INTERRUPTED
    if is_at_rest or look.lost is not None:
        return ["", f"To go on with it: matensemble resume {folder}"]
    return []
