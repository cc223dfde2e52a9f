"""The obligations of every executor, as tests.

`PortContract` needs only the three commands `true`, `sleep` and `sh`; a fake passes it too.
`ExecutorContract` adds what real processes owe. A test module subclasses one of them and provides
the fixture `executor`: an executor that is not open yet. Each test opens it through `Session`,
which collects events; nothing sleeps.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from matensemble import environment
from matensemble.model import Reason, Resources
from matensemble.runtime.executors.base import (
    Executor,
    ExecutorEvent,
    ExecutorLost,
    JobEnded,
    Orphan,
)
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.scheduler.events import (
    AttemptLost,
    ChorePlaced,
    ChoreStarted,
    ChoreSubmitted,
    ResourcesFreed,
)

TIMEOUT = 60.0
"""Seconds until a test gives up; nothing waits for so long where all is well."""

SHOW = r"import json, os, sys; sys.stdout.write(json.dumps({%s}) + '\n')"
"""Body of a Python program that prints facts about itself, in one write."""

SHOW_RANK = """
import json, os, sys
from matensemble.runtime_worker import find_rank
shown = find_rank(os.environ), os.environ.get("MATENSEMBLE_SCRIPT_DIR")
sys.stdout.write(json.dumps(shown) + chr(10))
"""
"""Prints which task the worker takes itself for, and whose modules it would import."""

SIGNALLED = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
who, ready = ("parent", sys.argv[1]) if os.fork() else ("child", sys.argv[2])
with open(ready, "w") as file:
    file.write("ready" + chr(10))
signal.sigwait([signal.SIGUSR1])
os.write(1, (who + chr(10)).encode())
if who == "parent":
    os.wait()
"""
"""Two processes that each end when they are sent SIGUSR1, and say so."""


class Session:
    """An open executor, what it posted, and requests for it."""

    def __init__(self, executor: Executor, directory: Path, orphans: Sequence[Orphan] = ()) -> None:
        self.executor = executor
        self.directory = directory
        self.events: list[ExecutorEvent] = []
        self._changed = threading.Condition()
        self.allocation = executor.open(self._post, orphans)

    def _post(self, event: ExecutorEvent) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait_for(self, *kinds: type, chore_id: str | None = "a", attempt: int = 1) -> Any:
        """Return the first event of one of these kinds about an attempt (None: about any)."""

        def find() -> ExecutorEvent | None:
            for event in self.events:
                if isinstance(event, kinds) and (
                    chore_id is None or (event.chore_id == chore_id and event.attempt == attempt)  # type: ignore[union-attr]
                ):
                    return event
            return None

        with self._changed:
            found = self._changed.wait_for(find, TIMEOUT)
            assert found, f"no {[k.__name__ for k in kinds]} of {chore_id}: {self.events}"
            return found

    def submit(self, *argv: str, chore_id: str = "a", attempt: int = 1, **fields: Any) -> Path:
        """Submit a request; return the directory it runs in."""
        cwd = fields.pop("cwd", None) or self.directory / chore_id
        outputs = self.directory / chore_id
        outputs.mkdir(exist_ok=True)
        env, inherit_env = fields.pop("env", {}), fields.pop("inherit_env", True)
        resources = {k: fields.pop(k) for k in [*fields] if k in Resources.__dataclass_fields__}
        self.executor.submit(
            LaunchRequest(
                chore_id=chore_id,
                attempt=attempt,
                name="work",
                argv=argv,
                cwd=cwd,
                stdout_path=fields.pop("stdout_path", outputs / "stdout"),
                stderr_path=fields.pop("stderr_path", outputs / "stderr"),
                resources=Resources(**resources),
                env=env,
                inherit_env=inherit_env,
                **fields,
            )
        )
        self.executor.flush()
        return outputs

    def run(self, *argv: str, chore_id: str = "a", **fields: Any) -> JobEnded:
        """Submit a request, wait until its resources are free, return how it ended."""
        self.submit(*argv, chore_id=chore_id, **fields)
        attempt = fields.get("attempt", 1)
        self.wait_for(ResourcesFreed, chore_id=chore_id, attempt=attempt)
        ended: JobEnded = self.wait_for(JobEnded, chore_id=chore_id, attempt=attempt)
        return ended

    def start(self, *argv: str, chore_id: str = "a", **fields: Any) -> Path:
        """Submit a request, and wait until it runs."""
        outputs = self.submit(*argv, chore_id=chore_id, **fields)
        self.wait_for(ChoreStarted, chore_id=chore_id)
        return outputs

    def text(self, chore_id: str = "a") -> str:
        """Return the standard output of a chore."""
        return (self.directory / chore_id / "stdout").read_text()

    def shown(self, facts: str, **fields: Any) -> Any:
        """Run a Python program that prints facts about itself; return them."""
        ended = self.run(sys.executable, "-c", SHOW % facts, **fields)
        assert ended.exit_code == 0, (self.directory / "a" / "stderr").read_text()
        return json.loads(self.text())

    def kinds(self, chore_id: str = "a") -> list[str]:
        """Return the kinds of the events about a chore, in order."""
        return [type(e).__name__ for e in self.events if getattr(e, "chore_id", "") == chore_id]


