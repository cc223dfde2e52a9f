"""Kill the driver, or a worker, at every step that changes the disk; then resume.

Nothing that was committed runs again, what has completed stays so, and the results are those of an
undisturbed run. A sample of the points is tried; all of them with ``MATENSEMBLE_LONG=1``.
"""

from __future__ import annotations

import signal
import sys

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.e2e,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(sys.platform != "linux", reason="looks for what is left in /proc"),
]

DRIVER_SAMPLE = (
    ("link:owner.json:after", 1),
    ("write:journal.draft:half", 1),
    ("rename:journal.jsonl:before", 1),
    ("replace:status.json:before", 1),
    ("write:journal.jsonl[intent]:half", 1),
    ("replace:out/*/chore.pickle:after", 2),
    ("write:journal.jsonl[completed]:before", 1),
    ("write:journal.jsonl[completed]:half", 3),
    ("write:journal.jsonl[completed]:after", 4),
    ("write:journal.jsonl[chore_added]:half", 1),
    ("write:journal.jsonl[requeued]:after", 1),
    ("rename:out/*/attempts/N/chore.pickle:before", 1),
    ("write:journal.jsonl[run_state]:before", 1),
    ("write:owner.json.tmp:half", 1),
)
RESUME_SAMPLE = (
    ("link:owner-N.json:after", 1),
    ("rename:journal-N.jsonl:after", 1),
    ("write:journal.draft:half", 1),
    ("rename:journal.jsonl:after", 1),
    ("write:journal.jsonl[completed]:before", 1),
)
WORKER_SAMPLE = (
    ("write:out/*/result.pickle.tmp:half", 2),
    ("replace:out/*/result.pickle:after", 4),
    ("replace:out/*/error.json:before", 1),
    ("write:out/*/spawned.jsonl.tmp:half", 1),
    ("replace:out/*/spawned.jsonl:after", 1),
)


def choose(points, sample, is_long):
    """Return the sample, or each point at its first, a middle and its last occurrence."""
    assert {point for point, _ in sample} <= points.keys(), "a point of the sample is gone"
    if not is_long:
        return sample
    return [
        (point, occurrence)
        for point, count in sorted(points.items())
        for occurrence in sorted({1, (count + 1) // 2, count})
    ]


def test_a_killed_driver_loses_nothing_and_repeats_nothing(patient, try_all, is_long):
    points = patient.find_points("driver", "run")

    def one(name, case):
        point, occurrence = case
        trial = patient.trial(name)
        plan = {"mode": "kill", "kind": "driver", "point": point, "occurrence": occurrence}
        ended = trial.drive("run", plan)
        if ended.exit_code == 0:  # how often a point is come to differs a little from run to run
            assert not trial.was_hit
            trial.assert_finished(patient.results)
            return "not come to"
        assert ended.exit_code == -signal.SIGKILL, ended
        trial.resume_to_the_end(patient.results)
        return "killed"

    outcomes = try_all("driver", choose(points, DRIVER_SAMPLE, is_long), one)
    assert outcomes["killed"] > outcomes["not come to"]


def test_a_driver_killed_while_it_resumes_loses_nothing(patient, crashed, try_all, is_long):
    points = patient.find_points("driver", "resume", crashed)

    def one(name, case):
        point, occurrence = case
        trial = patient.trial(name, crashed)
        completed, committed = trial.completed(), trial.committed()
        executed = trial.executions()
        plan = {"mode": "kill", "kind": "driver", "point": point, "occurrence": occurrence}
        ended = trial.drive("resume", plan)
        if ended.exit_code == 0:
            assert not trial.was_hit
            trial.assert_finished(patient.results)
            return "not come to"
        assert ended.exit_code == -signal.SIGKILL, ended
        assert completed <= trial.completed()
        trial.resume_to_the_end(patient.results)
        again = {chore for chore in committed if trial.executions()[chore] != executed[chore]}
        assert not again, f"committed before the first crash, and run again: {again}"
        return "killed"

    outcomes = try_all("resuming driver", choose(points, RESUME_SAMPLE, is_long), one)
    assert outcomes["killed"] > outcomes["not come to"]


def test_a_killed_worker_is_a_failed_attempt_and_nothing_else(patient, try_all, is_long):
    points = patient.find_points("worker", "run")

    def one(name, case):
        point, occurrence = case
        trial = patient.trial(name)
        plan = {"mode": "kill", "kind": "worker", "point": point, "occurrence": occurrence}
        ended = trial.drive("run", plan)
        assert ended.exit_code == 0, ended
        assert trial.was_hit
        trial.assert_finished(patient.results)
        return "killed"

    try_all("worker", choose(points, WORKER_SAMPLE, is_long), one)
