"""What a pipeline recorded so far, held compactly: a run may have a million chores.

Owns the columns of the recorded chores and the file of their frozen arguments, and turns them into
the headers that are saved. It validates nothing: `Pipeline` does before it records, and
`matensemble.dag` before it saves.
"""

from __future__ import annotations

import json
import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from matensemble.chore import Chore, make_chore_id
from matensemble.errors import RunDirectoryError
from matensemble.model import ChoreType, Resources
from matensemble.place import Place, Tail
from matensemble.references import Gather
from matensemble.workdir import ARGUMENTS

if TYPE_CHECKING:
    from matensemble.references import Dependency

SPOOL_BYTES = 8 << 20
"""Frozen arguments up to this size stay in memory, beyond it they go to disk."""
BLOCK_BYTES = 1 << 20
"""How much of them is copied at a time."""


class Template:
    """What chores of one function, with the same resources and policies, have in common.

    Parameters
    ----------
    name
        The group.
    kind, resources, nice, success_codes, policy, callable, command, outputs
        As in `Chore`.
    """

    __slots__ = ("env", "header", "kind", "name")

    def __init__(self, name: str, kind: ChoreType, resources: Resources, **fields: Any) -> None:
        self.name = name
        self.kind = kind
        self.env = resources.env
        header = Chore(id="", name=name, kind=kind, resources=resources, **fields).to_header()
        del header["id"]
        self.header = json.dumps(header, separators=(",", ":"))[1:-1]
        """The common part of the headers, as the inside of a JSON object."""

    def with_command(self, command: tuple[str, ...]) -> Template:
        """Return what chores of one command have in common that are else as these; cheap."""
        made: Template = object.__new__(Template)
        made.name, made.kind, made.env = self.name, self.kind, self.env
        made.header = f'{self.header},"command":[{",".join(map(encode_basestring_ascii, command))}]'
        return made


class ArgumentStore:
    """Append-only store of frozen arguments: small in memory, large on disk.

    A refused append leaves it as it was, and reading it changes nothing.

    Parameters
    ----------
    directory
        Where to put what is too large for memory; is made then. The file has no name there, so
        nothing is left behind if the process dies.
    """

    __slots__ = ("__weakref__", "_directory", "_file", "_num_on_disk", "_recent", "size")

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: int | None = None
        self._num_on_disk = 0
        self._recent = bytearray()  # stands behind what is on disk
        self.size = 0
        """Bytes so far."""

    def append(self, data: bytes) -> None:
        """Append bytes.

        Raises
        ------
        RunDirectoryError
            If they are too large for memory and cannot be written.
        """
        if len(self._recent) + len(data) > SPOOL_BYTES:
            self._write(self._recent)
            self._recent = bytearray()
        if len(data) > SPOOL_BYTES:
            self._write(data)
        else:
            self._recent += data
        self.size += len(data)

    def blocks(self) -> Iterator[bytes]:
        """Yield the content from its beginning, in blocks of `BLOCK_BYTES` at most."""
        start = 0
        while self._file is not None and start < self._num_on_disk:
            block = os.pread(self._file, min(BLOCK_BYTES, self._num_on_disk - start), start)
            start += len(block)
            yield block
        for start in range(0, len(self._recent), BLOCK_BYTES):
            yield bytes(self._recent[start : start + BLOCK_BYTES])

    def read(self, offset: int, size: int) -> bytes:
        """Return what was appended as one piece; a piece lies in memory or on disk as a whole."""
        start = offset - self._num_on_disk
        if start >= 0 or self._file is None:
            return bytes(self._recent[start : start + size])
        data = bytearray()
        while len(data) < size and (
            block := os.pread(self._file, size - len(data), offset + len(data))
        ):
            data += block
        return bytes(data)

    def _write(self, data: bytes | bytearray) -> None:
        """Write behind what is on disk; what a failure leaves there, the next one overwrites."""
        try:
            file = self._open_file()
            with memoryview(data) as view:  # released also where the error is kept
                done = 0
                while done < len(data):
                    done += os.pwrite(file, view[done:], self._num_on_disk + done)
        except OSError as error:
            raise RunDirectoryError(
                str(self._directory), f"large arguments cannot be kept here ({error.strerror})"
            ) from error
        self._num_on_disk += len(data)

    def _open_file(self) -> int:
        if self._file is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._directory) as file:
                self._file = os.dup(file.fileno())
            weakref.finalize(self, os.close, self._file)
        return self._file


