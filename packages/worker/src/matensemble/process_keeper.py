"""Processes of attempts: started, watched without polling, ended whole, none left behind.

Owns every process of every attempt that it was asked to start, its duration, what it leaves behind,
and why it ended. Decides nothing: which cores, which chore comes next are its callers'. Called by
`matensemble.launcher` and `matensemble.pool.node`, each from its one thread and with its own
selector. The launcher runs without site-packages, so this imports the standard library only, and
little of it.

It moves its process into an attempt's directory and onto an attempt's cores for the moment of the
start: the child inherits both, and no code has to run between fork and exec. Hence the one thread.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from matensemble.process_start import Refusal, encode, find_program, open_stream, refusal_of

ORPHAN_GRACE_SECONDS = 1.0  # between TERM and KILL where the driver is gone and nobody waits
SWEEP_INTERVAL_SECONDS = 0.02  # between two looks for killed processes that are not our children
SWEEP_LIMIT_SECONDS = 5.0  # at the end of the keeper; only the kernel can hold them up so long
PR_SET_CHILD_SUBREAPER = 36
KILLED = {-signal.SIGKILL, 128 + signal.SIGKILL}  # the latter from a shell around the program
DEFAULT_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class Task(NamedTuple):
    """What one process of an attempt has for itself."""

    cores: Sequence[int] | None
    """The cores that it is bound to; None leaves it where the keeper is."""
    env: Mapping[str, str]


class Start(NamedTuple):
    """Processes to be started as one attempt."""

    job: str
    """Name of the attempt, unique within the keeper."""
    mark: str
    """The variable, as ``NAME=value``, by which its processes are known; it stands in `env`."""
    argv: list[str]
    """Program and arguments; a program without a slash is looked up on the PATH of `env`."""
    cwd: str
    stdout: str
    stderr: str
    environ: Mapping[bytes, bytes]
    """The environment under `env` and under what a task has of its own."""
    env: Mapping[str, str]
    duration: float | None = None
    """Seconds until it is ended; None: no limit."""
    tasks: Sequence[Task] = (Task(None, {}),)
    channel: int | None = None
    """An open file that each process receives as descriptor 3."""


class End(NamedTuple):
    """All processes of an attempt have ended, or it could not be started."""

    job: str
    exit_code: int | None
    reason: str | None
    """As in `matensemble.model.Reason`; None: the exit code speaks."""
    detail: str
    elapsed: float
    """Seconds from its start to the end of its last task."""


class Attempt:
    """The processes of one attempt. Each task leads a process group of its own."""

    __slots__ = (
        *("cause", "codes", "deadline", "detail", "ended", "groups"),
        *("job", "leaders", "mark", "oom_kills", "started"),
    )

    def __init__(self, job: str, mark: str, duration: float | None, oom_kills: int) -> None:
        self.job = job
        self.mark = os.fsencode(mark)
        self.leaders: set[int] = set()  # tasks that have not been reaped
        self.groups: set[int] = set()  # that may have members
        self.codes: list[int] = []
        self.cause: str | None = None  # why we end it
        self.detail = ""
        # When to act next: duration over, grace over, or another look for what was killed.
        self.started = self.ended = monotonic()
        self.deadline = None if duration is None else self.started + duration
        self.oom_kills = oom_kills  # of the kernel, before it started

    @property
    def exit_code(self) -> int | None:
        """The highest exit code; a signal n counts as 128 + n, as in a shell."""
        return max(self.codes, key=lambda c: c if c >= 0 else 128 - c, default=None)


class ProcessKeeper:
    """Starts, watches and ends attempts.

    Parameters
    ----------
    selector
        That of the caller's loop; the keeper registers what wakes it with a function to call.
    grace
        Seconds between TERM and KILL.
    oom_counter
        File in which the kernel counts what it killed for want of memory, or empty.
    on_started
        Called with the job when all processes of an attempt were started.
    on_ended
        Called once for each attempt; also for one that could not be started.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        grace: float,
        oom_counter: str,
        on_started: Callable[[str], None],
        on_ended: Callable[[End], None],
    ) -> None:
        self._selector = selector
        self._grace = grace
        self._oom_counter = oom_counter
        self._on_started = on_started
        self._on_ended = on_ended
        self._attempts: dict[str, Attempt] = {}
        self._by_leader: dict[int, Attempt] = {}
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._own_cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        self._children = Path(f"/proc/self/task/{os.getpid()}/children")
        become_subreaper()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # our parent may have blocked some
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        self._wakeup = (reader, writer)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler, or nothing is written
        selector.register(reader, selectors.EVENT_READ, self._reap)

    @property
    def is_idle(self) -> bool:
        """Whether it keeps no attempt."""
        return not self._attempts

    def find_deadline(self) -> float | None:
        """Return when `act` is to be called at the latest, by the monotonic clock."""
        deadlines = [a.deadline for a in self._attempts.values() if a.deadline is not None]
        return min(deadlines, default=None)

    def act(self) -> None:
        """Do what is due."""
        now = monotonic()
        for attempt in [*self._attempts.values()]:
            if attempt.deadline is not None and attempt.deadline <= now:
                self._act(attempt)

    # --- starting -----------------------------------------------------------------------------

    def start(self, order: Start) -> None:
        """Start the processes of an attempt; what is wrong with it is told by its end."""
        attempt = Attempt(order.job, order.mark, order.duration, self._count_oom_kills())
        try:
            self._spawn(attempt, order)
        except Refusal as refusal:
            attempt.cause, attempt.detail = refusal.reason, refusal.detail
        except ValueError as error:  # NUL, '=' in a name, half a surrogate pair
            attempt.cause, attempt.detail = "submit_error", f"cannot be started: {error}"
        finally:
            os.chdir("/")  # keep no directory of a run busy
            if self._own_cores is not None and any(task.cores for task in order.tasks):
                os.sched_setaffinity(0, self._own_cores)
        self._attempts[attempt.job] = attempt
        if attempt.cause is None:
            self._on_started(attempt.job)
        else:
            self._act(attempt)  # some tasks may have started

    def _spawn(self, attempt: Attempt, order: Start) -> None:
        environ = {**order.environ, **encode(order.env)}
        try:
            os.chdir(order.cwd)
        except OSError as error:
            raise Refusal("io_error", f"cannot enter {order.cwd}: {error.strerror}") from error
        program = find_program(order.argv[0], environ.get(b"PATH"))
        streams: list[int] = []
        try:
            streams.append(open_stream(order.stdout))
            streams.append(open_stream(order.stderr))
            files = [self._null, *streams]
            if order.channel is not None:
                files.append(order.channel)
            actions = [(os.POSIX_SPAWN_DUP2, file, number) for number, file in enumerate(files)]
            for task in order.tasks:
                if self._own_cores is not None and task.cores:
                    os.sched_setaffinity(0, task.cores)
                pid = os.posix_spawn(
                    program,
                    order.argv,
                    {**environ, **encode(task.env)},
                    file_actions=actions,
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

    # --- changing -----------------------------------------------------------------------------

    def end(self, job: str, cause: str, grace: float | None = None) -> None:
        """Begin to end an attempt that runs: TERM, and KILL after the grace."""
        attempt = self._attempts.get(job)
        if attempt is not None and attempt.leaders:
            self._end(attempt, cause, self._grace if grace is None else grace)

    def end_all(self, grace: float) -> None:
        """Begin to end every attempt, as cancelled."""
        for attempt in [*self._attempts.values()]:
            self._end(attempt, "cancelled", grace)

    def signal(self, job: str, number: int) -> None:
        """Send a signal to every process of an attempt that runs."""
        attempt = self._attempts.get(job)
        if attempt is not None and attempt.leaders:
            self._signal(attempt, number)

    def extend(self, job: str, duration: float) -> None:
        """Let an attempt run for so many seconds from its start, unless it is being ended."""
        attempt = self._attempts.get(job)
        if attempt is not None and attempt.leaders and attempt.cause is None:
            attempt.deadline = attempt.started + duration

    def note_memory(self, job: str) -> None:
        """Let what the kernel has ended for want of memory until now not count for an attempt."""
        attempt = self._attempts.get(job)
        if attempt is not None and attempt.leaders:
            attempt.oom_kills = self._count_oom_kills()

    def kill_all(self) -> None:
        """Kill whatever is there, at once."""
        for attempt in self._attempts.values():
            self._signal(attempt, signal.SIGKILL)

    def abandon(self) -> None:
        """Stop waiting for what KILL does not end."""
        self._attempts.clear()

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
            attempt.ended = monotonic()
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
            kills = self._count_oom_kills() - attempt.oom_kills
            if kills > 0:
                attempt.cause = "out_of_memory"
                attempt.detail = (
                    f"killed by signal {signal.SIGKILL:d} while the kernel ended {kills} "
                    f"process{'es' if kills > 1 else ''} for want of memory"
                )
        elapsed = attempt.ended - attempt.started
        self._on_ended(End(attempt.job, attempt.exit_code, attempt.cause, attempt.detail, elapsed))

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
        """Return our children that are no tasks: orphans of attempts (Linux; else none)."""
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
                # A keeper below a chore puts its own ids behind ours and a slash.
                if mark + b"\0" in environ or mark + b"/" in environ:
                    strays.append(pid)
        return strays

    def find_owners(self) -> set[str]:
        """Return the jobs that have left processes behind while they go on (Linux; else none)."""
        owners = set()
        for pid in self._strangers():
            with suppress(OSError):
                environ = read_environ(pid)
                for attempt in self._attempts.values():
                    mark = b"\0" + attempt.mark
                    if mark + b"\0" in environ or mark + b"/" in environ:
                        owners.add(attempt.job)
        return owners

    def end_strangers(self, give_up_at: float) -> None:
        """End the orphans that belong to no attempt any more (they changed their environment)."""
        while (pids := self._strangers()) and monotonic() < give_up_at:
            for pid in pids:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self._selector.select(SWEEP_INTERVAL_SECONDS)
            self._reap()

    def _count_oom_kills(self) -> int:
        return count_oom_kills(self._oom_counter)


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


def become_subreaper() -> None:
    """Let orphans of attempts become our children, so that they are seen and reaped (Linux)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
