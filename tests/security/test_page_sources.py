"""The page shows what runs hold as text, brings all of its code, and asks nobody else."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "frontend" / "src"
STATIC = ROOT / "packages/dashboard/src/matensemble/dashboard/static"
MARKUP = re.compile(
    r"dangerouslySetInnerHTML|\b(?:inner|outer)HTML\b|insertAdjacentHTML|createContextualFragment|"
    r"DOMParser|document\.write|\bsrcdoc\b|\beval\(|new Function\b|javascript:|"
    r"\bsetAttribute\(\s*[\"']on",
    re.IGNORECASE,
)
ADDRESS = re.compile(r"https?://[\w.-]+")
NAMES = {
    *("http://localhost", "http://www.w3.org", "http://www.eclipse.org", "https://github.com"),
    *("https://react.dev", "https://reactflow.dev", "https://reactrouter.com"),
    "https://rolldown.rs",
}
"""Addresses that no browser asks: in namespaces, messages and notices of libraries."""
KEPT = re.compile(r"(?:localStorage|sessionStorage|document\.cookie|indexedDB)")

built = pytest.mark.skipif(
    not (STATIC / "index.html").is_file(), reason="the page is not built here: dev.py frontend"
)


def sources():
    paths = [path for path in SOURCES.rglob("*") if path.suffix in (".ts", ".tsx", ".css")]
    return sorted(path for path in paths if "test" not in path.relative_to(SOURCES).parts)


def found_in(pattern, paths):
    return {
        f"{path.name}: {match}"
        for path in paths
        for match in pattern.findall(path.read_text(encoding="utf-8"))
    }


def test_no_source_makes_markup_of_text():
    assert len(sources()) > 50
    assert found_in(MARKUP, sources()) == set()
    assert found_in(ADDRESS, sources()) == set()


def test_only_the_theme_is_kept_in_the_browser():
    """The token is in the cookie alone, which no script can read."""
    assert {match.partition(":")[0] for match in found_in(KEPT, sources())} == {"theme.ts"}


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.found and self.found[-1][0] in ("script", "style"):
            self.inline += data.strip()


@pytest.mark.parametrize(
    "path", [ROOT / "frontend/index.html", pytest.param(STATIC / "index.html", marks=built)]
)
def test_page_has_nothing_inline_and_nothing_from_elsewhere(path):
    page = Elements(path.read_text(encoding="utf-8"))
    assert page.inline == ""
    for tag, attributes in page.found:
        assert tag not in ("style", "base", "iframe", "object", "embed", "form")
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href"):
            address = attributes.get(name) or "./"
            assert re.match(r"(?:\./|/src/)", address), address
    assert [attributes for tag, attributes in page.found if tag == "script" and "src" in attributes]


@built
def test_built_code_asks_nobody_else():
    assets = [path for path in (STATIC / "assets").iterdir() if path.suffix in (".js", ".css")]
    assert len(assets) > 5
    assert {match.split(": ")[1] for match in found_in(ADDRESS, assets)} <= NAMES
    assert not found_in(re.compile(r"@import|url\(\s*[\"']?(?:https?:)?//"), assets)
    maps = [path for path in STATIC.rglob("*") if path.suffix == ".map"]
    assert maps == []
