"""When two functions count as the same for content keys, and when not."""

import dataclasses
import functools
import importlib
import math
import subprocess
import sys
import textwrap
import types

import numpy as np
import pytest
from hypothesis import given, strategies as st

from matensemble.canonical import Canon
from matensemble.imported import Origins, UnknownOriginError
from matensemble.reduction import UnkeyableError


def code(function, by_value=()):
    return Canon((__name__, *by_value)).code(function)


def define(source, name="f", **namespace):
    """Define a function as a script would: in a module that workers cannot import."""
    namespace.setdefault("__name__", "__main__")
    exec(compile(textwrap.dedent(source), "script.py", "exec"), namespace)
    return namespace[name]


def same(left, right):
    return code(left) == code(right)


# --- one function -----------------------------------------------------------------------------


def test_where_it_stands_and_what_it_is_called_do_not_count():
    moved = define("\n\n\n# a comment\ndef g(x):\n\n    return x + 1  # more\n", "g")
    assert same(define("def f(x): return x + 1"), moved)


@pytest.mark.parametrize(
    "other",
    [
        "def f(x, y=1): return x + 2",
        "def f(x, y=1): return x + 1.0",
        "def f(x, y=1): return x + True",
        "def f(x, y=1): return x - 1",
        "def f(x, y=2): return x + 1",
        "def f(x, y=1.0): return x + 1",
        "def f(x, *, y=1): return x + 1",
        "def f(x, *, y=2): return x + 1",
        "def f(x, y=1, *args): return x + 1",
        "def f(x, y): return x + 1",
        "def f(z, y=1): return z + 1",
        "def f(x, y=1): yield x + 1",
        "async def f(x, y=1): return x + 1",
        "def f(x: int, y=1): return x + 1",
        "def f(x, y=1):\n    try:\n        return x + 1\n    except ValueError:\n        pass",
        "def f(x, y=1):\n    def g(): return 1\n    return x + 1",
        "import functools\n@functools.wraps(len)\ndef f(x, y=1): return x + 1",
        "f = lambda x, y=1: x + 2",
    ],
)
def test_what_it_does_counts(other):
    assert not same(define("def f(x, y=1): return x + 1"), define(other))


def test_a_class_inside_does_not_keep_its_line():
    source = "def f():\n    class A:\n        x = 'y'\n    return A"
    assert same(define(source), define("\n" * 50 + source))


def test_constants_count_by_type_and_sign():
    bodies = ["0", "0.0", "-0.0", "False", "''", "b''", "()", "None", "1j", "'a'", "b'a'", "(0,)"]
    digests = {code(define(f"def f(): return {body}")) for body in bodies}
    assert len(digests) == len(bodies)