def orphan_of(
    run_dir: Path,
    chore_id: str = "a",
    attempt: int = 1,
    jobid: str | None = None,
    host: str = "",
) -> Orphan:
    """Return an attempt that an earlier driver may have started."""
    return Orphan(chore_id, attempt, jobid, host, Resources(), run_dir)


def read_line(fifo: Path) -> str:
    """Return the line that a process writes into a named pipe; waits for it."""
    pipe = os.open(fifo, os.O_RDWR)  # for reading alone, this would wait without a limit
    line = b""
    try:
        while not line.endswith(b"\n"):
            assert select.select([pipe], [], [], TIMEOUT)[0], f"nobody writes to {fifo}"
            line += os.read(pipe, 1)
    finally:
        os.close(pipe)
    return line.decode().strip()


def make_fifo(directory: Path, name: str = "ready") -> Path:
    """Return a new named pipe: how a test waits for a process without polling."""
    path = directory / name
    os.mkfifo(path)
    return path


def wait_gone(pid: int) -> None:
    """Wait until a process has ended; a zombie that waits for its parent has."""
    if hasattr(os, "pidfd_open"):
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            assert select.select([descriptor], [], [], TIMEOUT)[0], f"process {pid} is alive"
        finally:
            os.close(descriptor)
        return
    give_up_at = time.monotonic() + TIMEOUT
    while time.monotonic() < give_up_at:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"process {pid} is alive")


def untimed(ended: JobEnded) -> JobEnded:
    """Return an end without where and how long the attempt ran."""
    return ended._replace(elapsed=None, host="")


