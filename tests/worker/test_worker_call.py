"""A Python chore from its record to its committed result."""

from __future__ import annotations

import dataclasses
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from matensemble import wire
from matensemble.model import OutputReference

SIX = "chore-six-0001"


def add(a, b=0, *, scale=1):
    return (a + b) * scale


def same(value):
    return value


def test_calls_the_function_and_commits_what_it_returned(campaign):
    campaign.add(add, 2, b=3, scale=10)
    outcome = campaign.run()
    assert (outcome.exit_code, outcome.result) == (0, 50)
    assert not outcome.has_error
    assert wire.check_result(outcome.directory / "result.pickle", "chore-f-0001") == 1


def test_the_result_carries_the_attempt(campaign):
    campaign.add(add, 1, record={"attempt": 3})
    outcome = campaign.run()
    assert wire.check_result(outcome.directory / "result.pickle", "chore-f-0001") == 3


def test_a_chore_without_arguments(campaign):
    campaign.register("f", lambda: "nothing needed")
    campaign.record("chore-f-0001", kind="python", callable="f")
    assert campaign.run().result == "nothing needed"


def test_references_become_results_wherever_they_stand(campaign):
    campaign.complete(SIX, {"value": 6, "list": [7, 8]})
    ref = OutputReference(SIX)
    campaign.add(same, [ref["value"], {"k": (ref["list"][1], ref)}])
    assert campaign.run().result == [6, {"k": (8, {"value": 6, "list": [7, 8]})}]


def test_an_upstream_result_is_loaded_once(campaign):
    campaign.complete(SIX, [1])
    ref = OutputReference(SIX)
    campaign.add(lambda a, b: a is b, ref, ref)
    assert campaign.run().result is True


def test_unused_upstream_results_are_not_needed(campaign):
    """Dependencies that no slot asks for are for order only."""
    campaign.add(same, 1, deps=[{"id": "chore-gone-0001", "kind": "python"}])
    assert campaign.run().result == 1


def test_a_gather_is_a_list_in_the_recorded_order(campaign):
    for number in (3, 1, 2):
        campaign.complete(f"chore-e-000{number}", number * 10)
    ids = ["chore-e-0002", "chore-e-0003", "chore-e-0001"]
    from matensemble.references import Gather

    campaign.add(
        same,
        OutputReference(Gather("e")),
        deps=[{"gather": [{"id": one, "kind": "python"} for one in ids]}],
    )
    assert campaign.run().result == [20, 30, 10]


def test_an_executable_upstream_is_an_exec_result(campaign):
    directory = campaign.dir.chore_dir("chore-sim-0001")
    directory.mkdir()
    (directory / "stdout").write_text("energy -3.5\n")
    (directory / "log.lammps").write_text("ok")
    ref = OutputReference("chore-sim-0001")
    campaign.add(
        lambda r, log: (r.exit_code, str(r), str(r.workdir), log.read_text()),
        ref,
        ref["log"],
        deps=[
            {
                "id": "chore-sim-0001",
                "kind": "executable",
                "exit_code": 134,
                "outputs": {"log": "log.lammps"},
            }
        ],
    )
    assert campaign.run().result == (134, "energy -3.5", str(directory), "ok")


def test_what_it_prints_is_kept_and_argv_is_clean(campaign):
    def speak():
        print("out")
        print("err", file=sys.stderr)
        return sys.argv

    campaign.add(speak)
    outcome = campaign.run()
    assert (outcome.stdout, outcome.stderr) == ("out\n", "err\n")
    assert outcome.result == ["f"]


def test_output_is_flushed_before_the_result_is_committed(campaign):
    """A process that dies right after its commit has not lost what it printed."""

    def speak():
        original = os.replace

        def replace(source, target):
            original(source, target)
            os._exit(0)

        os.replace = replace
        print("before")

    campaign.add(speak)
    outcome = campaign.run(env={"PYTHONUNBUFFERED": ""})
    assert outcome.has_result
    assert outcome.stdout == "before\n"


def test_a_closed_stdout_does_not_fail_the_chore(campaign):
    campaign.add(lambda: sys.stdout.close())
    assert campaign.run().has_result


