"""Columns of numbers as shapes of an SVG: paths and labels, nothing but numbers in them.

Owns the geometry. Colours and markup are those of the template. Called by `facts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from math import floor, log10
from typing import NamedTuple

WIDTH, HEIGHT = 720, 150
_NUM_TICKS = 4
_DAY = 86_400


class Tick(NamedTuple):
    """A line across a chart and what stands beside it."""

    at: float
    """Its place along the axis, in units of the drawing."""
    text: str


class Chart(NamedTuple):
    """Values over time."""

    areas: dict[str, str]
    """Name → path of an area above the others."""
    line: str
    """Path of what there is at most; empty where that is not told."""
    rows: list[Tick]
    """Along the values, from the bottom."""
    columns: list[Tick]
    """Along the time."""


def draw(
    edges: Sequence[int],
    values: dict[str, Sequence[float]],
    limit: Sequence[float] = (),
) -> Chart:
    """Return a chart of steps.

    Parameters
    ----------
    edges
        Where bins begin, and where the last one ends: seconds since the Unix epoch.
    values
        Name → a value for each bin; stacked in this order.
    limit
        What there was at most in each bin; empty where that is not told.
    """
    sums = [0.0] * (len(edges) - 1)
    for column in values.values():
        sums = [low + max(value, 0.0) for low, value in zip(sums, column, strict=True)]
    step = _step(max([*sums, *limit], default=0.0))
    top = step * _NUM_TICKS
    areas: dict[str, str] = {}
    below = [0.0] * len(sums)
    for name, column in values.items():
        above = [low + max(value, 0.0) for low, value in zip(below, column, strict=True)]
        areas[name] = f"{_steps(edges, above, top)}{_steps_back(edges, below, top)}Z"
        below = above
    return Chart(
        areas,
        _steps(edges, limit, top) if any(limit) else "",
        [Tick(_y(step * i, top), f"{step * i:,g}") for i in range(_NUM_TICKS + 1)],
        _instants(edges[0], edges[-1]),
    )


def _steps(edges: Sequence[int], heights: Sequence[float], top: float) -> str:
    path = f"M0 {_y(heights[0], top):g}"
    for edge, height in zip(edges[:-1], heights, strict=True):
        path += f"H{_x(edge, edges):g}V{_y(height, top):g}"
    return f"{path}H{WIDTH}"


def _steps_back(edges: Sequence[int], heights: Sequence[float], top: float) -> str:
    path = ""
    for edge, height in zip(reversed(edges[:-1]), reversed(heights), strict=True):
        path += f"V{_y(height, top):g}H{_x(edge, edges):g}"
    return path


def _x(instant: float, edges: Sequence[int]) -> float:
    return round((instant - edges[0]) / (edges[-1] - edges[0]) * WIDTH, 1)


def _y(value: float, top: float) -> float:
    return round(HEIGHT - value / top * HEIGHT, 1)


def _step(highest: float) -> float:
    """Return a round distance between ticks such that the last is not below a value."""
    if highest <= 0:
        return 1.0
    least = highest / _NUM_TICKS
    size = 10.0 ** floor(log10(least))
    return next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= least * 0.9999)


def _instants(start: int, end: int) -> list[Tick]:
    shape = "%H:%M:%S" if end - start < 600 else "%H:%M" if end - start < _DAY else "%d %b %H:%M"
    return [
        Tick(
            WIDTH * i / _NUM_TICKS,
            datetime.fromtimestamp(start + (end - start) * i / _NUM_TICKS, UTC).strftime(shape),
        )
        for i in range(_NUM_TICKS + 1)
    ]
