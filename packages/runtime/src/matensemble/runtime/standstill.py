"""Notice that nothing can happen any more: a run never hangs without a word.

Owns that judgement. Called by the engine after each wait, on the thread that owns the state.
"""

from __future__ import annotations

from collections.abc import Collection

from matensemble.errors import RunFailedError
from matensemble.runtime.clock import Clock
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.runtime.scheduler.states import Phase
from matensemble.workdir import RunDir

MAX_IDLE_SECONDS = 20.0
"""How long nothing may run, be held or arrive while chores wait, before the run gives up."""


class Standstill:
    """Watches whether anything still can happen.

    Parameters
    ----------
    run
        For the message.
    state
        Read only.
    clock
        Measures how long nothing happened.
    """

    def __init__(self, run: RunDir, state: SchedulerState, clock: Clock) -> None:
        self._run = run
        self._state = state
        self._clock = clock
        self._idle_since: float | None = None

    def look(self, is_busy: bool, unsettled: Collection[tuple[str, int]]) -> None:
        """Look whether anything can happen.

        Parameters
        ----------
        is_busy
            Whether something happened just now, or is due by the clock.
        unsettled
            Attempts that have ended and were not settled.

        Raises
        ------
        RunFailedError
            If nothing could for `MAX_IDLE_SECONDS`; says what waits, and for what.
        """
        if is_busy:
            self._idle_since = None
            return
        state = self._state
        is_waiting = (
            state.num_live > len(unsettled)
            or state.phase is not Phase.STARTING
            or (not state.num_live and state.ledger.free_cores < state.allocation.num_cores)
        )
        now = self._clock.monotonic()
        if is_waiting or state.is_finished:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since > MAX_IDLE_SECONDS:
            raise RunFailedError(str(self._run.root), self._describe(unsettled))

    def _describe(self, unsettled: Collection[tuple[str, int]]) -> str:
        if unsettled:
            chore_id, _ = next(iter(unsettled))
            return f"the processing strategy was told that {chore_id} ended, and does not settle it"
        waiting = next(entry for entry in self._state if not entry.state.is_terminal)
        story = self._state.story(waiting.chore.id)
        return f"nothing runs and nothing can be started: {story.chore_id} {story.because}"
