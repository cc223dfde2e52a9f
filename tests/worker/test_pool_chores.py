"""A warm worker runs calls and programs as jobs of their own would run them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest
from pool_harness import WarmWorker

from matensemble.model import OutputReference
from matensemble.pool_messages import Bye, Close, Run


@pytest.fixture
def worker(start_worker: Callable[..., WarmWorker]) -> WarmWorker:
    return start_worker()


def test_it_says_who_it_is(worker: WarmWorker) -> None:
    hello = worker.hello
    assert (hello.worker, hello.pid) == ("worker-1-1", worker.process.pid)
    assert (hello.format, hello.cores) == (1, 2)


def test_a_call(worker: WarmWorker) -> None:
    assert worker.result(lambda a, b: a + b, 1, 2) == 3
    directory = worker.campaign.dir.chore_dir("chore-f-0001")
    assert sorted(p.name for p in directory.iterdir()) == ["result.pickle"]
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "result.pickle").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_many_calls_in_one_process(worker: WarmWorker) -> None:
    def pid() -> int:
        return os.getpid()

    orders = [worker.call(pid, chore_id=f"chore-f-{i:04}") for i in range(200)]
    ends = worker.run(*orders)
    assert {(end.exit_code, end.is_committed) for end in ends} == {(0, True)}
    assert len({worker.value(order.chore_id) for order in orders}) <= 2


def test_results_of_others(worker: WarmWorker) -> None:
    worker.campaign.complete("chore-up-0001", {"energy": 1.5})
    assert (
        worker.result(lambda energy: energy + 1, OutputReference("chore-up-0001")["energy"]) == 2.5
    )


def test_a_result_that_came_along(worker: WarmWorker) -> None:
    import pickle

    deps = [{"id": "chore-up-0001", "kind": "python", "data": pickle.dumps([7])}]
    worker.campaign.add(lambda x: x * 2, OutputReference("chore-up-0001"), deps=deps)
    (ended,) = worker.run(worker.order("chore-f-0001"))
    assert ended.is_committed
    assert worker.value("chore-f-0001") == [7, 7]


def test_a_program(worker: WarmWorker) -> None:
    argv = (sys.executable, "-c", "import os; print(os.getcwd()); raise SystemExit(3)")
    (ended,) = worker.run(worker.order("chore-p-0001", argv=argv))
    assert (ended.exit_code, ended.reason, ended.is_committed) == (3, None, False)
    directory = worker.campaign.dir.chore_dir("chore-p-0001")
    assert worker.text("chore-p-0001") == f"{directory}\n"
    assert worker.text("chore-p-0001", "stderr") is None
    assert directory.stat().st_mode & 0o777 == 0o700


def test_it_ends_when_it_is_told_to(worker: WarmWorker) -> None:
    worker.say(Run((worker.call(lambda: 1),)))
    worker.say(Close())
    assert worker.wait_exit() == 0
    assert isinstance(worker.others[-1], Bye)
    assert worker.stderr == ""
    assert ("chore-f-0001", 1) in worker.returned or worker.ended["chore-f-0001"].is_committed
    assert [path.name for path in worker.directory.iterdir()] == ["address.json"]
