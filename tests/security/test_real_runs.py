"""A real run that means harm and keeps secrets: who can read it, what is in it, how it is shown."""

from __future__ import annotations

import csv
import json
import os
import stat
import subprocess
import sys
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from matensemble.cli import main
from matensemble.workdir import RunDir

sys.path.append(str(Path(__file__).parent))
from asking import Asker, make_app, questions

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

CANARY = "canary-4711"
FOLDER = "<img src=x onerror='wasObeyed = 3'> &amp; {{ 7 * 7 }}"
RUN = "run <script>wasObeyed = 4<script> ';--"
TALK, ASK = "chore-talk-0001", "chore-ask-0002"
CHORES = (TALK, ASK, "chore-number-0003", "chore-refused-0005", "chore-lost-0006")
OWN = "own"
"""A file that a chore wrote itself: it follows the umask, behind the private directory."""


class Campaign(NamedTuple):
    run: RunDir
    modes: list[str]
    said: str
    """What the driver wrote to its terminal."""


def campaign(folder: Path, umask: int) -> Campaign:
    """Run the study."""
    secrets = {"AWS_SECRET_ACCESS_KEY": CANARY, "TOKEN_OF_A_STRATEGY": CANARY}
    command = [sys.executable, str(Path(__file__).with_name("campaign.py")), str(folder)]
    ended = subprocess.run(
        [*command, f"{umask:o}", CANARY],
        env=os.environ | secrets,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    return Campaign(RunDir(Path(told["run"])), told["modes"], ended.stderr)


@pytest.fixture(scope="module")
def harmful(tmp_path_factory) -> Campaign:
    """A run below a folder that means harm, renamed to something that does."""
    made = campaign(tmp_path_factory.mktemp("harmful") / FOLDER, 0o022)
    place = made.run.root.with_name(RUN)
    made.run.root.rename(place)
    return made._replace(run=RunDir(place))


def open_to_others(root: Path) -> dict[str, str]:
    """Return what others may do with the files below a directory, where that is anything."""
    paths = [root, *root.rglob("*")]
    modes = {str(path.relative_to(root)): path.lstat().st_mode & 0o077 for path in paths}
    return {name: oct(mode) for name, mode in modes.items() if mode and Path(name).name != OWN}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_run_is_private_under_any_umask(tmp_path, umask):
    made = campaign(tmp_path / "runs", umask)
    root = made.run.root
    assert open_to_others(root) == {}
    assert made.modes == ["0o100600", "0o40700"]  # of dashboard.url and control/ while it ran
    files = {str(path.relative_to(root)) for path in root.rglob("*")}
    assert {f"out/{TALK}/attempts/1/error.json", f"out/{ASK}/{OWN}"} <= files
    assert {f.partition("-")[0] for f in files if f.startswith("control/")} == {
        "control/answer",
        "control/refused",
    }
    assert not made.run.dashboard_path.exists()

    before = os.umask(umask)
    try:
        asker = Asker(make_app(root))
        assert asker.get(f"/api/v1/runs/{root.name}/chores").json()["total"] == 8
        cache = tmp_path / "cache" / "matensemble"
        assert list(cache.glob("*.sqlite"))
        assert open_to_others(cache) == {}
    finally:
        os.umask(before)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_secrets_stand_only_where_chores_need_them(harmful):
    root = harmful.run.root
    paths = [path for path in root.rglob("*") if path.is_file()]
    holding = {str(path.relative_to(root)) for path in paths if holds(path.read_bytes())}
    assert holding == {"workflow.args", "out/chore-refine-0007/spawned.args"}
    assert not holds(harmful.said.encode())


def holds(data: bytes) -> bool:
    return CANARY.encode() in data


def test_secrets_are_in_no_answer_and_no_report(harmful, tmp_path):
    run = harmful.run
    asker = Asker(make_app(run.root))
    num_answers = 0
    for chore in CHORES:
        for question in questions(asker.app, run.root.name, chore):
            answer = asker.ask(question)
            assert not holds(answer.content), question
            assert not holds(str(answer.headers).encode()), question
            num_answers += answer.is_success
    assert num_answers > 100
    index = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert index
    assert not [path for path in index if holds(path.read_bytes())]
    for request in run.control_dir.iterdir():
        assert not holds(request.read_bytes()), request


COMMANDS = [
    ("status", "--json"),
    ("status",),
    ("explain", TALK),
    ("explain", "chore-lost-0006"),
    ("explain", "chore-refused-0005"),
    ("logs", TALK),
    ("validate",),
    ("graph",),
    ("report", "-o", "-"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_tell_no_secret_and_command_no_terminal(harmful, command):
    name, *options = command
    ended = CliRunner().invoke(main, [name, str(harmful.run.root), *options])
    assert ended.output, ended
    assert not holds(ended.output.encode())
    if name == "logs":  # to a file or a pipe: the bytes as they are
        assert "\x1b[2J" in ended.stdout
    else:
        assert_commands_nothing(ended.output)


def test_driver_and_list_command_no_terminal(harmful):
    assert_commands_nothing(harmful.said)
    ended = CliRunner().invoke(main, ["list", str(harmful.run.root.parent)])
    assert RUN in ended.output
    assert_commands_nothing(ended.output)


def assert_commands_nothing(text: str) -> None:
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    assert {c for c in text if unicodedata.category(c) in kinds} <= {"\n", "\t"}


def test_what_means_harm_is_data_in_every_answer(harmful):
    """Names and messages come as JSON, or as a file to keep; controls only where a log is shown."""
    asker = Asker(make_app(harmful.run.root))
    seen = set()
    for question in questions(asker.app, RUN, TALK):
        answer = asker.ask(question)
        kind = answer.headers.get("content-type", "")
        if "json" in kind and answer.content:
            text = json.dumps(answer.json(), ensure_ascii=False)
            if "wasObeyed = 1" in text:
                seen.add(question.operation)
            if not question.operation.startswith(("readLog", "searchLog")):
                assert_commands_nothing(" ".join(texts_in(answer.json())))
        elif "csv" in kind:
            rows = list(csv.reader(answer.text.splitlines()))
            assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "@"))]
            assert_commands_nothing(answer.text.replace("\r\n", "\n"))
    assert {"readChore", "listChores", "listFailures", "readLog", "readError"} <= seen


def texts_in(value):
    """Yield every text of a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield key
            yield from texts_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts_in(part)


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data


def test_what_means_harm_is_text_in_the_report(harmful):
    ended = CliRunner().invoke(main, ["report", str(harmful.run.root), "-o", "-"])
    page = Page(ended.output)
    assert "<script>window.wasObeyed = 1</script>" in page.text
    assert RUN in page.text
    assert page.tags.isdisjoint({"script", "img", "a", "iframe", "link", "object", "base"})
    assert not [name for name in page.attributes if name.startswith("on")]
    assert page.attributes.isdisjoint({"href", "src", "style", "action", "formaction"})
