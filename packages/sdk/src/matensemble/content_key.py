"""Content keys of recorded chores: equal ones mean that a result can stand for another one.

Owns what a key is made of, and `workflow.keys`, where keys stand with the digests of their parts,
so that a difference can be named, and with the numbers of the files that they cover (see
`matensemble.file_marks`), so that a change after the save can be seen. Computed when a pipeline is
saved, and only where it asks for reuse. What makes two values or functions the same is the business
of `matensemble.canonical`.

A key covers the code, the arguments, what stands upstream (by its keys); the command of an
executable, the content of the program and of files that it names by absolute path, its inputs and
outputs; `num_tasks`, `mpi`, the environment that was asked for, success codes, the declared version
and the minor versions of Python and cloudpickle. Of several chores with the same content each has
a key of its own, by their order: an ensemble may sample the same point many times.
"""

from __future__ import annotations

import io
import json
import pickle
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle

from matensemble import references
from matensemble.canonical import Canon, Slot
from matensemble.chore import Chore, ChoreRegistry
from matensemble.errors import FormatError
from matensemble.file_marks import Mark, mark
from matensemble.policy import OnFailure
from matensemble.reduction import UnkeyableError
from matensemble.references import Gather
from matensemble.workdir import RunDir

if TYPE_CHECKING:
    from matensemble.draft import Draft, Template
    from matensemble.references import Dependency

KEYS_FORMAT = 1
KEY_VERSION = 2
"""Of what keys are made of: those of different versions never meet."""
PYTHON = "{}.{} with cloudpickle {}.{}".format(
    *sys.version_info[:2], *cloudpickle.__version__.split(".")[:2]
)
"""What decides whether bytecode and pickles of one environment mean the same in another."""
MAX_COVERED = 10_000
"""Files behind one key; so that long chains in which each names its own stay small."""
PART_CHARACTERS = 16
"""Of the digest of a part, which only tells people what differs."""

Parts = Mapping[str, "str | int"]


class ChoreKey(NamedTuple):
    """The key of one chore: a line of `workflow.keys`."""

    id: str
    """The chore."""
    group: str
    """Its group."""
    key: str | None
    """64 hexadecimal digits; None where it has none, and so is never reused."""
    parts: Parts = MappingProxyType({})
    """What the key is made of: ``code``, ``arguments``, ``command``, ``inputs``, ``upstream`` …"""
    because: str = ""
    """Why it has none."""
    is_conditional: bool = False
    """Whether its result also depends on which chores before it completed: it, or one before it,
    gathers a group or goes on after a failure. Then the key alone does not say enough."""
    files: tuple[int, ...] = ()
    """Numbers of the marks in `workflow.files` of what the key covers of programs, named files and
    modules, including those of what stands upstream."""

    def to_json(self) -> dict[str, Any]:
        """Return what differs from the defaults."""
        return {name: value for name, value in self._asdict().items() if value or name == "id"}


def write_keys(keys: Iterable[ChoreKey]) -> Iterator[str]:
    """Yield the lines of `workflow.keys`, without newline."""
    yield json.dumps({"format": KEYS_FORMAT})
    encode = json.JSONEncoder(separators=(",", ":")).encode
    for key in keys:
        yield encode(key.to_json())


