"""Show how a run goes, while it goes: a live picture on a terminal or in a notebook, else lines.

Owns the display and when it is drawn; what it shows is a function of a `RunStatus` and an instant.
The driver hands over each status that is published and goes on at once: a thread of the display
draws, so a terminal that hangs holds up nothing. Whatever goes wrong here is logged once and ends
the display, never the run. Called by the manager, which imports it (and rich) only where progress
is wanted.

The cursor stays visible and no mode of the terminal is changed, so there is nothing to restore
however the process ends, `kill -9` included.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Protocol

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from matensemble.model import RunState
from matensemble.report import (
    COLOURS,
    add_counts,
    describe_counts,
    describe_pace,
    describe_use,
    run_seconds,
)
from matensemble.session import is_notebook
from matensemble.status import Counts, RootFailure, RunStatus
from matensemble.terminal import clean_line, describe_seconds

LOGGER = logging.getLogger("matensemble")

REFRESH_SECONDS = 0.5
CLOSE_SECONDS = 2.0
"""How long the end of a run waits for a terminal that does not take its last picture."""
MAX_GROUPS = 12
MAX_FAILURES = 5
BAR_WIDTH = 40
HTML_WIDTH = 100


# --- the picture ------------------------------------------------------------------------------


class Bar:
    """One line: completed, failed, running and other chores of a group, to scale."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(8, min(options.max_width, BAR_WIDTH))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        glyphs = "#x>." if options.ascii_only else "━×╍─"
        parts = bar_parts(self._counts, min(options.max_width, BAR_WIDTH))
        for glyph, style, size in zip(glyphs, ("green", "red", "cyan", "dim"), parts, strict=True):
            yield Segment(glyph * size, Style.parse(style))


