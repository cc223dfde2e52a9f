"""A warm worker: serves the pooled chores of one driver on one node.

``python -P -m matensemble.pool.node --worker KEY --address-file PATH``, and optionally

``--cores N``, ``--gpus N``
    What it has for chores; default: the cores that this process may use, the GPUs that it sees.
``--unbound``
    Bind no chore to its cores. Else they are bound, where there are as many as it may use.
``--recycle-after N``
    Replace a slot after so many chores; 0, the default: never.

The driver's executor starts it as a job, and the driver says everything else over the connection
that the address file names; the messages are described in `matensemble.pool_messages`.

Owns the loop, the connection and the end of the worker; the chores are `service`'s. One thread, one
selector: the connection, the slots and the keeper's processes wake it.

How it ends
    When the driver says so and what runs has ended; by SIGTERM; when its parent is gone, or its
    driver has been silent for `SILENCE_SECONDS`. In all but the first case whatever runs is ended.
    The exit code is 0 in the first case, else 1; what is wrong with it is a line on stderr.
"""

from __future__ import annotations

import argparse
import os
import selectors
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING

from matensemble import environment
from matensemble.errors import FormatError, InvalidOptionError
from matensemble.gpu import find_gpus
from matensemble.pool.service import Service
from matensemble.pool_messages import (
    SILENCE_SECONDS,
    Bye,
    Cancel,
    Close,
    Extend,
    FromDriver,
    Hello,
    Ping,
    Pong,
    Report,
    Run,
    Signal,
    Withdraw,
    read_address,
)
from matensemble.process_keeper import ORPHAN_GRACE_SECONDS, SWEEP_LIMIT_SECONDS

if TYPE_CHECKING:
    from matensemble.pool.link import Link

REPORT_SECONDS = 0.005
"""How long an outcome waits for others at most, while the worker has more to do."""
LONGEST_NAP_SECONDS = 0.001
SHORTEST_NAP_SECONDS = 0.0002
"""How long it hears nobody while its slots have enough to do: each time it wakes up costs as much
as a chore, whether one slot has answered or all have answered ten times."""
LINGER_SECONDS = 2.0
"""How long the last words of a worker may take on their way."""
HASTE_SECONDS = 0.5
"""How long they may take where somebody may be about to kill it."""
CONNECT_SECONDS = 15.0
"""How long the driver may say nothing at all: three of its pings."""
LOOK_SECONDS = 1.0
"""Longest time between two looks whether driver and parent are there."""


