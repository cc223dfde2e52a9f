"""A slot as its node sees it: what it was given, what it has answered, what it has not read.

Owns the node's end of a slot's socket and the order of what was sent through it. Starts no process
and decides nothing; `service` does.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import NamedTuple

from matensemble.pool import packet
from matensemble.pool.shares import Share
from matensemble.pool_messages import Order, Payload, decode_payload

_TYPE = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
LINK_SECONDS = 0.25
"""How long a chore runs before its output is given its final name, and between two looks for it."""
_LARGEST_READ = 2 * packet.MAX_PACKET_BYTES


class Item:
    """One attempt of a chore at a worker.

    Attributes
    ----------
    cause
        Why it is being ended, as in `matensemble.model.Reason`; None: it is not.
    started
        When it started, by the monotonic clock, as far as the node knows; None: it has not.
    deadline
        When it is to be ended; None: no limit, or not started.
    is_told
        Whether the driver knows that it runs.
    look_at
        When to look for its output again.
    slot, number
        The slot that it was sent to, and what it is there.
    job, share
        Of a program that runs: what the keeper knows it by, and what it holds.
    """

    __slots__ = (
        *("cause", "deadline", "duration", "is_told", "job", "look_at", "number", "order"),
        *("payload", "share", "slot", "started"),
    )

    def __init__(self, order: Order) -> None:
        self.order = order
        self.duration = order.duration
        self.cause: str | None = None
        self.payload: Payload | None = None  # once it was needed
        self.slot: SlotHandle | None = None
        self.job: str | None = None
        self.share: Share | None = None
        self.started: float | None = None
        self.deadline: float | None = None
        self.look_at = 0.0
        self.number = 0
        self.is_told = False

    @property
    def key(self) -> tuple[str, int]:
        """Chore and attempt."""
        return self.order.chore_id, self.order.attempt

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of cores and GPUs."""
        return self.order.cores, self.order.gpus

    def read_payload(self) -> Payload:
        """Return what it is."""
        if self.payload is None:
            self.payload = decode_payload(self.order.payload)
        return self.payload


class Reply(NamedTuple):
    """What a slot said."""

    flags: int
    exit_code: int
    elapsed: float
    data: bytes | None


class SlotHandle:
    """One slot.

    Parameters
    ----------
    job
        What the keeper knows its process by.
    share
        The cores and GPUs that its process is bound to; they are held while it has something to do.
    directory
        Where its files are.

    Attributes
    ----------
    given
        What it was sent and has not answered, in order; it is at the first of them, or further.
    is_ready
        Whether its process has come up.
    noted
        When its keeper last noted how many processes the kernel has ended for want of memory.
    is_leaving
        Whether it is to end when it has answered.
    is_retiring
        Whether it has been told to end, or has ended.
    """

    __slots__ = (
        *(
            "_far",
            "_near",
            "_prefix",
            "_num_sent",
            "given",
            "is_leaving",
            "is_ready",
            "is_retiring",
        ),
        *("job", "noted", "share", "started"),
    )

    def __init__(self, job: str, share: Share, directory: str) -> None:
        self.job = job
        self.share = share
        self._prefix = f"{directory}/{job.replace('/', '-')}"
        self._near, self._far = socket.socketpair(socket.AF_UNIX, _TYPE)
        self._near.setblocking(False)  # and not the far end: the slot waits at it
        self._num_sent = 0
        self.started = self.noted = monotonic()
        self.given: deque[Item] = deque()
        self.is_ready = False
        self.is_leaving = False
        self.is_retiring = False

    @property
    def head(self) -> Item | None:
        """What it is at, as far as the node knows; None where it has nothing to do."""
        return self.given[0] if self.given else None

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the slot says something."""
        return self._near.fileno()

    @property
    def channel(self) -> int:
        """The end of the socket that the slot's process receives."""
        return self._far.fileno()

    @property
    def stdout(self) -> str:
        """The file that the slot's standard output is."""
        return f"{self._prefix}.stdout"

    @property
    def stderr(self) -> str:
        """The file that the slot's standard error is."""
        return f"{self._prefix}.stderr"

    def send(self, item: Item, kind: int) -> bool:
        """Send a request; return False where the socket is full.

        Raises
        ------
        OSError
            If a large payload cannot be put into a file.
        """
        number = item.number = self._num_sent = self._num_sent + 1
        order = item.order
        request = packet.encode_request(
            kind, order.wants, number, order.payload, f"{self._prefix}.{number}.request"
        )
        try:
            self._near.send(request)
        except OSError:  # full, or its process is gone, which the keeper tells
            packet.decode_request(request)  # for its file
            return False
        item.slot = self
        self.given.append(item)
        self.begin()
        return True

    def begin(self) -> None:
        """Note that the slot is at the first of what it was given, once its process is up."""
        item = self.head
        if item is None or item.started is not None or not self.is_ready:
            return
        now = item.started = monotonic()
        item.look_at = now + LINK_SECONDS
        item.deadline = None if item.duration is None else now + item.duration

    def receive(self) -> list[Reply]:
        """Return what the slot has said since."""
        replies = []
        with suppress(OSError):
            while data := self._near.recv(_LARGEST_READ):
                replies.append(Reply(*packet.decode_reply(data)))
        return replies

    def recall(self) -> list[Item]:
        """Take back what the slot has not read, in the order in which it was sent."""
        numbers = set()
        with suppress(OSError):
            while request := self._far.recv(_LARGEST_READ, socket.MSG_DONTWAIT):
                numbers.add(packet.decode_request(request)[2])
        if not numbers:
            return []
        # The slot goes on reading meanwhile, so these need not be the last ones.
        taken = [item for item in self.given if item.number in numbers]
        self.given = deque(item for item in self.given if item.number not in numbers)
        for item in taken:
            item.slot = item.started = item.deadline = None
        return taken

    def link_output(self, item: Item) -> bool:
        """Give what the chore at hand has written its final name; return whether it has written.

        Only where nothing else has been sent to the slot: it could be that one's output.
        """
        payload = item.read_payload()
        is_linked = True
        for own, final in ((self.stdout, payload.stdout), (self.stderr, payload.stderr)):
            try:
                if os.stat(own).st_size:
                    os.link(own, final)
                else:
                    is_linked = False
            except OSError:  # linked before, renamed by now, or the chore's directory is gone
                continue
        return is_linked

    def hang_up(self) -> None:
        """Let the slot end when it has answered what it has read."""
        self.is_retiring = True
        with suppress(OSError):
            self._near.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket and remove the slot's files; its process has ended."""
        self._near.close()
        self._far.close()
        for path in (self.stdout, self.stderr):
            with suppress(OSError):
                os.unlink(path)
