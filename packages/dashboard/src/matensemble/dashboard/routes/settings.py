"""What this dashboard shows and may do."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter
from pydantic import BaseModel

from matensemble.dashboard.catalog import Catalog
from matensemble.terminal import clean_line


class SettingsResponse(BaseModel):
    """How the dashboard was started."""

    version: str
    """Of the package `matensemble-dashboard`."""
    root: str
    """Name of the run, or of the folder of runs, that is shown; for display."""
    is_single_run: bool
    """Whether one run is shown, and not a folder of them."""
    allow_actions: bool
    """Whether it takes requests to the driver of a run."""


def settings_routes(catalog: Catalog, *, allow_actions: bool) -> APIRouter:
    """Return the route of the settings."""
    router = APIRouter()
    own_version = version("matensemble-dashboard")

    @router.get("/settings", operation_id="readSettings", summary="How it was started")
    def read_settings() -> SettingsResponse:
        return SettingsResponse(
            version=own_version,
            root=clean_line(catalog.root.name or catalog.root),
            is_single_run=catalog.is_run,
            allow_actions=allow_actions,
        )

    return router
