"""How the end of the allocation is learned, and what it means at each instant."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from matensemble.errors import InvalidOptionError
from matensemble.runtime import walltime
from matensemble.runtime.walltime import (
    END_SECONDS,
    Deadline,
    TimeLeft,
    find_time_left,
    parse_slurm_time,
)

NOW = 1_700_000_000.0


class FixedClock:
    """Wall time is set by hand, and each look at it is counted."""

    def __init__(self) -> None:
        self.looks = 0
        self.wall = NOW

    def monotonic(self) -> float:
        return 50.0

    def time(self) -> float:
        self.looks += 1
        return self.wall


def never(command: Sequence[str]) -> str:
    raise AssertionError(f"{command} was run")


# --- where the time left is known from --------------------------------------------------------


def test_nothing_is_known_on_a_laptop():
    assert find_time_left(None, None, {}, FixedClock(), never) is None


def test_the_least_counts():
    clock = FixedClock()
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": str(int(NOW) + 300)}
    assert find_time_left(600.0, None, {}, clock, never) == TimeLeft(600.0, "walltime")
    assert find_time_left(600.0, 500.0, {}, clock, never) == TimeLeft(500.0, "Flux")
    assert find_time_left(600.0, 500.0, slurm, clock, never) == TimeLeft(300.0, "Slurm")
    assert find_time_left(200.0, 500.0, slurm, clock, never) == TimeLeft(200.0, "walltime")


def test_an_allocation_that_has_ended_has_no_time_left():
    assert find_time_left(None, -3.0, {}, FixedClock(), never) == TimeLeft(0.0, "Flux")


def test_the_wall_clock_is_read_once():
    clock = FixedClock()
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": str(NOW + 300)}
    find_time_left(None, None, slurm, clock, never)
    assert clock.looks == 1


@pytest.mark.parametrize("end", [None, "", "soon", "nan", "inf", "0", str(NOW - 5)])
def test_slurm_is_asked_where_the_environment_says_nothing_that_can_be(end):
    asked: list[list[str]] = []

    def answer(command: Sequence[str]) -> str:
        asked.append(list(command))
        return "1-02:03:04\n"

    environ = {"SLURM_JOB_ID": "4711"}
    if end is not None:
        environ["SLURM_JOB_END_TIME"] = end
    left = find_time_left(None, None, environ, FixedClock(), answer)
    assert left == TimeLeft(93784.0, "Slurm")
    assert asked == [["squeue", "--noheader", "--jobs=4711", "--format=%L"]]


def test_the_part_of_a_job_that_ends_first_counts():
    left = find_time_left(
        None, None, {"SLURM_JOB_ID": "7"}, FixedClock(), lambda _: "9:00\nUNLIMITED\n  5:00 \n"
    )
    assert left == TimeLeft(300.0, "Slurm")


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("squeue"),
        subprocess.TimeoutExpired("squeue", 5),
        subprocess.CalledProcessError(1, "squeue"),
    ],
)
def test_a_slurm_that_does_not_answer_is_logged_and_means_unknown(error, caplog):
    def fail(command: Sequence[str]) -> str:
        raise error

    with caplog.at_level(logging.WARNING, logger="matensemble"):
        assert find_time_left(None, None, {"SLURM_JOB_ID": "7"}, FixedClock(), fail) is None
        left = find_time_left(90.0, None, {"SLURM_JOB_ID": "7"}, FixedClock(), fail)
    assert left == TimeLeft(90.0, "walltime")
    assert "job 7" in caplog.text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:00", 0.0),
        ("0:07", 7.0),
        ("59:59", 3599.0),
        ("1:00:00", 3600.0),
        ("12:34:56", 45296.0),
        ("2-00:00:01", 172801.0),
        (" 5:00\n", 300.0),
        ("UNLIMITED", None),
        ("NOT_SET", None),
        ("N/A", None),
        ("", None),
    ],
)
def test_times_of_slurm(text, seconds, caplog):
    assert parse_slurm_time(text) == seconds
    assert caplog.text == ""


@pytest.mark.parametrize("text", ["INVALID", "-1:00", "1-5", "five", "1:2:3:4"])
def test_what_is_no_time_is_logged_and_means_unknown(text, caplog):
    assert parse_slurm_time(text) is None
    assert repr(text) in caplog.text


@given(st.integers(0, 30), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_times_of_slurm_are_read_as_it_writes_them(days, hours, minutes, seconds):
    text = f"{hours:02}:{minutes:02}:{seconds:02}"
    if days:
        text = f"{days}-{text}"
    assert parse_slurm_time(text) == ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def test_a_real_command_is_run_and_limited(tmp_path: Path, monkeypatch):
    squeue = tmp_path / "squeue"
    squeue.write_text('#!/bin/sh\nread line || echo 3:00; echo "$*" >&2\n')
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert find_time_left(None, None, {"SLURM_JOB_ID": "7"}) == TimeLeft(180.0, "Slurm")
    squeue.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(walltime, "COMMAND_TIMEOUT_SECONDS", 0.1)
    assert find_time_left(None, None, {"SLURM_JOB_ID": "7"}) is None


# --- the arithmetic of the end ----------------------------------------------------------------


def test_the_end_of_an_hour():
    deadline = Deadline.after(3600.0, now=100.0)
    assert deadline == Deadline(ends_at=3700.0, margin=60.0)
    assert deadline.time_for_chores(100.0) == 3540.0
    assert not deadline.is_draining(3639.9)
    assert deadline.is_draining(3640.0)
    assert deadline.time_for_chores(3650.0) == 0.0
    assert not deadline.is_over(3700.0 - END_SECONDS - 0.1)
    assert deadline.is_over(3700.0 - END_SECONDS)


def test_the_margin_of_a_short_allocation_is_a_tenth_of_it():
    deadline = Deadline.after(60.0, now=0.0)
    assert deadline.margin == 6.0
    assert deadline.drains_at == 54.0
    assert deadline.interrupts_at == 57.0


def test_the_margin_can_be_chosen():
    assert Deadline.after(3600.0, now=0.0, margin=300.0).drains_at == 3300.0
    with pytest.raises(InvalidOptionError, match="margin"):
        Deadline.after(3600.0, now=0.0, margin=-1.0)
    with pytest.raises(InvalidOptionError, match="margin"):
        Deadline(10.0, float("nan"))


@given(
    st.floats(0, 1e7),
    st.floats(0, 1e6),
    st.none() | st.floats(0, 1e5),
    st.floats(0, 2),
)
def test_draining_comes_before_the_interrupt_and_that_before_the_end(seconds, now, margin, share):
    deadline = Deadline.after(seconds, now, margin)
    assert deadline.drains_at <= deadline.interrupts_at <= deadline.ends_at
    instant = now + share * seconds
    assert deadline.is_draining(instant) == (deadline.time_for_chores(instant) == 0.0)
    assert deadline.is_draining(instant) or not deadline.is_over(instant)


def test_a_wall_clock_that_is_set_moves_nothing():
    clock = FixedClock()
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": str(NOW + 1000)}
    left = find_time_left(None, None, slurm, clock, never)
    assert left is not None
    deadline = Deadline.after(left.seconds, clock.monotonic())
    clock.wall += 5000.0
    assert deadline.time_for_chores(clock.monotonic()) == pytest.approx(940.0)
