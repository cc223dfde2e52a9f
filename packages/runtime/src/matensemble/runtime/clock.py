"""Time as a port: the runtime asks a clock, never the module `time`, so that tests can set it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """The two clocks of the module `time`, which is itself one."""

    def monotonic(self) -> float:
        """Return seconds since some instant; never goes back. For every decision."""

    def time(self) -> float:
        """Return seconds since the Unix epoch. For display only."""


SYSTEM_CLOCK: Clock = time
