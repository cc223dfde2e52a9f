"""When two values count as the same for content keys, and when not."""

import copy
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import math
import pickle
import re
import struct
import threading
import uuid
from collections import OrderedDict, defaultdict, deque, namedtuple
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from matensemble import imported
from matensemble.canonical import Canon, Slot
from matensemble.reduction import UnkeyableError


@pytest.fixture(scope="module", autouse=True)
def installed_once():
    """Look only once at what is installed, which takes a second: it stays the same."""
    with pytest.MonkeyPatch.context() as patch:
        known = functools.cache(imported.packages_distributions)
        patch.setattr(imported, "packages_distributions", known)
        yield


def digest(value, upstream=()):
    return Canon((__name__,)).digest(value, upstream)[0]


# --- properties -------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.sampled_from([0, 0.0, -0.0, False, "", b"", 1, 1.0, True, "1", b"1", math.nan, math.inf]),
)
HASHABLE = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)
    ),
    max_leaves=5,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(HASHABLE, inner, max_size=4),
        st.sets(HASHABLE, max_size=4),
    ),
    max_leaves=12,
)


def described(value):
    """Describe a value so that two descriptions are equal if and only if the values are the same.

    An independent, slow way to say it: by types and texts.
    """
    kind = type(value).__name__
    if isinstance(value, (list, tuple)):
        return kind, [described(item) for item in value]
    if isinstance(value, dict):
        return kind, [(described(k), described(v)) for k, v in value.items()]
    if isinstance(value, (set, frozenset)):
        return kind, sorted(repr(described(item)) for item in value)
    if isinstance(value, float):
        return kind, struct.pack("d", value)  # there are many that are no number
    if isinstance(value, complex):
        return kind, described(value.real), described(value.imag)
    return kind, repr(value)


@pytest.mark.slow
@given(VALUES)
def test_a_copy_counts_as_the_same(value):
    assert digest(copy.deepcopy(value)) == digest(value)
    assert digest(pickle.loads(pickle.dumps(value))) == digest(value)


@pytest.mark.slow
@settings(max_examples=400)
@given(VALUES, VALUES)
def test_digests_are_equal_only_where_values_are(left, right):
    assert (digest(left) == digest(right)) == (described(left) == described(right))


@pytest.mark.slow
@given(st.lists(HASHABLE, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_a_set_does_not_count(items, random):
    items = list(set(items))  # of equal ones, such as 0 and False, a set keeps the first
    shuffled = random.sample(items, len(items))
    assert digest(set(items)) == digest(set(shuffled))
    assert digest(frozenset(items)) == digest(frozenset(shuffled))


@pytest.mark.slow
@given(st.lists(VALUES, max_size=3), st.lists(VALUES, max_size=3))
def test_nothing_slips_from_one_container_into_the_next(left, right):
    assert (digest((left, right)) == digest(([], [*left, *right]))) == (not left)


# --- what looks alike -------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Mode(enum.IntFlag):
    A = 1
    B = 2


@dataclasses.dataclass
class Point:
    x: float
    tags: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: object


@dataclasses.dataclass(slots=True)
class Slotted:
    x: float


Pair = namedtuple("Pair", "a b")


class Plain:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Twin:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def method(self):
        return 1


DIFFERENT = [
    *(0, 1, 0.0, -0.0, False, True, "0", "1", b"0", b"1", None, "", b"", ...),
    *(1j, -1j, complex(-0.0, 1), 1e300, math.nan, 2**70, -(2**70)),
    *((), [], {}, set(), frozenset(), bytearray(), (1,), [1], {1}, frozenset({1}), {1: None}),
    *({1: 2, 3: 4}, {3: 4, 1: 2}, ((1, 2), 3), (1, (2, 3)), (1, 2, 3)),
    *(Colour.RED, Colour.BLUE, Mode.A, Mode.B, Mode.A | Mode.B),
    *(Point(1), Point(1.0), Point(1.0, [1]), Frozen(1), Frozen(1.0), Slotted(1), Slotted(2)),
    *(Plain(x=1), Plain(x=1.0), Plain(y=1), Twin(x=1), Pair(1, 2), Pair(2, 1)),
    *(Path("a"), Path("b"), PurePosixPath("a"), "a", Path("/a")),
    datetime.date(2026, 1, 1),
    datetime.datetime(2026, 1, 1),
    datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    datetime.datetime(2026, 1, 1, fold=1),
    datetime.timedelta(1),
    *(decimal.Decimal("1"), decimal.Decimal("1.0"), fractions.Fraction(1, 2), uuid.UUID(int=1)),
    *(range(3), range(0, 3, 2), slice(1), re.compile("a"), re.compile("a", re.IGNORECASE)),
    *(OrderedDict(a=1), defaultdict(int, a=1), defaultdict(list, a=1), {"a": 1}, deque([1])),
    *(np.float64(1), np.float32(1), np.int64(1), np.float64(-0.0), np.float64(0.0)),
    *(np.zeros(2), np.zeros(2, "f4"), np.zeros((2, 1)), np.zeros((1, 2)), np.array([0.0, -0.0])),
    *(np.zeros(2, ">f8"), np.zeros(0), np.zeros((0, 2)), np.zeros(2, [("a", "f8")])),
    np.zeros(2, [("b", "f8")]),
    np.array(["2026-01-01"], "M8[D]"),
    np.array(["2026-01-01"], "M8[s]"),
    *(np.array([1, None], object), np.array([1, "a"], object)),
    *(np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3))),
    *(len, max, math.sin, np.sin, np.cos, int, float, Point, Twin, Plain, np.ndarray),
    *(functools.partial(max, 1), functools.partial(max, 2), functools.partial(min, 1)),
    *(functools.partial(max, 1, key=None), Twin(x=1).method, Twin(x=2).method, "x".join, "y".join),
    *([].append, [1].append, dict.fromkeys, str.join, object.__init__),
    *(math, np, Slot(0, ()), Slot(1, ()), Slot(0, (("item", "x"),)), Slot(0, (("attr", "x"),))),
]


