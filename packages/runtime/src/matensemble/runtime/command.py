"""The subcommand ``matensemble run DIR``.

Owns its options, its exit code and what it prints at the end. Found by the command line through the
entry point group ``matensemble.commands``; the manager is loaded only when it is called.
"""

from __future__ import annotations

from pathlib import Path

import click

from matensemble.errors import RunInterruptedError
from matensemble.protocols import EXECUTORS, RunOptions, find_runtime
from matensemble.report import COLOURS, describe_counts, describe_failures, run_seconds
from matensemble.runs import read_status_of
from matensemble.status import RunStatus
from matensemble.terminal import clean_line, describe_seconds
from matensemble.workdir import RunDir

EXIT_FAILED = 1
MAX_FAILURES = 10


@click.command()
@click.argument(
    "directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "--executor",
    type=click.Choice(EXECUTORS),
    help="Where chores run.  [default: $MATENSEMBLE_EXECUTOR, else auto: Flux where an instance "
    "of yours answers, else this machine]",
)
@click.option(
    "--cores",
    type=click.IntRange(1),
    metavar="N",
    help="Cores of the local executor.  [default: $MATENSEMBLE_CORES, else all that are usable]",
)
@click.option(
    "--gpus",
    type=click.IntRange(0),
    metavar="N",
    help="GPUs of the local executor.  [default: $MATENSEMBLE_GPUS, else all that are visible]",
)
@click.option("--non-adaptive", is_flag=True, help="Start in waves: end one before the next.")
@click.option("--fail-fast", is_flag=True, help="Stop the run at the first failure.")
@click.option(
    "--path",
    "script_dir",
    metavar="PATH",
    type=click.Path(exists=True, file_okay=False, path_type=Path, resolve_path=True),
    help="Folder of helper modules, appended to the import path of the workers.",
)
@click.option(
    "--log-delay",
    type=click.FloatRange(0),
    metavar="SECONDS",
    default=5.0,
    show_default=True,
    help="Least time between two lines of progress.",
)
@click.option(
    "--progress/--no-progress",
    default=True,
    help="Show progress on stderr: a live picture on a terminal, else lines.  [default: show]",
)
@click.option("--dashboard", is_flag=True, help="Serve the dashboard while the run goes.")
def run(
    directory: Path,
    executor: str | None,
    cores: int | None,
    gpus: int | None,
    non_adaptive: bool,
    fail_fast: bool,
    script_dir: Path | None,
    log_delay: float,
    progress: bool,
    dashboard: bool,
) -> None:
    """Run a saved pipeline here, and wait for its end.

    DIR is the run directory that `pipe.save()` wrote. It can be run once; what it needs is the
    Python and cloudpickle that it was saved with.

    Ctrl-C once ends what runs and leaves a truthful status; twice leaves at once. Exits with 0 if
    all chores completed, 1 if some failed, 2 if the run could not be started, 130 if it was
    interrupted.
    """
    options = RunOptions(
        executor=executor,
        cores=cores,
        gpus=gpus,
        adaptive=not non_adaptive,
        fail_fast=fail_fast,
        log_delay=log_delay,
        progress=progress,
        dashboard=dashboard,
        script_dir=script_dir,
    )
    run_dir = RunDir(directory.absolute())
    try:
        find_runtime().run(run_dir.root, options)
    except RunInterruptedError:
        _summarise(run_dir)
        raise
    status = _summarise(run_dir)
    if status is None or status.counts.completed < status.counts.total:
        raise click.exceptions.Exit(EXIT_FAILED)


def _summarise(run_dir: RunDir) -> RunStatus | None:
    """Print how the run ended and what to do next."""
    status = read_status_of(run_dir)
    if status is None:
        return None
    took = run_seconds(status)
    state = click.style(status.state.value, fg=COLOURS[status.state], bold=True)
    after = f", after {describe_seconds(took)}" if took is not None else ""
    click.echo(f"{state}: {describe_counts(status.counts)}{after}")
    for line in describe_failures(status, run_dir, MAX_FAILURES):
        click.echo(line)
    if status.counts.completed:
        click.echo(f"Results in {clean_line(run_dir.root)} (read by Pipeline.load)")
    return status
