"""However a chore of a warm worker ends, it fails alone, and everybody learns why."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pool_harness import WarmWorker

from matensemble.pool_messages import Cancel, Extend, Run, Signal, Withdraw

pytestmark = pytest.mark.slow


@pytest.fixture
def worker(start_worker: Callable[..., WarmWorker]) -> WarmWorker:
    return start_worker(cores=1)


def wait_for_ever(ready: str) -> None:
    import signal
    from pathlib import Path

    Path(ready).write_text("ready")
    while True:
        signal.pause()


SLEEPER = "import sys; open(sys.argv[1], 'w').close(); import signal; signal.pause()"


def sleeper(worker: WarmWorker, kind: str, **options: Any) -> tuple[Any, Path]:
    """Return the order of a chore that does not end, and the file by which it says it runs."""
    ready = worker.campaign.dir.root / "ready"
    if kind == "call":
        return worker.call(wait_for_ever, str(ready), chore_id="chore-s-0001", **options), ready
    argv = (sys.executable, "-c", SLEEPER, str(ready))
    return worker.order("chore-s-0001", argv=argv, **options), ready


KINDS = pytest.mark.parametrize("kind", ["call", "program"])


@KINDS
def test_its_duration_is_over(worker: WarmWorker, kind: str) -> None:
    order, _ = sleeper(worker, kind, duration=0.3)
    behind = worker.call(lambda: 5, chore_id="chore-b-0001")
    ended, other = worker.run(order, behind)
    assert (ended.exit_code, ended.reason) == (-signal.SIGTERM, "duration_exceeded")
    assert 0.3 <= ended.elapsed < 60.0
    assert other.is_committed
    assert worker.value("chore-b-0001") == 5


@KINDS
def test_a_duration_that_is_extended_at_once(worker: WarmWorker, kind: str) -> None:
    order, ready = sleeper(worker, kind, duration=600.0)
    worker.say(Run((order,)))
    worker.wait_for(ready.exists)
    worker.say(Extend("chore-s-0001", 1, 0.0))
    assert worker.wait_end("chore-s-0001").reason == "duration_exceeded"


@KINDS
def test_it_is_cancelled_while_it_runs(worker: WarmWorker, kind: str) -> None:
    order, ready = sleeper(worker, kind)
    behind = [worker.call(lambda: 5, chore_id=f"chore-b-{i:04}") for i in range(3)]
    worker.say(Run((order, *behind)))
    worker.wait_for(ready.exists)
    worker.say(Cancel("chore-b-0001", 1))
    worker.say(Cancel("chore-s-0001", 1))
    worker.say(Cancel("chore-s-0002", 1))  # nobody knows it
    waiting = worker.wait_end("chore-b-0001")
    assert (waiting.exit_code, waiting.reason, waiting.elapsed) == (None, "cancelled", 0.0)
    ended = worker.wait_end("chore-s-0001")
    assert (ended.exit_code, ended.reason) == (-signal.SIGTERM, "cancelled")
    assert worker.wait_end("chore-b-0000").is_committed
    assert worker.wait_end("chore-b-0002").is_committed


def save_and_leave(ready: str, is_quiet: bool) -> None:
    import os
    import signal
    import sys
    from pathlib import Path

    is_told = []
    signal.signal(signal.SIGTERM, lambda *_: is_told.append(1) if is_quiet else sys.exit(3))
    Path(f"{ready}.new").write_text(f"{os.getpid()}")
    Path(f"{ready}.new").rename(ready)
    while not is_told:
        signal.sigtimedwait([], 0.01)


@pytest.mark.parametrize("is_quiet", [True, False])
@pytest.mark.parametrize("reason", ["cancelled", "duration_exceeded"])
def test_it_handles_the_signal_that_ends_it(
    worker: WarmWorker, reason: str, is_quiet: bool
) -> None:
    ready = worker.campaign.dir.root / "ready"
    order = worker.call(save_and_leave, str(ready), is_quiet, chore_id="chore-s-0001")
    behind = worker.call(os.getpid, chore_id="chore-b-0001")
    worker.say(Run((order, behind)))
    worker.wait_for(ready.exists)
    end = Cancel("chore-s-0001", 1) if reason == "cancelled" else Extend("chore-s-0001", 1, 0.0)
    worker.say(end)
    assert worker.wait_end("chore-s-0001").reason == reason
    assert worker.wait_end("chore-b-0001").is_committed
    # The process in which it ran is killed a while later, with whatever it does by then.
    assert worker.value("chore-b-0001") != int(ready.read_text())


@KINDS
def test_it_receives_a_signal(worker: WarmWorker, kind: str) -> None:
    order, ready = sleeper(worker, kind)
    worker.say(Run((order,)))
    worker.wait_for(ready.exists)
    worker.say(Signal("chore-s-0001", 1, signal.SIGUSR1))
    ended = worker.wait_end("chore-s-0001")
    assert (ended.exit_code, ended.reason) == (-signal.SIGUSR1, None)


def test_an_interrupt_raises_as_it_does_in_a_process_of_its_own(worker: WarmWorker) -> None:
    order, ready = sleeper(worker, "call")
    worker.say(Run((order,)))
    worker.wait_for(ready.exists)
    worker.say(Signal("chore-s-0001", 1, signal.SIGINT))
    ended = worker.wait_end("chore-s-0001")
    assert (ended.exit_code, ended.reason, ended.is_committed) == (1, None, False)
    assert "KeyboardInterrupt" in (worker.text("chore-s-0001", "stderr") or "")
    assert worker.result(lambda: 1) == 1


def test_what_runs_is_told_after_a_while(worker: WarmWorker) -> None:
    order, _ = sleeper(worker, "call")
    worker.say(Run((order, worker.call(lambda: 5, chore_id="chore-b-0001"))))
    worker.wait_for(lambda: worker.started)
    assert worker.started == [("chore-s-0001", 1)]
    worker.say(Withdraw(5))
    worker.wait_for(lambda: worker.returned)
    assert worker.returned == [("chore-b-0001", 1)]
    worker.say(Cancel("chore-s-0001", 1))
    assert worker.wait_end("chore-s-0001").reason == "cancelled"


CRASHES = {
    "segfault": (lambda: os.kill(os.getpid(), 11), -11),
    "exit": (lambda: os._exit(7), 7),
    "exit 0": (lambda: os._exit(0), 0),
    "killed": (lambda: os.kill(os.getpid(), 9), -9),
}


@pytest.mark.parametrize("name", CRASHES)
def test_a_crash_fails_only_what_ran(worker: WarmWorker, name: str) -> None:
    crash, code = CRASHES[name]
    before = [worker.call(lambda: 5, chore_id=f"chore-b-{i:04}") for i in range(50)]
    bad = worker.call(crash, chore_id="chore-c-0001")
    behind = [worker.call(lambda: 6, chore_id=f"chore-d-{i:04}") for i in range(50)]
    *ends, _ = worker.run(*before, *behind, worker.call(lambda: 1, chore_id="chore-e-0001"))
    assert all(ended.is_committed for ended in ends)
    for order in (*before, *behind):
        worker.campaign.dir.chore_file(order.chore_id, "result.pickle").unlink()
    # Now that chores are known to be short, they are sent ahead, and stand around the crash.
    ends = worker.run(*before, bad, *behind)
    lost = ends.pop(50)
    assert (lost.exit_code, lost.reason, lost.is_committed) == (code, None, False)
    assert all((ended.exit_code, ended.is_committed) == (0, True) for ended in ends)
    assert {worker.value(order.chore_id) for order in behind} == {6}
    stderr = worker.text("chore-c-0001", "stderr") or ""
    assert ("Segmentation fault" in stderr) == (name == "segfault")


def test_a_chore_whose_result_is_there_completed(worker: WarmWorker) -> None:
    def commit_and_die() -> Any:
        import atexit
        import os

        class Late:
            def __reduce__(self) -> Any:
                return (int, (3,))

            def __del__(self) -> None:
                os._exit(9)

        atexit.register(lambda: None)
        return Late()

    (ended,) = worker.run(worker.call(commit_and_die))
    assert (ended.exit_code, ended.is_committed) == (0, True)
    assert worker.value("chore-f-0001") == 3


def test_an_exception(worker: WarmWorker) -> None:
    def fail() -> None:
        raise ValueError("too hot")

    (ended,) = worker.run(worker.call(fail))
    assert (ended.exit_code, ended.reason, ended.is_committed) == (1, None, False)
    import json

    record = json.loads(worker.text("chore-f-0001", "error.json") or "")
    assert (record["reason"], record["message"], record["attempt"]) == ("exception", "too hot", 1)
    stderr = worker.text("chore-f-0001", "stderr") or ""
    assert stderr == record["traceback"]
    assert "slot.py" not in stderr
    assert "runtime_worker.py" not in stderr


def test_sys_exit(worker: WarmWorker) -> None:
    (ended,) = worker.run(worker.call(lambda: sys.exit(5)))
    assert (ended.exit_code, ended.is_committed) == (5, False)


def test_a_second_attempt(worker: WarmWorker) -> None:
    (first,) = worker.run(worker.call(abs, -1))
    (second,) = worker.run(worker.call(abs, -2, attempt=2))
    assert first.is_committed
    assert second.is_committed
    assert worker.value("chore-f-0001") == 2


def test_memory_is_exhausted(worker: WarmWorker) -> None:
    def fail() -> None:
        raise MemoryError

    before = worker.result(os.getpid, chore_id="chore-p-0001")
    (ended,) = worker.run(worker.call(fail))
    assert ended.exit_code == 1
    assert '"out_of_memory"' in (worker.text("chore-f-0001", "error.json") or "")
    assert worker.result(os.getpid, chore_id="chore-p-0002") != before


def test_a_program_that_is_not_there(worker: WarmWorker) -> None:
    (ended,) = worker.run(worker.order("chore-p-0001", argv=("/no/such/program",)))
    assert (ended.exit_code, ended.reason) == (None, "executable_not_found")
    assert "/no/such/program" in ended.detail


def test_more_than_the_worker_has(worker: WarmWorker) -> None:
    (ended,) = worker.run(worker.call(lambda: 1, cores=2))
    assert (ended.exit_code, ended.reason) == (None, "exceeds_allocation")


def test_a_new_process_whose_files_cannot_be_made(worker: WarmWorker) -> None:
    directory = worker.directory
    assert worker.result(lambda: 1, chore_id="chore-f-0000") == 1
    directory.rename(f"{directory}.away")
    worker.run(worker.call(lambda: os._exit(7), chore_id="chore-c-0001"))
    (ended,) = worker.run(worker.call(lambda: 1))
    assert (ended.exit_code, ended.reason) == (74, "io_error"), "no fault of the chore"
    assert str(directory) in ended.detail
    directory.with_name("1.away").rename(directory)
    assert worker.result(lambda: 1, chore_id="chore-f-0002") == 1


def test_a_program_whose_directory_cannot_be_made(worker: WarmWorker) -> None:
    worker.campaign.dir.chore_dir("chore-p-0001").touch()
    (ended,) = worker.run(worker.order("chore-p-0001", argv=("true",)))
    assert (ended.exit_code, ended.reason) == (74, "io_error")


def counting(counter: Path) -> tuple[str, str]:
    """Return how to start a worker for which a file is where the kernel counts."""
    return (
        "-c",
        "from pathlib import Path; from matensemble.pool import node, service; "
        f"service.find_oom_counter = lambda: Path({str(counter)!r}); "
        "raise SystemExit(node.main())",
    )


def test_the_kernel_ended_it_for_want_of_memory(
    start_worker: Callable[..., WarmWorker], tmp_path: Path
) -> None:
    counter = tmp_path / "memory.events"
    counter.write_text("oom_kill 3\n")
    worker = start_worker(python=counting(counter), cores=1)

    def die(counter: Path, kills: int) -> None:
        counter.write_text(f"oom_kill {kills}\n")
        os.kill(os.getpid(), 9)

    (killed,) = worker.run(worker.call(die, counter, 4, chore_id="chore-k-0001"))
    assert (killed.exit_code, killed.reason) == (-9, "out_of_memory")
    assert "for want of memory" in killed.detail


def test_what_the_kernel_ended_before_is_not_its_fault(
    start_worker: Callable[..., WarmWorker], tmp_path: Path
) -> None:
    counter = tmp_path / "memory.events"
    counter.write_text("oom_kill 3\n")
    worker = start_worker(python=counting(counter), cores=1)
    worker.result(os.getpid, chore_id="chore-p-0001")
    order, ready = sleeper(worker, "call")
    worker.say(Run((order,)))
    worker.wait_for(lambda: worker.started)  # so much time has passed that the next one looks
    assert ready.exists()
    counter.write_text("oom_kill 4\n")
    worker.say(Signal("chore-s-0001", 1, signal.SIGINT))  # its process goes on
    assert worker.wait_end("chore-s-0001").exit_code == 1
    (killed,) = worker.run(worker.call(lambda: os.kill(os.getpid(), 9), chore_id="chore-k-0001"))
    assert (killed.exit_code, killed.reason) == (-9, None)


def test_what_was_sent_ahead_of_a_long_one_does_not_wait_for_it(
    start_worker: Callable[..., WarmWorker],
) -> None:
    worker = start_worker(cores=2)
    first = [worker.call(lambda: 5, chore_id=f"chore-b-{i:04}") for i in range(40)]
    worker.run(*first)  # now they are known to be short
    order, _ = sleeper(worker, "call")
    before = [worker.call(lambda: 5, chore_id=f"chore-c-{i:04}") for i in range(40)]
    behind = [worker.call(lambda: 5, chore_id=f"chore-d-{i:04}") for i in range(40)]
    worker.say(Run((*before, order, *behind)))
    ends = [worker.wait_end(one.chore_id) for one in (*before, *behind)]
    assert all(ended.is_committed for ended in ends)
    worker.say(Cancel("chore-s-0001", 1))
    assert worker.wait_end("chore-s-0001").reason == "cancelled"