def test_classes_that_travel_by_value_return_by_value(campaign):
    @dataclasses.dataclass
    class Point:
        x: float

    campaign.add(lambda p: (isinstance(p, Point), Point(p.x + 1)), Point(1.0))
    is_point, point = campaign.run().result
    assert (is_point, point) == (True, Point(2.0))
    code = (
        "import sys; from matensemble import wire; "
        "print(wire.load_result(sys.argv[1], 'chore-f-0001')[1].x)"
    )
    path = campaign.dir.chore_file("chore-f-0001", "result.pickle")
    loaded = subprocess.run(
        [sys.executable, "-P", "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert loaded.stdout == "2.0\n"  # a process that knows neither script nor class


def test_a_module_pickled_by_value_needs_no_import(campaign, tmp_path, monkeypatch):
    source = tmp_path / "lab"
    source.mkdir()
    (source / "lab_helper.py").write_text(
        "class Cell:\n    def __init__(self, n):\n        self.n = n\n\n"
        "def double(n):\n    return Cell(2 * n)\n"
    )
    monkeypatch.syspath_prepend(source)
    import lab_helper

    campaign.register("f", lab_helper.double)
    place, _ = campaign.freeze(((4,), {}))
    campaign.record("chore-f-0001", kind="python", callable="f", arguments=tuple(place))
    assert campaign.run().result.n == 8


def test_modules_beside_the_script_can_be_imported(campaign, tmp_path):
    (tmp_path / "beside.py").write_text("ANSWER = 42\n")

    def use():
        import beside

        return beside.ANSWER, sys.path[-1]

    campaign.add(use)
    result = campaign.run(env={"MATENSEMBLE_SCRIPT_DIR": str(tmp_path)}).result
    assert result == (42, str(tmp_path))


def test_nothing_planted_hides_the_standard_library(campaign, tmp_path):
    for directory in (tmp_path, campaign.dir.root, campaign.dir.chore_dir("chore-f-0001")):
        directory.mkdir(exist_ok=True)
        for name in ("json", "traceback", "random", "runpy", "copyreg"):
            (directory / f"{name}.py").write_text("raise SystemExit('planted')\n")

    def use():
        import json
        import random

        return json.__file__, random.__file__

    campaign.add(use)
    for env in ({}, {"MATENSEMBLE_SCRIPT_DIR": str(tmp_path)}):
        for file in campaign.run(env=env).result:
            assert not Path(file).is_relative_to(tmp_path)


def test_other_ways_to_start_the_same_module(campaign):
    campaign.add(add, 1, 1)
    code = "from matensemble.runtime_worker import main; raise SystemExit(main())"
    assert campaign.run(python=("-P", "-c", code)).result == 2


@pytest.mark.parametrize("argv", [[], ["--chore-id", "a"], ["--chore-id", "a", "--spec", "b"]])
def test_wrong_usage(argv, campaign):
    command = [sys.executable, "-P", "-m", "matensemble.runtime_worker", *argv]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert process.stderr.startswith("usage:")


def test_the_spec_file_may_be_relative(campaign):
    campaign.add(add, 1)
    assert campaign.run(spec_file="chore.pickle").result == 1


# --- tasks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variable",
    ["MATENSEMBLE_TASK_RANK", "FLUX_TASK_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"],
)
def test_only_rank_zero_commits(campaign, variable):
    campaign.add(add, 1, record={"num_tasks": 2})
    other = campaign.run(env={variable: "1"})
    assert (other.exit_code, other.has_result) == (0, False)
    assert campaign.run(env={variable: "0"}).result == 1


def test_our_rank_variable_goes_before_those_of_others(campaign):
    campaign.add(add, 1, record={"num_tasks": 2})
    env = {"MATENSEMBLE_TASK_RANK": "0", "FLUX_TASK_RANK": "1", "PMI_RANK": "1"}
    assert campaign.run(env=env).result == 1


def test_a_single_task_commits_whatever_the_environment_says(campaign):
    campaign.add(add, 1)
    assert campaign.run(env={"SLURM_PROCID": "7"}).result == 1


def test_the_garbage_collector_runs_again_for_the_function(campaign):
    import gc

    campaign.add(lambda: (gc.isenabled(), gc.get_freeze_count() > 0))
    assert campaign.run().result == (True, True)


def test_what_a_module_of_the_function_has_written_reaches_its_file(
    campaign, tmp_path, monkeypatch
):
    """It was lost where no collection looked at what was loaded with the function."""
    (tmp_path / "module_with_log.py").write_text(
        "import os\n"
        "LOG = open('log', 'w') if 'MATENSEMBLE_CHORE_ID' in os.environ else None\n"
        "def write():\n    LOG.write('kept')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("module_with_log")
    campaign.add(lambda: module.write())
    outcome = campaign.run(env={"PYTHONPATH": str(tmp_path)})
    assert outcome.exit_code == 0, outcome.stderr
    assert (outcome.directory / "log").read_text() == "kept"
