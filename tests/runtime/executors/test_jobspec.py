"""Requests as jobspecs: what is asked of Flux, checked without a broker."""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from matensemble.environment import NOT_INHERITED
from matensemble.errors import ExecutorUnavailableError
from matensemble.model import Resources
from matensemble.runtime.executors.flux import load_flux
from matensemble.runtime.executors.jobspec import JobspecEncoder, literal_argv
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.executors.resource_set import parse_idset

CWD = Path("/run/out/chore-a-0001")


def make_request(**fields: Any) -> LaunchRequest:
    known = Resources.__dataclass_fields__.keys() - {"env", "inherit_env"}
    resources = {k: fields.pop(k) for k in known & fields.keys()}
    given: dict[str, Any] = {
        "chore_id": "chore-a-0001",
        "attempt": 1,
        "name": "a",
        "argv": ("true",),
        "cwd": CWD,
        "stdout_path": CWD / "stdout",
        "stderr_path": CWD / "stderr",
        "resources": Resources(**resources),
        "env": {},
    }
    return LaunchRequest(**given | fields)


def encode(options: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    encoder = JobspecEncoder(**{"run": "/run", "epoch": 1, "environ": {}} | (options or {}))
    return encoder.document(make_request(**fields))


def shell_options(options: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = encode(options, **fields)["attributes"]["system"]["shell"]["options"]
    return found


def test_what_the_driver_was_told_of_itself_is_not_passed_on() -> None:
    environ = {"HOME": "/h", **dict.fromkeys(NOT_INHERITED, "0")}
    attributes = encode({"environ": environ}, env={"PMI_RANK": "1"})["attributes"]
    assert attributes["system"]["environment"] == {"HOME": "/h", "PMI_RANK": "1"}


def test_a_plain_chore() -> None:
    assert encode({"environ": {"HOME": "/h"}}, argv=("lmp", "-in", "x"), env={"A": "1"}) == {
        "version": 1,
        "resources": [
            {
                "type": "slot",
                "count": 1,
                "label": "task",
                "with": [{"type": "core", "count": 1}],
            }
        ],
        "tasks": [{"command": ["lmp", "-in", "x"], "slot": "task", "count": {"per_slot": 1}}],
        "attributes": {
            "user": {
                "matensemble": {"run": "/run", "chore": "chore-a-0001", "attempt": 1, "epoch": 1}
            },
            "system": {
                "duration": 0.0,
                "cwd": str(CWD),
                "job": {"name": "a"},
                "environment": {"HOME": "/h", "A": "1"},
                "shell": {
                    "options": {
                        "input": {
                            "stdin": {"type": "file", "path": "/dev/null"},
                            "batch-timeout": 0.001,
                        },
                        "output": {
                            "stdout": {"type": "file", "path": "stdout"},
                            "stderr": {"type": "file", "path": "stderr"},
                        },
                    }
                },
            },
        },
    }


def test_tasks_over_nodes() -> None:
    document = encode(num_tasks=5, cores_per_task=2, gpus_per_task=1, num_nodes=2, exclusive=True)
    (node,) = document["resources"]
    assert (node["type"], node["count"], node["exclusive"]) == ("node", 2, True)
    (slot,) = node["with"]
    assert slot["count"] == 3
    assert slot["with"] == [{"type": "core", "count": 2}, {"type": "gpu", "count": 1}]
    assert document["tasks"][0]["count"] == {"total": 5}


def test_duration() -> None:
    assert encode(duration="2m")["attributes"]["system"]["duration"] == 120.0


def test_files_elsewhere_keep_their_path() -> None:
    output = shell_options(stdout_path=Path("/elsewhere/stdout"))["output"]
    assert output["stdout"]["path"] == "/elsewhere/stdout"
    assert output["stderr"]["path"] == "stderr"


def test_affinities() -> None:
    assert "cpu-affinity" not in shell_options()
    assert shell_options(num_tasks=2)["cpu-affinity"] == "per-task"
    assert shell_options({"set_cpu_affinity": False})["cpu-affinity"] == "off"
    assert "gpu-affinity" not in shell_options(gpus_per_task=1)
    assert "gpu-affinity" not in shell_options({"set_gpu_affinity": True})
    split = shell_options({"set_gpu_affinity": True}, gpus_per_task=1)
    assert split["gpu-affinity"] == "per-task"


def test_mpi_sets_pmi_and_keeps_the_exit_timeout() -> None:
    assert "pmi" not in shell_options(num_tasks=2)
    assert shell_options(num_tasks=2)["exit-timeout"] == "none"
    options = shell_options({"mpi_pmi": "cray-pals"}, num_tasks=2, mpi=True)
    assert options["pmi"] == "cray-pals"
    assert "exit-timeout" not in options


def constraint(avoid: set[int], ranks: Sequence[int], barred: Sequence[int] = ()) -> Any:
    options = {"ranks": ranks, "barred": barred}
    return encode(options, avoid=frozenset(avoid))["attributes"]["system"].get("constraints")


def test_barred_ranks_and_nodes_to_avoid_share_one_constraint() -> None:
    ranks = (1, 2, 3, 5, 6, 7, 8)
    assert constraint({0, 1, 3}, ranks, (0,)) == {"not": [{"ranks": ["0-2,5"]}]}
    assert constraint(set(), ranks, (0,)) == {"not": [{"ranks": ["0"]}]}
    assert constraint(set(), ranks) is None


def test_a_job_that_is_pinned_names_its_nodes_and_not_all_others() -> None:
    ranks = range(1, 1000)
    others = {*range(999)} - {41}
    assert constraint(others, ranks, (0,)) == {"ranks": ["42"]}
    assert constraint(others - {42}, ranks, (0,)) == {"ranks": ["42-43"]}


def test_a_job_that_may_use_no_node_is_for_flux_to_refuse() -> None:
    assert constraint({0, 1}, (1, 2), (0,)) == {"not": [{"ranks": ["0-2"]}]}


@given(
    st.sets(st.integers(0, 40), min_size=1),
    st.sets(st.integers(0, 40)),
    st.sets(st.integers(0, 40), max_size=3),
)
def test_a_constraint_admits_exactly_the_ranks_that_are_left(
    ranks: set[int], avoid: set[int], barred: set[int]
) -> None:
    usable = sorted(ranks - barred)
    avoided = {index for index, rank in enumerate(usable) if rank in avoid}
    found = constraint(avoided, usable, sorted(barred))
    admitted = {*usable, *barred}
    if found is not None and "ranks" in found:
        admitted &= {*parse_idset(*found["ranks"])}
    elif found is not None:
        admitted -= {*parse_idset(*found["not"][0]["ranks"])}
    assert admitted == {*usable} - avoid


def test_extra_attributes() -> None:
    options = {"extra_attributes": {"queue": "debug", "duration": 5.0}}
    system = encode(options)["attributes"]["system"]
    assert (system["queue"], system["duration"]) == ("debug", 5.0)


names = st.text(st.characters(codec="utf-8", exclude_characters="=\0"), min_size=1, max_size=5)
values = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9)
environments = st.dictionaries(names, values, max_size=4)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(pairs) == len(dict(pairs)), "no key comes twice"
    return dict(pairs)


@given(below=environments, own=environments, inherit=st.booleans())
def test_environment_is_spliced_as_if_merged(
    below: dict[str, str], own: dict[str, str], inherit: bool
) -> None:
    encoder = JobspecEncoder(run="r", epoch=1, environ=below)
    for env in (own, {}, own):  # the cache between them changes nothing
        text = encoder.encode(make_request(env=env, inherit_env=inherit))
        found = json.loads(text, object_pairs_hook=unique)["attributes"]["system"]["environment"]
        assert found == ({**below, **env} if inherit else env)


def test_variables_that_are_not_text_stay_behind(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        document = encode({"environ": {"GOOD": "1", "BAD": "\udcff"}})
    assert document["attributes"]["system"]["environment"] == {"GOOD": "1"}
    assert "BAD" in caplog.text


@pytest.mark.parametrize("argument", ["a\0b", "\udcff"])
def test_arguments_that_flux_cannot_take(argument: str) -> None:
    with pytest.raises(ValueError, match="UTF-8"):
        encode(argv=("echo", argument))


@given(st.lists(st.text("{}'\"\\$ a\n", max_size=6), max_size=4))
def test_braces_are_taken_from_flux_and_given_to_the_program(arguments: list[str]) -> None:
    argv = literal_argv(["printf", "%s\\0", "-", *arguments])
    assert not any("{{" in part for part in argv)
    if argv[0] == "/bin/sh":
        printed = subprocess.run(argv, capture_output=True, check=True).stdout
        assert printed.decode().split("\0")[1:-1] == arguments
    else:
        assert argv[3:] == arguments


@st.composite
def requests(draw: st.DrawFn) -> LaunchRequest:
    num_tasks = draw(st.integers(1, 9))
    num_nodes = draw(st.none() | st.integers(1, num_tasks))
    return make_request(
        num_tasks=num_tasks,
        num_nodes=num_nodes,
        cores_per_task=draw(st.integers(1, 9)),
        gpus_per_task=draw(st.integers(0, 3)),
        exclusive=num_nodes is not None and draw(st.booleans()),
        duration=draw(st.none() | st.floats(0.1, 1e6)),
        mpi=draw(st.booleans()),
        env=draw(environments),
        argv=tuple(draw(st.lists(values, min_size=1, max_size=3))),
    )


@pytest.fixture(scope="module")
def flux_job() -> Any:
    try:
        return load_flux().job
    except ExecutorUnavailableError as error:
        pytest.skip(error.problem)


@pytest.mark.flux
@given(request_=requests())
def test_flux_finds_every_jobspec_valid(flux_job: Any, request_: LaunchRequest) -> None:
    encoder = JobspecEncoder(run="r", epoch=1, environ={"A": "1"}, ranks=(0, 1), barred=(0,))
    text = encoder.encode(request_)
    is_valid, jobspec = flux_job.validate_jobspec(text)
    assert is_valid
    resources = request_.resources
    ours = json.loads(text)
    theirs = flux_job.JobspecV1.from_command(
        ["x"],
        num_tasks=resources.num_tasks,
        cores_per_task=resources.cores_per_task,
        gpus_per_task=resources.gpus_per_task,
        num_nodes=resources.num_nodes,
        exclusive=resources.exclusive,
        environment={},
    ).jobspec
    assert _plain(ours["resources"]) == _plain(theirs["resources"])
    assert ours["tasks"][0]["count"] == theirs["tasks"][0]["count"]
    assert jobspec.duration == (resources.duration or 0.0)


def _plain(resources: Any) -> Any:
    return json.loads(json.dumps(resources, sort_keys=True))
