"""The subcommands ``matensemble run DIR`` and ``matensemble resume DIR``.

Owns their options, their exit codes and what they print at the end. Found by the command line
through the entry point group ``matensemble.commands``; the manager is loaded only when one is
called.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from matensemble.cli import EXIT_DRIVER_FAILED
from matensemble.errors import RunInterruptedError
from matensemble.model import RunState
from matensemble.policy import WORKERS
from matensemble.protocols import EXECUTORS, KEEP, RunOptions, find_runtime
from matensemble.report import COLOURS, describe_counts, describe_failures, run_seconds
from matensemble.runs import find_run, read_status_of
from matensemble.status import RunStatus
from matensemble.terminal import clean_line, describe_seconds
from matensemble.workdir import RunDir

EXIT_FAILED = 1
MAX_FAILURES = 10

_DIRECTORY = click.argument(
    "directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
_OPTIONS = (
    click.option(
        "--executor",
        type=click.Choice(EXECUTORS),
        help="Where chores run.  [default: $MATENSEMBLE_EXECUTOR, else auto: Flux where an "
        "instance of yours answers, else this machine]",
    ),
    click.option(
        "--cores",
        type=click.IntRange(1),
        metavar="N",
        help="Cores of the local executor.  [default: $MATENSEMBLE_CORES, else all that are "
        "usable]",
    ),
    click.option(
        "--gpus",
        type=click.IntRange(0),
        metavar="N",
        help="GPUs of the local executor.  [default: $MATENSEMBLE_GPUS, else all that are visible]",
    ),
    click.option("--non-adaptive", is_flag=True, help="Start in waves: end one before the next."),
    click.option("--fail-fast", is_flag=True, help="Stop the run at the first failure."),
    click.option(
        "--max-failures",
        type=click.IntRange(1),
        metavar="N",
        help="Stop the run at the N-th failure.  [default: never]",
    ),
    click.option(
        "--keep",
        type=click.Choice(KEEP),
        default="all",
        show_default=True,
        help="Which files of chores that ended stay: all; failed: of completed chores the results "
        "only; results: of failed ones also only the error and the ends of stdout and stderr.",
    ),
    click.option(
        "--workers",
        type=click.Choice(WORKERS),
        help="What runs chores: warm workers that serve one after the other (pool), a job of its "
        "own for each (job), or what suits each group by how long its chores take (auto).  "
        "[default: as before, where a run is resumed; else auto]",
    ),
    click.option(
        "--recycle-after",
        type=click.IntRange(0),
        metavar="N",
        help="Python chores after which a warm worker takes a fresh process; 0: never.  "
        "[default: as before, where a run is resumed; else 0]",
    ),
    click.option(
        "--walltime",
        metavar="TIME",
        help="Time left in the allocation, such as 4h or 90m.  [default: as the allocation says]",
    ),
    click.option(
        "--margin",
        metavar="TIME",
        help="Time before that end at which nothing more starts and what runs is signalled.  "
        "[default: 60s, or a tenth of the time left where that is less]",
    ),
    click.option(
        "--drain-signal",
        metavar="SIGNAL",
        help="Signal, such as USR1, that tells what runs of that end.  [default: none]",
    ),
    click.option(
        "--mpi-pmi",
        metavar="NAME",
        default="pmi2",
        show_default=True,
        help="How MPI chores find each other on Flux: its shell option pmi.",
    ),
    click.option(
        "--path",
        "script_dir",
        metavar="PATH",
        type=click.Path(exists=True, file_okay=False, path_type=Path, resolve_path=True),
        help="Folder of helper modules, appended to the import path of the workers.",
    ),
    click.option(
        "--log-delay",
        type=click.FloatRange(0),
        metavar="SECONDS",
        default=5.0,
        show_default=True,
        help="Least time between two lines of progress.",
    ),
    click.option(
        "--progress/--no-progress",
        default=True,
        help="Show progress on stderr: a live picture on a terminal, else lines.  [default: show]",
    ),
    click.option("--dashboard", is_flag=True, help="Serve the dashboard while the run goes."),
)
"""How a run is driven, whether from its beginning or from where it stopped."""


def _with_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command()
@_DIRECTORY
@_with_options
def run(directory: Path, **chosen: Any) -> None:
    """Run a saved pipeline here, and wait for its end.

    DIR is the run directory that `pipe.save()` wrote. It can be run once (`matensemble resume`
    goes on with it); what it needs is the Python and cloudpickle that it was saved with.

    Ctrl-C once ends what runs and leaves a truthful status; twice leaves at once. Exits with 0 if
    all chores completed (or are such whose failure is ignored), 1 if some failed, 2 if the run
    could not be started, 70 if its driver could not go on (the executor was lost …), 75 if the
    time of the allocation was over before its end, 130 if it was interrupted.
    """
    _drive(RunDir(directory.absolute()), _options(chosen))


@click.command()
@_DIRECTORY
@_with_options
@click.option(
    "--takeover",
    is_flag=True,
    help="Take the run from a driver that may be alive, without waiting whether it is.",
)
@click.option(
    "--recover", is_flag=True, help="Go on behind damaged lines of the journal of the run."
)
def resume(directory: Path, **chosen: Any) -> None:
    """Go on with a run that ended early, and wait for its end.

    DIR is a run directory, or a folder of runs, of which the newest is taken. Chores that
    completed are not run again. Those that were running are looked up where they run, and what
    cannot be found there runs again. A run that was saved only is started.

    A run whose driver is alive is refused. Ctrl-C and the exit codes are those of `matensemble
    run`.
    """
    _drive(find_run(directory), _options(chosen, resume=True))


def _options(chosen: dict[str, Any], *, resume: bool = False) -> RunOptions:
    """Return the settings that were chosen; those that are text are judged there."""
    adaptive = not chosen.pop("non_adaptive")
    return RunOptions(**chosen, adaptive=adaptive, resume=resume)


def _drive(run_dir: RunDir, options: RunOptions) -> None:
    """Run to the end; raises `Exit` where a failure is left that nobody ignores."""
    try:
        find_runtime().run(run_dir.root, options)
    except RunInterruptedError:
        _summarise(run_dir)
        raise
    status = _summarise(run_dir)
    if status is None:
        click.echo(
            f"Error: the run in {clean_line(run_dir.root)} has ended as its journal tells, but its "
            "status could not be written. Bring it up to date with: matensemble resume",
            err=True,
        )
        raise click.exceptions.Exit(EXIT_DRIVER_FAILED)
    if status.state is not RunState.COMPLETED:
        raise click.exceptions.Exit(EXIT_FAILED)


def _summarise(run_dir: RunDir) -> RunStatus | None:
    """Print how the run ended and what to do next; None where its end could not be published."""
    status = read_status_of(run_dir)
    if status is None or not status.state.is_terminal:
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
