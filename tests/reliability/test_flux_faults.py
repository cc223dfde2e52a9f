"""Whole runs on real Flux whose driver is killed, stopped, replaced or cut off.

What runs goes on, what ended meanwhile is adopted, nothing is submitted twice, and the driver that
was replaced changes nothing any more.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from matensemble.model import RunState
from matensemble.pipeline import Pipeline
from matensemble.records import RecordKind

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "runtime" / "executors")]
from flux_proxy import Proxy
from whole_run import ACTIVE, WholeRun, wait_until, whole_run

pytestmark = [pytest.mark.flux, pytest.mark.slow, pytest.mark.e2e]

StartFlux = Callable[..., str]
FOUR = ("--test-size=4",)

WAIT = """
echo "start $MATENSEMBLE_CHORE_ID $MATENSEMBLE_ATTEMPT $$" >> "$EXECUTION_LOG"
until [ -e "$1" ]; do sleep 0.05; done
echo "end $MATENSEMBLE_CHORE_ID $MATENSEMBLE_ATTEMPT $$" >> "$EXECUTION_LOG"
echo "$2"
"""
"""Tells that it starts, ends once the gate $1 is open, and prints $2."""


class Gates:
    """What the chores wait for before they end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "gates"
        self._folder.mkdir()

    def path(self, number: int) -> Path:
        """Return the gate of a chore."""
        return self._folder / str(number)

    def open(self, *numbers: int) -> None:
        """Let chores end."""
        for number in numbers:
            self.path(number).touch()


def save(folder: Path, gates: Gates, num_chores: int) -> Path:
    """Save a run of programs that wait at their gates, and of a chore behind each."""
    pipe = Pipeline(folder / "runs")

    @pipe.chore
    def double(waited):
        return 2 * int(str(waited))

    for number in range(num_chores):
        command = ["sh", "-c", WAIT, "sh", str(gates.path(number)), str(number)]
        double(pipe.exec(command, name="wait"))
    return pipe.save()


def wait_id(number: int) -> str:
    """Return the id of the program at a gate, from 0; the chore behind it has the next number."""
    return f"chore-wait-{2 * number + 1:04d}"


def ended(whole: WholeRun) -> set[str]:
    """Return the chores that have told of their end."""
    return {line.split()[1] for line in whole.log.read_text().splitlines() if line[:4] == "end "}


def assert_each_ran_once(whole: WholeRun, num_chores: int) -> None:
    """Check that the run completed, each chore by its first attempt, as one job."""
    assert whole.executions() == {(wait_id(number), 1): 1 for number in range(num_chores)}
    assert Counter(job.chore_id for job in whole.jobs()) == dict.fromkeys(whole.results(), 1)
    assert {one.attempt for one in whole.replay().standings.values()} == {1}
    assert_completed(whole, num_chores)


def assert_completed(whole: WholeRun, num_chores: int) -> None:
    """Check that all has come out as it does where nobody interferes, and nothing is left."""
    results = whole.results()
    doubled = [value for key, value in sorted(results.items()) if "double" in key]
    assert doubled == [2 * number for number in range(num_chores)]
    status = whole.status()
    assert (status.state, status.counts.completed) == (RunState.COMPLETED, 2 * num_chores)
    whole.assert_nothing_is_left()


# --- killed ------------------------------------------------------------------------------------


def test_a_driver_that_is_killed(start_flux: StartFlux, tmp_path: Path) -> None:
    """Six cores: nine chores end without a driver, six run, three wait at Flux; none runs twice."""
    num_chores = 18
    gates = Gates(tmp_path)
    with whole_run(save(tmp_path, gates, num_chores), start_flux(*FOUR)) as whole:
        driver = whole.start("run")
        whole.wait_for(RecordKind.SUBMITTED, count=num_chores)
        wait_until(lambda: whole.executions().total() == 6)
        driver.kill()

        gates.open(*range(9))
        wait_until(lambda: len(ended(whole)) == 9 and whole.executions().total() == 15)
        assert len(whole.jobs("RUN")) == 6
        assert len(whole.jobs("SCHED")) == 3
        assert whole.records(RecordKind.COMPLETED) == []

        driver = whole.start("resume")
        whole.wait_for(RecordKind.COMPLETED, wait_id(8))
        assert len(whole.jobs("SCHED")) >= 3, "they wait where they were"
        gates.open(*range(num_chores))
        assert driver.wait() == 0
        assert_each_ran_once(whole, num_chores)
        intents = Counter(one.chore_id for one in whole.records(RecordKind.SUBMIT_INTENT))
        assert set(intents.values()) == {1}, "adopted, not submitted again"
        assert len(intents) == 2 * num_chores


DYING = """
import os, signal, sys
from matensemble.cli import main
from matensemble.records import RecordKind
from matensemble.runtime.executors.flux_executor import FluxExecutor
from matensemble.runtime.journal import FileJournal

moment, number, run = sys.argv[1:]
submit, append = FluxExecutor.submit, FileJournal.append

def submit_or_die(self, request):
    if moment == "after the intent":
        os.kill(os.getpid(), int(number))
    submit(self, request)

def append_or_die(self, record):
    if moment == "before the id" and record.kind is RecordKind.SUBMITTED:
        os.kill(os.getpid(), int(number))
    append(self, record)

FluxExecutor.submit, FileJournal.append = submit_or_die, append_or_die
main(["run", run, "--no-progress"])
"""
"""A driver that sends itself a signal, either before the first of its orders reaches Flux, or once
Flux has answered and the journal does not tell of it yet."""


