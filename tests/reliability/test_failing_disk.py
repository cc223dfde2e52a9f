"""Let the N-th operation of the driver that changes the disk fail, once or from then on.

Nothing hangs, nothing completes that did not, no chore fails for what was the disk's, and the run
can be resumed. A sample is tried; with ``MATENSEMBLE_LONG=1`` every N until a run comes through
without reaching it.

An EINTR that a signal causes is retried by Python itself, for the calls that it covers. It does not
cover `rename`, `link`, `mkdir` and `unlink`, which fail with it on file systems in user space and
on interruptible NFS mounts. So it is tried here as any other trouble of the disk, but not for good:
no file system answers so for ever, and Python's own files would ask it for ever.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.e2e,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(sys.platform != "linux", reason="looks for what is left in /proc"),
]

ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.ESTALE,
    errno.EINTR,
    errno.EACCES,
    errno.EROFS,
)
LASTING = tuple(error for error in ERRORS if error != errno.EINTR)
EXIT_CODES = {0, 2, 70, 130}
LONGEST_EXIT_SECONDS = 8.0
"""From the request to stop: 5 s as promised, and what a busy machine needs."""
NUM_BEFORE_A_RUN = 12
NUM_AFTER_A_RUN = 9
"""About how many operations are not on chores and not on their records."""
FOR_GOOD = 1e9
OUTAGE_SECONDS = 1.2
"""Of a disk that recovers: the driver tries it twice in vain, and then again."""
STEADY_SECONDS = 0.7
"""A disk that is broken for so long has been tried again at least once."""


def assert_readable(ended):
    """Whatever happened, people are told in words."""
    assert ended.exit_code in EXIT_CODES, ended
    assert "Traceback" not in ended.err, ended
    if ended.exit_code:
        assert ended.err.strip(), "it ended without a word"


def assert_nothing_false(trial, expected):
    """What the journal calls completed has the right result."""
    completed = trial.completed()
    if completed:
        results = trial.results()
        assert {c: results[c] for c in completed} == {c: expected[c] for c in completed}


def finish(trial, expected, ended):
    """Check what a driver left whose disk failed, and resume it where it did not come through."""
    assert_readable(ended)
    assert_nothing_false(trial, expected)
    if ended.exit_code == 0:
        trial.assert_finished(expected)
        outcome = "came through"
    else:
        trial.resume_to_the_end(expected)
        outcome = "resumed"
    assert not trial.failed_for_the_disk()
    return outcome


def count_operations(ensemble, command="run", source=None):
    """Return how many operations an undisturbed driver does, roughly."""
    points = ensemble.find_points("driver", command, source)
    return sum(count for point, count in points.items() if point.endswith(":before"))


def test_one_failure_is_survived_wherever_it_happens(strict, try_all, is_long):
    total = count_operations(strict)
    numbers = range(1, total + 1) if is_long else range(1, total + 1, 13)

    def one(name, case):
        number, error = case
        trial = strict.trial(name)
        plan = {"mode": "fail", "kind": "driver", "at": number, "seconds": 0, "errno": error}
        ended = trial.drive("run", plan)
        if not trial.was_hit:
            assert ended.exit_code == 0, ended
            return "not reached"
        return finish(trial, strict.results, ended)

    cases = [(n, ERRORS[i % len(ERRORS)]) for i, n in enumerate(numbers)]
    if is_long:
        cases += [(n, ERRORS[(i + 3) % len(ERRORS)]) for i, n in enumerate(numbers)]
    outcomes = try_all("one failure", cases, one)
    assert outcomes["came through"] > outcomes["resumed"]


def test_one_failure_is_survived_while_a_run_is_resumed(strict, strictly_crashed, try_all, is_long):
    total = count_operations(strict, "resume", strictly_crashed)
    numbers = range(1, total + 1) if is_long else range(1, 32, 4)  # the takeover comes first

    def one(name, case):
        number, error = case
        trial = strict.trial(name, strictly_crashed)
        completed = trial.completed()
        plan = {"mode": "fail", "kind": "driver", "at": number, "seconds": 0, "errno": error}
        ended = trial.drive("resume", plan)
        if not trial.was_hit:
            assert ended.exit_code == 0, ended
            return "not reached"
        assert completed <= trial.completed()
        return finish(trial, strict.results, ended)

    cases = [(n, ERRORS[i % len(ERRORS)]) for i, n in enumerate(numbers)]
    try_all("one failure of resume", cases, one)


def test_each_error_is_survived_at_each_kind_of_operation(strict, try_all, is_long):
    points = strict.find_points("driver", "run")
    kinds = sorted(point.removesuffix(":before") for point in points if point.endswith(":before"))
    cases = [(kind, error) for kind in kinds for error in ERRORS]
    if not is_long:
        cases = cases[:: len(ERRORS) * 4 + 1]

    def one(name, case):
        point, error = case
        trial = strict.trial(name)
        plan = {"mode": "fail", "kind": "driver", "point": point, "occurrence": 1, "errno": error}
        ended = trial.drive("run", plan)
        if not trial.was_hit:  # which records are written together differs from run to run
            assert ended.exit_code == 0, ended
            return "not come to"
        return finish(trial, strict.results, ended)

    try_all("each error", cases, one)


def test_a_disk_that_stays_broken_hangs_nothing(strict, try_all, is_long):
    total = count_operations(strict)
    numbers = range(1, total + 1) if is_long else range(2, total + 1, 25)

    def one(name, case):
        number, error = case
        trial = strict.trial(name)
        plan = {"mode": "fail", "kind": "driver", "at": number, "seconds": FOR_GOOD, "errno": error}
        process = trial.start("run", plan)
        wait_for(lambda: trial.was_hit or process.poll() is not None)
        try:
            process.wait(STEADY_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            ended = trial.wait(process, LONGEST_EXIT_SECONDS)
            assert ended.exit_code != 0, ended
        else:
            ended = trial.wait(process)
        if not trial.was_hit:
            assert ended.exit_code == 0, ended
            return "not reached"
        return finish(trial, strict.results, ended)

    cases = [(n, LASTING[i % len(LASTING)]) for i, n in enumerate(numbers)]
    try_all("broken for good", cases, one)


def test_a_worker_whose_disk_fails_is_not_to_blame(strict, try_all, is_long):
    points = strict.find_points("worker", "run")
    kinds = sorted(
        point.removesuffix(":before")
        for point in points
        if point.endswith(":before") and "stdout" not in point
    )
    errors = ERRORS if is_long else (errno.ENOSPC,)
    cases = [(kind, error) for kind in kinds for error in errors]

    def one(name, case):
        point, error = case
        trial = strict.trial(name)
        plan = {"mode": "fail", "kind": "worker", "point": point, "occurrence": 1, "errno": error}
        ended = trial.drive("run", plan)
        assert trial.was_hit
        assert ended.exit_code == 0, ended
        return finish(trial, strict.results, ended)

    try_all("workers", cases, one)


def test_a_run_goes_on_when_the_disk_does(strict, try_all, is_long):
    total = count_operations(strict)
    # Behind the first are the claim and the beginning of the journal, without which nothing begins;
    # behind the last are the status and giving the run back.
    sample = (NUM_BEFORE_A_RUN + 1, total // 2, total - NUM_AFTER_A_RUN)
    numbers = range(NUM_BEFORE_A_RUN + 1, total + 1) if is_long else sample

    def one(name, case):
        number, error = case
        trial = strict.trial(name)
        plan = {"mode": "fail", "kind": "driver", "at": number, "errno": error}
        ended = trial.drive("run", {**plan, "seconds": OUTAGE_SECONDS})
        if not trial.was_hit:
            assert ended.exit_code == 0, ended
            return "not reached"
        return finish(trial, strict.results, ended)

    cases = [(n, LASTING[i % len(LASTING)]) for i, n in enumerate(numbers)]
    outcomes = try_all("outage", cases, one)
    assert outcomes["came through"] > outcomes["resumed"]


def test_a_run_that_cannot_begin_says_so_and_can_begin_later(strict, try_all, is_long):
    def one(name, case):
        (error,) = case
        trial = strict.trial(name)
        plan = {"mode": "fail", "kind": "driver", "at": 1, "errno": error}
        ended = trial.drive("run", {**plan, "seconds": FOR_GOOD})
        assert ended.exit_code == 2, ended
        assert "Traceback" not in ended.err
        assert os.strerror(error) in ended.err
        ended = trial.drive("run")
        assert ended.exit_code == 0, ended
        trial.assert_finished(strict.results)
        return "began later"

    try_all("no beginning", [(error,) for error in (LASTING if is_long else LASTING[::3])], one)


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)  # files and processes of others have no event to wait for
