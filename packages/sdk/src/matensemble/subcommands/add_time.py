"""``matensemble add-time``: let a chore run longer."""

from __future__ import annotations

import click

from matensemble.control import Verb
from matensemble.model import parse_duration
from matensemble.subcommands.inquiry import ask


@click.command("add-time")
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.argument("chore", metavar="CHORE|GROUP")
@click.argument("time", metavar="SECONDS|30m")
def add_time(directory: str, chore: str, time: str) -> None:
    """Let a chore run longer than its duration: the attempt that runs, and those to come.

    DIR is a run directory, or a folder of runs, of which the newest is taken. The time is in
    seconds, or has a unit: ms, s, m, h, d. Exits with 0 when it is added, 1 if that cannot be done,
    3 if the driver has not answered within 10 s.
    """
    ask(directory, Verb.ADD_TIME, (chore,), seconds=parse_duration(time, "time"))
