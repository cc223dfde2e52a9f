"""Cells of a table that is opened in a spreadsheet.

Owns the caution: names and details come from chores, and a spreadsheet would compute what looks
like a formula. Called by the routes that answer with CSV.
"""

from __future__ import annotations

from typing import Any

_COMMANDS = ("=", "+", "-", "@", "\t", "\r")


def cell(value: Any) -> Any:
    """Return a value as a cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_COMMANDS) else value
