"""Requests to a driver that is at work, in a process of its own, and to the one that resumes it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from matensemble.cli import main
from matensemble.pipeline import Pipeline
from matensemble.records import read_records
from matensemble.status import read_status
from matensemble.workdir import RunDir

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

Start = Callable[..., "subprocess.Popen[str]"]
WaitUntil = Callable[..., Any]

ANSWERED_SECONDS = 5.0
"""Two are promised; the machine of a test may be busy."""


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """What the chores wait for before they end."""
    return tmp_path / "gate"


@pytest.fixture
def saved(tmp_path: Path, gate: Path) -> RunDir:
    """Four chores that wait at the gate, one that fails behind it, and one that depends on that."""
    pipe = Pipeline(tmp_path / "runs")
    where, times = str(gate), str(tmp_path / "times")

    @pipe.chore(duration="10m")
    def wait(number: int) -> int:
        import time
        from pathlib import Path

        while not Path(where).exists():
            time.sleep(0.02)
        return number

    @pipe.chore(nice=1)
    def fail_once() -> int:
        from pathlib import Path

        if Path(times).exists():
            return 1
        Path(times).touch()
        raise ValueError("not yet")

    @pipe.chore
    def double(number: int) -> int:
        return 2 * number

    wait.map(range(4))
    double(fail_once())
    return RunDir(pipe.save())


def call(*arguments: object) -> Result:
    began = time.monotonic()
    answer = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert time.monotonic() - began < ANSWERED_SECONDS
    return answer


def counts(run: RunDir) -> Any:
    return read_status(run.status_path).counts if run.status_path.exists() else None


def test_a_run_is_controlled_while_it_goes_on(
    saved: RunDir, gate: Path, start: Start, wait_until: WaitUntil
) -> None:
    driver = start("-m", "matensemble.cli", "run", str(saved.root), "--no-progress")
    wait_until(lambda: (seen := counts(saved)) is not None and seen.running == 2)
    answer = call("pause", saved.root)
    assert answer.stdout == "paused: nothing more starts; 2 started chores go on\n"
    assert call("pause", saved.root).exit_code == 1
    wait_until(lambda: read_status(saved.status_path).state == "paused")
    held = json.loads(call("explain", saved.root, "chore-wait-0004", "--json").stdout)
    assert held["because"][0].startswith("held: the run is paused, by ")
    assert call("add-time", saved.root, "chore-wait-0001", "5m").exit_code == 0
    assert call("prioritise", saved.root, "fail_once", "--nice", "-9").exit_code == 0
    answer = call("cancel", saved.root, "chore-wait-0003", "chore-wait-0004")
    assert answer.stdout == "cancelled: chore-wait-0003, chore-wait-0004\n"
    gate.touch()
    assert call("unpause", saved.root).exit_code == 0
    assert driver.wait(60) == 1
    seen = counts(saved)
    assert (seen.completed, seen.failed, seen.cancelled) == (2, 2, 2)
    assert list(saved.control_dir.iterdir()) == []
    audited = [r.fields for r in read_records(saved) if r.kind == "control"]
    assert [fields["verb"] for fields in audited] == [
        "pause",
        "pause",
        "add-time",
        "prioritise",
        "cancel",
        "unpause",
    ]
    assert [fields["answer"]["done"] for fields in audited] == [True, False, *[True] * 4]


def test_retry_prepares_and_resume_runs(saved: RunDir, gate: Path) -> None:
    gate.touch()
    runner = CliRunner()
    assert runner.invoke(main, ["run", str(saved.root), "--no-progress"]).exit_code == 1
    answer = call("retry", saved.root, "--failed")
    assert answer.stdout.startswith("1 chore will run again, and 1 skipped because of it: ")
    assert runner.invoke(main, ["resume", str(saved.root), "--no-progress"]).exit_code == 0
    seen = counts(saved)
    assert (seen.completed, seen.total) == (6, 6)
    words = call("explain", saved.root, "fail_once").stdout
    assert "runs again because somebody asked for it (asked for by " in words
