"""Runs what the documentation shows.

All ```` ```python ```` fences of a page are one script, run in an empty directory on the local
executor. A fence that cannot run here stands below a comment that says why::

    <!-- not run: needs an MPI program -->
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```python\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
PAGES = [
    page
    for page in [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
    if "_build" not in page.parts and "```python" in page.read_text(encoding="utf-8")
]


def script_of(text: str) -> str:
    """Return the fences that run, each on the line of its page, so that errors point there."""
    lines: list[str] = []
    for fence in FENCE.finditer(text):
        if fence["reason"] is None:
            line = text.count("\n", 0, fence.start("code"))
            lines += [""] * (line - len(lines)) + fence["code"].splitlines()
    return "\n".join(lines) + "\n"


RUNNABLE = [page for page in PAGES if script_of(page.read_text(encoding="utf-8")).strip()]


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_python_fence_is_seen(page):
    text = page.read_text(encoding="utf-8")
    assert len(FENCE.findall(text)) == len(re.findall(r"^\s*```\s*python", text, re.MULTILINE))
    assert "not run: " not in FENCE.sub("", text)
    compile(script_of(text), relative(page), "exec")


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize("page", RUNNABLE, ids=relative)
def test_snippets_run(page, tmp_path):
    script = tmp_path / "page.py"
    script.write_text(script_of(page.read_text(encoding="utf-8")), encoding="utf-8")
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith("MATENSEMBLE_")},
        "MATENSEMBLE_EXECUTOR": "local",
        "MATENSEMBLE_CORES": "2",
        "MPLBACKEND": "Agg",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{relative(page)} failed:\n{done.stdout}\n{done.stderr}"


def test_a_fence_keeps_its_lines():
    shown = "```python\na = 1\n```\n"
    page = f"# t\n{shown}<!-- not run: why -->\n```python\nb\n```\n\n{shown}"
    assert script_of(page) == "\n\na = 1\n" + "\n" * 7 + "a = 1\n"
