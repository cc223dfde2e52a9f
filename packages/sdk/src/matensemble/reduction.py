"""What an object is made of, as pickling sees it.

Owns the questions that `matensemble.canonical` asks of objects of classes that it does not know.
"""

from __future__ import annotations

import copyreg
import datetime
import sys
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from typing import Any
from uuid import UUID

import cloudpickle

_REDUCE_PROTOCOL = 4  # the last whose reductions hold no buffers
IMMUTABLE = (
    *(PurePath, Enum, Decimal, Fraction, UUID, range, slice),
    *(datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo),
)
"""Kinds of objects that reduce themselves to the same each time, and cannot be changed."""


class UnkeyableError(Exception):
    """A value has no digest that could be relied on; the message says why."""


def reduction(value: Any) -> Any:
    """Return how an object reduces itself.

    Raises
    ------
    UnkeyableError
        If it cannot.
    """
    kind = type(value)
    reducer = cloudpickle.Pickler.dispatch_table.get(kind) or copyreg.dispatch_table.get(kind)
    try:
        return reducer(value) if reducer is not None else value.__reduce_ex__(_REDUCE_PROTOCOL)
    except RecursionError:
        raise
    except Exception as error:  # whatever the object's own code raises
        raise UnkeyableError(f"a {kind.__name__} cannot be pickled ({error})") from error


def reduces_itself(kind: type) -> bool:
    """Return whether code of a class has a say in how its objects are pickled."""
    return kind in cloudpickle.Pickler.dispatch_table or any(
        getattr(kind, name, None) is not getattr(object, name, None)
        for name in (
            *("__reduce__", "__reduce_ex__", "__getstate__"),
            *("__getnewargs__", "__getnewargs_ex__"),
        )
    )


def is_immutable(value: Any) -> bool:
    """Return whether an object cannot be changed, so that sharing it means nothing."""
    if isinstance(value, IMMUTABLE):
        return True
    parameters = vars(type(value)).get("__dataclass_params__")
    if parameters is not None:
        return bool(parameters.frozen)
    return isinstance(value, tuple(filter(None, (numpy_class("generic"), numpy_class("dtype")))))


def numpy_class(name: str) -> Any:
    """Return a class of NumPy, or None where nobody has imported it."""
    return getattr(sys.modules.get("numpy"), name, None)
