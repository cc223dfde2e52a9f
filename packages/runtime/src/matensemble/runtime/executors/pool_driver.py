"""What runs on the pool's thread: orders and events in, messages and events out.

Owns the thread's loop and carries out what `pool_book` decides: it submits workers and jobs to the
executor inside, and talks to workers through `pool_link`, which is opened for the first of them.
Everything that others tell it comes through a mailbox. Started by `pool_executor`.

It never unpickles: of results it passes the bytes on.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from matensemble import environment, pool_messages
from matensemble.errors import FormatError
from matensemble.model import Reason, Resources
from matensemble.pool_messages import FromDriver, FromWorker
from matensemble.runtime.executors.base import Executor, ExecutorEvent, ExecutorLost, Post
from matensemble.runtime.executors.mailbox import Mailbox
from matensemble.runtime.executors.pool_book import PoolBook
from matensemble.runtime.executors.pool_dealer import LOOK_SECONDS
from matensemble.runtime.executors.pool_worker import Key, Worker
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.scheduler.resources import Allocation, Share
from matensemble.terminal import clean_line
from matensemble.workdir import RunDir

if TYPE_CHECKING:
    from matensemble.runtime.executors.pool_link import PoolLink

LOGGER = logging.getLogger("matensemble.executors.pool")

CHANNEL_MODULE = "zmq"
"""What warm workers and their driver talk by; not everybody has installed it."""
WORKER_MODULE = "matensemble.pool.node"
LAST_WORDS_BYTES = 4096
"""How much of the end of a worker's stderr is looked at."""
_REASONS = frozenset(reason.value for reason in Reason)

Order = Callable[["PoolDriver"], None]


class PoolOptions(NamedTuple):
    """What a pool needs to know of its run."""

    run: RunDir
    """Absolute."""
    epoch: int
    """Of this driver of the run."""
    is_remote: bool
    """Whether workers may be on other machines, so that they are reached over TCP."""
    script_dir: Path | None = None
    """Directory that workers append to their import path; None appends none."""
    recycle_after: int = 0
    """Python chores after which a worker takes a fresh process; 0: never."""
    binds: bool = True
    """Whether each chore is bound to its own cores, where the worker is bound to as many as it has
    for them."""
    command: tuple[str, ...] = (sys.executable, "-P", "-m", WORKER_MODULE)
    """What starts a worker; its options follow."""


