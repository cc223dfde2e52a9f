"""Whole runs, driven by the command line in processes of their own, and seen from outside.

Owns how a driver is started and stopped, and what a run shows of itself: its records, the log that
its chores write, the processes and the jobs that are left. Used by the tests of this directory that
stop drivers from outside; knows nothing of what their chores do.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from click.testing import CliRunner, Result

from matensemble.cli import main
from matensemble.model import ExecResult
from matensemble.records import JournalRecord, RecordKind, read_records
from matensemble.replay import Replay
from matensemble.results import Results
from matensemble.status import RunStatus, read_status
from matensemble.workdir import RunDir
from matensemble.workflow import Workflow

DEADLINE_SECONDS = 60.0
EXECUTION_LOG = "EXECUTION_LOG"
ACTIVE = ("DEPEND", "PRIORITY", "SCHED", "RUN", "CLEANUP")
"""States of a job that is not over."""
_Answer = TypeVar("_Answer")


def wait_until(
    look: Callable[[], _Answer], what: str = "", seconds: float = DEADLINE_SECONDS
) -> _Answer:
    """Look until something true is seen, and return it: what others do has no event to wait for."""
    deadline = time.monotonic() + seconds
    while not (answer := look()):
        assert time.monotonic() < deadline, f"waited in vain for {what or look}"
        time.sleep(0.01)
    return answer


class Job(NamedTuple):
    """A job of a run, as Flux lists it."""

    jobid: str
    state: str
    """Of Flux: ``SCHED``, ``RUN``, ``INACTIVE`` …"""
    chore_id: str


class Driver:
    """A driver of a run: a process, what it prints, and how it ends."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path) -> None:
        self._process = process
        self._out = out
        self.pid = process.pid

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def said(self) -> str:
        """Return what it printed on stdout and stderr."""
        return self._out.read_text(errors="replace")

    def send(self, number: int) -> None:
        """Send a signal to the driver alone, not to what it started."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self._process.kill()
        self._process.wait(DEADLINE_SECONDS)

    def wait(self, seconds: float = DEADLINE_SECONDS) -> int:
        """Return its exit code."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the driver hangs: {self.said()[-3000:]}") from None

    def stop(self) -> None:
        """End whatever is left of it and of its process group."""
        if not self.is_over:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait(DEADLINE_SECONDS)


