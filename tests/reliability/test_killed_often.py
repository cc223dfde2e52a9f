"""Kill the driver of a run again and again, at random moments, and resume it each time.

What has completed never starts again, and the results are those of a run that nobody disturbed. In
one Flux instance, moreover, no chore runs twice: what runs while there is no driver is adopted.

Sixty chores and three kills are tried; three hundred and twenty with ``MATENSEMBLE_LONG=1``.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from matensemble.chore import ChoreSpec
from matensemble.model import RunState
from matensemble.pipeline import Pipeline
from matensemble.records import RecordKind

sys.path.append(str(Path(__file__).parent))
from whole_run import WholeRun, wait_until, whole_run

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(1800)]

IS_LONG = bool(os.environ.get("MATENSEMBLE_LONG"))
# Without the table that is made at the end:
NUM_CHORES, NUM_KILLS = (300, 20) if IS_LONG else (60, 3)
CHORES_A_UNIT = 6
SEED = int(os.environ.get("MATENSEMBLE_SEED", "20"))
LATEST_SECONDS = 0.25
"""A driver dies so long after the last start that it waited for, at most."""
EARLY_SHARE = 0.2
EARLY_SECONDS = 1.0
"""This share of the kills comes so soon after the start of the driver, at most."""

GRIND = """
echo "start $MATENSEMBLE_CHORE_ID $MATENSEMBLE_ATTEMPT $$" >> "$EXECUTION_LOG"
sleep "$1"
echo "ground $2" > ground.txt
echo "end $MATENSEMBLE_CHORE_ID $MATENSEMBLE_ATTEMPT $$" >> "$EXECUTION_LOG"
"""
"""A program of $1 seconds, whose declared output holds $2."""


def save(folder: Path, num_units: int) -> Path:
    """Save a run of some units of six chores, in layers, and a table of what they found.

    Each chore takes 30 to 150 ms, and tells the file `EXECUTION_LOG` that it starts (with its
    attempt and process) and that it ends, one write a line. Results depend on nothing else.
    """
    pipe = Pipeline(folder)
    script = GRIND

    def tell(what):
        import os

        told = (what, os.environ["MATENSEMBLE_CHORE_ID"], os.environ["MATENSEMBLE_ATTEMPT"])
        log = os.open(os.environ["EXECUTION_LOG"], os.O_WRONLY | os.O_APPEND)
        os.write(log, f"{' '.join(told)} {os.getpid()}\n".encode())
        os.close(log)

    def work(seed):
        import time

        tell("start")
        time.sleep(seconds_of(seed))
        tell("end")

    def seconds_of(seed):
        return (30 + seed * 37 % 121) / 1000

    @pipe.chore
    def sow(unit):
        work(unit)
        return unit * unit

    @pipe.chore
    def mix(own, path):
        work(own)
        return [own, path.read_text().strip()]

    @pipe.chore
    def refine(mixed):
        work(mixed[0] + 3)
        return {"refined": mixed}

    @pipe.strategy(triggers=["mix"])
    def probe(mixed):
        work(mixed[0] + 1)
        refined = ChoreSpec([mixed], {}, "refine")
        command = ["sh", "-c", script, "sh", str(seconds_of(mixed[0] + 2)), str(mixed[0])]
        return [refined, ChoreSpec.exec(command, name="polish", outputs={"text": "ground.txt"})]

    @pipe.chore
    def table(refined):
        work(5)
        return sorted(refined, key=str)

    sown = [sow(unit) for unit in range(num_units)]
    for unit, one in enumerate(sown):
        beside = sown[(unit + 1) % num_units]
        command = ["sh", "-c", script, "sh", str(seconds_of(unit + 4)), beside]
        ground = pipe.exec(command, name="grind", outputs={"text": "ground.txt"})
        mix(one, ground["text"])
    table(pipe.gather("refine"))
    return pipe.save()


@dataclass
class Tally:
    """What was seen while a run was killed often."""

    chores: int = 0
    kills: int = 0
    kills_before_it_drove: int = 0
    """The driver had begun no journal yet."""
    attempts: int = 0
    """That chores told of at their start."""
    attempts_left_behind: int = 0
    """That the journal had for live when a driver died: handed to the executor, or about to be."""
    adopted: int = 0
    """Of these, those that completed: a later driver took them over, running or ended."""
    lost: int = 0
    """Of these, those that were made again as another attempt."""
    committed: int = 0
    """Chores of which the journal told at the last kill that they had completed."""
    run_again: int = 0
    """Chores that started more than once; none of them had completed before."""

    def __str__(self) -> str:
        return ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in vars(self).items())


class OftenKilled:
    """A run whose drivers are killed, and what must hold between two of them."""

    def __init__(self, whole: WholeRun, num_chores: int, seed: int) -> None:
        self.whole = whole
        self.tally = Tally(chores=num_chores)
        self._random = random.Random(seed)
        self.left_behind: set[tuple[str, int]] = set()

    def kill(self, num_more: int) -> None:
        """Drive the run, kill the driver at a random moment, and look what it left.

        Parameters
        ----------
        num_more
            Kills that are to follow.
        """
        whole, tally = self.whole, self.tally
        had_journals = self._num_journals()
        before = whole.executions()
        driver = whole.start("resume")
        left = tally.chores - len({chore_id for chore_id, _ in before})
        # Jobs go on while there is no driver: 20 kills leave time for more than 300 chores, so some
        # come as soon as the driver has begun its journal, or before.
        is_ahead = left * (tally.kills + num_more + 1) < tally.chores * (num_more + 1)
        if is_ahead or self._random.random() < EARLY_SHARE:
            until = time.monotonic() + self._random.uniform(0, EARLY_SECONDS)
            wait_until(lambda: time.monotonic() > until or self._num_journals() > had_journals)
        else:
            wait_until(lambda: driver.is_over or self._num_journals() > had_journals)
            share = self._random.randint(0, int(left / (num_more + 2)))
            wait_until(
                lambda: driver.is_over or whole.executions().total() >= before.total() + share
            )
            time.sleep(self._random.uniform(0, LATEST_SECONDS))
        assert not driver.is_over, f"it ended before it was killed: {driver.said()[-2000:]}"
        driver.kill()
        tally.kills += 1
        tally.kills_before_it_drove += self._num_journals() == had_journals
        standings = whole.replay().standings
        self.left_behind |= {(key, one.attempt) for key, one in standings.items() if one.is_live}
        assert whole.call("status").exit_code == 0

    def completed(self) -> dict[str, int]:
        """Return the attempt by which each chore completed, by the journals."""
        standings = self.whole.replay().standings.items()
        return {key: one.attempt for key, one in standings if one.state.value == "completed"}

    def _num_journals(self) -> int:
        return len(list(self.whole.run.root.glob("journal*.jsonl")))


def kill_often(whole: WholeRun, num_chores: int, num_kills: int, seed: int) -> Tally:
    """Kill the drivers of a run, resume it to its end, and check what is promised of that.

    Returns what was seen; results are the caller's to compare.
    """
    often = OftenKilled(whole, num_chores, seed)
    tally = often.tally
    committed: dict[str, int] = {}
    started: Counter[str] = Counter()
    for number in range(num_kills):
        often.kill(num_kills - number - 1)
        now = often.completed()
        assert committed.items() <= now.items(), "what has completed stays so"
        starts = starts_of(whole)
        assert {key for key in committed if starts[key] != started[key]} == set()
        # What the journal knew before the next driver began must not start from now on.
        committed, started = now, starts
    assert whole.drive("resume", seconds=300) == 0

    tally.committed = len(committed)
    assert committed.items() <= often.completed().items()
    starts = starts_of(whole)
    assert {key for key in committed if starts[key] != started[key]} == set()
    executions = whole.executions()
    assert {key: n for key, n in executions.items() if n > 1} == {}, "an attempt runs once"
    tally.attempts = executions.total()
    tally.run_again = sum(count > 1 for count in starts.values())
    ended = {(one.chore_id, one.attempt) for one in whole.records(RecordKind.COMPLETED)}
    tally.attempts_left_behind = len(often.left_behind)
    tally.adopted = len(often.left_behind & ended)
    tally.lost = len(often.left_behind - ended)
    assert_all_is_over(whole, num_chores)
    return tally


def starts_of(whole: WholeRun) -> Counter[str]:
    """Return how often each chore has started."""
    starts: Counter[str] = Counter()
    for (chore_id, _), times in whole.executions().items():
        starts[chore_id] += times
    return starts


def assert_all_is_over(whole: WholeRun, num_chores: int) -> None:
    """Check that all chores have completed, nothing is left, and the run says so."""
    whole.assert_nothing_is_left()
    status = whole.status()
    assert status.state is RunState.COMPLETED
    assert (status.counts.total, status.counts.completed) == (num_chores, num_chores)
    shown = whole.call("status")
    assert shown.exit_code == 0
    assert "completed" in shown.output
    assert set(starts_of(whole)) == set(whole.results())


def comparable(whole: WholeRun) -> dict[str, Any]:
    """Return the results by chore; of those that strategies added, whose numbers tell only which
    strategy was done first, all of a group in an order of their own."""
    added = {one.chore.id: one.chore.name for one in whole.replay().added}
    results: dict[str, Any] = {}
    for chore_id, value in whole.results().items():
        if chore_id in added:
            results.setdefault(added[chore_id], []).append(value)
        else:
            results[chore_id] = value
    for name in set(added.values()):
        results[name].sort(key=str)
    return results


def try_it(folder: Path, uri: str = "", workers: str = "job") -> tuple[WholeRun, Tally]:
    """Run one pipeline undisturbed and another one often killed, and compare the results."""
    num_units = NUM_CHORES // CHORES_A_UNIT
    saved = save(folder / "undisturbed", num_units)
    with whole_run(saved, uri, workers=workers) as undisturbed:
        assert undisturbed.drive("run", seconds=300) == 0
        expected = comparable(undisturbed)
        assert_all_is_over(undisturbed, NUM_CHORES + 1)
    with whole_run(save(folder / "killed", num_units), uri, workers=workers) as whole:
        began = time.monotonic()
        tally = kill_often(whole, NUM_CHORES + 1, NUM_KILLS, SEED)
        print(f"killed often on {uri or 'this machine'}, {time.monotonic() - began:.0f} s: {tally}")
        assert tally.kills == NUM_KILLS
        assert comparable(whole) == expected
    return whole, tally


def test_on_this_machine(tmp_path: Path) -> None:
    """Chores die with their driver: what had not completed runs again, as another attempt."""
    _, tally = try_it(tmp_path)
    assert tally.run_again > 0, "no driver was killed under a chore"
    assert tally.attempts >= tally.chores + tally.run_again


@pytest.mark.flux
def test_on_flux(start_flux: Callable[..., str], tmp_path: Path) -> None:
    """Jobs outlive their driver, and the next one adopts them: no chore starts twice."""
    whole, tally = try_it(tmp_path, start_flux("--test-size=4"))
    assert tally.run_again == 0
    assert tally.attempts == tally.chores
    assert tally.adopted > 0, "no driver was killed over a job"
    assert Counter(job.chore_id for job in whole.jobs()) == starts_of(whole), "a job each"


@pytest.fixture(params=["local", pytest.param("flux", marks=pytest.mark.flux)])
def uri(request: pytest.FixtureRequest) -> str:
    """Where warm workers run: on this machine, or in a Flux of four nodes."""
    if request.param == "local":
        return ""
    start: Callable[..., str] = request.getfixturevalue("start_flux")
    return start("--test-size=4")


def test_on_warm_workers(tmp_path: Path, uri: str) -> None:
    """Warm workers end with their driver: what had committed its result does not run again."""
    whole, tally = try_it(tmp_path, uri, "pool")
    assert tally.attempts >= tally.chores + tally.run_again
    intents = whole.records(RecordKind.SUBMIT_INTENT)
    assert all("p" in one.fields for one in intents)


def test_the_log_tells_of_what_runs_twice(tmp_path: Path) -> None:
    """The measure itself: an attempt that starts twice is seen."""
    run = tmp_path / "run"
    run.mkdir()
    with whole_run(run) as whole:
        whole.log.write_text("start a 1 10\nend a 1 10\nstart a 1 11\nstart b 2 12\n")
        assert whole.executions() == {("a", 1): 2, ("b", 2): 1}
        assert starts_of(whole) == {"a": 2, "b": 1}
        assert whole.pid_of("b", 2) == 12