class Draft:
    """The chores of a pipeline in the order of recording, one list a column.

    Parameters
    ----------
    basedir
        Where large arguments are kept until the pipeline is saved.
    """

    def __init__(self, basedir: Path) -> None:
        self.ids: list[str] = []
        """Chore ids."""
        self.templates: list[Template] = []
        """What each chore has in common with others."""
        self.deps: list[tuple[Dependency, ...]] = []
        """What fills the slots of each chore's arguments."""
        self.after: dict[int, tuple[str, ...]] = {}
        """Index → chores that must complete first, of the chores that have such."""
        self.gathers: dict[int, tuple[str, ...]] = {}
        """Index → gathered groups, of the chores that have such."""
        self.arguments = ArgumentStore(basedir)
        """Frozen arguments, one after the other."""
        self._ends = array("Q")  # where the arguments of each chore end; none: as the one before

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def next_number(self) -> int:
        """Number of the next chore."""
        return len(self.ids) + 1

    def next_id(self, name: str) -> str:
        """Return the id that the next chore gets if its name is `name`."""
        return make_chore_id(name, len(self.ids) + 1)

    def add(
        self,
        template: Template,
        data: bytes | None,
        deps: tuple[Dependency, ...],
        after: tuple[str, ...] = (),
    ) -> str:
        """Record a chore and return its id; O(1).

        Parameters
        ----------
        template
            What it has in common with others.
        data, deps
            Frozen arguments and their slots, as `wire.freeze` returned them; None: no arguments.
        after
            Chores that must complete first, without data.
        """
        if data is not None:
            self.arguments.append(data)
        index = len(self.ids)
        chore_id = make_chore_id(template.name, index + 1)
        for dep in deps:
            if type(dep) is Gather:
                self.gathers[index] = (*self.gathers.get(index, ()), dep.name)
        if after:
            self.after[index] = after
        self.templates.append(template)
        self.deps.append(deps)
        self._ends.append(self.arguments.size)
        self.ids.append(chore_id)
        return chore_id

    def upstream(self, index: int) -> Sequence[str]:
        """Return the ids of the chores that must complete first, each once."""
        deps = self.deps[index]
        if index not in self.after and index not in self.gathers:
            return cast("tuple[str, ...]", deps)
        ids = [dep for dep in deps if isinstance(dep, str)]
        return list(dict.fromkeys((*ids, *self.after.get(index, ()))))

    def arguments_of(self, index: int) -> bytes | None:
        """Return the frozen arguments of a chore, None where it has none."""
        start = self._ends[index - 1] if index else 0
        size = self._ends[index] - start
        return self.arguments.read(start, size) if size else None

    def groups(self) -> dict[str, int]:
        """Return the number of chores of each group. O(chores)."""
        counts: dict[str, int] = {}
        for template in self.templates:
            counts[template.name] = counts.get(template.name, 0) + 1
        return counts

    def members(self, groups: Iterable[str]) -> dict[str, list[str]]:
        """Return the chore ids of some groups. O(chores)."""
        members: dict[str, list[str]] = {name: [] for name in groups}
        for chore_id, template in zip(self.ids, self.templates, strict=True):
            if template.name in members:
                members[template.name].append(chore_id)
        return members

    def store_env(self, resources: Iterable[Resources], tail: Tail) -> dict[int, Place]:
        """Add every environment in use, equal ones once, to what stands behind the arguments.

        Parameters
        ----------
        resources
            Further requests, besides those of the chores.
        tail
            Receives the environments.

        Returns
        -------
        dict
            ``id(environment)`` → where it stands.
        """
        envs = [r.env for r in resources]
        envs.extend({id(t.env): t.env for t in self.templates}.values())
        places: dict[str, Place] = {}
        by_id: dict[int, Place] = {}
        for env in envs:
            if env is None or id(env) in by_id:
                continue
            text = json.dumps(dict(env), sort_keys=True)
            if text not in places:
                places[text] = tail.add(text.encode("ascii"))
            by_id[id(env)] = places[text]
        return by_id

    def headers(
        self, order: Iterable[int], stages: Mapping[str, int], env_places: Mapping[int, Place]
    ) -> Iterator[str]:
        """Yield the JSON headers that `Chore.from_header` reads.

        Formatted by hand around the common part of each template: a generic encoder would cost
        several times what everything else does. Ids and names are slugs and need no escaping.

        Parameters
        ----------
        order
            Indices of the chores, in topological order.
        stages
            Chore id → stage, of the chores where it is not 0 at least.
        env_places
            As `store_env` returned them.
        """
        for index in order:
            template = self.templates[index]
            chore_id = self.ids[index]
            line = f'{{"id":"{chore_id}",{template.header}'
            if deps := self.deps[index]:
                line += f',"deps":[{",".join(map(_dependency_text, deps))}]'
            if index in self.after:
                line += f',"after":{json.dumps(self.after[index])}'
            start = self._ends[index - 1] if index else 0
            if size := self._ends[index] - start:
                line += f',"arguments":["{ARGUMENTS}",{start},{size}]'
            if template.env is not None:
                line += f',"env":{json.dumps(env_places[id(template.env)])}'
            if stage := stages.get(chore_id):
                line += f',"stage":{stage}'
            yield line + "}"


def _dependency_text(dep: Dependency) -> str:
    return f'"{dep}"' if isinstance(dep, str) else f'{{"gather":"{dep.name}"}}'  # type: ignore[union-attr]
