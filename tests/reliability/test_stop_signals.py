"""Ask a driver to stop at random moments, once and twice, while it runs and while it resumes.

It leaves within five seconds, says that it was interrupted, and the run comes to the results of an
undisturbed one when it is resumed. The moments are random, and the same each time.
"""

from __future__ import annotations

import random
import signal
import sys
import time

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.e2e,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(sys.platform != "linux", reason="looks for what is left in /proc"),
]

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LONGEST_EXIT_SECONDS = 5.0
LATEST_SECONDS = 1.0
"""After the start of the chores; the run itself takes about as long."""


def moments(seed, is_long):
    """Yield cases: a signal, another or none, and the seconds before the first and the second."""
    draw = random.Random(seed)
    for number in range(120 if is_long else 6):
        first = SIGNALS[number % len(SIGNALS)]
        second = draw.choice(SIGNALS) if number % 2 else None
        yield first, second, draw.uniform(0, LATEST_SECONDS), draw.choice((0.0, 0.05, 0.3))


def is_driving(trial, epoch):
    """Whether the driver of an epoch has begun to run chores, and listens to signals."""
    try:
        return trial.status().epoch == epoch
    except FileNotFoundError:
        return False


def wait_for(condition, process, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)  # files of others have no event to wait for


def stop(trial, command, epoch, case):
    """Let a driver begin, ask it to stop, and return how it ended."""
    first, second, before, between = case
    process = trial.start(command)
    wait_for(lambda: is_driving(trial, epoch), process)
    time.sleep(before)  # a moment of its own choice is what is tried here
    process.send_signal(first)
    asked_at = time.monotonic()
    if second is not None:
        time.sleep(between)
        process.send_signal(second)
    ended = trial.wait(process)
    took = time.monotonic() - asked_at
    assert took < LONGEST_EXIT_SECONDS, f"took {took:.1f} s to leave: {ended}"
    assert "Traceback" not in ended.err, ended
    return ended


def judge(trial, ended, case, expected):
    """Check how a driver left that was asked to stop, and resume the run."""
    first, second, *_ = case
    state = trial.status().state.value
    if ended.exit_code == 0:
        trial.assert_finished(expected)
        return "had ended"
    assert ended.exit_code in (130, -first, -(second or first)), ended
    if (first, second) != (signal.SIGINT, signal.SIGINT):  # which leaves without a last word
        # Completed: it was over, and the signal met the interpreter on its way out.
        assert state in ("interrupted", "completed")
    if state == "completed":
        assert trial.results() == expected
    trial.resume_to_the_end(expected)
    return "interrupted"


def test_a_run_stops_when_it_is_asked(patient, try_all, is_long):
    def one(name, case):
        trial = patient.trial(name)
        return judge(trial, stop(trial, "run", 1, case), case, patient.results)

    outcomes = try_all("signals", moments(1, is_long), one)
    assert outcomes["interrupted"]


def test_a_resumed_run_stops_when_it_is_asked(patient, crashed, try_all, is_long):
    def one(name, case):
        trial = patient.trial(name, crashed)
        return judge(trial, stop(trial, "resume", 2, case), case, patient.results)

    cases = [
        (first, second, 0.3 * before, gap) for first, second, before, gap in moments(2, is_long)
    ]
    outcomes = try_all("signals while resuming", cases, one)
    assert outcomes["interrupted"]


def test_a_driver_that_is_asked_before_it_began_can_be_started_again(patient, try_all, is_long):
    """Handlers come with the run; before that, a signal does what it does to any program."""
    draw = random.Random(3)

    def one(name, case):
        number, before = case
        trial = patient.trial(name)
        process = trial.start("run")
        time.sleep(before)  # a moment of its own choice is what is tried here
        process.send_signal(number)
        ended = trial.wait(process)
        assert ended.exit_code in (0, 1, 130, -number), ended
        trial.resume_to_the_end(patient.results)
        return "stopped"

    cases = [
        (SIGNALS[number % len(SIGNALS)], draw.uniform(0.0, 0.6))
        for number in range(60 if is_long else 3)
    ]
    try_all("signals at the start", cases, one)
