"""A graph as a picture: Mermaid text with nothing else installed, PNG, SVG or PDF with matplotlib.

Owns the layout and the colours. Beyond `MAX_CHORES` chores it draws groups with counts, since
nobody can read more boxes than that. Called by `Pipeline.graph` and the command line; matplotlib
is imported only when a picture is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from matensemble import dag
from matensemble.errors import InvalidOptionError, MissingExtraError
from matensemble.model import ChoreType

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from matensemble.dag import Graph

MAX_CHORES = 300
"""Up to so many chores each has its own box."""
PALETTE = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb",
)  # fmt: skip
"""Colours that also colour-blind people can tell apart (Paul Tol's "bright" scheme)."""
MAX_COLUMNS = 12
"""Boxes in one row of a picture."""
HALF_BOX = 0.13
"""Half the height of a box, in rows: where arrows start and end."""
EXTRA = "matensemble-sdk[draw]"
"""What brings matplotlib."""
TEXT_SUFFIXES = (".mmd", ".md")
PICTURE_SUFFIXES = (".png", ".svg", ".pdf")


class Box(NamedTuple):
    """What is drawn for a chore, or for all chores of a group."""

    label: str
    """Text inside."""
    group: str
    """Decides the colour."""
    kind: str
    """A `ChoreType` value; executables have sharp corners."""
    layer: int
    """Distance from the top, in boxes."""


class Arrow(NamedTuple):
    """A dependency between two boxes."""

    source: int
    """Index of the upstream box."""
    target: int
    """Index of the downstream box."""
    multiplicity: int = 1
    """How many dependencies it stands for."""
    is_gather: bool = False
    """Whether it collects a group (dashed)."""


class Sketch(NamedTuple):
    """Everything that is drawn, before it has a place."""

    boxes: tuple[Box, ...]
    """In the order of recording."""
    arrows: tuple[Arrow, ...]
    """In the order of recording, each pair once."""


def sketch(graph: Graph) -> Sketch:
    """Return what to draw of a graph as `Pipeline.graph` returns it. O(chores + edges)."""
    grouped = len(graph) > MAX_CHORES
    layer_of = {node: layer for layer, nodes in enumerate(dag.generations(graph)) for node in nodes}
    keys: dict[str, int] = {}
    counts: dict[str, int] = {}
    boxes: list[Box] = []
    for node, data in graph.nodes(data=True):
        key = data["name"] if grouped else node
        counts[key] = counts.get(key, 0) + 1
        if key not in keys:
            keys[key] = len(boxes)
            boxes.append(Box(node, data["name"], str(data["kind"]), layer_of[node]))
    if grouped:
        boxes = [box._replace(label=f"{box.group} ×{counts[box.group]}") for box in boxes]
    name_of: dict[str, str] = {node: data["name"] for node, data in graph.nodes(data=True)}
    pairs: dict[tuple[int, int, bool], int] = {}
    for source, target in graph.edges:
        ends = (name_of[source], name_of[target]) if grouped else (source, target)
        pair = (keys[ends[0]], keys[ends[1]], False)
        pairs[pair] = pairs.get(pair, 0) + 1
    for pair in _gather_pairs(graph, keys, grouped):
        pairs.setdefault(pair, 1)
    return Sketch(
        tuple(boxes), tuple(Arrow(s, t, count, gather) for (s, t, gather), count in pairs.items())
    )


def _gather_pairs(
    graph: Graph, keys: Mapping[str, int], grouped: bool
) -> Iterable[tuple[int, int, bool]]:
    members: dict[str, list[str]] = {}
    for node, data in graph.nodes(data=True):
        members.setdefault(data["name"], []).append(data["name"] if grouped else node)
    for node, data in graph.nodes(data=True):
        target = data["name"] if grouped else node
        below = dag.descendants(graph, node) if data.get("gathers") and not grouped else set()
        for group in data.get("gathers", ()):
            for member in dict.fromkeys(members.get(group, ())):
                if member != target and member not in below:
                    yield keys[member], keys[target], True


# --- text -------------------------------------------------------------------------------------


def to_mermaid(graph: Graph) -> str:
    """Return a graph as Mermaid flowchart text, which many forges and notebooks render."""
    drawn = sketch(graph)
    groups = list(dict.fromkeys(box.group for box in drawn.boxes))
    lines = ["flowchart TD"]
    for index, box in enumerate(drawn.boxes):
        left, right = ("[", "]") if box.kind == ChoreType.EXECUTABLE else ("(", ")")
        style = groups.index(box.group) % len(PALETTE)
        lines.append(f'  n{index}{left}"{_escape(box.label)}"{right}:::g{style}')
    for arrow in drawn.arrows:
        link = "-.->" if arrow.is_gather else "-->"
        label = f'|"{arrow.multiplicity}"|' if arrow.multiplicity > 1 else ""
        lines.append(f"  n{arrow.source} {link}{label} n{arrow.target}")
    for index, colour in enumerate(PALETTE[: len(groups)]):
        lines.append(f"  classDef g{index} fill:{colour}33,stroke:{colour}")
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    """Return text as Mermaid takes it inside quotes: entities instead of what has a meaning."""
    return "".join(c if c.isalnum() or c in " -_.×" else f"#{ord(c)};" for c in text)


# --- pictures ---------------------------------------------------------------------------------


def draw(graph: Graph, path: Path) -> None:
    """Write a graph to a file; the suffix decides how.

    Parameters
    ----------
    graph
        As `Pipeline.graph` returns it.
    path
        ``.mmd`` (Mermaid), ``.md`` (the same in a Markdown block), ``.png``, ``.svg``, ``.pdf``.

    Raises
    ------
    InvalidOptionError
        If the suffix is another one.
    MissingExtraError
        If a picture is wanted and matplotlib is not installed.
    """
    suffix = path.suffix.lower()
    if suffix in TEXT_SUFFIXES:
        text = to_mermaid(graph)
        path.write_text(f"```mermaid\n{text}```\n" if suffix == ".md" else text, encoding="utf-8")
    elif suffix in PICTURE_SUFFIXES:
        figure = to_figure(graph)
        # The same graph gives the same bytes.
        metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix)
        import matplotlib as mpl

        with mpl.rc_context({"svg.hashsalt": "matensemble"}):
            figure.savefig(path, format=suffix[1:], dpi=150, metadata=metadata)
    else:
        expected = "a path ending in " + ", ".join(TEXT_SUFFIXES + PICTURE_SUFFIXES)
        raise InvalidOptionError("output_path", str(path), expected)


