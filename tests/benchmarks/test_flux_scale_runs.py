"""The rehearsal of a large machine runs, at a size that says nothing of speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "flux_scale.py"
NODES, JOBS, CORES_PER_NODE = 4, 12, 64

pytestmark = [pytest.mark.flux, pytest.mark.slow, pytest.mark.benchmark]


def test_every_case_runs_all_its_jobs(tmp_path: Path) -> None:
    out = tmp_path / "cases.json"
    options = ("--nodes", NODES, "--sites", "exclude", "--jobs", JOBS, "--out", out)
    outside = {k: v for k, v in os.environ.items() if not k.startswith("FLUX_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), *map(str, options)],
        capture_output=True,
        text=True,
        env=outside,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cases = json.loads(out.read_text())
    assert [(case["load"], case["runner"]) for case in cases] == [
        ("fast", "floor"),
        ("fast", "flux submit"),
        ("fast", "matensemble"),
        ("steady", "floor"),
        ("steady", "matensemble"),
    ]
    assert len(done.stdout.splitlines()) == 1 + len(cases)
    for case in cases:
        assert case["jobs"] == case["told"] == JOBS
        assert case["broker_mb_over_time"]
        limit = (NODES - 1) * CORES_PER_NODE  # rank 0 is left out
        assert 0 < max(case["busy"]) <= limit * (1 + 1e-9)
    assert all(0 < case["utilisation"] <= 1 for case in cases if case["load"] == "steady")
