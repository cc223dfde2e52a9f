"""What a driver that died or froze left running is gone before its attempts are called lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from contract import TIMEOUT, Session, make_fifo, orphan_of, read_line

from matensemble import environment
from matensemble.errors import ExecutorUnavailableError
from matensemble.runtime.executors import orphans as orphans_module, processes
from matensemble.runtime.executors.base import ExecutorLost, Orphan
from matensemble.runtime.executors.local import LocalExecutor
from matensemble.runtime.executors.orphans import end_orphans
from matensemble.runtime.scheduler.events import AttemptLost, ChoreSubmitted

MEEK = "echo $$ $PPID > '{fifo}'; exec sleep 600"
STUBBORN = "trap '' TERM; echo $$ $PPID > '{fifo}'; while :; do sleep 600; done"
UNTRACEABLE = """
import os, signal
os.environ.clear()
if not os.fork():
    os.setsid()
    if not os.fork():
        code = "import os, signal; open({fifo!r}, 'w').write(str(os.getpid()) + chr(10)); "
        os.execve({python!r}, ["python", "-c", code + "signal.pause()"], {{}})
    os._exit(0)
signal.pause()
"""
"""Leaves a process behind that has left its session and forgotten its environment."""

DRIVER = """
import signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from contract import Session
from matensemble.runtime.executors.base import ExecutorLost
from matensemble.runtime.executors.local import LocalExecutor

session = Session(LocalExecutor(cores=8), Path({directory!r}))
for chore_id, argv in {chores!r}.items():
    env = {{
        "MATENSEMBLE_CHORE_ID": chore_id,
        "MATENSEMBLE_ATTEMPT": "1",
        "MATENSEMBLE_RUN_DIR": {directory!r},
    }}
    session.submit(*argv, chore_id=chore_id, env=env)
    print(session.events[-1].jobid if hasattr(session.events[-1], "jobid") else "", flush=True)
print(session.wait_for(ExecutorLost, chore_id=None).problem, flush=True)
"""

RESUME_WITHIN = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from contract import orphan_of
from matensemble.runtime.executors.orphans import end_orphans
end_orphans([orphan_of(Path("/run"), jobid="cafe.1")])
"""


class Frozen:
    """A driver of a run with chores, as a process that tests stop and kill."""

    def __init__(self, run_dir: Path, scripts: dict[str, str]) -> None:
        self.run_dir = run_dir
        run_dir.mkdir()
        fifos = {chore_id: make_fifo(run_dir, f"{chore_id}.ready") for chore_id in scripts}
        chores = {
            chore_id: ["sh", "-c", script.format(fifo=fifos[chore_id])]
            for chore_id, script in scripts.items()
        }
        body = DRIVER.format(
            tests=str(Path(__file__).parent), directory=str(run_dir), chores=chores
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", body],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        told = {
            chore_id: [int(word) for word in read_line(fifo).split()]
            for chore_id, fifo in fifos.items()
        }
        self.launcher = next(iter(told.values()))[1]
        self.chores = [pids[0] for pids in told.values()]
        self.jobids = {chore_id: self._readline() for chore_id in scripts}

    def _readline(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)

    def thaw(self) -> str:
        """Let it go on; return what it says of its executor."""
        self.process.send_signal(signal.SIGCONT)
        said = self._readline()
        assert self.process.wait(TIMEOUT) == 0
        return said

    def end(self) -> None:
        """End it with all that is left of it, also where a test has failed."""
        self.process.kill()
        self.process.wait()
        processes.send(self.alive(), signal.SIGKILL)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def orphans(self, *, with_jobids: bool) -> list[Orphan]:
        return [
            orphan_of(self.run_dir, chore_id, jobid=jobid if with_jobids else None)
            for chore_id, jobid in self.jobids.items()
        ]

    def alive(self) -> set[int]:
        """Return which of the launcher and the chores are alive at this moment."""
        return alive({self.launcher, *self.chores})


StartDriver = Callable[..., Frozen]


@pytest.fixture
def start_driver(tmp_path: Path) -> Iterator[StartDriver]:
    """Start drivers in processes of their own; they are killed at the end of the test."""
    drivers: list[Frozen] = []

    def start(run_dir: str = "run", **scripts: str) -> Frozen:
        drivers.append(Frozen(tmp_path / run_dir, scripts))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.end()


@pytest.fixture
def take_over(tmp_path: Path) -> Iterator[Callable[[list[Orphan]], Session]]:
    """Open another executor, with orphans."""
    executors: list[LocalExecutor] = []

    def open_(orphans: list[Orphan]) -> Session:
        executors.append(LocalExecutor(cores=2))
        return Session(executors[-1], tmp_path, orphans)

    yield open_
    for executor in executors:
        executor.close()


def alive(pids: set[int]) -> set[int]:
    return pids & {process.pid for process in processes.list_processes()}


def kill(pid: int) -> None:
    """Kill a process that is no child of this one, and return when it is gone."""
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + TIMEOUT
    while alive({pid}):
        assert time.monotonic() < deadline, f"process {pid} outlived SIGKILL"
        time.sleep(0.01)


def lost(session: Session) -> list[str]:
    return [event.chore_id for event in session.events if isinstance(event, AttemptLost)]


@pytest.mark.slow
def test_a_killed_driver(
    start_driver: StartDriver, take_over: Callable[[list[Orphan]], Session]
) -> None:
    driver = start_driver(a=MEEK, b=STUBBORN)
    driver.process.kill()
    session = take_over(driver.orphans(with_jobids=True))
    assert driver.alive() == set()
    assert lost(session) == ["a", "b"]
    assert session.run("true", attempt=2).exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("with_jobids", [True, False])
