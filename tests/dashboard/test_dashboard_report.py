"""The report: one file that says what a run was, runs nothing, and shows hostile text as text."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import re
import stat
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from matensemble.cli import InstalledCommands
from matensemble.dashboard import create_dashboard_app
from matensemble.dashboard.report import charts, facts, page
from matensemble.dashboard.report.command import report
from matensemble.dashboard.security import Access
from matensemble.errors import RunDirectoryError
from matensemble.records import JOURNAL_FORMAT, RecordKind, encode_journal_record, journal_stamp
from matensemble.workdir import RunDir

ROOT = Path(__file__).parents[2]
HOSTILE = (
    "<script>alert(1)</script>",
    "</style><script>alert(2)</script>",
    '"><img src=x onerror=alert(3)>',
    "'--><svg/onload=alert(4)>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt;&#60;i&#62;",
    "javascript:alert(5)",
    "]]><!--",
)
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "header", "footer", "section", "p"),
    *("h1", "h2", "h3", "dl", "div", "dt", "dd", "small", "span", "code", "pre", "ul", "li"),
    *("table", "thead", "tbody", "tr", "th", "td", "svg", "rect", "path", "text"),
}


def load_generator():
    spec = importlib.util.spec_from_file_location("runs", ROOT / "benchmarks" / "runs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_run = load_generator().make_run


class Seen(HTMLParser):
    """What a browser would make of a page: elements, attributes, text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.attributes, self.texts = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def assert_harmless(text):
    seen = Seen(text)
    assert seen.elements <= ALLOWED, seen.elements - ALLOWED
    names = {name for name, _ in seen.attributes}
    assert not {name for name in names if name.startswith("on")}
    assert names.isdisjoint({"href", "src", "style", "action", "xlink:href"})
    assert "http:" not in text
    assert "https:" not in text
    return seen


def write_hostile(run_dir, number=8):
    """Write a run in which each chore has a name and a failure of the corpus."""
    lines, headers = [], []

    def add(kind, chore_id=None, **fields):
        place = len(lines) + 1
        stamp = journal_stamp(1, 1e9 + place, float(place))
        lines.append(encode_journal_record(place, stamp, RecordKind(kind), chore_id, 1, fields))

    nodes = [["<b>node</b>", 4, 2]]
    add(
        "run_started",
        format=JOURNAL_FORMAT,
        run="x",
        executor=HOSTILE[0],
        nodes=nodes,
        host=HOSTILE[2],
        pid=1,
    )
    for i in range(number):
        name, text = f"g{i}{HOSTILE[i % 8]}", f"{chr(97 + i % 26) * (i + 1)} {HOSTILE[i % 8]}"
        headers.append({"id": f"c{i}", "name": name, "kind": "python", "deps": []})
        add("intent", f"c{i}")
        add("started", f"c{i}", h=HOSTILE[2])
        add("failed", f"c{i}", r="exception", x=1, d=text)
        directory = run_dir / "out" / f"c{i}"
        directory.mkdir(parents=True)
        error = {"type": text, "message": text, "traceback": f"Traceback\n{text}" * 2_000}
        (directory / "error.json").write_text(json.dumps(error))
        (directory / "stderr").write_text(f"\x1b[31m{text}\x1b[0m\n" * 500)
    add("run_state", state="failed", d=HOSTILE[1])
    (run_dir / "workflow.jsonl").write_text("".join(json.dumps(one) + "\n" for one in headers))
    (run_dir / "journal.jsonl").write_bytes(b"".join(lines))
    return run_dir


def test_says_what_a_run_was(tmp_path):
    run = make_run(tmp_path, 900)
    text = page.write_report(run).decode()
    seen = assert_harmless(text)
    assert run.root.name in seen.text
    assert "completed 891 failed 3 skipped 6" in seen.text
    assert "3 × exception and 6 skipped because of them" in seen.text
    assert "The function raised." in seen.text
    assert seen.text.index("relax") < seen.text.index("md") < seen.text.index("analyse")
    assert "256 cores" in seen.text
    assert text.count('<svg class="chart"') == 2
    assert "opened on nowhere.invalid with local: 8 nodes, 256 cores" in seen.text


