"""What a driver does about twice a second besides its chores.

Owns the link between the desk of requests, the deadline of the allocation, and the engine, which
calls what these functions return on the thread that owns the state.
"""

from __future__ import annotations

from matensemble.records import RecordKind
from matensemble.runtime.control_desk import ControlDesk, act, audit
from matensemble.runtime.engine import Duty, Engine
from matensemble.runtime.scheduler.events import DrainRequested, InterruptRequested
from matensemble.runtime.scheduler.instructions import Record
from matensemble.runtime.walltime import Deadline

POLL_SECONDS = 1.0
"""How often requests are looked for."""


def serve_requests(desk: ControlDesk, engine: Engine) -> Duty:
    """Return the duty that carries out what other processes ask for."""
    due = 0.0

    def serve(now: float) -> None:
        nonlocal due
        if now < due:
            return
        due = now + POLL_SECONDS
        for request in desk.poll():
            events, answer = act(request, engine.state)
            engine.amend(events, Record(RecordKind.CONTROL, fields=audit(request, answer)))
            desk.answer(request, answer)

    return serve


def end_in_time(deadline: Deadline, engine: Engine, signal: int | None) -> Duty:
    """Return the duty that brings a run to its end before the allocation ends.

    Parameters
    ----------
    deadline
        When that is.
    engine
        Drives the run.
    signal
        By which what runs is told; None tells nothing.
    """
    has_drained = is_over = False

    def look(now: float) -> None:
        nonlocal has_drained, is_over
        if deadline.is_draining(now) and not has_drained:
            has_drained = True
            engine.amend([DrainRequested("the allocation ends soon", signal)])
        if deadline.is_over(now) and not is_over:
            is_over = True
            engine.amend([InterruptRequested("the allocation ends now")])

    return look
