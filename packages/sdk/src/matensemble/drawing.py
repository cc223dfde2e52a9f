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
    figure = to_figure(graph)
    import matplotlib.pyplot as plt

    # A figure made by hand belongs to no window; the picture is shown inside one that does.
    window = plt.figure(figsize=tuple(figure.get_size_inches()))
    figure.canvas.draw()
    window.figimage(figure.canvas.buffer_rgba())
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
        raise MissingExtraError(
            "drawing a picture", "matplotlib", "matensemble-sdk[draw]"
        ) from error

    drawn = sketch(graph)
    places = _layout(drawn)
    width = 1 + max((x for x, _ in places), default=0.0)
    height = 1 + max((y for _, y in places), default=0.0)
    box_inches = 0.35 + 0.085 * max((len(box.label) for box in drawn.boxes), default=10)
    figure = Figure(figsize=(max(3.0, box_inches * width), max(1.5, 0.85 * height)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    _draw_arrows(axes, drawn, places)
    _draw_boxes(axes, drawn, places)
    return figure


def _layout(drawn: Sketch) -> list[tuple[float, float]]:
    """Return column and row of each box.

    Within a row, boxes stand in the order of the mean column of what they depend on, ties in the
    order of recording; rows are centred. One pass downwards: deterministic and O(n log n).
    """
    rows: dict[int, list[int]] = {}
    for index, box in enumerate(drawn.boxes):
        rows.setdefault(box.layer, []).append(index)
    upstream: dict[int, list[int]] = {}
    for arrow in drawn.arrows:
        upstream.setdefault(arrow.target, []).append(arrow.source)
    columns: dict[int, float] = {}
    widest = max((len(row) for row in rows.values()), default=0)
    for _, row in sorted(rows.items()):
        wish: dict[int, float] = {}
        for index in row:
            known = [columns[source] for source in upstream.get(index, ()) if source in columns]
            wish[index] = sum(known) / len(known) if known else float(index)
        row.sort(key=lambda index: (wish[index], index))
        shift = (widest - len(row)) / 2
        columns.update((index, shift + column) for column, index in enumerate(row))
    order = {layer: y for y, layer in enumerate(sorted(rows))}
    return [(columns[i], float(order[box.layer])) for i, box in enumerate(drawn.boxes)]


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
        style = {
            "arrowstyle": "-|>",
            "color": "#666666",
            "lw": 0.8,
            "ls": "--" if arrow.is_gather else "-",
            "shrinkA": 9,
            "shrinkB": 9,
        }
        axes.annotate("", (x1, y1), (x0, y0), arrowprops=style, zorder=1)
        if arrow.multiplicity > 1:
            axes.text(
                (x0 + x1) / 2, (y0 + y1) / 2, f" {arrow.multiplicity}", fontsize=7, color="#666666"
            )


def _pale(colour: str) -> tuple[float, float, float]:
    """Return a colour mixed with four parts of white."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.8 + red / 5, 0.8 + green / 5, 0.8 + blue / 5
