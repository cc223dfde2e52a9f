"""What an earlier driver of a run left running on this machine, and its end.

Owns the search for the processes of orphans and their launchers, and ending them; the local
executor calls it before it starts anything. A driver that died takes its chores along (`launcher`);
one that was frozen, or is still dying, has not.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from matensemble import environment
from matensemble.errors import ExecutorUnavailableError
from matensemble.process_keeper import (
    ORPHAN_GRACE_SECONDS,
    SWEEP_INTERVAL_SECONDS,
    SWEEP_LIMIT_SECONDS,
)
from matensemble.runtime.executors import processes
from matensemble.runtime.executors.base import Orphan
from matensemble.runtime.executors.processes import Process, Start


def end_orphans(orphans: Sequence[Orphan]) -> None:
    """End every process of some attempts, and of the launchers that had started them.

    TERM, then KILL after `ORPHAN_GRACE_SECONDS`; returns when none is alive, within some 6 s. The
    launchers end too, with whatever else they started: nobody would end that later.

    Raises
    ------
    ExecutorUnavailableError
        If a process does not end, or if this process is one of them.
    """
    if not orphans:
        return
    search = _Search(orphans)
    kill_at: float | None = None
    quiet_looks = 0
    while quiet_looks < 2:  # what forks and ends during a look hides its child from that look
        chores, launchers = search.find()
        if not chores and not launchers:
            quiet_looks += 1
            continue
        quiet_looks = 0
        if os.getpid() in chores:
            raise ExecutorUnavailableError(
                "local",
                "this process belongs to a chore of the run that it is to drive",
                "Resume the run from outside of it",
            )
        now = time.monotonic()
        if kill_at is None:
            kill_at = now + ORPHAN_GRACE_SECONDS
            processes.send(chores, signal.SIGTERM)
        elif now >= kill_at + SWEEP_LIMIT_SECONDS:
            raise ExecutorUnavailableError(
                "local",
                f"processes {sorted(chores | launchers)} of an earlier driver do not end",
                "They may wait for a file system; resume the run when they are gone",
            )
        elif now >= kill_at:
            processes.send(chores, signal.SIGKILL)
        if not chores:  # what a launcher had below it is found as long as it lives
            processes.send(launchers, signal.SIGKILL)
        time.sleep(SWEEP_INTERVAL_SECONDS)  # nobody tells of the end of others' children


class _Search:
    """Finds processes of attempts: by their job, or by chore, attempt and run.

    Of attempts that warm workers served, it finds these workers, by their run.
    """

    def __init__(self, orphans: Sequence[Orphan]) -> None:
        self._run_dirs = {
            (orphan.chore_id, str(orphan.attempt)): orphan.run_dir.resolve() for orphan in orphans
        }
        self._pool_dirs = {orphan.run_dir.resolve() for orphan in orphans if orphan.is_pooled}
        # Of launchers: what their job ids begin with. Unique, other than a process id.
        names = {orphan.jobid.rpartition(".")[0] for orphan in orphans if orphan.jobid}
        self._names = names - {""}

    def find(self) -> tuple[set[int], set[int]]:
        """Return the live processes of chores, and the live launchers above them.

        What loses its parent becomes a child of its launcher as long as that lives (Linux), and so
        is found whatever became of its environment and session.
        """
        live = processes.list_processes()
        chores, launchers = set(), set()
        for process, start in processes.read_starts(live):
            if self._is_launcher(start):
                launchers.add(process.pid)
            elif self._is_chore(start):
                chores.add(process.pid)
        chores.update(p.pid for p in live if _is_below(p, launchers))
        return chores, launchers

    def _is_launcher(self, start: Start) -> bool:
        """Whether it is a launcher with one of our names, also one of another installation."""
        _, is_launcher, arguments = start.argv.partition(b"/launcher.py\0")
        return bool(is_launcher) and any(
            b"\0" + name.encode() + b"\0" in arguments for name in self._names
        )

    def _is_chore(self, start: Start) -> bool:
        jobid = start.variable(environment.JOBID) or ""
        if any(jobid.startswith(f"{name}.") for name in self._names):
            return True
        chore_id, attempt = map(start.variable, (environment.CHORE_ID, environment.ATTEMPT))
        run_dir = self._run_dirs.get((chore_id or "", attempt or ""))
        is_worker = self._pool_dirs and start.variable(environment.WARM_WORKER) is not None
        if run_dir is None and not is_worker:
            return False
        own_dir = Path(start.variable(environment.RUN_DIR) or "/").resolve()
        if own_dir != run_dir and not (is_worker and own_dir in self._pool_dirs):
            return False
        if name := jobid.rpartition(".")[0]:
            self._names.add(name)
        return True


def _is_below(process: Process, launchers: set[int]) -> bool:
    return process.pid not in launchers and (
        process.parent in launchers or process.session in launchers
    )
