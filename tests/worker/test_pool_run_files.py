"""How a slot writes results: in one link where the file system can, else as everybody does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from matensemble import disk, wire
from matensemble.pool.run_files import RunFiles

NAME = "chore-x-0001"


def _has_nameless_files(directory: Path) -> bool:
    try:
        os.close(os.open(directory, os.O_WRONLY | os.O_TMPFILE))
    except (AttributeError, OSError):
        return False
    return Path("/proc/self/fd").is_dir()


def test_a_result_gets_its_name_in_one_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not _has_nameless_files(tmp_path):
        pytest.skip("this file system has no files without a name")

    def refuse(*_: object) -> None:
        pytest.fail("written in two steps")

    monkeypatch.setattr(disk, "write_atomic", refuse)
    path = tmp_path / "result.pickle"
    RunFiles().commit(str(path), wire.dumps(42), 1, NAME)
    assert wire.load_result(path, NAME) == 42
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_result_of_an_earlier_attempt_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "result.pickle"
    files = RunFiles()
    files.commit(str(path), wire.dumps("first"), 1, NAME)
    files.commit(str(path), wire.dumps("second"), 2, NAME)
    assert wire.load_result(path, NAME) == "second"
    assert list(tmp_path.iterdir()) == [path]
