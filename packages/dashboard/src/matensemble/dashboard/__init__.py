"""See a run in the browser: a small web server over a run directory, and its page.

Reads the versioned files that the SDK describes and nothing else: it never loads a pickle, never
imports the runtime and never writes into a run directory. `command` is the subcommand of
`matensemble`, `serve` the process behind it and behind ``submit(dashboard=True)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matensemble.dashboard.app import create_dashboard_app

__all__ = ["create_dashboard_app"]


def __getattr__(name: str) -> object:
    # The command line loads this package for every `--help`; the web framework takes half a second.
    if name == "create_dashboard_app":
        from matensemble.dashboard.app import create_dashboard_app

        return create_dashboard_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
