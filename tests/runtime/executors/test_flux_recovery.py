"""The Flux executor when drivers, connections and nodes go: on real brokers, nothing is mocked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from contract import TIMEOUT, Session, make_fifo, orphan_of, read_line, untimed
from flux_proxy import Proxy

from matensemble.model import Reason
from matensemble.runtime.executors import flux_driver
from matensemble.runtime.executors.base import ExecutorLost, JobEnded, Orphan
from matensemble.runtime.executors.flux_executor import FluxExecutor
from matensemble.runtime.scheduler.events import (
    AttemptLost,
    ChorePlaced,
    ChoreStarted,
    ChoreSubmitted,
    NodesChanged,
    ResourcesFreed,
)

pytestmark = [pytest.mark.flux, pytest.mark.slow]

StartFlux = Callable[..., str]
FOUR = ("--test-size=4",)
DOOMED = ("--test-size=4", "-Slog-stderr-level=0")
"""An instance of which a test kills a broker."""
LIMITED = ("flux", "run", "--time-limit=3000s", "flux", "start")
"""An instance within another, with a limited time."""

WHOLE = [kind.__name__ for kind in (ChoreSubmitted, ChorePlaced, ChoreStarted, JobEnded)]
WHOLE.append(ResourcesFreed.__name__)


class Drivers:
    """Drivers of one run, one after the other, on one instance."""

    def __init__(self, stack: ExitStack, uri: str, directory: Path) -> None:
        self._stack = stack
        self.leave = stack.close
        """Close what still drives."""
        self.uri = uri
        self.directory = directory
        self.epoch = 0

    def begin(self, *orphans: Orphan, uri: str = "", epoch: int | None = None) -> Session:
        """Open an executor as the next driver of the run."""
        self.epoch = self.epoch + 1 if epoch is None else epoch
        executor = FluxExecutor(str(self.directory), uri=uri or self.uri, epoch=self.epoch)
        self._stack.callback(executor.close)
        return Session(executor, self.directory, orphans)

    def flux(self, *command: str) -> str:
        """Run a command of Flux on the instance; return what it prints."""
        env = {**os.environ, "FLUX_URI": self.uri}
        return subprocess.run(
            ["flux", *command], env=env, stdout=subprocess.PIPE, text=True, check=True
        ).stdout

    def wait_over(self, jobid: str) -> None:
        """Wait until Flux is done with a job."""
        self.flux("job", "wait-event", f"--timeout={TIMEOUT:g}", jobid, "clean")


@pytest.fixture
def drivers(start_flux: StartFlux, tmp_path: Path) -> Iterator[Drivers]:
    with ExitStack() as stack:
        yield Drivers(stack, start_flux(*FOUR), tmp_path)


@pytest.fixture
def proxy(drivers: Drivers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    proxy = Proxy(drivers.uri, tmp_path_factory.mktemp("p") / "s")
    yield proxy
    drivers.leave()
    proxy.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for a lost instance at once, and not for long."""
    monkeypatch.setattr(flux_driver, "FIRST_DELAY_SECONDS", 0.1)
    monkeypatch.setattr(flux_driver, "LONGEST_DELAY_SECONDS", 0.1)


# --- drivers that go ---------------------------------------------------------------------------


def test_a_driver_goes_on_with_the_jobs_of_another(drivers: Drivers) -> None:
    first = drivers.begin()
    go = make_fifo(first.directory, "go")
    first.start("sh", "-c", f"read line < '{go}'; exit 3")
    jobid = first.wait_for(ChoreSubmitted).jobid
    first.executor.close(abandon=True)
    assert first.kinds() == WHOLE[:3]

    second = drivers.begin(orphan_of(drivers.directory, jobid=jobid))
    assert second.kinds() == WHOLE[:3], "what happened already comes before it is open"
    go.write_text("go\n")
    second.wait_for(ResourcesFreed)
    assert second.kinds() == WHOLE
    assert second.wait_for(ChoreSubmitted).jobid == jobid
    assert second.wait_for(JobEnded).exit_code == 3
    assert second.wait_for(ChorePlaced) == first.wait_for(ChorePlaced)


