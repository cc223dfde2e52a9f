"""Find which object inside a value cannot be pickled, for the error message.

Runs only after pickling failed, so it may be slow; it must not raise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any

import cloudpickle

MAX_DEPTH = 12
MAX_VISITS = 2000


def find_culprit(value: object) -> str:
    """Return where the innermost object stands that cannot be pickled, and what it is.

    For example ``args[0]['pot'].file, a TextIOWrapper``.
    """
    budget = [MAX_VISITS]
    path, culprit = _descend(value, "", set(), budget, 0)
    kind = type(culprit).__name__
    article = "an" if kind[:1].lower() in "aeiou" else "a"
    return f"{path.lstrip('. ')}, {article} {kind}" if path else f"{article} {kind}"


def _descend(
    value: object, path: str, seen: set[int], budget: list[int], depth: int
) -> tuple[str, object]:
    seen.add(id(value))
    if depth < MAX_DEPTH:
        for step, part in _parts(value):
            if budget[0] <= 0:
                break
            budget[0] -= 1
            if id(part) not in seen and not _can_pickle(part):
                return _descend(part, path + step, seen, budget, depth + 1)
    return path, value


def _can_pickle(value: object) -> bool:
    try:
        cloudpickle.dumps(value)
    except Exception:
        return False
    return True


def _parts(value: Any) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, item in list(value.items()):
            yield f"[{key!r}]", item
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    elif isinstance(value, FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False):
            try:
                yield f" closure variable {name!r}", cell.cell_contents
            except ValueError:  # an empty cell
                continue
        for name in _global_names(value.__code__):
            if name in value.__globals__:
                yield f" global {name!r}", value.__globals__[name]
        yield from ((f" default {i}", d) for i, d in enumerate(value.__defaults__ or ()))
    elif isinstance(wrapped := getattr(value, "__wrapped__", None), FunctionType):
        yield "", wrapped  # a decorated function travels as the plain one
    elif getattr(type(value), "__reduce__", None) is object.__reduce__:
        # One that reduces itself does not pickle its attributes, so they are not to blame.
        yield from ((f".{k}", v) for k, v in list(getattr(value, "__dict__", {}).items()))


def _global_names(code: Any) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if hasattr(constant, "co_names"):
            yield from _global_names(constant)
