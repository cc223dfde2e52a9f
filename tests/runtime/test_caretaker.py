"""What is done behind a chore, on a thread that may lag."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from matensemble.chore import Chore
from matensemble.model import ChoreState, ChoreType
from matensemble.runtime import caretaker
from matensemble.runtime.caretaker import Caretaker
from matensemble.runtime.scheduler.entry import Entry, Group
from matensemble.runtime.scheduler.resources import Shape
from matensemble.runtime.watchdog import Watchdog
from matensemble.workdir import RunDir

FILES = {"chore.pickle", "result.pickle", "stdout", "stderr"}


@pytest.fixture
def run(tmp_path):
    run = RunDir(tmp_path)
    for chore_id in ("a", "b"):
        run.chore_dir(chore_id).mkdir(parents=True)
        for name in FILES:
            run.chore_file(chore_id, name).touch()
    return run


def ended(chore_id: str) -> Entry:
    chore = Chore(chore_id, chore_id, ChoreType.PYTHON, callable="f")
    entry = Entry(chore, Group(), Shape.of(chore.resources), 0)
    entry.attempt, entry.state = 1, ChoreState.FAILED
    return entry


def left(run: RunDir, chore_id: str) -> set[str]:
    return {path.name for path in run.chore_dir(chore_id).iterdir()}


@pytest.mark.parametrize(
    ("attempt", "state"), [(1, ChoreState.READY), (2, ChoreState.RUNNING), (2, ChoreState.FAILED)]
)
def test_files_of_a_chore_that_runs_again_are_left_alone(run, monkeypatch, attempt, state):
    is_slow, may_go_on = threading.Event(), threading.Event()

    def wait(*_):
        is_slow.set()
        assert may_go_on.wait(10)

    monkeypatch.setattr(caretaker, "find_large_output", wait)
    watchdog = Watchdog(run, time, lambda event: None)
    keeper = Caretaker(run, watchdog, keep="results", logger=logging.getLogger())
    keeper.ended(ended("a"))
    assert is_slow.wait(10)
    entry = ended("b")
    keeper.ended(entry)
    entry.attempt, entry.state = attempt, state  # retried, while "a" is being cleared up
    may_go_on.set()
    keeper.close()
    assert left(run, "a") == {"stdout", "stderr"}
    assert left(run, "b") == FILES


class SlowCache:
    """Copies the files of a chore when it is told to."""

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self.is_stored = threading.Event()
        self.copied: set[str] = set()

    def store(self, chore: Chore, attempt: int, exit_code: int) -> threading.Event:
        return self.is_stored

    def copy(self) -> None:
        self.copied = left(self.run, "a")
        self.is_stored.set()


def test_files_are_left_until_the_cache_has_copied_them(run):
    cache = SlowCache(run)
    watchdog = Watchdog(run, time, lambda event: None)
    keeper = Caretaker(run, watchdog, keep="results", logger=logging.getLogger(), cache=cache)
    entry = ended("a")
    entry.state = ChoreState.COMPLETED
    keeper.ended(entry)
    copier = threading.Timer(0.2, cache.copy)  # time for who would not wait
    copier.start()
    keeper.close()
    copier.join()
    assert cache.copied == FILES
    assert "stdout" not in left(run, "a")


def test_nobody_looks_behind_a_chore_that_was_never_seen_to_run(run, monkeypatch):
    looked = []
    monkeypatch.setattr(caretaker, "find_large_output", lambda _, chore_id: looked.append(chore_id))
    watchdog = Watchdog(run, time, lambda event: None)
    keeper = Caretaker(run, watchdog, keep="all", logger=logging.getLogger())
    brief, long = ended("a"), ended("b")
    keeper.started(long.chore, 1)
    keeper.ended(brief)
    keeper.ended(long)
    keeper.close()
    assert looked == ["b"]
    assert left(run, "a") == FILES
