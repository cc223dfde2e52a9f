"""A cluster that outlives drivers, the processes on it, and the executor through which both meet.

Its events come late, in any order across chores, and again; an event that was posted and not
handled is lost with the driver that was killed, and no other way, because no real executor loses
one either: that is what `Orphan` and `AttemptLost` are for.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sim_world import World

from matensemble import disk, spawned, wire, workdir
from matensemble.chore import ChoreSpec
from matensemble.errors import ResultCorruptError, ResultMissingError
from matensemble.model import Reason
from matensemble.runtime.executors.base import ExecutorLost, JobEnded, Orphan, Post
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.scheduler.events import (
    AttemptLost,
    ChorePlaced,
    ChoreStarted,
    ChoreSubmitted,
    NodesChanged,
    ResourcesFreed,
)
from matensemble.runtime.scheduler.resources import Allocation, Node, Placement, Share
from matensemble.workdir import RunDir

INFINITY = float("inf")


class Job:
    """One attempt on the cluster."""

    def __init__(self, request: LaunchRequest, jobid: str) -> None:
        self.request = request
        self.key = (request.chore_id, request.attempt)
        self.jobid = jobid
        self.placement: Placement | None = None
        self.is_submitted = self.is_started = self.is_ended = self.is_freed = False
        self.is_muted = False
        """Whether a new driver has not been told of it yet."""
        self.started_at = 0.0
        self.ends_at = INFINITY
        self.limit = request.resources.duration or INFINITY
        self.end: JobEnded | None = None


class Cluster:
    """Nodes, jobs, and what jobs do to files.

    Parameters
    ----------
    world, run
        Where it stands, and the only run on it.
    nodes
        What it has.
    survives
        Whether jobs live on where their driver dies, as under Flux; else they die with it.
    failure_rate
        Probability that an attempt does not go well.

    Attributes
    ----------
    committed
        Chore id → (attempt, value) of each intact result that a single task committed.
    handed
        Every attempt that a driver handed over.
    """

    def __init__(
        self,
        world: World,
        run: RunDir,
        nodes: tuple[Node, ...],
        survives: bool,
        failure_rate: float,
    ) -> None:
        self.world = world
        self.run = run
        self.allocation = Allocation(nodes)
        self.survives = survives
        self.failure_rate = failure_rate
        self.jobs: dict[tuple[str, int], Job] = {}
        self.committed: dict[str, tuple[int, Any]] = {}
        self.handed: set[tuple[str, int]] = set()
        self.lost_nodes: set[int] = set()
        self.post: Post | None = None
        self.is_disk_full = False
        self.sees_late = False
        self._free = [[node.cores, node.gpus] for node in nodes]
        self._queue: list[Job] = []
        self._num_jobs = 0

    def alive(self) -> list[Job]:
        return [job for job in self.jobs.values() if not job.is_ended]

    def emit(self, job: Job, event: Any) -> None:
        if self.post is not None and not job.is_muted:
            self.post(event)
            if self.world.chance(0.05) and not isinstance(event, AttemptLost):
                post, again = self.post, self.world.rng.uniform(0, 5)
                self.world.after(again, lambda: self.post is post and post(event))

    # --- a job ---

    def take(self, request: LaunchRequest) -> None:
        world = self.world
        self._num_jobs += 1
        job = Job(request, f"job-{self._num_jobs}")
        assert job.key not in self.handed, f"{job.key} was handed out twice"
        assert request.chore_id not in self.committed, f"{job.key}: a committed chore runs again"
        alive = [other.key for other in self.alive() if other.key[0] == request.chore_id]
        assert not alive, f"{job.key} starts beside {alive}"
        for dep in self._upstream(self._read_record(job)):
            is_there = self.run.chore_file(dep["id"], workdir.RESULT).exists()
            assert is_there or dep["id"] not in self.committed, f"{job.key} starts before {dep}"
        self.handed.add(job.key)
        self.jobs[job.key] = job
        if world.chance(0.3 * self.failure_rate):
            reason = world.rng.choice(
                (Reason.SUBMIT_ERROR, Reason.IO_ERROR, Reason.EXECUTABLE_NOT_FOUND)
            )
            world.after(world.rng.uniform(0, 1), lambda: self._end(job, None, reason))
            return
        world.after(world.rng.uniform(0, 0.5), lambda: self._submitted(job))

    def _submitted(self, job: Job) -> None:
        if job.is_ended:
            return
        job.is_submitted = True
        self.emit(job, ChoreSubmitted(*job.key, job.jobid))
        self._queue.append(job)
        self.world.after(self.world.rng.uniform(0, 0.5), self._place)

    def _place(self) -> None:
        for job in tuple(self._queue):
            placement = self._find(job)
            if placement is not None:
                self._queue.remove(job)
                self._start(job, placement)

    def _find(self, job: Job) -> Placement | None:
        """Return where a job goes: where it was expected, else wherever its tasks fit."""
        wanted = job.request.placement
        if wanted is not None and all(self._fits(share) for share in wanted):
            return wanted
        resources = job.request.resources
        for avoid in (job.request.avoid | self.lost_nodes, self.lost_nodes):
            left, shares = resources.num_tasks, []
            for index, (cores, gpus) in enumerate(self._free):
                fit = cores // resources.cores_per_task
                if resources.gpus_per_task:
                    fit = min(fit, gpus // resources.gpus_per_task)
                if (count := min(fit, left)) and index not in avoid:
                    amount = count * resources.cores_per_task, count * resources.gpus_per_task
                    shares.append(Share(index, *amount))
                    left -= count
            if not left:
                return tuple(shares)
        return None

    def _fits(self, share: Share) -> bool:
        cores, gpus = self._free[share.node]
        return share.node not in self.lost_nodes and share.cores <= cores and share.gpus <= gpus

    def _hold(self, placement: Placement, sign: int) -> None:
        for share in placement:
            self._free[share.node][0] -= sign * share.cores
            self._free[share.node][1] -= sign * share.gpus

    def _start(self, job: Job, placement: Placement) -> None:
        world, rng = self.world, self.world.rng
        job.placement, job.is_started, job.started_at = placement, True, world.now
        self._hold(placement, 1)
        job.request.stdout_path.write_bytes(b"")
        job.request.stderr_path.write_bytes(b"")
        self._tell_start(job)
        job.ends_at = world.now + rng.choice((rng.uniform(0, 2), rng.uniform(0, 40)))
        if world.chance(0.1 * self.failure_rate):
            job.ends_at = INFINITY  # it hangs
        elif world.chance(0.2):
            self._write_output(job)
        self._watch_end(job)

    def _tell_start(self, job: Job) -> None:
        assert job.placement is not None
        if job.placement != job.request.placement or job.is_muted:
            self.emit(job, ChorePlaced(*job.key, job.placement))
        node = self.allocation.nodes[job.placement[0].node].name
        self.emit(job, ChoreStarted(*job.key, node))

    def _write_output(self, job: Job) -> None:
        if not job.is_ended:
            with job.request.stdout_path.open("ab") as file:
                file.write(b"step\n")
            self.world.after(7.0, lambda: self._write_output(job))

    def _watch_end(self, job: Job) -> None:
        due = min(job.ends_at, job.started_at + job.limit)
        if due < INFINITY:
            self.world.after(due - self.world.now, lambda: self._look_at_end(job))

    def _look_at_end(self, job: Job) -> None:
        if job.is_ended:
            return
        now = self.world.now + 1e-9
        if job.ends_at <= now:
            self._finish(job)
        elif job.started_at + job.limit <= now:
            self._end(job, -15, Reason.DURATION_EXCEEDED)

    def extend(self, key: tuple[str, int], duration: float) -> None:
        job = self.jobs.get(key)
        if job is not None and not job.is_ended:
            job.limit = duration
            if job.is_started:
                self._watch_end(job)

    def cancel(self, key: tuple[str, int]) -> None:
        job = self.jobs.get(key)
        if job is not None:
            wait = self.world.rng.uniform(0, 3)
            self.world.after(wait, lambda: self._end(job, -15, Reason.CANCELLED))

    def _end(self, job: Job, exit_code: int | None, reason: Reason | None = None) -> None:
        if job.is_ended:
            return
        job.is_ended = True
        if job in self._queue:
            self._queue.remove(job)
        job.end = JobEnded(*job.key, exit_code, reason, f"as the dice fell: {reason}")
        self.emit(job, job.end)
        rng = self.world.rng
        self.world.after(rng.choice((0.0, rng.uniform(0, 4))), lambda: self._freed(job))

    def _freed(self, job: Job) -> None:
        job.is_freed = True
        if job.placement is not None:
            self._hold(job.placement, -1)
        self.emit(job, ResourcesFreed(*job.key))
        self._place()

    # --- what its processes do ---

    def _finish(self, job: Job) -> None:
        rng = self.world.rng
        if not self.world.chance(self.failure_rate):
            self._succeed(job)
            return
        kind = rng.choice(("code", "signal", "memory", "exception", "silent", "torn"))
        if kind == "code":
            self._end(job, rng.choice((1, 3, 137)))
        elif kind == "signal":
            self._end(job, -9)
        elif kind == "memory":
            self._end(job, -9, Reason.OUT_OF_MEMORY)
        elif kind == "exception":
            self._write_error(job, {"reason": "exception", "type": "ValueError", "message": "no"})
            self._end(job, 1)
        elif self._read_record(job)["kind"] != "python":
            self._end(job, 2)
        else:
            if kind == "torn":
                path = job.request.cwd / workdir.RESULT
                path.write_bytes(pickle.dumps("half of a result"))
                path.chmod(0o600)
            self._end(job, 0)

    def _read_record(self, job: Job) -> dict[str, Any]:
        path = job.request.cwd / workdir.RECORD
        return wire.decode_record(str(path), path.read_bytes())

    def _write_error(self, job: Job, error: dict[str, Any]) -> None:
        path = job.request.cwd / workdir.ERROR
        disk.write_atomic(path, json.dumps({**error, "attempt": job.request.attempt}).encode())

    def _succeed(self, job: Job) -> None:
        request = job.request
        record = self._read_record(job)
        assert (record["id"], record["attempt"]) == job.key, "it was prepared for another attempt"
        inputs: list[Any] = []
        for dep in self._upstream(record):
            if dep["kind"] != "python" or "failed" in dep:
                inputs.append(dep["id"])
                continue
            try:
                path = self.run.chore_file(dep["id"], workdir.RESULT)
                inputs.append(wire.load_result(path, dep["id"])[0])
            except (ResultMissingError, ResultCorruptError) as error:
                kind = type(error).__name__
                reason = "result_corrupt" if "Corrupt" in kind else "result_missing"
                told = {"reason": reason, "type": kind, "message": "", "upstream": dep["id"]}
                told["upstream_attempt"] = dep["attempt"]
                self._write_error(job, told)
                self._end(job, 1)
                return
        if record["kind"] != "python":
            self._end(job, 0)
        elif self.is_disk_full:
            self._end(job, 74)
        else:
            self._commit(job, record, [request.chore_id, request.attempt, inputs])

    def _upstream(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        return [one for dep in record["deps"] for one in dep.get("gather", [dep])]

    def _commit(self, job: Job, record: dict[str, Any], value: list[Any]) -> None:
        chore_id, attempt = job.key
        if record.get("strategy"):
            self._spawn(job, record)
        path = job.request.cwd / workdir.RESULT
        if job.request.resources.num_tasks == 1:
            self.committed[chore_id] = (attempt, value)
        data = pickle.dumps(value)
        if self.sees_late and self.post is not None and self.world.chance(0.3):
            hidden = path.with_name(".nfs-late")
            wire.write_result(hidden, data, attempt, chore_id=chore_id)
            late = self.world.rng.uniform(0, 50)
            self.world.after(late, lambda: hidden.exists() and hidden.rename(path))
        else:
            wire.write_result(path, data, attempt, chore_id=chore_id)
        self._end(job, 0)

    def show_all_files(self) -> None:
        """Let the network file system come up to date."""
        for hidden in self.run.out_dir.glob("*/.nfs-late"):
            hidden.rename(hidden.with_name(workdir.RESULT))

    def _spawn(self, job: Job, record: dict[str, Any]) -> None:
        """Ask for further chores, as a strategy does."""
        rng = self.world.rng
        one = ChoreSpec((len(job.key[0]),), {}, "plain")
        specs = [one, ChoreSpec.exec(["true", one.ref], "after-one"), ChoreSpec((), {}, "nobody")]
        cwd: Path = job.request.cwd
        task: Any = SimpleNamespace(
            record=record, run_dir=str(self.run.root), path=lambda name: str(cwd / name)
        )
        spawned.write(task, specs[: rng.randrange(4)])

    # --- misfortunes ---

    def lose_node(self, index: int, seconds: float) -> None:
        if index in self.lost_nodes:
            return
        self.lost_nodes.add(index)
        for job in self.alive():
            if any(share.node == index for share in job.placement or ()):
                self._end(job, None, Reason.NODE_FAILURE)
        self._tell_nodes(NodesChanged(lost=frozenset({index})))
        self.world.after(seconds, lambda: self._return_node(index))

    def _return_node(self, index: int) -> None:
        self.lost_nodes.discard(index)
        self._tell_nodes(NodesChanged(back=frozenset({index})))
        self._place()

    def _tell_nodes(self, event: NodesChanged) -> None:
        if self.post is not None:
            self.post(event)

    def damage_a_result(self) -> None:
        """Let the disk eat a result that was committed."""
        if not self.committed:
            return
        chore_id = self.world.rng.choice(sorted(self.committed))
        path = self.run.chore_file(chore_id, workdir.RESULT)
        if not path.exists():
            return
        del self.committed[chore_id]
        if self.world.chance(0.5):
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-5])

    def kill_job(self, job: Job) -> None:
        """End a job of which nobody will hear."""
        job.is_muted = True
        if not job.is_ended:
            self._end(job, -9)

    def forget_driver(self, ends_jobs: bool) -> None:
        """Lose the connection to a driver; perhaps everything that it started ends with it."""
        self.post = None
        if ends_jobs:
            self.show_all_files()
            for job in [*self.jobs.values()]:
                self.kill_job(job)
            self.jobs.clear()


class SimExecutor:
    """The executor through which one driver reaches the cluster."""

    name = "sim"

    def __init__(self, cluster: Cluster, look_ahead: int) -> None:
        self._cluster = cluster
        self.look_ahead = look_ahead
        self.pool_look_ahead = 0
        self.sees_files_late = cluster.sees_late
        self._post: Post | None = None

    def open(self, post: Post, orphans: Sequence[Orphan] = ()) -> Allocation:
        cluster = self._cluster
        self._post = cluster.post = post
        known = {(orphan.chore_id, orphan.attempt) for orphan in orphans}
        unknown = [job.key for job in cluster.alive() if job.key not in known]
        assert not unknown, f"the journal does not know of {unknown}, which run"
        for orphan in orphans:
            self._report(orphan)
        if cluster.lost_nodes:
            post(NodesChanged(lost=frozenset(cluster.lost_nodes)))
        return cluster.allocation

    def _report(self, orphan: Orphan) -> None:
        cluster, world = self._cluster, self._cluster.world
        job = cluster.jobs.get((orphan.chore_id, orphan.attempt))
        if job is None or world.chance(0.1):
            if job is not None:
                cluster.show_all_files()
                cluster.kill_job(job)
                del cluster.jobs[job.key]
            assert self._post is not None
            self._post(AttemptLost(orphan.chore_id, orphan.attempt, "the cluster forgot it"))
            return
        assert orphan.jobid in (None, job.jobid)
        job.is_muted = True
        late = world.rng.choice((0.0, world.rng.uniform(0, 3)))
        world.after(late, lambda: self._tell_history(job))

    def _tell_history(self, job: Job) -> None:
        cluster = self._cluster
        if cluster.post is not self._post or cluster.jobs.get(job.key) is not job:
            return  # that driver is gone
        job.is_muted = False
        if job.is_submitted:
            cluster.emit(job, ChoreSubmitted(*job.key, job.jobid))
        if job.placement is not None:
            cluster.emit(job, ChorePlaced(*job.key, job.placement))
            cluster.emit(
                job, ChoreStarted(*job.key, cluster.allocation.nodes[job.placement[0].node].name)
            )
        if job.end is not None:
            cluster.emit(job, job.end)
        if job.is_freed:
            cluster.emit(job, ResourcesFreed(*job.key))

    def flush(self) -> None:
        pass

    def submit(self, request: LaunchRequest) -> None:
        with Outside(self._cluster.world):
            self._cluster.take(request)

    def cancel(self, chore_id: str, attempt: int) -> None:
        self._cluster.cancel((chore_id, attempt))

    def signal(self, chore_id: str, attempt: int, number: int) -> None:
        job = self._cluster.jobs.get((chore_id, attempt))
        if job is not None and not job.is_ended and self._cluster.world.chance(0.5):
            job.ends_at = self._cluster.world.now + 1.0  # it saves what it has and ends
            self._cluster._watch_end(job)

    def extend(self, chore_id: str, attempt: int, duration: float) -> None:
        self._cluster.extend((chore_id, attempt), duration)

    def time_left(self) -> float | None:
        return None

    def lose(self) -> None:
        """Break down: nothing follows, and whatever it ran has ended."""
        if self._post is not None and self._cluster.post is self._post:
            self._post(ExecutorLost("the launcher died"))
            self._cluster.forget_driver(ends_jobs=not self._cluster.survives)

    def close(self, *, abandon: bool = False) -> None:
        if self._post is None or self._cluster.world.is_dead:
            return  # the harness decides what a killed driver leaves behind
        self._post = None
        with Outside(self._cluster.world):
            self._cluster.forget_driver(ends_jobs=not abandon)


class Outside:
    """The cluster's own work, of which the driver's disk and death are no part."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __enter__(self) -> None:
        self._was_in_driver, self._world.in_driver = self._world.in_driver, False

    def __exit__(self, *exception: object) -> None:
        self._world.in_driver = self._was_in_driver
