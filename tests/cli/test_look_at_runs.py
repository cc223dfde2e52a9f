"""`status`, `list`, `graph` and `validate`: what they show of runs on disk."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from matensemble import report
from matensemble.cli import main
from matensemble.model import RunState
from matensemble.owner import Owner
from matensemble.runs import find_run, list_runs, why_lost
from matensemble.status import Counts, RootFailure, RunStatus
from matensemble.subcommands.status import WATCH_INTERVAL_SECONDS
from matensemble.workdir import RunDir

MakeStatus = Callable[..., RunStatus]
WriteStatus = Callable[[RunDir, RunStatus], None]


def call(*arguments: object, color: bool = False) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], color=color)


# --- status -----------------------------------------------------------------------------------


def test_status_in_words(make_status: MakeStatus, now: datetime) -> None:
    run = RunDir(Path("/scratch/me/matensemble_workflow-20260301_115700"))
    lines = report.describe_status(make_status(), run, now)
    import click

    assert [click.unstyle(line) for line in lines] == [
        "Run      matensemble_workflow-20260301_115700",
        "Folder   /scratch/me",
        "State    running, for 3 min, updated 1.0 s ago",
        "Where    local executor, driven by process 4242 on elsewhere; 1 node, 2 of 4 cores busy",
        "Pace     0.5 chores/s, about 10 s left",
        "",
        "Group   total  pending  running  completed  failed  cancelled",
        "energy     10        2        2          5       1          ·",
        "fit         2        1        ·          ·       1          ·",
        "all        12        3        2          5       2          ·",
        "",
        "1 chore failed, and 1 that depends on it:",
        "  chore-energy-0003: exception (exit code 1): ValueError: no minimum",
        "Look into /scratch/me/matensemble_workflow-20260301_115700/out/chore-energy-0003/stderr",
        "  or type matensemble logs /scratch/me/matensemble_workflow-20260301_115700 "
        "chore-energy-0003 --stderr",
    ]


@pytest.mark.parametrize(
    ("ends_in", "state", "line"),
    [
        (3840, RunState.RUNNING, "Left     1 h 4 min of the allocation"),
        (-90, RunState.RUNNING, "Left     nothing of the allocation: it ended 1 min 30 s ago"),
        (3840, RunState.COMPLETED, None),
    ],
)
def test_what_is_left_of_the_allocation(
    make_status: MakeStatus, now: datetime, ends_in: float, state: RunState, line: str | None
) -> None:
    ends_at = (now + timedelta(seconds=ends_in)).isoformat()
    lines = report.describe_status(
        make_status(state=state, ends_at=ends_at), RunDir(Path("/runs/run")), now
    )
    assert [one for one in lines if one.startswith("Left")] == ([line] if line else [])


def test_a_chore_that_never_started_has_nothing_to_look_into(make_status: MakeStatus) -> None:
    failure = RootFailure("chore-big-0001", "exceeds_allocation", None, "wants 512 cores, has 4")
    status = make_status(root_failures=(failure,), num_root_failures=30)
    lines = report.describe_failures(status, RunDir(Path("/run")))
    assert lines[0] == "30 chores failed; the first 1:"
    assert "wants 512 cores" in lines[1]
    assert len(lines) == 2


def test_many_groups_are_folded_and_nothing_is_lost() -> None:
    groups = {f"g{i}": Counts(total=i + 1, pending=i + 1) for i in range(50)}
    lines = report.describe_groups(groups, Counts(total=1275, pending=1275))
    assert len(lines) == 1 + report.MAX_GROUPS + 2
    assert lines[-2].split() == ["10", "more", "groups", "55", "55", *"····"]
    assert lines[-1].split()[:2] == ["all", "1,275"]


def test_status_of_a_run_that_was_not_started(saved: RunDir) -> None:
    answer = call("status", saved.root)
    assert answer.exit_code == 0
    assert "State    saved, not started" in answer.stdout
    assert "energy      2        2" in answer.stdout
    assert f"matensemble run {saved.root}" in answer.stdout
    answer = call("status", saved.root, "--json")
    assert answer.exit_code == 2
    assert "was not started" in answer.stderr


def test_status_as_json_is_what_the_file_says(
    saved: RunDir, make_status: MakeStatus, write_status: WriteStatus
) -> None:
    write_status(saved, make_status())
    answer = call("status", saved.root, "--json")
    assert answer.exit_code == 0
    assert json.loads(answer.stdout) == json.loads(saved.status_path.read_text())
    saved.status_path.write_text('{"format": 1}')
    answer = call("status", saved.root, "--json")
    assert answer.exit_code == 2
    assert "is no status" in answer.stderr


def test_hostile_text_in_a_status_stays_text(
    saved: RunDir, make_status: MakeStatus, write_status: WriteStatus
) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202e\nState  completed"
    status = make_status(
        run=evil,
        detail=evil,
        host=evil,
        executor=evil,
        groups={evil: Counts(total=1)},
        root_failures=(RootFailure(evil, evil, 1, evil),),
        updated_at=evil,
        started_at=evil,
    )
    write_status(saved, status)
    answer = call("status", saved.root)
    assert answer.exit_code == 0
    assert not set(answer.stdout) & set("\x1b\x07\u202e")
    assert "\nState  completed" not in answer.stdout


def test_colour_only_on_a_terminal_and_never_with_no_color(
    saved: RunDir,
    make_status: MakeStatus,
    write_status: WriteStatus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_status(saved, make_status())
    assert "\x1b[" in call("status", saved.root, color=True).stdout
    assert "\x1b[" not in call("status", saved.root).stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in call("status", saved.root, color=True).stdout


def test_watch_goes_on_until_the_run_has_ended(
    saved: RunDir,
    make_status: MakeStatus,
    write_status: WriteStatus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = make_status(host=socket.gethostname(), pid=os.getpid())
    write_status(saved, running)
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 2:
            write_status(saved, replace(running, state=RunState.COMPLETED))

    monkeypatch.setattr("time.sleep", nap)
    monkeypatch.setattr("matensemble.runs.SILENCE_SECONDS", float("inf"))
    answer = call("status", saved.root, "--watch")
    assert answer.exit_code == 0
    assert naps == [1.0, 1.0]
    assert answer.stdout.count("State    running") == 2
    assert answer.stdout.count("State    completed") == 1


# --- a lost driver ----------------------------------------------------------------------------


def test_a_driver_is_lost_when_its_process_is_gone(make_status: MakeStatus, now: datetime) -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    gone = make_status(host=socket.gethostname(), pid=process.pid)
    assert why_lost(gone, now) == f"its process {process.pid} on this host is gone"
    assert why_lost(make_status(host=socket.gethostname(), pid=os.getpid()), now) is None
    assert why_lost(replace(gone, state=RunState.COMPLETED), now) is None


def test_a_driver_elsewhere_is_lost_when_it_is_silent(
    make_status: MakeStatus, now: datetime
) -> None:
    assert why_lost(make_status(), now) is None
    late = why_lost(make_status(), now + timedelta(seconds=99))
    assert late == "no sign of life for 1 min 40 s from process 4242 on elsewhere"


def test_a_lost_driver_is_shown(
    saved: RunDir, make_status: MakeStatus, write_status: WriteStatus
) -> None:
    write_status(saved, make_status())  # of long ago
    answer = call("status", saved.root, "--watch")  # ends, too
    assert "the driver seems lost: no sign of life" in answer.stdout
    assert answer.stdout.endswith(f"\nTo go on with it: matensemble resume {saved.root}\n")
    assert "  lost " in call("list", saved.root.parent).stdout


# --- going on ---------------------------------------------------------------------------------


def write_owner(run: RunDir, epoch: int, **fields: Any) -> None:
    owner = replace(Owner.of_this_process(epoch, "2026-03-01T12:00:00+00:00"), **fields)
    run.owner_path.write_text(json.dumps(owner.to_json()))


@pytest.mark.parametrize(
    ("state", "is_offered"),
    [(RunState.INTERRUPTED, True), (RunState.COMPLETED, False), (RunState.RUNNING, False)],
)
def test_how_to_go_on_is_shown_for_runs_that_stand_still(
    saved: RunDir,
    make_status: MakeStatus,
    write_status: WriteStatus,
    monkeypatch: pytest.MonkeyPatch,
    state: RunState,
    is_offered: bool,
) -> None:
    monkeypatch.setattr("matensemble.runs.SILENCE_SECONDS", float("inf"))
    write_owner(saved, 1)
    write_status(saved, make_status(state=state))
    answer = call("status", saved.root)
    assert (f"matensemble resume {saved.root}" in answer.stdout) == is_offered
    assert "matensemble run " not in answer.stdout


def test_who_took_a_run_over_is_named_until_it_publishes(
    saved: RunDir,
    make_status: MakeStatus,
    write_status: WriteStatus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("matensemble.runs.SILENCE_SECONDS", float("inf"))
    naps: list[float] = []
    monkeypatch.setattr("time.sleep", naps.append)
    monkeypatch.setattr("time.monotonic", lambda: sum(naps))
    write_owner(saved, 2, host="node3\x1b[2J", pid=77)
    write_status(saved, make_status(state=RunState.INTERRUPTED))
    answer = call("status", saved.root)
    assert "State    interrupted" in answer.stdout
    assert "process 77 on node3 has taken it over, and has not published yet" in answer.stdout
    assert "resume" not in answer.stdout
    assert "\x1b" not in answer.stdout
    assert "  starting " in call("list", saved.root.parent).stdout
    saved.status_path.unlink()
    assert "State    is being started by process 77 on node3\n" in call("status", saved.root).stdout
    assert "  starting " in call("list", saved.root.parent).stdout


def test_a_start_that_was_cut_short_can_be_resumed(saved: RunDir) -> None:
    write_owner(saved, 1, pid=2**22 + 1)
    answer = call("status", saved.root, "--watch")  # ends, too
    assert f"its start was cut short: its process {2**22 + 1} on this host is gone" in answer.stdout
    assert answer.stdout.endswith(f"\nTo go on with it: matensemble resume {saved.root}\n")


def test_a_run_that_was_resumed_is_watched_although_its_last_status_is_an_end(
    saved: RunDir,
    make_status: MakeStatus,
    write_status: WriteStatus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("matensemble.runs.SILENCE_SECONDS", float("inf"))
    write_owner(saved, 2)
    write_status(saved, make_status(state=RunState.INTERRUPTED))
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if seconds == WATCH_INTERVAL_SECONDS:
            write_status(saved, make_status(state=RunState.COMPLETED, epoch=2))

    monkeypatch.setattr("time.sleep", nap)
    monkeypatch.setattr("time.monotonic", lambda: sum(naps))
    answer = call("status", saved.root, "--watch")
    assert answer.stdout.count("has taken it over") == 1
    assert answer.stdout.count("State    completed") == 1


# --- which run --------------------------------------------------------------------------------


def test_of_a_folder_the_newest_run_is_meant_whatever_it_is_called(saved: RunDir) -> None:
    folder = saved.root.parent
    renamed = folder / "study of gold"
    shutil.copytree(saved.root, renamed)
    (folder / "matensemble_workflow-unfinished").mkdir()
    (folder / "notes.txt").touch()
    for path, seconds in ((saved.root, 2_000_000_000), (renamed, 1_000_000_000)):
        os.utime(path / "workflow.json", (seconds, seconds))
    assert find_run(folder).root == saved.root
    assert [run.root for run in list_runs(folder)] == [saved.root, renamed]
    assert find_run(renamed).root == renamed


def test_list_shows_the_newest_fifty_and_counts_the_others(
    saved: RunDir, make_status: MakeStatus, write_status: WriteStatus
) -> None:
    write_status(saved, make_status(state=RunState.COMPLETED))
    os.utime(saved.manifest_path, (2_000_000_000, 2_000_000_000))
    for index in range(51):
        broken = saved.root.parent / f"run-{index:02d}"
        broken.mkdir()
        (broken / "workflow.json").write_text("{")
        os.utime(broken / "workflow.json", (index, index))
    lines = call("list", saved.root.parent).stdout.splitlines()
    assert lines[0].split() == ["Run", "State", "Chores", "Completed", "Failed", "Saved"]
    assert lines[1].split()[:5] == [saved.root.name, "completed", "12", "5", "2"]
    assert lines[2].split() == ["run-50", "unreadable"]
    assert len(lines) == 52
    assert lines[-1] == "… and 2 older runs"


def test_list_of_an_empty_folder(tmp_path: Path) -> None:
    answer = call("list", tmp_path)
    assert (answer.exit_code, answer.stdout) == (0, f"no runs in {tmp_path}\n")


# --- graph and validate -----------------------------------------------------------------------


def test_graph_as_text_and_as_a_file(saved: RunDir, tmp_path: Path) -> None:
    answer = call("graph", saved.root)
    assert answer.exit_code == 0
    assert answer.stdout.startswith("flowchart TD\n")
    assert '"chore-fit-0003"' in answer.stdout
    target = tmp_path / "graph.mmd"
    assert call("graph", saved.root, "-o", target).stdout == f"wrote {target}\n"
    assert target.read_text() == answer.stdout
    assert call("graph", saved.root, "-o", tmp_path / "graph.doc").exit_code == 2
    nowhere = call("graph", saved.root, "-o", tmp_path / "none" / "graph.mmd")
    assert nowhere.exit_code == 2
    assert "cannot be written" in nowhere.stderr


def test_validate_says_what_was_found(saved: RunDir) -> None:
    answer = call("validate", saved.root)
    assert answer.exit_code == 0, answer.stderr
    assert answer.stdout.startswith("OK: 3 chores, 2 groups, 2 functions, ")


def test_validate_names_every_problem(saved: RunDir) -> None:
    manifest = json.loads(saved.manifest_path.read_text())
    manifest["versions"]["python"] = "3.1"
    manifest["groups"]["energy"] = 7
    saved.manifest_path.write_text(json.dumps(manifest))
    (saved.registry_dir / "fit").unlink()
    answer = call("validate", saved.root)
    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert "authored with Python 3.1" in answer.stderr
    assert "the function 'fit' is missing" in answer.stderr
    assert "not those that the manifest counts" in answer.stderr
    assert "3 problems" in answer.stderr


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda lines: lines[:-1], "truncated"),
        (lambda lines: [*lines, lines[0]], "comes twice"),
        (lambda lines: lines[::-1], "does not stand before it"),
        (lambda lines: [*lines[:2], lines[2].replace('"fit"', '"../fit"')], "is no chore"),
    ],
)
def test_validate_reads_every_chore(
    saved: RunDir, spoil: Callable[[list[str]], list[str]], problem: str
) -> None:
    lines = saved.chores_path.read_text().splitlines()
    saved.chores_path.write_text("".join(f"{line}\n" for line in spoil(lines)))
    answer = call("validate", saved.root)
    assert answer.exit_code == 2
    assert problem in answer.stderr
