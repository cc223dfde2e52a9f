"""What a driver and its warm workers say to one another, and the file that says where to.

Owns the encoding of every message and of the address file; knows no socket and no process. Used by
the runtime (the driver's end) and by `matensemble.pool.node` (the worker's end). Nothing here is
ever unpickled by the driver; what a worker unpickles is what its own driver sent.

A message is two frames: a header (JSON in UTF-8), and bytes that belong to it, mostly none::

    driver → worker   run · cancel · signal · extend · withdraw · close · ping
    worker → driver   hello · report · bye · pong

In the bytes of `Run` stand the payloads of its orders one after the other, in those of `Report` the
pickles of small results; the header has their sizes.
"""

from __future__ import annotations

import json
from _pickle import dumps as _dumps, loads as _loads
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast

from matensemble import disk, wire
from matensemble.errors import FormatError

if TYPE_CHECKING:
    from os import PathLike

FORMAT = 1
PING_SECONDS = 5.0
"""How often a driver pings each of its workers."""
SILENCE_SECONDS = 30.0
"""A worker that hears nothing of its driver for so long ends whatever it runs, and itself."""
REPORT_STARTED_SECONDS = 0.1
"""How long a chore runs before its worker reports that it has started."""
MAX_ADDRESS_BYTES = 1 << 16
"""No address file is larger."""

_CHANNEL = "a message of a warm worker's channel"
_SEPARATORS = (",", ":")


# --- what a worker is told ----------------------------------------------------------------------

Kind: TypeAlias = Literal["call", "program"]
"""A Python function, or an executable."""


class Order(NamedTuple):
    """One attempt of a chore that a worker is to run."""

    chore_id: str
    attempt: int
    """From 1."""
    cores: int
    """At least 1."""
    gpus: int
    """At least 0."""
    duration: float | None
    """Seconds that it may run; None: no limit."""
    kind: Kind
    wants: int
    """Largest result, in bytes of its pickle, to be sent along with its end; 0: none."""
    payload: bytes
    """As `encode_payload` made it."""


class Payload(NamedTuple):
    """What the one who runs an attempt needs to know of it."""

    record: bytes | None
    """The chore's record, as `wire.encode_record` made it; None for a program that needs none."""
    argv: tuple[str, ...]
    """Program and arguments; empty where there is a record."""
    env: dict[str, str]
    """Variables laid over the environment of the worker, or the whole of it."""
    inherit: bool
    """Whether the worker's environment lies under `env`."""
    cwd: str
    """The chore's directory, absolute; the worker makes it."""
    stdout: str
    """Where standard output goes, absolute."""
    stderr: str
    """Where standard error goes, absolute."""


class Run(NamedTuple):
    """Queue these, in this order."""

    orders: tuple[Order, ...]


class Cancel(NamedTuple):
    """End an attempt."""

    chore_id: str
    attempt: int


class Signal(NamedTuple):
    """Send a signal to the processes of an attempt."""

    chore_id: str
    attempt: int
    number: int


class Extend(NamedTuple):
    """Let an attempt run for `duration` seconds from its start."""

    chore_id: str
    attempt: int
    duration: float


class Withdraw(NamedTuple):
    """Give back up to `limit` attempts that have not started, the newest first."""

    limit: int


class Close(NamedTuple):
    """Start nothing more, give back what has not started, and end when what runs has ended."""


class Ping(NamedTuple):
    """The driver is there."""


# --- what a worker tells ------------------------------------------------------------------------


class Hello(NamedTuple):
    """A worker is up: one of its slots is. It says so once, before anything else."""

    worker: str
    """Its key, as the driver gave it."""
    host: str
    pid: int
    cores: int
    """For chores."""
    gpus: int
    """For chores."""
    format: int = FORMAT


class Ended(NamedTuple):
    """An attempt has ended, or could not be started."""

    chore_id: str
    attempt: int
    exit_code: int | None
    """``-n`` for signal n; None where nothing was started; `disk.EXIT_DISK_TROUBLE` also where it
    could not be, because of its files."""
    reason: str | None
    """As in `matensemble.model.Reason`; None: the exit code speaks."""
    detail: str
    elapsed: float
    """Seconds that it ran."""
    is_committed: bool
    """Whether the worker vouches for its result."""
    result: bytes | None
    """The pickle of its result, where it is no larger than was wanted."""