@pytest.mark.parametrize("is_id_known", [True, False])
@pytest.mark.parametrize(("script", "code"), [("exit 5", 5), ("kill -9 $$", -9)])
def test_what_ended_while_no_driver_lived(
    drivers: Drivers, script: str, code: int, is_id_known: bool
) -> None:
    first = drivers.begin()
    go = make_fifo(first.directory, "go")
    first.start("sh", "-c", f"read line < '{go}'; {script}")
    jobid = first.wait_for(ChoreSubmitted).jobid
    first.executor.close(abandon=True)
    go.write_text("go\n")
    drivers.wait_over(jobid)
    second = drivers.begin(
        orphan_of(drivers.directory, jobid=jobid if is_id_known else None),
        orphan_of(drivers.directory, attempt=2, jobid=jobid),
    )
    second.wait_for(ResourcesFreed)
    assert untimed(second.wait_for(JobEnded)) == JobEnded("a", 1, code)
    assert second.wait_for(AttemptLost, attempt=2).detail
    assert second.kinds() == [*WHOLE[:3], *second.kinds()[3:]]


def test_what_the_earlier_driver_ended_itself_is_made_again(drivers: Drivers) -> None:
    first = drivers.begin()
    first.start("sleep", "600")
    jobid = first.wait_for(ChoreSubmitted).jobid
    first.executor.close()
    second = drivers.begin(orphan_of(drivers.directory, jobid=jobid))
    second.wait_for(AttemptLost)
    assert second.kinds() == [AttemptLost.__name__]
    assert second.run("true", attempt=2).exit_code == 0


def test_the_run_beside_is_left_alone(drivers: Drivers, tmp_path: Path) -> None:
    other = Drivers(ExitStack(), drivers.uri, tmp_path / "other")
    other.directory.mkdir()
    theirs = other.begin()
    theirs.start("sleep", "600")
    ours = drivers.begin(orphan_of(drivers.directory), epoch=9)
    ours.wait_for(AttemptLost)
    assert ours.run("true", attempt=2).exit_code == 0
    theirs.executor.close(abandon=True)
    again = other.begin(orphan_of(other.directory))
    again.wait_for(ChoreStarted)
    again.executor.close()
    assert JobEnded.__name__ not in theirs.kinds()


def test_a_driver_that_was_replaced_starts_nothing_and_ends_nothing(drivers: Drivers) -> None:
    stale = drivers.begin()
    current = drivers.begin()
    go = make_fifo(current.directory, "go")
    current.start("sh", "-c", f"read line < '{go}'")
    stale.submit("sleep", "600", chore_id="b")
    lost = stale.wait_for(AttemptLost, chore_id="b")
    assert "another driver" in lost.detail
    assert current.kinds("b") == []
    go.write_text("go\n")
    current.wait_for(ResourcesFreed)
    assert untimed(current.wait_for(JobEnded)) == JobEnded("a", 1, 0)
    stale.executor.close(abandon=True)


def test_the_window_between_intent_and_job_id(drivers: Drivers) -> None:
    first = drivers.begin()
    first.start("sleep", "600")
    first.executor.close(abandon=True)
    second = drivers.begin(
        orphan_of(drivers.directory),
        orphan_of(drivers.directory, "b"),
        orphan_of(drivers.directory, attempt=2),
    )
    assert second.wait_for(ChoreStarted)
    assert second.wait_for(AttemptLost, chore_id="b").detail
    assert second.wait_for(AttemptLost, attempt=2)
    second.executor.cancel("a", 1)
    second.wait_for(ResourcesFreed)
    assert second.wait_for(JobEnded).reason is Reason.CANCELLED


KILLED = """
import os, signal, sys
from pathlib import Path
from contract import Session
from matensemble.runtime.executors.flux_executor import FluxExecutor
from matensemble.runtime.scheduler.events import ChoreSubmitted

uri, directory, script, count, known = sys.argv[1:]
session = Session(FluxExecutor(directory, uri=uri), Path(directory))
for number in range(int(count)):
    session.submit("sh", "-c", script.replace("ID", f"c{number}"), chore_id=f"c{number}")
if int(known):
    session.wait_for(ChoreSubmitted, chore_id=f"c{int(known) - 1}")
os.kill(os.getpid(), signal.SIGKILL)
"""
"""A driver that dies once Flux has shown it some of its jobs."""


