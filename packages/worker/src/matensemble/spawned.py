"""Write what a strategy chore asked for: `spawned.jsonl` and `spawned.args`.

One row a spec, in the order returned, see `matensemble.spec`. Arguments and environments stand one
after the other in `spawned.args` (of a later attempt: a file of its own, see
`workdir.spawned_arguments`), which is written first. Called by `matensemble.runtime_worker`
only, and loaded for strategies only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from matensemble import disk, workdir
from matensemble.chore import ChoreSpec
from matensemble.spec import SpecWriter

if TYPE_CHECKING:
    from matensemble.runtime_worker import Task


def collect(returned: object) -> list[ChoreSpec]:
    """Return the specs that a strategy returned: None, one, or an iterable of them.

    Raises
    ------
    TypeError
        If it returned anything else.
    """
    if returned is None:
        return []
    if isinstance(returned, ChoreSpec):
        return [returned]
    wanted = "a strategy returns None, a ChoreSpec, or several of them in a list"
    if not isinstance(returned, Iterable) or isinstance(returned, (str, bytes, Mapping)):
        raise TypeError(f"{wanted}; this one returned {type(returned).__name__}")
    specs = list(returned)
    for spec in specs:
        if not isinstance(spec, ChoreSpec):
            raise TypeError(f"{wanted}; this one returned {type(spec).__name__} among them")
    return specs


def write(task: Task, specs: Sequence[ChoreSpec]) -> None:
    """Write the specs of a strategy chore into its directory, each file in one rename.

    Raises
    ------
    OSError
        If they cannot be written.
    """
    arguments = task.path(workdir.spawned_arguments(task.record["attempt"]))
    durable = task.record.get("durable", False)
    writer = SpecWriter(os.path.relpath(arguments, task.run_dir), specs)
    lines = [json.dumps(writer.row(spec), separators=(",", ":")) + "\n" for spec in specs]
    if writer.tail.chunks:
        disk.write_atomic(arguments, *writer.tail.chunks, durable=durable)
    disk.write_atomic(task.path(workdir.SPAWNED), "".join(lines).encode(), durable=durable)