def show(graph: Graph) -> None:
    """Show a graph in a window, or below the cell of a notebook.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingExtraError("showing a graph", "matplotlib", EXTRA) from error

    _fill(plt.figure(), graph)
    plt.show()


def to_figure(graph: Graph) -> Figure:
    """Return a graph as a matplotlib figure: generations from top to bottom.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("drawing a picture", "matplotlib", EXTRA) from error

    figure = Figure()
    _fill(figure, graph)
    return figure


def _fill(figure: Figure, graph: Graph) -> None:
    drawn = sketch(graph)
    places = _layout(drawn)
    left = min((x for x, _ in places), default=0.0)
    right = max((x for x, _ in places), default=0.0)
    bottom = max((y for _, y in places), default=0.0)
    box_inches = 0.4 + 0.078 * max((len(box.label) for box in drawn.boxes), default=10)
    figure.set_size_inches(box_inches * (right - left + 1), 0.9 * (bottom + 0.8))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(left - 0.5, right + 0.5)
    axes.set_ylim(bottom + 0.4, -0.4)
    _draw_arrows(axes, drawn, places)
    _draw_boxes(axes, drawn, places)


def _layout(drawn: Sketch) -> list[tuple[float, float]]:
    """Return column and row of each box.

    Each generation is a row, or several where it is wider than `MAX_COLUMNS`. A box stands below
    the middle of what it depends on, as far as its neighbours let it. One pass downwards:
    deterministic and O(n log n).
    """
    layers: dict[int, list[int]] = {}
    for index, box in enumerate(drawn.boxes):
        layers.setdefault(box.layer, []).append(index)
    upstream: dict[int, list[int]] = {}
    for arrow in drawn.arrows:
        upstream.setdefault(arrow.target, []).append(arrow.source)
    columns: dict[int, float] = {}
    rows: dict[int, float] = {}
    row = 0
    for _, layer in sorted(layers.items()):
        middle = {
            i: _mean([columns[s] for s in upstream.get(i, ()) if s in columns]) for i in layer
        }
        ordered = sorted(layer, key=lambda i: (middle[i] is not None, middle[i] or 0.0, i))
        num_rows = -(-len(ordered) // MAX_COLUMNS)
        width = -(-len(ordered) // num_rows)
        for start in range(0, len(ordered), width):
            part = ordered[start : start + width]
            columns.update(zip(part, _spread([middle[i] for i in part]), strict=True))
            rows.update(dict.fromkeys(part, float(row)))
            row += 1
    return [(columns[index], rows[index]) for index in range(len(drawn.boxes))]


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _spread(wishes: list[float | None]) -> list[float]:
    """Return columns at least 1 apart, in the order given, near the wishes on average."""
    columns: list[float] = []
    for wish in wishes:
        least = columns[-1] + 1 if columns else (0.0 if wish is None else wish)
        columns.append(least if wish is None else max(least, wish))
    drift = _mean([c - w for c, w in zip(columns, wishes, strict=True) if w is not None])
    if drift is None:
        drift = (len(columns) - 1) / 2
    return [column - drift for column in columns]


def _draw_boxes(axes: Any, drawn: Sketch, places: list[tuple[float, float]]) -> None:
    groups = list(dict.fromkeys(box.group for box in drawn.boxes))
    for box, (x, y) in zip(drawn.boxes, places, strict=True):
        colour = PALETTE[groups.index(box.group) % len(PALETTE)]
        style = "square" if box.kind == ChoreType.EXECUTABLE else "round"
        axes.text(
            x, y, box.label, ha="center", va="center", fontsize=8, zorder=3,
            bbox={"boxstyle": f"{style},pad=0.4", "facecolor": _pale(colour), "edgecolor": colour},
        )  # fmt: skip


def _draw_arrows(axes: Any, drawn: Sketch, places: list[tuple[float, float]]) -> None:
    for arrow in drawn.arrows:
        (x0, y0), (x1, y1) = places[arrow.source], places[arrow.target]
        start, end = (x0, y0 + HALF_BOX), (x1, y1 - HALF_BOX)
        if arrow.source == arrow.target:  # a group that depends on itself
            start, end = (x0 + 0.3, y0 + HALF_BOX), (x0 + 0.3, y0 - HALF_BOX)
        style = {
            "arrowstyle": "-|>",
            "color": "#666666",
            "linewidth": 0.8,
            "linestyle": "--" if arrow.is_gather else "-",
            "shrinkA": 0,
            "shrinkB": 0,
            "connectionstyle": "arc3,rad=0.8" if arrow.source == arrow.target else "arc3",
        }
        axes.annotate("", end, start, arrowprops=style, zorder=1)
        if arrow.multiplicity > 1:
            middle = ((x0 + x1) / 2, (y0 + y1) / 2)
            paper = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
            label = f"{arrow.multiplicity}"
            axes.text(*middle, label, ha="center", va="center", fontsize=7, bbox=paper, zorder=2)


def _pale(colour: str) -> tuple[float, float, float]:
    """Return a colour mixed with four parts of white."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.8 + red / 5, 0.8 + green / 5, 0.8 + blue / 5
