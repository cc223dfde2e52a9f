"""Silence and floods, seen by looking at files, timed by a clock that only the test moves."""

from __future__ import annotations

import os
import time

import pytest

from matensemble.chore import Chore
from matensemble.model import ChoreType, Reason
from matensemble.policy import ChorePolicy
from matensemble.runtime import watchdog
from matensemble.runtime.testing import ManualClock
from matensemble.runtime.watchdog import Watchdog, find_large_output
from matensemble.workdir import RunDir


class Scene:
    def __init__(self, root):
        self.run = RunDir(root)
        self.clock = ManualClock()
        self.posted = []
        self.watchdog = Watchdog(self.run, self.clock, self.posted.append)

    def start(self, chore_id="c", attempt=1, stdout="", **policy):
        directory = self.run.chore_dir(chore_id)
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("stdout", "stderr"):
            (directory / name).write_text(stdout if name == "stdout" else "")
        chore = Chore(
            chore_id, "c", ChoreType.EXECUTABLE, command=("c",), policy=ChorePolicy(**policy)
        )
        self.watchdog.started(chore, attempt)

    def write(self, text, name="stdout", chore_id="c"):
        with self.run.chore_file(chore_id, name).open("a") as file:
            file.write(text)

    def pass_time(self, seconds):
        """Let time pass in steps of a second, and look after each."""
        for _ in range(seconds):
            self.clock.advance(1.0)
            self.watchdog.check(self.clock.monotonic())


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


def test_silence_is_ended_once_and_counts_from_the_start(scene):
    scene.start(idle_timeout=10)
    scene.pass_time(10)
    assert scene.posted == []
    scene.pass_time(20)
    (exceeded,) = scene.posted
    assert exceeded[:3] == ("c", 1, Reason.IDLE_TIMEOUT)
    assert exceeded.detail == "nothing on stdout or stderr for 11 s (idle_timeout=10 s)"


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_every_sign_of_life_starts_the_count_again(scene, name):
    scene.start(idle_timeout=10)
    for _ in range(5):
        scene.pass_time(8)
        scene.write(".", name)
    scene.pass_time(10)
    assert scene.posted == []
    scene.pass_time(2)
    assert [exceeded.reason for exceeded in scene.posted] == [Reason.IDLE_TIMEOUT]


def test_a_file_whose_time_alone_changes_is_a_sign_of_life(scene):
    scene.start(idle_timeout=10, stdout="x")
    scene.pass_time(9)
    os.utime(scene.run.chore_file("c", "stdout"), (1, 1))
    scene.pass_time(10)
    assert scene.posted == []


def test_a_clock_that_steps_changes_nothing(scene, monkeypatch):
    scene.start(idle_timeout=10)
    monkeypatch.setattr(time, "time", lambda: 1e12)
    os.utime(scene.run.chore_file("c", "stdout"), (1e10, 1e10))  # of a host whose clock is ahead
    scene.pass_time(10)
    assert scene.posted == []
    scene.pass_time(1)
    assert len(scene.posted) == 1


def test_of_an_attempt_that_is_met_again_silence_counts_from_now(scene):
    scene.start(idle_timeout=10, stdout="of an earlier driver")
    scene.pass_time(11)
    assert scene.posted == []
    scene.pass_time(1)
    assert len(scene.posted) == 1


def test_a_flood_is_ended_once_whatever_stream_it_takes(scene):
    scene.start(max_output="10kB", idle_timeout=1000)
    scene.write("x" * 6000)
    scene.write("x" * 4000, "stderr")
    scene.pass_time(2)
    assert scene.posted == []
    scene.write("x")
    scene.pass_time(3)
    (exceeded,) = scene.posted
    assert exceeded[:3] == ("c", 1, Reason.OUTPUT_EXCEEDED)
    assert exceeded.detail == (
        "stdout and stderr hold 10.0 kB, more than its max_output of 10.0 kB"
    )


def test_what_has_no_limit_is_never_looked_at(scene, monkeypatch):
    scene.start()
    monkeypatch.setattr(os, "lstat", lambda path: pytest.fail(f"looked at {path}"))
    scene.pass_time(5)
    assert scene.posted == []


def test_what_has_ended_is_not_watched(scene):
    scene.start(idle_timeout=5)
    scene.watchdog.ended("c", 1)
    scene.watchdog.ended("c", 1)
    scene.watchdog.ended("unknown", 1)
    scene.pass_time(10)
    assert scene.posted == []


def test_the_end_of_an_earlier_attempt_does_not_end_the_watch(scene):
    scene.start(idle_timeout=5)
    scene.start(attempt=2, idle_timeout=5)
    scene.watchdog.ended("c", 1)
    scene.pass_time(6)
    assert [(e.chore_id, e.attempt) for e in scene.posted] == [("c", 2)]


def test_there_is_at_most_one_pass_a_second(scene, monkeypatch):
    scene.start(idle_timeout=100)
    looks = []
    look = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: looks.append(path) or look(path))
    for _ in range(20):
        scene.clock.advance(0.25)
        scene.watchdog.check(scene.clock.monotonic())
    assert len(looks) == 2 * 5


def test_a_slow_disk_slows_the_watch_only_and_nobody_is_left_out(scene, monkeypatch):
    for number in range(10):
        scene.start(f"c{number}", idle_timeout=100)
    looks = []
    look = os.lstat

    def slow(path):
        scene.clock.advance(watchdog.MAX_PASS_SECONDS / 4)
        looks.append(path.parent.name)
        return look(path)

    monkeypatch.setattr(os, "lstat", slow)
    scene.pass_time(1)
    assert len(set(looks)) == 3
    scene.pass_time(3)
    assert len(set(looks)) == 10


def test_a_disk_that_does_not_answer_ends_nothing(scene, monkeypatch):
    scene.start(idle_timeout=5, max_output=10)
    scene.write("x" * 100)

    def fail(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "lstat", fail)
    scene.pass_time(20)
    assert scene.posted == []


def test_silence_is_confirmed_by_opening_the_file(scene, monkeypatch):
    scene.start(idle_timeout=5)
    path = scene.run.chore_file("c", "stdout")
    old = {name: os.lstat(scene.run.chore_file("c", name)) for name in ("stdout", "stderr")}
    scene.pass_time(5)
    path.write_text("written on another node")
    monkeypatch.setattr(os, "lstat", lambda path: old[path.name])  # as a client that remembers
    scene.pass_time(1)
    assert scene.posted == []
    monkeypatch.undo()  # having asked, it knows
    scene.pass_time(5)
    assert scene.posted == []
    scene.pass_time(1)
    assert len(scene.posted) == 1


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), None])
def test_whatever_a_chore_puts_in_place_of_its_files_the_watch_goes_on(scene, make):
    scene.start(idle_timeout=5, max_output="1MB")
    path = scene.run.chore_file("c", "stdout")
    path.unlink()
    if make is not None:
        make(path)
    scene.pass_time(12)
    assert [exceeded.reason for exceeded in scene.posted] == [Reason.IDLE_TIMEOUT]


def test_a_large_stdout_is_worth_a_warning(scene):
    scene.start()
    path = scene.run.chore_file("c", "stdout")
    os.truncate(path, watchdog.LARGE_OUTPUT_BYTES)
    assert find_large_output(scene.run, "c") is None
    os.truncate(path, watchdog.LARGE_OUTPUT_BYTES + 1)
    assert find_large_output(scene.run, "c").startswith(f"{path} holds 1.1 GB")
    path.unlink()
    assert find_large_output(scene.run, "c") is None
