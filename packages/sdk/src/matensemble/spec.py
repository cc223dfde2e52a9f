"""From a chore spec to the row that asks the driver for a chore.

Owns the format of `spawned.jsonl`, one JSON object a spec: the header of the chore it is to become
(`matensemble.chore.Chore.to_header`, with an empty id) and these keys beside it:

``format``
    1.
``call``
    ``[number of positional arguments, [keyword names]]`` of a Python spec, so that the driver can
    check the call without loading it.
``registered_resources``
    True where a Python spec names no resources: it takes those its callable was registered with.
``registered_policy``
    True where a Python spec has no policy of its own: it takes that of its callable.
``error``
    ``{"reason": "invalid_spec", "name", "detail"}`` *instead of* a header, for a spec that cannot
    become a chore. It keeps its row, so positions are those in the returned list.

In `deps`, a reference to a sibling is ``{"spec": position}``, from 0. Arguments and environments
stand in a file apart: rows hold their places, and no secret. Used by the worker for what a strategy
chore returned, and by the driver for what a processing strategy adds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matensemble import wire
from matensemble.chore import Chore, ChoreSpec, check_after, check_name
from matensemble.command import freeze_command
from matensemble.errors import InvalidOptionError
from matensemble.model import ChoreType, Resources
from matensemble.place import Tail
from matensemble.policy import DEFAULT_POLICY
from matensemble.references import Sibling

if TYPE_CHECKING:
    from matensemble.references import Dependency

SPEC_FORMAT = 1
MAX_DETAIL = 2_000
"""Characters of an error that are kept."""


class SpecWriter:
    """Turns specs into rows and collects their arguments.

    Parameters
    ----------
    file
        Where the arguments will stand, relative to the run directory.
    specs
        All that are asked for together; references to siblings are positions in it.
    offset
        Where in that file the first of them will stand, in bytes.
    by_value
        As for `wire.freeze`. Needed by the driver only: on a worker the classes of such modules
        cannot be imported, so they travel by value anyway.

    Attributes
    ----------
    tail
        What will stand there.
    """

    def __init__(
        self,
        file: str,
        specs: Sequence[ChoreSpec],
        offset: int = 0,
        by_value: tuple[bytes, ...] = (),
    ) -> None:
        self.tail = Tail(file, offset)
        self._by_value = by_value
        self._positions = {id(spec): position for position, spec in enumerate(specs)}

    def row(self, spec: ChoreSpec) -> dict[str, Any]:
        """Return the row of a spec, or that of its error: one bad spec spares its siblings."""
        try:
            header = self._executable(spec) if spec.command is not None else self._python(spec)
        except Exception as error:
            detail = f"{type(error).__name__}: {error}"[:MAX_DETAIL]
            fault = {"reason": "invalid_spec", "name": str(spec.qualname), "detail": detail}
            return {"format": SPEC_FORMAT, "error": fault}
        return {"format": SPEC_FORMAT, **header}

    def _python(self, spec: ChoreSpec) -> dict[str, Any]:
        args, kwargs = spec.args, spec.kwargs or {}
        if not isinstance(args, Sequence) or isinstance(args, (str, bytes)):
            raise InvalidOptionError("args", args, "a list or tuple of positional arguments")
        if not isinstance(kwargs, Mapping) or not all(isinstance(key, str) for key in kwargs):
            raise InvalidOptionError("kwargs", kwargs, "a mapping of parameter names to arguments")
        data, deps = wire.freeze((tuple(args), dict(kwargs)), self._by_value)
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
        if spec.policy is None:
            header["registered_policy"] = True
        return header

    def _executable(self, spec: ChoreSpec) -> dict[str, Any]:
        assert spec.command is not None
        frozen = freeze_command(
            spec.qualname, spec.command, spec.inputs, spec.outputs, by_value=self._by_value
        )
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
        env = resources.env
        return Chore(
            id="",
            after=after,
            resources=resources,
            nice=spec.nice,
            success_codes=tuple(spec.success_codes),
            policy=spec.policy or DEFAULT_POLICY,
            arguments=None if data is None else self.tail.add(data),
            env_place=None if env is None else self.tail.add(json.dumps(dict(env)).encode()),
            **fields,
        ).to_header()

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
