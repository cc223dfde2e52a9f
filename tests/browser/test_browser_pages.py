"""Every page in both themes: no barrier, no violation of the policy, nothing beside the window."""

from __future__ import annotations

import pytest

PAGES = {
    "runs": "/",
    "overview": "/runs/{run}",
    "chores": "/runs/{run}/chores",
    "chores-failed": "/runs/{run}/chores?state=failed",
    "chore": "/runs/{run}/chores/{failed}",
    "chore-stdout": "/runs/{run}/chores/{printing}?tab=stdout",
    "failures": "/runs/{run}/failures",
    "graph": "/runs/{run}/graph",
    "graph-chore": "/runs/{run}/graph?view=chore&chore={failed}",
    "graph-failed": "/runs/{run}/graph?view=failed",
    "graph-whole": "/runs/{run}/graph?view=whole",
    "timeline": "/runs/{run}/timeline",
    "utilisation": "/runs/{run}/utilisation",
    "report": "/runs/{run}/report",
    "compare": "/compare?a={run}&b={run}",
    "missing-run": "/runs/nothing",
    "missing-chore": "/runs/{run}/chores/nothing",
    "missing": "/nowhere",
}
SIZES = {"wide": {"width": 1280, "height": 860}, "phone": {"width": 375, "height": 800}}
REFUSED = {"missing-run", "missing-chore"}
"""Pages of what is not there: the browser tells of the answer 404 itself."""


@pytest.fixture(scope="module")
def watched(start_study, serve):
    """A run that stands at its gates, with failures, and its server."""
    study = start_study()
    study.wait_for(failed=2, completed=4)
    return study, serve(study.folder, "--allow-actions")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_page(watched, view, name, theme):
    study, server = watched
    viewer = view(server, color_scheme=theme, viewport=SIZES["wide"])
    page = viewer.open(
        PAGES[name].format(
            run=study.run_dir.name, failed="chore-fragile-0011", printing="chore-relax-0001"
        )
    )
    page.get_by_role("heading", level=1).wait_for()
    page.wait_for_function("!document.querySelector('main').innerText.includes('Loading…')")
    page.wait_for_function("document.getAnimations().every((one) => one.playState !== 'running')")
    viewer.keep_picture(f"{name}-{theme}")
    assert viewer.find_barriers() == []
    if name in REFUSED:
        viewer.faults = [fault for fault in viewer.faults if "404" not in fault]
    viewer.check()
    page.set_viewport_size(SIZES["phone"])
    viewer.keep_picture(f"{name}-{theme}-phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES["phone"]["width"]
