"""Policies of a chore: what is accepted, what is retried and when, and their form in a header."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given, strategies as st

from matensemble.errors import InvalidOptionError
from matensemble.model import Reason
from matensemble.policy import (
    DEFAULT_POLICY,
    GROWING,
    NEVER_RETRIED,
    ChorePolicy,
    OnFailure,
    PolicyKeywords,
    Retry,
    make_policy,
    parse_size,
)

RETRIED = sorted(set(Reason) - NEVER_RETRIED)
SECONDS = st.floats(1e-3, 1e6)
RETRIES = st.builds(
    Retry,
    limit=st.integers(1, 1000),
    on=st.lists(
        st.sampled_from(RETRIED) | st.integers(-64, 255) | st.sampled_from(["ValueError", "Örror"]),
        max_size=4,
    ).map(tuple),
    delay=st.just(0) | SECONDS,
    factor=st.floats(1, 10),
    max_delay=SECONDS,
    grow=st.dictionaries(
        st.sampled_from(RETRIED),
        st.dictionaries(st.sampled_from(GROWING), st.floats(1, 100), max_size=2),
        max_size=2,
    ),
)
POLICIES = st.builds(
    ChorePolicy,
    retry=st.none() | RETRIES,
    idle_timeout=st.none() | SECONDS,
    max_output=st.none() | st.integers(1, 10**15),
    on_failure=st.sampled_from(OnFailure),
    durable=st.booleans(),
    version=st.text(max_size=5),
    workers=st.sampled_from([None, "auto", "pool", "job"]),
)


# --- retries ----------------------------------------------------------------------------------


def test_without_conditions_every_failure_that_may_pass_is_tried_again():
    retry = Retry()
    assert {reason for reason in Reason if not retry.covers(reason, 1)} == NEVER_RETRIED


@pytest.mark.parametrize(
    ("on", "covered"),
    [
        ("out_of_memory", [(Reason.OUT_OF_MEMORY, 1, "MemoryError")]),
        (Reason.OUT_OF_MEMORY, [(Reason.OUT_OF_MEMORY, None, "")]),
        (-9, [(Reason.SIGNAL, -9, "")]),
        ([137, 2], [(Reason.NONZERO_EXIT, 137, ""), (Reason.NONZERO_EXIT, 2, "")]),
        (
            ("ConvergenceError",),
            [
                (Reason.EXCEPTION, 1, "ConvergenceError"),
                (Reason.EXCEPTION, 1, "study.<locals>.ConvergenceError"),
            ],
        ),
    ],
)
def test_conditions_select(on, covered):
    retry = Retry(2, on)
    for reason, exit_code, error_type in covered:
        assert retry.covers(reason, exit_code, error_type)
    assert not retry.covers(Reason.EXCEPTION, 1, "ValueError")
    assert not retry.covers(Reason.NONZERO_EXIT, 3)
    assert not retry.covers(Reason.NODE_FAILURE, None)


def test_a_condition_that_is_named_cannot_bring_back_what_is_never_retried():
    assert not Retry(on=1).covers(Reason.EXCEEDS_ALLOCATION, 1)


def test_waits_grow_up_to_a_bound():
    retry = Retry(9, delay="2s", factor=3, max_delay="1m")
    assert [retry.wait_before(n) for n in (1, 2, 3, 4, 5)] == [2, 6, 18, 54, 60]
    assert retry.wait_before(1000) == 60
    assert Retry(9, factor=10).wait_before(1000) == 0
    assert Retry(9, delay=7, factor=1).wait_before(8) == 7


@given(RETRIES, st.integers(1, 1000))
def test_a_wait_is_never_longer_than_allowed_nor_shorter_than_the_one_before(retry, attempt):
    wait = retry.wait_before(attempt)
    assert 0 <= wait <= retry.max_delay
    assert wait <= retry.wait_before(attempt + 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": -1},
        {"limit": 1001},
        {"limit": True},
        {"limit": 1.0},
        {"limit": "3"},
        {"on": None},
        {"on": ""},
        {"on": [True]},
        {"on": 256},
        {"on": -65},
        {"on": ["out_of_memmory"]},  # never comes
        {"on": "cancelled"},  # cannot help
        {"on": "not a name"},
        {"on": {"out_of_memory": 1}},
        {"delay": -1},
        {"delay": "soon"},
        {"delay": True},
        {"factor": 0.5},
        {"factor": 11},
        {"factor": float("nan")},
        {"factor": "2"},
        {"max_delay": float("inf")},
        {"grow": 2},
        {"grow": {"out_of_memory": 2}},
        {"grow": {"oom": {"cores_per_task": 2}}},
        {"grow": {"out_of_memory": {"cores": 2}}},
        {"grow": {"out_of_memory": {"cores_per_task": 0.5}}},
        {"grow": {"out_of_memory": {"cores_per_task": True}}},
        {"grow": {"out_of_memory": {"cores_per_task": float("inf")}}},
    ],
)
def test_impossible_retries(wrong):
    with pytest.raises(InvalidOptionError) as info:
        Retry(**wrong)
    (option,) = wrong
    assert info.value.option == {"limit": "retries"}.get(option, option)


def test_what_was_given_can_change_afterwards():
    grow = {"out_of_memory": {"cores_per_task": 2}}
    retry = Retry(grow=grow)
    grow["out_of_memory"]["cores_per_task"] = 0
    grow["signal"] = {}
    assert retry.grow == {"out_of_memory": {"cores_per_task": 2}}


# --- the policy of a chore --------------------------------------------------------------------


def test_short_spellings():
    policy = ChorePolicy(3, idle_timeout="10m", max_output="1.5 MB", on_failure="ignore")
    assert policy == ChorePolicy(Retry(3), 600.0, 1_500_000, OnFailure.IGNORE)
    assert ChorePolicy(0) == ChorePolicy(Retry(0)) == DEFAULT_POLICY


@pytest.mark.parametrize(
    "wrong",
    [
        {"retry": "3"},
        {"retry": True},
        {"retry": 1001},
        {"idle_timeout": 0},
        {"idle_timeout": "never"},
        {"max_output": 0},
        {"max_output": 1.5},
        {"max_output": "1 mb"},
        {"on_failure": "stop"},
        {"on_failure": None},
        {"durable": 1},
        {"version": 2},
        {"workers": "warm"},
        {"workers": True},
    ],
)
def test_impossible_policies(wrong):
    with pytest.raises(InvalidOptionError) as info:
        ChorePolicy(**wrong)
    (option,) = wrong
    assert info.value.option == {"retry": "retries"}.get(option, option)


@given(POLICIES)
def test_a_policy_survives_json_and_ignores_keys_of_later_versions(policy):
    data = json.loads(json.dumps(policy.to_json()))
    assert ChorePolicy.from_json({**data, "later": 1}) == policy
    if policy.retry is not None:
        assert Retry.from_json({**data["retry"], "later": 1}) == policy.retry


@given(POLICIES)
def test_a_policy_is_a_value(policy):
    again = pickle.loads(pickle.dumps(policy))  # a strategy may hold one in a global variable
    assert again == policy
    assert hash(again) == hash(policy)


def test_json_holds_what_was_asked_for_only():
    assert DEFAULT_POLICY.to_json() == {}
    assert ChorePolicy(1, durable=True).to_json() == {"retry": {"limit": 1}, "durable": True}


# --- as keywords ------------------------------------------------------------------------------


def test_keywords_are_the_fields():
    fields = {"retries" if name == "retry" else name for name in ChorePolicy.__slots__}
    assert fields == PolicyKeywords.__optional_keys__


def test_keywords_are_laid_over_a_policy():
    base = make_policy(retries=2, idle_timeout="1m", version="a")
    assert make_policy(base) is base
    assert make_policy(base, version="b") == ChorePolicy(2, 60.0, version="b")
    assert make_policy(base, retries=0, idle_timeout=None, version="") is DEFAULT_POLICY
    assert make_policy(on_failure="continue") is DEFAULT_POLICY


@pytest.mark.parametrize("name", ["retry", "retrys", "timeout"])
def test_unknown_keywords(name):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        make_policy(**{name: 1})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (1, 1),
        ("1", 1),
        ("12B", 12),
        (" 10 kB ", 10_000),
        ("100K", 100_000),
        (".5MB", 500_000),
        ("1.5GB", 1_500_000_000),
        ("2TiB", 2 << 40),
        ("64Ki", 65_536),
    ],
)
def test_sizes(text, size):
    assert parse_size(text, "max_output") == size


@pytest.mark.parametrize(
    "wrong",
    ["", "MB", "-1", "0.1", "1 iB", "1 EB", "1e3", "1mB", "9" * 400, 0, -1, True, 1.0, None],
)
def test_impossible_sizes(wrong):
    with pytest.raises(InvalidOptionError, match="max_output"):
        parse_size(wrong, "max_output")
