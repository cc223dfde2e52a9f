"""A run is watched while it goes on: what happens is seen, and what is asked for happens."""

from __future__ import annotations

import re

import pytest

expect = pytest.importorskip("playwright.sync_api").expect
HUNDRED_MB = 100_000_000


@pytest.fixture
def watching(start_study, serve, view):
    """A run of its own, and somebody who has its overview open."""
    study = start_study()
    study.wait_for(failed=2, completed=4)
    viewer = view(serve(study.folder, "--allow-actions"), viewport={"width": 1280, "height": 860})
    viewer.open(f"/runs/{study.run_dir.name}")
    expect(viewer.page.get_by_text("live", exact=True)).to_be_visible()
    return study, viewer


def go_to(viewer, name: str) -> None:
    viewer.page.get_by_role("navigation", name="Pages of the run").get_by_role(
        "link", name=name
    ).click()


def test_run_is_watched_to_its_end(watching):
    study, viewer = watching
    page = viewer.page
    expect(page.get_by_text("6 of 13 chores ended")).to_be_visible()

    study.open_gate("middle")
    expect(page.get_by_text("10 of 13 chores ended")).to_be_visible()

    go_to(viewer, "Failures")
    expect(page.get_by_text("ValueError: atom").first).to_be_visible()  # open: the only cause
    page.get_by_role("link", name="chore-fragile-0011").first.click()
    expect(page.get_by_text("ValueError: atom 7 left the box <script>").first).to_be_visible()
    expect(page.get_by_text("study.py", exact=False).first).to_be_visible()

    viewer.open(f"/runs/{study.run_dir.name}/chores/chore-anneal-0009?tab=stdout")
    expect(page.get_by_text("waiting for log")).to_be_visible()
    study.open_gate("log")
    expect(page.get_by_text("line behind the gate")).to_be_visible()

    study.open_gate("mended")
    viewer.open(f"/runs/{study.run_dir.name}/chores/chore-fragile-0011")
    page.locator(".chore-head").get_by_role("button", name="Retry", exact=True).click()
    expect(page.locator(".chore-head .badge").get_by_text("completed", exact=True)).to_be_visible()

    viewer.open(f"/runs/{study.run_dir.name}/chores/chore-endless-0013")
    page.locator(".chore-head").get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.locator(".chore-head .badge").get_by_text("cancelled", exact=True)).to_be_visible()

    study.open_gate("end")
    go_to(viewer, "Overview")
    expect(page.get_by_text("13 of 13 chores ended")).to_be_visible()
    expect(page.get_by_text("Cancelled", exact=True)).to_be_visible()
    expect(page.get_by_text("live", exact=True)).not_to_be_visible()
    viewer.check()


def test_run_is_paused_and_goes_on(watching):
    _, viewer = watching
    page = viewer.page
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Paused", exact=True)).to_be_visible()
    page.get_by_role("button", name="Unpause").click()
    expect(page.get_by_text("Running", exact=True)).to_be_visible()
    viewer.check()


def test_killed_driver_shows_as_lost(watching):
    study, viewer = watching
    study.kill()
    expect(viewer.page.get_by_text("Driver lost", exact=False).first).to_be_visible()
    expect(viewer.page.get_by_text(f"matensemble resume {study.run_dir}")).to_be_visible()
    viewer.keep_picture("lost-light")
    viewer.check()


def test_huge_hostile_log_is_shown_and_not_obeyed(watching):
    study, viewer = watching
    line = b"\x1b[31m<script>window.wasObeyed = true</script>\x1b]8;;javascript:1\x07link\x1b[0m\n"
    log = study.run_dir / "out" / "chore-relax-0001" / "stdout"
    log.write_bytes(line * (HUNDRED_MB // len(line)) + b"the very last line\n")
    viewer.open(f"/runs/{study.run_dir.name}/chores/chore-relax-0001?tab=stdout")
    page = viewer.page
    expect(page.get_by_text("the very last line")).to_be_visible()
    expect(page.get_by_text("<script>window.wasObeyed").first).to_be_visible()
    page.keyboard.press("g")  # to the beginning, far away
    expect(page.get_by_text("the very last line")).not_to_be_visible()
    memory = page.evaluate("performance.memory.usedJSHeapSize")
    assert memory < HUNDRED_MB / 2, "it is not to be held whole"
    assert page.locator("main a[href^='javascript']").count() == 0
    viewer.check()


def test_filters_and_keys(watching):
    _, viewer = watching
    page = viewer.page
    page.keyboard.press("g")
    page.keyboard.press("c")
    expect(page).to_have_url(re.compile(r"/chores$"))
    page.get_by_label(re.compile("State")).select_option("failed")
    expect(page).to_have_url(re.compile(r"state=failed"))
    expect(page.get_by_role("link", name="chore-fragile-0011")).to_be_visible()
    expect(page.get_by_role("link", name="chore-relax-0001")).not_to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("heading", level=1).click()
    page.keyboard.press("Shift+?")
    expect(page.get_by_role("dialog")).to_contain_text("Go to Chores")
    viewer.check()
