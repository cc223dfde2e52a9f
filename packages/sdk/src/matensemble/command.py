"""The command of an executable chore: how it is split and frozen.

Owns the rules shared by `Pipeline.exec` and `ChoreSpec.exec`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from matensemble import wire, workdir
from matensemble.errors import InvalidCommandError, InvalidOptionError
from matensemble.model import ALLOWED_NAME, OutputReference
from matensemble.redaction import redact_command, redact_text

if TYPE_CHECKING:
    from matensemble.references import Dependency

Command = str | Sequence[Any]
REFERENCE_IN_TEXT = "OutputReference("
"""How a reference looks that was formatted into text, where nothing can resolve it."""

MAX_SEGMENT_BYTES = 200
"""Of each segment of a file name: with the suffix of a temporary file it stays below 255."""
MAX_PATH_BYTES = 500
"""Of a file name: with the run directory before it stays below 1024, the limit of macOS."""

_OWN_FILES = frozenset(
    {
        workdir.STDOUT,
        workdir.STDERR,
        workdir.RECORD,
        workdir.METADATA,
        workdir.RESULT,
        workdir.ERROR,
        workdir.SPAWNED,
        workdir.SPAWNED_ARGUMENTS,
        workdir.ATTEMPTS,
    }
)
_STREAMS = ((workdir.STDOUT,), (workdir.STDERR,))


class FrozenCommand(NamedTuple):
    """A command as it is recorded."""

    name: str
    """Name of the chore: as given, else from the program's file name."""
    command: tuple[str, ...]
    """The elements as text; where `data` is not None it is for people only: references stand as
    their repr, and what looks like a secret by its name is redacted."""
    data: bytes | None
    """Pickled ``(elements, inputs)`` where the worker must resolve or write something, or where
    an element must not be seen by others than the program."""
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
        If a file name leaves the chore's directory, is too long or is that of a file of
        MatEnsemble's own (``stdout`` and ``stderr`` can be outputs), or an input cannot be read.
    """
    shown = name or "exec"
    elements = _split(shown, command)
    if name is None:
        name = _name_of(elements[0])
    _check_files(inputs, outputs)
    shown_elements = redact_command(elements)
    texts = tuple(e if isinstance(e, str) else repr(e) for e in shown_elements)
    if not inputs and list(texts) == elements:
        return FrozenCommand(name, texts, None, ())
    contents = {os.fspath(path): _read_input(path, content) for path, content in inputs.items()}
    data, deps = wire.freeze((elements, contents), by_value, source)
    return FrozenCommand(name, texts, data, deps)


def _split(name: str, command: Command) -> list[Any]:
    if isinstance(command, str):
        if REFERENCE_IN_TEXT in command:
            raise InvalidCommandError(
                name, "holds a reference inside text; give a list with the reference as an element"
            )
        try:
            elements: list[Any] = shlex.split(command)
        except ValueError as error:
            raise InvalidCommandError(
                name, f"cannot be split: {error}: {redact_text(command)!r}"
            ) from None
    elif isinstance(command, (list, tuple)):
        elements = [_element(name, item) for item in command]
    else:
        raise InvalidCommandError(name, f"is {type(command).__name__}, not text or a list")
    if not elements or elements[0] == "":
        raise InvalidCommandError(name, "is empty")
    return elements


def _element(name: str, item: object) -> object:
    if type(item) is str:  # nearly all are: nothing else is to be asked, each question costs
        return _checked(name, item)
    if isinstance(item, OutputReference):
        return item
    if isinstance(item, bool) or not isinstance(item, (str, int, float, os.PathLike)):
        raise InvalidCommandError(
            name, f"holds {item!r}; elements are text, numbers, paths or references"
        )
    text = os.fspath(item) if isinstance(item, os.PathLike) else str(item)
    if not isinstance(text, str):
        raise InvalidCommandError(name, f"holds {item!r}, which no program can receive")
    return _checked(name, text)


def _checked(name: str, text: str) -> str:
    if "\0" in text:
        raise InvalidCommandError(name, f"holds {text!r}, which no program can receive")
    if REFERENCE_IN_TEXT in text:
        raise InvalidCommandError(name, "holds a reference inside text; make it an own element")
    return text


def _name_of(program: object) -> str:
    name = PurePosixPath(program).name if isinstance(program, str) else ""
    return name if ALLOWED_NAME.fullmatch(name) else "exec"


def _check_files(inputs: Mapping[str, Any], outputs: Mapping[str, str]) -> None:
    for option, files in (("inputs", inputs), ("outputs", outputs)):
        if not isinstance(files, Mapping):
            raise InvalidOptionError(option, files, "a mapping")
    for key in outputs:
        if not isinstance(key, str):
            raise InvalidOptionError("outputs", key, "names as text")
    for path in inputs:
        _check_file("inputs", path)
    for path in outputs.values():
        _check_file("outputs", path)


def _check_file(option: str, path: object) -> None:
    if isinstance(path, os.PathLike):
        path = os.fspath(path)
    pure = PurePosixPath(path) if isinstance(path, str) else None
    if (
        not isinstance(path, str)
        or pure is None
        or "\0" in path
        or pure.is_absolute()
        or ".." in pure.parts
        or not pure.parts
    ):
        raise InvalidOptionError(
            option, path, "a path relative to the chore's directory that stays inside it"
        )
    own = pure.parts[0].casefold()  # file systems of macOS do not tell them apart
    if own in _OWN_FILES and not (option == "outputs" and pure.parts in _STREAMS):
        raise InvalidOptionError(
            option, path, f"another name, because MatEnsemble keeps its own {own!r} there"
        )
    try:
        sizes = [len(os.fsencode(part)) for part in pure.parts]
    except UnicodeEncodeError:
        raise InvalidOptionError(option, path, "text that can be a file name") from None
    if max(sizes) > MAX_SEGMENT_BYTES or sum(sizes) + len(sizes) > MAX_PATH_BYTES:
        raise InvalidOptionError(
            option,
            path,
            f"at most {MAX_PATH_BYTES} bytes long, {MAX_SEGMENT_BYTES} between two slashes",
        )


def _read_input(path: str | os.PathLike[str], content: object) -> object:
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
    if isinstance(content, str) and REFERENCE_IN_TEXT in content:
        raise InvalidOptionError(
            f"inputs[{path!r}]",
            "text with a reference inside",
            "a reference of its own, or the result of a chore that makes the text",
        )
    return content
