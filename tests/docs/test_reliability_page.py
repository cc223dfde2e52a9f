"""Holds the page about reliability to the tests that it names."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "reliability.md"
TEXT = PAGE.read_text(encoding="utf-8")
PROMISES = [f"P{number}" for number in range(1, 18)]
LINKED = sorted(set(re.findall(r"\]\(([^)\s]*tests/[^)\s]*)\)", TEXT)))


def rows() -> dict[str, str]:
    """Return the rows of the table of promises by their number."""
    found = re.findall(r"^\| (P\d+) \|(.*)\|$", TEXT, re.MULTILINE)
    assert len(found) == len(dict(found)), "a promise is made twice"
    return dict(found)


def test_every_promise_is_there_in_order():
    assert list(rows()) == PROMISES


@pytest.mark.parametrize("promise", PROMISES)
def test_every_promise_is_held_by_a_test(promise):
    told, _limit, held_by = rows()[promise].rsplit("|", 2)
    assert len(told.strip()) > 20
    assert set(re.findall(r"\]\(([^)]*)\)", held_by)) & set(LINKED)


@pytest.mark.parametrize("link", LINKED)
def test_what_is_linked_is_a_test(link):
    path = (PAGE.parent / link).resolve()
    assert path.is_relative_to(ROOT / "tests")
    assert re.search(
        r"^(    )?def test_|^Test\w+ = ", path.read_text(encoding="utf-8"), re.MULTILINE
    )


def test_every_test_that_is_named_exists():
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    linked = [(PAGE.parent / link).resolve() for link in LINKED]
    defined = {
        node.name
        for path in linked
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    assert named
    assert named - defined == set()
