"""Graphs as text and pictures."""

import itertools
import re
import sys
import xml.etree.ElementTree as ET

import pytest

from matensemble import drawing
from matensemble.errors import InvalidOptionError, MissingExtraError
from matensemble.pipeline import Pipeline


def step(x):
    return x


@pytest.fixture
def pipe(tmp_path):
    pipe = Pipeline(tmp_path / "runs")
    energy = pipe.chore(name="energy")(step)
    fit = pipe.chore(name="fit")(step)(energy.map(range(3)))
    pipe.exec(["lmp", fit])
    pipe.chore(name="table")(step)(pipe.gather("energy"))
    return pipe


def test_mermaid(pipe, tmp_path):
    pipe.graph(tmp_path / "g.mmd")
    text = (tmp_path / "g.mmd").read_text()
    assert text.startswith("flowchart TD\n")
    assert 'n0("chore-energy-0001"):::g0' in text
    assert 'n4["chore-lmp-0005"]' in text
    assert text.count(" --> ") == 4
    assert text.count(" -.-> n5") == 3
    pipe.graph(tmp_path / "g.md")
    assert (tmp_path / "g.md").read_text() == f"```mermaid\n{text}```\n"


def test_hostile_labels_cannot_leave_their_quotes():
    text = drawing._escape('"]; click n0 "javascript:x" <b>')
    assert not re.search(r'["<>\]]', text)


def test_many_chores_become_groups_with_counts(tmp_path):
    pipe = Pipeline(tmp_path / "runs")
    energy, fit = pipe.chore(name="energy")(step), pipe.chore(name="fit")(step)
    for _ in range(drawing.MAX_CHORES):
        fit(energy(1))
    pipe.chore(name="table")(step)(pipe.gather("fit"))
    text = drawing.to_mermaid(pipe.graph())
    assert f"energy ×{drawing.MAX_CHORES}" in text
    assert f'-->|"{drawing.MAX_CHORES}"|' in text
    assert text.count("-.->") == 1
    assert len(text.splitlines()) < 12


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_pictures_are_deterministic(pipe, tmp_path, suffix):
    pytest.importorskip("matplotlib")
    first, second = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    pipe.graph(first)
    pipe.graph(second)
    assert first.read_bytes() == second.read_bytes()
    if suffix == "svg":
        assert ET.parse(first).getroot().tag.endswith("svg")


def test_boxes_of_a_row_never_overlap_and_rows_are_limited(tmp_path):
    pipe = Pipeline(tmp_path / "runs")
    energy = pipe.chore(name="energy")(step)
    fit = pipe.chore(name="fit")(step)
    for _ in range(20):
        fit(energy.map(range(7)))
    places = drawing._layout(drawing.sketch(pipe.graph()))
    rows = {}
    for x, y in places:
        rows.setdefault(y, []).append(x)
    for row in rows.values():
        assert len(row) <= drawing.MAX_COLUMNS
        ordered = sorted(row)
        assert all(b - a > 0.999 for a, b in itertools.pairwise(ordered))


def test_unknown_suffix(pipe, tmp_path):
    with pytest.raises(InvalidOptionError, match=r"\.mmd"):
        pipe.graph(tmp_path / "g.jpeg")


def test_missing_library_names_the_extra(pipe, tmp_path, monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'matensemble-sdk\[draw\]'"):
        pipe.graph(tmp_path / "g.png")
    with pytest.raises(MissingExtraError):
        pipe.graph(show=True)
    pipe.graph(tmp_path / "g.mmd")


@pytest.mark.slow
def test_show_without_a_screen(pipe, monkeypatch):
    plt = pytest.importorskip("matplotlib.pyplot")
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()))
    plt.switch_backend("Agg")
    pipe.graph(show=True)
    assert len(shown[0].axes[0].texts) >= 6
    plt.close("all")
