"""``matensemble list``: the runs in a folder."""

from __future__ import annotations

from pathlib import Path

import click

from matensemble.errors import FormatError, RunDirectoryError
from matensemble.runs import list_runs, look_at, seconds_since
from matensemble.terminal import clean_line, describe_seconds, plural, table
from matensemble.workdir import RunDir

MAX_RUNS = 50


@click.command("list")
@click.argument(
    "root", metavar="[ROOT]", default=".", type=click.Path(exists=True, file_okay=False)
)
def list_(root: str) -> None:
    """List the runs in a folder, newest first.

    ROOT is the folder; by default it is the current one. At most 50 runs are shown.
    """
    runs = list_runs(Path(root))
    if not runs:
        click.echo(f"no runs in {click.format_filename(root)}")
        return
    header = ("Run", "State", "Chores", "Completed", "Failed", "Saved")
    for line in table(header, [_row(run) for run in runs[:MAX_RUNS]], left=2):
        click.echo(line)
    if len(runs) > MAX_RUNS:
        click.echo(f"… and {plural(len(runs) - MAX_RUNS, 'older run')}")


def _row(run: RunDir) -> tuple[str, ...]:
    """Return one line; a run that cannot be read is listed as such, the others are not hurt."""
    from matensemble.workflow import Workflow

    name = clean_line(run.root.name)
    try:
        manifest = Workflow.read(run).manifest
        look = look_at(run, patience=0)
    except (FormatError, RunDirectoryError):
        return name, "unreadable", "", "", "", ""
    age = seconds_since(manifest.created_at)
    saved = f"{describe_seconds(age)} ago" if age is not None else ""
    state = "not started" if look.status is None else look.status.state.value
    if look.lost is not None:
        state = "lost"
    elif look.successor is not None:
        state = "starting"
    if look.status is None:
        return name, state, f"{manifest.num_chores:,}", "", "", saved
    counts = look.status.counts
    return name, state, f"{counts.total:,}", f"{counts.completed:,}", f"{counts.failed:,}", saved
