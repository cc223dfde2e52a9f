"""Put the figures of a results file into the documentation: a table, and a picture of each chart.

    python benchmarks/report.py [RESULTS]

Replaces what stands between the two marks in docs/explanation/performance.md, and the pictures
beside the results file. Needs matplotlib.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from results import Results
from row import LeftOut, Row

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/explanation/performance.md"
RESULTS = ROOT / "docs/images/performance/results.json"
BEGIN = "<!-- made by benchmarks/report.py: begin -->"
END = "<!-- made by benchmarks/report.py: end -->"
OURS_COLOUR, OTHER_COLOUR = "#0b6e99", "#a9b4bd"


def main() -> None:
    """Write the table and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS)
    path = parser.parse_args().results.resolve()
    results = Results.load(path)
    pictures = draw(results, path.parent)
    text = "\n".join([*introduction(results), "", *table(results), "", *links(pictures)])
    replace_between_marks(PAGE, text)


def replace_between_marks(page: Path, text: str) -> None:
    """Replace what stands between the two marks of a page.

    Raises
    ------
    ValueError
        If a mark is missing.
    """
    content = page.read_text()
    before, begin, rest = content.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no marks {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


# --- the table ------------------------------------------------------------------------------------


def introduction(results: Results) -> Iterator[str]:
    """Yield what the figures were measured on."""
    versions = ", ".join(f"{name} {number}" for name, number in results.versions.items())
    yield f"Measured on {results.date}, on {results.machine}, with {versions}."


def table(results: Results) -> Iterator[str]:
    """Yield the lines of the table, in Markdown."""
    yield "| | What | Value | Ratio | Target | |"
    yield "|---|---|---|---|---|---|"
    for row in results.rows:
        what = re.sub(r"([|<>])", r"\\\1", row.what.strip())
        if isinstance(row, LeftOut):
            yield f"| {row.target} | {what} | | | | left out: {row.why} |"
            continue
        indent = "… " if row.what.startswith(" ") else ""
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        verdict = "met" if row.verdict == "ok" else row.verdict
        value = f"{row.value:,.0f}" if row.value >= 100 else f"{row.value:.1f}"
        cells = (row.target, indent + what, f"{value} {row.unit}", ratio, row.demand, verdict)
        yield f"| {' | '.join(cells)} |"


# --- the pictures ---------------------------------------------------------------------------------


def links(pictures: dict[str, Path]) -> Iterator[str]:
    """Yield the lines that show the pictures on the page."""
    for title, path in pictures.items():
        yield f"![{title}](../{path.relative_to(ROOT / 'docs').as_posix()})"
        yield ""


def draw(results: Results, folder: Path) -> dict[str, Path]:
    """Draw each chart as an SVG file; return the files by title."""
    charts: dict[str, list[Row]] = {}
    for row in results.rows:
        if isinstance(row, Row) and row.chart:
            charts.setdefault(row.chart, []).append(row)
    pictures = {}
    for title, rows in charts.items():
        name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
        pictures[title] = folder / f"{name}.svg"
        draw_chart(title, rows, pictures[title])
    return pictures


def draw_chart(title: str, rows: list[Row], path: Path) -> None:
    """Draw one chart: a bar for each row, the value written beside it."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # The same figures give the same file, and text stays text.
    mpl.rcParams.update({"svg.hashsalt": "matensemble", "svg.fonttype": "none"})
    is_ratio = rows[0].unit == "s"
    values = [row.ratio or 0.0 if is_ratio else row.value for row in rows]
    colours = [OURS_COLOUR if "MatEnsemble" in row.bar else OTHER_COLOUR for row in rows]
    figure = Figure(figsize=(7.5, 0.8 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([row.bar for row in rows], values, color=colours)
    axes.bar_label(bars, [f"{v:.2f}" if is_ratio else f"{v:,.0f}" for v in values], padding=4)
    if is_ratio:
        axes.axvline(1.0, color="black", linewidth=0.8)
    axes.margins(x=0.12)
    axes.invert_yaxis()
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
