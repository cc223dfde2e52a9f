"""``matensemble prioritise``: change the order of chores that have not started."""

from __future__ import annotations

import click

from matensemble.control import Verb
from matensemble.model import NICE_RANGE
from matensemble.subcommands.inquiry import ask


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.argument("chores", metavar="CHORE|GROUP...", nargs=-1, required=True)
@click.option(
    "--nice",
    type=click.IntRange(*NICE_RANGE),
    required=True,
    metavar="N",
    help="Lower runs first; chores have 0 unless their author said otherwise.",
)
def prioritise(directory: str, chores: tuple[str, ...], nice: int) -> None:
    """Change the order of chores that have not started.

    DIR is a run directory, or a folder of runs, of which the newest is taken. Where nothing drives
    the run, the request waits for `matensemble resume`. Exits with 0 if any chore is moved, 1 if
    none can be, 3 if the driver has not answered within 10 s.
    """
    ask(directory, Verb.PRIORITISE, chores, nice=nice)
