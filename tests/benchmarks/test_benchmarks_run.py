"""Each benchmark runs, at sizes that say nothing of speed, so that none of them rots."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings, strategies as st

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

FEW = ("--share", 0.002)


@pytest.fixture(scope="module")
def load():
    """Import a module of the benchmarks, as these import one another."""
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module
    sys.path.remove(str(BENCHMARKS))


def run(script: str, *arguments: object) -> str:
    """Run a benchmark and return what it prints."""
    command = [sys.executable, "-W", "error", str(BENCHMARKS / script), *map(str, arguments)]
    outside = {k: v for k, v in os.environ.items() if not k.startswith("FLUX_")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=outside)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- every command --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.benchmark
@pytest.mark.parametrize(
    ("script", "arguments", "targets"),
    [
        ("authoring.py", ("--small", 10, "--large", 20, "--rounds", 1), {"S4"}),
        ("manager_core.py", (20, 40), {"S5"}),
        ("journal.py", (20,), {"J"}),
        ("worker_start.py", ("--rounds", 1), {"S6"}),
        ("makespan.py", ("--rounds", 1, "--seconds", 0.05, "--shapes", "Cycles", *FEW), {"S7"}),
        ("small_chores.py", ("--rounds", 1, *FEW), {"S3", "S9"}),
    ],
)
def test_a_benchmark_prints_its_table(script: str, arguments: tuple, targets: set[str]) -> None:
    lines = run(script, *arguments).splitlines()
    head = next(
        number for number, line in enumerate(lines) if line.split()[:2] == ["what", "value"]
    )
    found = {line.split()[0] for line in lines[head + 1 :] if not line.startswith(" ")}
    assert found == targets


@pytest.mark.slow
@pytest.mark.benchmark
def test_the_table_of_all_can_be_kept_and_told(load, tmp_path: Path, monkeypatch) -> None:
    kept = tmp_path / "results.json"
    printed = run("__main__.py", "--quick", "--only", "J", "--results", kept)
    results = load("results").Results.load(kept)
    assert [row.target for row in results.rows] == ["J"] * 4
    assert results.versions["Python"] in printed
    report = load("report")
    lines = list(report.table(results))
    assert len(lines) == 2 + 4
    assert all(line.count("|") == 7 for line in lines)


# --- what they measure ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.benchmark
@pytest.mark.parametrize("kind", ["calls", "programs"])
def test_ours_has_figures_for_chores_with_jobs_of_their_own(load, kind: str) -> None:
    ours = load("ours")
    figures = ours.measure(ours.Setting(2, workers="job"), kind, cold=2, warm=3)
    assert figures.keys() == {"cold", "warm"}
    assert all(seconds > 0 for seconds in figures.values())


@pytest.mark.slow
@pytest.mark.benchmark
@pytest.mark.parametrize("kind", ["calls", "programs"])
def test_a_peer_has_figures(load, kind: str) -> None:
    figures = load("peers").measure(sys.executable, "processes", kind, slots=2, cold=2, warm=3)
    assert figures.keys() == {"version", "cold", "warm"}


@pytest.mark.skipif(find_spec("hyperqueue") is not None, reason="HyperQueue is installed")
@pytest.mark.slow
@pytest.mark.benchmark
def test_a_peer_that_is_not_installed_is_left_out_with_a_word(load) -> None:
    peers, small = load("peers"), load("small_chores")
    with pytest.raises(peers.PeerError, match="not installed"):
        peers.measure(sys.executable, "hyperqueue", "programs", slots=1)
    case = small.peer_case("hyperqueue", "programs", 1, {"cold": 1, "warm": 1}, sys.executable)
    measured = {**small.measure([case], 2), small.OURS: {"warm": 2.0, "cold": 1.0}}
    left_out, *rows = small.COMPARISONS["programs", "local"].rows(measured)
    assert "not installed" in left_out.why
    assert [(row.value, row.ratio) for row in rows] == [(2.0, None), (1.0, None)]


def test_a_comparison_divides_by_the_system_that_the_target_names(load) -> None:
    small = load("small_chores")
    floor = load("peers").PEERS["executorlib"].title
    measured = {small.OURS: {"warm": 30.0, "cold": 5.0}, floor: {"warm": 20.0, "cold": 10.0}}
    rows = list(small.COMPARISONS["calls", "local"].rows(measured))
    assert [row.ratio for row in rows] == [1.5, 1.0, 0.5, 1.0]
    assert [row.verdict for row in rows] == ["ok", "", "missed by 58%", ""]


# --- graphs and their simulation ------------------------------------------------------------------


def test_shapes_are_graphs_in_order_and_always_the_same(load) -> None:
    shapes = load("workflow_shapes").shapes
    for shape, again in zip(shapes(), shapes(), strict=True):
        assert shape == again
        assert 100 <= len(shape.steps) <= 200
        for place, step in enumerate(shape.steps):
            assert step.seconds > 0
            assert all(0 <= upstream < place for upstream in step.upstream)


def test_a_shape_is_scaled_as_a_whole(load) -> None:
    for shape in load("workflow_shapes").shapes(0.2):
        scaled = shape.scaled(60.0)
        assert scaled.work == pytest.approx(60.0)
        assert scaled.critical_path / scaled.work == pytest.approx(shape.critical_path / shape.work)


@settings(deadline=None, max_examples=25)
@given(slots=st.integers(1, 20), place=st.integers(0, 5))
def test_a_simulation_is_within_the_bounds_of_list_scheduling(slots: int, place: int) -> None:
    modules = _modules("workflow_shapes", "makespan")
    shape = modules[0].shapes(0.1)[place].scaled(100.0)
    makespan = modules[1].simulate(shape, slots)
    least = max(shape.critical_path, shape.work / slots)
    most = shape.critical_path + (shape.work - shape.critical_path) / slots  # Graham 1969
    assert least - 1e-6 <= makespan <= most + 1e-6


def _modules(*names: str) -> list[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(BENCHMARKS))


# --- the report -----------------------------------------------------------------------------------


def test_a_page_gets_the_table_between_its_marks(load, tmp_path: Path) -> None:
    report = load("report")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.replace_between_marks(page, "new")
    assert page.read_text() == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="no marks"):
        report.replace_between_marks(page, "new")


def test_the_page_of_the_documentation_has_the_marks(load) -> None:
    report = load("report")
    content = report.PAGE.read_text()
    assert content.count(report.BEGIN) == content.count(report.END) == 1


@pytest.mark.slow  # matplotlib
def test_a_chart_shows_the_figures_of_its_rows(load, tmp_path: Path) -> None:
    report, row, results = load("report"), load("row"), load("results")
    rows = (
        row.Row("S3", "ours", 12.0, "chores/s", 2.0, chart="Rates", bar="MatEnsemble"),
        row.Row("S3", "other", 6.0, "chores/s", 1.0, chart="Rates", bar="Other"),
        row.LeftOut("S3", "third", "not installed"),
    )
    kept = results.Results("2026-01-01", "a machine", {"Python": "3.11"}, rows)
    kept.save(tmp_path / "results.json")
    assert results.Results.load(tmp_path / "results.json") == kept
    pictures = report.draw(kept, tmp_path)
    first = pictures["Rates"].read_text()
    assert ">MatEnsemble<" in first
    assert ">12<" in first
    report.draw(kept, tmp_path)
    assert pictures["Rates"].read_text() == first


def test_results_of_another_format_are_refused(load, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"format": 0}))
    with pytest.raises(ValueError, match="format 0"):
        load("results").Results.load(path)