def test_sets_of_constants_have_no_order():
    text = "def f(x): return x in {'a', 'b', 'c', 'd'}"
    found = {
        subprocess.run(
            [
                sys.executable,
                "-c",
                "from matensemble.canonical import Canon\n"
                f"exec({text!r})\nprint(Canon().code(f).hex())",
            ],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


@pytest.mark.slow
@given(st.integers(-5, 5), st.integers(-5, 5), st.sampled_from("+-*"), st.sampled_from("+-*"))
def test_equal_digests_mean_equal_source(a, b, first, second):
    left, right = (define(f"def f(x): return x {o} {n}") for n, o in ((a, first), (b, second)))
    is_same = (a, first) == (b, second)
    assert same(left, right) == is_same


# --- what it reaches --------------------------------------------------------------------------


def test_a_changed_closure_counts():
    source = """
    def make(scale):
        def f(x):
            return x * scale
        return f
    """
    make = define(source, "make")
    assert same(make(2), make(2))
    for other in (3, 2.0, "2", [2], None):
        assert not same(make(2), make(other))


def test_a_closure_that_was_changed_since_counts():
    values = [1]

    def function():
        return values

    before = code(function)
    values.append(2)
    assert code(function) != before


def test_a_changed_helper_counts_however_far_away():
    source = """
    def deep(x): return x + {0}
    def helper(x): return deep(x)
    class Tool:
        def use(self, x): return helper(x)
    def f(x): return Tool().use(x)
    def unrelated(x): return {1}
    """
    assert same(define(source.format(1, 1)), define(source.format(1, 2)))
    assert not same(define(source.format(1, 1)), define(source.format(2, 1)))


def test_a_changed_global_counts_where_it_is_named():
    source = "def f(x):\n    def g(): return RATE\n    return g() * x"
    assert same(define(source, RATE=1, OTHER=1), define(source, RATE=1, OTHER=2))
    assert not same(define(source, RATE=1), define(source, RATE=1.0))
    assert not same(define(source, RATE=1), define(source))


def test_a_global_set_may_hold_members_of_an_enum():
    source = """
    import enum
    class Phase(enum.Enum):
        A = 1
        B = 2
    WANTED = {{Phase.{0}}}
    def f(x): return x in WANTED
    """
    assert same(define(source.format("A")), define(source.format("A")))
    assert not same(define(source.format("A")), define(source.format("B")))


def test_functions_that_call_each_other_end():
    source = """
    def even(n): return n == 0 or odd(n - 1)
    def odd(n): return n != 0 and even(n - {0})
    def f(n): return even(n)
    """
    assert same(define(source.format(1)), define(source.format(1)))
    assert not same(define(source.format(1)), define(source.format(2)))


def test_swapped_helpers_count():
    source = """
    def one(x): return 1
    def two(x): return 2
    a, b = {0}
    def f(x): return a(x) - b(x)
    """
    assert not same(define(source.format("one, two")), define(source.format("two, one")))
    same_body = source.replace("return 2", "return 1")
    assert not same(define(same_body.format("one, one")), define(same_body.format("one, two")))


CLASSES = {
    "method": "class A:\n    def m(self): return 2",
    "attribute": "class A:\n    n = 2\n    def m(self): return 1",
    "other attribute": "class A:\n    n = 3\n    def m(self): return 1",
    "static": "class A:\n    @staticmethod\n    def m(self): return 1",
    "class method": "class A:\n    @classmethod\n    def m(self): return 1",
    "property": "class A:\n    @property\n    def m(self): return 1",
    "changed property": "class A:\n    @property\n    def m(self): return 2",
    "cached": "from functools import *\nclass A:\n    @cached_property\n    def m(self): return 1",
    "base": "class B: pass\nclass A(B):\n    def m(self): return 1",
    "other base": "class B: x = 1\nclass A(B):\n    def m(self): return 1",
    "metaclass": "class M(type): pass\nclass A(metaclass=M):\n    def m(self): return 1",
    "other metaclass": "class M(type): x = 1\nclass A(metaclass=M):\n    def m(self): return 1",
    "slots": "class A:\n    __slots__ = ('x',)\n    def m(self): return 1",
    "abstract": "import abc\nclass A(abc.ABC):\n    def m(self): return 1",
    "enum": "import enum\nclass A(enum.Enum):\n    X = 1\n    def m(self): return 1",
    "other enum": "import enum\nclass A(enum.Enum):\n    X = 2\n    def m(self): return 1",
    "data": "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 1",
    "other data": "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 2",
    "generic": "from typing import *\nT = TypeVar('T')\nclass A(Generic[T]):\n    x: List[T]",
    "other generic": "from typing import *\nT = TypeVar('T')\nclass A(Generic[T]):\n    x: Set[T]",
    "plain": "class A:\n    def m(self): return 1",
}


def test_a_changed_class_counts():
    digests = {}
    for name, source in CLASSES.items():
        text = source + "\ndef f(): return A"
        first, second = code(define(text)), code(define("\n\n" + text))
        assert first == second, f"{name}: where it stands counts"
        assert first not in digests, f"{name} counts as {digests[first]}"
        digests[first] = name


def test_callables_that_are_no_functions_count_by_what_they_hold():
    class Potential:
        def __init__(self, depth):
            self.depth = depth

        def __call__(self, x):
            return self.depth * x

    def plus(x, y):
        return x + y

    @functools.lru_cache(maxsize=3)
    def cached(x):
        return x

    @functools.lru_cache(maxsize=3)
    def also_cached(x):
        return -x

    functions = [
        *(Potential(1), Potential(2), Potential(1).__call__, Potential(2).__call__),
        *(functools.partial(plus, 1), functools.partial(plus, 2), functools.partial(plus, y=1)),
        *(math.sin, math.cos, len, np.sin, np.cos, np.mean, cached, also_cached, plus, Potential),
    ]
    digests = [code(function) for function in functions]
    assert len(set(digests)) == len(functions)
    assert digests == [code(function) for function in functions]


def test_what_cannot_be_compared_names_the_way_to_it():
    source = "def helper(): return LOCK\ndef f(): return helper()"
    import threading

    with pytest.raises(UnkeyableError, match="global 'helper': the global 'LOCK': a lock"):
        code(define(source, LOCK=threading.Lock()))


def test_an_object_that_pickles_differently_each_time_is_found_out():
    class Restless:
        count = 0

        def __reduce__(self):
            type(self).count += 1
            return dict, ((("n", type(self).count),),)

    with pytest.raises(UnkeyableError, match="differently each time"):
        code(define("def f(): return X", X=Restless()))


def test_assigned_attributes_of_a_function_count():
    def function():
        return function.scale

    function.scale = 1
    before = code(function)
    function.scale = 2
    assert code(function) != before


# --- what workers import ----------------------------------------------------------------------


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """A way to write and import modules of a user, fresh each time."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    names: set[str] = set()

    def write(sources=(), **more):
        sources = {**dict(sources), **more}
        for name in names | {n.partition("/")[0] for n in sources}:
            names.add(name)
            for loaded in [m for m in sys.modules if m.partition(".")[0] == name]:
                del sys.modules[loaded]
        for name, source in sources.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(source)
        importlib.invalidate_caches()

    yield write
    for name in names:
        for loaded in [m for m in sys.modules if m.partition(".")[0] == name]:
            del sys.modules[loaded]


def test_an_imported_helper_module_counts_as_a_whole(modules):
    sources = (
        "import mine\ndef f(x): return mine.rate * x",
        "from mine import g\ndef f(x): return g(x)",
        "def f(x):\n    import mine\n    return mine.g(x)",
        "def f(x):\n    from mine import g\n    return g(x)",
        "from mine import C\ndef f(x): return C(x)",
    )
    text = "rate = 1\ndef g(x): return x\nclass C: pass\nd = dict(\n        a=1,\n  b=2)\n"
    for source in sources:
        modules(mine=text)
        before = code(define(source))
        modules(mine="# a comment\n" + text)
        assert code(define(source)) == before, f"a comment counts in {source!r}"
        modules(mine=text + "def unrelated(): pass\n")
        assert code(define(source)) != before, f"a change goes unnoticed in {source!r}"


def test_what_an_imported_helper_imports_counts(modules):
    source = "import first\ndef f(x): return first.g(x)"
    modules(first="import second\ndef g(x): return second.h(x)", second="def h(x): return 1")
    before = code(define(source))
    modules(second="def h(x): return 2")
    assert code(define(source)) != before


def test_every_file_of_a_package_counts(modules):
    source = "import pack.one\ndef f(x): return pack.one.g(x)"
    one = "from . import two\ndef g(x): return x"
    modules({"pack/__init__": "", "pack/one": one, "pack/two": "a = 1"})
    before = code(define(source))
    modules({"pack/two": "a = 2"})
    assert code(define(source)) != before


def test_a_module_that_travels_by_value_counts_as_it_is_now(modules):
    modules(mine="rate = 1\ndef g(x): return x * rate\ndef unrelated(): return 1\n")
    mine = importlib.import_module("mine")
    before = code(mine.g, ("mine",))
    mine.unrelated = None
    assert code(mine.g, ("mine",)) == before
    mine.rate = 2
    assert code(mine.g, ("mine",)) != before
    through_module = define("def f(): return mine.rate", mine=mine)
    before = code(through_module, ("mine",))
    mine.rate = 3
    assert code(through_module, ("mine",)) != before


def test_installed_modules_count_by_their_version(monkeypatch):
    function = define("import numpy\ndef f(x): return numpy.sin(x)")
    before = code(function)
    assert code(function) == before
    monkeypatch.setattr("matensemble.imported.version", lambda name: "99")
    assert code(function) != before


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A way to install a module, and to get what it counts as."""
    site = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(str(site))

    def make(source, record=None, version="1"):
        info = site / "somelib-1.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (site / "somelib.py").write_text(source)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: somelib\nVersion: {version}\n"
        )
        (info / "top_level.txt").write_text("somelib\n")
        (info / "RECORD").unlink(missing_ok=True)
        if record is not None:
            (info / "RECORD").write_text(f"{record}\nsomelib-1.dist-info/RECORD,,\n")
        importlib.invalidate_caches()
        return Origins().origin("somelib")

    return make


def test_what_is_installed_again_under_the_same_version_counts(install):
    first = install("a = 1", "somelib.py,sha256=one,5")
    assert install("a = 1", "somelib.py,sha256=one,5") == first
    assert install("a = 2", "somelib.py,sha256=two,5") != first
    assert install("a = 1", "somelib.py,sha256=one,5", version="2") != first


def test_how_and_where_something_was_installed_does_not_count(install):
    first = install("a = 1", "somelib.py,sha256=one,5")
    elsewhere = (
        "somelib.py,sha256=one,5\n../../../bin/some,sha256=x,9\n"
        "__pycache__/somelib.pyc,,\nsomelib-1.dist-info/INSTALLER,sha256=y,4"
    )
    assert install("a = 1", elsewhere) == first


@pytest.mark.parametrize("record", [None, "somelib.py,,", "other.txt,,"])
def test_what_is_installed_without_hashes_counts_by_its_files(install, record):
    first = install("a = 1", record)
    assert install("a = 1", record) == first
    assert install("a = 2", record) != first


def test_what_is_installed_without_hashes_or_readable_files_has_no_key(install, tmp_path):
    install("a = 1")
    (tmp_path / "site-packages" / "somelib.py").unlink()
    (tmp_path / "site-packages" / "somelib").mkdir()
    (tmp_path / "site-packages" / "somelib" / "__init__.py").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UnknownOriginError, match="cannot be read"):
        Origins().origin("somelib")


