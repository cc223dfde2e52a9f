"""The command of an executable chore: how it is split and frozen.

Owns the rules shared by `Pipeline.exec` and `ChoreSpec.exec`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from matensemble import wire
from matensemble.errors import InvalidCommandError, InvalidOptionError
from matensemble.model import ALLOWED_NAME, OutputReference

if TYPE_CHECKING:
    from matensemble.references import Dependency

Command = str | Sequence[Any]


class FrozenCommand(NamedTuple):
    """A command as it is recorded."""

    name: str
    """Name of the chore: as given, else from the program's file name."""
    command: tuple[str, ...]
    """The elements as text; where `data` is not None, references stand as their repr."""
    data: bytes | None
    """Pickled ``(elements, inputs)`` where the worker must resolve or write something."""
    deps: tuple[Dependency, ...]
    """The references inside, in slot order."""


def freeze_command(
    name: str | None,
    command: Command,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, str],
    *,
    by_value: tuple[bytes, ...] = (),
    source: object = None,
) -> FrozenCommand:
    """Split and freeze a command with its input files.

    Parameters
    ----------
    name
        Name of the chore; None takes the program's.
    command
        Text, split as a shell would (no shell runs it), or a sequence of elements: text, paths,
        numbers, references.
    inputs
        File name, relative to the chore's directory → text, bytes, a `Path` whose content is read
        now, or a reference.
    outputs
        Name → file, relative to the chore's directory.
    by_value, source
        As `wire.freeze`.

    Raises
    ------
    UnknownReferenceError
        If another pipeline made one of the references.
    InvalidCommandError
        If the command is empty or cannot be split.
    InvalidOptionError
        If a file name leaves the chore's directory, or an input cannot be read.
    """
    shown = name or "exec"
    elements = _split(shown, command)
    if name is None:
        name = _name_of(elements[0])
    for path in (*inputs, *outputs.values()):
        _check_inside(path)
    for key in outputs:
        if not isinstance(key, str):
            raise InvalidOptionError("outputs", key, "names as text")
    texts = tuple(e if isinstance(e, str) else repr(e) for e in elements)
    if not inputs and all(isinstance(e, str) for e in elements):
        return FrozenCommand(name, texts, None, ())
    contents = {path: _read_input(path, content) for path, content in inputs.items()}
    data, deps = wire.freeze((elements, contents), by_value, source)
    return FrozenCommand(name, texts, data, deps)


def _split(name: str, command: Command) -> list[Any]:
    if isinstance(command, str):
        if "OutputReference(" in command:
            raise InvalidCommandError(
                name, "holds a reference inside text; give a list with the reference as an element"
            )
        try:
            elements: list[Any] = shlex.split(command)
        except ValueError as error:
            raise InvalidCommandError(name, f"cannot be split: {error}: {command!r}") from None
    elif isinstance(command, (list, tuple)):
        elements = [_element(name, item) for item in command]
    else:
        raise InvalidCommandError(name, f"is {type(command).__name__}, not text or a list")
    if not elements or elements[0] == "":
        raise InvalidCommandError(name, "is empty")
    return elements


def _element(name: str, item: object) -> object:
    if isinstance(item, OutputReference):
        return item
    if isinstance(item, bool) or not isinstance(item, (str, int, float, os.PathLike)):
        raise InvalidCommandError(
            name, f"holds {item!r}; elements are text, numbers, paths or references"
        )
    text = os.fspath(item) if isinstance(item, os.PathLike) else str(item)
    if not isinstance(text, str) or "\0" in text:
        raise InvalidCommandError(name, f"holds {item!r}, which no program can receive")
    if "OutputReference(" in text:
        raise InvalidCommandError(name, "holds a reference inside text; make it an own element")
    return text


def _name_of(program: object) -> str:
    name = PurePosixPath(program).name if isinstance(program, str) else ""
    return name if ALLOWED_NAME.fullmatch(name) else "exec"


def _check_inside(path: object) -> None:
    expected = "a path relative to the chore's directory that stays inside it"
    if isinstance(path, os.PathLike):
        path = os.fspath(path)
    if not isinstance(path, str) or not path or "\0" in path:
        raise InvalidOptionError("file name", path, expected)
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or pure == PurePosixPath("."):
        raise InvalidOptionError("file name", path, expected)


def _read_input(path: str, content: object) -> object:
    """Return an input as it is frozen: the content of a `Path` is read now, as a copy."""
    if isinstance(content, Path):
        try:
            return content.read_bytes()
        except OSError as error:
            raise InvalidOptionError(
                f"inputs[{path!r}]", str(content), f"a readable file ({error.strerror})"
            ) from None
    if not isinstance(content, (str, bytes, OutputReference)):
        raise InvalidOptionError(f"inputs[{path!r}]", content, "text, bytes, a Path or a reference")
    return content
