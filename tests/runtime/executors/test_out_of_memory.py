"""A chore that the kernel killed for want of memory says so, where the kernel counts."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract import Session, make_fifo, read_line, untimed

from matensemble.model import Reason
from matensemble.oom_counter import find_oom_counter
from matensemble.runtime.executors import launcher_process
from matensemble.runtime.executors.base import JobEnded
from matensemble.runtime.executors.local import LocalExecutor
from matensemble.runtime.scheduler.events import ResourcesFreed

SELF_KILLED = "kill -9 $$"


class Kernel:
    """A counter that counts what a test says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count(3)

    def count(self, kills: int) -> None:
        self.path.write_text(f"low 0\nhigh 0\nmax 9\noom {kills}\noom_kill {kills}\n")


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel(tmp_path / "memory.events")
    monkeypatch.setattr(launcher_process, "find_oom_counter", lambda: kernel.path)
    return kernel


@pytest.fixture
def session(kernel: Kernel, tmp_path: Path) -> Iterator[Session]:
    executor = LocalExecutor(cores=2)
    yield Session(executor, tmp_path)
    executor.close()


def start(session: Session, script: str, chore_id: str = "a") -> Path:
    """Start a chore that goes on with its script when its pipe is written to; return the pipe."""
    ready = make_fifo(session.directory, f"{chore_id}.ready")
    go = make_fifo(session.directory, f"{chore_id}.go")
    session.submit(
        "sh", "-c", f"echo ready > '{ready}'; read line < '{go}'; {script}", chore_id=chore_id
    )
    read_line(ready)
    return go


def end(session: Session, go: Path, chore_id: str = "a") -> JobEnded:
    go.write_text("go\n")
    session.wait_for(ResourcesFreed, chore_id=chore_id)
    ended: JobEnded = session.wait_for(JobEnded, chore_id=chore_id)
    return ended


@pytest.mark.parametrize(
    ("script", "exit_code"), [(SELF_KILLED, -9), (f"sh -c '{SELF_KILLED}'; exit $?", 137)]
)
def test_killed_while_the_counter_grew(
    session: Session, kernel: Kernel, script: str, exit_code: int
) -> None:
    go = start(session, script)
    kernel.count(4)
    ended = end(session, go)
    assert (ended.exit_code, ended.reason) == (exit_code, Reason.OUT_OF_MEMORY)
    assert ended.detail == (
        "killed by signal 9 while the kernel ended 1 process for want of memory"
    )


def test_both_of_two_that_were_killed_at_once(session: Session, kernel: Kernel) -> None:
    pipes = {chore_id: start(session, SELF_KILLED, chore_id) for chore_id in "ab"}
    kernel.count(5)
    for chore_id, go in pipes.items():
        ended = end(session, go, chore_id)
        assert ended.reason is Reason.OUT_OF_MEMORY
        assert "2 processes" in ended.detail


def test_an_earlier_kill_is_not_held_against_a_later_chore(
    session: Session, kernel: Kernel
) -> None:
    kernel.count(4)
    assert untimed(session.run("sh", "-c", SELF_KILLED)) == JobEnded("a", 1, -9)


@pytest.mark.parametrize(("script", "exit_code"), [("exit 3", 3), ("kill -11 $$", -11)])
def test_another_end_speaks_for_itself(
    session: Session, kernel: Kernel, script: str, exit_code: int
) -> None:
    go = start(session, script)
    kernel.count(4)
    assert untimed(end(session, go)) == JobEnded("a", 1, exit_code)


@pytest.mark.slow
def test_a_kill_of_ours_is_ours(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher_process, "TERM_GRACE_SECONDS", 0.1)
    executor = LocalExecutor(cores=1)
    session = Session(executor, tmp_path)
    ready = make_fifo(tmp_path)
    session.submit("sh", "-c", f"trap '' TERM; echo ready > '{ready}'; while :; do sleep 600; done")
    read_line(ready)
    kernel.count(4)
    executor.cancel("a", 1)
    session.wait_for(ResourcesFreed)
    executor.close()
    assert untimed(session.wait_for(JobEnded)) == JobEnded(
        "a", 1, -signal.SIGKILL, Reason.CANCELLED
    )


@pytest.mark.parametrize("content", [None, "low 0\n"])
def test_a_kernel_that_does_not_count(
    session: Session, kernel: Kernel, content: str | None
) -> None:
    if content is None:
        kernel.path.unlink()
    else:
        kernel.path.write_text(content)
    assert untimed(session.run("sh", "-c", SELF_KILLED)) == JobEnded("a", 1, -9)


# --- where the counter is -------------------------------------------------------------------------


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("oom_kill 0\n")
    return path


def find(tmp_path: Path, cgroups: str) -> Path | None:
    (tmp_path / "cgroup").write_text(cgroups)
    return find_oom_counter(tmp_path / "cgroup", tmp_path / "fs")


def test_version_2(tmp_path: Path) -> None:
    put(tmp_path / "fs/job/memory.events")
    own = put(tmp_path / "fs/job/step/memory.events")
    assert find(tmp_path, "0::/job/step\n") == own


def test_a_group_without_the_memory_controller(tmp_path: Path) -> None:
    above = put(tmp_path / "fs/job/memory.events")
    assert find(tmp_path, "0::/job/step/task_0\n") == above


def test_version_1(tmp_path: Path) -> None:
    own = put(tmp_path / "fs/memory/job: 1/memory.oom_control")
    assert find(tmp_path, "9:name=systemd:/\n4:cpu,memory:/job: 1\n0::/\n") == own


def test_a_container_that_does_not_know_its_path_outside(tmp_path: Path) -> None:
    own = put(tmp_path / "fs/memory/memory.oom_control")
    assert find(tmp_path, "4:memory:/docker/0a1b\n0::/system.slice\n") == own


def test_nothing_counts(tmp_path: Path) -> None:
    put(tmp_path / "memory.events")  # not a cgroup: above where they are mounted
    assert find(tmp_path, "4:cpuset:/job\n0::/job\n") is None
    assert find_oom_counter(tmp_path / "missing", tmp_path / "fs") is None
