"""The process that starts the local executor's chores, and ends them when the driver is gone.

Owns every process of every chore: it starts them, notices their end without polling, enforces
their duration, and leaves none behind. It decides nothing: which cores, which GPUs, which chore
comes next are the driver's. `launcher_process` starts it, by path and isolated
(``python -I -S launcher.py SOCKET_FD DRIVER_PID GRACE_SECONDS NAME OOM_COUNTER``), so it imports
the standard library only, and little of it. NAME is what its job ids begin with: a later driver
finds it by that (`orphans`). OOM_COUNTER is a file (`oom_counter`), or empty.

It has one thread, because it moves itself into a chore's directory and onto a chore's cores for the
moment of the start: the child inherits both, and no code has to run between fork and exec.

Its life hangs on its socket to the driver. It ignores terminal and termination signals; when the
socket closes, or the driver ends (``kill -9`` included), it ends every process and then itself.

Messages are JSON, one a line. From the driver::

    {"op": "environ", "env": {…}}      the environment under that of chores which inherit it
    {"op": "start", "job", "mark", "argv", "cwd", "stdout", "stderr", "env", "inherit", "duration",
     "tasks": [{"cores": [ids] | null, "env": {…}}]}
    {"op": "cancel", "job"}
    {"op": "signal", "job", "number"}
    {"op": "extend", "job", "duration"}    from its start, in seconds
    {"op": "close"}

To the driver: ``["ready"]``, ``["started", job]`` and
``["ended", job, exit code | null, reason | null, detail]``, reasons as in `matensemble.model`.
"""

from __future__ import annotations

import errno
import json
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

ORPHAN_GRACE_SECONDS = 1.0  # between TERM and KILL where the driver is gone and nobody waits
SWEEP_INTERVAL_SECONDS = 0.02  # between two looks for killed processes that are not our children
LONGEST_SELECT_SECONDS = 86_400.0  # epoll takes no more than 24 days
SWEEP_LIMIT_SECONDS = 5.0  # at the end of the launcher; only the kernel can hold them up so long
PR_SET_CHILD_SUBREAPER = 36
NO_PROGRAM = (
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.ENOEXEC,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ETXTBSY,
)
KILLED = {-signal.SIGKILL, 128 + signal.SIGKILL}  # the latter from a shell around the program
DEFAULT_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
IGNORED_SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGTSTP,
    signal.SIGPIPE,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


