"""The report as bytes of one HTML file.

Owns the form: every text of a run is escaped by the template engine, nothing in the file runs, and
its policy allows nothing but its own style. Called by ``matensemble report`` and `routes.report`.
"""

from __future__ import annotations

import base64
import hashlib
import sqlite3
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from matensemble.dashboard.catalog import Catalog
from matensemble.dashboard.index.feed import Freshness
from matensemble.dashboard.index.place import index_path
from matensemble.dashboard.index.run_index import RunIndex
from matensemble.dashboard.index.schema import open_for_reading
from matensemble.dashboard.report.charts import HEIGHT, WIDTH
from matensemble.dashboard.report.facts import Facts, collect
from matensemble.terminal import describe_seconds, plural
from matensemble.workdir import RunDir

MAX_BYTES = 5_000_000
STATES = ("completed", "running", "submitted", "failed", "skipped", "cancelled", "blocked")
"""As they stand in bars."""
_HERE = Path(__file__).parent


def write_report(run: RunDir) -> bytes:
    """Return the report of a run that nobody needs to serve; reads all of it first.

    Raises
    ------
    RunDirectoryError, FormatError
        If it is no run, or cannot be read.
    OSError, sqlite3.Error
        If the file system refuses, or its index cannot be made.
    """
    path = index_path(run)
    index = RunIndex(run, path)
    try:
        index.catch_up()
        database = open_for_reading(path)
        try:
            database.execute("BEGIN")
            catalog = Catalog(run.root)
            return render(collect(catalog, run.root.name, database, Freshness(True, 1.0, "")))
        finally:
            database.close()
    finally:
        index.close()


def report_of(
    catalog: Catalog, run_id: str, database: sqlite3.Connection, freshness: Freshness
) -> bytes:
    """Return the report of a run whose index is open; parameters and errors as `collect`."""
    return render(collect(catalog, run_id, database, freshness))


def render(facts: Facts) -> bytes:
    """Return the file; at most `MAX_BYTES`, by the bounds of what it says."""
    environment, style = _template()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = environment.get_template("report.html.jinja").render(
        facts=facts,
        style=Markup(style),
        digest=digest,
        states=STATES,
    )
    return page.encode()


@cache
def _template() -> tuple[Environment, str]:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "seconds": lambda value: "–" if value is None else describe_seconds(value),
        "hours": _describe_hours,
        "instant": _describe_instant,
        "plural": plural,
    }
    environment.globals |= {"chart_width": WIDTH, "chart_height": HEIGHT}
    return environment, (_HERE / "report.css").read_text(encoding="utf-8")


def _describe_hours(hours: float | None) -> str:
    if hours is None:
        return "–"
    return "< 0.01" if 0 < hours < 0.01 else f"{hours:,.2f}"


def _describe_instant(value: float | str | datetime | None) -> str:
    """Return an instant in UTC, to the second; as it is where it is none."""
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        elif isinstance(value, (int, float)):
            value = datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return str(value)
    return "–" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
