"""Freezing finds exactly the references that thawing replaces, in every container."""

import collections
import copy
import dataclasses
import pickle
from typing import Any, NamedTuple

import pytest
from hypothesis import given, strategies as st

from matensemble import references, wire
from matensemble.errors import PartMissingError, ReferenceUseError, UnknownReferenceError
from matensemble.model import OutputReference
from matensemble.references import Gather, Sibling


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclasses.dataclass(frozen=True)
class Point:
    x: Any
    y: Any = 0


Legacy = collections.namedtuple("Legacy", "a b")

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.binary(max_size=5)
)
IDS = st.integers(0, 5).map(lambda i: f"chore-x-{i:04d}")
REFERENCES = IDS.map(OutputReference)
HASHABLE = st.one_of(LEAVES, REFERENCES)


def nest(children):
    keys = st.one_of(st.text(max_size=3), REFERENCES)
    return st.one_of(
        st.lists(children, max_size=3),
        st.lists(children, max_size=3).map(tuple),
        st.dictionaries(keys, children, max_size=3),
        st.tuples(children, children).map(lambda p: Pair(*p)),
        st.tuples(children, children).map(lambda p: Legacy(*p)),
        st.tuples(children, children).map(lambda p: Point(*p)),
        st.sets(HASHABLE, max_size=3),
        st.frozensets(HASHABLE, max_size=3),
        st.lists(children, max_size=3).map(collections.deque),
    )


NESTED = st.recursive(HASHABLE, nest, max_leaves=12)


def replace(value, table):
    """What thawing must give, written as naively as possible."""
    if isinstance(value, OutputReference):
        return table[value.chore_id]
    if isinstance(value, Pair | Legacy):
        return type(value)(*(replace(part, table) for part in value))
    if isinstance(value, Point):
        return Point(replace(value.x, table), replace(value.y, table))
    if isinstance(value, dict):
        return {replace(k, table): replace(v, table) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset | collections.deque):
        return type(value)(replace(part, table) for part in value)
    return value


def find(value):
    if isinstance(value, OutputReference):
        return {value.chore_id}
    if isinstance(value, Point):
        return find(value.x) | find(value.y)
    if isinstance(value, dict):
        return set().union(*(find(k) | find(v) for k, v in value.items()))
    if isinstance(value, list | tuple | set | frozenset | collections.deque):
        return set().union(*(find(part) for part in value))
    return set()


@pytest.mark.slow
@given(NESTED)
def test_freeze_finds_and_thaw_replaces_the_same(value):
    data, deps = wire.freeze(value)
    assert set(deps) == find(value)
    assert len(deps) == len(set(deps))
    results = {dep: ("result of", dep) for dep in deps}
    thawed = wire.thaw(data, lambda slot: results[deps[slot]])
    expected = replace(value, results)
    assert thawed == expected
    assert type(thawed) is type(expected)


@pytest.mark.slow
@given(NESTED)
def test_no_chore_id_stands_in_frozen_arguments(value):
    data, deps = wire.freeze((value, OutputReference("chore-secret-0001")))
    assert b"chore-secret-0001" not in data
    assert "chore-secret-0001" in deps


def test_parts_of_a_result():
    ref = OutputReference("c")
    data, deps = wire.freeze([ref["energies"][0], ref.attr("volume"), ref])
    assert deps == ("c",)
    value = Point({"a": 1}, 7)
    results = {"energies": [5.0]}

    class Result(dict):
        volume = 11

    assert wire.thaw(data, lambda slot: Result(results)) == [5.0, 11, results]
    assert value.y == 7


def test_classes_strings_and_generators_are_left_alone():
    data, deps = wire.freeze((Point, "OutputReference('c')", range(3)))
    assert deps == ()
    assert wire.thaw(data, pytest.fail)[1:] == ("OutputReference('c')", range(3))


def test_gather_and_sibling_are_dependencies():
    token = object()
    value = [OutputReference(Gather("fit")), OutputReference(Sibling(token)), OutputReference("c")]
    _, deps = wire.freeze(value)
    assert deps == (Gather("fit"), Sibling(token), "c")


def test_frozen_arguments_load_nowhere_else():
    data, _ = wire.freeze(OutputReference("c"))
    with pytest.raises(RuntimeError, match="worker"):
        pickle.loads(data)


def test_a_reference_pickled_elsewhere_stays_a_reference_without_its_pipeline():
    class Source:
        def wait_result(self, dependency, timeout):
            return None

    copy = pickle.loads(pickle.dumps(OutputReference("c", (("item", 0),), Source())))
    assert copy == OutputReference("c")[0]
    with pytest.raises(ReferenceUseError):
        copy.result()


def test_collecting_nests_and_restores():
    with references.collecting() as outer:
        pickle.dumps(OutputReference("a"))
        with references.collecting() as inner:
            pickle.dumps(OutputReference("b"))
        pickle.dumps(OutputReference("c"))
    assert (outer.dependencies, inner.dependencies) == (("a", "c"), ("b",))
    assert references.reduce("a", ()) is None


def test_foreign_references_are_told_apart():
    class Source:
        def wait_result(self, dependency, timeout):
            return None

    mine, other = Source(), Source()
    assert wire.freeze(OutputReference("c", (), mine), source=mine)[1] == ("c",)
    assert wire.freeze(OutputReference("c"), source=mine)[1] == ("c",)
    with pytest.raises(UnknownReferenceError) as info:
        wire.freeze([OutputReference("c", (), other)], source=mine)
    assert info.value.missing == "c"


@pytest.mark.parametrize(
    "use",
    [
        list,
        bool,
        len,
        lambda ref: 1 in ref,
        lambda ref: [*ref],
        lambda ref: ref[ref],
        lambda ref: ref.result(),
    ],
)
def test_using_a_reference_as_its_result_raises(use):
    with pytest.raises(ReferenceUseError):
        use(OutputReference("chore-a-0001"))


def test_only_references_to_chores_have_an_id():
    assert OutputReference("c").chore_id == "c"
    with pytest.raises(AttributeError, match="single chore"):
        _ = OutputReference(Gather("fit")).chore_id


def test_an_attribute_that_a_reference_lacks_names_the_way_to_a_part():
    ref = OutputReference("chore-a-0001")
    with pytest.raises(AttributeError, match=r"ref\.attr\('energy'\)"):
        ref.energy  # noqa: B018
    assert not hasattr(ref, "__array__")
    assert copy.copy(ref) == ref


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        ({"a": 1}, (("item", "b"),), r"a dict, has no part \['b'\]; it has 'a'"),
        ([1], (("item", 3),), r"a list, has no part \[3\]$"),
        (1.5, (("attr", "zzz"),), r"a float, has no part \.zzz$"),
        ({"a": 1}, (("item", "a"), ("item", 0)), r"an? int, has no part \['a'\]\[0\]$"),
    ],
)
def test_a_part_that_is_not_there_is_named(value, path, words):
    with pytest.raises(PartMissingError, match=words):
        references.select(value, path)