class PoolDriver:
    """Serves one run from one thread.

    Parameters
    ----------
    options
        The run.
    inner
        The executor inside, open.
    allocation
        What it offers.
    post
        Where events go.
    mailbox
        Where orders come from; released at the end.
    """

    def __init__(
        self,
        options: PoolOptions,
        inner: Executor,
        allocation: Allocation,
        post: Post,
        mailbox: Mailbox[Order],
    ) -> None:
        self.post = post
        self._options = options
        self._inner = inner
        self._nodes = allocation.nodes
        self._mailbox = mailbox
        self._dir = options.run.pool_dir(options.epoch)
        self._link: PoolLink | None = None
        self._idle = select.poll()  # as long as there is no channel
        self._idle.register(mailbox.reader, select.POLLIN)
        self.book = PoolBook(allocation, self, f"worker-{options.epoch}-")

    @property
    def look_ahead(self) -> int:
        """How many pooled chores may queue at the workers beyond what fits."""
        return self.book.look_ahead

    def has_worker(self, key: str) -> bool:
        """Whether a job of the executor inside is a worker; may be called from any thread."""
        return self.book.worker(key) is not None

    def run(self) -> None:
        """Serve until asked to leave."""
        try:
            while not self._mailbox.closing.is_set():
                self._wait(None if self.book.is_quiet else LOOK_SECONDS)
                self.book.now = time.monotonic()
                for order in self._mailbox.take():
                    order(self)
                self._hear()
                self.book.arrange()
        except Exception as error:
            LOGGER.exception("the thread of the warm workers failed")
            self.post(ExecutorLost(f"warm workers: {type(error).__name__}: {error}"))
        finally:
            if self._link is not None:
                self._link.close()
            self._mailbox.release()

    def _wait(self, seconds: float | None) -> None:
        if self._link is None:
            self._idle.poll(None if seconds is None else seconds * 1000)
        else:
            self._link.wait(seconds)

    def lose(self, lost: ExecutorLost) -> None:
        """Leave, since the executor inside cannot go on; nothing is owed any more."""
        self.post(lost)
        self._mailbox.ask_to_close(abandon=True)

    # --- what workers say -------------------------------------------------------------------------

    def _hear(self) -> None:
        if self._link is None:
            return
        for name, frames in self._link.receive():
            worker = self.book.worker(name)
            if worker is None:
                continue  # it has ended, and what it had is settled
            try:
                self._take(worker, pool_messages.decode_from_worker(frames))
            except FormatError as error:
                self.book.distrust(worker, str(error))

    def _take(self, worker: Worker, message: FromWorker) -> None:
        match message:
            case pool_messages.Hello():
                if message.format != pool_messages.FORMAT:
                    self.book.distrust(worker, f"it speaks format {message.format}")
                else:
                    self.book.take_hello(worker)
            case pool_messages.Report():
                if not all(e.reason is None or e.reason in _REASONS for e in message.ended):
                    raise FormatError("a message of a warm worker's channel", "has no such reason")
                self.book.take_report(worker, message)
            case pool_messages.Bye():
                self.book.take_leave(worker)
            case pool_messages.Pong():
                self.book.take_sign_of_life(worker)

    # --- what the book can do ---------------------------------------------------------------------

    def submit(self, request: LaunchRequest) -> None:
        """Hand a job to the executor inside."""
        self._inner.submit(request)

    def start(self, worker: Worker) -> None:
        """Submit a worker to the executor inside, pinned to its node."""
        try:
            link = self._open_link()
        except (ImportError, OSError) as error:
            self.book.refuse(worker, f"no channel for warm workers can be had: {error}")
            return
        others = frozenset(range(len(self._nodes))) - {worker.node}
        arguments = (
            *("--worker", worker.key, "--address-file", str(link.address_path)),
            *("--cores", str(worker.cores), "--gpus", str(worker.gpus)),
            *("--recycle-after", str(self._options.recycle_after)),
            *(() if self._options.binds else ("--unbound",)),
        )
        self._inner.submit(
            LaunchRequest(
                chore_id=worker.key,
                attempt=1,
                name="warm-worker",
                argv=(*self._options.command, *arguments),
                cwd=self._dir,
                stdout_path=self._stream(worker, "stdout"),
                stderr_path=self._stream(worker, "stderr"),
                resources=Resources(cores_per_task=worker.cores, gpus_per_task=worker.gpus),
                env=self._environment(worker),
                placement=(Share(worker.node, worker.cores, worker.gpus),),
                avoid=others,
            )
        )

    def stop(self, key: Key) -> None:
        """End a job or a worker of the executor inside."""
        self._inner.cancel(*key)

    def signal(self, key: Key, number: int) -> None:
        """Send a signal to a job of the executor inside."""
        self._inner.signal(*key, number)

    def extend(self, key: Key, duration: float) -> None:
        """Give a job of the executor inside more time."""
        self._inner.extend(*key, duration)

    def tell(self, worker: Worker, message: FromDriver) -> None:
        """Send a message to a worker."""
        if self._link is not None:
            self._link.send(worker.key, message)

    def describe_end(self, worker: Worker) -> str:
        """Return the last line that a worker wrote to its standard error."""
        try:
            with self._stream(worker, "stderr").open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LAST_WORDS_BYTES))
                text = file.read(LAST_WORDS_BYTES).decode(errors="replace")
        except OSError:
            return ""
        lines = [line for line in text.splitlines() if line.strip()]
        return clean_line(lines[-1]) if lines else ""

    def _open_link(self) -> PoolLink:
        if self._link is None:
            # ZeroMQ takes a while to load, and not every run has warm workers.
            from matensemble.runtime.executors.pool_link import PoolLink, choose_host

            host = None
            if self._options.is_remote:
                wanted = os.environ.get(environment.POOL_ADDRESS)
                host = choose_host([node.name for node in self._nodes], wanted)
            self._link = PoolLink(self._options.run, self._options.epoch, host)
            self._link.watch(self._mailbox.reader)
        return self._link

    def _stream(self, worker: Worker, name: str) -> Path:
        return self._dir / f"{worker.key}.{name}"

    def _environment(self, worker: Worker) -> dict[str, str]:
        variables = {
            environment.CHORE_ID: worker.key,
            environment.RUN_DIR: str(self._options.run.root),
            environment.ATTEMPT: "1",
            environment.WARM_WORKER: "1",
        }
        if self._options.script_dir is not None:
            variables[environment.SCRIPT_DIR] = str(self._options.script_dir)
        return variables


def forward(event: ExecutorEvent) -> Order:
    """Return the order that tells a driver of an event of the executor inside."""
    return lambda driver: driver.book.take_event(event)
