"""Write what a strategy chore asked for: `spawned.jsonl` and `spawned.args`.

One line a spec, in the order returned: the header of the chore it is to become
(`matensemble.chore.Chore.to_header`, with an empty id) and these keys beside it:

``format``
    1.
``call``
    ``[number of positional arguments, [keyword names]]`` of a Python spec, so that the driver can
    check the call without loading it.
``registered_resources``
    True where a Python spec names no resources: it takes those its callable was registered with.
``error``
    ``{"reason": "invalid_spec", "name", "detail"}`` *instead of* a header, for a spec that cannot
    become a chore. It keeps its line, so positions are those in the returned list.

In `deps`, a reference to a sibling is ``{"spec": position}``, from 0. Arguments and environments
stand one after the other in `spawned.args`, written first: the lines hold their places, and no
secret. Called by `matensemble.runtime_worker` only, and loaded for strategies only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matensemble import wire, workdir
from matensemble.chore import Chore, ChoreSpec, Place, check_after, check_name
from matensemble.command import freeze_command
from matensemble.errors import InvalidOptionError
from matensemble.model import ChoreType, Resources
from matensemble.references import Sibling

if TYPE_CHECKING:
    from matensemble.references import Dependency
    from matensemble.runtime_worker import Task

SPAWNED_FORMAT = 1
MAX_DETAIL = 2_000
"""Characters of an error that are kept."""


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
    file = os.path.relpath(task.path(workdir.SPAWNED_ARGUMENTS), task.run_dir)
    writer = SpecWriter(file, specs)
    lines = [json.dumps(writer.row(spec), separators=(",", ":")) + "\n" for spec in specs]
    if writer.chunks:
        wire.write_atomic(task.path(workdir.SPAWNED_ARGUMENTS), *writer.chunks)
    wire.write_atomic(task.path(workdir.SPAWNED), "".join(lines).encode())


class SpecWriter:
    """Turns specs into rows and collects their arguments.

    Parameters
    ----------
    file
        Where the arguments will stand, relative to the run directory.
    specs
        All that the strategy returned; references to siblings are positions in it.

    Attributes
    ----------
    chunks
        The content of that file so far.
    """

    def __init__(self, file: str, specs: Sequence[ChoreSpec]) -> None:
        self.chunks: list[bytes] = []
        self._file = file
        self._size = 0
        self._positions = {id(spec): position for position, spec in enumerate(specs)}

    def row(self, spec: ChoreSpec) -> dict[str, Any]:
        """Return the row of a spec, or that of its error: one bad spec spares its siblings."""
        try:
            header = self._executable(spec) if spec.command is not None else self._python(spec)
        except Exception as error:
            detail = f"{type(error).__name__}: {error}"[:MAX_DETAIL]
            fault = {"reason": "invalid_spec", "name": str(spec.qualname), "detail": detail}
            return {"format": SPAWNED_FORMAT, "error": fault}
        return {"format": SPAWNED_FORMAT, **header}

    def _python(self, spec: ChoreSpec) -> dict[str, Any]:
        args, kwargs = spec.args, spec.kwargs or {}
        if not isinstance(args, Sequence) or isinstance(args, (str, bytes)):
            raise InvalidOptionError("args", args, "a list or tuple of positional arguments")
        if not isinstance(kwargs, Mapping) or not all(isinstance(key, str) for key in kwargs):
            raise InvalidOptionError("kwargs", kwargs, "a mapping of parameter names to arguments")
        data, deps = wire.freeze((tuple(args), dict(kwargs)))
        header = self._header(
            spec,
            name=check_name(spec.qualname),
            kind=ChoreType.PYTHON,
            deps=self._number(deps),
            callable=spec.qualname,
            data=data,
        )
        header["call"] = [len(args), list(kwargs)]
        if spec.resources is None:
            header["registered_resources"] = True
        return header

    def _executable(self, spec: ChoreSpec) -> dict[str, Any]:
        assert spec.command is not None
        frozen = freeze_command(spec.qualname, spec.command, spec.inputs, spec.outputs)
        return self._header(
            spec,
            name=check_name(frozen.name),
            kind=ChoreType.EXECUTABLE,
            deps=self._number(frozen.deps),
            command=frozen.command,
            outputs={name: os.fspath(path) for name, path in spec.outputs.items()},
            data=frozen.data,
        )

    def _header(self, spec: ChoreSpec, *, data: bytes | None, **fields: Any) -> dict[str, Any]:
        resources = spec.resources or Resources()
        after = check_after(spec.after)
        environment = None
        if resources.env is not None:
            environment = json.dumps(dict(resources.env)).encode()
        return Chore(
            id="",
            after=after,
            resources=resources,
            nice=spec.nice,
            success_codes=tuple(spec.success_codes),
            arguments=self._add(data),
            env_place=self._add(environment),
            **fields,
        ).to_header()

    def _add(self, data: bytes | None) -> Place | None:
        if data is None:
            return None
        place = Place(self._file, self._size, len(data))
        self.chunks.append(data)
        self._size += len(data)
        return place

    def _number(self, deps: tuple[Dependency, ...]) -> tuple[Dependency, ...]:
        return tuple(
            Sibling(self._position(dep.token)) if isinstance(dep, Sibling) else dep for dep in deps
        )

    def _position(self, spec: Any) -> int:
        try:
            return self._positions[id(spec)]
        except KeyError:
            raise InvalidOptionError(
                "reference",
                f"ref of {spec.qualname!r}",
                "to a spec that this strategy returns too",
            ) from None
