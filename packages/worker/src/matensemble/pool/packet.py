"""What a node and a slot of a warm worker say to one another, one packet each.

Owns the encoding, and how a packet that is too large for the socket travels: as a file. Used by
`service` (through `crew`) and by `slot`, at whose start it is loaded: imports next to nothing.
"""

from __future__ import annotations

import os
from _struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

MAX_PACKET_BYTES: Final = 60_000
"""Larger payloads travel by a file; every system's sockets take packets of this size."""
DESCRIPTOR = 3
"""The slot's end of its socket."""

CALL = 0
"""Run a Python chore."""
RESOLVE = 1
"""Resolve the command of a program, write its inputs, and return the command."""
_IN_FILE = 0x80

IS_READY = 1
"""The slot has started; the first packet that it sends, and an answer to none."""
IS_COMMITTED = 2
"""The chore's result is committed."""
RETIRES = 4
"""The slot ends with this answer."""
HAS_DATA = 8
"""The packet carries the pickle of the result, or the command."""

_REQUEST = Struct("<BIQ")
_REPLY = Struct("<Bid")


def encode_request(kind: int, wants: int, number: int, payload: bytes, spill_path: str) -> bytes:
    """Return a request, whose payload is put into a file where it is too large.

    Parameters
    ----------
    kind
        `CALL` or `RESOLVE`.
    wants
        Largest result, in bytes, to be returned with the reply.
    number
        By which the node knows it again if it takes it back.
    payload
        As `pool_messages.encode_payload` made it.
    spill_path
        The file that a large payload is put into.
    """
    kind, payload = _spill(kind, payload, spill_path)
    return _REQUEST.pack(kind, wants, number) + payload


def decode_request(packet: bytes) -> tuple[int, int, int, bytes]:
    """Return kind, wants, number and payload of a request; the file of a large one is gone then."""
    kind, wants, number = _REQUEST.unpack_from(packet)
    kind, payload = _unspill(kind, packet[_REQUEST.size :])
    return kind, wants, number, payload


def encode_reply(
    flags: int, exit_code: int, elapsed: float, data: bytes | None, spill_path: str
) -> bytes:
    """Return a reply: what came of a request, and the seconds that it took."""
    if data is None:
        return _REPLY.pack(flags, exit_code, elapsed)
    flags, data = _spill(flags | HAS_DATA, data, spill_path)
    return _REPLY.pack(flags, exit_code, elapsed) + data


def decode_reply(packet: bytes) -> tuple[int, int, float, bytes | None]:
    """Return flags, exit code, elapsed seconds and data of a reply."""
    flags, exit_code, elapsed = _REPLY.unpack_from(packet)
    if not flags & HAS_DATA:
        return flags, exit_code, elapsed, None
    flags, data = _unspill(flags, packet[_REPLY.size :])
    return flags, exit_code, elapsed, data


def _spill(flags: int, data: bytes, path: str) -> tuple[int, bytes]:
    if len(data) <= MAX_PACKET_BYTES:
        return flags, data
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
    return flags | _IN_FILE, os.fsencode(path)


def _unspill(flags: int, data: bytes) -> tuple[int, bytes]:
    if not flags & _IN_FILE:
        return flags, data
    with open(data, "rb") as file:
        content = file.read()
    os.unlink(data)
    return flags & ~_IN_FILE, content
