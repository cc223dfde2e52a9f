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
from matensemble.runs import find_run, read_status_of, why_lost
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
        seen = read_status_of(run)
        lost = why_lost(seen) if seen is not None else None
        if as_json:
            click.echo(_as_json(run, seen))
        elif watch and sys.stdout.isatty():
            room = shutil.get_terminal_size().lines
            lines = _as_lines(run, seen, lost, max(room - 20, 3), WATCH_MAX_FAILURES)
            click.echo(CLEAR_SCREEN + "\n".join(lines))
        else:
            click.echo("\n".join(_as_lines(run, seen, lost)))
        is_over = seen is not None and (seen.state.is_terminal or lost is not None)
        if not watch or is_over:
            return
        time.sleep(WATCH_INTERVAL_SECONDS)


def _as_json(run: RunDir, seen: RunStatus | None) -> str:
    if seen is None:
        raise RunDirectoryError(str(run.root), "has no status yet: it was not started")
    return json.dumps(seen.to_json())


def _as_lines(
    run: RunDir,
    seen: RunStatus | None,
    lost: str | None,
    max_groups: int = report.MAX_GROUPS,
    max_failures: int = MAX_ROOT_FAILURES,
) -> list[str]:
    if seen is not None:
        now = datetime.now(UTC)
        return report.describe_status(
            seen, run, now, lost, max_groups=max_groups, max_failures=max_failures
        )
    from matensemble.workflow import Workflow

    manifest = Workflow.read(run).manifest
    groups = {name: Counts(total=n, pending=n) for name, n in manifest.groups.items()}
    total = manifest.num_chores
    state = "is being started" if run.journal_path.exists() else "saved, not started"
    return [
        f"Run      {clean_line(run.root.name)}",
        f"Folder   {clean_line(run.root.parent)}",
        f"State    {state}",
        f"Saved    {clean_line(manifest.created_at)}, with Python "
        f"{clean_line(manifest.versions.get('python', '?'))}",
        "",
        *report.describe_groups(groups, Counts(total=total, pending=total), max_groups),
        "",
        f"To run it: matensemble run {report.quote_path(run.root)}",
    ]
