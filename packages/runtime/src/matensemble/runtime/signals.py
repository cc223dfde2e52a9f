"""Ctrl-C and SIGTERM: post an event, nothing else; a second Ctrl-C leaves at once.

Handlers are installed on the main thread only, call those that were there before, and are put
back. Flux calls may set SIGINT to its default, so they are kept off the main thread (see the Flux
executor).
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

INTERRUPTING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""SIGHUP is what Flux sends to its initial program when the allocation ends."""

EXIT_CODE_INTERRUPTED = 130


class SignalGuard:
    """Turns the first interrupting signal into a call, the second Ctrl-C into an exit.

    Parameters
    ----------
    on_interrupt
        Called with the name of the signal, on the main thread, between two of its bytecodes: it
        must only hand the fact over.
    """

    def __init__(self, on_interrupt: Callable[[str], None]) -> None:
        self._on_interrupt = on_interrupt
        self._previous: dict[int, Any] = {}
        self._is_over = False
        self._num_interrupts = 0
        self._deadly: int | None = None

    def install(self) -> None:
        """Install the handlers; does nothing off the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in INTERRUPTING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup is to be respected
                self._previous[number] = signal.signal(number, self._handle)

    def release(self) -> None:
        """Put the handlers back: now on the main thread, elsewhere when a signal comes.

        Where a signal was taken and the script has ended meanwhile, nobody is left who could turn
        the error into an exit code: then the interpreter, at its end, dies of that signal.
        """
        self._is_over = True
        if threading.current_thread() is threading.main_thread():
            self._restore()
        elif self._deadly is not None and not threading.main_thread().is_alive():
            atexit.register(_die_of, self._deadly)

    def _restore(self) -> None:
        for number, previous in self._previous.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, previous)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        previous = self._previous.get(number)
        if self._is_over:
            self._restore()
            os.kill(os.getpid(), number)  # as if we had never been there
            return
        self._num_interrupts += number == signal.SIGINT
        if self._num_interrupts > 1:
            os._exit(EXIT_CODE_INTERRUPTED)
        self._on_interrupt(signal.Signals(number).name)
        if callable(previous) and previous is not signal.default_int_handler:
            previous(number, frame)
        else:
            self._deadly = number


def _die_of(number: int) -> None:
    """End the process by a signal, as it would have without us, after all else that is due."""
    atexit.unregister(_die_of)
    atexit._run_exitfuncs()  # registered last, this one came first
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
