"""The command `matensemble`: finds the subcommands that are installed, and turns errors into words.

Owns the exit codes and nothing that a subcommand does. Each subcommand is a `click.Command` that
some distribution names in the entry point group `matensemble.commands`, those of this distribution
included; only the one that is called is imported.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Any

import click

from matensemble.errors import MatEnsembleError, RunFailedError, RunInterruptedError
from matensemble.installation import check_installation
from matensemble.terminal import clean_line, clean_text

ENTRY_POINT_GROUP = "matensemble.commands"
OWN_DISTRIBUTION = "matensemble-sdk"
DISTRIBUTIONS = (
    OWN_DISTRIBUTION, "matensemble-worker", "matensemble-runtime", "matensemble-dashboard",
)  # fmt: skip
ELSEWHERE = {
    "run": "matensemble-runtime",
    "resume": "matensemble-runtime",
    "dashboard": "matensemble-dashboard",
    "report": "matensemble-dashboard",
}
"""Subcommands of our other distributions."""
EXIT_DRIVER_FAILED = 70
"""`EX_SOFTWARE` of sysexits.h; the chores are not to blame."""
EXIT_USAGE = 2
EXIT_OUT_OF_TIME = 75
"""`EX_TEMPFAIL` of sysexits.h: try again later."""
EXIT_INTERRUPTED = 130


class InstalledCommands(click.Group):
    """The group of all subcommands that are installed here."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all subcommands, sorted."""
        return sorted(_installed(ctx))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a subcommand; one that cannot be loaded is named on stderr and left out.

        Raises
        ------
        click.UsageError
            If it is of a distribution of ours that is not installed; names it.
        """
        found = _installed(ctx).get(cmd_name)
        if found is None:
            if cmd_name in ELSEWHERE:
                raise click.UsageError(
                    f"{cmd_name!r} comes with another package: pip install {ELSEWHERE[cmd_name]}"
                )
            return None
        try:
            command = found.load()
            if not isinstance(command, click.Command):
                raise TypeError(f"{found.value} is no click command")
        except Exception as error:  # whatever another package does when it is imported
            problem = f"{type(error).__name__}: {error}"
            click.echo(
                f"matensemble: the subcommand {cmd_name!r} of {_distribution(found)} cannot be "
                f"loaded ({clean_line(problem)})",
                err=True,
            )
            return None
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; errors that were raised on purpose are told without a traceback."""
        try:
            return super().invoke(ctx)
        except RunInterruptedError as error:
            _tell(error)
            ctx.exit(EXIT_OUT_OF_TIME if error.is_out_of_time else EXIT_INTERRUPTED)
        except RunFailedError as error:
            _tell(error)
            ctx.exit(EXIT_DRIVER_FAILED)
        except MatEnsembleError as error:
            _tell(error)
            ctx.exit(EXIT_USAGE)
        except KeyboardInterrupt:
            click.echo(err=True)  # behind the ^C
            ctx.exit(EXIT_INTERRUPTED)


def _tell(error: MatEnsembleError) -> None:
    click.echo(f"Error: {clean_text(str(error))}", err=True)


def _installed(ctx: click.Context) -> dict[str, EntryPoint]:
    """Return the entry points by name; scans what is installed once."""
    found: dict[str, EntryPoint] | None = ctx.meta.get(ENTRY_POINT_GROUP)
    if found is None:
        found = ctx.meta[ENTRY_POINT_GROUP] = _find()
    return found


def _find() -> dict[str, EntryPoint]:
    """Return the entry points by name; where two have one name, that of this distribution wins."""
    found: dict[str, EntryPoint] = {}
    for entry in sorted(
        entry_points(group=ENTRY_POINT_GROUP),
        key=lambda entry: (_distribution(entry) != OWN_DISTRIBUTION, _distribution(entry)),
    ):
        found.setdefault(entry.name, entry)
    return found


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unknown package"


def _print_version(ctx: click.Context, _: click.Parameter, is_wanted: bool) -> None:
    if not is_wanted or ctx.resilient_parsing:
        return
    others = {_distribution(entry) for entry in _find().values()} - set(DISTRIBUTIONS)
    for name in (*DISTRIBUTIONS, *sorted(others)):
        try:
            click.echo(f"{name} {version(name)}")
        except PackageNotFoundError:
            click.echo(f"{name} is not installed")
    click.echo(f"Python {sys.version.split()[0]} ({sys.executable})")
    ctx.exit()


@click.command(
    cls=InstalledCommands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 some chores failed, 2 wrong usage, 3 a request is not answered "
    "yet, 70 the driver could not go on, 75 out of time, 130 interrupted.",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the versions of what is installed, and exit.",
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Run ensembles of simulations, and look at them.

    What `pipe.save()` or `pipe.submit()` of a Python script wrote is a run directory; every
    subcommand takes one.
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False
    check_installation()


if __name__ == "__main__":
    main(prog_name="matensemble")
