"""Whole runs whose Flux instance ends under the driver, and go on in another one.

The driver is the initial program of the instance, as in a batch job without a supervisor: the end
of either ends the other.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from matensemble.model import RunState
from matensemble.pipeline import Pipeline
from matensemble.records import RecordKind

sys.path.append(str(Path(__file__).parent))
from whole_run import Driver, WholeRun, whole_run

pytestmark = [pytest.mark.flux, pytest.mark.slow, pytest.mark.e2e]

WAIT = """
echo "start $MATENSEMBLE_CHORE_ID $MATENSEMBLE_ATTEMPT $$" >> "$EXECUTION_LOG"
until [ -e "$1" ]; do sleep 0.05; done
"""
DRAINS_SOON = """
left=$(flux job timeleft)
exec "$@" --margin "$((left - 8))s" --drain-signal TERM
"""
"""Runs a command that drains eight seconds from now, however long the instance took to start."""
INSIDE = {"MATENSEMBLE_EXECUTOR": "flux"}


class Study:
    """A run of two chores that end at once, two that wait at a gate, and one that takes long."""

    def __init__(self, folder: Path) -> None:
        self.gate = folder / "gate"
        pipe = Pipeline(folder / "runs")
        at_once = folder / "at-once"
        at_once.touch()

        def wait(gate: Path, name: str, **options: float) -> str:
            command = ["sh", "-c", WAIT, "sh", str(gate)]
            return pipe.exec(command, name=name, **options).chore_id

        self.quick = [wait(at_once, "quick") for _ in range(2)]
        self.slow = [wait(self.gate, "slow") for _ in range(2)]
        self.long = wait(at_once, "long", duration=3600.0)
        self.path = pipe.save()

    def start(self, whole: WholeRun, command: str, *options: str) -> Driver:
        """Start an instance whose initial program drives the run."""
        return whole.launch("flux", "start", *self._program(whole, command), *options)

    def start_limited(self, whole: WholeRun) -> Driver:
        """Start an instance of limited time in another one; its initial program drives the run."""
        within = ["flux", "start", "flux", "run", "-c2", "--time-limit=3000s", "flux", "start"]
        return whole.launch(*within, "sh", "-c", DRAINS_SOON, "sh", *self._program(whole, "run"))

    def _program(self, whole: WholeRun, command: str) -> list[str]:
        return [
            sys.executable, "-m", "matensemble.cli", command, str(whole.run.root), "--no-progress"
        ]  # fmt: skip

    def wait_for_slow(self, whole: WholeRun, attempt: int = 1) -> None:
        """Wait until what waits at the gate runs, and the driver knows that all else is over."""
        for chore_id in self.slow:
            whole.pid_of(chore_id, attempt)
        for chore_id in self.quick:
            whole.wait_for(RecordKind.COMPLETED, chore_id)

    def finish(self, whole: WholeRun) -> None:
        """Go on in another instance, and check that only what was interrupted runs again."""
        assert whole.status().state is RunState.INTERRUPTED
        (chore_id, *_) = self.slow
        assert whole.records(RecordKind.REQUEUED, chore_id=chore_id)[-1].fields.get("b") is None
        self.gate.touch()
        driver = self.start(whole, "resume")
        assert driver.wait() == 0, driver.said()
        first = {(one, 1): 1 for one in (*self.quick, *self.slow, self.long)}
        assert whole.executions() == first | {(one, 2): 1 for one in self.slow}
        standings = whole.replay().standings
        assert {standings[one].attempt for one in self.slow} == {2}
        assert not any(one.losses or one.retries for one in standings.values())
        status = whole.status()
        assert (status.state, status.counts.completed, status.epoch) == (RunState.COMPLETED, 5, 2)
        whole.assert_nothing_is_left()


def test_an_instance_that_is_told_to_end(flux_library: None, tmp_path: Path) -> None:
    """The broker is sent SIGTERM and sends its initial program SIGHUP."""
    study = Study(tmp_path)
    with whole_run(study.path, environ=INSIDE) as whole:
        instance = study.start(whole, "run", "--walltime", "1000s")
        study.wait_for_slow(whole)
        instance.send(signal.SIGTERM)
        assert instance.wait() != 0
        assert "SIGHUP" in whole.status().detail
        study.finish(whole)


def test_an_instance_whose_time_is_over(flux_library: None, tmp_path: Path) -> None:
    """What has no time left is not started, what runs is told by a signal; the exit code is 75."""
    study = Study(tmp_path)
    with whole_run(study.path, environ=INSIDE) as whole:
        instance = study.start_limited(whole)
        study.wait_for_slow(whole)
        assert instance.wait() == 75, instance.said()
        assert whole.records(chore_id=study.long) == []
        states = [one.fields["state"] for one in whole.records(RecordKind.RUN_STATE)]
        assert states == [RunState.DRAINING, RunState.INTERRUPTED]
        assert "in the next allocation: matensemble resume" in instance.said()
        study.finish(whole)
