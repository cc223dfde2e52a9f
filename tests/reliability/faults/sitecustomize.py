"""Let the file operations of one kind of process be noted, be its last, or fail.

Python loads this module at the start of every process that has its directory on PYTHONPATH: the
driver, and the workers that inherit its environment. `FAULT_PLAN` names a JSON file::

    {"run": directory, "kind": "driver" | "worker", "notes": directory, "mode": "note"}
    {…, "mode": "kill", "point": name, "occurrence": number}
    {…, "mode": "fail", "at": number, "seconds": number, "errno": number}
    {…, "mode": "fail", "point": name, "occurrence": number, "errno": number}

Counted are operations that change what is on the disk, below the run directory only. The name of a
point is ``operation:file:when``, the file without what differs from run to run, of the journal with
a kind of record; `when` is
``before``, ``after`` and, of a write, ``half``: some of the bytes are there. Where several
processes are of the kind, occurrences are counted across all of them, by files in the notes. What
fails `at` the N-th operation goes on failing for so many seconds; 0 is that operation alone.
"""

import builtins
import io
import json
import os
import re
import signal
import sys
import threading
import time

_PLAN = os.environ.get("FAULT_PLAN")
_WRITING = os.O_WRONLY | os.O_RDWR
_KINDS = (
    b"run_state",
    b"chore_added",
    b"requeued",
    b"completed",
    b"intent",
    b"submitted",
    b"started",
)
_SAME = (
    (re.compile(r"^out/(?!registry)[^/]+"), "out/*"),
    (re.compile(r"\.[0-9a-f]{8}\.(tmp|draft)"), r".\1"),
    (re.compile(r"(?<=[-/])\d+(?=$|[./])"), "N"),
)


