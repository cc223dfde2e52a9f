from __future__ import annotations

import json
import os
import socket
from datetime import datetime
from pathlib import Path

import pytest

from matensemble.dashboard.catalog import (
    MAX_OPERATIONS,
    MAX_UNSTARTED_RUNS,
    REFRESH_SECONDS,
    SCAN_SECONDS,
    Catalog,
)
from matensemble.errors import FormatError, RunDirectoryError
from matensemble.owner import Owner


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += REFRESH_SECONDS
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_newest_run_of_a_folder(write_run, tmp_path, clock):
    catalog = Catalog(tmp_path, clock)
    with pytest.raises(RunDirectoryError, match="no run is here yet"):
        catalog.read_status()
    write_run("matensemble_workflow-20260102_000000")
    write_run("matensemble_workflow-20260101_000000")
    (tmp_path / "zzz").mkdir()
    (tmp_path / "matensemble_workflow-29990101_000000").write_text("a file")
    assert catalog.read_status().run == "matensemble_workflow-20260102_000000"
    write_run("matensemble_workflow-20260103_000000")
    assert catalog.read_status().run == "matensemble_workflow-20260103_000000"


def test_saved_runs_do_not_hide_the_one_that_runs(write_run, tmp_path, clock):
    write_run("matensemble_workflow-20260101_000000")
    for day in range(2, 1 + MAX_UNSTARTED_RUNS):
        (tmp_path / f"matensemble_workflow-202601{day:02}_000000").mkdir()
    catalog = Catalog(tmp_path, clock)
    assert catalog.read_status().run == "matensemble_workflow-20260101_000000"
    (tmp_path / "matensemble_workflow-20260201_000000").mkdir()
    with pytest.raises(RunDirectoryError, match="20260201_000000: this run has not been started"):
        catalog.read_status()


def test_renamed_run_directory_is_a_run(write_run, tmp_path, clock):
    write_run().rename(tmp_path / "copper")
    assert Catalog(tmp_path / "copper", clock).read_status().sequence == 17


def test_root_may_be_a_link(write_run, tmp_path, clock):
    (tmp_path / "latest").symlink_to(write_run())
    assert Catalog(tmp_path / "latest", clock).read_status().sequence == 17


def test_linked_run_is_not_taken_from_a_folder(write_run, tmp_path, clock):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "matensemble_workflow-20260101_120000").symlink_to(write_run())
    with pytest.raises(RunDirectoryError, match="no run is here yet"):
        Catalog(folder, clock).read_status()


def make_link(path, tmp_path):
    path.rename(tmp_path / "foreign.json")
    path.symlink_to(tmp_path / "foreign.json")


def make_pipe(path, tmp_path):
    path.unlink()
    os.mkfifo(path)


def make_directory(path, tmp_path):
    path.unlink()
    path.mkdir()


def make_socket(path, tmp_path):
    path.unlink()
    before = Path.cwd()
    os.chdir(path.parent)  # socket addresses are short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(before)


@pytest.mark.parametrize("replace", [make_link, make_pipe, make_directory, make_socket])
def test_only_regular_files_are_opened(write_run, tmp_path, clock, replace):
    run_dir = write_run()
    replace(run_dir / "status.json", tmp_path)
    with pytest.raises(FormatError, match="not a regular file"):
        Catalog(run_dir, clock).read_status()


def test_size_is_bounded(write_run, clock, monkeypatch):
    monkeypatch.setattr("matensemble.dashboard.catalog.MAX_STATUS_BYTES", 100)
    with pytest.raises(FormatError, match="larger than 100 bytes"):
        Catalog(write_run(), clock).read_status()


def test_disk_is_asked_once_a_second(write_run):
    now = 0.0
    catalog = Catalog(write_run(), lambda: now)
    assert catalog.read_status().sequence == 17
    write_run(sequence=18)
    now = 0.9 * REFRESH_SECONDS
    assert catalog.read_status().sequence == 17
    now = REFRESH_SECONDS
    assert catalog.read_status().sequence == 18


def test_failure_is_remembered_as_long(tmp_path, write_run):
    now = 0.0
    catalog = Catalog(tmp_path, lambda: now)
    for _ in range(2):
        with pytest.raises(RunDirectoryError):
            catalog.read_status()
        write_run()
    now = REFRESH_SECONDS
    assert catalog.read_status().sequence == 17


def test_status_of_a_driver_that_was_replaced_is_not_the_last_word(
    write_run, tmp_path, clock, monkeypatch
):
    run_dir = write_run(state="interrupted")
    owner = Owner.of_this_process(2, "2026-01-02T12:00:00+00:00")
    (run_dir / "owner-2.json").write_text(json.dumps(owner.to_json()))
    waited = []

    def publish(seconds):
        waited.append(seconds)
        write_run(epoch=2, sequence=1)

    monkeypatch.setattr("matensemble.runs.time.sleep", publish)
    status = Catalog(run_dir, clock).read_status()
    assert (status.epoch, status.state) == (2, "running")
    assert len(waited) == 1


def test_renamed_run_of_a_folder_is_a_run(write_run, tmp_path, clock):
    write_run("matensemble_workflow-20260101_000000")
    write_run("matensemble_workflow-20260103_000000")
    renamed = write_run("copper")
    (renamed / "workflow.json").write_text("{}")
    noon = datetime(2026, 1, 2, 12).timestamp()
    os.utime(renamed / "workflow.json", (noon, noon))
    (tmp_path / "data").mkdir()
    (tmp_path / "linked").symlink_to(renamed)
    (tmp_path / "hostile").mkdir()
    (tmp_path / "hostile" / "workflow.json").symlink_to(renamed / "workflow.json")
    catalog = Catalog(tmp_path, clock)
    names = [seen.id for seen in catalog.list_runs()[0]]
    assert [name[-15:] for name in names] == ["20260103_000000", "copper", "20260101_000000"]
    assert catalog.find("copper").root == tmp_path / "copper"
    for name in ("data", "linked", "hostile"):
        with pytest.raises(RunDirectoryError):
            catalog.find(name)


def test_directories_of_other_names_are_asked_once_and_slowly(tmp_path, monkeypatch):
    now = 1000.0
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(int(MAX_OPERATIONS) + 20):
        (folder / f"data-{number}").mkdir()
    catalog = Catalog(folder, lambda: now)
    asked = []
    lstat = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: asked.append(str(path)) or lstat(path))
    assert catalog.list_runs() == ([], 0)
    assert len(asked) == MAX_OPERATIONS
    for _ in range(3):
        now += 2 * SCAN_SECONDS
        assert catalog.list_runs() == ([], 0)
    assert len(asked) == len(set(asked)) == MAX_OPERATIONS + 20
