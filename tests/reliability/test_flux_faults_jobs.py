"""Whole runs on real Flux whose jobs, processes or nodes are ended from outside."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from matensemble.errors import ChoreFailedError
from matensemble.model import Reason, RunState
from matensemble.pipeline import Pipeline
from matensemble.records import RecordKind

sys.path.append(str(Path(__file__).parent))
from whole_run import WholeRun, wait_until, whole_run

pytestmark = [pytest.mark.flux, pytest.mark.slow, pytest.mark.e2e]

StartFlux = Callable[..., str]
FOUR = ("--test-size=4",)

HANG = """
echo "start $MATENSEMBLE_CHORE_ID $MATENSEMBLE_ATTEMPT $$" >> "$EXECUTION_LOG"
exec sleep 600
"""
NODE = """
echo "start $MATENSEMBLE_CHORE_ID $MATENSEMBLE_ATTEMPT $$" >> "$EXECUTION_LOG"
flux getattr broker.pid >> broker.pids
echo "$(flux getattr rank)" > "rank.$MATENSEMBLE_ATTEMPT"
until [ -e "$1" ]; do sleep 0.05; done
"""
"""Tells which broker it is on, and ends once the gate $1 is open."""


def failure(whole: WholeRun, chore_id: str) -> tuple[str, int | None]:
    """Return reason and exit code of a chore that failed."""
    error = whole.results()[chore_id]
    assert isinstance(error, ChoreFailedError), error
    return error.reason, error.exit_code


def test_processes_and_jobs_that_are_ended_from_outside(
    start_flux: StartFlux, tmp_path: Path
) -> None:
    """Each chore has the reason of its own end, what depends on it the root, the rest goes on."""
    pipe = Pipeline(tmp_path / "runs")
    names = ("killed", "asked", "by_command", "by_flux", "limited", "silent")
    limits: dict[str, dict[str, Any]] = {
        "limited": {"duration": 3.0},
        "silent": {"idle_timeout": 3},
    }
    hang = {
        name: pipe.exec(["sh", "-c", HANG], name=name, **limits.get(name, {})) for name in names
    }
    behind = {name: pipe.exec(["true"], name="behind", after=[hang[name]]) for name in names}
    fine = pipe.exec(["true"], name="fine")
    ids = {name: reference.chore_id for name, reference in hang.items()}

    with whole_run(pipe.save(), start_flux(*FOUR)) as whole:
        driver = whole.start("run")
        pids = {name: whole.pid_of(chore_id) for name, chore_id in ids.items()}
        os.kill(pids["killed"], signal.SIGKILL)
        os.kill(pids["asked"], signal.SIGTERM)
        assert whole.call("cancel", ids["by_command"]).exit_code == 0
        (jobid,) = [job.jobid for job in whole.jobs("RUN") if job.chore_id == ids["by_flux"]]
        whole.flux("cancel", jobid)
        assert driver.wait() == 1
        found = {name: failure(whole, chore_id) for name, chore_id in ids.items()}
        assert found["killed"] == (Reason.SIGNAL, -signal.SIGKILL)
        assert found["asked"] == (Reason.SIGNAL, -signal.SIGTERM)
        assert {name: found[name][0] for name in names[2:]} == {
            "by_command": Reason.CANCELLED,
            "by_flux": Reason.CANCELLED,
            "limited": Reason.DURATION_EXCEEDED,
            "silent": Reason.IDLE_TIMEOUT,
        }
        for name, reference in behind.items():
            error = whole.results()[reference.chore_id]
            assert (error.reason, error.upstream) == (Reason.DEPENDENCY_FAILED, ids[name])
        assert whole.results()[fine.chore_id] == (0, {})
        assert whole.status().state is RunState.FAILED
        assert not any(one.losses or one.retries for one in whole.replay().standings.values())
        whole.assert_nothing_is_left()


# --- nodes -------------------------------------------------------------------------------------


def doomed(folder: Path, size: int) -> list[str]:
    """Return the options of an instance whose brokers a test kills, and whose nodes have names."""
    hosts = f"n[0-{size - 1}]"
    config = folder / "resource.toml"
    config.write_text(
        f'[resource]\nnoverify = true\n[[resource.config]]\nhosts = "{hosts}"\ncores = "0-1"\n'
    )
    return [
        f"--test-size={size}",
        f"--test-hosts={hosts}",
        f"--config-path={config}",
        "--test-exit-timeout=60s",  # from the first broker that dies
        "-Slog-stderr-level=0",
    ]


def kill_node_under(whole: WholeRun, chore_id: str, attempt: int) -> str:
    """Kill the broker under an attempt; return the rank it was."""
    out = whole.run.chore_dir(chore_id)
    rank = out / f"rank.{attempt}"
    wait_until(lambda: rank.exists() and rank.read_text().endswith("\n"), f"attempt {attempt}")
    found = rank.read_text().strip()
    os.kill(int((out / "broker.pids").read_text().split()[-1]), signal.SIGKILL)
    return found


def test_a_node_that_dies_under_a_chore(start_flux: StartFlux, tmp_path: Path) -> None:
    """The chore runs elsewhere, at no cost of its retries; what runs beside it goes on."""
    gate = tmp_path / "gate"
    pipe = Pipeline(tmp_path / "runs")
    options: dict[str, Any] = {"cores_per_task": 2, "retries": 1}  # a node each
    ids = [
        pipe.exec(["sh", "-c", NODE, "sh", str(gate)], name="point", **options).chore_id
        for _ in range(3)
    ]
    with whole_run(pipe.save(), start_flux(*doomed(tmp_path, 4))) as whole:
        driver = whole.start("run")
        for chore_id in ids:
            whole.pid_of(chore_id)
        lost = kill_node_under(whole, ids[0], 1)
        (requeued,) = whole.wait_for(RecordKind.REQUEUED, ids[0])
        assert (requeued.fields["r"], requeued.fields["b"]) == (Reason.NODE_FAILURE, "loss")
        assert requeued.fields["avoid"] == [f"n{lost}"]
        wait_until(lambda: whole.status().total_cores == 4, "the loss in the status")
        gate.touch()
        assert driver.wait() == 0
        standing = whole.replay().standing(ids[0])
        assert (standing.attempt, standing.losses, standing.retries) == (2, 1, 0)
        assert (whole.run.chore_dir(ids[0]) / "rank.2").read_text().strip() not in (lost, "0")
        assert whole.executions() == {(ids[0], 2): 1} | {(chore_id, 1): 1 for chore_id in ids}
        whole.assert_nothing_is_left()


def test_a_node_that_dies_under_a_chore_that_may_not_lose_more(
    start_flux: StartFlux, tmp_path: Path
) -> None:
    """Three losses are borne, and the fourth is the failure: `node_failure`."""
    pipe = Pipeline(tmp_path / "runs")
    chore_id = pipe.exec(["sh", "-c", NODE, "sh", str(tmp_path / "gate")], name="point").chore_id
    with whole_run(pipe.save(), start_flux(*doomed(tmp_path, 6))) as whole:
        driver = whole.start("run")
        ranks = [kill_node_under(whole, chore_id, attempt) for attempt in (1, 2, 3, 4)]
        assert driver.wait() == 1
        assert failure(whole, chore_id)[0] == Reason.NODE_FAILURE
        assert len(set(ranks)) == 4, "each time elsewhere"
        standing = whole.replay().standing(chore_id)
        assert (standing.attempt, standing.losses, standing.retries) == (4, 3, 0)
        avoided = whole.records(RecordKind.REQUEUED)[-1].fields["avoid"]
        assert avoided == [f"n{rank}" for rank in ranks[:3]]
