"""Whoever dies, and however, the local executor leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract import TIMEOUT, Session, make_fifo, read_line, untimed, wait_gone

from matensemble.model import Reason
from matensemble.runtime.executors import launcher_process
from matensemble.runtime.executors.base import ExecutorLost, JobEnded
from matensemble.runtime.executors.local import LocalExecutor
from matensemble.runtime.scheduler.events import ResourcesFreed

STUBBORN = "trap '' TERM HUP INT; echo $$ $PPID > '{fifo}'; while :; do sleep 600; done"
MEEK = "echo $$ $PPID > '{fifo}'; exec sleep 600"

DRIVER = """
import os, signal, sys, threading
from pathlib import Path
sys.path.insert(0, {tests!r})
from contract import Session
from matensemble.runtime.executors.base import JobEnded
from matensemble.runtime.executors.local import LocalExecutor

session = Session(LocalExecutor(cores=8), Path({directory!r}))
"""


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    executor = LocalExecutor(cores=4)
    yield Session(executor, tmp_path)
    executor.close()


def start_driver(directory: Path, body: str) -> subprocess.Popen[str]:
    header = DRIVER.format(tests=str(Path(__file__).parent), directory=str(directory))
    return subprocess.Popen(
        [sys.executable, "-c", header + body],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def submit_line(chore_id: str, script: str) -> str:
    return f"session.submit('sh', '-c', {script!r}, chore_id={chore_id!r})\n"


def pids_of(fifo: Path) -> list[int]:
    """Return what a script wrote: the ids of itself and of its parent, or of others."""
    return [int(word) for word in read_line(fifo).split()]


@pytest.mark.slow
@pytest.mark.parametrize("fork_lives_on", [False, True])
def test_the_driver_is_killed(tmp_path: Path, fork_lives_on: bool) -> None:
    fifos = [make_fifo(tmp_path, name) for name in ("meek", "stubborn", "parent", "fork")]
    body = submit_line("a", MEEK.format(fifo=fifos[0]))
    body += submit_line("b", STUBBORN.format(fifo=fifos[1]))
    body += submit_line("c", f"sleep 600 & echo $$ $! > '{fifos[2]}'; wait")
    if fork_lives_on:  # it holds the driver's end of the launcher's socket
        body += f"if not os.fork(): open({str(fifos[3])!r}, 'w').write(f'{{os.getpid()}}\\n'); "
        body += "signal.pause()\n"
    body += "signal.pause()\n"
    with start_driver(tmp_path, body) as driver:
        pids = [pid for fifo in fifos[:3] for pid in pids_of(fifo)]
        forked = pids_of(fifos[3]) if fork_lives_on else []
        driver.kill()
        for pid in pids:
            wait_gone(pid)
        for pid in forked:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_driver_that_ends_without_closing(tmp_path: Path) -> None:
    fifo = make_fifo(tmp_path)
    body = submit_line("a", MEEK.format(fifo=fifo)) + "sys.stdin.read()\n"
    with start_driver(tmp_path, body.replace("sys.stdin.read()", "signal.pause()")) as driver:
        pids = pids_of(fifo)
        driver.terminate()
        assert driver.wait() == -signal.SIGTERM
        for pid in pids:
            wait_gone(pid)


@pytest.mark.slow
def test_ctrl_c_does_not_reach_chores(tmp_path: Path) -> None:
    ready, go = make_fifo(tmp_path), make_fifo(tmp_path, "go")
    body = "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    body += submit_line("a", f"echo $$ $PPID > '{ready}'; read line < '{go}'; echo $line")
    body += "print(session.wait_for(JobEnded).exit_code)\nsession.executor.close()\n"
    with start_driver(tmp_path, body) as driver:
        pids = pids_of(ready)
        os.killpg(driver.pid, signal.SIGINT)
        go.write_text("went on\n")
        assert driver.communicate()[0] == "0\n"
    assert (tmp_path / "a" / "stdout").read_text() == "went on\n"
    for pid in pids:
        wait_gone(pid)


@pytest.mark.slow
def test_the_launcher_is_killed(session: Session) -> None:
    fifos = [make_fifo(session.directory, name) for name in ("meek", "stubborn", "parent")]
    session.submit("sh", "-c", MEEK.format(fifo=fifos[0]))
    session.submit("sh", "-c", STUBBORN.format(fifo=fifos[1]), chore_id="b")
    session.submit("sh", "-c", f"sleep 600 & echo $$ $! > '{fifos[2]}'; wait", chore_id="c")
    (meek, launcher), *others = [pids_of(fifo) for fifo in fifos]
    os.kill(launcher, signal.SIGKILL)
    lost = session.wait_for(ExecutorLost, chore_id=None)
    assert lost.problem == "the launcher of the local executor ended: killed by signal 9"
    for pid in (meek, *(pid for pids in others for pid in pids)):
        wait_gone(pid)
    posted = len(session.events)
    session.submit("true", chore_id="d")
    session.executor.cancel("a", 1)
    session.executor.close()
    assert [type(event).__name__ for event in session.events[posted:]] == ["ChoreSubmitted"]


def test_the_launcher_ignores_requests_to_end(session: Session) -> None:
    """A batch system may send TERM to every process of a step; the driver answers, not it."""
    fifo = make_fifo(session.directory)
    session.submit("sh", "-c", MEEK.format(fifo=fifo))
    _, launcher = pids_of(fifo)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(launcher, number)
    assert session.run("true", chore_id="b").exit_code == 0


def test_what_a_chore_leaves_behind_is_ended(session: Session) -> None:
    fifo = make_fifo(session.directory)
    script = f"sh -c \"trap '' TERM; echo \\$\\$ > '{fifo}'; sleep 600\" & "
    session.submit("sh", "-c", script + f"read line < '{fifo}'; echo $line; exit 3")
    session.wait_for(ResourcesFreed)
    assert untimed(session.wait_for(JobEnded)) == JobEnded("a", 1, 3), "its own exit code counts"
    wait_gone(int(session.text()))


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
def test_daemons_of_a_chore_are_ended(session: Session) -> None:
    """A process that left its group and its session still belongs to the chore."""
    fifo = make_fifo(session.directory)
    daemonize = (
        "import os\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        f"        open({str(fifo)!r}, 'w').write(str(os.getpid()))\n"
        "        import signal; signal.pause()\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        f"print(open({str(fifo)!r}).read())\n"
    )
    assert session.run(sys.executable, "-c", daemonize).exit_code == 0
    wait_gone(int(session.text()))
    assert session.run("true", chore_id="b").exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("end", ["exit", "cancel"])
def test_a_chore_that_drives_chores_of_its_own(session: Session, end: str) -> None:
    fifo, go = make_fifo(session.directory), make_fifo(session.directory, "go")
    inner = session.directory / "inner"
    inner.mkdir()
    body = DRIVER.format(tests=str(Path(__file__).parent), directory=str(inner))
    body += submit_line("a", STUBBORN.format(fifo=fifo))
    body += f"open({str(go)!r}).read(); os._exit(0)\n"
    session.submit(sys.executable, "-c", body)
    pids = pids_of(fifo)
    if end == "exit":
        go.write_text("")
    else:
        session.executor.cancel("a", 1)
    session.wait_for(ResourcesFreed)
    expected = None if end == "exit" else Reason.CANCELLED
    assert session.wait_for(JobEnded).reason is expected
    for pid in pids:
        wait_gone(pid)
    assert session.run("true", chore_id="b").exit_code == 0


@pytest.mark.slow
def test_the_grace_is_for_the_program_not_its_shell(session: Session) -> None:
    """The shell around a program ends at TERM at once; the program may write its checkpoint."""
    fifo, go = make_fifo(session.directory), make_fifo(session.directory, "go")
    child = (
        "import signal, sys\n"
        "def save(*_):\n"
        f"    open({str(go)!r}).read()\n"
        "    sys.exit(print('saved'))\n"
        "signal.signal(signal.SIGTERM, save)\n"
        f"open({str(fifo)!r}, 'w').write('0\\n')\n"
        "signal.pause()\n"
    )
    session.submit("sh", "-c", f'{sys.executable} -c "$CHILD" & wait', env={"CHILD": child})
    pids_of(fifo)
    session.executor.cancel("a", 1)
    go.write_text("")  # returns when the child, in its handler, reads
    session.wait_for(ResourcesFreed)
    assert session.text() == "saved\n"
    assert session.wait_for(JobEnded).exit_code == -signal.SIGTERM


@pytest.mark.slow
def test_a_stopped_driver_does_not_stop_the_enforcement(tmp_path: Path) -> None:
    """Ctrl-Z: what fits into no socket buffer must wait without holding up the launcher."""
    fifo = make_fifo(tmp_path)
    body = f"session.submit('sh', '-c', {MEEK.format(fifo=fifo)!r}, duration=0.5)\n"
    body += "print(session.wait_for(JobEnded).reason)\nsession.executor.close()\n"
    with start_driver(tmp_path, body) as driver:
        pid, _ = pids_of(fifo)
        os.kill(driver.pid, signal.SIGSTOP)
        wait_gone(pid)
        os.kill(driver.pid, signal.SIGCONT)
        assert driver.communicate()[0] == "duration_exceeded\n"


SAVING = """
import os, signal, sys
asked, go, ready = sys.argv[1:]

