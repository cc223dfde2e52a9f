"""The reference says of each reason code what the program says of it."""

from __future__ import annotations

import re
from pathlib import Path

from matensemble.model import Reason
from matensemble.reasons import MEANINGS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "reasons.md"


def test_every_code_has_the_words_of_the_reference() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    told = {Reason(code): (what, advice) for code, what, advice in rows}
    assert list(told) == list(Reason)
    assert {reason: tuple(meaning) for reason, meaning in MEANINGS.items()} == {
        reason: tuple(text.replace("`", "") for text in words) for reason, words in told.items()
    }
