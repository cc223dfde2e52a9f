"""One driver a run directory."""

from __future__ import annotations

import json
import os
import threading

import pytest

from matensemble.runtime.owner import claim
from matensemble.runtime.testing import ManualClock
from matensemble.workdir import RunDir


def test_a_claim_names_who_drives(tmp_path):
    assert claim(RunDir(tmp_path), ManualClock()) == 1
    owner = json.loads((tmp_path / "owner.json").read_text())
    assert owner["pid"] == os.getpid()
    assert owner["epoch"] == owner["format"] == 1
    assert owner["started_at"] == "2026-01-01T00:00:00+00:00"
    assert [path.name for path in tmp_path.iterdir()] == ["owner.json"]
    assert (tmp_path / "owner.json").stat().st_mode & 0o777 == 0o600


def test_a_second_claim_is_refused_and_changes_nothing(tmp_path):
    claim(RunDir(tmp_path), ManualClock())
    before = (tmp_path / "owner.json").read_bytes()
    with pytest.raises(FileExistsError):
        claim(RunDir(tmp_path), ManualClock(time=2e9))
    assert (tmp_path / "owner.json").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_of_many_at_once_one_wins(tmp_path):
    barrier = threading.Barrier(8)
    outcomes = []

    def race(number):
        barrier.wait()
        draft = RunDir(tmp_path / "run")
        try:
            outcomes.append(claim(draft, ManualClock()))
        except OSError as error:
            outcomes.append(type(error))

    (tmp_path / "run").mkdir()
    threads = [threading.Thread(target=race, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes, key=str) == [1, *[FileExistsError] * 7]