class Faults:
    """What happens at the operations of this process."""

    def __init__(self, plan):
        self.plan = plan
        self.root = plan["run"]
        self.count = 0
        self.broken_until = 0.0
        self.lock = threading.Lock()
        self.system = {
            name: getattr(os, name) for name in ("open", "write", "close", "mkdir", "kill")
        }

    def point(self, path):
        """Return what a file is called in the names of points; None: it is not of the run."""
        path = os.path.abspath(os.fspath(path))  # noqa: PTH100 - a link is not to be followed
        if not path.startswith(self.root + "/"):
            return None
        name = path[len(self.root) + 1 :].removesuffix(" (deleted)")
        for pattern, replacement in _SAME:
            name = pattern.sub(replacement, name)
        return name

    def leave(self, name, text=""):
        """Leave a note; return whether there was none of that name."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            descriptor = self.system["open"](f"{self.plan['notes']}/{name}", flags, 0o600)
        except FileExistsError:
            return False
        self.system["write"](descriptor, text.encode())
        self.system["close"](descriptor)
        return True

    def is_it(self, point):
        """Return whether this is the occurrence of the point of the plan."""
        if point != self.plan.get("point"):
            return False
        for number in range(1, self.plan["occurrence"] + 1):
            if self.leave(f"occurrence-{number}"):
                return number == self.plan["occurrence"]
        return False

    def at(self, point):
        """Note a point, or let it be the last of this process."""
        mode = self.plan["mode"]
        if mode == "note":
            self.note(point)
        elif mode == "kill" and self.is_it(point):
            self.leave("hit", point)
            self.system["kill"](os.getpid(), signal.SIGKILL)

    def note(self, point):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        descriptor = self.system["open"](f"{self.plan['notes']}/points", flags, 0o600)
        self.system["write"](descriptor, f"{point}\n".encode())
        self.system["close"](descriptor)

    def refuse(self, operation, path, name):
        """Raise where the plan has this operation fail."""
        plan = self.plan
        if plan["mode"] != "fail":
            return
        with self.lock:
            self.count += 1
            at_point = "point" in plan
            is_it = self.is_it(f"{operation}:{name}") if at_point else self.is_broken()
        if is_it:
            self.leave("hit", f"{operation}:{name}")
            raise OSError(plan["errno"], os.strerror(plan["errno"]), os.fspath(path))

    def is_broken(self):
        """Return whether this operation is the one of the plan, or soon enough after it."""
        if self.count == self.plan["at"]:
            self.broken_until = time.monotonic() + self.plan["seconds"]
            return True
        return self.count > self.plan["at"] and time.monotonic() < self.broken_until

    def around(self, operation, path, act, half=None, data=b""):
        """Do an operation on a file, with all that the plan has for it."""
        name = self.point(path)
        if name is None:
            return act()
        if name == "journal.jsonl":
            name += _most_telling(bytes(data))
        self.refuse(operation, path, name)
        self.at(f"{operation}:{name}:before")
        if half is not None:
            self.halve(f"{operation}:{name}:half", half)
        result = act()
        self.at(f"{operation}:{name}:after")
        return result

    def halve(self, point, half):
        """Write some of the bytes where this is to be the last that the process does."""
        if self.plan["mode"] == "note":
            self.note(point)
        elif self.plan["mode"] == "kill" and self.is_it(point):
            half()
            self.leave("hit", point)
            self.system["kill"](os.getpid(), signal.SIGKILL)


def _most_telling(lines):
    """Return which kind of record is written to the journal, of several the rarest."""
    kinds = (kind for kind in _KINDS if b'"k":"%b"' % kind in lines)
    return "".join(f"[{kind.decode()}]" for kind in (*kinds,)[:1])


def _path_of(descriptor):
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - pathlib is heavy
    except OSError:
        return "/"


def _wrap_system(faults):
    """Put the calls of `os` behind the faults; `pathlib` and `tempfile` call these too."""
    system_open, system_write = os.open, os.write

    def open_file(path, flags, mode=0o777, *, dir_fd=None):
        if not flags & _WRITING or dir_fd is not None:
            return system_open(path, flags, mode, dir_fd=dir_fd)
        return faults.around("open", path, lambda: system_open(path, flags, mode))

    def write(descriptor, data):
        return faults.around(
            "write",
            _path_of(descriptor),
            lambda: system_write(descriptor, data),
            lambda: system_write(descriptor, bytes(data)[: len(data) // 2]),
            data,
        )

    os.open, os.write = open_file, write
    for name in ("mkdir", "unlink"):
        _wrap(faults, name, lambda path, *_: path)
    for name in ("rename", "replace", "link"):
        _wrap(faults, name, lambda _, target, *rest: target)
    _wrap(faults, "fsync", _path_of)


def _wrap(faults, name, path_of):
    system = getattr(os, name)

    def call(*args, **kwargs):
        return faults.around(name, path_of(*args), lambda: system(*args, **kwargs))

    setattr(os, name, call)


def _wrap_files(faults):
    """Let file objects that are written be of a class whose writes are behind the faults."""
    system_open = io.open

    class RawFile(io.FileIO):
        def write(self, data):
            data = bytes(data)
            return faults.around(
                "write",
                _path_of(self.fileno()),
                lambda: super(RawFile, self).write(data),
                lambda: super(RawFile, self).write(data[: len(data) // 2]),
                data,
            )

    def open_file(
        file,
        mode="r",
        buffering=-1,
        encoding=None,
        errors=None,
        newline=None,
        closefd=True,
        opener=None,
    ):
        if not set(mode) & set("wax") or "+" in mode:
            return system_open(file, mode, buffering, encoding, errors, newline, closefd, opener)

        def make():
            return RawFile(file, mode.replace("b", "").replace("t", ""), closefd, opener)

        raw = make() if isinstance(file, int) else faults.around("open", file, make)
        if buffering == 0:
            return raw
        buffered = io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        text = io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline, buffering == 1)
        text.mode = mode
        return text

    builtins.open = io.open = open_file


def _kind():
    if any("matensemble.runtime_worker" in argument for argument in sys.orig_argv):
        return "worker"
    return "driver" if "matensemble.cli" in sys.orig_argv else "other"


def _install(path):
    with open(path) as file:  # noqa: PTH123 - pathlib is heavy
        plan = json.load(file)
    if plan["kind"] == _kind():
        faults = Faults(plan)
        _wrap_system(faults)
        _wrap_files(faults)


if _PLAN:
    _install(_PLAN)