def save(number, frame):
    with open(asked, "w") as file:
        file.write("asked\\n")
    with open(go) as file:
        print(file.readline(), end="", flush=True)
    os._exit(0)

signal.signal(signal.SIGTERM, save)
with open(ready, "w") as file:
    file.write(f"{os.getpid()}\\n")
while True:
    signal.pause()
"""


def test_close_gives_all_chores_their_grace_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each chore ends only when all have been asked to: one after the other would be too late."""
    monkeypatch.setattr(launcher_process, "TERM_GRACE_SECONDS", TIMEOUT)
    session = Session(LocalExecutor(cores=3), tmp_path)
    ready = [make_fifo(tmp_path, f"ready{number}") for number in range(3)]
    asked = [make_fifo(tmp_path, f"asked{number}") for number in range(3)]
    go = [make_fifo(tmp_path, f"go{number}") for number in range(3)]
    for number in range(3):
        # No shell: what it forks when TERM comes may miss it, and then keeps the whole grace.
        paths = map(str, (asked[number], go[number], ready[number]))
        session.submit(sys.executable, "-c", SAVING, *paths, chore_id=f"c{number}")
    pids = [int(read_line(fifo)) for fifo in ready]
    closing = threading.Thread(target=session.executor.close)
    closing.start()
    for fifo in asked:
        assert read_line(fifo) == "asked"
    for fifo in go:
        fifo.write_text("saved\n")
    closing.join(TIMEOUT)
    assert not closing.is_alive()
    for number, pid in enumerate(pids):
        wait_gone(pid)
        assert session.text(f"c{number}") == "saved\n"


def test_a_socket_to_a_dead_launcher_raises_no_sigpipe(session: Session) -> None:
    """Scripts that are used in pipes set SIGPIPE to its default, which kills."""
    fifo = make_fifo(session.directory)
    session.submit("sh", "-c", MEEK.format(fifo=fifo))
    _, launcher = pids_of(fifo)
    handler = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.kill(launcher, signal.SIGKILL)
        session.wait_for(ExecutorLost, chore_id=None)
        session.submit("true", chore_id="b")
    finally:
        signal.signal(signal.SIGPIPE, handler)
    assert session.kinds("b") == ["ChoreSubmitted"]
