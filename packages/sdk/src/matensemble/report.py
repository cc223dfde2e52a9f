"""Where a run stands, in words for a terminal.

Pure functions of a status: they read no file and no clock. Called by ``matensemble status``, by
``matensemble run`` at its end, and by the live display for the phrases they share. Every text that
comes from a run is cleaned here.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import astuple
from datetime import datetime
from pathlib import Path

import click

from matensemble.model import Reason, RunState
from matensemble.runs import seconds_since
from matensemble.status import MAX_ROOT_FAILURES, Counts, RunStatus
from matensemble.terminal import clean_line, describe_seconds, plural, shorten, table
from matensemble.workdir import STDERR, RunDir

COLOURS = {
    RunState.RUNNING: "cyan",
    RunState.PAUSED: "yellow",
    RunState.DRAINING: "yellow",
    RunState.DEGRADED: "yellow",
    RunState.INTERRUPTED: "yellow",
    RunState.COMPLETED: "green",
    RunState.FAILED: "red",
    RunState.CANCELLED: "yellow",
}
"""Never the only sign: the word stands there too."""
MAX_GROUPS = 40
MAX_NAME_WIDTH = 40
MAX_SECONDS_LEFT = 365 * 86400.0
_NEVER_STARTED = (Reason.EXCEEDS_ALLOCATION, Reason.INVALID_SPEC, Reason.SUBMIT_ERROR)
"""Reasons of chores that have no files to look into."""


def seconds_left(status: RunStatus) -> float | None:
    """Return how long the chores known so far will take at the present rate, in seconds.

    None where that cannot be said: nothing has ended lately, or nothing is left.
    """
    left = status.counts.pending + status.counts.running
    if not left or status.rate <= 0 or status.state is not RunState.RUNNING:
        return None
    seconds = left / status.rate
    return seconds if seconds < MAX_SECONDS_LEFT else None


def run_seconds(status: RunStatus, now: datetime | None = None) -> float | None:
    """Return how long a run took, or has taken until `now`; None where its times do not tell."""
    try:
        end = datetime.fromisoformat(status.ended_at) if status.ended_at is not None else now
    except ValueError:
        return None
    return seconds_since(status.started_at, end)


def describe_pace(status: RunStatus) -> str:
    """Return rate and time left: ``3.2 chores/s, about 20 s left``; empty where it has none."""
    if not status.rate or status.state.is_terminal:
        return ""
    per_second = status.rate
    if per_second >= 0.1:
        rate = f"{per_second:.1f} chores/s"
    else:
        rate = f"{per_second * 3600:.1f} chores/h"
    left = seconds_left(status)
    return rate if left is None else f"{rate}, about {describe_seconds(left)} left"


def describe_use(status: RunStatus) -> str:
    """Return what is busy: ``3 of 4 cores busy, 1 of 2 GPUs busy``; GPUs only where there are."""
    words = [f"{status.total_cores - status.free_cores} of {status.total_cores} cores busy"]
    if status.total_gpus:
        words.append(f"{status.total_gpus - status.free_gpus} of {status.total_gpus} GPUs busy")
    return ", ".join(words)


def describe_counts(counts: Counts) -> str:
    """Return how many chores stand where: ``40 of 100 completed, 1 failed, 2 running``."""
    words = [f"{counts.completed:,} of {counts.total:,} completed"]
    names = ("failed", "cancelled", "running", "pending")
    words += [f"{number:,} {name}" for name in names if (number := getattr(counts, name))]
    return ", ".join(words)


def describe_status(
    status: RunStatus,
    run: RunDir,
    now: datetime,
    lost: str | None = None,
    *,
    max_groups: int = MAX_GROUPS,
    max_failures: int = MAX_ROOT_FAILURES,
) -> list[str]:
    """Return the lines of ``matensemble status``.

    Parameters
    ----------
    status
        As it was read.
    run
        Where it was read.
    now
        This instant, aware.
    lost
        Why the driver seems lost, or None.
    max_groups, max_failures
        So many of each at most.
    """
    lines = [
        f"Run      {clean_line(run.root.name)}",
        f"Folder   {clean_line(run.root.parent)}",
        f"State    {_describe_state(status, now)}",
    ]
    if lost is not None:
        warning = click.style(f"the driver seems lost: {clean_line(lost)}", fg="red")
        lines.append(f"         {warning}")
        lines.append("         what completed is kept; the counts are those of its last words")
    lines.append(f"Where    {_describe_place(status)}")
    if pace := describe_pace(status):
        lines.append(f"Pace     {pace}")
    if left := _describe_time_left(status, now):
        lines.append(f"Left     {left}")
    lines += ["", *describe_groups(status.groups, status.counts, max_groups)]
    if status.num_root_failures:
        lines += ["", *describe_failures(status, run, max_failures)]
    return lines


def _describe_state(status: RunStatus, now: datetime) -> str:
    words = [click.style(status.state.value, fg=COLOURS[status.state], bold=True)]
    if status.detail:
        words[0] += f" ({clean_line(status.detail)})"
    if status.ended_at is not None:
        ended, took = seconds_since(status.ended_at, now), run_seconds(status, now)
        if ended is not None:
            words.append(f"{describe_seconds(ended)} ago")
        if took is not None:
            words.append(f"after {describe_seconds(took)}")
        return ", ".join(words)
    for verb, instant in (("for", status.started_at), ("updated", status.updated_at)):
        seconds = seconds_since(instant, now)
        if seconds is not None:
            words.append(
                f"{verb} {describe_seconds(seconds)}" + (" ago" if verb == "updated" else "")
            )
    return ", ".join(words)


def _describe_time_left(status: RunStatus, now: datetime) -> str:
    """Return what is left of the allocation; empty where no end is known, or nothing needs it."""
    over = seconds_since(status.ends_at, now)
    if over is None or status.state.is_terminal:
        return ""
    if over < 0:
        return f"{describe_seconds(-over)} of the allocation"
    return f"nothing of the allocation: it ended {describe_seconds(over)} ago"


def _describe_place(status: RunStatus) -> str:
    place = f"{clean_line(status.executor) or 'unknown'} executor"
    if status.host:
        place += f", driven by process {status.pid} on {clean_line(status.host)}"
    use = describe_use(status)
    if status.state.is_terminal:
        use = plural(status.total_cores, "core")
        if status.total_gpus:
            use += ", " + plural(status.total_gpus, "GPU")
    return f"{place}; {plural(status.num_nodes, 'node')}, {use}"


def describe_groups(
    groups: Mapping[str, Counts], counts: Counts, max_groups: int = MAX_GROUPS
) -> list[str]:
    """Return a table of the counts by group; where there are too many, the largest of them."""
    shown = list(groups.items())
    if len(shown) > max_groups:
        shown = sorted(shown, key=lambda item: (-item[1].total, item[0]))[:max_groups]
    rows = [(shorten(clean_line(name), MAX_NAME_WIDTH), *_cells(c)) for name, c in shown]
    if len(groups) > len(shown):
        names = {name for name, _ in shown}
        rest = add_counts(*(c for name, c in groups.items() if name not in names))
        rows.append((f"{len(groups) - len(shown)} more groups", *_cells(rest)))
    if len(groups) != 1:
        rows.append(("all", *_cells(counts)))
    header = ("Group", *Counts.__dataclass_fields__)
    return table(header, rows)


def _cells(counts: Counts) -> tuple[str, ...]:
    return tuple(f"{number:,}" if number else "·" for number in astuple(counts))


def add_counts(*counts: Counts) -> Counts:
    """Return the sum of several counts."""
    return Counts(*map(sum, zip(*map(astuple, counts), strict=True))) if counts else Counts()


def describe_failures(status: RunStatus, run: RunDir, limit: int = MAX_ROOT_FAILURES) -> list[str]:
    """Return the root failures with their reasons and where to look; empty where there are none."""
    shown = status.root_failures[:limit]
    if not shown:
        return []
    num = status.num_root_failures
    head = plural(num, "chore") + " failed"
    if status.counts.failed > num:
        others = status.counts.failed - num
        head += f", and {others:,} that {'depends' if others == 1 else 'depend'} on " + (
            "it" if num == 1 else "them"
        )
    if num > len(shown):
        head += f"; the first {len(shown)}"
    lines = [f"{head}:"]
    for failure in shown:
        chore_id, detail = clean_line(failure.chore_id), clean_line(failure.detail)
        reason = click.style(clean_line(failure.reason), fg="red")
        if failure.exit_code is not None:
            reason += f" (exit code {failure.exit_code})"
        lines.append(f"  {chore_id}: {reason}" + (f": {detail}" if detail else ""))
    started = next((f.chore_id for f in shown if f.reason not in _NEVER_STARTED), None)
    if started is not None:
        stderr_path = run.chore_file(clean_line(started), STDERR)
        command = f"matensemble logs {quote_path(run.root)} {clean_line(started)} --stderr"
        lines += [f"Look into {clean_line(stderr_path)}", f"  or type {command}"]
    return lines


def quote_path(path: Path) -> str:
    """Return a path as one types it in a shell, cleaned."""
    return shlex.quote(clean_line(path))