class Refusal(Exception):  # noqa: N818 - an answer, not an error of the launcher
    """An attempt cannot be started."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class Attempt:
    """The processes of one attempt. Each task leads a process group of its own."""

    __slots__ = (
        *("cause", "codes", "deadline", "detail", "groups"),
        *("job", "leaders", "mark", "oom_kills", "started"),
    )

    def __init__(self, job: str, mark: str, duration: float | None, oom_kills: int) -> None:
        self.job = job
        self.mark = os.fsencode(mark)  # the variable by which its processes are known
        self.leaders: set[int] = set()  # tasks that have not been reaped
        self.groups: set[int] = set()  # that may have members
        self.codes: list[int] = []
        self.cause: str | None = None  # why we end it
        self.detail = ""
        # When to act next: duration over, grace over, or another look for what was killed.
        self.started = monotonic()
        self.deadline = None if duration is None else self.started + duration
        self.oom_kills = oom_kills  # of the kernel, before it started

    @property
    def exit_code(self) -> int | None:
        """The highest exit code; a signal n counts as 128 + n, as in a shell."""
        return max(self.codes, key=lambda c: c if c >= 0 else 128 - c, default=None)


class Launcher:
    """Starts, watches and ends attempts, for the driver at the other end of a socket."""

    def __init__(
        self, connection: socket.socket, driver_pid: int, grace: float, oom_counter: str
    ) -> None:
        self._connection = connection
        self._grace = grace
        self._oom_counter = oom_counter
        self._environ: dict[bytes, bytes] = {}
        self._attempts: dict[str, Attempt] = {}
        self._by_leader: dict[int, Attempt] = {}
        self._inbox = b""
        self._outbox = bytearray()
        self._give_up_at: float | None = None  # set when closing
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._own_cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        self._children = Path(f"/proc/self/task/{os.getpid()}/children")
        self._selector = selectors.DefaultSelector()
        connection.setblocking(False)
        self._selector.register(connection, selectors.EVENT_READ, self._receive)
        self._watch_children()
        self._watch_driver(driver_pid)

    def _watch_children(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the driver may have blocked some
        for number in IGNORED_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        self._wakeup = (reader, writer)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler, or nothing is written
        self._selector.register(reader, selectors.EVENT_READ, self._reap)

    def _watch_driver(self, driver_pid: int) -> None:
        """Notice the driver's end even where a fork of it still holds the socket."""
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):  # an old kernel, a sandbox: the socket has to do
                driver = os.pidfd_open(driver_pid)
                self._selector.register(driver, selectors.EVENT_READ, self._lose_driver)
        if os.getppid() != driver_pid:
            self._lose_driver()

    def run(self) -> None:
        """Serve until closed."""
        self._report("ready")
        try:
            while self._give_up_at is None or self._attempts:
                self._turn()
            self._end_strangers()
        finally:
            for attempt in self._attempts.values():
                self._signal(attempt, signal.SIGKILL)

    def _turn(self) -> None:
        deadlines = [a.deadline for a in self._attempts.values() if a.deadline is not None]
        if self._give_up_at is not None:
            deadlines.append(self._give_up_at)
        timeout = None
        if deadlines:
            timeout = min(max(0.0, min(deadlines) - monotonic()), LONGEST_SELECT_SECONDS)
        for key, events in self._selector.select(timeout):
            if key.data == self._receive and not events & selectors.EVENT_READ:
                continue  # it can be written to; the flush below does
            key.data()
        now = monotonic()
        for attempt in [*self._attempts.values()]:
            if attempt.deadline is not None and attempt.deadline <= now:
                self._act(attempt)
        if self._give_up_at is not None and self._give_up_at <= now:
            self._attempts.clear()
        self._flush()

    # --- the driver ---------------------------------------------------------------------------

    def _receive(self) -> None:
        try:
            chunk = self._connection.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._lose_driver()
            return
        *lines, self._inbox = (self._inbox + chunk).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))

    def _obey(self, message: dict[str, Any]) -> None:
        match message["op"]:
            case "start":
                if self._give_up_at is None:
                    self._start(message)
            case "environ":
                self._environ = encode(message["env"])
            case "close":
                self._close(self._grace)
            case operation:
                attempt = self._attempts.get(message["job"])
                if attempt is not None and attempt.leaders:
                    self._change(attempt, operation, message)

    def _change(self, attempt: Attempt, operation: str, message: dict[str, Any]) -> None:
        """Do what the driver asks for an attempt that runs."""
        match operation:
            case "cancel":
                self._end(attempt, "cancelled", self._grace)
            case "signal":
                self._signal(attempt, message["number"])
            case "extend":
                if attempt.cause is None:  # else the deadline is that of its end
                    attempt.deadline = attempt.started + message["duration"]

    def _lose_driver(self) -> None:
        for key in [*self._selector.get_map().values()]:
            if key.data in (self._receive, self._lose_driver):
                self._selector.unregister(key.fileobj)
        self._outbox.clear()
        self._close(ORPHAN_GRACE_SECONDS)

    def _close(self, grace: float) -> None:
        self._give_up_at = monotonic() + grace + SWEEP_LIMIT_SECONDS
        for attempt in [*self._attempts.values()]:
            self._end(attempt, "cancelled", grace)

    def _report(self, *message: object) -> None:
        self._outbox += json.dumps(message, separators=(",", ":")).encode() + b"\n"

    def _flush(self) -> None:
        """Send what the driver takes now; a stopped driver must not stop the enforcement."""
        if self._connection not in self._selector.get_map():
            self._outbox.clear()  # the driver is gone
            return
        try:
            while self._outbox:
                del self._outbox[: self._connection.send(self._outbox)]
        except BlockingIOError:
            pass
        except OSError:
            self._lose_driver()
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outbox else 0)
        if self._selector.get_key(self._connection).events != wanted:
            self._selector.modify(self._connection, wanted, self._receive)

    # --- starting -----------------------------------------------------------------------------

    def _start(self, message: dict[str, Any]) -> None:
        oom_kills = count_oom_kills(self._oom_counter)
        attempt = Attempt(message["job"], message["mark"], message["duration"], oom_kills)
        try:
            self._spawn(attempt, message)
        except Refusal as refusal:
            attempt.cause, attempt.detail = refusal.reason, refusal.detail
        except ValueError as error:  # NUL, '=' in a name, half a surrogate pair
            attempt.cause, attempt.detail = "submit_error", f"cannot be started: {error}"
        finally:
            os.chdir("/")  # keep no directory of a run busy
            if self._own_cores is not None and message["tasks"][0]["cores"]:
                os.sched_setaffinity(0, self._own_cores)
        self._attempts[attempt.job] = attempt
        if attempt.cause is None:
            self._report("started", attempt.job)
        else:
            self._act(attempt)  # some tasks may have started

    def _spawn(self, attempt: Attempt, message: dict[str, Any]) -> None:
        argv: list[str] = message["argv"]
        environ = dict(self._environ) if message["inherit"] else {}
        environ.update(encode(message["env"]))
        try:
            os.chdir(message["cwd"])
        except OSError as error:
            raise Refusal("io_error", f"cannot enter {message['cwd']}: {error.strerror}") from error
        program = find_program(argv[0], environ.get(b"PATH"))
        streams: list[int] = []
        try:
            streams.append(open_stream(message["stdout"]))
            streams.append(open_stream(message["stderr"]))
            for task in message["tasks"]:
                if self._own_cores is not None and task["cores"]:
                    os.sched_setaffinity(0, task["cores"])
                pid = os.posix_spawn(
                    program,
                    argv,
                    {**environ, **encode(task["env"])},
                    file_actions=(
                        (os.POSIX_SPAWN_DUP2, self._null, 0),
                        (os.POSIX_SPAWN_DUP2, streams[0], 1),
                        (os.POSIX_SPAWN_DUP2, streams[1], 2),
                    ),
                    setpgroup=0,
                    setsigmask=(),
                    setsigdef=DEFAULT_SIGNALS,
                )
                attempt.leaders.add(pid)
                attempt.groups.add(pid)
                self._by_leader[pid] = attempt
        except OSError as error:
            raise refusal_of(program, error) from error
        finally:
            for stream in streams:
                os.close(stream)

    # --- ending -------------------------------------------------------------------------------

    def _reap(self) -> None:
        with suppress(BlockingIOError):
            self._wakeup[0].recv(4096)
        strangers = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            attempt = self._by_leader.pop(pid, None)
            if attempt is None:
                strangers = True
                continue
            attempt.leaders.discard(pid)
            attempt.codes.append(os.waitstatus_to_exitcode(status))
            if attempt.job in self._attempts:
                self._sweep(attempt)
        if strangers:  # what was killed may be gone now
            for attempt in [*self._attempts.values()]:
                if attempt.groups != attempt.leaders or not attempt.leaders:
                    self._sweep(attempt)

    def _end(self, attempt: Attempt, cause: str, grace: float) -> None:
        """Begin to end an attempt; the first cause counts, the shorter grace too."""
        if not attempt.leaders and attempt.cause is None:
            return  # it ended by itself and is being swept
        deadline = monotonic() + grace
        if attempt.cause is None:
            attempt.cause = cause
            attempt.deadline = deadline
            self._signal(attempt, signal.SIGTERM)
        elif attempt.deadline is None or deadline < attempt.deadline:
            attempt.deadline = deadline

    def _act(self, attempt: Attempt) -> None:
        """Do what was due at the deadline of an attempt."""
        if attempt.cause is None and attempt.leaders:
            self._end(attempt, "duration_exceeded", self._grace)
        else:
            attempt.deadline = monotonic() + SWEEP_INTERVAL_SECONDS
            if not self._signal(attempt, signal.SIGKILL):
                self._finish(attempt)

    def _sweep(self, attempt: Attempt) -> None:
        """End what the ended tasks left behind; report when there are no more tasks and nothing.

        What is being ended may use up its grace: the shell around a program ends at once, the
        program itself may be writing its last checkpoint.
        """
        now = monotonic()
        in_grace = attempt.cause is not None and now < (attempt.deadline or 0.0)
        number = 0 if in_grace else signal.SIGKILL
        if attempt.leaders:
            for group in attempt.groups - attempt.leaders:
                self._signal_group(attempt, group, number)
        elif not self._signal(attempt, number):
            self._finish(attempt)
        elif not in_grace:
            attempt.deadline = now + SWEEP_INTERVAL_SECONDS

    def _finish(self, attempt: Attempt) -> None:
        del self._attempts[attempt.job]
        if attempt.cause is None and not KILLED.isdisjoint(attempt.codes):
            kills = count_oom_kills(self._oom_counter) - attempt.oom_kills
            if kills > 0:
                attempt.cause = "out_of_memory"
                attempt.detail = (
                    f"killed by signal {signal.SIGKILL:d} while the kernel ended {kills} "
                    f"process{'es' if kills > 1 else ''} for want of memory"
                )
        self._report("ended", attempt.job, attempt.exit_code, attempt.cause, attempt.detail)

    def _signal(self, attempt: Attempt, number: int) -> bool:
        """Signal every process of an attempt; return whether there is one (0 only looks)."""
        found = [self._signal_group(attempt, group, number) for group in [*attempt.groups]]
        for pid in self._find_strays(attempt.mark):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
                found.append(True)
        return any(found)

    def _signal_group(self, attempt: Attempt, group: int, number: int) -> bool:
        """Signal a process group; return whether it has members.

        A group that lost its leader keeps its number while a member lives. It is looked at right
        after the leader was reaped and forgotten when found empty, so that no other process can
        have taken the number when it is signalled.
        """
        try:
            os.killpg(group, number)
        except (ProcessLookupError, PermissionError):
            # PermissionError: only zombies (macOS), or a program under another user id
            if group not in attempt.leaders:
                attempt.groups.discard(group)
                return False
        return True

    def _strangers(self) -> list[int]:
        """Return our children that are no tasks: orphans of chores (Linux; else none)."""
        try:
            children = self._children.read_bytes().split()
        except OSError:
            return []
        return [pid for pid in map(int, children) if pid not in self._by_leader]

    def _find_strays(self, mark: bytes) -> list[int]:
        """Return the orphans of an attempt, wherever they went: they carry its mark."""
        mark = b"\0" + mark
        strays = []
        for pid in self._strangers():
            with suppress(OSError):
                environ = read_environ(pid)
                # A launcher below a chore puts its own ids behind ours and a slash.
                if mark + b"\0" in environ or mark + b"/" in environ:
                    strays.append(pid)
        return strays

    def _end_strangers(self) -> None:
        """End the orphans that belong to no attempt any more (they changed their environment)."""
        while (pids := self._strangers()) and monotonic() < (self._give_up_at or 0.0):
            for pid in pids:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self._selector.select(SWEEP_INTERVAL_SECONDS)
            self._reap()