class PortContract:
    """What every executor owes, a fake included."""

    @pytest.fixture
    def session(self, executor: Executor, tmp_path: Path) -> Iterator[Session]:
        session = Session(executor, tmp_path)
        yield session
        executor.close()

    def test_offers_at_least_one_core(self, session: Session) -> None:
        assert session.allocation.num_cores >= 1
        assert all(node.name for node in session.allocation.nodes)
        assert session.executor.name
        assert session.executor.look_ahead >= 0

    def test_success(self, session: Session) -> None:
        assert untimed(session.run("true")) == JobEnded("a", 1, 0)

    def test_nonzero_exit(self, session: Session) -> None:
        ended = session.run("sh", "-c", "exit 3")
        assert (ended.exit_code, ended.reason) == (3, None)

    def test_signal_is_negative(self, session: Session) -> None:
        ended = session.run("sh", "-c", "kill -9 $$")
        assert (ended.exit_code, ended.reason) == (-9, None)

    def test_missing_program(self, session: Session) -> None:
        ended = session.run("no-such-program")
        assert ended.reason is Reason.EXECUTABLE_NOT_FOUND
        assert "no-such-program" in ended.detail
        assert session.run("true", chore_id="b").exit_code == 0, "it goes on"

    def test_order_of_events(self, session: Session) -> None:
        session.run("true")
        session.run("no-such-program", chore_id="b")
        for chore_id in ("a", "b"):
            kinds = session.kinds(chore_id)
            assert kinds[0] == ChoreSubmitted.__name__
            assert kinds[-2:] == [JobEnded.__name__, ResourcesFreed.__name__]
            order = [ChorePlaced.__name__, ChoreStarted.__name__]
            assert kinds[1:-2] == [kind for kind in order if kind in kinds]

    def test_job_ids_differ(self, session: Session) -> None:
        session.run("true")
        session.run("true", chore_id="b")
        jobids = {session.wait_for(ChoreSubmitted, chore_id=c).jobid for c in ("a", "b")}
        assert len(jobids) == 2

    def test_another_attempt(self, session: Session) -> None:
        session.run("sh", "-c", "exit 3")
        ended = session.run("true", attempt=2)
        assert (ended.attempt, ended.exit_code) == (2, 0)

    def test_cancel(self, session: Session) -> None:
        session.start("sleep", "600")
        session.executor.cancel("a", 1)
        session.wait_for(ResourcesFreed)
        ended = session.wait_for(JobEnded)
        assert ended.reason is Reason.CANCELLED
        assert ended.exit_code in (-signal.SIGTERM, 128 + signal.SIGTERM, None)

    def test_cancel_twice_and_right_after_submitting(self, session: Session) -> None:
        session.submit("sleep", "600")
        session.executor.cancel("a", 1)
        session.executor.cancel("a", 1)
        session.wait_for(ResourcesFreed)
        session.run("true", chore_id="b")
        assert session.kinds().count(JobEnded.__name__) == 1
        assert session.wait_for(JobEnded).reason is Reason.CANCELLED

    def test_cancel_of_what_does_not_run(self, session: Session) -> None:
        session.executor.cancel("never-submitted", 1)
        session.run("true")
        session.executor.cancel("a", 1)
        session.start("sleep", "600", chore_id="b")
        session.executor.cancel("b", 2)
        session.run("true", chore_id="c")
        assert session.kinds("never-submitted") == []
        assert session.kinds("a").count(JobEnded.__name__) == 1
        assert JobEnded.__name__ not in session.kinds("b")

    def test_signal_and_extend_of_what_does_not_run(self, session: Session) -> None:
        session.executor.signal("never-submitted", 1, signal.SIGTERM)
        session.executor.extend("never-submitted", 1, 0.01)
        session.run("true")
        session.executor.signal("a", 1, signal.SIGTERM)
        session.executor.extend("a", 1, 0.01)
        session.start("sleep", "600", chore_id="b")
        session.executor.signal("b", 2, signal.SIGTERM)
        session.executor.extend("b", 2, 0.01)
        session.run("true", chore_id="c")
        assert session.kinds("never-submitted") == []
        assert session.kinds("a")[-1] == ResourcesFreed.__name__
        assert JobEnded.__name__ not in session.kinds("b")

    def test_time_left(self, session: Session) -> None:
        left = session.executor.time_left()
        assert left is None or left > 0

    def test_orphans_that_nobody_knows(self, executor: Executor, tmp_path: Path) -> None:
        """Also one with a job id of another executor, and one of another host."""
        session = Session(
            executor,
            tmp_path,
            [orphan_of(tmp_path), orphan_of(tmp_path, "b", 2, "nobody.1", "elsewhere")],
        )
        try:
            lost = [session.wait_for(AttemptLost, chore_id="a")]
            lost.append(session.wait_for(AttemptLost, chore_id="b", attempt=2))
            assert all(event.detail for event in lost)
            assert session.run("true", attempt=2).exit_code == 0
            kinds = [type(e).__name__ for e in session.events if getattr(e, "attempt", 0) == 1]
            assert kinds == [AttemptLost.__name__]
            assert session.kinds("b") == [AttemptLost.__name__]
        finally:
            executor.close()

    def test_close_twice(self, session: Session) -> None:
        session.run("true")
        session.executor.close()
        posted = [*session.events]
        session.executor.close()
        session.executor.close(abandon=True)
        assert session.events == posted
        assert session.kinds()[-1] == ResourcesFreed.__name__

    def test_nothing_is_posted_after_close(self, session: Session) -> None:
        session.start("sleep", "600")
        session.executor.close()
        posted = [*session.events]
        session.executor.cancel("a", 1)
        assert session.events == posted
        assert not any(isinstance(event, ExecutorLost) for event in posted)


