"""Chores as values: headers, names, policies, specs, the registry."""

import json
import pickle
import types

import pytest
from hypothesis import given, strategies as st

from matensemble import chore as chores, model
from matensemble.chore import CallShape, Chore, ChoreRegistry, ChoreSpec, Place
from matensemble.errors import (
    DuplicateNameError,
    InvalidArgumentsError,
    InvalidCommandError,
    InvalidNameError,
    InvalidOptionError,
    ReferenceUseError,
    UnknownNameError,
    UnpicklableError,
)
from matensemble.model import ChoreType, OutputReference, Resources
from matensemble.policy import ChorePolicy, OnFailure, Retry
from matensemble.references import Gather, Sibling

NAMES = st.from_regex(chores.ALLOWED_NAME, fullmatch=True)
PLACES = st.builds(Place, st.just("workflow.args"), st.integers(0), st.integers(0))
CHORES = st.builds(
    Chore,
    id=NAMES,
    name=NAMES,
    kind=st.just(ChoreType.PYTHON),
    deps=st.lists(NAMES | NAMES.map(Gather), unique=True, max_size=3).map(tuple),
    after=st.lists(NAMES, max_size=2).map(tuple),
    resources=st.builds(Resources, num_tasks=st.integers(1, 9), mpi=st.booleans()),
    nice=st.integers(*model.NICE_RANGE),
    success_codes=st.lists(st.integers(-64, 255), min_size=1, max_size=3).map(tuple),
    callable=NAMES,
    arguments=PLACES,
    env_place=st.none() | PLACES,
    is_strategy=st.booleans(),
    policy=st.builds(
        ChorePolicy,
        retry=st.none() | st.builds(Retry, st.integers(1, 5), st.just(("signal", -9))),
        on_failure=st.sampled_from(OnFailure),
    ),
    stage=st.integers(0, 5),
) | st.builds(
    Chore,
    id=NAMES,
    name=NAMES,
    kind=st.just(ChoreType.EXECUTABLE),
    command=st.lists(st.text(), min_size=1, max_size=3).map(tuple),
    outputs=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
    arguments=st.none() | PLACES,
)


@pytest.mark.slow
@given(CHORES)
def test_header_round_trip_ignores_unknown_keys(chore):
    header = json.loads(json.dumps(chore.to_header()))
    assert Chore.from_header({**header, "key_of_later_version": 1}) == chore


def test_header_leaves_out_defaults_and_the_environment():
    chore = Chore("c", "a", ChoreType.PYTHON, callable="a", resources=Resources(env={"T": "s"}))
    assert chore.to_header() == {"id": "c", "name": "a", "kind": "python"}


def test_sibling_header_round_trip():
    chore = Chore("", "a", ChoreType.PYTHON, deps=(Sibling(2),), callable="a")
    again = Chore.from_header(json.loads(json.dumps(chore.to_header())))
    assert again.deps[0].token == 2


def test_upstream_counts_each_once_and_gathers_apart():
    chore = Chore("c", "a", ChoreType.PYTHON, deps=("x", Gather("g"), "y"), after=("y", "z"))
    assert chore.upstream == ("x", "y", "z")
    assert chore.gathers == ("g",)
    assert chore.needs_worker
    assert not Chore("c", "a", ChoreType.EXECUTABLE, command=("true",)).needs_worker


@pytest.mark.parametrize("damage", [{}, {"id": "x"}, {"id": "x", "name": "a", "kind": "magic"}])
def test_bad_headers(damage):
    with pytest.raises((KeyError, ValueError)):
        Chore.from_header(damage)


@pytest.mark.parametrize(
    "name", ["", "a/b", "a\\b", "..", ".hidden", "-x", "a b", "é", "x" * 101, 3, None]
)
def test_bad_names(name):
    with pytest.raises(InvalidNameError) as info:
        chores.check_name(name)
    assert info.value.name == name


def test_ids_widen_past_four_digits():
    assert chores.make_chore_id("fit", 7) == "chore-fit-0007"
    assert chores.make_chore_id("fit", 123456) == "chore-fit-123456"


@pytest.mark.parametrize("nice", [True, 1.0, "1", None, 10**7])
def test_bad_nice(nice):
    with pytest.raises(InvalidOptionError):
        model.check_nice(nice)


@pytest.mark.parametrize("codes", [[], "0", True, [True], [256], [-65], [0.0], None])
def test_bad_success_codes(codes):
    with pytest.raises(InvalidOptionError):
        chores.check_success_codes(codes)


def test_success_codes_are_sorted_and_unique():
    assert chores.check_success_codes(134) == (134,)
    assert chores.check_success_codes({3, 0}) == (0, 3)
    assert chores.check_success_codes(range(2)) == (0, 1)


@pytest.mark.parametrize("after", ["chore-a-0001", [3], [OutputReference(Gather("a"))], 3])
def test_bad_after(after):
    with pytest.raises(InvalidOptionError):
        chores.check_after(after)


