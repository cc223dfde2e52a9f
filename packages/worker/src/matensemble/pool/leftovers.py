"""What a chore has left to be done when its function returns, and the doing of it.

A process of its own waits at its end for its threads, calls what was registered for the exit and
writes what stands in buffers; a chore counts as ended only then. In a slot the same is done behind
the chore that left it, and the process ends after that. What came with the import of modules is
theirs, and is done when the slot ends. Called by `slot`.
"""

from __future__ import annotations

import atexit
import io
import sys
from _thread import _count as _count_threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, ModuleType
    from typing import Any


class Leftovers:
    """What chores leave; make it once a process, before the first chore."""

    def __init__(self) -> None:
        self._has_exits = False
        self._num_threads = _count_threads()
        self._register = atexit.register
        atexit.register = self._take_exit  # type: ignore[assignment]

    def _take_exit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Register a function for the exit, and note whether it is the chore that does it."""
        frame = sys._getframe(1)
        top = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        self._has_exits |= top not in sys.stdlib_module_names and not _is_importing(frame)
        return self._register(function, *args, **kwargs)

    def settle(self) -> bool:
        """Do what is left to be done, as the end of a process would.

        Returns
        -------
        bool
            Whether there was something, so that the process can serve no further chore.
        """
        threading = sys.modules.get("threading")
        has_threads = _count_threads() > self._num_threads and _has_lasting(threading)
        if not (has_threads or self._has_exits):
            return False
        if threading is not None:
            threading._shutdown()  # wakes idle pools of threads, and waits for the others
        atexit._run_exitfuncs()
        _write_out()
        return True


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether a frame is part of the import of a module."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _has_lasting(threading: ModuleType | None) -> bool:
    """Return whether there are threads for which a process would wait at its end."""
    if threading is None:
        return False
    main = threading.main_thread()
    return any(not one.daemon and one is not main for one in threading.enumerate())


def _write_out() -> None:
    """Write what stands in the buffers of open files; the end of the process comes a little late.

    Dependents of the chore may start before it.
    """
    import gc

    for one in gc.get_objects():
        if isinstance(one, io.IOBase):
            try:
                one.flush()
            except (OSError, ValueError):  # closed, or its file is gone
                continue
