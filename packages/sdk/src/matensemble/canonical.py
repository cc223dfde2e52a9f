"""Values and functions as digests: the same content gives the same one in every process.

Owns what "the same" means for content keys, where a false miss is allowed and a false hit is not:

- Plain values count by type and content, containers by what they hold. Dicts keep their order,
  because a function sees it; sets have none.
- Whether two places hold the *same* mutable object counts too: a function may change it.
- Any other object counts by how it reduces itself for pickling, which is all that a worker gets of
  it, and by the code of its class.
- Functions and classes that travel by value (of ``__main__``, of modules shipped by value, local
  ones) count by their bytecode, defaults, closure and the globals that they name, and so on
  through everything these reach. Those that workers import count by their module, see
  `matensemble.imported`.

What reading a file, the network, the clock or an environment variable gives is not seen.
Called by `matensemble.content_key`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from hashlib import sha256
from pickle import whichmodule  # type: ignore[attr-defined]
from types import (
    BuiltinFunctionType,
    CellType,
    ClassMethodDescriptorType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, TypeVar

import cloudpickle

from matensemble.file_marks import Mark
from matensemble.imported import Origins, UnknownOriginError
from matensemble.plain_value import ATOMS, encode_code, names_of, token
from matensemble.reduction import (
    IMMUTABLE,
    UnkeyableError,
    is_immutable,
    numpy_class,
    reduces_itself,
    reduction,
)

MAX_COMPOSITES = 5_000_000
"""Containers and objects of one value; tuples that share parts can unfold without end."""
_CLASS_ENTRIES_LEFT_OUT = {
    *("__dict__", "__weakref__", "__module__", "__firstlineno__", "__static_attributes__"),
    *("_abc_impl", "__annotations_cache__"),
}
_MODULE_ENTRIES_LEFT_OUT = {
    *("__builtins__", "__cached__", "__doc__", "__file__", "__loader__", "__spec__"),
}


class Slot:
    """A reference to the result of another chore, inside thawed arguments.

    Parameters
    ----------
    number
        Index into the dependencies of the chore.
    path
        Which part of the result.
    """

    __slots__ = ("number", "path")

    def __init__(self, number: int, path: Any) -> None:
        self.number = number
        self.path = path


class Canon:
    """Digests of the values and callables of one pipeline.

    Parameters
    ----------
    by_value
        Names of the modules whose objects travel by value.

    Attributes
    ----------
    reached
        Names of the top-level modules that digests since it was emptied depend on.
    """

    def __init__(self, by_value: Sequence[str] = ()) -> None:
        self._by_value = {"__main__", *by_value, *cloudpickle.list_registry_pickle_by_value()}
        self.reached: set[str] = set()
        self._origins = Origins()
        # By id; the values keep what they are of alive.
        self._names: dict[int, tuple[Any, bytes, str]] = {}
        self._codes: dict[int, tuple[Any, bytes | UnkeyableError, frozenset[str]]] = {}

    def digest(self, value: Any, upstream: Sequence[bytes] = ()) -> tuple[bytes, bool]:
        """Return the digest of arguments, and whether they hold objects that reduce themselves.

        Such an object can reduce itself differently each time; the caller then compares the
        digests of two copies.

        Parameters
        ----------
        value
            Any value.
        upstream
            What stands for the `Slot` of each number.

        Raises
        ------
        UnkeyableError
            If it has none.
        """
        return self._digest(value, Walk.write, upstream, inlines=False)

    def code(self, value: Any) -> bytes:
        """Return the digest of a function or class with all that it reaches; kept.

        Raises
        ------
        UnkeyableError
            If it has none.
        """
        known = self._codes.get(id(value))
        if known is None:
            before, self.reached = self.reached, set()
            found = self._find_code(value)
            known = self._codes[id(value)] = (value, found, frozenset(self.reached))
            self.reached |= before
        self.reached |= known[2]
        if isinstance(known[1], UnkeyableError):
            raise known[1]
        return known[1]

    def _find_code(self, value: Any) -> bytes | UnkeyableError:
        write = Walk.write_body if type(value) is FunctionType else Walk.write
        try:
            first, has_reduced = self._digest(value, write, (), inlines=True)
            if has_reduced and self._digest(value, write, (), inlines=True)[0] != first:
                return UnkeyableError("an object in it pickles differently each time")
        except UnkeyableError as error:
            return error
        return first

    def _digest(
        self,
        value: Any,
        write: Callable[[Walk, Any], None],
        upstream: Sequence[bytes],
        *,
        inlines: bool,
    ) -> tuple[bytes, bool]:
        digest = sha256()
        walk = Walk(self, digest.update, upstream, inlines=inlines)
        try:
            write(walk, value)
        except RecursionError:
            raise UnkeyableError("it is nested too deeply") from None
        except UnknownOriginError as error:
            raise UnkeyableError(str(error)) from None
        except UnkeyableError:
            raise
        except Exception as error:  # of an object's own code
            raise UnkeyableError(f"{type(error).__name__}: {error}") from error
        return digest.digest(), walk.has_reduced

    def name(self, value: Any) -> bytes:
        """Return what stands for a function or class that workers import; empty for another one.

        Raises
        ------
        UnknownOriginError
            If its module cannot be known.
        """
        known = self._names.get(id(value))
        if known is None:
            name = self._find_name(value)
            top = value.__module__.partition(".")[0] if name else ""
            known = self._names[id(value)] = (value, name, top)
        if known[2]:
            self.reached.add(known[2])
        return known[1]

    def _find_name(self, value: Any) -> bytes:
        if not is_global(value) or self.travels_by_value(value.__module__):
            return b""
        module, qualname = value.__module__.encode(), value.__qualname__.encode()
        origin = self._origin(value.__module__)
        return token(b"name", token(b"m", module) + token(b"q", qualname) + origin)

    def travels_by_value(self, module: str) -> bool:
        """Return whether the objects of a module, or of a parent of it, travel by value."""
        while module:
            if module in self._by_value:
                return True
            module = module.rpartition(".")[0]
        return False

    def module(self, name: str) -> bytes:
        """Return what stands for a module that workers import; raises UnknownOriginError."""
        return token(b"module", token(b"m", name.encode()) + self._origin(name))

    def marks(self, tops: Iterable[str]) -> Iterator[Mark]:
        """Yield what tells later whether modules that were reached have changed."""
        return self._origins.marks(tops)

    def _origin(self, module: str) -> bytes:
        self.reached.add(module.partition(".")[0])
        return self._origins.origin(module)


def is_global(value: Any) -> bool:
    """Return whether a function or class is found in its module under its name."""
    module, qualname = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str):
        return False
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found is value


class Walk:
    """One way through a value and everything that it reaches.

    Parameters
    ----------
    canon
        Knows what workers import.
    update
        Receives the bytes.
    upstream
        What stands for the `Slot` of each number.
    inlines
        Whether the code of classes and global functions is written where it is met, since inside
        code it counts which of them share something. In arguments and sets their digests stand for
        them, each computed once.

    Attributes
    ----------
    has_reduced
        Whether there was an object that reduced itself.
    """

    def __init__(
        self,
        canon: Canon,
        update: Callable[[Any], None],
        upstream: Sequence[bytes] = (),
        *,
        inlines: bool,
    ) -> None:
        self.has_reduced = False
        self._canon = canon
        self._inlines = inlines
        self._update = update
        self._upstream = upstream
        self._seen: dict[int, tuple[int, Any]] = {}  # id → number, and what must not be freed
        self._num_composites = 0

    def write(self, value: Any) -> None:
        """Write a value; raises UnkeyableError, UnknownOriginError or RecursionError."""
        kind = type(value)
        if (atom := ATOMS.get(kind)) is not None:
            self._update(atom(value))
            return
        self._num_composites += 1
        if self._num_composites > MAX_COMPOSITES:
            raise UnkeyableError("it is too large")
        if (writer := _WRITERS.get(kind)) is not None:
            writer(self, value)
        elif isinstance(value, type):
            self._write_class(value)
        elif kind is numpy_class("ndarray"):
            self._write_array(value)
        else:
            self._write_object(value)

    def _is_known(self, value: Any) -> bool:
        """Note a mutable object; where it was met before, write which one it is."""
        known = self._seen.get(id(value))
        if known is None:
            self._seen[id(value)] = (len(self._seen), value)
            return False
        self._update(b"same%d;" % known[0])
        return True

    # --- containers ---------------------------------------------------------------------------

    def _write_tuple(self, value: tuple[Any, ...]) -> None:
        self._update(b"(%d:" % len(value))
        for item in value:
            self.write(item)

    def _write_list(self, value: list[Any]) -> None:
        if not self._is_known(value):
            self._update(b"[%d:" % len(value))
            for item in value:
                self.write(item)

    def _write_dict(self, value: dict[Any, Any]) -> None:
        if not self._is_known(value):
            self._write_mapping(value)

    def _write_mapping(self, value: Mapping[Any, Any]) -> None:
        self._update(b"d%d:" % len(value))
        for key, item in value.items():
            self.write(key)
            self.write(item)

    def _write_set(self, value: set[Any]) -> None:
        if not self._is_known(value):
            self._write_items(b"set", value)

    def _write_frozenset(self, value: frozenset[Any]) -> None:
        self._write_items(b"frozenset", value)

    def _write_items(self, tag: bytes, items: set[Any] | frozenset[Any]) -> None:
        digests = []
        for item in items:
            digest = sha256()
            walk = Walk(self._canon, digest.update, self._upstream, inlines=False)
            walk.write(item)
            if walk._seen:  # nothing could tell which of them is met again elsewhere
                raise UnkeyableError(f"a set holds a {type(item).__name__}, which can be changed")
            self.has_reduced |= walk.has_reduced
            digests.append(digest.digest())
        self._update(token(tag, b"".join(sorted(digests))))

    def _write_bytearray(self, value: bytearray) -> None:
        if not self._is_known(value):
            self._update(token(b"ba", bytes(value)))

    def _write_array(self, value: Any) -> None:
        if value.dtype.hasobject:
            self._write_object(value)
        elif not self._is_known(value):
            # The order in memory survives pickling, and decides how sums are rounded.
            order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
            self._update(b"array")
            self.write((reduction(value.dtype), value.shape, order))
            if value.nbytes:
                self._update(value.ravel(order=order).view("u1"))

    def _write_slot(self, value: Slot) -> None:
        self._update(token(b"upstream", self._upstream[value.number]))
        self.write(value.path)

    # --- code ---------------------------------------------------------------------------------

    def _is_named(self, value: Any) -> bool:
        """Write what stands for a function or class as a whole, where something does."""
        name = self._canon.name(value)
        if not name and not self._inlines and (isinstance(value, type) or is_global(value)):
            name = token(b"digest", self._canon.code(value))
        if name:
            self._update(name)
        return bool(name)

    def _write_function(self, value: FunctionType) -> None:
        if not self._is_named(value):
            self._write_function_body(value, with_name=True)

    def write_body(self, value: FunctionType) -> None:
        """Write the function that a chore calls: what it is called does not count."""
        if not self._is_named(value):
            self._write_function_body(value, with_name=False)

    def _write_function_body(self, value: FunctionType, *, with_name: bool) -> None:
        if self._is_known(value):
            return
        code = value.__code__
        self._update(encode_code(code, with_name=with_name))
        self.write(value.__defaults__)
        self.write(value.__kwdefaults__)
        self.write(value.__annotations__)
        self._write_mapping(value.__dict__)
        for cell in value.__closure__ or ():
            self._write_cell(cell)
        self._write_globals(code, value.__globals__)

    def _write_globals(self, code: CodeType, namespace: dict[str, Any]) -> None:
        if self._is_known(namespace):  # functions of one module see what others assign
            self._update(b"namespace;")
        names, imports = names_of(code)
        for name in names:
            self._update(token(b"g", name.encode()))
            if name in namespace:
                self._write_named(f"the global {name!r}", namespace[name])
        package = namespace.get("__package__")
        for name in (*imports, *((package,) if imports and package else ())):
            self._update(self._canon.module(name))

    def _write_cell(self, value: CellType) -> None:
        if self._is_known(value):
            return
        try:
            content = value.cell_contents
        except ValueError:
            self._update(b"empty;")
            return
        self._update(b"cell")
        self.write(content)

    def _write_code(self, value: CodeType) -> None:
        self._update(encode_code(value))

    def _write_class(self, value: type) -> None:
        if self._is_named(value) or self._is_known(value):
            return
        self._update(token(b"class", value.__name__.encode()))
        module = value.__module__
        if module in sys.modules and not self._canon.travels_by_value(module):
            self._update(self._canon.module(module))  # parts of it may be compiled
        self.write(type(value))
        self.write(value.__bases__)
        for name, entry in sorted(vars(value).items()):
            if name in _CLASS_ENTRIES_LEFT_OUT:
                continue
            self._update(token(b"entry", name.encode("utf-8", "surrogatepass")))
            if not isinstance(entry, (GetSetDescriptorType, MemberDescriptorType)):
                self._write_named(f"{value.__name__}.{name}", entry)

    def _write_named(self, name: str, value: Any) -> None:
        try:
            self.write(value)
        except UnkeyableError as error:
            raise UnkeyableError(f"{name}: {error}") from error

    def _write_module(self, value: ModuleType) -> None:
        name = value.__name__
        if sys.modules.get(name) is value and not self._canon.travels_by_value(name):
            self._update(self._canon.module(name))
        elif not self._is_known(value):
            self._update(token(b"namespace", name.encode()))
            left_out = _MODULE_ENTRIES_LEFT_OUT
            self._write_mapping({k: v for k, v in vars(value).items() if k not in left_out})

    def _write_builtin(self, value: Any) -> None:
        owner = value.__self__
        if owner is None or isinstance(owner, ModuleType):
            module = value.__module__ or getattr(owner, "__name__", None) or "builtins"
            self._update(token(b"builtin", value.__qualname__.encode()))
            self._update(self._canon.module(module))
        else:
            self._update(b"of")
            self.write(value.__name__)
            self.write(owner)

    def _write_descriptor(self, value: Any) -> None:
        self._update(token(b"descriptor", value.__name__.encode()))
        self.write(value.__objclass__)

    def _write_method(self, value: MethodType) -> None:
        self._update(b"method")
        self.write(value.__func__)
        self.write(value.__self__)

    def _write_type_variable(self, value: TypeVar) -> None:
        self._update(b"typevar")
        self.write((value.__name__, value.__covariant__, value.__contravariant__))
        self.write((value.__bound__, value.__constraints__))

    def _write_cached_property(self, value: cached_property[Any]) -> None:
        self._update(b"cached_property")
        self.write(value.func)
        self.write(value.attrname)

    def _write_cached_function(self, value: Any) -> None:
        self._update(b"lru_cache")
        self.write(value.__wrapped__)
        self._write_mapping(value.cache_parameters())

    # --- everything else ----------------------------------------------------------------------

    def _write_object(self, value: Any) -> None:
        is_shareable = is_immutable(value)
        if not is_shareable and self._is_known(value):
            return
        if not self.has_reduced and not isinstance(value, IMMUTABLE):
            self.has_reduced = reduces_itself(type(value))
        reduced = reduction(value)
        if isinstance(reduced, str):
            self._write_global(value, reduced)
            return
        self._update(b"object")
        self.write(type(value))
        function, arguments, state, items, pairs, setter = (tuple(reduced) + (None,) * 4)[:6]
        self.write(function)
        self.write(arguments)
        if is_shareable and type(state) is dict:
            self._write_mapping(state)  # the object's own, and so immutable too
        else:
            self.write(state)
        self.write(None if items is None else tuple(items))
        self.write(None if pairs is None else tuple(pairs))
        self.write(setter)

    def _write_global(self, value: Any, name: str) -> None:
        """Write an object that pickles as its name; only of imported ones is its content known."""
        module = whichmodule(value, name)
        if self._canon.travels_by_value(module):
            raise UnkeyableError(f"a {type(value).__name__} says nothing but its name")
        self._update(token(b"global", name.encode()))
        self._update(self._canon.module(module))


_WRITERS: dict[type, Callable[[Walk, Any], None]] = {
    tuple: Walk._write_tuple,
    list: Walk._write_list,
    dict: Walk._write_dict,
    set: Walk._write_set,
    frozenset: Walk._write_frozenset,
    bytearray: Walk._write_bytearray,
    Slot: Walk._write_slot,
    FunctionType: Walk._write_function,
    CodeType: Walk._write_code,
    CellType: Walk._write_cell,
    ModuleType: Walk._write_module,
    BuiltinFunctionType: Walk._write_builtin,
    WrapperDescriptorType: Walk._write_descriptor,
    MethodDescriptorType: Walk._write_descriptor,
    ClassMethodDescriptorType: Walk._write_descriptor,
    MethodType: Walk._write_method,
    TypeVar: Walk._write_type_variable,
    cached_property: Walk._write_cached_property,
    type(lru_cache(numpy_class)): Walk._write_cached_function,
}
