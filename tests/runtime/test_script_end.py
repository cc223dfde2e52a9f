"""A script that has come to its end waits for its run, and the run misses nothing by it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from matensemble.model import RunState
from matensemble.records import RecordKind, read_records
from matensemble.results import Results
from matensemble.runs import find_run
from matensemble.status import read_status
from matensemble.workdir import RESULT

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

HEAD = """
import sys, threading, time
from pathlib import Path
from matensemble.chore import ChoreSpec
from matensemble.pipeline import Pipeline

folder, options = Path(sys.argv[1]), dict(option.split("=") for option in sys.argv[2:])

def open_the_gate():
    threading.main_thread().join()
    (folder / "gate").touch()

threading.Thread(target=open_the_gate).start()

def wait():
    while not (folder / "gate").exists():
        time.sleep(0.01)
"""
"""Chores that wait end after the main thread did."""

STUDY = """
pipe = Pipeline(folder / "runs", cache_dir=folder / "cache")

@pipe.chore(retries=1)
def twice(x):
    wait()
    Path("scratch").write_text("x")
    if x == 1 and not (folder / "has_failed").exists():
        (folder / "has_failed").touch()
        raise ValueError("once")
    return 2 * x

@pipe.chore
def add(numbers):
    return sum(numbers)

@pipe.strategy(triggers=["add"])
def add_more(total):
    return [ChoreSpec(([total, 1],), None, "add")] if total % 2 == 0 else None

add([twice(x) for x in range(4)])
pipe.submit(**options)
"""

RESUME = """
Pipeline.resume(folder / "runs", **options)
"""


def end_a_script(folder, text, environment, **options):
    """Run a script that waits for nothing; return its run."""
    script = folder / "study.py"
    script.write_text(HEAD + text)
    (folder / "gate").unlink(missing_ok=True)
    given = [f"{name}={value}" for name, value in options.items()]
    ended = subprocess.run(
        [sys.executable, script, folder, *given],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), ended.stderr
    run = find_run(folder / "runs")
    assert read_status(run.status_path).state is RunState.COMPLETED
    assert "Traceback" not in run.log_path.read_text()
    return run


def chores_of(run, kind):
    return [record.chore_id for record in read_records(run) if record.kind == kind]


@pytest.fixture(params=["local", pytest.param("flux", marks=pytest.mark.flux)])
def environment(request):
    """What leads a script to its executor."""
    environ = {"MATENSEMBLE_EXECUTOR": request.param}
    if request.param == "flux":
        environ["FLUX_URI"] = request.getfixturevalue("start_flux")("--test-size=2")
    return environ


def test_what_is_done_behind_chores_is_done_when_the_script_has_ended(tmp_path, environment):
    run = end_a_script(tmp_path, STUDY, environment, keep="results")
    results = Results.read(run)
    assert [results[f"chore-twice-{number:04}"] for number in range(1, 5)] == [0, 2, 4, 6]
    assert results.gather("add") == [12, 13]
    (again,) = {record.chore_id for record in read_records(run) if record.attempt == 2}
    assert again == "chore-twice-0002"
    for chore_id in results:  # cleared up behind, the last included
        left = {path.name for path in run.chore_dir(chore_id).iterdir()}
        assert RESULT in left
        assert not left & {"scratch", "stdout", "attempts"}
    assert len([*(tmp_path / "cache").glob("*/*/entry.json")]) >= 5

    # The same again takes its results over; of these one is gone when it is resumed.
    second = end_a_script(tmp_path, STUDY, environment)
    assert second.root != run.root
    assert "chore-twice-0002" in chores_of(second, RecordKind.REUSED)
    second.chore_file("chore-twice-0002", RESULT).unlink()
    resumed = end_a_script(tmp_path, RESUME, environment)
    assert resumed.root == second.root
    assert chores_of(resumed, RecordKind.REVOKED) == ["chore-twice-0002"]
    assert Results.read(resumed)["chore-twice-0002"] == 2
