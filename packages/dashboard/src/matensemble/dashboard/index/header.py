"""What the header of one chore says, read from the run where the index says it stands.

Owns the caution: the header is somebody's file, so only known fields are taken, cut and cleaned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from matensemble.dashboard.index.bounds import MAX_NAME, MAX_NUMBER, MAX_SEQUENCE, clean
from matensemble.errors import FormatError
from matensemble.foreign_json import open_foreign, parse_foreign_json
from matensemble.model import ChoreType, Resources
from matensemble.policy import ChorePolicy
from matensemble.records import journal_chain
from matensemble.workdir import ARGUMENTS, RunDir

_T = TypeVar("_T")

MAX_UPSTREAM = 500
MAX_WORDS = 100
MAX_RESOURCES = 50
MAX_ENVIRONMENT_BYTES = 1 << 16
MAX_ENVIRONMENT_NAMES = 200


class Header(NamedTuple):
    """The part of a header that is shown."""

    upstream: list[str]
    num_upstream: int
    gathers: list[str]
    command: list[str]
    callable: str
    arguments_bytes: int | None
    environment_names: list[str] | None
    resources: dict[str, int | float | bool | str]
    nice: int


def read_header(run: RunDir, chore_id: str, part: int, offset: int, length: int) -> Header:
    """Return what the header of a chore says.

    Parameters
    ----------
    run
        The run.
    chore_id
        Whose header it must be.
    part, offset, length
        Where its line stands, by the index: part 0 is `workflow.jsonl`, from 1 the journals.

    Raises
    ------
    FormatError
        If it does not stand there any more, or makes no sense.
    OSError
        If it cannot be read.
    """
    return _read(run, chore_id, part, offset, length, lambda header: _shown(run, header))


class Terms(NamedTuple):
    """The part of a header by which a driver decides."""

    policy: ChorePolicy
    resources: Resources
    nice: int


def read_terms(run: RunDir, chore_id: str, part: int, offset: int, length: int) -> Terms:
    """Return by what a driver decides about a chore; as `read_header`."""
    return _read(run, chore_id, part, offset, length, _terms)


def read_outputs(
    run: RunDir, chore_id: str, part: int, offset: int, length: int
) -> Mapping[str, Any]:
    """Return the outputs that a chore declares, by name, not checked; as `read_header`."""
    return _read(run, chore_id, part, offset, length, _outputs)


def _read(
    run: RunDir,
    chore_id: str,
    part: int,
    offset: int,
    length: int,
    shape: Callable[[Mapping[str, Any]], _T],
) -> _T:
    path = journal_chain(run)[part - 1].path if part else run.chores_path
    with open_foreign(path) as file:
        file.seek(offset)
        line = file.read(length)
    data = parse_foreign_json(line, path)
    try:
        header = data["header"] if part else data
        if header["id"] != chore_id:
            raise ValueError(f"it is that of {header['id']!r}")
        return shape(header)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(str(path), f"holds no header of {chore_id} ({error!r})") from error


def _terms(header: Mapping[str, Any]) -> Terms:
    return Terms(
        ChorePolicy.from_json(header.get("policy", {})),
        Resources.from_json(header.get("resources", {})),
        int(header.get("nice", 0)),
    )


def _outputs(header: Mapping[str, Any]) -> Mapping[str, Any]:
    outputs = header.get("outputs", {})
    if not isinstance(outputs, Mapping):
        raise TypeError("its outputs are none")
    return outputs


def _shown(run: RunDir, header: Mapping[str, Any]) -> Header:
    deps = header.get("deps", [])
    upstream = [dep for dep in deps if isinstance(dep, str)]
    upstream = list(dict.fromkeys([*upstream, *header.get("after", [])]))
    gathers = [dep["gather"] for dep in deps if isinstance(dep, Mapping) and "gather" in dep]
    is_python = header["kind"] == ChoreType.PYTHON
    resources: dict[str, int | float | bool | str] = {}
    for name, value in list(header.get("resources", {}).items())[:MAX_RESOURCES]:
        if isinstance(value, int | float) and abs(value) < MAX_NUMBER:
            resources[clean(name, MAX_NAME)] = value
        elif isinstance(value, str):
            resources[clean(name, MAX_NAME)] = clean(value, MAX_NAME)
    return Header(
        [clean(chore_id, MAX_NAME) for chore_id in upstream[:MAX_UPSTREAM]],
        len(upstream),
        [clean(name, MAX_NAME) for name in gathers[:MAX_UPSTREAM]],
        [clean(str(word)) for word in (header.get("command") or [])[:MAX_WORDS]],
        clean(header.get("callable", header["name"]), MAX_NAME) if is_python else "",
        _size_of(header.get("arguments")),
        _environment_names(run, header.get("env")),
        resources,
        int(header.get("nice", 0)),
    )


def _size_of(place: Any) -> int | None:
    """Return how many bytes of frozen arguments a chore has; None where it has none."""
    if place is None:
        return None
    _, _, size = place
    if type(size) is not int or not 0 <= size < MAX_SEQUENCE:
        raise ValueError("its arguments have no such size")
    return size


def _environment_names(run: RunDir, place: Any) -> list[str] | None:
    """Return the names of the variables that a chore sets; None where they cannot be told.

    Their values are secret; and of files in which they could stand, one is looked into.
    """
    if place is None:
        return []
    file, offset, size = place
    if file != ARGUMENTS or not 0 <= size <= MAX_ENVIRONMENT_BYTES:
        return None
    try:
        with open_foreign(run.root / ARGUMENTS) as frozen:
            frozen.seek(offset)
            env = parse_foreign_json(frozen.read(size), run.root / ARGUMENTS)
    except (OSError, FormatError, ValueError, TypeError):
        return None
    if not isinstance(env, dict):
        return None
    return [clean(name, MAX_NAME) for name in sorted(env)[:MAX_ENVIRONMENT_NAMES]]
