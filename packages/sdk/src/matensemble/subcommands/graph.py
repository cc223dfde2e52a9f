"""``matensemble graph``: the graph of a saved pipeline."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw to a file: .mmd or .md (Mermaid), .png, .svg or .pdf.",
)
def graph(directory: str, output: Path | None) -> None:
    """Draw the graph of a pipeline, by default as Mermaid text.

    DIR is a run directory, or a folder of runs, of which the newest is taken. Beyond a few hundred
    chores, groups are drawn. What
    strategies added while the pipeline ran is not part of it.
    """
    from matensemble import drawing
    from matensemble.errors import RunDirectoryError
    from matensemble.pipeline import Pipeline
    from matensemble.runs import find_run

    drawn = Pipeline.load(find_run(Path(directory)).root).graph()
    if output is None:
        click.echo(drawing.to_mermaid(drawn), nl=False)
        return
    try:
        drawing.draw(drawn, output)
    except OSError as error:
        raise RunDirectoryError(str(output), f"cannot be written ({error.strerror})") from error
    click.echo(f"wrote {click.format_filename(output)}")
