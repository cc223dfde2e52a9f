"""Resources, durations, results of executables."""

import json

import pytest
from hypothesis import given, strategies as st

from matensemble.errors import InvalidOptionError, InvalidResourcesError
from matensemble.model import ChoreState, ExecResult, Resources, RunState, parse_duration


@pytest.mark.parametrize("field", ["num_tasks", "cores_per_task", "gpus_per_task", "num_nodes"])
@pytest.mark.parametrize("value", [0, -1, 1.0, "1", True, [1]])
def test_impossible_counts(field, value):
    if field == "gpus_per_task" and value == 0 and value is not False:
        assert Resources(gpus_per_task=0).num_gpus == 0
        return
    with pytest.raises(InvalidResourcesError) as info:
        Resources(**{field: value})
    assert info.value.field == field
    assert repr(value) in str(info.value)


@pytest.mark.parametrize(
    "keywords",
    [
        {"mpi": 1},
        {"inherit_env": None},
        {"exclusive": "yes"},
        {"exclusive": True},
        {"num_tasks": 2, "num_nodes": 3},
        {"duration": 0},
        {"duration": "soon"},
        {"duration": True},
        {"env": ["A=1"]},
        {"env": 5},
        {"env": {"A": 1}},
        {"env": {"": "x"}},
        {"env": {"A=B": "x"}},
        {"env": {"A": "x\0y"}},
    ],
)
def test_other_impossible_values(keywords):
    with pytest.raises(InvalidResourcesError) as info:
        Resources(**keywords)
    assert info.value.field in keywords


def test_environment_is_a_copy_hashable_and_hidden():
    env = {"TOKEN": "secret"}
    resources = Resources(env=env)
    env["TOKEN"] = "changed"
    assert resources.env == {"TOKEN": "secret"}
    assert hash(resources) == hash(Resources(env={"TOKEN": "secret"}))
    assert "secret" not in repr(resources)
    assert "secret" not in json.dumps(resources.to_json())


RESOURCES = st.builds(
    lambda tasks, cores, gpus, mpi, nodes, exclusive, duration: Resources(
        num_tasks=tasks,
        cores_per_task=cores,
        gpus_per_task=gpus,
        mpi=mpi,
        num_nodes=min(nodes, tasks) if nodes else None,
        exclusive=bool(nodes) and exclusive,
        duration=duration,
    ),
    st.integers(1, 100),
    st.integers(1, 100),
    st.integers(0, 8),
    st.booleans(),
    st.none() | st.integers(1, 10),
    st.booleans(),
    st.none() | st.floats(0.001, 1e6),
)


@given(RESOURCES)
def test_json_round_trip(resources):
    data = json.loads(json.dumps(resources.to_json()))
    assert Resources.from_json({**data, "field_of_later_version": 1}) == resources
    assert resources.num_cores == resources.num_tasks * resources.cores_per_task


def test_defaults_need_no_json():
    assert Resources().to_json() == {}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 90.0),
        (0.5, 0.5),
        ("90", 90.0),
        ("90s", 90.0),
        ("30m", 1800.0),
        ("1.5h", 5400.0),
        (".5d", 43200.0),
        (" 250 ms ", 0.25),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "m", "-1s", "1y", "1h30m", 0, -3, float("inf"), float("nan"), True, None, [1]]
)
def test_no_durations(text):
    with pytest.raises(InvalidOptionError) as info:
        parse_duration(text, "idle_timeout")
    assert info.value.option == "idle_timeout"


def test_terminal_states():
    terminal = {s for s in ChoreState if s.is_terminal}
    assert terminal == {"completed", "failed", "cancelled", "skipped"}
    assert {s for s in RunState if s.is_terminal} == {
        "interrupted", "completed", "failed", "cancelled",
    }  # fmt: skip


def test_exec_result(tmp_path):
    (tmp_path / "stdout").write_text("3.52\n\n")
    result = ExecResult(0, tmp_path, tmp_path / "stdout", {"log": tmp_path / "log"})
    assert str(result) == "3.52\n"
    assert result["log"] == tmp_path / "log"
    assert list(result) == ["log"]
