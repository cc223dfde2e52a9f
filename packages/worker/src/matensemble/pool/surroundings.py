"""What a chore finds around it in a slot, and what is put right behind it.

Owns environment, working directory, umask, signals, the standard streams and settings of Python,
and the look at what a chore left behind: threads, open files, child processes, limits of the
process. Where that cannot be put right, the slot is to end. Called by `slot`.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # `signal` itself loads enum
import _socket
import gc
import os
import resource
import sys
from _thread import _count as _count_threads

from matensemble import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_OF_THE_SLOT = (
    *(environment.JOBID, environment.TASK_RANK, environment.NUM_TASKS),
    *environment.VISIBLE_DEVICES,
)
"""Variables that a chore has also where it inherits none."""
_LIMITS = tuple(
    getattr(resource, f"RLIMIT_{name}")
    for name in ("AS", "CORE", "CPU", "DATA", "FSIZE", "NOFILE", "NPROC", "STACK")
    if hasattr(resource, f"RLIMIT_{name}")
)
_SIGNALS = tuple(sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))


class Surroundings:
    """What chores of this process find, as it was when the process started."""

    def __init__(self) -> None:
        self._home = "/"  # keeps no directory of a run busy
        self._variables: dict[bytes, bytes] = vars(os.environ)["_data"]
        self._inherited = dict(self._variables)
        kept = {os.fsencode(name) for name in _OF_THE_SLOT}
        self._bare = {name: value for name, value in self._inherited.items() if name in kept}
        self._set: dict[bytes, bytes] = {}  # what was set last, and for what
        self._set_for: tuple[Mapping[str, str], bool | None] = {}, None
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._handlers = [*map(signal.getsignal, _SIGNALS)]
        self._streams = (sys.stdin, sys.stdout, sys.stderr)
        self._privileges = _privileges()
        self._recursion_limit = sys.getrecursionlimit()
        self._path = [*sys.path]
        self._note()

    def _note(self) -> None:
        """Take what is there now for what belongs to the slot."""
        self._num_modules = len(sys.modules)
        self._num_threads = _count_threads()
        self._free_descriptor = _find_free_descriptor()

    def enter(self, cwd: str, env: Mapping[str, str], inherit: bool) -> None:
        """Make the directory of a chore, enter it and set its variables.

        Raises
        ------
        OSError
            If there is no such directory and it cannot be made.
        """
        try:
            os.mkdir(cwd, 0o700)
            if self._umask & 0o700:
                os.chmod(cwd, 0o700)
        except FileExistsError:  # of an earlier attempt
            pass
        os.chdir(cwd)
        self._set_variables(env, inherit)
        script_dir = env.get(environment.SCRIPT_DIR)
        if script_dir and script_dir not in sys.path:
            sys.path.append(script_dir)
        self._path = [*sys.path]

    def _set_variables(self, env: Mapping[str, str], inherit: bool) -> None:
        """Set the variables of a chore; most are those of the chore before."""
        present = self._variables
        last_env, last_inherit = self._set_for
        self._set_for = {}, None  # until all of it is set
        if inherit == last_inherit and env.keys() == last_env.keys() and present == self._set:
            changed = [(name, value) for name, value in env.items() if last_env[name] != value]
            wanted = {os.fsencode(name): os.fsencode(value) for name, value in changed}
        else:
            wanted = dict(self._inherited if inherit else self._bare)
            wanted.update((os.fsencode(name), os.fsencode(value)) for name, value in env.items())
            for key in [key for key in present if key not in wanted]:
                del os.environb[key]
            self._set = {}
        for key, value in wanted.items():
            if present.get(key) != value:
                os.environb[key] = value
        self._set.update(wanted)
        self._set_for = env, inherit

    def leave(self) -> bool:
        """Put right what a chore changed; return whether the next one finds what this one found.

        Raises
        ------
        OSError
            If it cannot be put right.
        """
        os.chdir(self._home)
        os.umask(self._umask)
        self._restore_settings()
        is_whole = self._restore_signals() and self._restore_streams() and not _has_children()
        if len(sys.modules) != self._num_modules:
            # What modules open and start at their import stays for every later chore.
            self._note()
        return (
            is_whole
            and _privileges() == self._privileges
            and _count_threads() <= self._num_threads
            and _find_free_descriptor() == self._free_descriptor
        )

    def _restore_settings(self) -> None:
        """Put right what Python keeps for the whole process, and a chore may set for itself."""
        if sys.path != self._path and len(sys.modules) == self._num_modules:
            sys.path[:] = self._path  # else perhaps an import needs what it added
        if sys.getrecursionlimit() != self._recursion_limit:
            sys.setrecursionlimit(self._recursion_limit)
        if not gc.isenabled():
            gc.enable()
        if _socket.getdefaulttimeout() is not None:
            _socket.setdefaulttimeout(None)

    def _restore_signals(self) -> bool:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        if signal.pthread_sigmask(signal.SIG_BLOCK, ()):
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
        present = [*map(signal.getsignal, _SIGNALS)]
        if present != self._handlers:
            for number, handler, own in zip(_SIGNALS, present, self._handlers, strict=True):
                if handler is own:
                    continue
                if handler is None or own is None:  # set by other than Python
                    return False
                signal.signal(number, own)
        return True

    def _restore_streams(self) -> bool:
        sys.stdin, sys.stdout, sys.stderr = self._streams
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = self._streams  # type: ignore[misc, assignment]
        stdin, stdout, stderr = self._streams
        return not (stdin.closed or stdout.closed or stderr.closed)


def _privileges() -> tuple[object, ...]:
    """Return what a process may use, and how it stands against others."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    return (*map(resource.getrlimit, _LIMITS), os.getpriority(os.PRIO_PROCESS, 0), cores)


def _find_free_descriptor() -> int:
    """Return the lowest free descriptor: a file that stays open takes it."""
    descriptor = os.dup(0)
    os.close(descriptor)
    return descriptor


def _has_children() -> bool:
    """Return whether a child process lives; what ended and was not waited for is cleared away."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True
