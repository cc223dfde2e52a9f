"""Take the pictures of the dashboard that the documentation shows: ``python3 dev.py screenshots``.

The runs are made, not run (`benchmarks/campaign.py`), so that the pictures are alike each time.
Needs a Chromium on the PATH and the built page.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs/images/dashboard"
NUM_CHORES = 5_000
PAGES = {
    "overview": "",
    "chores": "/chores?state=failed",
    "failures": "/failures",
    "graph": "/graph",
    "timeline": "/timeline?by=group",
    "utilisation": "/utilisation",
}
SIZE = {"width": 1280, "height": 800}
SETTLED_MILLISECONDS = 1500

sys.path.insert(0, str(ROOT / "benchmarks"))
from campaign import make_campaign  # noqa: E402 - it stands there


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder of runs; yield the link."""
    command = [sys.executable, "-m", "matensemble.cli", "dashboard", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        words = (word for line in process.stdout for word in line.split())
        yield next(word for word in words if word.startswith("http"))
        process.send_signal(signal.SIGINT)


def take(page: Page, name: str) -> None:
    """Keep what is on the screen, once it has settled."""
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(SETTLED_MILLISECONDS)
    page.screenshot(path=TARGET / f"{name}.png")


def main() -> None:
    """Take them all."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no browser here: neither chromium nor google-chrome is on the PATH")
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        ended = make_campaign(Path(folder), NUM_CHORES).root.name
        lost = make_campaign(Path(folder), NUM_CHORES // 2, is_live=True).root.name
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with serving(Path(folder)) as link:
            address = re.sub("#.*", "", link)
            for scheme in ("light", "dark"):
                page = browser.new_page(viewport=SIZE, color_scheme=scheme)
                page.goto(link)
                take(page, f"runs-{scheme}")
                for name, route in PAGES.items():
                    page.goto(f"{address}#/runs/{ended}{route}")
                    take(page, f"{name}-{scheme}")
                page.goto(f"{address}#/runs/{lost}")
                take(page, f"lost-{scheme}")
                page.close()
        browser.close()


if __name__ == "__main__":
    main()