@pytest.mark.parametrize(
    ("moment", "attempt"), [("after the intent", 2), ("before the id", 1)], ids=lambda v: str(v)
)
def test_a_driver_that_is_killed_between_intent_and_job_id(
    start_flux: StartFlux, tmp_path: Path, moment: str, attempt: int
) -> None:
    """What Flux never received is made again, what it has is found by its label."""
    num_chores = 3
    gates = Gates(tmp_path)
    gates.open(*range(num_chores))
    with whole_run(save(tmp_path, gates, num_chores), start_flux(*FOUR)) as whole:
        killed = whole.launch(
            sys.executable, "-c", DYING, moment, str(int(signal.SIGKILL)), str(whole.run.root)
        )
        assert killed.wait() == -signal.SIGKILL
        intents = {one.chore_id for one in whole.records(RecordKind.SUBMIT_INTENT)}
        assert intents == {wait_id(number) for number in range(num_chores)}
        assert whole.records(RecordKind.SUBMITTED) == []
        if attempt == 2:
            assert whole.jobs() == []
        else:
            wait_until(lambda: len(whole.jobs("INACTIVE")) == num_chores)
        assert whole.drive("resume") == 0
        attempts = {(wait_id(number), attempt): 1 for number in range(num_chores)}
        assert whole.executions() == attempts
        assert Counter(job.chore_id for job in whole.jobs()) == dict.fromkeys(whole.results(), 1)
        assert_completed(whole, num_chores)


# --- stopped, replaced, and continued ----------------------------------------------------------


def test_a_driver_that_was_frozen_leaves(start_flux: StartFlux, tmp_path: Path) -> None:
    """It ends no job of the driver that replaced it, and nothing it still writes is read."""
    num_chores = 12
    gates = Gates(tmp_path)
    with whole_run(save(tmp_path, gates, num_chores), start_flux(*FOUR)) as whole:
        frozen = whole.start("run")
        whole.wait_for(RecordKind.SUBMITTED, count=num_chores)
        frozen.send(signal.SIGSTOP)
        current = whole.start("resume", "--takeover")
        (started,) = wait_until(
            lambda: [one for one in whole.records(RecordKind.RUN_STARTED) if one.epoch == 2]
        )
        gates.open(0, 1)
        wait_until(lambda: len(ended(whole)) == 2)
        accepted = [one for one in whole.records() if one.epoch == 1]
        frozen.send(signal.SIGCONT)
        assert frozen.wait() == 70
        assert "taken the run over" in frozen.said()
        assert not current.is_over
        assert len(whole.jobs(*ACTIVE)) >= num_chores - 2, "what runs and waits goes on"
        assert [one for one in whole.records() if one.epoch == 1] == accepted
        old = whole.run.journal_of(1)
        assert old.stat().st_size >= started.fields["previous"]["length"]
        status = whole.status()
        assert (status.epoch, status.pid) == (2, current.pid)

        gates.open(*range(num_chores))
        assert current.wait() == 0
        assert_each_ran_once(whole, num_chores)
        assert whole.status().epoch == 2


def test_an_order_that_comes_after_the_takeover(start_flux: StartFlux, tmp_path: Path) -> None:
    """Frozen between intent and order, a driver still submits: that job ends, its successor's
    attempts complete."""
    num_chores = 3
    gates = Gates(tmp_path)
    with whole_run(save(tmp_path, gates, num_chores), start_flux(*FOUR)) as whole:
        frozen = whole.launch(
            sys.executable,
            "-c",
            DYING,
            "after the intent",
            str(int(signal.SIGSTOP)),
            str(whole.run.root),
        )
        whole.wait_for(RecordKind.SUBMIT_INTENT, count=num_chores)
        wait_until(lambda: _is_stopped(frozen.pid))
        current = whole.start("resume", "--takeover")
        for number in range(num_chores):
            whole.pid_of(wait_id(number), 2)

        def go_on() -> bool:
            """Continue it: it stops once more at each of its orders."""
            if _is_stopped(frozen.pid):
                frozen.send(signal.SIGCONT)
            return frozen.is_over

        wait_until(go_on)
        assert frozen.wait() == 70
        wait_until(lambda: len(whole.jobs(*ACTIVE)) == num_chores)
        gates.open(*range(num_chores))
        assert current.wait() == 0
        second = {key: times for key, times in whole.executions().items() if key[1] == 2}
        assert second == {(wait_id(number), 2): 1 for number in range(num_chores)}
        assert {(chore_id, 2) for chore_id, _ in second} <= {
            (one.chore_id, one.attempt) for one in whole.records(RecordKind.COMPLETED)
        }
        assert_completed(whole, num_chores)


def _is_stopped(pid: int) -> bool:
    """Return whether a process is stopped by a signal."""
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] == "T"


# --- cut off -----------------------------------------------------------------------------------


def test_a_connection_that_breaks_fails_no_chore(
    start_flux: StartFlux, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Before, while and after chores end; once with nobody to connect to for a while."""
    num_chores = 12
    gates = Gates(tmp_path)
    proxy = Proxy(start_flux(*FOUR), tmp_path_factory.mktemp("p") / "s")
    try:
        with whole_run(save(tmp_path, gates, num_chores), proxy.uri) as whole:
            driver = whole.start("run")
            whole.wait_for(RecordKind.STARTED, count=6)
            proxy.cut()
            gates.open(*range(3))
            whole.wait_for(RecordKind.COMPLETED, count=3)
            proxy.refuses.set()
            proxy.cut()
            gates.open(*range(9))
            wait_until(lambda: len(ended(whole)) == 9)
            assert not driver.is_over
            proxy.refuses.clear()
            whole.wait_for(RecordKind.COMPLETED, wait_id(8))
            gates.open(*range(num_chores))
            proxy.cut()
            assert driver.wait() == 0
            assert_each_ran_once(whole, num_chores)
            assert whole.status().epoch == 1
    finally:
        proxy.close()