def bar_parts(counts: Counts, width: int) -> tuple[int, int, int, int]:
    """Return how many of `width` characters are completed, failed or cancelled, running, other.

    What there is gets one character at least; only a group without anything left to do fills the
    bar.
    """
    numbers = [counts.completed, counts.failed + counts.cancelled, counts.running, 0]
    numbers[3] = max(counts.total - sum(numbers), 0)
    total = max(sum(numbers), 1)
    sizes = [max(number * width // total, min(number, 1)) for number in numbers]
    while sum(sizes) > width:
        sizes[sizes.index(max(sizes))] -= 1
    if any(numbers):
        sizes[sizes.index(max(sizes))] += width - sum(sizes)  # what the divisions left over
    else:
        sizes[3] = width
    return sizes[0], sizes[1], sizes[2], sizes[3]


class View:
    """The picture of a status at an instant (aware)."""

    def __init__(self, status: RunStatus, now: datetime) -> None:
        self.status = status
        self.now = now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        status = self.status
        failures = status.root_failures[-MAX_FAILURES:]
        room = options.size.height - len(failures) - 5
        yield _headline(status, self.now)
        yield _group_table(status, min(MAX_GROUPS, max(room, 1)))
        footer = " · ".join(filter(None, (describe_use(status), describe_pace(status))))
        yield Text(footer, no_wrap=True, overflow="ellipsis")
        for failure in failures:
            yield Text(describe_failure(failure), "red", no_wrap=True, overflow="ellipsis")
        if (num_others := status.num_root_failures - len(failures)) > 0:
            yield Text(f"and {num_others:,} more failed", "red")


def _headline(status: RunStatus, now: datetime) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(status.state.value, f"bold {COLOURS[status.state]}")
    seconds = run_seconds(status, now)
    if seconds is not None:
        line.append(f"  {describe_seconds(seconds)}")
    if status.state is RunState.DRAINING:
        line.append(f"  {clean_line(status.detail)}: ending what runs; Ctrl-C leaves at once")
    else:
        line.append(f"  {clean_line(status.run)}", "dim")
    return line


def _group_table(status: RunStatus, max_groups: int) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=30)
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    rows = fold_groups(status.groups, max_groups)
    if len(rows) != 1:
        rows.append(("all", status.counts))
    for name, counts in rows:
        ended = f"{counts.completed:,}/{counts.total:,}"
        table.add_row(Text(name), Bar(counts), ended, _notes(counts))
    return table


def _notes(counts: Counts) -> Text:
    notes = Text()
    for number, word, colour in (
        (counts.failed, "failed", "red"),
        (counts.cancelled, "cancelled", "yellow"),
        (counts.running, "running", "cyan"),
    ):
        if number:
            notes.append(f"{', ' if notes else ''}{number:,} {word}", colour)
    return notes


def fold_groups(groups: Mapping[str, Counts], max_groups: int) -> list[tuple[str, Counts]]:
    """Return names and counts of the largest groups, in their order, and the sum of the others.

    Parameters
    ----------
    groups
        As in a status.
    max_groups
        So many rows at most, at least 1.
    """
    kept = set(groups)
    if len(groups) > max_groups:
        by_size = sorted(groups, key=lambda name: -groups[name].total)
        kept = set(by_size[: max_groups - 1])
    rows = [(clean_line(name), counts) for name, counts in groups.items() if name in kept]
    others = [counts for name, counts in groups.items() if name not in kept]
    if others:
        rows.append((f"{len(others)} more groups" if kept else "all", add_counts(*others)))
    return rows


def describe_failure(failure: RootFailure) -> str:
    """Return one line about a failure."""
    reason = ": ".join(filter(None, (failure.reason, failure.detail)))
    return clean_line(f"{failure.chore_id} failed: {reason}")


def describe_progress(status: RunStatus) -> str:
    """Return one line about a run."""
    words = (describe_counts(status.counts), describe_use(status), describe_pace(status))
    return f"{status.state.value}: " + "; ".join(filter(None, words))


def to_html(view: View) -> str:
    """Return a picture as a block of HTML."""
    console = Console(
        record=True,
        file=io.StringIO(),
        width=HTML_WIDTH,
        force_jupyter=False,
        force_terminal=True,
        color_system="standard",
    )
    console.print(view)
    block = '<pre style="margin:0;line-height:1.3;font-family:monospace">{code}</pre>'
    return console.export_html(inline_styles=True, code_format=block)


# --- where it is drawn ------------------------------------------------------------------------


class Screen(Protocol):
    """Something that shows pictures, one after the other, on one thread."""

    def draw(self, view: View) -> None:
        """Show a picture in the place of the last one."""

    def close(self) -> None:
        """Leave the last one where it is; may be called without any."""


class _SteadyConsole(Console):
    """A console that leaves the cursor as it is."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


class TerminalScreen:
    """A picture that is redrawn in place; what the script prints meanwhile appears above it.

    Parameters
    ----------
    console
        A terminal.
    """

    def __init__(self, console: Console) -> None:
        # Output that goes to a file stays there: only what shares the terminal is led around.
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=sys.stdout.isatty())

    def draw(self, view: View) -> None:
        """Show a picture in the place of the last one."""
        self._live.update(view)
        self._live.start()
        self._live.refresh()

    def close(self) -> None:
        """Leave the last one where it is."""
        self._live.stop()


class NotebookScreen:
    """A picture below the cell that started the run.

    Parameters
    ----------
    display
        `IPython.display.display`, called on the thread of that cell.
    """

    def __init__(self, display: Callable[..., Any]) -> None:
        self._handle = display(_Html("starting …"), display_id=True)

    def draw(self, view: View) -> None:
        """Show a picture in the place of the last one."""
        self._handle.update(_Html(to_html(view)))

    def close(self) -> None:
        """Leave the last one where it is."""


class _Html:
    """What IPython shows as HTML."""

    def __init__(self, text: str) -> None:
        self._text = text

    def _repr_html_(self) -> str:
        return self._text


class LineScreen:
    """Lines, for logs and pipes: each new failure, and where the run stands now and then.

    Parameters
    ----------
    write
        Writes one line.
    log_delay
        Seconds between two lines about where the run stands, at least.
    monotonic
        Seconds of a clock that never goes back.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        log_delay: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._log_delay = log_delay
        self._monotonic = monotonic
        self._next_line = monotonic()
        self._num_failures = 0
        self._last: tuple[RunState, Counts] | None = None

    def draw(self, view: View) -> None:
        """Write what is new and due."""
        status, now = view.status, self._monotonic()
        stamp = view.now.astimezone().strftime("%H:%M:%S")
        for failure in status.root_failures[self._num_failures :]:
            self._write(f"{stamp} {describe_failure(failure)}")
        self._num_failures = len(status.root_failures)
        seen = (status.state, status.counts)
        is_new_state = self._last is None or self._last[0] is not status.state
        if seen != self._last and (is_new_state or now >= self._next_line):
            self._write(f"{stamp} {describe_progress(status)}")
            self._last, self._next_line = seen, now + self._log_delay

    def close(self) -> None:
        """Do nothing: every line is out."""


class ProgressDisplay:
    """Draws the newest status on a thread of its own; a listener of the recorder.

    Parameters
    ----------
    screen
        Where to draw.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._status: RunStatus | None = None
        self._is_closing = threading.Event()
        # Daemon: an interpreter must not wait for a terminal that hangs.
        self._thread = threading.Thread(target=self._run, name="matensemble-progress", daemon=True)
        self._thread.start()

    def __call__(self, status: RunStatus) -> None:
        """Take the newest status; returns at once."""
        self._status = status

    def close(self) -> None:
        """Draw the last status and stop; may be called twice."""
        self._is_closing.set()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        try:
            while not self._is_closing.wait(REFRESH_SECONDS):
                self._draw()
            self._draw()
            self._screen.close()
        except Exception:
            # The one place where going on is right: no display is worth a run.
            LOGGER.exception("the progress display failed and is off; the run goes on")
            with suppress(Exception):
                self._screen.close()  # gives the script its stdout back

    def _draw(self) -> None:
        if self._status is not None:
            self._screen.draw(View(self._status, datetime.now(UTC)))


def open_display(log_delay: float) -> ProgressDisplay:
    """Return the display that suits this session, running; it draws on stderr.

    Parameters
    ----------
    log_delay
        Seconds between two lines, at least, where lines are written.
    """
    return ProgressDisplay(_choose_screen(log_delay))


def _choose_screen(log_delay: float) -> Screen:
    if is_notebook() and _has_kernel():
        from IPython.display import display

        return NotebookScreen(display)
    console = _SteadyConsole(stderr=True)
    is_prompt = is_notebook() or hasattr(sys, "ps1")  # typed lines and a picture do not mix
    if console.is_terminal and not console.is_dumb_terminal and not is_prompt:
        return TerminalScreen(console)
    return LineScreen(lambda line: print(line, file=sys.stderr, flush=True), log_delay)


def _has_kernel() -> bool:
    return getattr(sys.modules["IPython"].get_ipython(), "kernel", None) is not None
