"""What chores and slots have left behind when they have ended, and what is to be told of it.

Owns what is not told by the processes' ends themselves: a result that nobody has spoken of, the
last words of a slot, an empty file. Called by `service`.
"""

from __future__ import annotations

import os
from contextlib import suppress

from matensemble import wire, workdir
from matensemble.errors import ResultCorruptError, ResultMissingError
from matensemble.pool.crew import Item, SlotHandle
from matensemble.pool_messages import Ended
from matensemble.process_keeper import End


class Outcomes:
    """What the driver is to be told, until it is."""

    def __init__(self) -> None:
        self.started: list[tuple[str, int]] = []
        self.ended: list[Ended] = []
        self.returned: list[tuple[str, int]] = []

    def __bool__(self) -> bool:
        return bool(self.ended or self.started or self.returned)


def is_committed(item: Item) -> bool:
    """Return whether a call has its result, though its slot could not say so."""
    if item.order.kind == "program":
        return False
    path = f"{item.read_payload().cwd}/{workdir.RESULT}"
    try:
        return wire.check_result(path, item.order.chore_id) == item.order.attempt
    except (OSError, ResultMissingError, ResultCorruptError):
        return False


def describe_death(slot: SlotHandle, end: End) -> str:
    """Return how a slot that did not come up ended, with the last line it wrote."""
    words = f"its process did not come up: exit code {end.exit_code}"
    with suppress(OSError), open(slot.stderr, errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
        return ": ".join([words, *lines[-1:]])
    return words


def drop_empty(path: str) -> None:
    """Remove a file that nobody has written to."""
    with suppress(OSError):
        if not os.stat(path).st_size:
            os.unlink(path)
