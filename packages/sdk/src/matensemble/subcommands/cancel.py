"""``matensemble cancel``: end chores, or a whole run."""

from __future__ import annotations

import click

from matensemble.control import Verb
from matensemble.subcommands.inquiry import ask


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.argument("chores", metavar="[CHORE|GROUP]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Cancel the whole run.")
def cancel(directory: str, chores: tuple[str, ...], everything: bool) -> None:
    """Cancel chores, and with them what depends on them.

    DIR is a run directory, or a folder of runs, of which the newest is taken. What runs is ended
    (TERM, and KILL 3 s later); independent branches go on. Where nothing drives the run, the
    request waits for `matensemble resume`. Exits with 0 if any chore is cancelled, 1 if none can
    be, 3 if the driver has not answered within 10 s.
    """
    if bool(chores) == everything:
        raise click.UsageError("name the chores or groups to cancel, or give --all for all of them")
    ask(directory, Verb.CANCEL, chores, everything=everything)
