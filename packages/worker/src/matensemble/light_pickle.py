"""Load functions that cloudpickle pickled, without importing cloudpickle.

Importing cloudpickle takes most of a short chore's time, and a function needs only a handful of its
constructors. This module owns light equivalents of those and gives them to the unpickler; whatever
else a pickle names (dynamic classes, enums, type variables …) is looked up as always, which imports
the real library. The two mix freely in one pickle, because the equivalents do what the originals
do. They follow cloudpickle's internals, so they serve only the versions they were compared with;
the worker asks `can_load` and otherwise uses the plain unpickler.
"""

from __future__ import annotations

import builtins
import sys
from _io import BytesIO
from _pickle import Unpickler, loads as _loads
from types import CellType, FunctionType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any

KNOWN_VERSIONS = frozenset({"3.0.0", "3.1.0", "3.1.1", "3.1.2"})
"""Versions of cloudpickle whose function pickles were compared with the constructors below."""

_LIBRARY = "cloudpickle.cloudpickle"
_LIBRARY_BYTES = _LIBRARY.encode()


def can_load(version: object) -> bool:
    """Whether pickles of this version of cloudpickle may be given to `loads`."""
    return version in KNOWN_VERSIONS


def loads(data: bytes) -> Any:
    """Unpickle, as `pickle.loads` would, but import cloudpickle only where it is needed.

    Parameters
    ----------
    data
        A pickle, as bytes or as a memoryview over them (the content of a result file). It is not
        copied unless it names cloudpickle.
    """
    searched = data.obj if isinstance(data, memoryview) else data
    if _LIBRARY in sys.modules or _LIBRARY_BYTES not in searched:
        return _loads(data)
    return _LightUnpickler(BytesIO(data)).load()


class _LightUnpickler(Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        if module_name == _LIBRARY:
            constructor = _CONSTRUCTORS.get(global_name)
            if constructor is not None:
                return constructor
        return super().find_class(module_name, global_name)


# --- what cloudpickle's function pickles call ---------------------------------------------------


def _make_function(
    code: CodeType,
    namespace: dict[str, Any],
    name: str | None,
    defaults: tuple[Any, ...] | None,
    closure: tuple[CellType, ...] | None,
) -> FunctionType:
    # One pickle memoizes the namespace, so functions that shared their globals share them again.
    namespace["__builtins__"] = builtins.__dict__
    return FunctionType(code, namespace, name, defaults, closure)


def _set_function_state(
    function: FunctionType, state: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    attributes, slots = state
    function.__dict__.update(attributes)
    namespace = slots.pop("__globals__")
    closure = slots.pop("__closure__")
    slots.pop("_cloudpickle_submodules")  # unpickling this list imported them
    function.__globals__.update(namespace)
    function.__globals__["__builtins__"] = builtins.__dict__
    # The function was made with empty cells, because its cells may hold the function itself.
    for own, pickled in zip(function.__closure__ or (), closure or (), strict=True):
        try:
            own.cell_contents = pickled.cell_contents
        except ValueError:  # the cell was empty when it was pickled
            continue
    for name, value in slots.items():
        setattr(function, name, value)


def _import_module(name: str) -> ModuleType:
    __import__(name)
    return sys.modules[name]


def _builtin_type(name: str) -> Any:
    import types

    return getattr(types, name)


_CONSTRUCTORS: dict[str, Callable[..., Any]] = {
    "_builtin_type": _builtin_type,
    "_function_setstate": _set_function_state,
    "_make_cell": CellType,
    "_make_empty_cell": CellType,
    "_make_function": _make_function,
    "subimport": _import_module,
}