def test_hostile_text_is_text(write_run):
    run_dir = write_hostile(write_run("run<i>", state="failed", detail=HOSTILE[0], host=HOSTILE[3]))
    text = page.write_report(RunDir(run_dir)).decode()
    seen = assert_harmless(text)
    for part in HOSTILE:
        assert part in seen.text
    assert "\x1b" not in text
    assert text.count("<style>") == 1


def test_policy_allows_its_own_style_and_nothing_else(tmp_path):
    text = page.write_report(make_run(tmp_path, 9)).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy


@pytest.mark.slow
def test_stays_small_and_says_what_it_left_out(write_run):
    run_dir = write_hostile(write_run("run", state="failed"), facts.MAX_GROUPS + 5)
    found = page.write_report(RunDir(run_dir))
    assert len(found) <= page.MAX_BYTES
    seen = Seen(found.decode())
    assert "5 groups." in seen.text
    assert re.search(r"\d+ causes of failures\.", seen.text)


def test_of_a_run_that_was_not_started(write_run):
    run_dir = write_run("run")
    (run_dir / "status.json").unlink()
    (run_dir / "workflow.json").write_text("{}")
    (run_dir / "workflow.jsonl").write_text(
        json.dumps({"id": "a", "name": "a", "kind": "python", "deps": []}) + "\n"
    )
    seen = assert_harmless(page.write_report(RunDir(run_dir)).decode())
    assert "It was not started." in seen.text
    assert "matensemble run" in seen.text


def test_command_writes_the_file(tmp_path):
    run = make_run(tmp_path / "runs", 30)
    path = tmp_path / "kept.html"
    result = CliRunner().invoke(report, [str(tmp_path / "runs"), "-o", str(path)])
    assert result.exit_code == 0, result.output
    assert str(path) in result.output
    assert run.root.name in path.read_text()
    result = CliRunner().invoke(report, [str(run.root), "-o", "-"])
    assert result.stdout.startswith("<!doctype html>")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_file_is_private_until_it_is_given_to_somebody(tmp_path, umask):
    run = make_run(tmp_path / "runs", 3)
    path = tmp_path / "kept.html"
    before = os.umask(umask)
    try:
        CliRunner().invoke(report, [str(run.root), "-o", str(path)])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o644)
        CliRunner().invoke(report, [str(run.root), "-o", str(path)])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644  # its owner decided so


def test_command_says_what_is_wrong(tmp_path):
    run = make_run(tmp_path / "runs", 3)
    result = CliRunner().invoke(report, [str(run.root), "-o", str(tmp_path / "no" / "where")])
    assert isinstance(result.exception, RunDirectoryError)
    assert "no report can be written" in str(result.exception)


def test_command_is_known_by_its_name():
    group = InstalledCommands("matensemble")
    assert group.get_command(group.make_context("matensemble", ["report"]), "report") is report


def test_server_sends_the_same_file(tmp_path, connect, token, monkeypatch):
    run = make_run(tmp_path, 90)
    moment = facts.datetime(2026, 1, 2, tzinfo=facts.UTC)

    class Stopped(facts.datetime):
        @classmethod
        def now(cls, tz=None):
            return moment

    monkeypatch.setattr(facts, "datetime", Stopped)
    app = create_dashboard_app(run.root, access=Access(token=token))
    answer = connect(app).ask("GET", f"/api/v1/runs/{run.root.name}/report")
    app.state.indexes.close()
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    name = f'attachment; filename="{run.root.name}.html"'
    assert answer.headers["content-disposition"] == name
    assert answer.content == page.write_report(run)


@pytest.mark.parametrize(
    ("highest", "labels"),
    [
        (0.0, ["0", "1", "2", "3", "4"]),
        (2.0, ["0", "0.5", "1", "1.5", "2"]),
        (98.0, ["0", "25", "50", "75", "100"]),
        (4_100.0, ["0", "2,000", "4,000", "6,000", "8,000"]),
    ],
)
def test_charts_have_round_numbers(highest, labels):
    drawn = charts.draw([0, 10, 20], {"busy": [highest, 0.0]})
    assert [tick.text for tick in drawn.rows] == labels
    assert drawn.areas["busy"].startswith("M0 ")
