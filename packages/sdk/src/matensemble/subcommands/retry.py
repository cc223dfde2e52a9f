"""``matensemble retry``: run chores without a result again."""

from __future__ import annotations

import click

from matensemble.control import Verb
from matensemble.model import Reason
from matensemble.subcommands.inquiry import ask


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.argument("chores", metavar="[CHORE|GROUP]...", nargs=-1)
@click.option("--failed", is_flag=True, help="Every chore that failed.")
@click.option(
    "--reason",
    metavar="R",
    type=click.Choice([reason.value for reason in Reason]),
    help="Every chore that failed with this reason, such as out_of_memory.",
)
def retry(directory: str, chores: tuple[str, ...], failed: bool, reason: str | None) -> None:
    """Run chores again that failed or were cancelled, and what was skipped because of them.

    DIR is a run directory, or a folder of runs, of which the newest is taken. The budgets for
    retries begin anew; files of earlier attempts are kept in attempts/ beside the new ones. Where
    nothing drives the run, the request waits for `matensemble resume`. Exits with 0 if any chore
    runs again, 1 if none can, 3 if the driver has not answered within 10 s.
    """
    if sum((bool(chores), failed, reason is not None)) != 1:
        raise click.UsageError("name chores or groups, or give --failed, or --reason R")
    ask(
        directory,
        Verb.RETRY,
        chores,
        failed=failed,
        reason=None if reason is None else Reason(reason),
    )