def test_a_frozen_driver(
    start_driver: StartDriver,
    take_over: Callable[[list[Orphan]], Session],
    with_jobids: bool,
) -> None:
    """Without job ids: it was stopped before it was told them."""
    driver = start_driver(a=MEEK, b=STUBBORN)
    driver.freeze()
    assert driver.alive() == {driver.launcher, *driver.chores}
    session = take_over(driver.orphans(with_jobids=with_jobids))
    assert driver.alive() == set()
    assert lost(session) == ["a", "b"]
    assert session.kinds("a") == session.kinds("b") == [AttemptLost.__name__]
    assert driver.thaw() == "the launcher of the local executor ended: killed by signal 9"
    assert session.run("true", attempt=2).exit_code == 0, "it has an executor of its own"


@pytest.mark.slow
def test_a_driver_that_died_with_its_launcher(
    start_driver: StartDriver, take_over: Callable[[list[Orphan]], Session]
) -> None:
    """Nobody is left who would end the chores."""
    driver = start_driver(a=MEEK, b=STUBBORN)
    driver.freeze()  # it would clean up behind its launcher
    kill(driver.launcher)
    driver.process.kill()
    driver.process.wait()
    assert driver.alive() == set(driver.chores)
    take_over(driver.orphans(with_jobids=True))
    assert driver.alive() == set()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
def test_what_left_its_session_and_environment(
    start_driver: StartDriver,
    take_over: Callable[[list[Orphan]], Session],
    tmp_path: Path,
) -> None:
    fifo = make_fifo(tmp_path)
    program = tmp_path / "program.py"
    program.write_text(UNTRACEABLE.format(fifo=str(fifo), python=sys.executable))
    driver = start_driver(a=f"{sys.executable} {program} & " + MEEK)
    daemon = int(read_line(fifo))
    driver.freeze()
    take_over(driver.orphans(with_jobids=True))
    assert alive({daemon}) == set()


@pytest.mark.slow
def test_chores_of_other_runs_live_on(
    start_driver: StartDriver, take_over: Callable[[list[Orphan]], Session]
) -> None:
    """Also with the same chore id and attempt, under a launcher of the same program."""
    other = start_driver("other", a=MEEK)
    driver = start_driver("run", a=MEEK)
    driver.freeze()
    for with_jobids in (True, False):
        take_over(driver.orphans(with_jobids=with_jobids))
    assert driver.alive() == set()
    assert other.alive() == {other.launcher, *other.chores}


@pytest.mark.slow
def test_attempts_of_another_host_and_of_another_executor(
    start_driver: StartDriver, take_over: Callable[[list[Orphan]], Session]
) -> None:
    """What a host is called may change; what runs here is found all the same."""
    driver = start_driver(a=MEEK)
    driver.freeze()
    (orphan,) = driver.orphans(with_jobids=False)
    elsewhere = orphan._replace(host="old-name", jobid="f2xJ5")
    session = take_over([elsewhere])
    assert driver.alive() == set()
    assert "old-name" in session.wait_for(AttemptLost).detail


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="ps is what is used here")
def test_a_system_without_proc(
    start_driver: StartDriver,
    take_over: Callable[[list[Orphan]], Session],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through a `ps` that understands the options of macOS."""
    ps = tmp_path / "bin" / "ps"
    ps.parent.mkdir()
    ps.write_text('#!/bin/sh\n[ "$2" = -E ] && shift 2 && set -- axe "$@"\nexec /usr/bin/ps "$@"\n')
    ps.chmod(0o755)
    if not Path("/usr/bin/ps").exists():
        pytest.skip("no ps here")
    monkeypatch.setenv("PATH", str(ps.parent), prepend=os.pathsep)
    monkeypatch.setattr(processes, "_HAS_PROC", False)
    driver = start_driver(a=MEEK, b=STUBBORN)
    driver.freeze()
    assert driver.alive() == {driver.launcher, *driver.chores}
    take_over(driver.orphans(with_jobids=True))
    assert driver.alive() == set()


def test_a_process_that_does_not_end(
    take_over: Callable[[list[Orphan]], Session],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An attempt that may still run is not started again."""
    monkeypatch.setattr(orphans_module, "ORPHAN_GRACE_SECONDS", 0.0)
    monkeypatch.setattr(orphans_module, "SWEEP_LIMIT_SECONDS", 0.0)
    monkeypatch.setattr(processes, "send", lambda pids, number: None)
    fifo = make_fifo(tmp_path)
    session = take_over([])
    session.submit("sh", "-c", MEEK.format(fifo=fifo))
    pid, launcher = read_line(fifo).split()
    jobid = session.wait_for(ChoreSubmitted).jobid
    with pytest.raises(ExecutorUnavailableError, match=rf"\b{pid}\b.* do not end"):
        end_orphans([orphan_of(tmp_path, jobid=jobid)])
    assert alive({int(pid), int(launcher)}) == {int(pid), int(launcher)}
    assert not any(isinstance(event, ExecutorLost) for event in session.events)


@pytest.mark.slow
def test_a_run_is_not_resumed_by_a_chore_of_its_own() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", RESUME_WITHIN.format(tests=str(Path(__file__).parent))],
        env={**os.environ, environment.JOBID: "cafe.1/beef.2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "belongs to a chore of the run" in ended.stderr
