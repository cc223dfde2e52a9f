"""A world for the book of a pool: what it decides is carried out here, step by step, by the test.

No thread, no socket, no clock. `World` is the book's hands, and plays the executor inside and the
workers: it holds them to what they may do, and the book to what it may ask.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matensemble import pool_messages as messages
from matensemble.model import Resources
from matensemble.pool_messages import Ended, Order
from matensemble.runtime.executors.base import JobEnded
from matensemble.runtime.executors.pool_book import PoolBook
from matensemble.runtime.executors.pool_worker import Worker, WorkerState
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.scheduler.events import (
    AttemptLost,
    ChorePlaced,
    ChoreStarted,
    ChoreSubmitted,
    ResourcesFreed,
)
from matensemble.runtime.scheduler.resources import Allocation, Node, Share


def make_request(
    chore_id: str,
    node: int | None = 0,
    *,
    attempt: int = 1,
    cores: int = 1,
    gpus: int = 0,
    is_pooled: bool = True,
    **fields: Any,
) -> LaunchRequest:
    """Return a request; on no certain node where `node` is None."""
    cwd = Path("/run/out") / chore_id
    resources = Resources(cores_per_task=cores, gpus_per_task=gpus, **fields.pop("resources", {}))
    return LaunchRequest(
        chore_id=chore_id,
        attempt=attempt,
        name="work",
        argv=("true",),
        cwd=cwd,
        stdout_path=cwd / "stdout",
        stderr_path=cwd / "stderr",
        resources=resources,
        env={},
        placement=None if node is None else (Share(node, cores, gpus),),
        is_pooled=is_pooled,
        **fields,
    )


class Staffer:
    """A worker as the world has it: a queue, in which as much runs as fits."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.key = worker.key
        self.is_up = False
        self.is_closing = False
        self.queue: dict[tuple[str, int], Order] = {}
        self.running: dict[tuple[str, int], Order] = {}
        self.told: list[Any] = []

    def run_what_fits(self) -> None:
        for key, order in [*self.queue.items()]:
            cores = sum(other.cores for other in self.running.values())
            gpus = sum(other.gpus for other in self.running.values())
            if cores + order.cores > self.worker.cores or gpus + order.gpus > self.worker.gpus:
                return
            self.running[key] = self.queue.pop(key)


