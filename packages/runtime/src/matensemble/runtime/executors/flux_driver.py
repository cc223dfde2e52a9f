"""What runs on the Flux thread: orders in, events of jobs out, through lost connections.

Owns the connection to the instance, and when to leave. All jobs are followed by one stream, the
journal of the job manager. A connection that breaks is made anew, and the journal is read from its
beginning: `flux_jobs` posts what it has not posted yet, and sends again what Flux never received.

It never drains a node and changes no setting of the instance. Started by `flux_executor`.
"""

from __future__ import annotations

import errno
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from matensemble.errors import ExecutorUnavailableError
from matensemble.runtime.executors.base import ExecutorLost, Orphan, Post
from matensemble.runtime.executors.flux import (
    connect,
    find_expiration,
    identify,
    survey,
)
from matensemble.runtime.executors.flux_connection import Connection
from matensemble.runtime.executors.flux_jobs import FluxJobs
from matensemble.runtime.executors.job_table import (
    JOURNAL_EVENTS,
    Message,
)
from matensemble.runtime.executors.mailbox import Mailbox
from matensemble.runtime.executors.node_watch import NodeWatch
from matensemble.runtime.scheduler.resources import Allocation

LOGGER = logging.getLogger("matensemble.executors.flux")

CLOSE_SECONDS = 8.0
"""How long to wait for cancelled jobs: Flux itself waits 5 s between TERM and KILL."""

RECONNECT_SECONDS = 60.0
"""How long to look for an instance that does not answer any more."""

FIRST_DELAY_SECONDS = 1.0
"""Before the first attempt to connect again; each further one waits twice as long. Submissions that
the broker had received are in the journal by then, so that they are not sent twice."""

LONGEST_DELAY_SECONDS = 8.0

JOURNAL = "job-manager.events-journal"
RESOURCE_JOURNAL = "resource.journal"


Order = Callable[[FluxJobs], None]


class Opened(NamedTuple):
    """What is known once jobs can be followed."""

    allocation: Allocation
    expiration: float | None
    """When the instance ends, by wall clock; None where that is not known."""