def test_things_that_look_alike_differ():
    upstream = (b"u", b"v")
    digests = {}
    for value in DIFFERENT:
        found = digest(value, upstream)
        assert found not in digests, f"{value!r} counts as {digests[found]!r}"
        digests[found] = value
        assert digest(value, upstream) == found


@pytest.mark.parametrize("value", [v for v in DIFFERENT if not callable(v) and v is not math])
def test_each_of_them_is_the_same_after_a_journey(value):
    if value is np or isinstance(value, Slot):
        return
    assert digest(pickle.loads(pickle.dumps(value, 5))) == digest(value)


def test_a_slice_of_an_array_counts_by_what_it_holds():
    whole = np.arange(24.0).reshape(4, 6)
    for view in (whole[::2], whole[:, 1], whole.T, whole[::-1], whole[1:1]):
        assert digest(view) == digest(pickle.loads(pickle.dumps(view, 5)))


def test_references_count_by_what_stands_upstream():
    assert digest([Slot(0, ())], (b"a",)) != digest([Slot(0, ())], (b"b",))
    assert digest({Slot(0, ()), Slot(1, ())}, (b"a", b"b")) == digest(
        {Slot(0, ()), Slot(1, ())}, (b"b", b"a")
    )
    assert digest([Slot(0, ()), Slot(1, ())], (b"a", b"b")) != digest(
        [Slot(0, ()), Slot(1, ())], (b"b", b"a")
    )


# --- the same object in two places ------------------------------------------------------------


def test_sharing_what_can_change_counts():
    for shared, other in (([], []), ({}, {}), (set(), set()), (np.zeros(1), np.zeros(1))):
        assert digest((shared, shared)) != digest((shared, other))
    point = Point(1)
    assert digest([point, point]) != digest([point, Point(1)])


def test_sharing_what_cannot_change_does_not_count():
    pairs = [
        ("ab" * 50, "ab" * 50),
        (Path("a"), Path("a")),
        (datetime.date(2026, 1, 1), datetime.date(2026, 1, 1)),
        (Frozen(1), Frozen(1)),
        (np.float64(2), np.float64(2)),
        ((1, (2,)), (1, (2,))),
    ]
    for value, equal in pairs:
        assert digest([value, value]) == digest([value, copy.deepcopy(equal)])


def test_sets_may_hold_what_cannot_change():
    assert digest({Frozen(1), Frozen(2)}) == digest({Frozen(2), Frozen(1)})
    assert digest({Colour.RED, Path("a")}) != digest({Colour.BLUE, Path("a")})


def test_cycles_end():
    loop: list = [1]
    loop.append(loop)
    longer: list = [1]
    longer.append([1, longer])
    assert digest(loop) == digest(copy.deepcopy(loop))
    assert digest(loop) != digest(longer)
    knot = Point(1)
    knot.tags.append(knot)
    assert digest(knot) == digest(copy.deepcopy(knot))


# --- what has no digest -----------------------------------------------------------------------


class Refusing:
    def __reduce__(self):
        raise ValueError("not today")


class Named:
    def __reduce__(self):
        return "NAMED"


NAMED = Named()


@pytest.mark.parametrize(
    ("value", "because"),
    [
        (threading.Lock(), "lock"),
        ([{"a": Refusing()}], "not today"),
        (NAMED, "nothing but its name"),
        ({(1, Twin())}, "a set holds a tuple, which can be changed"),
        ({lambda: 1}, "a set holds a function"),
        ((x for x in ()), "generator"),
    ],
)
def test_what_cannot_be_compared_says_why(value, because):
    with pytest.raises(UnkeyableError, match=because):
        digest(value)


def test_what_is_too_deep_has_no_digest():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(UnkeyableError, match="nested too deeply"):
        digest(deep)
    while deep:  # the interpreter would recurse to free it
        deep = deep[0]


@pytest.mark.slow
def test_what_unfolds_without_end_has_no_digest(monkeypatch):
    monkeypatch.setattr("matensemble.canonical.MAX_COMPOSITES", 10_000)
    value: tuple = ()
    for _ in range(60):
        value = (value, value)
    with pytest.raises(UnkeyableError, match="too large"):
        digest(value)


class Restless:
    def __init__(self):
        self.count = 0

    def __reduce__(self):
        self.count += 1
        return Restless, (), {"count": self.count}


def test_an_object_that_reduces_itself_is_told_of():
    canon = Canon((__name__,))
    assert canon.digest([1, "a", {2.0}, Path("x"), Colour.RED])[1] is False
    restless = Restless()
    first, has_reduced = canon.digest(restless)
    assert has_reduced
    assert canon.digest(restless)[0] != first
