"""The subcommand ``matensemble report DIR``.

Owns its options and where the file goes. Found by `matensemble.cli` through the entry point group
``matensemble.commands``.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import click

from matensemble.errors import RunDirectoryError
from matensemble.runs import find_run
from matensemble.terminal import clean_line, describe_bytes
from matensemble.workdir import FILE_MODE


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="Where to write it; - for standard output.  [default: the run's name with .html]",
)
def report(directory: str, output: Path | None) -> None:
    """Write a run as one HTML file, to keep or to send.

    DIR is a run directory, or a folder of runs, of which the newest is taken. The run may go on or
    be over. The file needs no network and runs nothing; an existing one is replaced.
    """
    from matensemble.dashboard.report.page import write_report

    run = find_run(Path(directory))
    try:
        page = write_report(run)
        if output == Path("-"):
            click.echo(page, nl=False)
            return
        path = output or Path(f"{run.root.name}.html")
        # As private as the run that it shows, until its owner gives it to somebody.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(page)
    except (OSError, sqlite3.Error) as error:
        raise RunDirectoryError(str(run.root), f"no report can be written ({error})") from error
    click.echo(f"{clean_line(path)} ({describe_bytes(len(page))})")
