"""Small results that a warm worker sent along, until the chores that need them are on their way.

Owns how many are kept: the latest ones, up to a size. They are bytes here, and never loaded: a
chore that runs on a warm worker gets them with its record, and need not read the file. Written by
the engine when an attempt is settled, read by `launch`; both on the thread that owns the state.
"""

from __future__ import annotations

from collections import OrderedDict

MAX_RESULT_BYTES = 16 << 10
"""Larger results are read from their file."""
MAX_BYTES = 64 << 20
"""Of all together."""


class SmallResults:
    """The latest small results, by attempt.

    Parameters
    ----------
    max_bytes
        So many are kept, at most.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._payloads: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def keep(self, chore_id: str, attempt: int, payload: bytes) -> None:
        """Keep the pickle of a result; one that is larger than promised is not kept. O(1)."""
        if len(payload) > MAX_RESULT_BYTES or (chore_id, attempt) in self._payloads:
            return
        self._payloads[chore_id, attempt] = payload
        self._num_bytes += len(payload)
        while self._num_bytes > self._max_bytes:
            _, oldest = self._payloads.popitem(last=False)
            self._num_bytes -= len(oldest)

    def find(self, chore_id: str, attempt: int) -> bytes | None:
        """Return the pickle of what an attempt returned, None where it is not kept."""
        payload = self._payloads.get((chore_id, attempt))
        if payload is not None:
            self._payloads.move_to_end((chore_id, attempt))
        return payload
