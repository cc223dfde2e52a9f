r"""Bytes on disk that carry pickles: frozen arguments, chore record, result with its footer.

Owns the encoding and the checks before a pickle is loaded. The formats are
versioned; readers ignore fields they do not know. Used by the SDK, the worker and the runtime, and
loaded at the worker's start: `_pickle` instead of `pickle` (which loads `re`), the interpreter's
own SHA-256 instead of `hashlib` (which loads OpenSSL), `cloudpickle` only where it is needed.

Result file
-----------
The pickle of the value, followed by a footer of 54 bytes, all integers big-endian:

====== ===== =============================================
offset bytes
====== ===== =============================================
0      8     magic ``b"MatEnsR\n"``
8      2     format, 2 (1 for a result of no chore)
10     4     attempt that wrote it, from 1
14     8     size of the pickle in bytes
22     32    SHA-256, see below
====== ===== =============================================

The hash covers the pickle, the 22 bytes before the hash, and the id of the chore in UTF-8. So what
was written by another chore, or another attempt, is as good as damaged. In format 1 it covers the
pickle alone: such a result counts for any chore.

``pickle.load`` stops before the footer, so other tools read the value without knowing of it.
"""

from __future__ import annotations

import os
from _pickle import dumps as _dumps, loads as _loads
from _struct import Struct

from matensemble import references
from matensemble.disk import write_atomic
from matensemble.errors import (
    FormatError,
    ResultCorruptError,
    ResultMissingError,
    UnknownReferenceError,
    UnpicklableError,
)

try:  # CPython 3.12 and later
    from _sha2 import sha256
except ImportError:
    try:  # CPython 3.11
        from _sha256 import sha256
    except ImportError:
        from hashlib import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PICKLE_PROTOCOL = 5
RECORD_FORMAT = 1
ANY_CHORE_FORMAT = 1
RESULT_FORMAT = 2
RESULT_MAGIC = b"MatEnsR\n"
FOOTER_SIZE = 54
HASH_OFFSET = 22
_FOOTER_HEAD = Struct(">8sHIQ")


# --- values to bytes --------------------------------------------------------------------------


def dumps(value: object, by_value: tuple[bytes, ...] = ()) -> bytes:
    """Pickle a value so that another process can load it.

    The C pickler stores objects of ``__main__`` by reference without a word, which no worker can
    load; its output is accepted only where that name does not occur. Otherwise cloudpickle
    pickles it by value.

    Parameters
    ----------
    value
        Anything.
    by_value
        Names of further modules whose objects must not be stored by reference.

    Raises
    ------
    UnpicklableError
        If neither can pickle it; names the object inside that is the problem.
    """
    try:
        data: bytes = _dumps(value, PICKLE_PROTOCOL)
    except Exception:  # lambdas, local classes, objects of modules that travel by value
        return cloudpickle_dumps(value, by_value)
    if b"__main__" in data or (by_value and any(name in data for name in by_value)):
        return cloudpickle_dumps(value, by_value)
    return data


def cloudpickle_dumps(value: object, by_value: tuple[bytes, ...] = ()) -> bytes:
    """Pickle a value with cloudpickle, the objects of some modules by value.

    Raises
    ------
    UnpicklableError
        If it cannot be pickled; names the object inside that is the problem.
    """
    import sys

    import cloudpickle

    known = cloudpickle.list_registry_pickle_by_value()
    names = [name for name in map(bytes.decode, by_value) if name not in known]
    modules = [sys.modules[name] for name in names if name in sys.modules]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        data: bytes = cloudpickle.dumps(value, PICKLE_PROTOCOL)
    except Exception as error:
        if isinstance(error.__cause__ or error, RecursionError):
            raise UnpicklableError("the value", "its depth", "it is nested too deeply") from error
        from matensemble.unpicklable import find_culprit

        raise UnpicklableError(
            "the value", find_culprit(value), f"{type(error).__name__}: {error}"
        ) from error
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)
    return data


def freeze(
    value: object, by_value: tuple[bytes, ...] = (), source: object = None
) -> tuple[bytes, tuple[references.Dependency, ...]]:
    """Pickle arguments and list the references inside, in slot order.

    Parameters
    ----------
    value, by_value
        As `dumps`.
    source
        The pipeline that records the chore; None where there is none.

    Raises
    ------
    UnpicklableError
        As `dumps`.
    UnknownReferenceError
        If another pipeline made one of the references.
    """
    with references.collecting(source) as found:
        data = dumps(value, by_value)
    if found.foreign:
        raise UnknownReferenceError("this chore", str(found.foreign[0]))
    return data, found.dependencies