def test_after_takes_references_once():
    refs = [OutputReference("a"), OutputReference("b")["x"], OutputReference("a")]
    assert chores.check_after(refs) == ("a", "b")
    assert chores.check_after(OutputReference("a")) == ("a",)


# --- specs ------------------------------------------------------------------------------------


def test_spec_positional_spelling():
    spec = ChoreSpec((1,), {"x": 2}, "energy", Resources(num_tasks=2), 5)
    assert (spec.qualname, spec.nice, spec.resources.num_tasks) == ("energy", 5, 2)
    assert spec.ref.dependency == Sibling(spec)


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"qualname": "a/b"}, InvalidNameError),
        ({"qualname": ""}, InvalidNameError),
        ({"qualname": "a", "nice": "x"}, InvalidOptionError),
        ({"qualname": "a", "resources": {"num_tasks": 1}}, InvalidOptionError),
        ({"qualname": "a", "success_codes": ()}, InvalidOptionError),
        ({"qualname": "a", "retries": -1}, InvalidOptionError),
        ({"qualname": "a", "retrys": 1}, TypeError),
    ],
)
def test_bad_specs(keywords, error):
    with pytest.raises(error):
        ChoreSpec(**keywords)


def test_exec_spec():
    spec = ChoreSpec.exec("lmp -in 'in file'", outputs={"log": "log.lammps"}, nice=1)
    assert (spec.qualname, spec.command, spec.nice) == ("lmp", "lmp -in 'in file'", 1)
    with pytest.raises(InvalidCommandError):
        ChoreSpec.exec("")


def test_a_spec_has_a_policy_of_its_own_only_where_it_says_so():
    assert ChoreSpec(qualname="a", nice=1).policy is None
    assert ChoreSpec(qualname="a", retries=0).policy == ChorePolicy()
    policy = ChorePolicy(2, on_failure="abort")
    assert ChoreSpec(qualname="a", retries=2, on_failure="abort").policy == policy
    assert ChoreSpec.exec("lmp", retries=2, on_failure="abort").policy == policy


# --- callables --------------------------------------------------------------------------------


def example(a, /, b, c=1, *, d, e=2):
    """Stand for any function."""


@pytest.mark.parametrize(
    ("num_args", "keywords", "fits"),
    [
        (2, ("d",), True),
        (1, ("b", "d", "e"), True),
        (3, ("d",), True),
        (2, (), False),
        (4, ("d",), False),
        (0, ("a", "b", "d"), False),
        (2, ("d", "x"), False),
        (2, ("b", "d"), False),
    ],
)
def test_call_shape_survives_json_and_checks_calls(num_args, keywords, fits):
    parameters = json.loads(json.dumps(CallShape.of(example).parameters))
    shape = CallShape(tuple(tuple(p) for p in parameters))
    if fits:
        shape.check("example", num_args, keywords)
    else:
        with pytest.raises(InvalidArgumentsError, match="example"):
            shape.check("example", num_args, keywords)


def test_unknown_signatures_are_not_checked():
    CallShape(None).check("x", 99, ("a",))


def test_registry_refuses_duplicates_and_what_cannot_be_called():
    registry = ChoreRegistry()
    registry.register("f", example)
    with pytest.raises(DuplicateNameError):
        registry.register("f", example)
    with pytest.raises(InvalidOptionError):
        registry.register("g", 3)
    registry.register("f", len, replace=True)
    assert registry["f"] is len
    with pytest.raises(UnknownNameError, match="registered here: f"):
        registry["g"]


def test_functions_travel_by_value_with_their_module():
    registry = ChoreRegistry()
    registry.register("f", example)
    assert __name__ in registry.by_value
    assert pickle.loads(registry.dumps("f")) is not example


def test_installed_functions_travel_by_reference():
    registry = ChoreRegistry()
    registry.register("dumps", json.dumps)
    assert registry.by_value == ()
    assert pickle.loads(registry.dumps("dumps")) is json.dumps


def test_unpicklable_function_names_the_object_inside():
    import threading

    lock = threading.Lock()
    registry = ChoreRegistry()
    registry.register("f", lambda: lock)
    with pytest.raises(UnpicklableError) as info:
        registry.dumps("f")
    assert "'lock'" in info.value.culprit
    assert "'f'" in info.value.what


def test_reference_inside_a_function_is_refused():
    ref = OutputReference("chore-a-0001")
    registry = ChoreRegistry()
    registry.register("f", lambda: ref)
    with pytest.raises(ReferenceUseError, match="inside the function 'f'"):
        registry.dumps("f")


def test_by_value_takes_modules_only():
    with pytest.raises(InvalidOptionError):
        ChoreRegistry(by_value=["numpy"])
    module = types.ModuleType("study_helpers")
    assert ChoreRegistry(by_value=[module]).by_value == ("study_helpers",)
