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

INTERRUPTING_BY_DEFAULT = tuple(
    getattr(signal, name) for name in ("SIGALRM",) if hasattr(signal, name)
)
"""Taken only where nobody uses them: Flux sends SIGALRM to a job whose time is over."""

EXIT_CODE_INTERRUPTED = 130

Listener = Callable[[str], None]


class SignalSwitch:
    """Turns the first interrupting signal into calls, the second Ctrl-C into an exit.

    There is one for the process, `SWITCH`: several runs may be alive at once or one after the
    other, and handlers that chained to one another would outlive their runs.
    """

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._previous: dict[int, Any] = {}
        self._num_interrupts = 0
        self._deadly: int | None = None

    def add(self, listener: Listener) -> None:
        """Call `listener` when a signal comes; handlers are installed on the main thread only.

        Parameters
        ----------
        listener
            Called with the name of the signal, on the main thread, between two of its bytecodes:
            it must only hand the fact over.
        """
        if not self._listeners:
            self._num_interrupts, self._deadly = 0, None
        self._listeners.append(listener)
        if threading.current_thread() is not threading.main_thread():
            return
        for number in INTERRUPTING:
            present = signal.getsignal(number)
            # nohup is to be respected; and who came after us goes on being called
            if present is not signal.SIG_IGN and present != self._handle:
                self._previous[number] = signal.signal(number, self._handle)
        for number in INTERRUPTING_BY_DEFAULT:
            if signal.getsignal(number) is signal.SIG_DFL:
                self._previous[number] = signal.signal(number, self._handle)

    def remove(self, listener: Listener) -> None:
        """Call `listener` no more; after the last one the handlers are put back.

        That happens now on the main thread, elsewhere when a signal comes. Where a signal was taken
        and the script has ended meanwhile, nobody is left who could turn the error into an exit
        code: then the interpreter, at its end, dies of that signal.
        """
        self._listeners.remove(listener)
        if self._listeners:
            return
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
        if not self._listeners and signal.getsignal(number) == self._handle:
            self._restore()
            os.kill(os.getpid(), number)  # as if we had never been there
            return
        if self._listeners:
            self._num_interrupts += number == signal.SIGINT
            if self._num_interrupts > 1:
                os._exit(EXIT_CODE_INTERRUPTED)
            for listener in tuple(self._listeners):
                listener(signal.Signals(number).name)
        elif previous is signal.default_int_handler:
            previous(number, frame)
        if callable(previous) and previous is not signal.default_int_handler:
            previous(number, frame)
        else:
            self._deadly = number


SWITCH = SignalSwitch()


def _die_of(number: int) -> None:
    """End the process by a signal, as it would have without us, after all else that is due."""
    atexit.unregister(_die_of)
    atexit._run_exitfuncs()  # registered last, this one came first
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
