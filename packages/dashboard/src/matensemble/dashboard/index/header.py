"""What the header of one chore says, read from the run where the index says it stands.

Owns the caution: the header is somebody's file, so only known fields are taken, cut and cleaned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from matensemble.dashboard.index.bounds import MAX_NAME, MAX_NUMBER, clean
from matensemble.errors import FormatError
from matensemble.foreign_json import open_foreign, parse_foreign_json
from matensemble.records import journal_chain
from matensemble.workdir import RunDir

MAX_UPSTREAM = 500
MAX_WORDS = 100
MAX_RESOURCES = 50


class Header(NamedTuple):
    """The part of a header that is shown."""

    upstream: list[str]
    num_upstream: int
    gathers: list[str]
    command: list[str]
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
    path = journal_chain(run)[part - 1].path if part else run.chores_path
    with open_foreign(path) as file:
        file.seek(offset)
        line = file.read(length)
    data = parse_foreign_json(line, path)
    try:
        header = data["header"] if part else data
        if header["id"] != chore_id:
            raise ValueError(f"it is that of {header['id']!r}")
        return _shown(header)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(str(path), f"holds no header of {chore_id} ({error!r})") from error


def _shown(header: Mapping[str, Any]) -> Header:
    deps = header.get("deps", [])
    upstream = [dep for dep in deps if isinstance(dep, str)]
    upstream = list(dict.fromkeys([*upstream, *header.get("after", [])]))
    gathers = [dep["gather"] for dep in deps if isinstance(dep, Mapping) and "gather" in dep]
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
        resources,
        int(header.get("nice", 0)),
    )
