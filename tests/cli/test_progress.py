"""The display of progress: what it shows, when, and that it never breaks a run."""

from __future__ import annotations

import io
import logging
import re
import sys
import threading
import types
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from rich.console import Console

from matensemble.model import RunState
from matensemble.runtime import progress
from matensemble.runtime.progress import (
    LineScreen,
    NotebookScreen,
    ProgressDisplay,
    TerminalScreen,
    View,
    bar_parts,
    fold_groups,
    to_html,
)
from matensemble.runtime.testing import ManualClock
from matensemble.status import Counts, RootFailure, RunStatus

MakeStatus = Callable[..., RunStatus]


def draw(view: View, width: int = 80, height: int = 24, **options: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, **options)
    console.print(view)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


# --- the picture ------------------------------------------------------------------------------


def test_the_picture_at_80_columns(make_status: MakeStatus, now: datetime) -> None:
    assert draw(View(make_status(), now)) == [
        "running  3 min  matensemble_workflow-20260301_115700",
        "energy  ━━━━━━━━━━━━━━━━━━━━××××╍╍╍╍╍╍╍╍────────  5/10  1 failed, 2 running",
        "fit     ××××××××××××××××××××────────────────────   0/2  1 failed",
        "all     ━━━━━━━━━━━━━━━━━━××××××╍╍╍╍╍╍──────────  5/12  2 failed, 2 running",
        "2 of 4 cores busy · 0.5 chores/s, about 10 s left",
        "chore-energy-0003 failed: exception: ValueError: no minimum",
    ]


def test_the_picture_fits_a_small_terminal(make_status: MakeStatus, now: datetime) -> None:
    groups = {f"a rather long name of group {i}": Counts(total=i, pending=i) for i in range(30)}
    failures = tuple(RootFailure(f"chore-x-{i:04d}", "signal", -9, "S" * 300) for i in range(20))
    status = make_status(
        groups=groups,
        root_failures=failures,
        num_root_failures=400,
        total_gpus=8,
        free_gpus=1,
        state=RunState.DRAINING,
        detail="SIGINT",
    )
    lines = draw(View(status, now), width=50, height=16)
    assert len(lines) <= 16
    assert max(map(len, lines)) <= 50
    assert lines[-1] == "and 395 more failed"
    wide = draw(View(status, now), width=120, height=60)
    assert wide[0] == "draining  3 min  SIGINT: ending what runs; Ctrl-C leaves at once"
    assert "7 of 8 GPUs busy" in "\n".join(wide)
    assert sum("group" in line for line in wide) == progress.MAX_GROUPS


def test_hostile_text_stays_text(make_status: MakeStatus, now: datetime) -> None:
    evil = "[red]\x1b]0;owned\x07[/nonsense]\n\x1b[2J"
    status = make_status(
        run=evil,
        groups={evil: Counts(total=1)},
        root_failures=(RootFailure(evil, evil, 1, evil),),
        detail=evil,
    )
    text = "\n".join(draw(View(status, now)))
    assert "[red][/nonsense]" in text
    assert not set(text) & set("\x1b\x07")
    assert "<script>" not in to_html(View(replace(status, run="<script>alert(1)</script>"), now))


def test_without_unicode_and_without_colour_it_is_still_told_apart(
    make_status: MakeStatus, now: datetime
) -> None:
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, "ascii", "replace", write_through=True), width=80)
    console.print(View(make_status(), now))
    line = raw.getvalue().decode("ascii").splitlines()[1]
    assert line.split()[1] == "#" * 20 + "x" * 4 + ">" * 8 + "." * 8
    colourful = draw(View(make_status(), now), force_terminal=True, no_color=True)
    assert not re.search(r"\x1b\[(3|4|9)\d", "\n".join(colourful))


def test_a_status_in_a_notebook_is_html(make_status: MakeStatus, now: datetime) -> None:
    html = to_html(View(make_status(), now))
    assert html.startswith("<pre")
    assert "matensemble_workflow-20260301_115700" in html
    assert "style=" in html.partition(">")[2]


counts = st.builds(
    Counts,
    total=st.integers(0, 10**6),
    completed=st.integers(0, 10**6),
    failed=st.integers(0, 10**6),
    cancelled=st.integers(0, 5),
    running=st.integers(0, 10**6),
)


@given(counts, st.integers(8, 60))
def test_a_bar_has_its_width_and_hides_nothing(seen: Counts, width: int) -> None:
    completed, failed, running, other = bar_parts(seen, width)
    assert completed + failed + running + other == width
    assert min(completed, failed, running, other) >= 0
    for number, size in (
        (seen.completed, completed),
        (seen.failed + seen.cancelled, failed),
        (seen.running, running),
    ):
        assert (size > 0) == (number > 0)
    assert seen.total == 0 or (other > 0) == (
        seen.total > seen.completed + seen.failed + seen.cancelled + seen.running
    )


@given(st.dictionaries(st.text("abc", min_size=1), counts, max_size=30), st.integers(1, 15))
def test_folded_groups_add_up(groups: dict[str, Counts], max_groups: int) -> None:
    rows = fold_groups(groups, max_groups)
    assert len(rows) == min(len(groups), max_groups)
    assert sum(c.total for _, c in rows) == sum(c.total for c in groups.values())


# --- lines ------------------------------------------------------------------------------------


