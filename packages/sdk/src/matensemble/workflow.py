"""The saved part of a run directory: what is written before a run, and read by whoever runs it.

Owns `workflow.json` (the manifest), `workflow.jsonl` (one header a chore), `workflow.args` and
`out/registry`. Called by `Pipeline.save` and `Pipeline.load`, by the command line and by the
engine. It loads no pickle; what happens during a run is the journal's, see `matensemble.status`.

The manifest is written last and in one rename: a directory without it was never finished.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from matensemble import disk
from matensemble.chore import CallShape, Chore, check_name
from matensemble.errors import (
    FormatError,
    IncompatibleEnvironmentError,
    MatEnsembleError,
    RunDirectoryError,
)
from matensemble.model import Resources
from matensemble.place import Place
from matensemble.policy import DEFAULT_POLICY, ChorePolicy
from matensemble.workdir import ARGUMENTS, DIRECTORY_PREFIX, FILE_MODE, RunDir

MANIFEST_FORMAT = 1
_decode = json.JSONDecoder().decode  # `json.loads` first guesses the encoding
_CHORE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallableEntry:
    """What the manifest knows of a registered callable, so that no pickle need be loaded."""

    shape: CallShape
    """Its signature, for checking the calls that strategies ask for."""
    resources: Resources = field(default_factory=Resources)
    """What a call needs unless it says otherwise; without `env`."""
    env_place: Place | None = None
    """Where `resources.env` stands."""
    policy: ChorePolicy = DEFAULT_POLICY
    """What is to happen when a call does not go well, unless it says otherwise."""

    def to_json(self) -> dict[str, Any]:
        """Return the entry as it stands in the manifest."""
        return {
            "parameters": self.shape.parameters,
            "resources": self.resources.to_json(),
            "env": self.env_place,
            "policy": self.policy.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CallableEntry:
        """Return the entry of `to_json`; unknown keys are ignored."""
        parameters = data["parameters"]
        return cls(
            shape=CallShape(None if parameters is None else tuple(tuple(p) for p in parameters)),
            resources=Resources.from_json(data["resources"]),
            env_place=Place.from_json(data.get("env")),
            policy=ChorePolicy.from_json(data.get("policy", {})),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyEntry:
    """A strategy: which completions start a chore of which callable."""

    name: str
    """Registry name of the callable, and the group of the chores it starts."""
    triggers: tuple[str, ...]
    """Names of the groups whose completed chores start it."""
    arguments: Place
    """Frozen arguments of each of its chores: slot 0, the result that started it."""
    resources: Resources = field(default_factory=Resources)
    """What a strategy chore needs; without `env`."""
    env_place: Place | None = None
    """Where `resources.env` stands."""
    success_codes: tuple[int, ...] = (0,)
    """Exit codes that mean success."""
    nice: int = 0
    """Order among the ready: lower first."""
    policy: ChorePolicy = DEFAULT_POLICY
    """What is to happen when a strategy chore does not go well."""

    def to_json(self) -> dict[str, Any]:
        """Return the entry as it stands in the manifest."""
        return {
            "name": self.name,
            "triggers": self.triggers,
            "arguments": self.arguments,
            "resources": self.resources.to_json(),
            "env": self.env_place,
            "success_codes": self.success_codes,
            "nice": self.nice,
            "policy": self.policy.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StrategyEntry:
        """Return the entry of `to_json`; unknown keys are ignored."""
        return cls(
            name=check_name(data["name"]),
            triggers=tuple(data["triggers"]),
            arguments=Place(*data["arguments"]),
            resources=Resources.from_json(data["resources"]),
            env_place=Place.from_json(data.get("env")),
            success_codes=tuple(data.get("success_codes", (0,))),
            nice=data.get("nice", 0),
            policy=ChorePolicy.from_json(data.get("policy", {})),
        )


def present_versions() -> dict[str, str]:
    """Return the versions that decide whether a pickle made here loads elsewhere.

    Keys: ``matensemble``, ``python`` (``"3.11"``), ``python_full``, ``cloudpickle``.
    """
    from importlib.metadata import version

    import cloudpickle

    return {
        "matensemble": version("matensemble-sdk"),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "python_full": platform.python_version(),
        "cloudpickle": cloudpickle.__version__,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Content of `workflow.json`."""

    name: str
    """Name of the pipeline, for people."""
    created_at: str
    """ISO 8601, UTC."""
    versions: Mapping[str, str]
    """Under which it was written, see `present_versions`."""
    num_chores: int
    """Lines of `workflow.jsonl`."""
    next_number: int
    """Number that the next chore gets, above all that were given."""
    groups: Mapping[str, int] = field(default_factory=dict)
    """Group → number of its chores."""
    reserve_broker_node: bool = True
    """Whether Flux rank 0 is left to the broker where there are more nodes."""
    by_value: tuple[str, ...] = ()
    """Names of the modules whose objects travel by value."""
    callables: Mapping[str, CallableEntry] = field(default_factory=dict)
    """Registry name → what is known of the callable."""
    strategies: tuple[StrategyEntry, ...] = ()
    """In the order of their definition."""

    def to_json(self) -> dict[str, Any]:
        """Return the object that is written to `workflow.json`."""
        return {
            "format": MANIFEST_FORMAT,
            "name": self.name,
            "created_at": self.created_at,
            "versions": dict(self.versions),
            "num_chores": self.num_chores,
            "next_number": self.next_number,
            "groups": dict(self.groups),
            "reserve_broker_node": self.reserve_broker_node,
            "by_value": self.by_value,
            "callables": {name: entry.to_json() for name, entry in self.callables.items()},
            "strategies": [entry.to_json() for entry in self.strategies],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], path: str = "workflow.json") -> Manifest:
        """Return the manifest of `to_json`; unknown fields of later versions are ignored.

        Raises
        ------
        FormatError
            If it is none, or of a format that this version does not know.
        """
        try:
            if data["format"] != MANIFEST_FORMAT:
                raise FormatError(
                    path, f"has format {data['format']}; this version reads {MANIFEST_FORMAT}"
                )
            return cls(
                name=str(data["name"]),
                created_at=str(data["created_at"]),
                versions={str(k): str(v) for k, v in data["versions"].items()},
                num_chores=int(data["num_chores"]),
                next_number=int(data["next_number"]),
                groups={check_name(k): int(v) for k, v in data["groups"].items()},
                reserve_broker_node=bool(data["reserve_broker_node"]),
                by_value=tuple(data["by_value"]),
                callables={
                    check_name(name): CallableEntry.from_json(entry)
                    for name, entry in data["callables"].items()
                },
                strategies=tuple(StrategyEntry.from_json(entry) for entry in data["strategies"]),
            )
        except FormatError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(path, f"is no manifest ({type(error).__name__}: {error})") from error

    def check_environment(self, present: Mapping[str, str] | None = None) -> None:
        """Check that the pickles of this run can be loaded here.

        Functions travel as bytecode, which changes with every minor version of Python. The pickles
        name constructors inside cloudpickle, which change with its minor versions at most; its
        patch releases are interchangeable.

        Parameters
        ----------
        present
            What to compare with; None means `present_versions`.

        Raises
        ------
        IncompatibleEnvironmentError
            If they cannot.
        """
        present = present_versions() if present is None else present
        for what, key in (("Python", "python"), ("cloudpickle", "cloudpickle")):
            recorded = self.versions.get(key, "?")
            if recorded.split(".")[:2] != present[key].split(".")[:2]:
                raise IncompatibleEnvironmentError(what, recorded, present[key])


