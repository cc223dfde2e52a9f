"""The subcommand ``matensemble dashboard DIR``.

Owns its options and what it prints. Found by `matensemble.cli` through the entry point group
``matensemble.commands``; that module also tells the user of errors. The web framework is loaded
only when the subcommand is called.
"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Name or address to listen on."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port to listen on, 0 for any free one.  [default: 8000, or the next free one]",
)
def dashboard(directory: str, host: str, port: int | None) -> None:
    """Show a run in the browser.

    DIR is a run directory, or a folder of runs, of which the newest is shown. Works on any machine
    that sees the files; only you can open the link that is printed.
    """
    from matensemble.dashboard.serve import Dashboard, warn_if_exposed

    served = Dashboard(Path(directory), host, port)
    warning = warn_if_exposed(host)
    if warning is not None:
        click.echo(f"Warning: {warning}.", err=True)
    click.echo(f"Dashboard of {click.format_filename(directory)}")
    click.echo(f"  link      {served.address.url}")
    click.echo(f"  elsewhere {served.address.ssh}")
    click.echo("            (on your own computer; then open the link there)")
    click.echo("  stop      Ctrl-C")
    served.run()