class WholeRun:
    """A saved run, its drivers, and what can be seen of it.

    Parameters
    ----------
    run
        The run directory.
    uri
        The Flux instance whose jobs its chores are; empty: they run on this machine.
    environ
        Laid over the environment of the drivers.
    workers
        What runs its chores; jobs where nothing else is said, since what is tested is mostly what
        becomes of these.
    """

    def __init__(
        self,
        run: Path,
        uri: str = "",
        environ: Mapping[str, str] | None = None,
        workers: str = "job",
    ) -> None:
        self._workers = workers
        self.run = RunDir(run)
        self.folder = run.parent
        self.log = self.folder / f"{run.name}.executions"
        self.log.touch()
        self.uri = uri
        self.drivers: list[Driver] = []
        self._environ = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("FLUX_", "PMI", "SLURM_", "PYTHONDONTWRITE"))
        } | {
            EXECUTION_LOG: str(self.log),
            "MATENSEMBLE_CORES": "3",
            "PYTHONPYCACHEPREFIX": str(self.folder / "pycache"),
            "MATENSEMBLE_EXECUTOR": "flux" if uri else "local",
            **({"FLUX_URI": uri} if uri else {}),
            **(environ or {}),
        }

    # --- driving ------------------------------------------------------------------------------

    def start(self, command: str, *options: str) -> Driver:
        """Start ``matensemble run`` or ``resume``."""
        words = ["-m", "matensemble.cli", command, str(self.run.root), "--no-progress"]
        words += ["--workers", self._workers, *options]
        return self.launch(sys.executable, *words)

    def launch(self, *command: str) -> Driver:
        """Start a command that drives the run, in a session of its own."""
        out = self.folder / f"{self.run.root.name}.driver-{len(self.drivers)}"
        with out.open("wb") as stream:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=self._environ,
                start_new_session=True,
            )
        self.drivers.append(Driver(process, out))
        return self.drivers[-1]

    def drive(self, command: str, *options: str, seconds: float = DEADLINE_SECONDS) -> int:
        """Run or resume to the end; return the exit code."""
        return self.start(command, *options).wait(seconds)

    def stop(self) -> None:
        """End all drivers, and the jobs that they left."""
        for driver in self.drivers:
            driver.stop()
        for job in self.jobs(*ACTIVE) if self.uri else ():
            subprocess.run(["flux", "cancel", job.jobid], env=self._environ, check=False)

    def call(self, command: str, *arguments: object) -> Result:
        """Call a subcommand that looks at the run or controls it, in this process."""
        return CliRunner().invoke(main, [command, str(self.run.root), *map(str, arguments)])

    def flux(self, *command: str) -> str:
        """Run a command of Flux on the instance; return what it prints."""
        return subprocess.run(
            ["flux", *command], env=self._environ, stdout=subprocess.PIPE, text=True, check=True
        ).stdout

    # --- looking ------------------------------------------------------------------------------

    def executions(self) -> Counter[tuple[str, int]]:
        """Return how often each attempt of each chore has started, as the chores tell."""
        lines = (line.split() for line in self.log.read_text().splitlines())
        return Counter((id_, int(attempt)) for what, id_, attempt, _ in lines if what == "start")

    def pid_of(self, chore_id: str, attempt: int = 1) -> int:
        """Return the process of an attempt, as it told itself; waits for it."""

        def look() -> int:
            for line in self.log.read_text().splitlines():
                if line.split()[:3] == ["start", chore_id, str(attempt)]:
                    return int(line.split()[3])
            return 0

        return wait_until(look, f"attempt {attempt} of {chore_id}")

    def records(self, *kinds: RecordKind, chore_id: str | None = None) -> list[JournalRecord]:
        """Return what the journals tell: all, or of some kinds, or of one chore."""
        try:
            return [
                record
                for record in read_records(self.run)
                if (not kinds or record.kind in kinds)
                and (chore_id is None or record.chore_id == chore_id)
            ]
        except FileNotFoundError:
            return []

    def wait_for(
        self, kind: RecordKind, chore_id: str | None = None, count: int = 1
    ) -> list[JournalRecord]:
        """Wait until the journals tell something, so many times."""

        def look() -> list[JournalRecord]:
            found = self.records(kind, chore_id=chore_id)
            return found if len(found) >= count else []

        return wait_until(look, f"{count} {kind} of {chore_id}")

    def replay(self) -> Replay:
        """Return where each chore stands by the journals."""
        return Replay.of(self.records())

    def names(self) -> dict[str, str]:
        """Return chore id → name of the group, of all chores known so far."""
        added = (one.chore for one in self.replay().added)
        return {one.id: one.name for one in (*Workflow.read(self.run).chores(), *added)}

    def status(self) -> RunStatus:
        """Return the published status."""
        return read_status(self.run.status_path)

    def results(self) -> dict[str, Any]:
        """Return all results, without what differs between two runs of one pipeline."""
        return {key: _plain(value) for key, value in Results.read(self.run).items()}

    def processes(self) -> list[str]:
        """Return the processes that are chores of this run."""
        mark = f"MATENSEMBLE_RUN_DIR={self.run.root}\0".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (path / "environ").read_bytes():
                    found.append(f"{path.name} {(path / 'cmdline').read_bytes()!r}")
            except OSError:  # gone, or not ours
                continue
        return found

    def jobs(self, *states: str) -> list[Job]:
        """Return the jobs that Flux ever had of this run, or those in some states."""
        lines = self.flux("jobs", "-a", "-n", "-c0", "-o", "{id} {state} {cwd}").splitlines()
        out = f"{self.run.root.resolve()}/out/"
        jobs = (Job(jobid, state, cwd) for jobid, state, cwd in map(str.split, lines))
        return [
            job._replace(chore_id=job.chore_id.removeprefix(out))
            for job in jobs
            if job.chore_id.startswith(out) and (not states or job.state in states)
        ]

    def assert_nothing_is_left(self) -> None:
        """Check that no process and no job of the run is left."""
        wait_until(lambda: not self.processes(), "the end of all chores")
        if self.uri:
            assert self.jobs(*ACTIVE) == []


def _plain(value: Any) -> Any:
    if isinstance(value, ExecResult):
        return value.exit_code, {name: path.read_text() for name, path in value.outputs.items()}
    return value


@contextmanager
def whole_run(
    run: Path, uri: str = "", environ: Mapping[str, str] | None = None, workers: str = "job"
) -> Iterator[WholeRun]:
    """Yield a run; whatever still drives it at the end is ended."""
    whole = WholeRun(run, uri, environ, workers)
    try:
        yield whole
    finally:
        whole.stop()
