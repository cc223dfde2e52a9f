"""A browser, a run that goes on while it is watched, and the server that shows it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed here")

STATIC = Path(__file__).parents[2] / "packages/dashboard/src/matensemble/dashboard/static"
AXE = Path(__file__).parents[2] / "frontend/node_modules/axe-core/axe.min.js"
SCREENSHOTS = Path(os.environ.get("MATENSEMBLE_SCREENSHOTS", "build/screenshots"))
CHROMIUM_OPTIONS = (
    "--no-sandbox",  # it opens pages of this machine only
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WATCH_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sourceFile}`));
"""
PATIENCE_MILLISECONDS = 20_000
playwright.expect.set_options(timeout=PATIENCE_MILLISECONDS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here; all of it is slow."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.e2e)


class Server:
    """A dashboard in a process of its own, as the command starts it."""

    def __init__(self, root: Path, cache: Path, *options: str) -> None:
        command = [sys.executable, "-m", "matensemble.cli", "dashboard", str(root), "--port", "0"]
        self._process = subprocess.Popen(
            [*command, *options],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"XDG_CACHE_HOME": str(cache)},
        )
        assert self._process.stdout is not None
        words = (word for line in self._process.stdout for word in line.split())
        self.link = next((word for word in words if word.startswith("http")), "")
        if not self.link:
            self.close()
            pytest.fail("the dashboard did not start; its message is on stderr")
        self.address = self.link.partition("#")[0]

    def close(self) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            assert self._process.stdout is not None
            self._process.stdout.close()


class Viewer:
    """A reader of the dashboard, who notices what is wrong with the page."""

    def __init__(self, browser: playwright.Browser, server: Server, **options: object) -> None:
        self.server = server
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE_MILLISECONDS)
        self.context.add_init_script(WATCH_VIOLATIONS)
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("console", self._hear)
        self.page.on("request", self._see)
        self.page.on("response", self._weigh)
        self.page.goto(server.link)
        heading = self.page.get_by_role("heading", level=1)
        playwright.expect(heading).to_have_text(re.compile("^(Runs|matensemble_workflow-.*)$"))

    def _hear(self, message: playwright.ConsoleMessage) -> None:
        is_told_better = message.text.startswith("Failed to load resource")  # by `_weigh`
        if message.type in ("error", "warning") and not is_told_better:
            self.faults.append(f"console: {message.text}")

    def _see(self, request: playwright.Request) -> None:
        if urlsplit(request.url).netloc != urlsplit(self.server.address).netloc:
            self.faults.append(f"asked elsewhere: {request.url}")

    def _weigh(self, response: playwright.Response) -> None:
        if response.status >= 400:
            self.faults.append(f"answer {response.status}: {response.url}")

    def open(self, route: str) -> playwright.Page:
        """Open a page by its address, as by a link that somebody sent."""
        self.page.goto(f"{self.server.address}#{route}")
        return self.page

    def check(self) -> None:
        """Expect no fault so far, and no violation of the content security policy."""
        assert self.page.evaluate("window.violations") == []
        assert self.page.evaluate("window.wasObeyed") is None, "content of the run was obeyed"
        assert self.faults == []

    def keep_picture(self, name: str) -> None:
        """Keep a screenshot for people."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    def find_barriers(self) -> list[str]:
        """Return what axe finds to be a serious barrier on the page."""
        self.page.evaluate(AXE.read_text())  # through the debugger: no policy is in its way
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{violation['id']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
            for violation in found["violations"]
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
        ]


class Study:
    """The run of `study.py`, whose gates a test opens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gates = folder / "gates"
        self.gates.mkdir(parents=True)
        self.log_path = folder / "study.log"
        self._log = self.log_path.open("w")
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("study.py")), str(self.gates)],
            cwd=folder,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def open_gate(self, name: str) -> None:
        (self.gates / name).touch()

    @property
    def run_dir(self) -> Path:
        return next(self.folder.glob("matensemble_workflow-*"))

    def wait_for(self, **counts: int) -> None:
        """Wait until the published status counts at least so many chores in these states."""
        deadline = time.monotonic() + PATIENCE_MILLISECONDS / 1e3
        published: dict[str, int] = {}
        while any(published.get(state, 0) < count for state, count in counts.items()):
            assert time.monotonic() < deadline, (published, self.log_path.read_text())
            time.sleep(0.05)
            with suppress(StopIteration, FileNotFoundError):
                published = json.loads((self.run_dir / "status.json").read_text())["counts"]

    def kill(self) -> None:
        """Kill the driver and all that it has started, without a last word."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self._log.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    """Debian's Chromium, or Google's; skips where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no browser here: none of " + ", ".join(names) + " is on the PATH")
    if not (STATIC / "index.html").is_file() or not AXE.is_file():
        pytest.skip("the page is not built here: python3 dev.py frontend")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=list(CHROMIUM_OPTIONS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start dashboards; they end with the module."""
    servers: list[Server] = []

    def start(root: Path, *options: str) -> Server:
        servers.append(Server(root, tmp_path_factory.mktemp("cache"), *options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def view(browser: playwright.Browser) -> Iterator[Callable[..., Viewer]]:
    """Open the dashboard for a reader; keywords are those of a browser context."""
    viewers: list[Viewer] = []

    def open_(server: Server, **options: object) -> Viewer:
        viewers.append(Viewer(browser, server, **options))
        return viewers[-1]

    yield open_
    for viewer in viewers:
        viewer.context.close()


@pytest.fixture(scope="module")
def start_study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Study]]:
    """Start runs of `study.py`; they end with the module."""
    studies: list[Study] = []

    def start() -> Study:
        studies.append(Study(tmp_path_factory.mktemp("study")))
        return studies[-1]

    yield start
    for study in studies:
        study.end()