@pytest.mark.parametrize("known", [0, 1, 20])
def test_a_driver_that_is_killed_under_a_wave(drivers: Drivers, known: int) -> None:
    ran = drivers.directory / "ran"
    ids = [f"c{number}" for number in range(20)]
    args = [drivers.uri, str(drivers.directory), f"echo ID >> '{ran}'", str(len(ids)), str(known)]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *args],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    session = drivers.begin(*(orphan_of(drivers.directory, one) for one in ids), epoch=2)
    lost = []
    for chore_id in ids:
        last = session.wait_for(ResourcesFreed, AttemptLost, chore_id=chore_id)
        if isinstance(last, AttemptLost):
            lost.append(chore_id)
            assert session.kinds(chore_id) == [AttemptLost.__name__]
        else:
            assert session.kinds(chore_id) == WHOLE
    if known:
        assert ids[known - 1] not in lost
    times = Counter(ran.read_text().split() if ran.exists() else [])
    assert [times[one] for one in ids if one not in lost] == [1] * (len(ids) - len(lost))
    assert all(times[one] <= 1 for one in lost), "it may have been on its way"


# --- connections that break --------------------------------------------------------------------


def test_a_broken_connection_is_no_failed_chore(
    drivers: Drivers, proxy: Proxy, quick: None
) -> None:
    session = drivers.begin(uri=proxy.uri)
    names = ("before", "during", "after")
    fifos = {name: make_fifo(session.directory, f"{name}.go") for name in names}
    for name, fifo in fifos.items():
        session.start("sh", "-c", f"read line < '{fifo}'; exit 3", chore_id=name)
    fifos["before"].write_text("go\n")
    session.wait_for(ResourcesFreed, chore_id="before")

    proxy.refuses.set()
    proxy.cut()
    fifos["during"].write_text("go\n")
    drivers.wait_over(session.wait_for(ChoreSubmitted, chore_id="during").jobid)
    assert JobEnded.__name__ not in session.kinds("during")
    proxy.refuses.clear()
    session.wait_for(ResourcesFreed, chore_id="during")

    proxy.cut()
    fifos["after"].write_text("go\n")
    session.wait_for(ResourcesFreed, chore_id="after")
    assert session.run("true", chore_id="b").exit_code == 0
    for name in fifos:
        assert session.kinds(name) == WHOLE
        assert session.wait_for(JobEnded, chore_id=name).exit_code == 3
    assert not any(isinstance(event, ExecutorLost) for event in session.events)


def test_nothing_runs_twice_when_the_connection_breaks_under_a_wave(
    drivers: Drivers, proxy: Proxy
) -> None:
    session = drivers.begin(uri=proxy.uri)
    ran = session.directory / "ran"
    ids = [f"c{number}" for number in range(40)]
    for number, chore_id in enumerate(ids):
        session.submit("sh", "-c", f"echo {chore_id} >> '{ran}'", chore_id=chore_id)
        if number in (7, 19, 31):  # some are known to Flux by then, others on their way
            session.wait_for(ChoreSubmitted, chore_id=ids[number - 5])
            proxy.cut()
    for chore_id in ids:
        session.wait_for(ResourcesFreed, chore_id=chore_id)
        assert session.kinds(chore_id) == WHOLE
        assert session.wait_for(JobEnded, chore_id=chore_id).exit_code == 0
    assert sorted(ran.read_text().split()) == sorted(ids)


def test_orders_that_are_given_while_nobody_listens(
    drivers: Drivers, proxy: Proxy, quick: None
) -> None:
    session = drivers.begin(uri=proxy.uri)
    session.start("sleep", "600")
    session.start("sleep", "600", chore_id="b", duration=600)
    proxy.refuses.set()
    proxy.cut()
    session.executor.cancel("a", 1)
    session.executor.extend("b", 1, 1.0)
    session.submit("true", chore_id="c")
    session.submit("true", chore_id="d")
    session.executor.cancel("d", 1)
    proxy.refuses.clear()
    for chore_id in "abcd":
        session.wait_for(ResourcesFreed, chore_id=chore_id)
    ended = {chore_id: session.wait_for(JobEnded, chore_id=chore_id) for chore_id in "abcd"}
    assert ended["a"].reason is Reason.CANCELLED
    assert ended["b"].reason is Reason.DURATION_EXCEEDED
    assert "duration of 1 s" in ended["b"].detail
    assert ended["c"].exit_code == 0
    assert ended["d"].reason is Reason.CANCELLED


def test_an_instance_that_does_not_come_back(
    drivers: Drivers, proxy: Proxy, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flux_driver, "RECONNECT_SECONDS", 0.3)
    session = drivers.begin(uri=proxy.uri)
    session.start("true")
    proxy.refuses.set()
    proxy.cut()
    lost = session.wait_for(ExecutorLost, chore_id=None)
    assert "no Flux broker answers" in lost.problem
    session.executor.close()
    assert sum(isinstance(event, ExecutorLost) for event in session.events) == 1


