"""Text of chores on a terminal: nothing in it commands the terminal."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given, strategies as st

from matensemble.terminal import (
    clean_line,
    clean_text,
    describe_bytes,
    describe_seconds,
    plural,
    shorten,
    table,
)


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;owned\x07title", "title"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0;2;0;0;0\x1b\\sixel", "sixel"),
        ("\x1bc\x1b7reset", "reset"),
        ("\x9b2Jcleared", "cleared"),
        ("100%\rfake", "100%\nfake"),
        ("windows\r\nline", "windows\nline"),
        ("bell\a back\b", "bell\ufffd back\ufffd"),
        ("lone \x1b", "lone \ufffd"),
        ("exe\u202etxt.sh", "exe\ufffdtxt.sh"),
        ("tab\tand\nline stay", "tab\tand\nline stay"),
        ("µ λ ✓ 漢字 é stay", "µ λ ✓ 漢字 é stay"),
    ],
)
def test_commands_are_taken_out_and_text_stays(hostile: str, harmless: str) -> None:
    assert clean_text(hostile) == harmless


@given(st.text())
def test_whatever_comes_in_nothing_that_commands_comes_out(text: str) -> None:
    cleaned = clean_text(text)
    assert not [c for c in cleaned if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]
    assert clean_text(cleaned) == cleaned
    assert "\n" not in clean_line(text)


@given(st.text(alphabet="\x1b[]0;mPX\\\x07\x9c\x9bAz?-", max_size=30))
def test_pieces_of_sequences_never_join_into_one(text: str) -> None:
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", clean_text(text))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0.0 s"),
        (0, "0.0 s"),
        (0.00042, "0.4 ms"),
        (0.0123, "12 ms"),
        (0.099, "99 ms"),
        (0.0996, "0.1 s"),
        (0.42, "0.4 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (123, "2 min 3 s"),
        (3600, "1 h"),
        (19_250, "5 h 20 min"),
        (266_400, "3 d 2 h"),
    ],
)
def test_spans_of_time_read_well(seconds: float, words: str) -> None:
    assert describe_seconds(seconds) == words


def test_sizes_and_numbers_read_well() -> None:
    assert [describe_bytes(n) for n in (812, 3_400_000, 5e15)] == ["812 B", "3.4 MB", "5000.0 TB"]
    assert (plural(1, "chore"), plural(1200, "chore")) == ("1 chore", "1,200 chores")
    assert (shorten("abcdef", 4), shorten("abc", 4)) == ("abc…", "abc")


def test_columns_of_a_table_line_up() -> None:
    assert table(("Group", "all", "failed"), [("energy", "1,000", "·"), ("fit", "2", "1")]) == [
        "Group     all  failed",
        "energy  1,000       ·",
        "fit         2       1",
    ]
