"""The light loader gives what the real cloudpickle gives."""

from __future__ import annotations

import functools
import math
import os.path
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest

from matensemble import light_pickle

LIMIT = 10
COUNTER = 0


def helper(x: int) -> int:
    return x * LIMIT


def uses_helper(x):
    return helper(x) + 1


def bump():
    global COUNTER
    COUNTER += 1
    return COUNTER


def bump_and_read():
    bump()
    return COUNTER, bump()


def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1)


def is_even(n):
    return n == 0 or is_odd(n - 1)


def is_odd(n):
    return n != 0 and is_even(n - 1)


def defaults(a, b=2, *rest, c=[], d: float = 4.0, **more) -> tuple:  # noqa: B006
    """Doc of defaults."""
    return a, b, rest, c, d, more


def modules(x):
    return math.sqrt(x), os.path.normpath("a/../b"), sys.maxsize > x


def closure(a):
    def inner(b):
        return a + b

    return inner


def local_recursion():
    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    return fib


def counter():
    total = 0

    def add(n):
        nonlocal total
        total += n
        return total

    return add


def late_cell():
    def use():
        return unbound

    if COUNTER > 10**9:
        unbound = 1
    return use


def twice(function):
    @functools.wraps(function)
    def wrapper(*args):
        return 2 * function(*args)

    return wrapper


@twice
def decorated(x):
    """Doc of decorated."""
    return x + 1


def attributed(x):
    return x


attributed.unit = "eV"


def generator(n):
    yield from range(n)


def nested(x):
    return list(map(lambda y: helper(y) + x, range(3)))


def types_inside(value):
    return isinstance(value, (int, type(None)))


class Local:
    """Travels by value, which only the real library can do."""

    scale = 3

    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return type(self).__name__ == type(other).__name__ and self.x == other.x

    __hash__ = None


def uses_class(x):
    return Local(helper(x)).x * Local.scale


ZOO: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "lambda": (lambda x: x + 1, lambda f: f(1)),
    "global helper": (uses_helper, lambda f: f(2)),
    "shared and changed global": (bump_and_read, lambda f: (f(), f())),
    "two functions, one namespace": ([bump, bump_and_read], lambda fs: (fs[0](), fs[1](), fs[0]())),
    "recursion": (factorial, lambda f: f(5)),
    "mutual recursion": (is_even, lambda f: (f(4), f(7))),
    "defaults": (defaults, lambda f: (f(1), f(1, 3, 4, c=5, e=6))),
    "modules": (modules, lambda f: f(4)),
    "closure": (closure(3), lambda f: f(4)),
    "local recursion": (local_recursion(), lambda f: f(10)),
    "nonlocal": (counter(), lambda f: (f(1), f(2))),
    "decorated": (decorated, lambda f: (f(1), f.__wrapped__(1))),
    "attributes": (attributed, lambda f: (f(1), f.unit)),
    "generator function": (generator, lambda f: list(f(3))),
    "nested lambdas": (nested, lambda f: f(2)),
    "built-in types": (types_inside, lambda f: (f(1), f(None), f("x"))),
    "partial": (functools.partial(uses_helper, 3), lambda f: f()),
    "bound method": (Local(2).__eq__, lambda f: f.__self__.x),
    "class by value": (uses_class, lambda f: f(2)),
    "instances": ([Local(1), Local(1)], lambda v: (type(v[0]) is type(v[1]), v[0] == v[1])),
    "static method": (staticmethod(helper), lambda f: f.__func__(2)),
    "type of a function": (type(helper), lambda t: t.__name__),
    "plain data": ({"a": [1, 2.5, None]}, lambda v: v),
}


def dumps(value: object) -> bytes:
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        data: bytes = cloudpickle.dumps(value, 5)
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    return data


def light(data: bytes) -> Any:
    """Load as `light_pickle.loads` does where cloudpickle was not imported yet."""
    from io import BytesIO

    return light_pickle._LightUnpickler(BytesIO(data)).load()


@pytest.mark.parametrize("name", ZOO)
def test_behaves_as_what_the_real_library_loads(name):
    value, use = ZOO[name]
    data = dumps(value)
    expected = use(pickle.loads(data))
    assert use(light(data)) == expected


@pytest.mark.parametrize(
    "function", [defaults, decorated, attributed, uses_helper, closure(1)], ids=lambda f: f.__name__
)
def test_restores_every_attribute(function):
    data = dumps(function)
    ours, real = light(data), pickle.loads(data)
    for name in (
        *("__name__", "__qualname__", "__module__", "__doc__", "__annotations__"),
        *("__defaults__", "__kwdefaults__", "__code__"),
    ):
        assert getattr(ours, name) == getattr(real, name), name
    assert ours.__dict__.keys() == real.__dict__.keys()
    assert ours.__globals__.keys() == real.__globals__.keys()
    assert ours.__globals__["__builtins__"] is real.__globals__["__builtins__"]


def test_functions_of_one_pickle_share_their_globals():
    first, second = light(dumps((bump, bump_and_read)))
    assert first.__globals__ is second.__globals__
    assert first.__globals__ is not globals()


def test_a_cell_that_was_empty_stays_empty():
    function = light(dumps(late_cell()))
    with pytest.raises(NameError, match="unbound"):
        function()


def test_what_was_loaded_can_be_pickled_again():
    function = light(dumps(uses_helper))
    assert light(dumps(function))(2) == uses_helper(2)


def test_only_compared_versions_are_served():
    assert light_pickle.can_load("3.1.2")
    assert not light_pickle.can_load("4.0.0")
    assert not light_pickle.can_load(None)


def test_a_view_is_not_copied_where_nothing_names_cloudpickle(monkeypatch):
    class Refusing:
        def __init__(self, *_):
            raise AssertionError("copied")

    monkeypatch.setattr(light_pickle, "BytesIO", Refusing)
    data = pickle.dumps([1, 2]) + b"footer"
    assert light_pickle.loads(memoryview(data)[:-6]) == [1, 2]


@pytest.mark.parametrize(
    ("name", "is_real_needed"),
    [("closure", False), ("decorated", False), ("modules", False), ("class by value", True)],
)
def test_imports_the_real_library_only_where_it_is_needed(name, is_real_needed, tmp_path):
    path = tmp_path / "pickle"
    path.write_bytes(dumps(ZOO[name][0]))
    code = (
        "import sys; from matensemble import light_pickle\n"
        "with open(sys.argv[1], 'rb') as file: light_pickle.loads(file.read())\n"
        "print('cloudpickle' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-P", "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert shown.stdout == f"{is_real_needed}\n"