def test_a_module_that_is_missing_counts_once_it_is_there(modules):
    source = "def f(x):\n    try:\n        import fast\n    except ImportError:\n        return x\n"
    before = code(define(source))
    modules(fast="")
    assert code(define(source)) != before


def test_a_module_without_a_file_has_no_origin(monkeypatch):
    monkeypatch.setitem(sys.modules, "made_up", types.ModuleType("made_up"))
    with pytest.raises(UnknownOriginError, match="made_up is in no file"):
        Origins().origin("made_up")


def test_standard_and_installed_modules_are_told_from_a_users():
    installed_version = Origins().installed_version
    assert installed_version("json") == installed_version("sys") == "stdlib"
    assert installed_version("numpy").startswith(f"numpy {np.__version__} ")
    assert installed_version("matensemble")
    assert installed_version("surely_not_there") is None


# --- arguments that hold code -----------------------------------------------------------------


@dataclasses.dataclass
class Model:
    depth: float


def test_an_argument_counts_with_the_code_of_its_class():
    source = "class A:\n    def m(self): return {0}\ndef f(): return A()"
    first, again, other = (define(source.format(n))() for n in (1, 1, 2))
    digests = [Canon().digest([value])[0] for value in (first, again, other)]
    assert digests[0] == digests[1] != digests[2]


def test_the_code_of_a_class_is_looked_at_once(monkeypatch):
    canon = Canon((__name__,))
    canon.digest(Model(1.0))
    monkeypatch.setattr("matensemble.canonical.encode_code", None)
    assert canon.digest(Model(1.0)) != canon.digest(Model(2.0))


def test_a_function_as_argument_counts_by_what_it_does():
    canon = Canon((__name__,))
    digests = {canon.digest([f])[0] for f in (lambda x: x, lambda x: -x, len, Model, code)}
    assert len(digests) == 5
    assert canon.digest([lambda x: x])[0] in digests