def read_keys(run: RunDir) -> Iterator[ChoreKey]:
    """Yield the keys of a saved run, in topological order.

    Raises
    ------
    FileNotFoundError
        If it was saved without keys.
    FormatError
        If the file is damaged, or of a later format.
    """
    for line in read_lines(run.keys_path, KEYS_FORMAT):
        try:
            yield ChoreKey(
                str(line["id"]),
                str(line["group"]),
                line.get("key"),
                line.get("parts", {}),
                line.get("because", ""),
                line.get("is_conditional", False),
                tuple(line.get("files", ())),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise FormatError(
                str(run.keys_path), f"holds a line that is no key ({line})"
            ) from error


def read_lines(path: Path, version: int, *, with_first: bool = False) -> Iterator[Any]:
    """Yield the JSON lines of a file whose first one holds its format; by default those behind it.

    Raises
    ------
    FileNotFoundError
        If there is none.
    FormatError
        If it is damaged, or of a later format.
    """
    with path.open(encoding="utf-8") as lines:
        try:
            first = json.loads(next(lines, "{}"))
            if (found := first.get("format")) != version:
                raise FormatError(str(path), f"has format {found}; this version reads {version}")
            if with_first:
                yield first
            for line in lines:
                yield json.loads(line)
        except (ValueError, AttributeError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(str(path), f"holds a line that is no JSON ({error})") from error


class _Common(NamedTuple):
    """What the chores of one template share."""

    digest: bytes
    parts: dict[str, str | int]
    modules: frozenset[str]
    """Top-level modules that its code reaches."""
    command: tuple[str, ...] | None
    is_tolerant: bool
    """Whether chores after one of these run also where it failed."""
    is_changeable: bool
    """Whether a retry may run one of these with another number of tasks."""


class KeyMaker:
    """Computes the keys of a draft.

    Parameters
    ----------
    draft
        The chores.
    registry
        Their callables.
    has_strategies
        Whether further chores may join while the pipeline runs, in any group.
    """

    def __init__(self, draft: Draft, registry: ChoreRegistry, *, has_strategies: bool) -> None:
        self._draft = draft
        self._registry = registry
        self._has_strategies = has_strategies
        self._canon = Canon(registry.by_value)
        self._commons: dict[int, _Common] = {}
        self._keys: dict[str, ChoreKey] = {}
        self._indices: dict[str, int] = {}
        self._counts: dict[bytes, int] = {}
        self._files: dict[str, tuple[str | None, int | None]] = {}
        self._numbers: dict[Mark, int] = {}
        self._sets: dict[tuple[frozenset[str], frozenset[int]], tuple[int, ...]] = {}
        self._merged: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._named: set[int] = set()
        """Numbers of the files that the command of the chore at hand names."""
        self._tolerant: set[str] = set()
        groups = {name for names in draft.gathers.values() for name in names}
        self._members = draft.members(groups) if groups else {}

    def keys(self, indices: Iterable[int]) -> Iterator[ChoreKey]:
        """Yield the keys of the chores; O(1) besides what their arguments hold.

        Parameters
        ----------
        indices
            Of the chores in the draft, in topological order, and those of a lower stage (see
            `matensemble.dag`) before those of a higher one.
        """
        for index in indices:
            key = self._key(index)
            self._keys[key.id] = key
            self._indices[key.id] = index
            yield key

    def marks(self) -> Sequence[Mark]:
        """Return what `ChoreKey.files` of all keys that were yielded count by."""
        return list(self._numbers)

    def upstream(self, chore_id: str) -> Sequence[str]:
        """Return the chores that must complete before one whose key was yielded."""
        return self._draft.upstream(self._indices[chore_id])

    def _key(self, index: int) -> ChoreKey:
        draft = self._draft
        chore_id, group = draft.ids[index], draft.templates[index].name
        try:
            common = self._common(draft.templates[index])
            slots, after = self._upstream(index)
            digests, parts, files = self._content(index, common, slots)
            files = self._with_upstream(index, files)
        except UnkeyableError as error:
            return ChoreKey(chore_id, group, None, because=str(error))
        parts = {**common.parts, **parts}
        digest = sha256(common.digest)
        digest.update(b"".join(digests))
        if slots or after:
            upstream = sha256(b"".join(sorted(set(slots))) + b"after" + b"".join(after)).digest()
            parts["upstream"] = _short(upstream)
            digest.update(upstream)
        content = digest.digest()
        number = self._counts[content] = self._counts.get(content, -1) + 1
        if number:
            parts["number"] = number
        key = sha256(content + b"%d" % number).hexdigest()
        is_conditional = self._is_conditional(index, common)
        return ChoreKey(chore_id, group, key, parts, is_conditional=is_conditional, files=files)

    def _is_conditional(self, index: int, common: _Common) -> bool:
        draft = self._draft
        if common.is_tolerant:
            self._tolerant.add(draft.ids[index])
        return (
            common.is_changeable
            or index in draft.gathers
            or any(
                self._keys[upstream].is_conditional or upstream in self._tolerant
                for upstream in draft.upstream(index)
            )
        )

    # --- what stands upstream -----------------------------------------------------------------

    def _upstream(self, index: int) -> tuple[list[bytes], list[bytes]]:
        """Return what stands for each slot, and the keys of chores that only come before."""
        draft = self._draft
        slots = [self._slot(dep) for dep in draft.deps[index]]
        after = [self._key_of(chore_id) for chore_id in draft.after.get(index, ())]
        return slots, sorted(after)

    def _with_upstream(self, index: int, files: tuple[int, ...]) -> tuple[int, ...]:
        """Return numbers of files together with those of what stands upstream."""
        draft = self._draft
        gathered = (self._members[name] for name in draft.gathers.get(index, ()))
        before = (self._keys[i].files for i in chain(draft.upstream(index), *gathered))
        others = {id(found): found for found in before if found is not files}
        if not others:
            return files
        merged = tuple(sorted({*files, *chain(*others.values())}))
        if len(merged) > MAX_COVERED:
            raise UnkeyableError(f"it depends on more than {MAX_COVERED} files")
        return self._merged.setdefault(merged, merged)

    def _slot(self, dep: Dependency) -> bytes:
        if not isinstance(dep, Gather):
            return self._key_of(str(dep))
        if self._has_strategies:
            raise UnkeyableError(f"it gathers {dep.name}, which strategies may add to")
        if not self._keys.keys() >= set(self._members[dep.name]):
            raise UnkeyableError(f"it gathers {dep.name}, of which some chores depend on it")
        members = b"".join(self._key_of(member) for member in self._members[dep.name])
        return b"gather" + sha256(members).digest()

    def _key_of(self, chore_id: str) -> bytes:
        key = self._keys[chore_id].key
        if key is None:
            raise UnkeyableError(f"{chore_id}, which it depends on, has no content key")
        return bytes.fromhex(key)

    # --- what the chore itself is -------------------------------------------------------------

    def _common(self, template: Template) -> _Common:
        """Return what the chores of a template share."""
        known = self._commons.get(id(template))
        if known is None:
            known = self._commons[id(template)] = self._find_common(template)
        return known

    def _find_common(self, template: Template) -> _Common:
        chore = Chore.from_header(json.loads(f'{{"id":"",{template.header}}}'))
        resources, retry = chore.resources, chore.policy.retry
        self._canon.reached = set()
        parts: dict[str, str | int] = {"python": PYTHON}
        if resources.num_tasks != 1:
            parts["num_tasks"] = resources.num_tasks
        if resources.mpi:
            parts["mpi"] = 1
        if chore.success_codes != (0,):
            parts["success_codes"] = " ".join(map(str, chore.success_codes))
        if chore.policy.version:
            parts["version"] = chore.policy.version
        if template.env is not None or not resources.inherit_env:
            env = sorted((template.env or {}).items())
            parts["environment"] = self._canon.digest((env, resources.inherit_env))[0].hex()
        if chore.outputs:
            parts["outputs"] = self._canon.digest(sorted(chore.outputs.items()))[0].hex()
        if chore.callable is not None:
            parts["code"] = self._code(chore.callable).hex()
        text = json.dumps({"format": KEY_VERSION, "kind": chore.kind, **parts}, sort_keys=True)
        return _Common(
            sha256(text.encode()).digest(),
            {name: _shown(part) for name, part in parts.items()},
            frozenset(self._canon.reached),
            chore.command,
            chore.policy.on_failure is OnFailure.IGNORE,
            retry is not None and any("num_tasks" in factors for factors in retry.grow.values()),
        )

    def _code(self, name: str) -> bytes:
        try:
            return self._canon.code(self._registry[name])
        except UnkeyableError as error:
            raise UnkeyableError(f"the code of `{name}` cannot be compared: {error}") from error

    def _content(
        self, index: int, common: _Common, slots: Sequence[bytes]
    ) -> tuple[list[bytes], Parts, tuple[int, ...]]:
        """Return the digests of what is a chore's own, their parts, and the files it covers."""
        is_program = common.command is not None
        names = ("command", "inputs", "program") if is_program else ("arguments",)
        data = self._draft.arguments_of(index)
        self._canon.reached = set()
        self._named = set()
        try:
            digests, has_reduced = self._digests(data, common, slots)
            if has_reduced and self._digests(data, common, slots)[0] != digests:
                raise UnkeyableError("an object in them pickles differently each time")
        except UnkeyableError as error:
            raise UnkeyableError(f"its arguments cannot be compared: {error}") from error
        parts = dict(zip(names, map(_short, digests), strict=True))
        return digests, parts, self._covered(common.modules | self._canon.reached)

    def _covered(self, modules: frozenset[str]) -> tuple[int, ...]:
        """Return the numbers of the files behind a key; one object where they are the same."""
        wanted = (modules, frozenset(self._named))
        if wanted not in self._sets:
            numbers = {self._number(one) for one in self._canon.marks(modules)}
            found = tuple(sorted(numbers | self._named))
            self._sets[wanted] = self._merged.setdefault(found, found)
        return self._sets[wanted]

    def _number(self, found: Mark) -> int:
        return self._numbers.setdefault(found, len(self._numbers))

    def _digests(
        self, data: bytes | None, common: _Common, slots: Sequence[bytes]
    ) -> tuple[list[bytes], bool]:
        """Thaw arguments as the worker will, and return the digests of their parts."""
        if data is not None:
            try:
                thawed = _Thaw(io.BytesIO(data)).load()
            except Exception as error:  # whatever the objects' own code raises
                raise UnkeyableError(f"they cannot be loaded ({error!r})") from error
        else:
            thawed = ((), {}) if common.command is None else (list(common.command), {})
        values: tuple[Any, ...] = (thawed,)
        if common.command is not None:
            values = (*thawed, [self._file(*item) for item in enumerate(thawed[0])])
        found = [self._canon.digest(value, slots) for value in values]
        return [digest for digest, _ in found], any(reduced for _, reduced in found)

    def _file(self, position: int, element: object) -> str | None:
        """Return what stands for the content of a program or file that a command names.

        A relative path means a file in the chore's own directory: one of its inputs.
        """
        if not isinstance(element, str):
            return None
        path = element
        if position == 0 and "/" not in element:
            path = shutil.which(element) or ""
        if not path.startswith("/"):
            return None
        if path not in self._files:
            found = mark(Path(path))
            is_other = found.stamp and not Path(path).is_file()  # a directory, or a device
            self._files[path] = (None, None) if is_other else (found.digest, self._number(found))
        content, number = self._files[path]
        if number is not None:
            self._named.add(number)
        return content


class _Thaw(pickle.Unpickler):
    """Loads frozen arguments with a `Slot` in the place of each reference."""

    def find_class(self, module: str, name: str) -> Any:
        if module == references.__name__ and name == references.resolve.__name__:
            return Slot
        return super().find_class(module, name)


def _short(digest: bytes) -> str:
    return digest.hex()[:PART_CHARACTERS]


def _shown(part: str | int) -> str | int:
    return part[:PART_CHARACTERS] if isinstance(part, str) and len(part) == 64 else part
