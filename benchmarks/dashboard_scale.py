"""B: a run of any size in a real browser, over a slow tunnel.

A dashboard serves runs made by `runs.py` in a process of its own. Once it has indexed one, each
question of the pages is timed at the server, and Chromium opens them with 100 ms added to each
round trip: how long until the progress of the run is read, and whether the list of chores stutters
while it is scrolled. At last a real run is watched: its driver must need no more for it.

    python benchmarks/dashboard_scale.py [CHORES …]     # 1000 100000 1000000
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, sync_playwright
from row import HEADER, Row, print_rows
from runs import make_run

SIZES = (1_000, 100_000, 1_000_000)
ROUND_TRIP_MILLISECONDS = 100
NUM_ASKED = 5
MAX_PAINT_SECONDS = 2.0
MAX_PAGE_MILLISECONDS = 150.0
MAX_MEMORY_MIB = 500.0
QUESTIONS = {
    "overview: groups": "groups",
    "overview: series": "series?bins=300",
    "overview: waiting": "waiting",
    "chores: first page": "chores",
    "chores: failed": "chores?state=failed",
    "chores: longest first": "chores?sort=seconds&descending=true",
    "chores: part of an id": "chores?text=00033",
    "failures": "failures",
    "timeline by host": "timeline?by=host",
    "utilisation": "utilisation",
    "graph: groups": "graph/groups",
    "graph: whole": "graph/whole",
    "graph: failed": "graph/failed",
}
DRIVER = """
import sys, time
from matensemble.pipeline import Pipeline

pipe = Pipeline()
for _ in range(int(sys.argv[1])):
    pipe.exec(command=["true"], name="true")
