"""How a reference to a later result travels inside pickled arguments.

Pickling *is* the traversal: a reference reduces itself to a numbered slot while arguments are
frozen (`collecting`), and the unpickler calls `resolve` for exactly those slots when the chore
runs (`resolving`). So whatever is found is also replaced, every container keeps its type, nothing
that pickle does not look into (strings, arrays) is touched, and the cost is that of the pickle.
A traversal of our own would have to know each container; see docs/adr/0007.

A slot is an index into the dependencies of the chore, so pickled arguments hold no chore ids.
Loaded by the worker at its start: imports nothing heavy.
"""

from __future__ import annotations

from _thread import _local

from matensemble.errors import PartMissingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Literal, TypeAlias

    # ("item", key) for ref[key], ("attr", name) for ref.attr(name)
    Part: TypeAlias = tuple[Literal["item", "attr"], object]
    Path: TypeAlias = tuple[Part, ...]
    # a chore id, a group to gather, or a spec beside this one
    Dependency: TypeAlias = "str | Gather | Sibling"


class Gather:
    """A dependency on all completed results of a group.

    Attributes
    ----------
    name
        The group: all chores of this name.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Gather) and other.name == self.name

    def __hash__(self) -> int:
        return hash((Gather, self.name))

    def __repr__(self) -> str:
        return f"Gather({self.name!r})"


class Sibling:
    """A dependency on a chore spec that a strategy returns beside this one.

    It has no chore id before the driver gives it one. Compared by identity of the spec.

    Attributes
    ----------
    token
        The spec; the worker replaces it by the spec's position when it writes `spawned.jsonl`.
    """

    __slots__ = ("token",)

    def __init__(self, token: object) -> None:
        self.token = token

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sibling) and other.token is self.token

    def __hash__(self) -> int:
        return hash((Sibling, id(self.token)))

    def __repr__(self) -> str:
        return f"Sibling({self.token!r})"


class Unavailable:
    """In the place of the result of a chore that failed, for those who go on without it.

    Attributes
    ----------
    error
        What every reference to the result, or to any part of it, becomes.
    """

    __slots__ = ("error",)

    def __init__(self, error: object) -> None:
        self.error = error


_context = _local()


class collecting:  # noqa: N801 - used as a function
    """Context manager: number the dependencies of everything pickled inside.

    `dependencies` lists them in slot order afterwards, each once.

    Parameters
    ----------
    source
        The pipeline that the arguments are frozen for. References that another one made are put
        into `foreign`: their ids may well exist here, and mean something else.
    """

    __slots__ = ("_outer", "foreign", "slots", "source")

    def __init__(self, source: object = None) -> None:
        self.slots: dict[Dependency, int] = {}
        self.source = source
        self.foreign: list[Dependency] | None = None

    def __enter__(self) -> collecting:
        self._outer = getattr(_context, "collector", None)
        _context.collector = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _context.collector = self._outer

    def add_foreign(self, dependency: Dependency) -> None:
        """Note a reference that another pipeline made."""
        self.foreign = [*(self.foreign or ()), dependency]

    @property
    def dependencies(self) -> tuple[Dependency, ...]:
        """The dependencies met so far, in slot order."""
        return tuple(self.slots)


def reduce(
    dependency: Dependency, path: Path, source: object = None
) -> tuple[Callable[[int, Path], object], tuple[int, Path]] | None:
    """Return how to pickle a reference, or None where no arguments are being frozen.

    Parameters
    ----------
    dependency, path
        What the reference stands for.
    source
        The pipeline that made it, None for one that was made by hand.
    """
    collector: collecting | None = getattr(_context, "collector", None)
    if collector is None:
        return None
    if source is not collector.source and source is not None and collector.source is not None:
        collector.add_foreign(dependency)
    slots = collector.slots
    return resolve, (slots.setdefault(dependency, len(slots)), path)


def plain(function: object) -> object:
    """Return its argument: what a decorated function becomes when it travels to a worker.

    A function that calls a decorated one holds it in its globals or its closure; on the worker
    there is no pipeline, and calling it just calls the function.
    """
    return function


class resolving:  # noqa: N801 - used as a function
    """Context manager: what unpickling puts in the place of a slot.

    Parameters
    ----------
    load
        Called with the slot number; returns the whole result of that dependency, or `Unavailable`.
    """

    __slots__ = ("_load", "_outer")

    def __init__(self, load: Callable[[int], object]) -> None:
        self._load = load

    def __enter__(self) -> None:
        self._outer = getattr(_context, "load", None)
        _context.load = self._load

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _context.load = self._outer


def resolve(slot: int, path: Path) -> object:
    """Return the value of a slot; the unpickler calls this.

    Raises
    ------
    RuntimeError
        If frozen arguments are unpickled outside `resolving`.
    """
    load: Callable[[int], object] | None = getattr(_context, "load", None)
    if load is None:
        raise RuntimeError("frozen arguments can only be loaded by the worker that runs the chore")
    value = load(slot)
    return value.error if type(value) is Unavailable else select(value, path)


def select(value: object, path: Path) -> object:
    """Return the part of a value that a path of items and attributes names."""
    for step, (kind, key) in enumerate(path):
        try:
            value = value[key] if kind == "item" else getattr(value, str(key))  # type: ignore[index]
        except (LookupError, AttributeError, TypeError) as error:
            raise PartMissingError(
                describe(path[: step + 1]), type(value).__name__, _parts_of(value)
            ) from error
    return value


def _parts_of(value: object) -> str:
    """Return the names by which parts of a value can be asked for; empty where there are none."""
    names = getattr(value, "outputs", value)
    return ", ".join(map(repr, list(names)[:10])) if isinstance(names, dict) else ""


def as_text(value: object) -> str:
    """Return what a resolved reference becomes as a command element or an input file."""
    return value if isinstance(value, str) else str(value)


def describe(path: Path) -> str:
    """Return a path as it was written, for example ``['energies'][0].mean``."""
    return "".join(f"[{key!r}]" if kind == "item" else f".{key}" for kind, key in path)