def read_environ(pid: int) -> bytes:
    """Return the environment that a process was started with, each variable between two NULs.

    Linux only; raises OSError where the process is gone or is not ours.
    """
    return b"\0" + Path(f"/proc/{pid}/environ").read_bytes() + b"\0"


def count_oom_kills(counter: str) -> int:
    """Return how many processes of our cgroup the kernel has killed, as the counter file says."""
    if counter:
        with suppress(OSError):
            for line in Path(counter).read_bytes().splitlines():
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
    return 0


def encode(environ: dict[str, str]) -> dict[bytes, bytes]:
    """Return an environment as the system takes it."""
    return {os.fsencode(name): os.fsencode(value) for name, value in environ.items()}


def open_stream(path: str) -> int:
    """Open an output file; appending, so that the tasks of a chore do not overwrite one another."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except OSError as error:
        raise Refusal("io_error", f"cannot write {path}: {error.strerror}") from error


def find_program(name: str, path: bytes | None) -> str:
    """Return the file to run for a program, which is looked up on a PATH unless it has a slash."""
    if "/" in name:
        return name
    listed = os.fsdecode(path) if path else os.defpath
    blocked = ""
    for directory in listed.split(os.pathsep):
        candidate = f"{directory or '.'}/{name}"
        if os.path.isfile(candidate):  # noqa: PTH113 - hot, and no more readable with a Path
            if os.access(candidate, os.X_OK):
                return candidate
            blocked = f"; {candidate} is not executable"
    searched = f"PATH={listed}" if path else f"{listed} (the chore has no PATH)"
    raise Refusal("executable_not_found", f"no program {name!r} in {searched}{blocked}")


def refusal_of(program: str, error: OSError) -> Refusal:
    """Return what an error of the start means for the chore."""
    shown = program if program.startswith("/") else f"{program} in {Path.cwd()}"
    if error.errno not in NO_PROGRAM:
        return Refusal("submit_error", f"{shown} cannot be started: {error.strerror}")
    problem = error.strerror or "unknown error"
    if error.errno == errno.ENOENT:
        problem = "does not exist"
        if Path(program).exists():
            problem = "names an interpreter in its first line (#!) that does not exist"
    elif error.errno == errno.ENOEXEC:
        problem = "is neither a program for this machine nor a script that begins with #!"
    elif error.errno == errno.EACCES:
        problem = "is not executable (a directory, or 'chmod +x' is missing)"
    return Refusal("executable_not_found", f"{shown}: {problem}")


def become_subreaper() -> None:
    """Let orphans of chores become our children, so that they are seen and reaped (Linux)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def main() -> None:
    """Run as the driver's child."""
    descriptor, driver_pid, grace, _, oom_counter = sys.argv[1:]
    become_subreaper()
    with socket.socket(fileno=int(descriptor)) as connection:
        connection.set_inheritable(False)  # a chore that held it would hide our death
        Launcher(connection, int(driver_pid), float(grace), oom_counter).run()


if __name__ == "__main__":
    main()
