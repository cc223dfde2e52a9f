"""Equations of state of seven FCC metals, refined until each lattice constant stands still.

For each metal: energies at five strains, one chore each; a Birch-Murnaghan fit on them; and a
strategy that looks at each fit and asks for two more energies, closer to the minimum, and for the
fit that consumes them, until the lattice constant moves by less than 1e-4 Å. A last chore gathers
the fits that exist by then and writes a table, beside experimental values, and a plot.

    python examples/eos.py

The energies are those of effective medium theory (EMT) as in ASE: K. W. Jacobsen, P. Stoltze and
J. K. Nørskov, Surf. Sci. 366, 394 (1996). It takes well under a minute on two cores, and runs
unchanged inside ``flux start``. Needs ase, numpy and matplotlib, where the chores run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matensemble.chore import ChoreSpec
from matensemble.pipeline import Pipeline

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

EXPERIMENT = {
    "Cu": (3.61, 137.0),
    "Ag": (4.09, 100.7),
    "Au": (4.08, 173.2),
    "Ni": (3.52, 186.0),
    "Pd": (3.89, 180.8),
    "Pt": (3.92, 278.3),
    "Al": (4.05, 72.2),
}
"""Lattice constant (Å) and bulk modulus (GPa), both at room temperature: C. Kittel, Introduction to
Solid State Physics, 8th ed. (2005), chapter 1, table 3, and chapter 3, table 3."""

STRAINS = (-0.04, -0.02, 0.0, 0.02, 0.04)
"""Linear strains of the first round, around the experimental lattice constant."""
GPA = 160.2176634
"""One eV/Å³ in GPa."""
TOLERANCE = 1e-4
"""Å; a metal is done when its lattice constant moved by less than this in a round."""
MAX_ROUNDS = 8

pipe = Pipeline(name="equations of state")


@dataclass(frozen=True)
class Fit:
    """A Birch-Murnaghan equation of state."""

    metal: str
    points: list[tuple[float, float]]
    """Lattice constant (Å) and energy (eV/atom), all that are known."""
    history: list[float]
    """Lattice constant (Å) at the minimum, one a round."""
    energy: float
    """Energy (eV/atom) at the minimum."""
    bulk_modulus: float
    """Bulk modulus (GPa) at the minimum."""
    derivative: float
    """Its derivative with respect to pressure, without unit."""

    @property
    def a(self) -> float:
        """Lattice constant (Å)."""
        return self.history[-1]

    @property
    def is_converged(self) -> bool:
        """Whether the last round moved the lattice constant by less than the tolerance."""
        return len(self.history) > 1 and abs(self.a - self.history[-2]) < TOLERANCE

    def energy_at(self, a: np.ndarray) -> np.ndarray:
        """Return energies (eV/atom) at lattice constants (Å), above that of the minimum."""
        y = (self.a / a) ** 2 - 1
        stiffness = self.bulk_modulus / GPA * self.a**3 / 4  # B₀V₀ in eV, V₀ per atom
        return 9 / 16 * stiffness * y**2 * (2 + (self.derivative - 4) * y)


# Libraries are imported where they are used, by the chores: this script itself needs none of them.


@pipe.chore
def energy(metal: str, a: float) -> float:
    """Return the energy (eV/atom) of an FCC crystal with lattice constant `a` (Å)."""
    import numpy as np
    from ase import Atoms
    from ase.calculators.emt import EMT

    primitive_cell = a / 2 * (1 - np.eye(3))  # (0, ½, ½), (½, 0, ½), (½, ½, 0)
    atoms = Atoms(metal, cell=primitive_cell, pbc=True, calculator=EMT())
    return float(atoms.get_potential_energy())


@pipe.chore
def fit(metal: str, points: list[tuple[float, float]], history: list[float]) -> Fit:
    """Fit the five points nearest to the last minimum.

    The third-order equation of F. Birch, Phys. Rev. 71, 809 (1947), is a cubic polynomial in
    x = V^(-2/3), so the fit is linear; for the derivatives see K. Lejaeghere et al., Crit. Rev.
    Solid State Mater. Sci. 39, 1 (2014).
    """
    import numpy as np

    centre = history[-1] if history else EXPERIMENT[metal][0]
    nearest = sorted(points, key=lambda point: abs(point[0] - centre))[:5]
    a, energies = np.array(nearest).T
    x = (a**3 / 4) ** (-2 / 3)  # four atoms in the cubic cell
    polynomial = np.polynomial.Polynomial.fit(x, energies, deg=3)
    slope, curvature, third = (polynomial.deriv(order) for order in (1, 2, 3))
    minima = [root.real for root in slope.roots() if not root.imag and curvature(root.real) > 0]
    x0 = min(minima, key=lambda root: abs(root - x.mean()))
    second_by_volume = 4 / 9 * x0**5 * curvature(x0)
    third_by_volume = -20 / 9 * x0**6.5 * curvature(x0) - 8 / 27 * x0**7.5 * third(x0)
    return Fit(
        metal,
        points,
        history=[*history, float((4 * x0**-1.5) ** (1 / 3))],
        energy=float(polynomial(x0)),
        bulk_modulus=float(x0**-1.5 * second_by_volume * GPA),
        derivative=float(-1 - x0**-1.5 * third_by_volume / second_by_volume),
    )


@pipe.strategy(triggers=[fit])
def refine(last: Fit) -> list[ChoreSpec] | None:
    """Ask for two energies half as far from the minimum as before, and for the fit with them."""
    num_rounds = len(last.history)
    if last.is_converged or num_rounds == MAX_ROUNDS:
        return None
    strain = STRAINS[-1] / 2 ** (num_rounds + 1)
    closer = [last.a * (1 - strain), last.a * (1 + strain)]
    energies = [ChoreSpec((last.metal, a), qualname="energy") for a in closer]
    points = [*last.points, *((a, spec.ref) for a, spec in zip(closer, energies, strict=True))]
    return [*energies, ChoreSpec((last.metal, points, last.history), qualname="fit")]


def draw(fits: list[Fit]) -> Figure:
    """Return the plot: the equations of state, and how far they are from experiment."""
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.4), layout="constrained")
    axes = figure.subplot_mosaic([["curves", "a"], ["curves", "B"]], width_ratios=[1.6, 1])
    strain = np.linspace(-0.04, 0.04, 200)
    for color, f in zip(colormaps["Dark2"].colors, fits, strict=False):
        a, energies = np.array(f.points).T
        curve = 1000 * f.energy_at(f.a * (1 + strain))
        axes["curves"].plot(100 * strain, curve, color=color, label=f.metal)
        x, y = 100 * (a / f.a - 1), 1000 * (energies - f.energy)
        axes["curves"].plot(x, y, "o", color=color, mec="white")
        for panel, value in (("a", f.a), ("B", f.bulk_modulus)):
            deviation = 100 * (value / EXPERIMENT[f.metal]["aB".index(panel)] - 1)
            bar = axes[panel].bar(f.metal, deviation, color=color, width=0.65)
            axes[panel].bar_label(bar, fmt="%+.1f", padding=2, fontsize=8)
    axes["curves"].legend(frameon=False, loc="upper center", ncols=2)
    axes["curves"].set(title="Birch-Murnaghan fits", ylabel="energy above the minimum (meV/atom)")
    axes["curves"].set(xlabel="linear strain (%)", xlim=(-4.2, 4.2), ylim=(-5, 240))
    for panel, title in (("a", "Lattice constant"), ("B", "Bulk modulus")):
        axes[panel].set(title=title, ylabel="EMT, from experiment (%)")
        axes[panel].axhline(0, color="black", lw=0.8)
        axes[panel].margins(y=0.2)
    for each in axes.values():
        each.spines[["top", "right"]].set_visible(False)
    return figure


@pipe.chore
def report(fits: list[Fit]) -> dict[str, Path | str]:
    """Write table and plot into the directory of this chore; return the text and the paths."""
    import csv

    last = {f.metal: f for f in fits}  # the fits come in order: of each metal the last one stays
    columns = [
        "metal",
        "a/Å",
        "a exp.",
        "Δa/%",
        "B/GPa",
        "B exp.",
        "ΔB/%",
        "B'",
        "points",
        "rounds",
    ]
    text = "{:5}{:>9}{:>8}{:>8}{:>8}{:>8}{:>8}{:>6}{:>8}{:>8}".format(*columns)
    table, plot = Path("eos.csv").absolute(), Path("eos.png").absolute()
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow([*columns, "converged"])
        for metal, (a, bulk_modulus) in EXPERIMENT.items():
            if (f := last.get(metal)) is None:  # an energy or the fit failed
                continue
            row = [metal, f.a, a, 100 * (f.a / a - 1), f.bulk_modulus, bulk_modulus]
            row += [100 * (f.bulk_modulus / bulk_modulus - 1), f.derivative, len(f.points)]
            row += [len(f.history), "yes" if f.is_converged else "no"]
            rows.writerow(row)
            text += "\n{:5}{:9.4f}{:8.2f}{:+8.2f}{:8.1f}{:8.1f}{:+8.1f}{:6.2f}{:8}{:8}".format(*row)
            text += "" if f.is_converged else "  not converged"
    draw([last[metal] for metal in EXPERIMENT if metal in last]).savefig(plot, dpi=160)
    return {"text": text, "table": table, "plot": plot}


for metal, (guess, _) in EXPERIMENT.items():
    lattice_constants = [guess * (1 + strain) for strain in STRAINS]
    fit(metal, [(a, energy(metal, a)) for a in lattice_constants], history=[])
summary = report(pipe.gather(fit))

pipe.submit(progress=True)
print(f"running in {pipe.run_dir}", flush=True)
pipe.results(timeout=None)
result = summary.result()
print(f"\n{result['text']}\n\ntable: {result['table']}\nplot:  {result['plot']}")
