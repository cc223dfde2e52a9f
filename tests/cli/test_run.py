"""`matensemble run` and `resume`: exit codes, what is said at the end, and what is refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from matensemble.cli import main
from matensemble.errors import RunInterruptedError
from matensemble.pipeline import Pipeline
from matensemble.protocols import RunOptions
from matensemble.runtime import command
from matensemble.workdir import RunDir


def call(*arguments: object, verb: str = "run") -> Result:
    return CliRunner().invoke(main, [verb, *map(str, arguments)])


class Recorder:
    """A runtime that keeps what it is asked for, and is stopped at once."""

    def __init__(self, *, is_out_of_time: bool = False) -> None:
        self.is_out_of_time = is_out_of_time

    def run(self, run_dir: Path, options: RunOptions) -> None:
        self.asked = run_dir, options
        raise RunInterruptedError(str(run_dir), "SIGTERM", self.is_out_of_time)


@pytest.mark.e2e
@pytest.mark.slow
def test_a_run_in_which_all_completes(saved: RunDir) -> None:
    answer = call(saved.root, "--cores", 1)
    assert answer.exit_code == 0, answer.stderr
    first, second = answer.stdout.splitlines()
    assert first.startswith("completed: 3 of 3 completed, after ")
    assert second == f"Results in {saved.root} (read by Pipeline.load)"
    assert "completed: 3 of 3 completed; 0 of 1 cores busy" in answer.stderr
    assert Pipeline.load(saved.root).results()["chore-fit-0003"] == pytest.approx(0.3)

    again = call(saved.root)
    assert again.exit_code == 2
    assert "was started before" in again.stderr
    assert again.stdout == ""


@pytest.mark.e2e
@pytest.mark.slow
def test_a_run_in_which_some_fail(tmp_path: Path) -> None:
    pipe = Pipeline(tmp_path)
    fails = pipe.exec(["sh", "-c", "echo no input >&2; exit 3"], name="relax")
    pipe.exec("true", name="after", after=[fails])
    pipe.exec("true", name="beside")
    answer = call(pipe.save(), "--no-progress")
    assert answer.exit_code == 1
    assert answer.stderr == ""
    assert answer.stdout.startswith("failed: 1 of 3 completed, 2 failed, after ")
    assert "1 chore failed, and 1 that depends on it:" in answer.stdout
    assert "chore-relax-0001: nonzero_exit (exit code 3)" in answer.stdout
    assert f"Look into {pipe.run_dir}/out/chore-relax-0001/stderr" in answer.stdout


@pytest.mark.e2e
@pytest.mark.slow
def test_a_failure_that_is_ignored_is_no_failure_of_the_run(tmp_path: Path) -> None:
    pipe = Pipeline(tmp_path)
    fails = pipe.exec("false", on_failure="ignore")
    pipe.exec("true", after=[fails])
    answer = call(pipe.save(), "--no-progress")
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.startswith("completed: 1 of 2 completed, 1 failed")


@pytest.mark.e2e
@pytest.mark.slow
def test_a_run_goes_on_in_the_next_allocation(tmp_path: Path) -> None:
    pipe = Pipeline(tmp_path)
    short = pipe.exec("true", name="short")
    long = pipe.exec("true", name="long", duration="1h", after=[short])
    run_dir = pipe.save()
    answer = call(run_dir, "--walltime", "2m", "--margin", "1m", "--no-progress")
    assert answer.exit_code == 75, answer.output
    assert answer.stdout.startswith("interrupted: 1 of 2 completed")
    assert f"matensemble resume {run_dir}\n" in answer.stderr
    first = (run_dir / "out" / short.chore_id / "stdout").stat()

    answer = call(tmp_path, "--no-progress", verb="resume")
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.startswith("completed: 2 of 2 completed")
    assert (run_dir / "out" / short.chore_id / "stdout").stat().st_ino == first.st_ino
    assert Pipeline.load(run_dir).results()[long.chore_id].exit_code == 0

    again = call(run_dir, "--no-progress", verb="resume")  # there is nothing left to do
    assert again.exit_code == 0, again.output
    assert again.stdout.startswith("completed: 2 of 2 completed")


@pytest.mark.e2e
@pytest.mark.slow
def test_a_run_goes_on_from_python(tmp_path: Path) -> None:
    pipe = Pipeline(tmp_path)
    chore = pipe.exec("echo done")
    pipe.save()
    resumed = Pipeline.resume(tmp_path, executor="local", cores=1)  # it was not started before
    assert str(resumed.results()[chore.chore_id]) == "done"
    again = Pipeline.resume(tmp_path, executor="local", cores=1)
    assert str(again.results()[chore.chore_id]) == "done"


@pytest.mark.parametrize("verb", ["run", "resume"])
def test_options_reach_the_runtime(
    saved: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    runtime = Recorder()
    monkeypatch.setattr(command, "find_runtime", lambda: runtime)
    answer = call(
        *(saved.root, "--executor", "local", "--cores", 3, "--gpus", 0, "--non-adaptive"),
        *("--fail-fast", "--path", tmp_path, "--log-delay", 0.5, "--no-progress", "--dashboard"),
        *("--max-failures", 1, "--keep", "failed", "--walltime", "4h", "--margin", "2m"),
        *("--drain-signal", "usr1", "--workers", "pool", "--recycle-after", 100),
        verb=verb,
    )
    assert answer.exit_code == 130
    assert "the run was interrupted (SIGTERM)" in answer.stderr
    assert f"Go on with: matensemble resume {saved.root}\n" in answer.stderr
    assert runtime.asked == (
        saved.root,
        RunOptions(
            executor="local",
            cores=3,
            gpus=0,
            adaptive=False,
            fail_fast=True,
            max_failures=1,
            keep="failed",
            workers="pool",
            recycle_after=100,
            walltime=4 * 3600.0,
            margin=120.0,
            drain_signal=signal.SIGUSR1,
            resume=verb == "resume",
            script_dir=tmp_path.resolve(),
            log_delay=0.5,
            progress=False,
            dashboard=True,
        ),
    )


@pytest.mark.parametrize(
    "wrong",
    [
        ("--cores", "0"),
        ("--gpus", "-1"),
        ("--executor", "slurm"),
        ("--log-delay", "-1"),
        ("--max-failures", "0"),
        ("--keep", "none"),
        ("--workers", "warm"),
        ("--recycle-after", "-1"),
        ("--walltime", "04:00:00"),
        ("--margin", "-1"),
        ("--drain-signal", "KILL"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "resume"])
def test_impossible_options_are_wrong_usage(
    saved: RunDir, wrong: tuple[str, str], verb: str
) -> None:
    answer = call(saved.root, *wrong, verb=verb)
    assert answer.exit_code == 2
    assert wrong[0].removeprefix("--").replace("-", "_") in answer.stderr.replace("-", "_")
    assert not saved.journal_path.exists()


def test_the_options_of_resuming(
    saved: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Recorder()
    monkeypatch.setattr(command, "find_runtime", lambda: runtime)
    assert call(saved.root, "--takeover").exit_code == 2  # there is nothing to take
    assert call(saved.root, "--takeover", "--recover", verb="resume").exit_code == 130
    asked = RunOptions(progress=True, resume=True, takeover=True, recover=True)
    assert runtime.asked == (saved.root, asked)
    call(saved.root.parent, verb="resume")  # of a folder the newest
    assert runtime.asked == (saved.root, RunOptions(progress=True, resume=True))
    empty = tmp_path / "empty"
    empty.mkdir()
    answer = call(empty, verb="resume")
    assert answer.exit_code == 2
    assert "no run is here" in answer.stderr


@pytest.mark.parametrize("verb", ["run", "resume"])
def test_the_end_of_the_allocation_has_an_exit_code_of_its_own(
    saved: RunDir, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr(command, "find_runtime", lambda: Recorder(is_out_of_time=True))
    answer = call(saved.root, verb=verb)
    assert answer.exit_code == 75
    assert f"Go on in the next allocation: matensemble resume {saved.root}\n" in answer.stderr


def test_what_cannot_run_here_is_refused_in_one_line(saved: RunDir, tmp_path: Path) -> None:
    answer = call(tmp_path)
    assert answer.exit_code == 2
    assert answer.stderr.startswith(f"Error: {tmp_path}: is no run directory")

    manifest = json.loads(saved.manifest_path.read_text())
    manifest["versions"]["python"] = "3.1"
    saved.manifest_path.write_text(json.dumps(manifest))
    answer = call(saved.root)
    assert answer.exit_code == 2
    assert "authored with Python 3.1" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    assert not saved.journal_path.exists()
