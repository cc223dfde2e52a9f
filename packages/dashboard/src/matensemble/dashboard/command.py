"""The subcommand ``matensemble dashboard``.

Owns its options and what it prints. Found by `matensemble.cli` through the entry point group
``matensemble.commands``; that module also tells the user of errors. The web framework is loaded
only when the subcommand is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from matensemble.dashboard.serve import Address


@click.command()
@click.argument(
    "root", metavar="[ROOT]", default=".", type=click.Path(exists=True, file_okay=False)
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Name or address to listen on. Any but those of this machine alone lets others connect.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port to listen on, 0 for any free one.  [default: 8000, or the next free one]",
)
@click.option(
    "--socket",
    "socket_path",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Listen on a unix socket instead, which only you can open. Its directory is made if it is "
    "missing, and must be yours alone.",
)
@click.option(
    "--allow-actions",
    is_flag=True,
    help="Let whoever has the link also pause, cancel, retry: as far as the run is yours.",
)
def dashboard(
    root: str, host: str, port: int | None, socket_path: Path | None, allow_actions: bool
) -> None:
    """Show runs in the browser.

    ROOT is a run directory, or a folder of runs; by default it is the current one. Works on any
    machine that sees the files; only you can open the link that is printed.
    """
    given = click.get_current_context().get_parameter_source
    if socket_path is not None and ParameterSource.COMMANDLINE in (given("host"), given("port")):
        raise click.UsageError("give --socket, or --host and --port")
    from matensemble.dashboard.address import warn_if_exposed
    from matensemble.dashboard.serve import Dashboard

    served = Dashboard(Path(root), host, port, socket_path=socket_path, allow_actions=allow_actions)
    warning = warn_if_exposed(host)
    if warning is not None:
        click.echo(f"Warning: {warning}.", err=True)
    for line in _describe(served.address, root, allow_actions=allow_actions):
        click.echo(line)
    served.run()


def _describe(address: Address, root: str, *, allow_actions: bool) -> list[str]:
    """Return what is printed."""
    lines = [f"Dashboard of {click.format_filename(root)}"]
    if address.socket is None:
        lines += [
            f"  link      {address.url}",
            f"  elsewhere {address.ssh}",
            "            (on your own computer; then open the link there)",
        ]
    else:
        lines += [
            f"  tunnel    {address.ssh}",
            "            (on your own computer; then open the link there)",
            f"  link      {address.url}",
        ]
    if allow_actions:
        lines.append("  actions   allowed: whoever has the link can pause, cancel and retry")
    return [*lines, "  stop      Ctrl-C"]
