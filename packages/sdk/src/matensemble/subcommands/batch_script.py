"""``matensemble batch-script``: a job script that runs or resumes a run."""

from __future__ import annotations

import os
import shlex
from importlib.metadata import entry_points
from pathlib import Path

import click

from matensemble.batch import (
    DEFAULT_CHAIN,
    BatchJob,
    ResourceManager,
    make_script,
    parse_walltime,
)
from matensemble.model import parse_duration
from matensemble.runs import find_run
from matensemble.site import DEFAULT_SITE_FILE, Site, find_site_file, read_site
from matensemble.terminal import clean_line
from matensemble.workdir import RunDir

SUBMIT = {ResourceManager.SLURM: "sbatch", ResourceManager.FLUX: "flux batch"}
SCRIPT_MODE = 0o700


@click.command("batch-script")
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.argument("resume_options", metavar="[-- OPTIONS]", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--site",
    "manager",
    required=True,
    type=click.Choice([str(manager) for manager in ResourceManager]),
    help="Who hands out the nodes.",
)
@click.option("--nodes", required=True, type=click.IntRange(1), metavar="N", help="Whole nodes.")
@click.option(
    "--walltime", required=True, metavar="T", help="How long a job may last: 90m, 2h, 01:30:00."
)
@click.option(
    "--chain",
    is_flag=False,
    flag_value=DEFAULT_CHAIN,
    default=0,
    type=click.IntRange(0),
    metavar="[N]",
    help="Submit the next job when the time is over and the run is not, N times at most.  "
    f"[default: never; without a number: {DEFAULT_CHAIN}]",
)
@click.option(
    "--margin",
    metavar="T",
    help="Time before the end at which nothing more starts.  [default: as `resume` says]",
)
@click.option(
    "--site-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help=f"Account, queue, modules …  [default: $MATENSEMBLE_SITE, else ~/{DEFAULT_SITE_FILE}]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write it to a file that you alone may read and run.  [default: print it]",
)
@click.pass_context
def batch_script(
    ctx: click.Context,
    directory: str,
    resume_options: tuple[str, ...],
    manager: str,
    nodes: int,
    walltime: str,
    chain: int,
    margin: str | None,
    site_file: Path | None,
    output: Path | None,
) -> None:
    """Write a job script that runs or resumes a run.

    DIR is a run directory, or a folder of runs, of which the newest is taken. OPTIONS, behind --,
    are those of `matensemble resume`, such as --drain-signal USR1.

    The job starts Flux where it must, runs what is left of the run, and resumes it after a crash of
    the driver. It ends with the exit code of `matensemble resume`: 75 where the time was over
    before the run.
    """
    from matensemble.workflow import Workflow

    run = find_run(Path(directory))
    _check(ctx, run, resume_options)
    site_path = find_site_file(site_file, os.environ, Path.home())
    job = BatchJob(
        run_dir=run.root,
        manager=ResourceManager(manager),
        num_nodes=nodes,
        walltime=parse_walltime(walltime),
        chain=chain,
        margin=None if margin is None else parse_duration(margin, "margin"),
        resume_options=resume_options,
        reserve_broker_node=Workflow.read(run).manifest.reserve_broker_node,
        site=Site() if site_path is None else read_site(site_path),
    )
    script = make_script(job)
    if output is None:
        click.echo(script, nl=False)
        return
    _write(output, script)
    command = f"{SUBMIT[job.manager]} {shlex.quote(str(output))}"
    click.echo(f"Submit it with: {clean_line(command)}", err=True)


def _check(ctx: click.Context, run: RunDir, options: tuple[str, ...]) -> None:
    """Let `resume` look at its options where it is installed: a job would refuse them hours later.

    Raises
    ------
    click.UsageError
        If it does not take them.
    """
    for entry in entry_points(group="matensemble.commands", name="resume"):
        resume: click.Command = entry.load()
        resume.make_context("resume", [str(run.root), *options], parent=ctx)


def _write(path: Path, script: str) -> None:
    """Write a script; one that stood there is replaced, whatever its mode was.

    Raises
    ------
    click.FileError
        If it cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, SCRIPT_MODE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(descriptor, SCRIPT_MODE)
            stream.write(script)
    except OSError as error:
        raise click.FileError(str(path), error.strerror) from error