def test_closing_while_the_instance_is_away(drivers: Drivers, proxy: Proxy) -> None:
    session = drivers.begin(uri=proxy.uri)
    session.start("sleep", "600")
    jobid = session.wait_for(ChoreSubmitted).jobid
    proxy.cut()  # it answers again, though not before the driver has noticed
    session.executor.close()
    drivers.wait_over(jobid)
    assert not any(isinstance(event, ExecutorLost) for event in session.events)


def test_another_instance_at_the_same_address(
    drivers: Drivers, proxy: Proxy, quick: None, start_flux: StartFlux
) -> None:
    session = drivers.begin(uri=proxy.uri)
    session.start("sleep", "600")
    proxy.broker = start_flux("--test-size=1").removeprefix("local://")
    proxy.cut()
    lost = session.wait_for(ExecutorLost, chore_id=None)
    assert "another instance" in lost.problem
    jobid = session.wait_for(ChoreSubmitted).jobid  # that job is nobody's now
    drivers.flux("cancel", jobid)
    drivers.wait_over(jobid)


# --- nodes that go -----------------------------------------------------------------------------


def test_a_node_that_dies(start_flux: StartFlux, tmp_path: Path) -> None:
    with ExitStack() as stack:
        drivers = Drivers(stack, start_flux(*DOOMED), tmp_path)
        session = drivers.begin()
        assert len(session.allocation.nodes) == 3
        doomed, go = make_fifo(tmp_path, "doomed"), make_fifo(tmp_path, "go")
        script = f"flux getattr broker.pid > '{doomed}'; exec sleep 600"
        session.submit("sh", "-c", script, avoid=frozenset({0, 2}))
        session.start("sh", "-c", f"read line < '{go}'", chore_id="b", avoid=frozenset({1, 2}))
        os.kill(int(read_line(doomed)), signal.SIGKILL)
        changed = session.wait_for(NodesChanged, chore_id=None)
        assert changed == NodesChanged(lost=frozenset({1}))
        session.wait_for(ResourcesFreed)
        ended = session.wait_for(JobEnded)
        assert ended.reason is Reason.NODE_FAILURE
        assert "node failure" in ended.detail

        for number in range(4):  # elsewhere it goes on, and there nothing starts
            assert session.run("true", chore_id=str(number)).exit_code == 0
            (share,) = session.wait_for(ChorePlaced, chore_id=str(number)).placement
            assert share.node != 1
        go.write_text("go\n")
        session.wait_for(ResourcesFreed, chore_id="b")
        assert untimed(session.wait_for(JobEnded, chore_id="b")) == JobEnded("b", 1, 0)
        session.executor.close()
        assert len(drivers.begin().allocation.nodes) == 2, "the next driver does without it"


def test_nodes_that_are_drained_and_come_back(drivers: Drivers, proxy: Proxy, quick: None) -> None:
    session = drivers.begin(uri=proxy.uri)
    try:
        drivers.flux("resource", "drain", "2", "memory errors")
        session.wait_for(NodesChanged, chore_id=None)
        proxy.cut()  # what was told is not told again
        assert session.run("true").exit_code == 0
        assert nodes_changed(session) == [NodesChanged(lost=frozenset({1}))]
    finally:
        drivers.flux("resource", "undrain", "2")
    session.submit("true", chore_id="b", avoid=frozenset({0, 2}))
    session.wait_for(ResourcesFreed, chore_id="b")
    assert nodes_changed(session)[1:] == [NodesChanged(back=frozenset({1}))]


def nodes_changed(session: Session) -> list[NodesChanged]:
    """Return what was posted of nodes."""
    return [event for event in session.events if isinstance(event, NodesChanged)]


# --- time that ends ----------------------------------------------------------------------------


def test_time_left(drivers: Drivers, start_flux: StartFlux, tmp_path: Path) -> None:
    without = drivers.begin()
    assert without.executor.time_left() is None
    with ExitStack() as stack:
        limited = Drivers(stack, start_flux(*LIMITED), tmp_path).begin()
        left = limited.executor.time_left()
        assert left is not None
        assert 2000 < left <= 3000


def test_a_limit_that_is_set_before_flux_has_given_an_id(drivers: Drivers) -> None:
    session = drivers.begin()
    session.submit("sleep", "600", duration=600)
    session.executor.extend("a", 1, 1.0)
    session.wait_for(ResourcesFreed)
    ended = session.wait_for(JobEnded)
    assert (ended.reason, ended.detail) == (
        Reason.DURATION_EXCEEDED,
        "longer than its duration of 1 s",
    )
