"""Immutable plain values and bytecode as bytes that never coincide for two different ones.

Owns the lowest layer of content keys: every value carries its type and its length, so that no
sequence of values looks like another one (``1``, ``1.0``, ``True`` and ``"1"`` differ, so do
``-0.0`` and ``0.0``). Called by `matensemble.canonical` and `matensemble.imported`.
"""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterator
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise
from struct import pack
from types import CodeType, EllipsisType, NoneType, NotImplementedType
from typing import Any, cast

_GLOBAL_OPERATIONS = {
    dis.opmap[name]
    for name in (
        *("LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME"),
        *("LOAD_FROM_DICT_OR_GLOBALS", "STORE_NAME", "DELETE_NAME"),
    )
    if name in dis.opmap
}
_IMPORT_NAME = dis.opmap["IMPORT_NAME"]


def token(tag: bytes, data: bytes) -> bytes:
    """Return bytes with a tag and their length before them, so that what follows stays apart."""
    return b"%b%d:%b" % (tag, len(data), data)


ATOMS: dict[type, Callable[[Any], bytes]] = {
    NoneType: lambda value: b"N;",
    EllipsisType: lambda value: b"...;",
    NotImplementedType: lambda value: b"NI;",
    bool: lambda value: b"T;" if value else b"F;",
    int: lambda value: b"i%x;" % value,
    float: lambda value: b"f%b;" % pack(">d", value).hex().encode(),
    complex: lambda value: b"c%b;" % pack(">dd", value.real, value.imag).hex().encode(),
    str: lambda value: token(b"s", value.encode("utf-8", "surrogatepass")),
    bytes: lambda value: token(b"b", value),
}
"""Type → how one of its values is written; of exactly these types, not of their subclasses."""


def unordered(parts: Iterator[bytes]) -> bytes:
    """Return parts whose order means nothing as bytes that do not depend on it."""
    digests = sorted(sha256(part).digest() for part in parts)
    return token(b"{", b"".join(digests))


def encode_code(code: CodeType, *, with_name: bool = True) -> bytes:
    """Return what a code object does, without where it stands: no file name, no line numbers.

    Parameters
    ----------
    code
        The code object; those inside it are encoded likewise.
    with_name
        Whether its own name counts.
    """
    parts = (
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_flags,
        code.co_name if with_name else "",
        code.co_code,
        code.co_exceptiontable,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        _constants(code),
    )
    return token(b"code", b"".join(_constant(part) for part in parts))


def _constants(code: CodeType) -> tuple[Any, ...]:
    """Return the constants of code, without the line number that a class keeps from 3.13 on."""
    if "__firstlineno__" not in code.co_names:
        return code.co_consts
    steps = list(dis.get_instructions(code))
    loads = [step.arg for step in steps if step.opname == "LOAD_CONST"]
    for load, store in pairwise(steps):
        if store.argval == "__firstlineno__" and loads.count(load.arg) == 1:
            place = cast(int, load.arg)
            return (*code.co_consts[:place], None, *code.co_consts[place + 1 :])
    return code.co_consts


def _constant(value: Any) -> bytes:
    """Return a constant as the compiler makes them."""
    if (atom := ATOMS.get(type(value))) is not None:
        return atom(value)
    if type(value) is tuple:
        return token(b"(", b"".join(_constant(item) for item in value))
    if type(value) is frozenset:
        return unordered(_constant(item) for item in value)
    if type(value) is slice:  # from Python 3.14 on
        return token(b"sl", _constant((value.start, value.stop, value.step)))
    assert isinstance(value, CodeType), f"the compiler made a {type(value).__name__}"
    return encode_code(value)


def _nested_code(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and all those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested_code(constant)


@lru_cache(maxsize=4096)
def names_of(code: CodeType) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the globals that code uses, and the modules that it imports, with the code in it."""
    names: set[str] = set()
    imports: set[str] = set()
    for inner in _nested_code(code):
        for instruction in dis.get_instructions(inner):
            if instruction.opcode in _GLOBAL_OPERATIONS:
                names.add(instruction.argval)
            elif instruction.opcode == _IMPORT_NAME and instruction.argval:
                imports.add(instruction.argval)
    return tuple(sorted(names)), tuple(sorted(imports))