class ExecutorContract(PortContract):
    """What an executor with real processes owes."""

    abandons = False
    """Whether what runs outlives `close(abandon=True)`."""

    def test_inherits_the_environment(
        self, executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BELOW", "driver")
        monkeypatch.setenv("KEPT", "driver")
        session = Session(executor, tmp_path)
        try:
            facts = "k: os.environ.get(k) for k in ('BELOW', 'KEPT', 'ADDED')"
            shown = session.shown(facts, env={"BELOW": "chore", "ADDED": "é=\n"})
            assert shown == {"BELOW": "chore", "KEPT": "driver", "ADDED": "é=\n"}
        finally:
            executor.close()

    def test_can_leave_the_environment_behind(
        self, executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BELOW", "driver")
        session = Session(executor, tmp_path)
        try:
            env = {"ONLY": "this", "PATH": os.environ["PATH"]}
            shown = session.shown("**os.environ", env=env, inherit_env=False)
            assert "BELOW" not in shown
            assert "HOME" not in shown
            assert shown["ONLY"] == "this"
        finally:
            executor.close()

    def test_runs_in_its_directory(self, session: Session) -> None:
        elsewhere = session.directory / "else where"
        elsewhere.mkdir()
        session.run("sh", "-c", "pwd -P", cwd=elsewhere)
        assert session.text() == f"{elsewhere.resolve()}\n"

    def test_standard_streams(self, session: Session) -> None:
        script = "echo out; echo err >&2; if read line; then echo has stdin; fi"
        outputs = session.submit("sh", "-c", script)
        session.wait_for(ResourcesFreed)
        assert (outputs / "stdout").read_text() == "out\n"
        assert (outputs / "stderr").read_text() == "err\n"
        for name in ("stdout", "stderr"):
            assert (outputs / name).stat().st_mode & 0o777 == 0o600

    def test_standard_streams_are_truncated(self, session: Session) -> None:
        session.run("sh", "-c", "echo a long first line; exit 1")
        session.run("echo", "short", attempt=2)
        assert session.text() == "short\n"

    @pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no way to list open files")
    def test_no_other_files_are_open(self, session: Session) -> None:
        session.run("sh", "-c", "exec ls /dev/fd")
        assert set(session.text().split()) <= {"0", "1", "2", "3"}, "3 is the directory itself"

    def test_arguments_arrive_as_they_are(self, session: Session) -> None:
        odd = ["", "a b", "$HOME", "*", "'\"", "é\n", "--"]
        ended = session.run(
            sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))", *odd
        )
        assert ended.exit_code == 0
        assert json.loads(session.text()) == odd

    def test_signals_are_at_their_defaults(self, session: Session) -> None:
        facts = (
            "'ignored': [int(s) for s in signal.valid_signals()"
            " if signal.getsignal(s) == signal.SIG_IGN and int(s) not in (13, 25)],"
            "'blocked': [int(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, ())]"
        )  # Python itself ignores 13 and 25 at its start
        session.run(sys.executable, "-c", "import signal\n" + SHOW % facts)
        assert json.loads(session.text()) == {"ignored": [], "blocked": []}
        session.run("sh", "-c", "yes | head -n 1", chore_id="b")  # ends by SIGPIPE
        assert session.text("b") == "y\n"

    def test_not_executable(self, session: Session) -> None:
        program = session.directory / "program"
        program.write_text("#!/bin/sh\n")
        ended = session.run(str(program))
        assert ended.reason is Reason.EXECUTABLE_NOT_FOUND
        assert str(program) in ended.detail
        assert session.run("true", chore_id="b").exit_code == 0

    def test_tasks_know_their_rank(self, session: Session) -> None:
        tasks = min(2, session.allocation.nodes[0].cores)
        script = (
            "echo ${MATENSEMBLE_TASK_RANK-$FLUX_TASK_RANK}"
            " of ${MATENSEMBLE_NUM_TASKS-$FLUX_JOB_SIZE}"
        )
        session.run("sh", "-c", script, num_tasks=tasks)
        expected = [f"{rank} of {tasks}" for rank in range(tasks)]
        assert sorted(session.text().splitlines()) == expected

    def test_no_task_takes_the_rank_of_the_driver(
        self, executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The driver may be a task itself: under `flux run`, `srun`, `mpiexec`, or a chore."""
        for name in environment.NOT_INHERITED - {"PMI_FD"}:  # the Flux bindings would use that
            monkeypatch.setenv(name, "0")
        session = Session(executor, tmp_path)
        try:
            if session.allocation.nodes[0].cores < 2:
                pytest.skip("needs two cores")
            session.run(sys.executable, "-c", SHOW_RANK, num_tasks=2)
            shown = sorted(json.loads(line) for line in session.text().splitlines())
            assert shown == [[0, None], [1, None]]
        finally:
            executor.close()

    def test_highest_exit_code_of_the_tasks(self, session: Session) -> None:
        if session.allocation.nodes[0].cores < 2:
            pytest.skip("needs two cores")
        script = "exit $((7 * ${MATENSEMBLE_TASK_RANK-$FLUX_TASK_RANK}))"
        assert session.run("sh", "-c", script, num_tasks=2).exit_code == 7

    def test_a_failed_task_does_not_end_the_others(self, session: Session) -> None:
        if session.allocation.nodes[0].cores < 2:
            pytest.skip("needs two cores")
        failing, go = make_fifo(session.directory), make_fifo(session.directory, "go")
        script = (
            'if [ "${MATENSEMBLE_TASK_RANK-$FLUX_TASK_RANK}" = 0 ]; then '
            f"echo $$ > '{failing}'; exit 5; fi; read line < '{go}'; echo $line"
        )
        session.submit("sh", "-c", script, num_tasks=2)
        wait_gone(int(read_line(failing)))
        go.write_text("went on\n")
        session.wait_for(ResourcesFreed)
        assert session.text() == "went on\n"
        assert session.wait_for(JobEnded).exit_code == 5

    @pytest.mark.slow
    def test_duration(self, session: Session) -> None:
        started_at = time.monotonic()
        ended = session.run("sleep", "600", duration=0.3)
        assert ended.reason is Reason.DURATION_EXCEEDED
        assert time.monotonic() - started_at >= 0.3

    @pytest.mark.slow
    def test_duration_of_one_that_ignores_term(self, session: Session) -> None:
        fifo = make_fifo(session.directory)
        script = f"trap '' TERM; echo $$ > '{fifo}'; while :; do sleep 600; done"
        session.submit(
            "sh", "-c", script, duration=1.5
        )  # a busy machine has to start it in that time
        pid = int(read_line(fifo))
        session.wait_for(ResourcesFreed)
        assert session.wait_for(JobEnded).reason is Reason.DURATION_EXCEEDED
        wait_gone(pid)

    def test_cancel_ends_grandchildren(self, session: Session) -> None:
        fifo = make_fifo(session.directory)
        session.submit("sh", "-c", f"sleep 600 & echo $! > '{fifo}'; wait")
        grandchild = int(read_line(fifo))
        session.executor.cancel("a", 1)
        session.wait_for(ResourcesFreed)
        wait_gone(grandchild)

    def test_signal_reaches_every_process(self, session: Session) -> None:
        fifos = [make_fifo(session.directory, name) for name in ("parent", "child")]
        session.submit(sys.executable, "-c", SIGNALLED, *map(str, fifos))
        session.wait_for(ChoreStarted)
        for fifo in fifos:
            assert read_line(fifo) == "ready"
        session.executor.signal("a", 1, signal.SIGUSR1)
        session.wait_for(ResourcesFreed)
        assert sorted(session.text().splitlines()) == ["child", "parent"]
        assert untimed(session.wait_for(JobEnded)) == JobEnded("a", 1, 0), "it was not ended"

    @pytest.mark.slow
    def test_extend(self, session: Session) -> None:
        """The one that was given more time outlives one that started later and was not."""
        if sum(node.cores for node in session.allocation.nodes) < 2:
            pytest.skip("needs two cores")
        go = make_fifo(session.directory, "go")
        session.start("sh", "-c", f"read line < '{go}'; echo $line", duration=1.0)
        session.executor.extend("a", 1, 600.0)
        assert session.run("sleep", "600", chore_id="b", duration=1.0).reason is (
            Reason.DURATION_EXCEEDED
        )
        go.write_text("went on\n")
        session.wait_for(ResourcesFreed)
        assert untimed(session.wait_for(JobEnded)) == JobEnded("a", 1, 0)
        assert session.text() == "went on\n"

    def test_abandon(self, session: Session) -> None:
        ready, go, told = (make_fifo(session.directory, name) for name in ("ready", "go", "told"))
        script = f"echo $$ > '{ready}'; read line < '{go}'; echo $line > '{told}'"
        session.submit("sh", "-c", script)
        pid = int(read_line(ready))
        session.wait_for(ChoreStarted)
        session.executor.close(abandon=True)
        posted = [*session.events]
        if self.abandons:
            go.write_text("went on\n")
            assert read_line(told) == "went on"
        wait_gone(pid)
        session.executor.close()
        assert session.events == posted
        assert JobEnded.__name__ not in session.kinds()

    @pytest.mark.slow
    def test_close_ends_what_runs(self, session: Session) -> None:
        fifos = [make_fifo(session.directory, name) for name in ("meek", "stubborn")]
        nodes = session.allocation.nodes
        if sum(node.cores for node in nodes) < 2:
            pytest.skip("needs two cores")
        session.submit("sh", "-c", f"echo $$ > '{fifos[0]}'; exec sleep 600")
        script = f"trap '' TERM; echo $$ > '{fifos[1]}'; while :; do sleep 600; done"
        session.submit("sh", "-c", script, chore_id="b")
        pids = [int(read_line(fifo)) for fifo in fifos]
        session.executor.close()
        for pid in pids:
            wait_gone(pid)