class Node:
    """The worker.

    Parameters
    ----------
    name
        Its key.
    link
        Its connection.
    service
        What it does.
    selector
        What both wait with.
    num_cores, num_gpus
        What it has for chores.
    """

    def __init__(
        self,
        name: str,
        link: Link,
        service: Service,
        selector: selectors.BaseSelector,
        num_cores: int,
        num_gpus: int,
    ) -> None:
        self._link = link
        self._service = service
        self._selector = selector
        self._hello = Hello(name, socket.gethostname(), os.getpid(), num_cores, num_gpus)
        self._is_up = False
        self._is_closing = False
        self._problem = ""
        self._heard = monotonic()
        self._is_heard = False
        self._report_at: float | None = None
        self._parent = os.getppid()
        selector.register(link, selectors.EVENT_READ, lambda: None)  # it is asked in each turn
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):  # an old kernel, a sandbox: looking from time to time has to do
                parent = os.pidfd_open(self._parent)
                selector.register(parent, selectors.EVENT_READ, self._lose_parent)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._take_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: for the driver to decide

    def run(self) -> int:
        """Serve until the end, and return the exit code."""
        try:
            while not self._has_ended():
                self._wait()
                self._turn()
            self._tell()
            self._end()
        finally:
            self._service.keeper.kill_all()
        if self._problem:
            sys.stderr.write(f"matensemble.pool.node: {self._problem}\n")
            self._link.close(HASTE_SECONDS)
            return 1
        self._link.send(Bye())
        self._link.close(LINGER_SECONDS)
        return 0

    def _turn(self) -> None:
        if self._link.has_message():
            self._heard = monotonic()
            self._is_heard = True
            try:
                for message in self._link.receive():
                    self._obey(message)
            except FormatError as error:
                self._fail(str(error))
                return
        service = self._service
        service.act()
        if service.problem and not self._is_up:
            self._fail(f"it cannot run chores: {service.problem}")
            return
        if service.is_ready and not self._is_up:
            self._is_up = True
            self._link.send(self._hello)
        if service.outcomes and self._report_at is None:
            self._report_at = monotonic() + REPORT_SECONDS
        # What waits here holds nobody up as long as there is more to do.
        if self._report_at is not None and (
            not service.has_plenty or self._report_at <= monotonic()
        ):
            self._tell()

    def _has_ended(self) -> bool:
        return bool(self._problem) or (self._is_closing and self._service.is_idle)

    def _wait(self) -> None:
        """Wait until something has happened or is due."""
        now = monotonic()
        deadlines = [self._service.find_deadline(), self._report_at, now + LOOK_SECONDS]
        timeout = max(0.0, min(at for at in deadlines if at is not None) - now)
        if self._link.has_message():
            timeout = 0.0
        nap = min(timeout, self._service.spare_seconds / 2, LONGEST_NAP_SECONDS)
        if nap >= SHORTEST_NAP_SECONDS:
            sleep(nap)
            timeout = 0.0
        for key, _ in self._selector.select(timeout):
            key.data()
        now = monotonic()
        if now - self._heard >= (SILENCE_SECONDS if self._is_heard else CONNECT_SECONDS):
            self._fail_for_silence()
        elif os.getppid() != self._parent:
            self._lose_parent()

    def _fail_for_silence(self) -> None:
        if self._is_heard:
            self._fail(f"its driver has been silent for {SILENCE_SECONDS:.0f} s")
            return
        self._fail(
            f"its driver was not reached at {self._link.endpoint} for {CONNECT_SECONDS:.0f} s "
            f"({environment.POOL_ADDRESS}, where the driver runs, can name another address of it)"
        )

    def _obey(self, message: FromDriver) -> None:
        service = self._service
        match message:
            case Run(orders):
                service.add(orders)
            case Ping():
                self._link.send(Pong())
            case Cancel(chore_id, attempt):
                service.cancel((chore_id, attempt))
            case Signal(chore_id, attempt, number):
                service.signal((chore_id, attempt), number)
            case Extend(chore_id, attempt, duration):
                service.extend((chore_id, attempt), duration)
            case Withdraw(limit):
                service.withdraw(limit)
            case Close():
                self._is_closing = True
                service.close()

    def _tell(self) -> None:
        """Send what there is to be told."""
        self._report_at = None
        outcomes = self._service.outcomes
        if not outcomes:
            return
        self._link.send(
            Report(tuple(outcomes.started), tuple(outcomes.ended), tuple(outcomes.returned))
        )
        outcomes.started.clear()
        outcomes.ended.clear()
        outcomes.returned.clear()

    def _take_signal(self, number: int, _: object) -> None:
        self._fail(f"it was told to end by {signal.Signals(number).name}")

    def _lose_parent(self) -> None:
        self._fail("what started it is gone")

    def _fail(self, problem: str) -> None:
        self._problem = self._problem or problem

    def _end(self) -> None:
        """End all processes: after work that is done at ease, else at once."""
        keeper = self._service.keeper
        for key in [*self._selector.get_map().values()]:
            if key.data == self._lose_parent:
                self._selector.unregister(key.fileobj)
        self._selector.unregister(self._link)
        if self._service.is_idle:  # slots may have something to do at their end
            self._service.retire()
        else:
            keeper.end_all(ORPHAN_GRACE_SECONDS)
        give_up_at = monotonic() + 2 * SWEEP_LIMIT_SECONDS
        while not keeper.is_idle and monotonic() < give_up_at:
            due = keeper.find_deadline() or give_up_at
            for key, _ in self._selector.select(max(0.0, min(due, give_up_at) - monotonic())):
                key.data()
            keeper.act()
        keeper.end_strangers(give_up_at)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker and return its exit code."""
    options = _parse(arguments)
    _keep_descriptors()
    try:
        from matensemble.pool.link import Link
    except ModuleNotFoundError as error:
        if error.name != "zmq":
            raise
        sys.stderr.write(
            "matensemble.pool.node: warm workers need pyzmq, which is not installed for "
            f"{sys.executable}: pip install 'matensemble-worker[pool]'\n"
        )
        return 1
    try:
        address = read_address(options.address_file)
        gpus = find_gpus(os.environ, options.gpus)
    except (OSError, FormatError, InvalidOptionError) as error:
        sys.stderr.write(f"matensemble.pool.node: {error}\n")
        return 1
    usable = _usable_cores()
    num_cores = options.cores or len(usable)
    binds = hasattr(os, "sched_setaffinity") and num_cores == len(usable) and not options.unbound
    selector = selectors.DefaultSelector()
    service = Service(
        selector,
        os.path.dirname(os.path.abspath(options.address_file)),
        usable if binds else list(range(num_cores)),
        binds,
        gpus,
        environment.inheritable(os.environ),
        options.recycle_after,
    )
    link = Link(address, options.worker)
    return Node(options.worker, link, service, selector, num_cores, len(gpus.ids)).run()


def _keep_descriptors() -> None:
    """Keep what the job of this worker has open from chores: a process manager's channel, say."""
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # the one by which the directory was read
            if int(name) > 2:
                os.set_inheritable(int(name), False)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -P -m matensemble.pool.node", allow_abbrev=False)
    parser.add_argument("--worker", required=True, help="key of this worker")
    parser.add_argument("--address-file", required=True, help="where the driver is")
    parser.add_argument("--cores", type=int, help="cores for chores; default: those usable")
    parser.add_argument("--gpus", type=int, help="GPUs for chores; default: those visible")
    parser.add_argument("--unbound", action="store_true", help="do not bind chores to their cores")
    parser.add_argument("--recycle-after", type=int, default=0, help="chores per slot; 0: no limit")
    return parser.parse_args(arguments)


def _usable_cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


if __name__ == "__main__":
    sys.exit(main())