class World:
    """The hands of a book, and all that they reach.

    Attributes
    ----------
    posted
        What the engine was told.
    jobs
        Requests of jobs that the executor inside has.
    staff
        Workers that it has.
    """

    def __init__(self, *nodes: tuple[int, int], idle_seconds: float = 10.0) -> None:
        self.nodes = nodes or ((4, 0),)
        allocation = Allocation(tuple(Node(f"n{i}", c, g) for i, (c, g) in enumerate(self.nodes)))
        self.posted: list[Any] = []
        self.jobs: dict[tuple[str, int], LaunchRequest] = {}
        self.staff: dict[str, Staffer] = {}
        self.stopped: list[tuple[str, int]] = []
        self.signals: list[Any] = []
        self.extended: list[Any] = []
        self.book = PoolBook(allocation, self, "worker-1-", idle_seconds)

    # --- hands ----------------------------------------------------------------------------------

    def post(self, event: Any) -> None:
        self.posted.append(event)

    def submit(self, request: LaunchRequest) -> None:
        self.jobs[request.chore_id, request.attempt] = request

    def start(self, worker: Worker) -> None:
        assert worker.cores >= 1
        assert worker.gpus >= 0
        self.staff[worker.key] = Staffer(worker)
        self.check_capacity(worker.node)

    def stop(self, key: tuple[str, int]) -> None:
        self.stopped.append(key)

    def signal(self, key: tuple[str, int], number: int) -> None:
        self.signals.append((key, number))

    def extend(self, key: tuple[str, int], duration: float) -> None:
        self.extended.append((key, duration))

    def tell(self, worker: Worker, message: Any) -> None:
        staffer = self.staff[worker.key]
        is_ping = isinstance(message, messages.Ping)
        assert staffer.is_up or is_ping, f"{worker.key} said no hello, and is told {message}"
        staffer.told.append(message)
        match message:
            case messages.Run():
                for order in message.orders:
                    assert order.cores <= worker.cores
                    assert order.gpus <= worker.gpus
                    staffer.queue[order.chore_id, order.attempt] = order
            case messages.Close():
                staffer.is_closing = True

    def describe_end(self, worker: Worker) -> str:
        return "last words"

    # --- what happens ---------------------------------------------------------------------------

    def arrange(self) -> World:
        self.book.arrange()
        return self

    def wait(self, seconds: float) -> World:
        """Let time pass; what is pinged answers."""
        self.book.now += seconds
        for staffer in self.staff.values():
            if staffer.is_up:
                self.book.take_sign_of_life(staffer.worker)
        return self.arrange()

    def pooled(self, *chore_ids: str, node: int | None = 0, **fields: Any) -> World:
        """Submit pooled chores."""
        for chore_id in chore_ids:
            self.book.submit(make_request(chore_id, node, **fields))
        return self.arrange()

    def job(self, chore_id: str, node: int | None = 0, **fields: Any) -> World:
        """Submit a job."""
        self.book.submit(make_request(chore_id, node, is_pooled=False, **fields))
        return self.arrange()

    def place(self, chore_id: str, *shares: Share) -> World:
        """Let a job get its place, which may be another than expected."""
        self.jobs[chore_id, 1] = self.jobs[chore_id, 1]._replace(placement=shares)
        self.book.take_event(ChorePlaced(chore_id, 1, shares))
        return self.arrange()

    def launched(self, key: str) -> World:
        """Let the process of a worker start."""
        self.book.take_event(ChoreSubmitted(key, 1, f"job-of-{key}"))
        self.book.take_event(ChoreStarted(key, 1))
        return self.arrange()

    def hello(self, key: str = "worker-1-1") -> World:
        """Let a worker start and say hello."""
        self.launched(key)
        self.staff[key].is_up = True
        self.book.take_hello(self.staff[key].worker)
        return self.arrange()

    def report(self, key: str, **fields: Any) -> World:
        self.book.take_report(self.staff[key].worker, messages.Report(**fields))
        return self.arrange()

    def started(self, *chore_ids: str, by: str = "worker-1-1") -> World:
        return self.report(by, started=tuple((chore_id, 1) for chore_id in chore_ids))

    def finish(
        self, *chore_ids: str, by: str = "worker-1-1", elapsed: float = 0.001, attempt: int = 1
    ) -> World:
        """Let a worker report that chores have ended well."""
        staffer = self.staff[by]
        ended = []
        for chore_id in chore_ids:
            key = chore_id, attempt
            assert staffer.queue.pop(key, None) or staffer.running.pop(key, None)
            ended.append(Ended(*key, 0, None, "", elapsed, True, None))
        return self.report(by, ended=tuple(ended))

    def give_back(self, *chore_ids: str, by: str = "worker-1-1") -> World:
        for chore_id in chore_ids:
            del self.staff[by].queue[chore_id, 1]
        return self.report(by, returned=tuple((chore_id, 1) for chore_id in chore_ids))

    def leave(self, key: str = "worker-1-1") -> World:
        """Let a worker say goodbye and end."""
        assert not self.staff[key].queue
        assert not self.staff[key].running
        self.book.take_leave(self.staff[key].worker)
        return self.die(key, exit_code=0)

    def die(self, key: str = "worker-1-1", exit_code: int = -9) -> World:
        """Let the processes of a worker end, and its cores come back."""
        del self.staff[key]
        self.book.take_event(JobEnded(key, 1, exit_code))
        self.book.take_event(ResourcesFreed(key, 1))
        return self.arrange()

    def end_job(self, chore_id: str) -> World:
        del self.jobs[chore_id, 1]
        self.book.take_event(JobEnded(chore_id, 1, 0))
        self.book.take_event(ResourcesFreed(chore_id, 1))
        return self.arrange()

    # --- what is seen ---------------------------------------------------------------------------

    def given(self, key: str = "worker-1-1") -> list[str]:
        """Return the chores that a worker has."""
        staffer = self.staff[key]
        return [chore_id for chore_id, _ in (*staffer.running, *staffer.queue)]

    def told(self, kind: type, key: str = "worker-1-1") -> list[Any]:
        return [message for message in self.staff[key].told if isinstance(message, kind)]

    def of(self, chore_id: str) -> list[Any]:
        """Return what was posted about a chore."""
        return [event for event in self.posted if getattr(event, "chore_id", None) == chore_id]

    def posted_kinds(self, chore_id: str) -> list[str]:
        return [type(event).__name__ for event in self.of(chore_id)]

    def lost(self) -> list[str]:
        return [event.chore_id for event in self.posted if isinstance(event, AttemptLost)]

    def check_capacity(self, *indexes: int) -> None:
        """What was handed to the executor inside fits: else it would be refused."""
        for index in indexes or range(len(self.nodes)):
            cores, gpus = self.nodes[index]
            shares = [
                share
                for request in self.jobs.values()
                for share in request.placement or ()
                if share.node == index
            ]
            workers = [s.worker for s in self.staff.values() if s.worker.node == index]
            held = sum(w.cores for w in workers) + sum(share.cores for share in shares)
            assert not workers or held <= cores, f"node {index}: {held} of {cores} cores"
            held = sum(w.gpus for w in workers) + sum(share.gpus for share in shares)
            assert not workers or held <= gpus, f"node {index}: {held} of {gpus} GPUs"

    @property
    def states(self) -> dict[str, WorkerState]:
        return {key: staffer.worker.state for key, staffer in self.staff.items()}
