"""One connection of a browser or a program, and how long it may take.

Owns the patience with whoever is slow: a question must come whole, and an answer be taken, within
a time. Without that, `serve.MAX_CONNECTIONS` silent connections of any other user of a login node
would shut out the owner, with no token and for good. Called by uvicorn, as `serve` tells it.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 15.0
"""For a whole question, from the start of the connection or the end of the answer before it."""
ANSWER_SECONDS = 60.0
"""For what waits to be sent to become less; an answer as a whole may take any time."""


class Connection(H11Protocol):
    """A connection that is cut where the other side keeps it waiting."""

    _asking: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a question."""
        super().connection_made(transport)
        self._expect_question()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing any more."""
        _cancel(self._asking)
        _cancel(self._taking)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Expect the next question."""
        self._expect_question()  # first: one that waits already begins its answer in the next line
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Expect the other side to take what waits for it."""
        super().pause_writing()
        self._taking = self.loop.call_later(ANSWER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on, since enough was taken."""
        _cancel(self._taking)
        super().resume_writing()

    def _expect_question(self) -> None:
        _cancel(self._asking)
        self._asking = self.loop.call_later(REQUEST_SECONDS, self._cut_if_waiting)

    def _cut_if_waiting(self) -> None:
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self.transport.abort()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
