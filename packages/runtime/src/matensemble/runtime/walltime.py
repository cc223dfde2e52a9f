"""The end of the allocation: how it is learned, and what it means for chores.

Owns the arithmetic of the time that is left. Asks the wall clock at most once, when the end is
learned; from there on only the monotonic clock counts, so that a clock that is set moves no
decision. Called by the manager when a run starts, and by the engine; starts and ends nothing.
"""

from __future__ import annotations

import logging
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from matensemble.errors import InvalidOptionError
from matensemble.runtime.clock import SYSTEM_CLOCK, Clock

END_SECONDS = 10.0
"""So long before the end what still runs is interrupted: TERM, KILL after 3 s, and the last words
on disk take less than 5 s; the rest is for the resource manager."""
MAX_MARGIN_SECONDS = 60.0
MARGIN_SHARE = 0.1
"""Without a margin of the user's, draining begins this share of the time before the end, at most
`MAX_MARGIN_SECONDS`."""
COMMAND_TIMEOUT_SECONDS = 5.0

LOGGER = logging.getLogger("matensemble")

_LEFT = re.compile(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)")
_NO_END = frozenset({"UNLIMITED", "NOT_SET", "N/A", ""})

RunCommand = Callable[[Sequence[str]], str]
"""Returns the stdout of a command, or raises as `run_command`."""


class TimeLeft(NamedTuple):
    """How long the allocation lasts from now on."""

    seconds: float
    """At least 0."""
    source: str
    """Where it is known from, for people: ``walltime``, ``Flux``, ``Slurm``."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """What the end of the allocation means at an instant.

    All instants are those of one monotonic clock, in seconds. The order is always: draining begins,
    what runs is interrupted, the end.

    Raises
    ------
    InvalidOptionError
        If the margin is negative.
    """

    ends_at: float
    """When the allocation ends."""
    margin: float
    """Seconds before the end at which draining begins, at least 0."""

    def __post_init__(self) -> None:
        if not self.margin >= 0:
            raise InvalidOptionError("margin", self.margin, "seconds, 0 or more")

    @classmethod
    def after(cls, seconds: float, now: float, margin: float | None = None) -> Deadline:
        """Return the deadline of an allocation.

        Parameters
        ----------
        seconds
            How long it lasts from now on, at least 0.
        now
            The instant from which they count.
        margin
            Seconds before the end at which draining begins; None takes 10 % of `seconds`, at most
            60 s.
        """
        if margin is None:
            margin = min(MAX_MARGIN_SECONDS, MARGIN_SHARE * seconds)
        return cls(now + seconds, margin)

    @property
    def drains_at(self) -> float:
        """When nothing more is started, and what runs is told that the end is near."""
        return self.ends_at - self.margin

    @property
    def interrupts_at(self) -> float:
        """When what still runs is interrupted: `END_SECONDS` before the end.

        Half the margin before it where that is later, so that draining always comes first.
        """
        return self.ends_at - min(END_SECONDS, self.margin / 2)

    def time_for_chores(self, now: float) -> float:
        """Return the seconds that a chore may take that is started now, at least 0."""
        return max(0.0, self.drains_at - now)

    def is_draining(self, now: float) -> bool:
        """Return whether nothing more is to be started."""
        return now >= self.drains_at

    def is_over(self, now: float) -> bool:
        """Return whether what still runs is to be interrupted."""
        return now >= self.interrupts_at


def run_command(command: Sequence[str]) -> str:
    """Run a command for its stdout, for `COMMAND_TIMEOUT_SECONDS` at most.

    Raises
    ------
    OSError
        If it cannot be started.
    subprocess.SubprocessError
        If it fails or takes too long.
    """
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=COMMAND_TIMEOUT_SECONDS,
        check=True,
    ).stdout


def find_time_left(
    walltime: float | None,
    executor_time_left: float | None,
    environ: Mapping[str, str],
    clock: Clock = SYSTEM_CLOCK,
    run_command: RunCommand = run_command,
) -> TimeLeft | None:
    """Return how long the allocation lasts, None where no end is known.

    The least of all that is known counts: a Flux instance inside a Slurm job may know of no end,
    and a user may want to leave earlier.

    Parameters
    ----------
    walltime
        Seconds that the user gave, counted from now; None where none were given.
    executor_time_left
        What `Executor.time_left` returned.
    environ
        Environment of the driver; names a Slurm job where there is one.
    clock
        Its wall clock is read once, where Slurm tells an instant instead of a span.
    run_command
        Asks Slurm where the environment does not say.
    """
    known = [
        TimeLeft(max(0.0, seconds), source)
        for seconds, source in (
            (walltime, "walltime"),
            (executor_time_left, "Flux"),
            (_ask_slurm(environ, clock, run_command), "Slurm"),
        )
        if seconds is not None
    ]
    return min(known, default=None)


def _ask_slurm(environ: Mapping[str, str], clock: Clock, run_command: RunCommand) -> float | None:
    """Return the seconds that the surrounding Slurm job has left; None where that is not known."""
    job_id = environ.get("SLURM_JOB_ID")
    if not job_id:
        return None
    try:
        left = float(environ["SLURM_JOB_END_TIME"]) - clock.time()
    except (KeyError, ValueError):  # older than 23.02, or a job without an end
        left = 0.0
    if 0 < left < float("inf"):
        return left
    command = ["squeue", "--noheader", f"--jobs={job_id}", "--format=%L"]
    try:
        answer = run_command(command)
    except (OSError, subprocess.SubprocessError) as error:
        LOGGER.warning("Slurm does not tell when job %s ends, --walltime would: %s", job_id, error)
        return None
    return _least([parse_slurm_time(line) for line in answer.splitlines()])


def _least(spans: Sequence[float | None]) -> float | None:
    """Return the least that is known: the parts of a heterogeneous job have a line each."""
    return min((span for span in spans if span is not None), default=None)


def parse_slurm_time(text: str) -> float | None:
    """Return a span of time as Slurm prints it, in seconds.

    Parameters
    ----------
    text
        ``MM:SS``, ``HH:MM:SS`` or ``D-HH:MM:SS``, or a word.

    Returns
    -------
    float or None
        None for a job without an end, and for what is no span of time; the latter is logged.
        ``INVALID``, which stands for less than nothing, is such: to believe it would end a run
        at once where the clocks of a cluster differ.
    """
    text = text.strip()
    if text in _NO_END:
        return None
    match = _LEFT.fullmatch(text)
    if match is None:
        LOGGER.warning("Slurm told %r as the time left, which is no span of time", text)
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
