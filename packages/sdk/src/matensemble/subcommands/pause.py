"""``matensemble pause``: let a run start nothing more."""

from __future__ import annotations

import click

from matensemble.control import Verb
from matensemble.subcommands.inquiry import ask


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False))
def pause(directory: str) -> None:
    """Let a run start nothing more, until `unpause`; what runs goes on.

    DIR is a run directory, or a folder of runs, of which the newest is taken. Exits with 0 when it
    is paused, 1 if that cannot be done, 3 if the driver has not answered within 10 s.
    """
    ask(directory, Verb.PAUSE)
