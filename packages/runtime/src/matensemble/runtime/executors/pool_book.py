"""What becomes of pooled chores: the book of a pool.

Owns every pooled chore from its submission until its end was posted, what is lost with a worker,
and when a job or a chore makes a worker end. Pure: facts come in, orders go out through
`pool_hands`; no clock, thread, socket or file. Who serves what is `pool_dealer`'s, the workers are
`pool_staff`'s, the jobs `pool_jobs`'s. Called by `pool_driver`, on its one thread.

After facts were told, `arrange` does what follows from all of them at once, so that a thousand
chores are one message.
"""

from __future__ import annotations

from matensemble import pool_messages as messages
from matensemble.model import Reason
from matensemble.runtime.executors.base import ExecutorEvent, ExecutorLost, JobEnded
from matensemble.runtime.executors.pool_dealer import LOOK_SECONDS, PoolDealer
from matensemble.runtime.executors.pool_hands import Hands
from matensemble.runtime.executors.pool_jobs import PoolJobs
from matensemble.runtime.executors.pool_nodes import PoolNode
from matensemble.runtime.executors.pool_staff import IDLE_SECONDS, PoolStaff
from matensemble.runtime.executors.pool_worker import Key, PooledChore, Worker, WorkerState
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.scheduler.events import (
    AttemptLost,
    ChorePlaced,
    ChoreStarted,
    ChoreSubmitted,
    LaunchMeasured,
    NodesChanged,
    PoolLost,
    ResourcesFreed,
)
from matensemble.runtime.scheduler.resources import Allocation

PATIENCE_SECONDS = 10.0
"""How long a job may wait in the executor inside before a busy worker ends for it."""
LINGER_SECONDS = 0.25
"""How long reports of a worker that has ended may be on their way."""
MAX_STARTS_IN_VAIN = 2
AHEAD_SECONDS = 0.1
"""How much work is to queue at the workers, so that none waits for the driver."""
MAX_DEPTH = 128
_SHARE = 1 / 16
"""What the newest chore counts in the mean of how long they take."""


