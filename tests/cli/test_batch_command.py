"""`batch-script`: what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from matensemble.cli import main
from matensemble.pipeline import Pipeline
from matensemble.workdir import RunDir


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("MATENSEMBLE_SITE", raising=False)
    return home


def call(run: RunDir, *arguments: object, nodes: int = 2, walltime: str = "2h") -> Result:
    words = ["batch-script", run.root, "--nodes", nodes, "--walltime", walltime, *arguments]
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.mark.parametrize(
    ("site", "directive"), [("slurm", "#SBATCH --nodes=2"), ("flux", "# flux: --nodes=2")]
)
def test_it_is_printed(saved: RunDir, site: str, directive: str) -> None:
    answer = call(saved, "--site", site)
    assert answer.exit_code == 0
    lines = answer.stdout.splitlines()
    assert lines[0] == "#!/bin/bash"
    assert directive in lines
    assert f"run={saved.root}" in lines
    assert "last_number=1" in lines
    assert answer.stderr == ""


def test_a_folder_of_runs_stands_for_its_newest(saved: RunDir) -> None:
    assert f"run={saved.root}" in call(RunDir(saved.root.parent), "--site", "flux").stdout


@pytest.mark.parametrize(("chain", "last"), [(["--chain"], 11), (["--chain", "3"], 4)])
def test_a_chain(saved: RunDir, chain: list[str], last: int) -> None:
    assert f"last_number={last}" in call(saved, "--site", "slurm", *chain).stdout.splitlines()


def test_it_is_written_for_the_user_alone(saved: RunDir, tmp_path: Path) -> None:
    path = tmp_path / "my job.sh"
    path.write_text("something old, and longer " * 1000)
    path.chmod(0o644)
    answer = call(saved, "--site", "slurm", "-o", path)
    assert answer.exit_code == 0
    assert answer.stdout == ""
    assert answer.stderr == f"Submit it with: sbatch '{path}'\n"
    assert path.read_text() == call(saved, "--site", "slurm").stdout
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_file_that_cannot_be_written(saved: RunDir, tmp_path: Path) -> None:
    answer = call(saved, "--site", "slurm", "-o", tmp_path / "nowhere" / "job.sh")
    assert answer.exit_code != 0
    assert "No such file" in answer.stderr


def test_the_site_file(saved: RunDir, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default = home / ".config" / "matensemble" / "site.toml"
    default.parent.mkdir(parents=True)
    default.write_text('account = "of-home"')
    other = home / "other.toml"
    other.write_text('account = "of-environment"')
    third = home / "third.toml"
    third.write_text('account = "of-option"')
    assert "#SBATCH --account=of-home" in call(saved, "--site", "slurm").stdout
    monkeypatch.setenv("MATENSEMBLE_SITE", str(other))
    assert "#SBATCH --account=of-environment" in call(saved, "--site", "slurm").stdout
    answer = call(saved, "--site", "slurm", "--site-file", third)
    assert "#SBATCH --account=of-option" in answer.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [('acount = "x"', "did you mean 'account'"), ('mpi_pmi = "a b"', "mpi_pmi='a b'")],
)
def test_a_site_file_that_is_wrong(saved: RunDir, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "site.toml"
    path.write_text(text)
    answer = call(saved, "--site", "slurm", "--site-file", path)
    assert answer.exit_code == 2
    assert message in answer.stderr


@pytest.mark.parametrize("walltime", ["120", "soon", "0h"])
def test_a_walltime_that_is_none(saved: RunDir, walltime: str) -> None:
    answer = call(saved, "--site", "slurm", walltime=walltime)
    assert answer.exit_code == 2
    assert f"walltime='{walltime}'" in answer.stderr


def test_the_pipeline_decides_about_rank_0(tmp_path: Path) -> None:
    for reserve in (True, False):
        pipe = Pipeline(tmp_path / "runs", reserve_broker_node=reserve)
        pipe.exec("true")
        script = call(RunDir(pipe.save()), "--site", "slurm").stdout
        assert ("resource.exclude" in script) is reserve
    assert "resource.exclude" not in call(RunDir(tmp_path / "runs"), "--site", "flux").stdout


def test_no_run(tmp_path: Path) -> None:
    answer = call(RunDir(tmp_path), "--site", "slurm")
    assert answer.exit_code == 2
    assert "no run is here" in answer.stderr


def test_options_of_resume(saved: RunDir) -> None:
    answer = call(saved, "--site", "slurm", "--margin", "5m", "--", "--drain-signal", "USR1")
    assert answer.exit_code == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert "options=(--executor flux --no-progress --margin 300s --drain-signal USR1)" in lines
    assert any(line.startswith("least=300 ") for line in lines)


@pytest.mark.parametrize("options", [["--marign", "5m"], ["--keep", "nothing"], ["another"]])
def test_options_that_resume_would_refuse(saved: RunDir, options: list[str]) -> None:
    answer = call(saved, "--site", "slurm", "--", *options)
    assert answer.exit_code == 2
    assert options[-1] in answer.stderr or options[0] in answer.stderr


@pytest.mark.parametrize("margin", ["3h", "0.5s", "soon"])
def test_a_margin_that_cannot_be(saved: RunDir, margin: str) -> None:
    answer = call(saved, "--site", "slurm", "--margin", margin)
    assert answer.exit_code == 2
    assert "margin=" in answer.stderr


DEADLY = """
import json, os, pathlib, signal, sys
run = pathlib.Path(os.environ["MATENSEMBLE_RUN_DIR"])
with open(run / "executions", "a") as stream:
    stream.write(os.environ["MATENSEMBLE_CHORE_ID"] + "\\n")
if sys.argv[1] == "0":
    os.kill(json.loads((run / "owner.json").read_text())["pid"], signal.SIGKILL)
"""
"""What each chore does; the first one to come kills the driver that started it."""


@pytest.mark.slow
@pytest.mark.flux
@pytest.mark.e2e
def test_a_job_on_flux_outlives_its_driver(flux_library: None, tmp_path: Path) -> None:
    """The very driver, killed by one of its chores: the job resumes, and runs no chore twice."""
    pipe = Pipeline(tmp_path / "my 'runs'")
    for number in range(6):
        pipe.exec([sys.executable, "-c", DEADLY, str(number)], name="deadly")
    run = RunDir(pipe.save())
    script = tmp_path / "job.sh"
    assert call(run, "--site", "flux", "-o", script, nodes=1, walltime="100s").exit_code == 0
    commands = 'flux batch "$1" && flux queue drain && flux jobs -a -n -o "{status} {returncode}"'
    done = subprocess.run(
        ["flux", "start", "bash", "-c", commands, "bash", str(script)],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    (said,) = [path.read_text() for path in run.root.glob("batch-*.out")]
    assert "COMPLETED 0" in done.stdout, done.stderr + said
    assert "the driver crashed (exit code 137); resuming, 1 of 3" in said
    assert len(Pipeline.load(run.root).results()) == 6
    executions = (run.root / "executions").read_text().split()
    assert sorted(executions) == sorted(set(executions))
    assert len(executions) == 6
