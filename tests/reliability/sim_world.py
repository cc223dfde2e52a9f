"""A world without real time: one clock, what will happen on it, and a disk that can fail.

Everything random comes from one `random.Random(seed)`, and everything happens on one thread, so a
seed tells the whole story. Time moves only where the driver waits: in `VirtualInbox.get`.
"""

from __future__ import annotations

import errno
import heapq
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from random import Random

EPOCH = 1_767_225_600.0
MAX_WAITS = 60_000
"""Waits of one driver, beyond which it is judged to spin."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Killed(BaseException):
    """The driver is killed at this very instruction; whatever it still tries has no effect."""


class World:
    """What there is besides the driver: time, and what will happen.

    Attributes
    ----------
    now
        Virtual seconds; the monotonic clock of every driver.
    in_driver
        Whether the driver's own code runs, as against the cluster's.
    is_dead
        Whether the driver was killed and its frames only unwind.
    """

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.now = 100.0
        self.wall_offset = 0.0
        self.in_driver = False
        self.is_dead = False
        self.kill_rate = 0.0
        self.num_events = 0
        self.num_waits = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    # --- the port `Clock` ---

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return EPOCH + self.now + self.wall_offset

    # --- what will happen ---

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now + seconds, next(self._numbers), action))

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def kill(self) -> None:
        self.is_dead = True
        raise Killed

    def perhaps_kill(self) -> None:
        if self.is_dead or (self.kill_rate and self.chance(self.kill_rate)):
            self.kill()

    def pass_until(self, deadline: float, is_enough: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, up to a moment or until something is as wanted."""
        while not is_enough() and self._heap and self._heap[0][0] <= deadline:
            due, _, action = heapq.heappop(self._heap)
            self.now = max(self.now, due)
            self.num_events += 1
            was_in_driver, self.in_driver = self.in_driver, False
            try:
                action()
            finally:
                self.in_driver = was_in_driver
        if not is_enough():
            self.now = max(self.now, deadline)


class VirtualInbox(SimpleQueue):
    """The queue into the engine, whose waiting moves the time of the world."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def get(self, block=True, timeout=None):
        world = self._world
        world.perhaps_kill()
        world.num_waits += 1
        assert world.num_waits < MAX_WAITS, "the driver spins without an end"
        assert timeout is not None, "the driver would wait for ever"
        # Nothing takes no time at all.
        world.pass_until(world.now + timeout + 1e-6, lambda: not self.empty())
        if self.empty():
            raise Empty
        return super().get_nowait()


class Disk:
    """The module `os`, as the driver sees it: it may fail, write half, or be the last thing seen.

    Parameters
    ----------
    world
        Decides.
    root
        The run directory; nothing outside is touched.
    """

    CODES = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
    _NAMED = ("replace", "rename", "link", "mkdir", "unlink")

    def __init__(self, world: World, root: Path) -> None:
        self._world = world
        self._root = f"{root}/"
        self._thread = threading.get_ident()
        self._real = {name: getattr(os, name) for name in (*self._NAMED, "open", "write", "fsync")}
        self._real_close = os.close
        self._code: int | None = None
        self._fault_rate = 0.0
        self.journal: int | None = None
        self.synced = 0
        """Bytes of the journal that would survive the loss of the node."""
        self.num_faults = 0

    @property
    def is_failing(self) -> bool:
        return self._code is not None

    def begin_to_fail(self) -> None:
        self._code = self._world.rng.choice(self.CODES)
        self._fault_rate = self._world.rng.choice((0.3, 1.0))

    def stop_failing(self) -> None:
        self._code = None

    def forget_driver(self) -> None:
        """Close what a killed process would not have open any more."""
        if self.journal is not None:
            with suppress(OSError):
                self._real_close(self.journal)
            self.journal = None

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """Be the module `os` for a while."""
        wrapped = {name: self._wrap(name) for name in self._NAMED}
        wrapped |= {
            "open": self._open,
            "write": self._write,
            "fsync": self._fsync,
            "close": self._close,
        }
        saved = {name: getattr(os, name) for name in wrapped}
        for name, function in wrapped.items():
            setattr(os, name, function)
        try:
            yield
        finally:
            for name, function in saved.items():
                setattr(os, name, function)

    def _is_driver(self) -> bool:
        return self._world.in_driver and threading.get_ident() == self._thread

    def _before(self) -> None:
        """Fail, or let the driver be killed, instead of an operation."""
        self._world.perhaps_kill()
        if self._code is not None and self._world.chance(self._fault_rate):
            self.num_faults += 1
            raise OSError(self._code, os.strerror(self._code))

    def _wrap(self, name: str):
        real = self._real[name]

        def operate(path, *args, **keywords):
            if not self._is_driver() or not os.fspath(path).startswith(self._root):
                return real(path, *args, **keywords)
            self._before()
            answer = real(path, *args, **keywords)
            self._world.perhaps_kill()
            return answer

        return operate

    def _open(self, path, flags, *args, **keywords):
        real = self._real["open"]
        if (
            not flags & _WRITING
            or not self._is_driver()
            or not os.fspath(path).startswith(self._root)
        ):
            return real(path, flags, *args, **keywords)
        self._before()
        descriptor = real(path, flags, *args, **keywords)
        if Path(path).name.startswith("journal."):
            self.journal, self.synced = descriptor, 0
        return descriptor

    def _write(self, descriptor, data):
        if descriptor != self.journal or not self._is_driver():
            return self._real["write"](descriptor, data)
        world = self._world
        self._before()
        if world.kill_rate and world.chance(world.kill_rate):  # torn
            self._real["write"](descriptor, data[: world.rng.randrange(len(data))])
            world.kill()
        if len(data) > 1 and self._code is not None:  # some of it still found room
            data = data[: world.rng.randrange(1, len(data))]
        return self._real["write"](descriptor, data)

    def _fsync(self, descriptor):
        if descriptor != self.journal or not self._is_driver():
            return  # nobody pulls the plug of the machine of this test
        self._before()
        self.synced = os.fstat(descriptor).st_size

    def _close(self, descriptor):
        if descriptor == self.journal:
            self.journal = None
        return self._real_close(descriptor)
