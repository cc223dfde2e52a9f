"""One line of the table of benchmarks: what was measured, its floor in the same run, its target."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A measured figure."""

    target: str
    """S1 to S9, the numbering of docs/explanation/performance.md."""
    what: str
    value: float
    unit: str
    ratio: float | None = None
    """To a floor of the same run."""
    limit: float | None = None
    """What the target demands of `compared`."""
    at_least: bool = False
    """Whether more is better."""
    is_ratio_limited: bool = True
    """Whether the target speaks of the ratio, not of the value."""

    @property
    def verdict(self) -> str:
        """``ok``, or by how much the target is missed, or nothing where there is none."""
        compared = self.ratio if self.is_ratio_limited else self.value
        if self.limit is None or compared is None:
            return ""
        is_met = compared >= self.limit if self.at_least else compared <= self.limit
        return "ok" if is_met else f"missed by {abs(compared / self.limit - 1):.0%}"


HEADER = f"{'':3} {'what':44} {'value':>9} {'unit':8} {'ratio':>6} {'target':>9}  verdict"


def print_rows(rows: Iterable[Row]) -> None:
    """Print rows as they come."""
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        target = "" if row.limit is None else f"{'≥' if row.at_least else '≤'} {row.limit:g}"
        if target and row.is_ratio_limited:
            target += " ×"
        print(
            f"{row.target:3} {row.what:44} {row.value:9.1f} {row.unit:8} {ratio:>6} {target:>9}"
            f"  {row.verdict}",
            flush=True,
        )
