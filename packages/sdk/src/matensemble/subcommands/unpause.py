"""``matensemble unpause``: let a paused run go on."""

from __future__ import annotations

import click

from matensemble.control import Verb
from matensemble.subcommands.inquiry import ask


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False))
def unpause(directory: str) -> None:
    """Let a paused run start chores again.

    DIR is a run directory, or a folder of runs, of which the newest is taken. Exits with 0 when it
    goes on, 1 if that cannot be done, 3 if the driver has not answered within 10 s.
    """
    ask(directory, Verb.UNPAUSE)
