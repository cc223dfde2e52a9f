"""What slots and programs are started with: their names, their environment, their streams.

Owns the names of a worker's processes and everything that a process receives at its start. Decides
nothing; the processes are the keeper's. Called by `service`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress

from matensemble import disk, environment
from matensemble.gpu import Gpus
from matensemble.pool.crew import Item, SlotHandle
from matensemble.pool.shares import Share
from matensemble.process_keeper import ProcessKeeper, Start, Task
from matensemble.process_start import encode


class Starter:
    """Starts slots and programs.

    Parameters
    ----------
    keeper
        Whose processes they are.
    binds
        Whether processes are bound to their cores.
    gpus
        All GPUs of the worker.
    environ
        What chores inherit.
    recycle_after
        Number of chores after which a slot ends; 0: never.
    """

    def __init__(
        self,
        keeper: ProcessKeeper,
        binds: bool,
        gpus: Gpus,
        environ: Mapping[str, str],
        recycle_after: int,
    ) -> None:
        self._keeper = keeper
        self._binds = binds
        self._gpus = gpus
        self._environ = encode(environ)
        # The ids of one variable may count within the devices of another.
        self._visible = {
            name: value
            for name in environment.VISIBLE_DEVICES
            if (value := environ.get(name)) is not None
        }
        self._recycle_after = recycle_after
        outer = os.environ.get(environment.JOBID)
        self._prefix = (f"{outer}/" if outer else "") + os.urandom(4).hex()
        self._num_jobs = 0

    def name_job(self) -> str:
        """Return a new name for a process; it begins with that of the worker's own job."""
        self._num_jobs += 1
        return f"{self._prefix}.{self._num_jobs}"

    def start_slot(self, slot: SlotHandle) -> None:
        """Start the process of a slot."""
        argv = [
            *(sys.executable, "-P", "-m", "matensemble.pool.slot"),
            *(slot.stdout, slot.stderr, str(self._recycle_after)),
        ]
        self._keeper.start(
            Start(
                *(slot.job, self._mark(slot.job), argv, "/", slot.stdout, slot.stderr),
                self._environ,
                {**self._gpus.show(slot.share.gpus), **self._own(slot.job)},
                tasks=self._tasks(slot.share),
                channel=slot.channel,
            )
        )

    def start_program(self, item: Item, argv: list[str]) -> None:
        """Make the directory of an executable chore and start its program."""
        payload, job, share = item.read_payload(), item.job, item.share
        assert job is not None and share is not None
        with suppress(OSError):  # of an earlier attempt; anything else shows when it is entered
            disk.make_dir(payload.cwd)
        self._keeper.start(
            Start(
                *(job, self._mark(job), argv, payload.cwd, payload.stdout, payload.stderr),
                self._environ if payload.inherit else {},
                {
                    **({} if payload.inherit else self._visible),
                    **self._gpus.show(share.gpus),
                    **payload.env,
                    **self._own(job),
                },
                item.duration,
                self._tasks(share),
            )
        )

    @staticmethod
    def _mark(job: str) -> str:
        return f"{environment.JOBID}={job}"

    @staticmethod
    def _own(job: str) -> dict[str, str]:
        return {
            environment.TASK_RANK: "0",
            environment.NUM_TASKS: "1",
            environment.JOBID: job,
        }

    def _tasks(self, share: Share) -> tuple[Task]:
        return (Task(share.cores if self._binds else None, {}),)
