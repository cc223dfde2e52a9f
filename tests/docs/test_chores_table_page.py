"""The reference names the columns of exported tables, all of them and in their order."""

from __future__ import annotations

import re
from pathlib import Path

from matensemble.dashboard.schemas import ChoreRow

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "chores-table.md"


def test_every_column_is_described_in_its_place() -> None:
    described = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert described == list(ChoreRow.model_fields)