def thaw(
    data: bytes,
    load: Callable[[int], object],
    loads: Callable[[bytes], object] = _loads,
) -> Any:
    """Unpickle what `freeze` made, with ``load(slot)`` in the place of each reference."""
    with references.resolving(load):
        return loads(data)


# --- files ------------------------------------------------------------------------------------


def open_trusted(path: str | os.PathLike[str]) -> int:
    """Open a file that holds a pickle, after checking who could have written it.

    Loading a pickle runs code, so the file must belong to this user, be writable by nobody else,
    and be no symbolic link.

    Returns
    -------
    int
        An open file descriptor; the caller closes it.

    Raises
    ------
    FormatError
        If the file is not to be trusted.
    OSError
        If it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        import errno

        if error.errno == errno.ELOOP:
            raise FormatError(os.fspath(path), "is a symbolic link; refusing to load it") from None
        raise
    status = os.fstat(descriptor)
    problem = None
    if status.st_mode & 0o170000 != 0o100000:
        problem = "is not a regular file"
    elif status.st_uid != os.geteuid():
        problem = f"belongs to user {status.st_uid}, not to you"
    elif status.st_mode & 0o022:
        problem = "can be written by others (chmod go-w)"
    if problem:
        os.close(descriptor)
        raise FormatError(os.fspath(path), f"{problem}; loading a pickle runs its code")
    return descriptor


def read_trusted(path: str | os.PathLike[str], offset: int = 0, size: int | None = None) -> bytes:
    """Return `size` bytes from `offset` (None: to the end) of a file that holds a pickle.

    Raises
    ------
    FormatError
        If the file is not to be trusted, or shorter than asked.
    """
    with open(open_trusted(path), "rb", buffering=0) as file:
        if offset:
            file.seek(offset)
        if size is None:
            content: bytes = file.readall()
            return content
        data = bytearray(size)
        view = memoryview(data)
        while view:
            count = file.readinto(view)
            if not count:
                raise FormatError(os.fspath(path), f"ends {len(view)} bytes too early")
            view = view[count:]
        return bytes(data) if size < 1 << 20 else data  # type: ignore[return-value]


# --- the chore record -------------------------------------------------------------------------


def encode_record(record: dict[str, Any]) -> bytes:
    """Return the content of `chore.pickle`.

    The record is a dict of plain values, so that it loads without a class of ours and later
    versions may add keys:

    ``id``, ``name``, ``kind``, ``attempt``
        Which attempt (from 1) of which chore; `kind` as in `matensemble.model.ChoreType`.
    ``num_tasks``
        Number of processes; the only one is the one that commits, whatever ranks the environment
        mentions.
    ``deps``
        What fills slot `i`: ``{"id", "kind", "attempt", "exit_code", "outputs"}`` for a chore
        (which attempt completed, what an executable left; ``data`` is the pickle of its result,
        where the driver had it at hand), or ``{"gather": [such dicts]}``.
        ``{"id", "kind", "failed": {"reason", "exit_code", "detail", "upstream"}}`` is one that
        failed and was ignored: its error stands for its result. ``data`` beside these is the pickle
        of a small Python result, which its file need not be read for. Optional.
    ``arguments``
        Place ``(file, offset, size)`` of the frozen arguments, the file relative to the run
        directory.
    ``callable``, ``strategy``
        For Python: registry name of the function, and True where it returns chore specs.
    ``command``, ``outputs``
        For executables: the command where no `arguments` hold it, and the declared outputs.
    ``durable``
        True where the result is to be on the disk before it counts. Optional.
    ``cloudpickle``
        Version that pickled the functions; where the worker knows how that version builds
        functions, it need not import cloudpickle. Optional.
    """
    return _dumps({"format": RECORD_FORMAT, **record}, PICKLE_PROTOCOL)


def decode_record(path: str, data: bytes) -> dict[str, Any]:
    """Return the record of a `chore.pickle`.

    Raises
    ------
    FormatError
        If it is no record, or of a format that this version does not know.
    """
    try:
        record: dict[str, Any] = _loads(data)
        version = record["format"]
    except Exception as error:
        raise FormatError(path, f"is no chore record ({type(error).__name__}: {error})") from error
    if version != RECORD_FORMAT:
        raise FormatError(path, f"has format {version}; this version reads {RECORD_FORMAT}")
    return record


# --- results ----------------------------------------------------------------------------------


def write_result(
    path: str | os.PathLike[str],
    payload: bytes,
    attempt: int,
    *,
    chore_id: str | None = None,
    durable: bool = False,
) -> None:
    """Commit a pickled result: payload and footer become visible in one rename.

    Parameters
    ----------
    path, durable
        As `matensemble.disk.write_atomic`.
    payload
        The pickle.
    attempt
        Which attempt made it, from 1.
    chore_id
        The only chore whose result it is; None: it counts for any.
    """
    write_atomic(path, payload, result_footer(payload, attempt, chore_id), durable=durable)


def result_footer(payload: bytes, attempt: int, chore_id: str | None) -> bytes:
    """Return what follows the pickle in a result file; parameters as for `write_result`."""
    version = ANY_CHORE_FORMAT if chore_id is None else RESULT_FORMAT
    head: bytes = _FOOTER_HEAD.pack(RESULT_MAGIC, version, attempt, len(payload))
    return head + _digest(payload, head, chore_id)


def _digest(payload: bytes | memoryview, head: bytes, chore_id: str | None) -> bytes:
    hashed = sha256(payload)
    if chore_id is not None:
        hashed.update(head + chore_id.encode())
    digest: bytes = hashed.digest()
    return digest


def _check_footer(chore_id: str, path: str, footer: bytes, file_size: int) -> int:
    """Return the attempt of a footer that fits the size of its file."""
    problem = None
    if len(footer) < FOOTER_SIZE or footer[:8] != RESULT_MAGIC:
        problem = "it does not end with a result footer (was it truncated?)"
    elif (version := int.from_bytes(footer[8:10], "big")) not in (RESULT_FORMAT, ANY_CHORE_FORMAT):
        problem = f"its format is {version}; this version reads {RESULT_FORMAT} and before"
    elif (size := int.from_bytes(footer[14:22], "big")) != file_size - FOOTER_SIZE:
        problem = f"its footer promises {size} bytes, the file holds {file_size - FOOTER_SIZE}"
    if problem:
        raise ResultCorruptError(chore_id, path, problem)
    return int.from_bytes(footer[10:14], "big")


def check_result(path: str | os.PathLike[str], chore_id: str) -> int:
    """Check a result by footer and size, without reading or loading it.

    Returns
    -------
    int
        The attempt that wrote it.

    Raises
    ------
    ResultMissingError
        If it is not there.
    ResultCorruptError
        If footer and file do not match.
    """
    path = os.fspath(path)
    try:
        # A chore could have left a pipe here, on which a plain open would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ResultMissingError(chore_id, path) from None
    try:
        status = os.fstat(descriptor)
        if status.st_mode & 0o170000 != 0o100000:
            raise ResultCorruptError(chore_id, path, "it is not a regular file")
        footer = os.pread(descriptor, FOOTER_SIZE, max(0, status.st_size - FOOTER_SIZE))
    finally:
        os.close(descriptor)
    return _check_footer(chore_id, path, footer, status.st_size)


def read_result(path: str | os.PathLike[str], chore_id: str) -> bytes:
    """Return the pickle of a result whose size and hash match its footer.

    Raises
    ------
    ResultMissingError
        If it is not there.
    ResultCorruptError
        If it is damaged, or that of another chore.
    FormatError
        If somebody else could have written it.
    """
    path = os.fspath(path)
    try:
        data = read_trusted(path)
    except FileNotFoundError:
        raise ResultMissingError(chore_id, path) from None
    footer = data[-FOOTER_SIZE:]
    _check_footer(chore_id, path, footer, len(data))
    payload = memoryview(data)[:-FOOTER_SIZE]
    is_any = footer[8:10] == ANY_CHORE_FORMAT.to_bytes(2, "big")
    head, digest = footer[:HASH_OFFSET], footer[HASH_OFFSET:]
    if _digest(payload, head, None if is_any else chore_id) != digest:
        problem = "its content does not match its SHA-256"
        if not is_any:
            problem += " (or it is the result of another chore)"
        raise ResultCorruptError(chore_id, path, problem)
    return payload  # type: ignore[return-value]  # bytes-like, and not copied


def load_result(
    path: str | os.PathLike[str],
    chore_id: str,
    loads: Callable[[bytes], object] = _loads,
) -> Any:
    """Return the value of a result; raises as `read_result`, and what unpickling raises."""
    return loads(read_result(path, chore_id))


__all__ = [
    "FOOTER_SIZE",
    "check_result",
    "cloudpickle_dumps",
    "decode_record",
    "dumps",
    "encode_record",
    "freeze",
    "load_result",
    "open_trusted",
    "read_result",
    "read_trusted",
    "result_footer",
    "thaw",
    "write_result",
]
