"""``matensemble validate``: whether a saved pipeline is whole and can run here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from matensemble.errors import FormatError, IncompatibleEnvironmentError
from matensemble.runs import find_run
from matensemble.terminal import clean_line, describe_bytes, plural

if TYPE_CHECKING:
    from matensemble.workflow import Workflow

EXIT_INVALID = 2


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False))
def validate(directory: str) -> None:
    """Check that a saved pipeline is whole and can run here.

    Reads the manifest, every chore, the graph and the versions; runs and unpickles nothing. DIR is
    a run directory, or a folder of runs, of which the newest is taken. Exits with 2 where something
    is wrong, and prints a line for each problem.
    """
    from matensemble.workflow import Workflow

    workflow = Workflow.read(find_run(Path(directory)))
    groups: Counter[str] = Counter()
    problems = [
        *_check_versions(workflow),
        *_check_chores(workflow, groups),
        *_check_callables(workflow),
    ]
    for problem in problems:
        click.echo(f"problem: {clean_line(problem)}", err=True)
    if problems:
        click.echo(f"{clean_line(workflow.run.root)}: {plural(len(problems), 'problem')}", err=True)
        raise click.exceptions.Exit(EXIT_INVALID)
    manifest = workflow.manifest
    parts = (
        plural(manifest.num_chores, "chore"),
        plural(len(groups), "group"),
        plural(len(manifest.callables), "function"),
        f"{describe_bytes(workflow.run.arguments_path.stat().st_size)} of arguments",
        f"Python {manifest.versions['python']}",
        f"cloudpickle {manifest.versions['cloudpickle']}",
    )
    click.echo("OK: " + clean_line(", ".join(parts)))


def _check_versions(workflow: Workflow) -> Iterator[str]:
    try:
        workflow.manifest.check_environment()
    except IncompatibleEnvironmentError as error:
        yield str(error)


def _check_chores(workflow: Workflow, groups: Counter[str]) -> Iterator[str]:
    """Yield what is wrong with the chores; count them by group.

    Reading them checks the graph as well: no id comes twice, and each chore stands behind all that
    it depends on, which no cycle and no unknown reference could.
    """
    callables = workflow.manifest.callables
    possible = {strategy.name for strategy in workflow.manifest.strategies} | callables.keys()
    missing: dict[str, str] = {}
    gathered: dict[str, str] = {}
    try:
        for chore in workflow.chores():
            groups[chore.name] += 1
            workflow.read_env(chore.env_place)
            if chore.callable is not None and chore.callable not in callables:
                missing.setdefault(chore.callable, chore.id)
            for group in chore.gathers:
                gathered.setdefault(group, chore.id)
    except FormatError as error:
        yield str(error)
        return  # what follows would only echo it
    for name, chore_id in missing.items():
        yield f"{chore_id} calls {name!r}, which the manifest does not know"
    for group, chore_id in gathered.items():
        if group not in groups and group not in possible:
            yield f"{chore_id} gathers {group!r}, a group that nothing can be part of"
    if dict(groups) != dict(workflow.manifest.groups):
        yield f"{workflow.run.chores_path}: the groups are not those that the manifest counts"


def _check_callables(workflow: Workflow) -> Iterator[str]:
    for name in workflow.manifest.callables:
        path = workflow.run.registry_dir / name
        if not path.is_file() or not path.stat().st_size:
            yield f"the function {name!r} is missing: {path}"
    for strategy in workflow.manifest.strategies:
        if strategy.name not in workflow.manifest.callables:
            yield f"the strategy {strategy.name!r} has no function of that name"
