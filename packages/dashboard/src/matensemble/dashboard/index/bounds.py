"""How much of what a run's files say is kept: bounds on text and numbers, and cleaning.

Called by whatever takes text out of a header or a record; reads no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from matensemble.model import Resources
from matensemble.terminal import clean_line

MAX_TEXT = 2_000
"""Characters that are kept of a line of detail; of names and ids 255."""
MAX_NAME = 255
MAX_NUMBER = 2**31
MAX_SEQUENCE = 2**62
MAX_WALL = 2.0**40
"""Seconds since the Unix epoch: tens of thousands of years."""


class Request(NamedTuple):
    """Cores and GPUs of all tasks of a chore together."""

    cores: int
    gpus: int


DEFAULT_REQUEST = Request(Resources().num_cores, Resources().num_gpus)


def clean(text: str, limit: int = MAX_TEXT) -> str:
    """Return text of a run's file as one bounded line that commands nothing."""
    if len(text) <= limit and text.isprintable():
        return text
    return clean_line(text[: 2 * limit])[:limit]


def request_of(resources: Mapping[str, Any] | None) -> Request:
    """Return what a chore asks for, from what `Resources.to_json` returned.

    Raises
    ------
    TypeError, ValueError, AttributeError
        If it is no such thing, or asks for more than any machine has.
    """
    return _request(tuple(resources.items())) if resources else DEFAULT_REQUEST


@lru_cache(maxsize=1024)  # a million chores share a few requests
def _request(items: tuple[tuple[str, Any], ...]) -> Request:
    asked = Resources.from_json(dict(items))
    if max(asked.num_cores, asked.num_gpus) >= MAX_NUMBER:
        raise ValueError("it asks for more than any machine has")
    return Request(asked.num_cores, asked.num_gpus)
