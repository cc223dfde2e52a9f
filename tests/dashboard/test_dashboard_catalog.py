from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from matensemble.dashboard.catalog import MAX_UNSTARTED_RUNS, REFRESH_SECONDS, Catalog
from matensemble.errors import FormatError, RunDirectoryError


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