def utc_now() -> str:
    """Return the time in the form of every instant on disk: ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


# --- writing ----------------------------------------------------------------------------------


def create_run_dir(basedir: str | os.PathLike[str]) -> RunDir:
    """Create an empty run directory, private to this user, and return it.

    Its name is ``matensemble_workflow-YYYYMMDD_HHMMSS`` (local time), with ``-2``, ``-3`` …
    appended where that is taken, by whatever process.

    Parameters
    ----------
    basedir
        Where to create it; is made where it does not exist.

    Raises
    ------
    RunDirectoryError
        If it cannot be created.
    """
    base = Path(basedir).absolute()
    stem = DIRECTORY_PREFIX + datetime.now().astimezone().strftime("%Y%m%d_%H%M%S")
    number = 1
    try:
        base.mkdir(parents=True, exist_ok=True)
        while True:
            root = base / (stem if number == 1 else f"{stem}-{number}")
            try:
                disk.make_dir(root)
            except FileExistsError:
                number += 1
                continue
            return RunDir(root)
    except OSError as error:
        raise RunDirectoryError(
            str(base), f"a run directory cannot be created here ({error.strerror}); choose basedir"
        ) from error


def write_workflow(
    run: RunDir,
    manifest: Manifest,
    headers: Iterable[str],
    arguments: Iterable[bytes],
    callables: Mapping[str, bytes],
    further: Mapping[Path, Iterable[str]] = MappingProxyType({}),
) -> None:
    """Write the saved part into an empty run directory; the manifest comes last.

    Parameters
    ----------
    run
        As `create_run_dir` made it.
    manifest
        What becomes `workflow.json`.
    headers
        One JSON object a chore, in topological order, without newline.
    arguments
        The content of `workflow.args`, in blocks of any size.
    callables
        Registry name → pickled callable.
    further
        Further files → their lines, without newline.

    Raises
    ------
    RunDirectoryError
        If it cannot be written; the directory is removed.
    """
    try:
        for directory in (run.out_dir, run.registry_dir):
            disk.make_dir(directory)
        for name, data in callables.items():
            disk.write_atomic(run.registry_dir / name, data)
        with open(_create(run.arguments_path), "wb") as target:
            target.writelines(arguments)
        for path, lines in {run.chores_path: headers, **further}.items():
            with open(_create(path), "w", buffering=1 << 20, encoding="ascii") as file:
                file.writelines(f"{line}\n" for line in lines)
        text = json.dumps(manifest.to_json(), indent=1)
        disk.write_atomic(run.manifest_path, text.encode())
    except BaseException as error:
        shutil.rmtree(run.root, ignore_errors=True)
        if isinstance(error, OSError):
            raise RunDirectoryError(
                str(run.root), f"cannot be written ({error.strerror or error})"
            ) from error
        raise


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)


# --- reading ----------------------------------------------------------------------------------


class Workflow:
    """A saved workflow, read from its run directory without loading a pickle.

    Attributes
    ----------
    run
        The directory.
    manifest
        Its manifest.
    """

    __slots__ = ("_envs", "manifest", "run")

    def __init__(self, run: RunDir, manifest: Manifest) -> None:
        self.run = run
        self.manifest = manifest
        self._envs: dict[Place, dict[str, str]] = {}

    @classmethod
    def read(cls, run_dir: RunDir | str | os.PathLike[str]) -> Workflow:
        """Read the manifest of a run directory.

        Raises
        ------
        RunDirectoryError
            If it is no run directory, or was never finished.
        FormatError
            If the manifest is damaged or too new.
        """
        run = run_dir if isinstance(run_dir, RunDir) else RunDir(Path(run_dir).absolute())
        path = run.manifest_path
        try:
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise RunDirectoryError(
                str(run.root),
                f"is no run directory, or was not saved to its end: no {path.name}. Of a folder of "
                "runs, name the one that is meant",
            ) from None
        except OSError as error:
            raise RunDirectoryError(str(path), f"cannot be read ({error.strerror})") from error
        try:
            data = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise FormatError(str(path), f"is no JSON ({error})") from error
        return cls(run, Manifest.from_json(data, str(path)))

    def chores(self) -> Iterator[Chore]:
        """Read the chores one by one, in topological order; O(1) memory besides their ids.

        Raises
        ------
        FormatError
            If a line is damaged, a chore is missing, comes twice or before one that it depends on,
            or its arguments lie outside `workflow.args`; names the line.
        """
        path = str(self.run.chores_path)
        try:
            num_bytes = self.run.arguments_path.stat().st_size
            lines = self.run.chores_path.open(encoding="ascii", errors="surrogateescape")
        except OSError as error:
            raise FormatError(
                str(error.filename), f"cannot be read ({error.strerror}); the run is incomplete"
            ) from error
        seen: dict[str, str] = {}
        names: set[str] = set()
        with lines:
            for number, line in enumerate(lines, 1):
                try:
                    header = _decode(line)
                    if deps := header.get("deps"):  # one text an id, however many depend on it
                        header["deps"] = [seen.get(d, d) if type(d) is str else d for d in deps]
                    chore = Chore.from_header(header)
                    _check_chore(chore, seen, names, num_bytes)
                except (
                    KeyError, TypeError, ValueError, AttributeError, RecursionError,
                    MatEnsembleError,
                ) as error:  # fmt: skip
                    raise FormatError(
                        path, f"line {number} is no chore ({type(error).__name__}: {error})"
                    ) from error
                seen[chore.id] = chore.id
                yield chore
        if len(seen) != self.manifest.num_chores:
            raise FormatError(
                path,
                f"ends after line {len(seen)}, but the manifest counts "
                f"{self.manifest.num_chores} chores (was it truncated?)",
            )

    def read_env(self, place: Place | None) -> dict[str, str] | None:
        """Return the environment that stands at a place (None: None); read once, do not change it.

        Raises
        ------
        FormatError
            If it is damaged.
        """
        if place is None:
            return None
        env = self._envs.get(place)
        if env is None:
            path = self.run.root / place.file
            try:
                with path.open("rb") as file:
                    file.seek(place.offset)
                    env = json.loads(file.read(place.size))
                if not isinstance(env, dict):
                    raise ValueError("is no mapping")
            except (OSError, ValueError) as error:
                raise FormatError(
                    str(path), f"holds no environment at byte {place.offset} ({error})"
                ) from error
            self._envs[place] = env
        return env


def _check_chore(chore: Chore, seen: Container[str], names: set[str], num_bytes: int) -> None:
    """Raise ValueError where a chore does not fit what was read so far."""
    if not _CHORE_ID.fullmatch(chore.id) or len(chore.id) > 200:
        raise ValueError(f"the id {chore.id!r} cannot be a directory name")
    if chore.id in seen:
        raise ValueError(f"the id {chore.id} comes twice")
    for name in (chore.name, chore.callable):
        if name is not None and name not in names:
            names.add(check_name(name))
    for upstream in chore.upstream:
        if upstream not in seen:
            raise ValueError(f"{chore.id} depends on {upstream}, which does not stand before it")
    for place in (chore.arguments, chore.env_place):
        if place is not None and (
            place.file != ARGUMENTS
            or not 0 <= place.offset <= place.offset + place.size <= num_bytes
        ):
            raise ValueError(f"{place} lies outside {ARGUMENTS} ({num_bytes} bytes)")