class Report(NamedTuple):
    """What has become of attempts. An empty one says that the worker is alive."""

    started: tuple[tuple[str, int], ...] = ()
    """Chore and attempt of those that have been running for `REPORT_STARTED_SECONDS`."""
    ended: tuple[Ended, ...] = ()
    returned: tuple[tuple[str, int], ...] = ()
    """Chore and attempt of those that are given back; they were never started."""


class Bye(NamedTuple):
    """The worker ends, as it was told to; nothing is left with it."""


class Pong(NamedTuple):
    """The worker is there."""


FromDriver: TypeAlias = Run | Cancel | Signal | Extend | Withdraw | Close | Ping
FromWorker: TypeAlias = Hello | Report | Bye | Pong


# --- encoding -----------------------------------------------------------------------------------


def encode(message: FromDriver | FromWorker) -> list[bytes]:
    """Return the two frames of a message."""
    match message:
        case Run():
            return _encode_run(message)
        case Report():
            return _encode_report(message)
        case Cancel(chore_id, attempt):
            return _frames({"op": "cancel", "chore": [chore_id, attempt]})
        case Signal(chore_id, attempt, number):
            return _frames({"op": "signal", "chore": [chore_id, attempt], "number": number})
        case Extend(chore_id, attempt, duration):
            return _frames({"op": "extend", "chore": [chore_id, attempt], "duration": duration})
        case _:
            return _frames({"op": type(message).__name__.lower(), **message._asdict()})


def encode_payload(payload: Payload) -> bytes:
    """Return the bytes of a payload, a pickle of nothing but plain values."""
    data: bytes = _dumps(tuple(payload), 5)
    return data


def _encode_run(message: Run) -> list[bytes]:
    rows = [
        (o.chore_id, o.attempt, o.cores, o.gpus, o.duration, len(o.payload), o.kind, o.wants)
        for o in message.orders
    ]
    return _frames({"op": "run", "chores": rows}, [o.payload for o in message.orders])


def _encode_report(message: Report) -> list[bytes]:
    rows = [(*e[:-1], -1 if e.result is None else len(e.result)) for e in message.ended]
    header = {
        "op": "report",
        "started": message.started,
        "ended": rows,
        "returned": message.returned,
    }
    return _frames(header, [e.result for e in message.ended if e.result])


def _frames(header: Mapping[str, object], chunks: Iterable[bytes] = ()) -> list[bytes]:
    return [json.dumps(header, separators=_SEPARATORS).encode(), b"".join(chunks)]


# --- decoding -----------------------------------------------------------------------------------


def decode_from_driver(frames: Sequence[bytes]) -> FromDriver:
    """Return what a driver said.

    Raises
    ------
    FormatError
        If it is no message of this format.
    """
    return cast(FromDriver, _decode(frames, _FROM_DRIVER))


def decode_from_worker(frames: Sequence[bytes]) -> FromWorker:
    """Return what a worker said, each field of the type that it is declared with.

    Raises
    ------
    FormatError
        If it is no message of this format.
    """
    return cast(FromWorker, _decode(frames, _FROM_WORKER))


def decode_payload(data: bytes) -> Payload:
    """Return a payload; only for who trusts its sender, for it is a pickle."""
    return Payload(*_loads(data))


def _decode(
    frames: Sequence[bytes], known: Mapping[str, Callable[[dict[str, Any], bytes], object]]
) -> object:
    try:
        head, blob = frames
        header = json.loads(head)
        return known[header["op"]](header, blob)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise FormatError(_CHANNEL, f"is malformed ({type(error).__name__}: {error})") from error


def _decode_run(header: dict[str, Any], blob: bytes) -> Run:
    orders = []
    position = 0
    for chore_id, attempt, cores, gpus, duration, size, kind, wants in header["chores"]:
        payload = blob[position : position + size]
        position += size
        orders.append(Order(chore_id, attempt, cores, gpus, duration, kind, wants, payload))
    _expect(position == len(blob), "sizes do not match")
    return Run(tuple(orders))