def test_lines_come_when_due_and_failures_at_once(make_status: MakeStatus, now: datetime) -> None:
    clock, lines = ManualClock(), []
    screen = LineScreen(lines.append, 5.0, clock.monotonic)
    status = make_status(root_failures=(), num_root_failures=0)
    screen.draw(View(status, now))
    assert [line[9:] for line in lines] == [
        "running: 5 of 12 completed, 2 failed, 2 running, 3 pending; 2 of 4 cores busy; "
        "0.5 chores/s, about 10 s left"
    ]
    lines.clear()
    more = replace(status, counts=replace(status.counts, completed=6, running=1))
    screen.draw(View(more, now))
    assert lines == []  # not due
    failed = replace(more, root_failures=make_status().root_failures)
    screen.draw(View(failed, now))
    screen.draw(View(failed, now))
    assert [line[9:] for line in lines] == [
        "chore-energy-0003 failed: exception: ValueError: no minimum"
    ]
    lines.clear()
    clock.advance(5)
    screen.draw(View(failed, now))
    clock.advance(5)
    screen.draw(View(failed, now))  # nothing new
    assert len(lines) == 1
    screen.draw(View(replace(failed, state=RunState.FAILED), now))  # news, though not due
    assert lines[-1][9:].startswith("failed: 6 of 12 completed")


# --- the display ------------------------------------------------------------------------------


class FakeScreen:
    def __init__(self, error: Exception | None = None) -> None:
        self.views: list[View] = []
        self.drawn = threading.Event()
        self.is_closed = threading.Event()
        self._error = error

    def draw(self, view: View) -> None:
        self.views.append(view)
        self.drawn.set()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.is_closed.set()


def test_the_last_status_is_drawn_before_the_display_closes(make_status: MakeStatus) -> None:
    screen = FakeScreen()
    display = ProgressDisplay(screen)
    display(make_status())
    assert screen.drawn.wait(10)
    end = make_status(state=RunState.COMPLETED)
    display(end)
    display.close()
    display.close()
    assert screen.views[-1].status is end
    assert screen.is_closed.is_set()


def test_a_display_that_fails_is_logged_once_and_goes(
    make_status: MakeStatus, caplog: pytest.LogCaptureFixture
) -> None:
    screen = FakeScreen(OSError("the terminal is gone"))
    display = ProgressDisplay(screen)
    with caplog.at_level(logging.ERROR, "matensemble"):
        display(make_status())
        assert screen.is_closed.wait(10)
        display(make_status())
        display.close()
    assert [record.getMessage() for record in caplog.records] == [
        "the progress display failed and is off; the run goes on"
    ]
    assert "the terminal is gone" in caplog.text
    assert len(screen.views) == 1


def test_a_terminal_that_hangs_holds_up_nobody(
    make_status: MakeStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "CLOSE_SECONDS", 0.01)
    answers = threading.Event()
    screen = FakeScreen()
    monkeypatch.setattr(screen, "draw", lambda view: (screen.drawn.set(), answers.wait(30)))
    display = ProgressDisplay(screen)
    display(make_status())
    assert screen.drawn.wait(10)
    display(make_status())
    display.close()  # returns
    assert not screen.is_closed.is_set()
    answers.set()
    assert screen.is_closed.wait(10)


def test_on_a_terminal_what_a_script_prints_stands_above_the_picture(
    make_status: MakeStatus, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    console = progress._SteadyConsole(stderr=True, width=80, force_terminal=True)
    screen = TerminalScreen(console)
    screen.draw(View(make_status(), now))
    print("from the script")
    screen.draw(View(make_status(state=RunState.COMPLETED), now))
    screen.close()
    screen.close()
    assert sys.stdout is terminal
    shown = terminal.getvalue()
    assert shown.index("running") < shown.index("from the script") < shown.index("completed")
    assert "\x1b[?25l" not in shown


def test_output_that_goes_to_a_file_stays_there(
    make_status: MakeStatus, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    console = progress._SteadyConsole(file=io.StringIO(), width=80, force_terminal=True)
    screen = TerminalScreen(console)
    screen.draw(View(make_status(), now))
    print("a result")
    screen.close()
    assert file.getvalue() == "a result\n"


# --- which screen -----------------------------------------------------------------------------


class FakeDisplays:
    """Stands in for `IPython.display.display`."""

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def __call__(self, shown: Any, display_id: bool) -> FakeDisplays:
        assert display_id
        self.shown.append(shown)
        return self

    def update(self, shown: Any) -> None:
        self.shown.append(shown)


def test_in_a_notebook_the_output_of_the_cell_is_replaced(
    make_status: MakeStatus, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    displays = FakeDisplays()
    ipython = types.ModuleType("IPython")
    shell = types.SimpleNamespace(kernel=object())
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    ipython_display = types.ModuleType("IPython.display")
    ipython_display.display = displays  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython_display)
    screen = progress._choose_screen(5.0)
    assert isinstance(screen, NotebookScreen)
    screen.draw(View(make_status(), now))
    screen.close()
    assert [shown._repr_html_()[:4] for shown in displays.shown] == ["star", "<pre"]
    del shell.kernel  # IPython in a terminal
    assert isinstance(progress._choose_screen(5.0), LineScreen)


def test_no_terminal_means_lines_on_stderr(
    make_status: MakeStatus, now: datetime, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = progress._choose_screen(0.0)
    assert isinstance(screen, LineScreen)
    screen.draw(View(make_status(), now))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 2


@pytest.mark.e2e
@pytest.mark.slow
def test_submit_shows_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from matensemble.pipeline import Pipeline

    pipe = Pipeline(tmp_path)
    pipe.exec("true", name="yes")
    pipe.exec("false", name="no")
    pipe.submit(progress=True, executor="local", cores=1, log_delay=0).result(60)
    err = capsys.readouterr().err
    assert "chore-no-0002 failed: nonzero_exit" in err
    assert "failed: 1 of 2 completed, 1 failed; 0 of 1 cores busy" in err
