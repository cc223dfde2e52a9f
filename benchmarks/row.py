"""One line of the table of benchmarks: what was measured, its floor in the same run, its target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A measured figure."""

    target: str
    """S1 to S9, the numbering of docs/explanation/performance.md; J for the journal."""
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
    chart: str = ""
    """Title of the chart that shows this figure beside others; empty: none does."""
    bar: str = ""
    """What its bar is called there."""

    @property
    def verdict(self) -> str:
        """``ok``, or by how much the target is missed, or nothing where there is none."""
        compared = self.ratio if self.is_ratio_limited else self.value
        if self.limit is None or compared is None:
            return ""
        is_met = compared >= self.limit if self.at_least else compared <= self.limit
        return "ok" if is_met else f"missed by {abs(compared / self.limit - 1):.0%}"

    @property
    def demand(self) -> str:
        """The target in words, empty where there is none."""
        if self.limit is None:
            return ""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}{' ×' * self.is_ratio_limited}"


@dataclass(frozen=True)
class LeftOut:
    """Something that could not be measured here."""

    target: str
    what: str
    why: str


HEADER = f"{'':3} {'what':52} {'value':>9} {'unit':8} {'ratio':>6} {'target':>9}  verdict"


def describe(row: Row | LeftOut) -> str:
    """Return a row as a line of the table."""
    if isinstance(row, LeftOut):
        return f"{row.target:3} {row.what:52} left out: {row.why}"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    line = f"{row.target:3} {row.what:52} {row.value:9.1f} {row.unit:8} {ratio:>6}"
    return f"{line} {row.demand:>9}  {row.verdict}".rstrip()


def told(rows: Iterable[Row | LeftOut]) -> Iterator[Row | LeftOut]:
    """Print rows as they come, and pass them on."""
    for row in rows:
        print(describe(row), flush=True)
        yield row


def print_rows(rows: Iterable[Row | LeftOut]) -> None:
    """Print rows as they come."""
    for _ in told(rows):
        pass
