"""Holds the page about security to the tests that it names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "security.md"
TEXT = PAGE.read_text(encoding="utf-8")
REQUIREMENTS = [f"R{number}" for number in range(1, 15)]
LINKED = sorted(set(re.findall(r"\]\(([^)\s]*tests/[^)\s]*)\)", TEXT)))


def rows() -> dict[str, str]:
    """Return the rows of the table of requirements by their number."""
    found = re.findall(r"^\| (R\d+) \|(.*)\|$", TEXT, re.MULTILINE)
    assert len(found) == len(dict(found)), "a requirement stands there twice"
    return dict(found)


def test_every_requirement_is_there_in_order():
    assert list(rows()) == REQUIREMENTS


@pytest.mark.parametrize("requirement", REQUIREMENTS)
def test_every_requirement_is_held_by_a_test(requirement):
    told, _limit, held_by = rows()[requirement].rsplit("|", 2)
    assert len(told.strip()) > 20
    assert set(re.findall(r"\]\(([^)]*)\)", held_by)) & set(LINKED)


@pytest.mark.parametrize("link", LINKED)
def test_what_is_linked_is_a_test(link):
    path = (PAGE.parent / link).resolve()
    assert path.is_relative_to(ROOT / "tests")
    assert re.search(r"^def test_", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_test_about_security_is_named():
    paths = [
        *(ROOT / "tests" / "security").glob("test_*.py"),
        *(ROOT / "tests").glob("*/test_*_security*.py"),
    ]
    linked = {(PAGE.parent / link).resolve() for link in LINKED}
    assert len(paths) > 5
    assert set(paths) - linked == set()


def test_what_guards_pools_is_said_with_its_tests():
    row = rows()["R14"]
    assert "CURVE" in row
    assert "mode 0600" in row
    assert "test_pool_" in row


def test_who_reports_a_weakness_finds_the_page():
    assert "docs/explanation/security.md" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