class Driver:
    """Serves one run on one instance.

    Attributes
    ----------
    num_heard
        How many messages about the past have come: a sign of life where there are many.

    Parameters
    ----------
    mailbox
        Where orders come from; released at the end.
    post
        Where events go.
    run, epoch
        As for `JobspecEncoder`.
    encoder_options
        The other options of `JobspecEncoder` that are no facts of the instance.
    orphans
        Attempts of an earlier driver.
    """

    def __init__(
        self,
        mailbox: Mailbox[Order],
        post: Post,
        *,
        run: str,
        epoch: int,
        encoder_options: Mapping[str, Any],
        orphans: Sequence[Orphan],
    ) -> None:
        self._mailbox = mailbox
        self._post = post
        self._run = run
        self._epoch = epoch
        self._encoder_options = encoder_options
        self._orphans = orphans
        self._orders: deque[Order] = deque()
        self._history: list[Message] = []
        self.num_heard = 0
        self._is_caught_up = False
        self._is_closing = False
        self._is_leaving = False
        self._lost_at: float | None = None
        self._opened: Future[Opened]
        self._connection: Connection

    # --- connections ----------------------------------------------------------------------------

    def run(
        self, uri: str | None, reserve_broker_node: bool | None, opened: Future[Opened]
    ) -> None:
        """Serve until closed or lost; resolve `opened` once jobs can be followed."""
        self._opened = opened
        try:
            self._begin(connect(uri), reserve_broker_node)
            while not self._is_leaving:
                try:
                    self._serve()
                except OSError as error:
                    if self._is_leaving or not opened.done():
                        raise
                    self._reconnect(uri, error)
        except Exception as error:
            self._tell_of(error)
        finally:
            self._mailbox.release()

    def _tell_of(self, error: Exception) -> None:
        """Say that it is over, to whoever can still be told."""
        problem = str(error)
        if isinstance(error, ExecutorUnavailableError):
            problem = error.problem
        elif type(error) is not ConnectionError:  # that one is ours, the others are Flux's
            problem = f"{type(error).__name__}: {error}"
        if not self._opened.done():
            if not isinstance(error, ExecutorUnavailableError):
                lost = ExecutorUnavailableError(
                    "flux",
                    f"the instance was lost before it told what it has and runs ({problem})",
                    "See whether `flux uptime` and `flux resource list` answer",
                )
                lost.__cause__ = error
                error = lost
            self._opened.set_exception(error)
        elif not self._mailbox.closing.is_set():
            LOGGER.error("the Flux instance is lost: %s", problem)
            self._post(ExecutorLost(f"the Flux instance does not answer any more ({problem})"))

    def _begin(self, handle: Any, reserve_broker_node: bool | None) -> None:
        instance = survey(handle, reserve_broker_node)
        if not instance.ranks:
            raise ExecutorUnavailableError(
                "flux", "the instance has no node that is up", "Look at `flux resource status`"
            )
        self._identity = identify(handle)
        self._result = Opened(instance.allocation, find_expiration(handle))
        nodes = {rank: index for index, rank in enumerate(instance.ranks)}
        self._nodes = NodeWatch(nodes)
        self._jobs = FluxJobs(
            instance,
            self._post,
            self._leave_when_done,
            run=self._run,
            epoch=self._epoch,
            encoder_options=self._encoder_options,
            orphans=self._orphans,
        )
        self._connection = Connection(handle)

    def _serve(self) -> None:
        """Follow all jobs and carry out orders, until it is time to leave."""
        connection = self._connection
        # Of inactive jobs only a driver that missed something wants to hear.
        is_behind = bool(self._orphans) or self._lost_at is not None
        self._history.clear()
        self._jobs.use(connection)
        self._is_caught_up = self._is_closing = False
        self._nodes.begin()
        try:
            connection.watch(self._mailbox.reader, self._on_wake)
            payload = {"full": is_behind, "allow": dict.fromkeys(JOURNAL_EVENTS, 1)}
            connection.follow(JOURNAL, payload, self._on_journal, _raise)
            connection.follow(RESOURCE_JOURNAL, {}, self._on_nodes, self._on_nodes_end)
            self._carry_out()
            if not self._is_leaving:
                connection.run()
        finally:
            connection.release()
        if not self._is_leaving:
            raise ConnectionError("the reactor of the Flux handle ended")

    def _reconnect(self, uri: str | None, error: OSError) -> None:
        """Connect again to the same instance.

        Raises
        ------
        ExecutorUnavailableError, OSError
            If it does not come back.
        """
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            LOGGER.warning("the connection to Flux is lost (%s), looking for it again", error)
        delay = FIRST_DELAY_SECONDS
        while True:
            is_closing = self._mailbox.closing.wait(delay)
            try:
                handle = connect(uri)
                identity = identify(handle)
                break
            except (ExecutorUnavailableError, OSError):
                delay = min(2 * delay, LONGEST_DELAY_SECONDS)
                if is_closing or time.monotonic() + delay > self._lost_at + RECONNECT_SECONDS:
                    raise
        if identity != self._identity:
            raise ExecutorUnavailableError(
                "flux", "another instance is at its address now", "Resume the run"
            )
        self._connection = Connection(handle)

    # --- orders ---------------------------------------------------------------------------------

    def _on_wake(self) -> None:
        self._orders.extend(self._mailbox.take())
        self._carry_out()

    def _carry_out(self) -> None:
        """Do what was ordered, as far as that is possible before all jobs are known."""
        if self._is_caught_up:
            while self._orders:
                self._orders.popleft()(self._jobs)
        if self._mailbox.closing.is_set():
            self._close()

    def _close(self) -> None:
        """End all attempts, then leave; or leave them to others."""
        if self._mailbox.is_abandoned or not self._opened.done():
            self._leave()
            return
        if not self._is_closing:
            self._is_closing = True
            self._connection.after(CLOSE_SECONDS, self._give_up)
        if self._is_caught_up:
            self._jobs.cancel_all()
            self._leave_when_done()

    def _give_up(self) -> None:
        if len(self._jobs):
            LOGGER.warning("%d jobs are left for Flux to end", len(self._jobs))
        self._leave()

    def _leave_when_done(self) -> None:
        if self._is_closing and self._is_caught_up and not len(self._jobs):
            self._leave()

    def _leave(self) -> None:
        if not self._is_leaving:
            self._is_leaving = True
            self._connection.stop()

    # --- what Flux tells ------------------------------------------------------------------------

    def _on_journal(self, message: Message) -> None:
        if self._is_caught_up:
            self._jobs.take(message)
            return
        self.num_heard += 1
        if message["id"] == -1:  # the past is told; from here on everything is new
            self._on_past_told()
        elif self._jobs.matters(message):
            self._history.append(message)

    def _on_past_told(self) -> None:
        self._is_caught_up = True
        if self._lost_at is not None:
            LOGGER.warning("the connection to Flux is back")
            self._lost_at = None
        self._orphans = ()
        history, self._history = self._history, []
        self._jobs.go_on(history)
        if not self._opened.done():  # the engine hears of orphans before it starts anything
            self._opened.set_result(self._result)
        self._carry_out()

    def _on_nodes(self, message: Message) -> None:
        changed = self._nodes.apply(message)
        if changed is None:
            return
        hosts = [node.name for node in self._result.allocation.nodes]
        for what, nodes in (("lost", changed.lost), ("back", changed.back)):
            if nodes:
                LOGGER.warning("nodes %s: %s", what, ", ".join(hosts[n] for n in sorted(nodes)))
        self._post(changed)

    def _on_nodes_end(self, error: OSError) -> None:
        if error.errno != errno.ENOSYS:  # flux-core before 0.72 has no such journal
            LOGGER.warning("Flux tells no more of lost nodes: %s", error)


def _raise(error: OSError) -> None:
    raise error