def _decode_report(header: dict[str, Any], blob: bytes) -> Report:
    ended = []
    position = 0
    for chore_id, attempt, exit_code, reason, detail, elapsed, is_committed, size in header[
        "ended"
    ]:
        _check_chore(chore_id, attempt)
        _expect(type(exit_code) is int or exit_code is None, "an exit code is none")
        _expect(type(reason) is str or reason is None, "a reason is no text")
        _expect(type(detail) is str and type(is_committed) is bool, "an end is malformed")
        _expect(type(elapsed) in (int, float) and 0.0 <= elapsed < 1e12, "a time is none")
        _expect(type(size) is int and size >= -1, "a size is none")
        result = None
        if size >= 0:
            result = blob[position : position + size]
            position += size
        ended.append(
            Ended(
                *(chore_id, attempt, exit_code, reason, detail),
                *(float(elapsed), is_committed, result),
            )
        )
    _expect(position == len(blob), "sizes do not match")
    return Report(_chores(header["started"]), tuple(ended), _chores(header["returned"]))


def _decode_hello(header: dict[str, Any], _: bytes) -> Hello:
    hello = Hello(*(header[name] for name in Hello._fields))
    _expect(type(hello.worker) is str and type(hello.host) is str, "a name is no text")
    numbers = (hello.pid, hello.cores, hello.gpus, hello.format)
    _expect(all(type(n) is int and n >= 0 for n in numbers), "a number is none")
    return hello


def _chores(rows: object) -> tuple[tuple[str, int], ...]:
    _expect(isinstance(rows, list), "chores are no list")
    return tuple(map(_chore, cast("list[object]", rows)))


def _chore(row: object) -> tuple[str, int]:
    chore_id, attempt = cast("list[Any]", row)
    _check_chore(chore_id, attempt)
    return chore_id, attempt


def _check_chore(chore_id: object, attempt: object) -> None:
    _expect(type(chore_id) is str and type(attempt) is int, "a chore is none")


def _expect(is_so: bool, problem: str) -> None:
    if not is_so:
        raise ValueError(problem)


_FROM_DRIVER: dict[str, Callable[[dict[str, Any], bytes], FromDriver]] = {
    "run": _decode_run,
    "cancel": lambda header, _: Cancel(*_chore(header["chore"])),
    "signal": lambda header, _: Signal(*_chore(header["chore"]), header["number"]),
    "extend": lambda header, _: Extend(*_chore(header["chore"]), header["duration"]),
    "withdraw": lambda header, _: Withdraw(header["limit"]),
    "close": lambda header, _: Close(),
    "ping": lambda header, _: Ping(),
}
_FROM_WORKER: dict[str, Callable[[dict[str, Any], bytes], FromWorker]] = {
    "hello": _decode_hello,
    "report": _decode_report,
    "bye": lambda header, _: Bye(),
    "pong": lambda header, _: Pong(),
}


# --- the address file ---------------------------------------------------------------------------


class Address(NamedTuple):
    """Where the workers of a driver reach it, and by which keys (Z85, as ZeroMQ writes them)."""

    endpoint: str
    """``ipc://…`` or ``tcp://host:port``."""
    server_key: str | None = None
    """Public key of the driver; None on a private ``ipc`` socket, which needs no keys."""
    worker_public: str | None = None
    worker_secret: str | None = None


def write_address(path: str | PathLike[str], address: Address) -> None:
    """Write the address file, private to this user; its directory exists."""
    content = {"format": FORMAT, **address._asdict()}
    disk.write_atomic(path, json.dumps(content).encode() + b"\n")


def read_address(path: str | PathLike[str]) -> Address:
    """Return what an address file says.

    Raises
    ------
    FormatError
        If it is no address file of this format, or somebody else could have written it.
    OSError
        If it cannot be read.
    """
    data = wire.read_trusted(path)
    try:
        _expect(len(data) <= MAX_ADDRESS_BYTES, "it is too large")
        content = json.loads(data)
        _expect(content["format"] == FORMAT, f"its format is {content['format']}, not {FORMAT}")
        address = Address(*(content[name] for name in Address._fields))
        _expect(type(address.endpoint) is str, "its endpoint is no text")
        keys = address[1:]
        _expect(keys.count(None) in (0, 3), "some of its keys are missing")
        _expect(all(type(key) is str for key in keys if key is not None), "a key is no text")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise FormatError(str(path), f"is no address of a driver: {error}") from error
    return address