class PoolBook:
    """All pooled chores, workers and jobs that are not over.

    Attributes
    ----------
    look_ahead
        How many pooled chores may queue at the workers beyond what fits.

    Parameters
    ----------
    allocation
        The nodes.
    hands
        What carries out.
    prefix
        What the keys of workers begin with.
    idle_seconds
        How long a worker may have nothing to do before it is ended.
    """

    def __init__(
        self,
        allocation: Allocation,
        hands: Hands,
        prefix: str,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self.look_ahead = 0
        self._hands = hands
        self._idle_seconds = idle_seconds
        self._nodes = [PoolNode(index, *node) for index, node in enumerate(allocation.nodes)]
        self._staff = PoolStaff(self._nodes, hands, prefix)
        self._dealer = PoolDealer(self._nodes, self._staff, hands, self._fail)
        self._jobs = PoolJobs(self._nodes, hands.submit)
        self._chores: dict[Key, PooledChore] = {}
        self._lost_before: set[str] = set()
        self._num_chores = 0
        self._num_starts_in_vain = 0
        self._mean_elapsed: float | None = None
        self._problem = ""
        self._look_at = 0.0

    @property
    def now(self) -> float:
        """The time, by a monotonic clock; set it before facts are told."""
        return self._staff.now

    @now.setter
    def now(self, now: float) -> None:
        self._staff.now = now

    @property
    def is_quiet(self) -> bool:
        """Whether nothing changes by itself as time passes."""
        return not self._staff and not self._chores

    def worker(self, key: str) -> Worker | None:
        """Return a worker by its key, None once it is settled."""
        return self._staff.get(key)

    # --- what the engine asks for -----------------------------------------------------------------

    def submit(self, request: LaunchRequest) -> None:
        """Take a request."""
        if not request.is_pooled:
            self._jobs.add(request, self.now)
            return
        self._num_chores += 1
        node = request.placement[0].node if request.placement else None
        chore = PooledChore(request, self._num_chores, node, self.now)
        self._chores[chore.key] = chore
        if self._problem:
            self._lose(chore, self._problem)
        else:
            self._dealer.queue(chore)

    def cancel(self, key: Key) -> None:
        """End an attempt wherever it stands; unknown ones are ignored."""
        chore = self._chores.get(key)
        if chore is None:
            if self._jobs.withdraw(key):
                self._end_cancelled(key)
            else:
                self._hands.stop(key)
            return
        chore.is_cancelled = True
        if chore.worker is None:
            self._dealer.unqueue(chore)
            self._end_cancelled(key)
        else:
            self._tell(chore, messages.Cancel(*key))

    def signal(self, key: Key, number: int) -> None:
        """Send a signal to an attempt that a worker or the executor inside has."""
        chore = self._chores.get(key)
        if chore is None:
            self._hands.signal(key, number)
        else:
            self._tell(chore, messages.Signal(*key, number))

    def extend(self, key: Key, duration: float) -> None:
        """Let an attempt run for `duration` seconds from its start; unknown ones are ignored."""
        chore = self._chores.get(key)
        if chore is not None:
            chore.duration = duration
            self._tell(chore, messages.Extend(*key, duration))
        elif self._jobs.is_waiting(key):
            self._jobs.extend(key, duration)
        else:
            self._hands.extend(key, duration)

    def _tell(self, chore: PooledChore, message: messages.FromDriver) -> None:
        """Tell the worker of a chore, if one has it that is alive."""
        if chore.worker is not None and chore.worker.state is not WorkerState.ENDED:
            self._hands.tell(chore.worker, message)

    # --- what the executor inside tells -----------------------------------------------------------

    def take_event(self, event: ExecutorEvent) -> None:
        """Take an event of the executor inside; those of jobs were posted already."""
        if isinstance(event, NodesChanged):
            self._change_nodes(event)
        elif isinstance(event, (LaunchMeasured, PoolLost, ExecutorLost)):
            return
        elif (worker := self._staff.get(event.chore_id)) is not None:
            self._take_event_of_worker(worker, event)
        elif isinstance(event, ChorePlaced):
            self._jobs.placed((event.chore_id, event.attempt), event.placement)
            self._give_way(event)
        elif isinstance(event, ChoreStarted):
            self._jobs.placed((event.chore_id, event.attempt), None)
        elif isinstance(event, (ResourcesFreed, AttemptLost)):
            self._jobs.over((event.chore_id, event.attempt))
            self._dealer.look_again()

    def _give_way(self, placed: ChorePlaced) -> None:
        """Take back a worker that was not started, where a job has got the cores meant for it."""
        for share in placed.placement:
            node = self._nodes[share.node]
            if min(node.free()) < 0:
                for worker in [*node.workers]:
                    if worker.started_at is None:
                        self._staff.close(worker)

    def _take_event_of_worker(self, worker: Worker, event: ExecutorEvent) -> None:
        match event:
            case ChoreSubmitted():
                worker.jobid = event.jobid
            case ChorePlaced():
                worker.placed_at = self.now
            case ChoreStarted():
                worker.started_at = self.now
            case JobEnded():
                self._take_end(worker, _words(event))
            case AttemptLost():
                self._take_end(worker, event.detail)
                self._free(worker)
            case ResourcesFreed():
                self._free(worker)

    def _take_end(self, worker: Worker, how: str) -> None:
        if worker.state is WorkerState.ENDED:
            return
        was_starting = worker.state is WorkerState.STARTING
        worker.state = WorkerState.ENDED
        words = "" if worker.is_unwanted else self._hands.describe_end(worker)
        how = worker.complaint or how
        worker.problem = ": ".join(filter(None, [f"its worker ended ({how})", words]))
        # What it said last may still be on the way, unless it took its leave.
        is_settled = worker.has_taken_leave or not worker.chores
        worker.settle_at = self.now + (0.0 if is_settled else LINGER_SECONDS)
        if was_starting and not worker.is_unwanted:
            self._fail_start(worker, ": ".join(filter(None, [how, words])))
        if is_settled:
            self._settle(worker)

    def _free(self, worker: Worker) -> None:
        self._dealer.wake(self._staff.free(worker))
        self._staff.forget_if_settled(worker)

    def _change_nodes(self, changed: NodesChanged) -> None:
        for index in changed.lost:
            node = self._nodes[index]
            node.is_lost = True
            self._dealer.send_elsewhere(node)
            for worker in [*node.workers]:
                self._staff.close(worker)
        for index in changed.back:
            self._nodes[index].is_lost = False
            self._nodes[index].num_failed_starts = 0
        self._dealer.look_again()

    # --- what workers tell ------------------------------------------------------------------------

    def take_hello(self, worker: Worker) -> None:
        """Note that a worker is up, and can be told something from now on."""
        worker.num_unanswered = 0
        if worker.state is not WorkerState.STARTING:
            return
        worker.state = WorkerState.READY
        worker.idle_since = self.now
        self._num_starts_in_vain = 0
        node = self._nodes[worker.node]
        node.num_failed_starts = 0
        self._hands.post(LaunchMeasured(self.now - (worker.placed_at or worker.submitted_at)))
        if worker.is_unwanted or node.is_lost:
            self._staff.close(worker)
        self._dealer.wake(node)

    def take_report(self, worker: Worker, report: messages.Report) -> None:
        """Take what a worker says of its chores; what it says of others means nothing."""
        worker.num_unanswered = 0
        for key in report.started:
            chore = worker.chores.get(key)
            if chore is not None and not chore.is_started:
                chore.is_started = True
                self._hands.post(ChorePlaced(*key, worker.place_of(chore)))
                self._hands.post(ChoreStarted(*key, worker.host))
        for ended in report.ended:
            self._take_ended(worker, ended)
        returned = [worker.drop(key, self.now) for key in report.returned]
        self._take_back(worker, [chore for chore in returned if chore is not None])
        self._staff.forget_if_settled(worker)

    def take_sign_of_life(self, worker: Worker) -> None:
        """Note that a worker has answered a ping."""
        worker.num_unanswered = 0

    def take_leave(self, worker: Worker) -> None:
        """Note that a worker ends, and has accounted for whatever it was given."""
        worker.has_taken_leave = worker.is_unwanted = True
        if worker.state is not WorkerState.ENDED:
            worker.state = WorkerState.CLOSING
        else:
            self._settle(worker)

    def distrust(self, worker: Worker, complaint: str) -> None:
        """End a worker that says what makes no sense; what it has is lost with it."""
        self._staff.distrust(worker, complaint)

    def refuse(self, worker: Worker, problem: str) -> None:
        """Take it that a worker cannot be started, nor any other."""
        worker.state = WorkerState.ENDED
        self._free(worker)
        self.give_up(problem)

    def _take_ended(self, worker: Worker, ended: messages.Ended) -> None:
        key = ended.chore_id, ended.attempt
        if worker.drop(key, self.now) is None:
            return
        del self._chores[key]
        elapsed = ended.elapsed
        mean = self._mean_elapsed
        self._mean_elapsed = elapsed if mean is None else mean + _SHARE * (elapsed - mean)
        self._hands.post(
            JobEnded(
                ended.chore_id,
                ended.attempt,
                ended.exit_code,
                None if ended.reason is None else Reason(ended.reason),
                ended.detail,
                elapsed,
                worker.host,
                ended.is_committed,
                ended.result,
            )
        )
        self._hands.post(ResourcesFreed(ended.chore_id, ended.attempt))

    def _take_back(self, worker: Worker, chores: list[PooledChore]) -> None:
        """Queue again what a worker has not started."""
        for chore in chores:
            if chore.is_cancelled:
                self._end_cancelled(chore.key)
            elif worker.is_ready:  # withdrawn, to run where there is less to do
                chore.node = None
        self._dealer.requeue(chore for chore in chores if not chore.is_cancelled)

    def _end_cancelled(self, key: Key) -> None:
        self._chores.pop(key, None)
        self._hands.post(JobEnded(*key, None, Reason.CANCELLED))
        self._hands.post(ResourcesFreed(*key))

    # --- what follows from all that ---------------------------------------------------------------

    def arrange(self) -> None:
        """Do what follows from everything that was told, and from the time."""
        for index in self._jobs.admit(self.now):
            node = self._nodes[index]
            self._staff.make_room(node, node.wanted_cores, node.wanted_gpus)
        self._dealer.deal()
        if self.now >= self._look_at and not self.is_quiet:
            self._look_at = self.now + LOOK_SECONDS
            self._staff.look_after(self._idle_seconds)
            self._settle_ended()
            self._let_jobs_in()
            self._dealer.balance()
        self.look_ahead = self._depth() * self._staff.num_ready_cores

    def _depth(self) -> int:
        if self._mean_elapsed is None:
            return 1
        return int(min(max(AHEAD_SECONDS / max(self._mean_elapsed, 1e-6), 1), MAX_DEPTH))

    def _let_jobs_in(self) -> None:
        """End workers for jobs that the executor inside has not found a place for."""
        since = self._jobs.waiting_since()
        if since is None or self.now - since < LOOK_SECONDS:
            return
        workers = [worker for worker in self._staff if worker.is_ready]
        idle = [w for w in workers if w.is_idle and self.now - w.idle_since >= LOOK_SECONDS]
        for worker in idle:
            self._staff.close(worker)
        is_one_leaving = any(not w.is_open and not w.is_freed for w in self._staff)
        if workers and not is_one_leaving and self.now - since > PATIENCE_SECONDS:
            self._staff.close(min(workers, key=lambda w: w.load))

    # --- what is lost -----------------------------------------------------------------------------

    def _fail_start(self, worker: Worker, problem: str) -> None:
        """Note that a worker ended before it was there; give up where that goes on."""
        node = self._nodes[worker.node]
        node.num_failed_starts += 1
        self._num_starts_in_vain += 1
        if not node.is_usable:
            self._dealer.send_elsewhere(node)
        is_one_left = any(other.is_open for other in self._staff)
        if self._num_starts_in_vain >= MAX_STARTS_IN_VAIN and not is_one_left:
            self.give_up(f"a warm worker does not start: {problem}")

    def give_up(self, problem: str) -> None:
        """Have no workers any more; what waits for one is lost, and so is what comes."""
        if self._problem:
            return
        self._problem = problem
        self._hands.post(PoolLost(problem))
        for chore in [*self._chores.values()]:
            if chore.worker is None:
                self._dealer.unqueue(chore)
                self._lose(chore, problem)

    def _settle_ended(self) -> None:
        for worker in [*self._staff]:
            if worker.state is WorkerState.ENDED and self.now >= worker.settle_at:
                self._settle(worker)

    def _settle(self, worker: Worker) -> None:
        """Tell what is lost with a worker that has ended."""
        suspects = set() if worker.is_unwanted else worker.suspects()
        for chore in [*worker.chores.values()]:
            worker.drop(chore.key, self.now)
            if chore.is_cancelled:
                self._end_cancelled(chore.key)
            elif chore.key not in suspects:
                self._lose(chore, worker.problem)
            elif chore.request.chore_id in self._lost_before:
                self._fail(chore, f"for the second time, {worker.problem}")
            else:
                self._lost_before.add(chore.request.chore_id)
                self._lose(chore, worker.problem)
        self._staff.forget_if_settled(worker)

    def _lose(self, chore: PooledChore, detail: str) -> None:
        del self._chores[chore.key]
        self._hands.post(AttemptLost(*chore.key, detail))

    def _fail(self, chore: PooledChore, detail: str) -> None:
        del self._chores[chore.key]
        self._hands.post(JobEnded(*chore.key, None, Reason.NODE_FAILURE, detail))
        self._hands.post(ResourcesFreed(*chore.key))


def _words(ended: JobEnded) -> str:
    """Return how a worker ended, for people."""
    code = ended.exit_code
    if ended.reason is not None:
        return ended.detail or ended.reason.value.replace("_", " ")
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
