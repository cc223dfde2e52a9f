"""The command itself: which subcommands there are, errors in words, versions, a light start."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from matensemble import cli
from matensemble.errors import RunFailedError, RunInterruptedError

SUBCOMMANDS = (
    *("run", "resume"),
    *("status", "logs", "explain", "graph", "validate", "list", "batch-script"),
    *("pause", "unpause", "cancel", "retry", "prioritise", "add-time"),
)
"""Of the SDK and the runtime."""


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """Entry points that the command finds instead of those that are installed."""
    entries: list[EntryPoint] = []
    monkeypatch.setattr(cli, "entry_points", lambda *, group: entries)
    return entries


def _entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, cli.ENTRY_POINT_GROUP)


def test_help_names_every_subcommand_that_is_installed() -> None:
    answer = CliRunner().invoke(cli.main, ["--help"])
    assert answer.exit_code == 0
    for name in SUBCOMMANDS:
        assert f"\n  {name} " in answer.output
    assert answer.stderr == ""


def test_a_broken_subcommand_of_another_package_breaks_nothing(others: list[EntryPoint]) -> None:
    others += [
        _entry("status", "matensemble.subcommands.status:status"),
        _entry("broken", "no_such_module:command"),
        _entry("strange", "matensemble.workdir:STATUS"),
    ]
    answer = CliRunner().invoke(cli.main, ["--help"])
    assert answer.exit_code == 0
    assert "Show where a run stands" in answer.stdout
    first, second = sorted(answer.stderr.splitlines())
    assert "'broken' of an unknown package cannot be loaded (ModuleNotFoundError: No" in first
    assert "'strange' of an unknown package cannot be loaded (TypeError: matensemble" in second


def test_calling_a_broken_subcommand_says_why(others: list[EntryPoint]) -> None:
    others.append(_entry("broken", "no_such_module:command"))
    answer = CliRunner().invoke(cli.main, ["broken"])
    assert answer.exit_code == 2
    assert "no_such_module" in answer.stderr


def test_a_subcommand_of_this_distribution_cannot_be_taken_over(
    monkeypatch: pytest.MonkeyPatch, others: list[EntryPoint]
) -> None:
    ours = _entry("status", "matensemble.subcommands.status:status")
    others += [_entry("status", "no_such_module:command"), ours]
    monkeypatch.setattr(
        cli, "_distribution", lambda entry: cli.OWN_DISTRIBUTION if entry is ours else "another"
    )
    assert CliRunner().invoke(cli.main, ["status", "--help"]).exit_code == 0


def test_an_unknown_subcommand_is_wrong_usage() -> None:
    answer = CliRunner().invoke(cli.main, ["stats"])
    assert answer.exit_code == 2
    assert "No such command 'stats'" in answer.stderr


def test_a_subcommand_that_is_not_installed_names_its_package(others: list[EntryPoint]) -> None:
    for command in ("run", "resume"):
        answer = CliRunner().invoke(cli.main, [command, "somewhere"])
        assert answer.exit_code == 2
        assert "pip install matensemble-runtime" in answer.stderr


def test_version_shows_what_is_installed() -> None:
    answer = CliRunner().invoke(cli.main, ["--version"])
    assert answer.exit_code == 0
    lines = answer.stdout.splitlines()
    assert lines[0].startswith("matensemble-sdk 0.")
    assert [line.split()[0] for line in lines[:4]] == list(cli.DISTRIBUTIONS)
    assert sys.executable in lines[-1]


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (RunInterruptedError("/run", "SIGINT"), 130),
        (RunFailedError("/run", "the executor is gone\x1b[2J"), 70),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_become_words_and_exit_codes(
    others: list[EntryPoint],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    exit_code: int,
) -> None:
    @click.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr(EntryPoint, "load", lambda self: fail)
    others.append(_entry("fail", "x:y"))
    answer = CliRunner().invoke(cli.main, ["fail"], color=True)
    assert answer.exit_code == exit_code
    assert "\x1b" not in answer.stderr
    if not isinstance(error, KeyboardInterrupt):
        assert answer.stderr.startswith("Error: the run ")


def test_a_folder_without_a_run_is_wrong_usage(tmp_path: Path) -> None:
    for command in ("status", "validate", "graph", "resume", "pause", "unpause"):
        answer = CliRunner().invoke(cli.main, [command, str(tmp_path)])
        assert answer.exit_code == 2
        assert answer.stderr.startswith(f"Error: {tmp_path}: no run is here")
    assert CliRunner().invoke(cli.main, ["status", str(tmp_path / "none")]).exit_code == 2


@pytest.mark.slow
def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from matensemble.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    heavy = {"networkx", "rich", "cloudpickle", "fastapi", "uvicorn", "pydantic", "matplotlib"}
    heavy |= {"matensemble.manager", "matensemble.pipeline", "matensemble.runtime.progress"}
    assert not loaded & heavy
    assert "matensemble.cli" in loaded
