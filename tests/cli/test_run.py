"""`matensemble run`: exit codes, what is said at the end, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from matensemble.cli import main
from matensemble.errors import RunInterruptedError
from matensemble.pipeline import Pipeline
from matensemble.protocols import RunOptions
from matensemble.runtime import command
from matensemble.workdir import RunDir


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["run", *map(str, arguments)])


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


def test_options_reach_the_runtime(
    saved: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Recorder:
        def run(self, run_dir: Path, options: RunOptions) -> None:
            self.asked = run_dir, options
            raise RunInterruptedError(str(run_dir), "SIGTERM")

    runtime = Recorder()
    monkeypatch.setattr(command, "find_runtime", lambda: runtime)
    answer = call(
        *(saved.root, "--executor", "local", "--cores", 3, "--gpus", 0, "--non-adaptive"),
        *("--fail-fast", "--path", tmp_path, "--log-delay", 0.5, "--no-progress", "--dashboard"),
    )
    assert answer.exit_code == 130
    assert "the run was interrupted (SIGTERM)" in answer.stderr
    assert runtime.asked == (
        saved.root,
        RunOptions(
            executor="local",
            cores=3,
            gpus=0,
            adaptive=False,
            fail_fast=True,
            script_dir=tmp_path.resolve(),
            log_delay=0.5,
            progress=False,
            dashboard=True,
        ),
    )


@pytest.mark.parametrize(
    "wrong",
    [("--cores", "0"), ("--gpus", "-1"), ("--executor", "slurm"), ("--log-delay", "-1")],
)
def test_impossible_options_are_wrong_usage(saved: RunDir, wrong: tuple[str, str]) -> None:
    answer = call(saved.root, *wrong)
    assert answer.exit_code == 2
    assert wrong[0] in answer.stderr
    assert not saved.journal_path.exists()


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
