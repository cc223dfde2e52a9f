"""Serve Python chores, one at a time, in a process that stays.

``python -P -m matensemble.pool.slot STDOUT STDERR RECYCLE_AFTER``, with a socket to its node as
descriptor 3. STDOUT and STDERR are the files that descriptors 1 and 2 are, RECYCLE_AFTER is the
number of chores after which it ends (0: never).

Runs a record exactly as `matensemble.runtime_worker` does, whose `Task` it shares; what is its own
is that functions and open files stay, and that what a chore changed around it is put right. Started
by `starter`. It ends when its node does, when it was told to, and after a chore behind which not
everything can be put right. What it cannot notice itself (a crash) its node does.
"""

from __future__ import annotations

import _socket
import faulthandler
import gc
import os
import sys
from _pickle import dumps as _dumps, loads as _loads
from time import monotonic

from matensemble.pool import packet
from matensemble.pool.capture import Capture
from matensemble.pool.leftovers import Leftovers
from matensemble.pool.run_files import RunFiles
from matensemble.pool.surroundings import Surroundings
from matensemble.runtime_worker import Task, report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9
_NODE_PATIENCE_SECONDS: Final = 1.0
"""How often a slot looks whether its node is there, where its socket does not tell."""
_MAX_FUNCTIONS: Final = 1000


class SlotTask(Task):
    """A chore in a slot: functions stay loaded, and files open."""

    def __init__(
        self,
        chore_dir: str,
        files: RunFiles,
        functions: dict[str, Callable[..., Any]],
    ) -> None:
        super().__init__(chore_dir.rpartition("/")[2], chore_dir)
        self._files = files
        self._functions = functions

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Return a part of a file of the run that holds pickles."""
        return self._files.read(path, offset, size)

    def find_function(self, name: str) -> Callable[..., Any]:
        """Return a registered function."""
        function = self._functions.get(name)
        if function is None:
            if len(self._functions) >= _MAX_FUNCTIONS:
                self._functions.clear()
            function = self._functions[name] = super().find_function(name)
        return function

    def write_result(self, payload: bytes) -> None:
        """Commit a pickled result."""
        record = self.record
        if record.get("durable"):
            super().write_result(payload)
        else:
            path = f"{self.chore_dir}/result.pickle"
            self._files.commit(path, payload, record["attempt"], record["id"])


class Slot:
    """Serves requests.

    Parameters
    ----------
    stdout, stderr
        The files that descriptors 1 and 2 are.
    recycle_after
        Number of chores after which the slot is to end; 0: never.
    """

    def __init__(self, stdout: str, stderr: str, recycle_after: int) -> None:
        self._spill_prefix = f"{stdout.removesuffix('.stdout')}.reply"
        self._captures = (Capture(stdout, 1), Capture(stderr, 2))
        self._files = RunFiles()
        self._functions: dict[str, Callable[..., Any]] = {}
        self._recycle_after = recycle_after
        self._num_served = 0
        self._flush_c_streams = _load_c_flush()
        self._surroundings = Surroundings()
        self._leftovers = Leftovers()

    def serve(self, request: bytes) -> tuple[bytes, bool]:
        """Serve a request; return the reply, and whether the slot can serve another."""
        started = monotonic()
        kind, wants, _, payload = packet.decode_request(request)
        record, _, env, inherit, cwd, stdout, stderr = _loads(payload)
        task = SlotTask(cwd, self._files, self._functions)
        flags, exit_code, data, is_whole = 0, 0, None, True
        try:
            self._surroundings.enter(cwd, env, inherit)
            task.take(cwd, record)
            if kind == packet.CALL:
                data = task.run()
                flags = packet.IS_COMMITTED
                if not wants or len(data) > wants:
                    data = None
            else:
                from matensemble import program

                data = _dumps(program.resolve(task), 5)
        except BaseException as error:  # sys.exit and interrupts too: the function did not return
            exit_code = report(task, error)
            data = None
            is_whole = not isinstance(error, MemoryError)
        is_whole = not self._leftovers.settle() and is_whole
        elapsed = monotonic() - started
        is_whole = self._clear_up(stdout, stderr) and is_whole
        self._num_served += 1
        is_whole = is_whole and self._num_served != self._recycle_after
        if not is_whole:
            flags |= packet.RETIRES
        spill_path = f"{self._spill_prefix}.{self._num_served}"
        return packet.encode_reply(flags, exit_code, elapsed, data, spill_path), is_whole

    def _clear_up(self, stdout: str, stderr: str) -> bool:
        """Put right what the chore changed; return whether that was possible."""
        try:
            self._flush_c_streams(None)
            for capture, path in zip(self._captures, (stdout, stderr), strict=True):
                capture.settle(path)
            is_whole = self._surroundings.leave()
        except OSError:  # closed under our feet, no room …: a new process has what it needs
            return False
        return is_whole


def _load_c_flush() -> Callable[[None], object]:
    """Return the function that writes out what C code has printed, and tie our life to the node's.

    A crash of the node must not leave its slots behind; only Linux can be asked for that.
    """
    import ctypes

    library = ctypes.CDLL(None)
    if sys.platform == "linux":
        library.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    flush: Callable[[None], object] = library.fflush
    return flush


def _receive(channel: _socket.socket, buffer: memoryview, node: int) -> bytes:
    """Return the next request; none when the node is gone."""
    while True:
        try:
            return bytes(buffer[: channel.recv_into(buffer)])
        except TimeoutError:
            if os.getppid() != node:
                return b""
        except ConnectionResetError:
            return b""


def main() -> int:
    """Serve until there is nothing more to serve."""
    stdout, stderr, recycle_after = sys.argv[1:]
    node = os.getppid()
    os.set_inheritable(packet.DESCRIPTOR, False)
    channel = _socket.socket(fileno=packet.DESCRIPTOR)
    if sys.platform != "linux":  # the end of the other side is not told
        channel.settimeout(_NODE_PATIENCE_SECONDS)
    if sys.stdout is not None:  # what is printed is seen while it runs, and is a sign of life
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable()  # a crash in compiled code then says where in the function it was
    slot = Slot(stdout, stderr, int(recycle_after))
    gc.freeze()  # as in a process of one chore
    channel.send(packet.encode_reply(packet.IS_READY, 0, 0.0, None, ""))
    buffer = memoryview(bytearray(2 * packet.MAX_PACKET_BYTES))  # made once: it is large
    is_whole = True
    while is_whole and (request := _receive(channel, buffer, node)):
        reply, is_whole = slot.serve(request)
        channel.send(reply)
    return 0


if __name__ == "__main__":
    sys.exit(main())
