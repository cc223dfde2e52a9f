"""Show frozen arguments to people without loading what they hold.

The driver never unpickles a user's data. This unpickler builds plain values (numbers, text,
containers) only; every class and function in the pickle becomes an inert stand-in that shows its
name, so no code of the pickle runs. The records of earlier attempts, which a chore could have
replaced, are read in the same way. Called by the driver and by ``matensemble explain``; the
dashboard, which shows runs of others too, does not even do this.
"""

from __future__ import annotations

from _pickle import Unpickler
from collections.abc import Sequence
from io import BytesIO
from reprlib import Repr
from typing import Any

from matensemble import references, wire
from matensemble.chore import Chore
from matensemble.errors import FormatError
from matensemble.redaction import REDACTED, is_secret_name, redact_command, redact_text
from matensemble.workflow import Workflow

PREVIEW_MAX_BYTES = 4096
PREVIEW_MAX_CHARACTERS = 500


class _Kind(type):
    def __repr__(cls) -> str:
        return f"<{cls.__name__}>"


class _StandIn(metaclass=_Kind):
    """In the place of an object whose class is not loaded; takes and forgets everything."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        """Take an item of a subclass of list."""

    def extend(self, items: object) -> None:
        """Take items of a subclass of list."""

    def add(self, item: object) -> None:
        """Take an item of a subclass of set."""

    def __call__(self, *args: object, **kwargs: object) -> _StandIn:
        return self

    def __repr__(self) -> str:
        return repr(type(self))


class _InertUnpickler(Unpickler):
    def __init__(self, data: bytes, deps: Sequence[str]) -> None:
        super().__init__(BytesIO(data))
        self._deps = deps

    def find_class(self, module: str, name: str) -> Any:
        if module == references.__name__ and name == references.resolve.__name__:
            return self._show_reference
        shown = name.rpartition(".")[2]
        if shown.startswith("_"):  # a constructor that nobody knows, such as NumPy's
            shown = f"{module.partition('.')[0]} object"
        return type(shown, (_StandIn,), {})

    def persistent_load(self, key: object) -> Any:
        return _StandIn()

    def _show_reference(self, slot: int, path: references.Path) -> Any:
        shown = f"{self._deps[slot]}{references.describe(path)}"
        return type(shown, (_StandIn,), {})()


class _RedactingRepr(Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 4, 80, 80
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 8

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(redact_text(x), level)

    def repr_bytes(self, x: bytes, level: int) -> str:
        return f"<{len(x)} bytes>"

    def repr_list(self, x: list[Any], level: int) -> str:
        return super().repr_list(redact_command(x), level)

    def repr_tuple(self, x: tuple[Any, ...], level: int) -> str:
        return super().repr_tuple(tuple(redact_command(x)), level)

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        redacted = {key: _hide(key, value) for key, value in x.items()}
        return super().repr_dict(redacted, level)


class _Redacted:
    def __repr__(self) -> str:
        return REDACTED


def _hide(name: object, value: object) -> object:
    return _Redacted() if is_secret_name(name) else value


def load_inert(data: bytes) -> Any:
    """Return the value of a pickle of plain values; what is not plain becomes a stand-in.

    Raises
    ------
    Exception
        Whatever a damaged pickle makes the unpickler raise.
    """
    return _InertUnpickler(data, ()).load()


def preview(data: bytes, deps: Sequence[str], parameters: Sequence[str] = ()) -> str:
    """Return frozen arguments as text.

    Parameters
    ----------
    data
        What `matensemble.wire.freeze` made of ``(args, kwargs)`` or of ``(command, inputs)``.
    deps
        What to show for each slot.
    parameters
        Names of the positional parameters, for hiding values that look like secrets by name.

    Returns
    -------
    str
        At most `PREVIEW_MAX_CHARACTERS` characters.
    """
    try:
        first, second = _InertUnpickler(data, deps).load()
        shown = _RedactingRepr().repr
        names = [*parameters, *[""] * len(first)]
        values = redact_command(first)
        parts = [shown(_hide(name, value)) for name, value in zip(names, values, strict=False)]
        parts += [f"{name}={shown(_hide(name, value))}" for name, value in second.items()]
        text = ", ".join(parts)
    except Exception as error:
        # A pickle that does not survive the stand-ins; the preview is a courtesy.
        return f"<{len(data)} bytes, pickled; not shown ({type(error).__name__})>"
    if len(text) > PREVIEW_MAX_CHARACTERS:
        text = text[: PREVIEW_MAX_CHARACTERS - 1] + "…"
    return text


def preview_arguments(workflow: Workflow, chore: Chore) -> str | None:
    """Return the frozen arguments of a chore as text, or why they are not shown; None: it has none.

    Parameters
    ----------
    workflow
        The run, whose files must be the caller's own.
    chore
        One of its chores.
    """
    place = chore.arguments
    if place is None:
        return None
    if place.size > PREVIEW_MAX_BYTES:
        return f"<{place.size} bytes, pickled>"
    try:
        data = wire.read_trusted(workflow.run.root / place.file, place.offset, place.size)
    except (OSError, FormatError) as error:
        return f"<not shown: {error}>"
    deps = [dep if isinstance(dep, str) else repr(dep) for dep in chore.deps]
    entry = workflow.manifest.callables.get(chore.callable or "")
    parameters = entry.shape.parameters if entry is not None else None
    return preview(data, deps, [name for name, _, _ in parameters or ()])
