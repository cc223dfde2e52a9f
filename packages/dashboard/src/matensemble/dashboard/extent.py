"""The window of time that a question is about, and that of the run.

Owns what questions about time have in common; asks the catalog whether a run goes on. Called by the
routes and the report.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from datetime import datetime
from math import ceil, floor
from typing import Annotated

from fastapi import Query
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, NonNegativeInt

from matensemble.dashboard.catalog import Catalog
from matensemble.dashboard.index.bins import Window, extent_of

MAX_INSTANT = 1e11
"""Seconds since the Unix epoch that may be asked for: the year 5138."""

Instant = Annotated[
    float | None,
    Query(ge=0, le=MAX_INSTANT, allow_inf_nan=False, description="Seconds since the Unix epoch"),
]


class ExtentResponse(BaseModel):
    """From when to when there is something to see."""

    start: NonNegativeInt
    """First record of the run, in whole seconds since the Unix epoch."""
    end: NonNegativeInt
    """Its last record; of a run that goes on, the last sign of life of its driver, by its clock."""
    is_growing: bool
    """Whether the run goes on, so that `end` will move."""

    @property
    def window(self) -> Window:
        """From its beginning to its end so far."""
        return Window(self.start, self.end)


NOTHING = ExtentResponse(start=0, end=0, is_growing=False)
"""Of a run in which nothing has happened yet."""


def find_extent(database: sqlite3.Connection, catalog: Catalog, run_id: str) -> ExtentResponse:
    """Return from when to when a run lasts; `NOTHING` where it was not started.

    Raises
    ------
    RunDirectoryError
        If there is no run of that name.
    """
    alive_at = _alive_at(catalog, run_id)
    extent = extent_of(database, alive_at)
    if extent is None:
        return NOTHING
    return ExtentResponse(
        start=max(extent.start, 0), end=max(extent.end, 1), is_growing=alive_at is not None
    )


def choose_window(extent: ExtentResponse, start: float | None, end: float | None) -> Window:
    """Return the window that is asked for; None stands for the beginning or end of the run.

    Raises
    ------
    RequestValidationError
        If it ends before it begins.
    """
    window = Window(
        extent.start if start is None else floor(start), extent.end if end is None else ceil(end)
    )
    if window.seconds < 0 or (window.seconds == 0 and extent is not NOTHING):
        problem = {"loc": ("query", "end"), "msg": "The window ends before it begins."}
        raise RequestValidationError([problem])
    return window


def _alive_at(catalog: Catalog, run_id: str) -> float | None:
    """Return when a driver that still works was last seen, by its own clock; else None."""
    look = catalog.look(run_id).look
    if look is None or look.lost is not None or look.status is None:
        return None
    if look.status.state.is_terminal or look.status.updated_at is None:
        return None
    with suppress(ValueError):  # whatever stands in its file
        return datetime.fromisoformat(look.status.updated_at).timestamp()
    return None