pipe.submit(executor="local", cores=2).result()
print(time.process_time())
"""
NUM_DRIVEN = 400
NUM_ROUNDS = 3
MAX_DRIVER_RATIO = 1.1
OPTIONS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
MEASURE_FRAMES = """
window.gaps = [];
let before = performance.now();
const look = (now) => {
  window.gaps.push(now - before);
  before = now;
  requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""


@contextmanager
def serving(root: Path, cache: Path) -> Iterator[tuple[str, int]]:
    """Serve a folder; yield the link and the number of the process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "matensemble.cli", "dashboard", str(root), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"XDG_CACHE_HOME": str(cache)},
    )
    assert process.stdout is not None
    try:
        words = (word for line in process.stdout for word in line.split())
        yield next(word for word in words if word.startswith("http")), process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        process.stdout.close()


def peak_memory(pid: int) -> float:
    """Return the most memory that a process has had, in MiB (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def wait_for_index(client: httpx.Client, run: str) -> float:
    """Return the seconds until the index holds the whole run."""
    start = time.perf_counter()
    while not client.get(f"{run}/groups").raise_for_status().json()["freshness"]["is_complete"]:
        time.sleep(0.05)
    return time.perf_counter() - start


def ask(client: httpx.Client, path: str) -> float:
    """Return the milliseconds until a question is answered, the median of a few."""
    times = []
    for _ in range(NUM_ASKED):
        start = time.perf_counter()
        client.get(path).raise_for_status()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def open_page(browser: Browser, link: str) -> Page:
    """Return a page behind a slow tunnel, with a session."""
    page = browser.new_context(viewport={"width": 1280, "height": 860}).new_page()
    page.set_default_timeout(60_000)
    page.goto(link)
    page.get_by_role("main").wait_for()
    page.wait_for_load_state("networkidle")
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send(
        "Network.emulateNetworkConditions",
        {
            "offline": False,
            "latency": ROUND_TRIP_MILLISECONDS,
            "downloadThroughput": -1,
            "uploadThroughput": -1,
        },
    )
    return page


def measure_paint(page: Page, address: str) -> float:
    """Return the seconds from an address to the counts of the run on the screen; nothing cached."""
    page.goto("about:blank")
    page.context.new_cdp_session(page).send("Network.clearBrowserCache")
    start = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.get_by_text("chores ended").first.wait_for()
    return time.perf_counter() - start


def measure_scrolling(page: Page, address: str) -> tuple[float, float]:
    """Return median and longest gap between frames while chores are scrolled, in milliseconds."""
    page.goto(address)
    page.get_by_role("row").nth(10).wait_for()
    page.mouse.move(640, 600)
    page.evaluate(MEASURE_FRAMES)
    for _ in range(60):
        page.mouse.wheel(0, 900)
        page.wait_for_timeout(30)
    gaps = page.evaluate("window.gaps")
    return statistics.median(gaps), max(gaps)


def measure(browser: Browser, folder: Path, count: int) -> list[Row]:
    """Return the figures of a run of `count` chores."""
    run = make_run(folder / "runs", count)
    rows = []
    with serving(run.root.parent, folder / "cache") as (link, pid):
        address, _, fragment = link.partition("#")
        token = fragment.removeprefix("token=")
        with httpx.Client(
            base_url=f"{address}api/v1/runs/",
            headers={"authorization": f"Bearer {token}"},
            timeout=120,
        ) as client:
            seconds = wait_for_index(client, run.root.name)
            rows.append(Row("B", f"{count:,} chores: indexed after", seconds, "s"))
            limit = MAX_PAGE_MILLISECONDS
            for what, path in QUESTIONS.items():
                took = ask(client, f"{run.root.name}/{path}")
                rows.append(Row("B", what, took, "ms", None, limit, False, False))
        page = open_page(browser, link)
        shown = f"{address}#/runs/{run.root.name}"
        paint = statistics.median(measure_paint(page, shown) for _ in range(3))
        rows.append(
            Row("B", "first useful paint", paint, "s", None, MAX_PAINT_SECONDS, False, False)
        )
        usual, longest = measure_scrolling(page, f"{shown}/chores")
        rows.append(Row("B", "scrolling: usual frame", usual, "ms"))
        rows.append(Row("B", "scrolling: longest frame", longest, "ms"))
        page.context.close()
        memory = peak_memory(pid)
        rows.append(
            Row("B", "memory of the server", memory, "MiB", None, MAX_MEMORY_MIB, False, False)
        )
    return rows


def drive(folder: Path, browser: Browser | None) -> float:
    """Return the seconds of processor time of the driver of a real run, watched or not."""
    folder.mkdir()
    with ExitStack() as stack:
        if browser is not None:
            link, _ = stack.enter_context(serving(folder, folder / "cache"))
        command = [sys.executable, "-c", DRIVER, str(NUM_DRIVEN)]
        driver = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        if browser is not None:
            page = open_page(browser, link)
            stack.callback(page.context.close)
            page.get_by_role("link", name="matensemble_workflow").first.click()
        told, _ = driver.communicate()
    return float(told)


def measure_driver(browser: Browser) -> list[Row]:
    """Return what it costs a driver that somebody looks at its run, alternating with none."""
    times: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(NUM_ROUNDS):
            for is_watched in (False, True):
                place = Path(folder) / f"{number}-{is_watched}"
                times[is_watched].append(drive(place, browser if is_watched else None))
    alone, watched = (statistics.median(times[is_watched]) for is_watched in (False, True))
    limit = MAX_DRIVER_RATIO
    return [
        Row("B", f"driver of {NUM_DRIVEN} chores, alone", alone, "s cpu"),
        Row("B", "driver of the same, watched", watched, "s cpu", watched / alone, limit),
    ]


def main() -> None:
    """Print the table."""
    sizes = [int(text) for text in sys.argv[1:]] or SIZES
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no browser here: neither chromium nor google-chrome is on the PATH")
    print(HEADER)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(OPTIONS))
        for count in sizes:
            with tempfile.TemporaryDirectory() as folder:
                print_rows(measure(browser, Path(folder), count))
        print_rows(measure_driver(browser))
        browser.close()


if __name__ == "__main__":
    main()
