"""The executor for one machine: real processes, each chore on its own cores and GPUs.

Owns which cores and GPUs a chore gets, and the translation of requests and reports; the processes
are those of `matensemble.launcher`. Decides nothing about order: the scheduler submits what fits.
Called by the engine through the protocol in `base`.

Threads are not limited by variables such as ``OMP_NUM_THREADS``: where chores are bound to their
cores, OpenMP and its like count those.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import threading
from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matensemble import environment
from matensemble.errors import InvalidOptionError
from matensemble.gpu import find_gpus
from matensemble.model import Reason
from matensemble.protocols import RunOptions
from matensemble.runtime.executors.base import ExecutorLost, JobEnded, Orphan, Post
from matensemble.runtime.executors.launcher_process import LauncherProcess
from matensemble.runtime.executors.mpi import MISSING_MPIEXEC, MPI_DEFAULTS, mpi_command
from matensemble.runtime.executors.orphans import end_orphans
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.scheduler.events import (
    AttemptLost,
    ChoreStarted,
    ChoreSubmitted,
    ResourcesFreed,
)
from matensemble.runtime.scheduler.resources import Allocation, Node


@dataclass(slots=True)
class _Held:
    """What a live attempt holds."""

    chore_id: str
    attempt: int
    cores: list[int]
    gpus: list[int]


class _Refused(Exception):  # noqa: N818 - an answer, not an error
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class LocalExecutor:
    """Runs chores on this machine, through one small launcher process.

    A chore with several tasks is that many processes with ``MATENSEMBLE_TASK_RANK`` and
    ``MATENSEMBLE_NUM_TASKS``, or one ``mpiexec`` where it asks for MPI. It has ended when all have,
    with the highest exit code, a signal n counting as 128 + n: one bad task fails the chore.
    Whatever processes a task leaves behind are killed.

    A chore with GPUs sees its own in the visible-devices variable of the machine, one without sees
    none. A variable that the chore sets itself is left as it is.

    Parameters
    ----------
    cores
        Cores for chores, at least 1. None takes those that this process may use. With more than
        these, nothing is bound.
    gpus
        GPUs for chores, at least 0. None takes those found (`gpu.find_gpus`).
    set_cpu_affinity
        Whether each task is bound to its own cores (ranks of MPI: to those of the chore, within
        which MPI binds them). Not available on macOS.
    set_gpu_affinity
        Whether each task sees its own GPUs only, else all of the chore. Ranks of MPI see all.
    environ
        Environment under that of the chores; None takes that of this process when opened.
    """

    name = "local"
    look_ahead = 0
    pool_look_ahead = None
    sees_files_late = False

    def __init__(
        self,
        cores: int | None = None,
        gpus: int | None = None,
        *,
        set_cpu_affinity: bool = True,
        set_gpu_affinity: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._cores = cores
        self._wanted_gpus = gpus
        self._set_cpu_affinity = set_cpu_affinity
        self._set_gpu_affinity = set_gpu_affinity
        self._given_environ = environ
        self._launcher: LauncherProcess | None = None
        self._lock = threading.Lock()  # over the free lists and tables: two threads change them
        self._held: dict[str, _Held] = {}
        self._jobs: dict[tuple[str, int], str] = {}
        self._num_jobs = 0

    @classmethod
    def from_options(
        cls, options: RunOptions, environ: Mapping[str, str] | None = None
    ) -> LocalExecutor:
        """Return the executor that the settings of a run ask for.

        Parameters
        ----------
        options
            The settings; where they leave cores or GPUs open, ``MATENSEMBLE_CORES`` and
            ``MATENSEMBLE_GPUS`` count.
        environ
            Where these are looked up; None takes the environment of this process.

        Raises
        ------
        InvalidOptionError
            If a variable holds no such number.
        """
        variables = os.environ if environ is None else environ
        cores, gpus = options.cores, options.gpus
        return cls(
            _number(variables, environment.CORES, 1) if cores is None else cores,
            _number(variables, environment.GPUS, 0) if gpus is None else gpus,
            set_cpu_affinity=options.set_cpu_affinity,
            set_gpu_affinity=options.set_gpu_affinity,
            environ=environ,
        )

    def check(self) -> None:
        """Check that the GPUs that are wanted are there.

        Raises
        ------
        InvalidOptionError
            If more are wanted than the environment allows.
        """
        if self._wanted_gpus:
            find_gpus(self._inherited(), self._wanted_gpus)

    def _inherited(self) -> dict[str, str]:
        given = os.environ if self._given_environ is None else self._given_environ
        return environment.inheritable(given)

    def open(self, post: Post, orphans: Sequence[Orphan] = ()) -> Allocation:
        """Start the launcher, and return one node: this machine.

        Chores of a driver that died die with it, and those of a frozen one are ended here with
        their launcher: none goes on under another driver, so every orphan is lost.

        Raises
        ------
        ExecutorUnavailableError
            If the launcher does not start, or a process of an earlier driver does not end.
        InvalidOptionError
            If more GPUs are wanted than the environment allows.
        """
        self._post = post
        self._environ = self._inherited()
        usable = usable_cores()
        num_cores = self._cores or len(usable)
        self._binds = (
            self._set_cpu_affinity and hasattr(os, "sched_setaffinity") and num_cores <= len(usable)
        )
        self._free_cores = usable[:num_cores] if self._binds else list(range(num_cores))
        self._gpus = find_gpus(self._environ, self._wanted_gpus)
        self._free_gpus = list(range(len(self._gpus.ids)))
        node = Node(platform.node(), num_cores, len(self._gpus.ids))
        self._allocation = Allocation((node,))
        end_orphans(orphans)
        outer = os.environ.get(environment.JOBID)  # we may be part of a chore ourselves
        self._name = (f"{outer}/" if outer else "") + os.urandom(4).hex()
        self._launcher = LauncherProcess(self._name, self._environ, self._take_report, self._lose)
        for orphan in orphans:
            detail = "its driver is gone, and nothing of it runs on this machine"
            if orphan.host not in ("", node.name):
                detail = f"it ran on {orphan.host}, of which {node.name} knows nothing"
            post(AttemptLost(orphan.chore_id, orphan.attempt, detail))
        return self._allocation

    def submit(self, request: LaunchRequest) -> None:
        """Start an attempt; return without waiting for it.

        Raises
        ------
        RuntimeError
            If the executor is not open.
        """
        launcher = self._launcher
        if launcher is None:
            raise RuntimeError("the local executor is not open")
        self._num_jobs += 1
        job = f"{self._name}.{self._num_jobs}"
        self._post(ChoreSubmitted(request.chore_id, request.attempt, job))
        try:
            argv, tasks = self._plan(request)
            held = self._take(job, request)
        except _Refused as refused:
            self._post(
                JobEnded(request.chore_id, request.attempt, None, refused.reason, refused.detail)
            )
            self._post(ResourcesFreed(request.chore_id, request.attempt))
            return
        launcher.send(
            {
                "op": "start",
                "job": job,
                "mark": f"{environment.JOBID}={job}",
                "argv": argv,
                "cwd": str(request.cwd),
                "stdout": str(request.stdout_path),
                "stderr": str(request.stderr_path),
                "env": self._environment(request, job, held),
                "inherit": request.inherit_env,
                "duration": request.resources.duration,
                "tasks": self._tasks(request, held, tasks),
            }
        )

    def flush(self) -> None:
        """Do nothing: what was submitted is on its way."""

    def cancel(self, chore_id: str, attempt: int) -> None:
        """End an attempt: TERM, then KILL; unknown ones are ignored."""
        self._change(chore_id, attempt, {"op": "cancel"})

    def signal(self, chore_id: str, attempt: int, number: int) -> None:
        """Send a signal to every process of an attempt; unknown ones are ignored.

        Raises
        ------
        ValueError
            If there is no such signal.
        """
        if number not in signal.valid_signals():
            raise ValueError(f"{number} is not the number of a signal")
        self._change(chore_id, attempt, {"op": "signal", "number": int(number)})

    def extend(self, chore_id: str, attempt: int, duration: float) -> None:
        """Let an attempt run for `duration` seconds from its start; unknown ones are ignored.

        One that is being ended already is not saved by it.
        """
        self._change(chore_id, attempt, {"op": "extend", "duration": duration})

    def time_left(self) -> float | None:
        """Return None: this machine knows of no end."""
        return None

    def close(self, *, abandon: bool = False) -> None:
        """End whatever runs and the launcher; may be called twice.

        Parameters
        ----------
        abandon
            Changes nothing: these processes cannot live without the one that drives them.
        """
        launcher, self._launcher = self._launcher, None
        if launcher is not None:
            launcher.close()

    def _change(self, chore_id: str, attempt: int, message: Mapping[str, Any]) -> None:
        with self._lock:
            job = self._jobs.get((chore_id, attempt))
        if job is not None and self._launcher is not None:
            self._launcher.send({**message, "job": job})

    # --- what a chore gets --------------------------------------------------------------------

    def _plan(self, request: LaunchRequest) -> tuple[Sequence[str], int]:
        """Return the command and how many processes of it to start."""
        resources = request.resources
        if not resources.mpi:
            return request.argv, resources.num_tasks
        path = request.env.get("PATH")
        if path is None and request.inherit_env:
            path = self._environ.get("PATH")
        argv = mpi_command(request.argv, resources.num_tasks, path)
        if argv is None:
            detail = MISSING_MPIEXEC.format(python=sys.executable)
            raise _Refused(Reason.EXECUTABLE_NOT_FOUND, detail)
        return argv, 1

    def _take(self, job: str, request: LaunchRequest) -> _Held:
        """Mark cores and GPUs as held by an attempt."""
        resources = request.resources
        (node,) = self._allocation.nodes
        num_cores, num_gpus = resources.num_cores, resources.num_gpus
        too_big = num_cores > node.cores or num_gpus > node.gpus or (resources.num_nodes or 1) > 1
        if too_big:
            detail = f"asks for {resources.describe()}; there is {self._allocation.describe()}"
            raise _Refused(Reason.EXCEEDS_ALLOCATION, detail)
        if resources.exclusive:
            num_cores, num_gpus = node.cores, node.gpus
        with self._lock:
            cores, gpus = self._free_cores[:num_cores], self._free_gpus[:num_gpus]
            if len(cores) < num_cores or len(gpus) < num_gpus:
                detail = (
                    f"asks for {num_cores} cores and {num_gpus} GPUs while {len(self._free_cores)} "
                    f"cores and {len(self._free_gpus)} GPUs are free"
                )
                raise _Refused(Reason.SUBMIT_ERROR, detail)
            del self._free_cores[:num_cores], self._free_gpus[:num_gpus]
            held = self._held[job] = _Held(request.chore_id, request.attempt, cores, gpus)
            self._jobs[request.chore_id, request.attempt] = job
        return held

    def _environment(self, request: LaunchRequest, job: str, held: _Held) -> dict[str, str]:
        """Return the variables that all tasks of a chore share."""
        env: dict[str, str] = {}
        if request.resources.mpi:
            inherited = self._environ if request.inherit_env else {}
            env.update((k, v) for k, v in MPI_DEFAULTS.items() if k not in inherited)
        if self._gpus.ids and not request.inherit_env:
            # The ids of one variable may count within the devices of another.
            env.update(
                (k, v)
                for k in environment.VISIBLE_DEVICES
                if (v := self._environ.get(k)) is not None
            )
        num_gpus = request.resources.num_gpus
        env.update(self._gpus.show([self._gpus.ids[i] for i in held.gpus[:num_gpus]]))
        env.update(request.env)
        env[environment.NUM_TASKS] = str(request.resources.num_tasks)
        env[environment.JOBID] = job
        return env

    def _tasks(self, request: LaunchRequest, held: _Held, count: int) -> list[dict[str, Any]]:
        """Return the cores of each process, and the variables that differ between them."""
        resources = request.resources
        if resources.mpi:  # the ranks get theirs from mpiexec
            return [{"cores": held.cores if self._binds else None, "env": {}}]
        tasks: list[dict[str, Any]] = []
        for rank in range(count):
            env = {environment.TASK_RANK: str(rank)}
            own_gpus = self._set_gpu_affinity and resources.gpus_per_task
            if own_gpus and self._gpus.variable not in request.env:
                ids = _slice(held.gpus, rank, resources.gpus_per_task)
                env.update(self._gpus.show([self._gpus.ids[i] for i in ids]))
            cores = _slice(held.cores, rank, resources.cores_per_task) if self._binds else None
            tasks.append({"cores": cores, "env": env})
        return tasks

    # --- reports, on the thread of the launcher process ---------------------------------------

    def _take_report(self, report: list[Any]) -> None:
        kind, job, *rest = report
        if kind == "started":
            held = self._held[job]
            self._post(ChoreStarted(held.chore_id, held.attempt, self._allocation.nodes[0].name))
            return
        exit_code, reason, detail, elapsed = rest
        with self._lock:
            held = self._held.pop(job)
            del self._jobs[held.chore_id, held.attempt]
            for core in held.cores:
                insort(self._free_cores, core)
            for gpu in held.gpus:
                insort(self._free_gpus, gpu)
        self._post(
            JobEnded(
                held.chore_id,
                held.attempt,
                exit_code,
                None if reason is None else Reason(reason),
                detail,
                elapsed,
            )
        )
        self._post(ResourcesFreed(held.chore_id, held.attempt))

    def _lose(self, problem: str) -> None:
        self._post(ExecutorLost(problem))


def usable_cores() -> list[int]:
    """Return the ids of the cores that this process may use, ascending."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _slice(items: list[int], rank: int, size: int) -> list[int]:
    return items[rank * size : (rank + 1) * size]


def _number(environ: Mapping[str, str], variable: str, minimum: int) -> int | None:
    """Return a number from the environment, None where the variable is unset or empty."""
    value = environ.get(variable, "").strip()
    if not value:
        return None
    if not value.isdecimal() or int(value) < minimum:
        raise InvalidOptionError(variable, value, f"an integer of at least {minimum}")
    return int(value)
