"""What a chore changes around it in a warm worker is put right, or its process is replaced."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pool_harness import WarmWorker

from matensemble.model import OutputReference
from matensemble.pool_messages import Cancel, Run

pytestmark = pytest.mark.slow
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
def worker(start_worker: Callable[..., WarmWorker]) -> WarmWorker:
    return start_worker(cores=1)


def look() -> dict[str, Any]:
    """Return what a chore finds around it."""
    import gc
    import signal
    import socket

    umask = os.umask(0)
    os.umask(umask)
    return {
        "pid": os.getpid(),
        "cwd": Path.cwd().name,
        "environ": {k: v for k, v in os.environ.items() if not k.startswith("MATENSEMBLE_")},
        "umask": umask,
        "handlers": [str(signal.getsignal(n)) for n in range(1, 30) if n not in (9, 19)],
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "alarm": signal.getitimer(signal.ITIMER_REAL),
        "argv": sys.argv,
        "settings": (sys.path, sys.getrecursionlimit(), gc.isenabled(), socket.getdefaulttimeout()),
        "streams": [
            s is o
            for s, o in zip((sys.stdin, sys.stdout), (sys.__stdin__, sys.__stdout__), strict=True)
        ],
        "files": len(list(Path("/dev/fd").iterdir())),
    }


def change_directory() -> None:
    os.chdir("/")


def change_environment() -> None:
    os.environ["NEW"] = "1"
    os.environ["HOME"] = "/elsewhere"
    os.environ.pop("PATH", None)


def change_umask() -> None:
    os.umask(0o777)


def change_signals() -> None:
    import signal

    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    signal.alarm(1000)


def change_streams() -> None:
    import io

    sys.stdout = sys.__stdout__ = io.StringIO()  # type: ignore[misc]
    sys.stdin = io.StringIO("words")
    sys.argv.append("more")


def change_settings() -> None:
    import gc
    import socket

    sys.path.insert(0, "/elsewhere")
    sys.setrecursionlimit(150)
    gc.disable()
    socket.setdefaulttimeout(1.0)


def redirect_descriptors() -> None:
    with Path("own").open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        os.dup2(file.fileno(), 0)
    print("not to stdout", flush=True)


def close_descriptors() -> None:
    os.close(1)
    os.close(2)


CHANGES = (
    *(change_directory, change_environment, change_umask, change_signals, change_streams),
    *(change_settings, redirect_descriptors, close_descriptors),
)


@pytest.mark.parametrize("change", CHANGES)
def test_the_next_chore_finds_what_the_first_one_found(
    worker: WarmWorker, change: Callable[[], None]
) -> None:
    worker.result(look, chore_id="chore-l-0001")  # loads modules
    first = worker.result(look, chore_id="chore-l-0002")
    worker.result(change)
    second = worker.result(look, chore_id="chore-l-0003")
    assert (first.pop("cwd"), second.pop("cwd")) == ("chore-l-0002", "chore-l-0003")
    assert second == first
    worker.result(lambda: print("heard"), chore_id="chore-p-0001")
    assert worker.text("chore-p-0001") == "heard\n"


def leak_file() -> None:
    import builtins

    builtins.kept = Path("own").open("w")  # type: ignore[attr-defined]  # noqa: SIM115


def leak_thread() -> None:
    import threading

    threading.Thread(target=threading.Event().wait, daemon=True).start()


def leak_child() -> None:
    import subprocess

    subprocess.Popen(["sleep", "600"])


def close_streams() -> None:
    sys.stdout.close()


def close_everything() -> None:
    os.closerange(3, 1000)


def lower_a_limit() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))


def become_nicer() -> None:
    os.nice(1)


@pytest.mark.parametrize(
    "leak",
    [
        *(leak_file, leak_thread, leak_child, close_streams, close_everything),
        *(lower_a_limit, become_nicer),
    ],
)
def test_behind_what_cannot_be_put_right_comes_another_process(
    worker: WarmWorker, leak: Callable[[], None]
) -> None:
    def warm_up() -> int:
        import pathlib  # modules that are loaded later count as a new beginning
        import resource
        import subprocess
        import threading

        return len({pathlib, resource, subprocess, threading}) and os.getpid()

    first = worker.result(warm_up, chore_id="chore-w-0001")
    assert worker.result(warm_up, chore_id="chore-w-0002") == first
    worker.result(leak)
    assert worker.result(warm_up, chore_id="chore-w-0003") != first


def later_in_a_thread(path: str) -> None:
    import threading

    def write() -> None:
        threading.Event().wait(0.3)
        Path(path).write_text("done")

    threading.Thread(target=write).start()


def later_in_a_pool(path: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    ThreadPoolExecutor(1).submit(later_in_a_thread, path)


def at_the_exit(path: str) -> None:
    import atexit

    atexit.register(lambda: Path(path).write_text("done"))


def in_a_buffer(path: str) -> None:
    import builtins
    import threading

    builtins.kept = Path(path).open("w")  # type: ignore[attr-defined]  # noqa: SIM115
    builtins.kept.write("done")  # type: ignore[attr-defined]
    threading.Thread(target=threading.Event().wait, args=(0.1,)).start()


@pytest.mark.parametrize("leave", [later_in_a_thread, later_in_a_pool, at_the_exit, in_a_buffer])
def test_what_a_chore_leaves_to_be_done_is_done_before_it_has_ended(
    worker: WarmWorker, leave: Callable[[str], None]
) -> None:
    def warm_up() -> None:
        import atexit
        import concurrent.futures.thread
        import threading

        len({atexit, concurrent.futures.thread, threading})

    worker.result(warm_up, chore_id="chore-w-0001")
    path = worker.campaign.dir.root / "late"
    worker.result(leave, str(path))
    assert path.read_text() == "done"
    assert worker.result(lambda: 5, chore_id="chore-p-0001") == 5


def test_what_is_registered_with_an_import_is_done_when_the_worker_ends(worker: WarmWorker) -> None:
    path = worker.campaign.dir.root / "late"
    (worker.campaign.dir.root / "with_exit.py").write_text(
        f"import atexit, pathlib\natexit.register(pathlib.Path({str(path)!r}).write_text, 'done')\n"
    )

    def load(folder: str) -> None:
        sys.path.append(folder)
        import with_exit  # type: ignore[import-not-found]  # noqa: F401

    worker.result(load, str(worker.campaign.dir.root))
    assert not path.exists()
    worker.process.terminate()
    worker.wait_exit()
    assert path.read_text() == "done"


@linux
def test_what_a_chore_leaves_running_is_ended(worker: WarmWorker) -> None:
    """A process that has left its group and its parent, so that its slot does not know it."""

    def leave(told: str) -> int:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                Path(told).write_text(str(os.getpid()))
                os.execvp("sleep", ["sleep", "600"])
            os._exit(0)
        os.wait()
        return os.getpid()

    told = worker.campaign.dir.root / "told"
    slot = worker.result(leave, str(told))
    worker.wait_for(lambda: told.exists() and told.read_text())
    stray = int(told.read_text())
    worker.wait_for(lambda: not is_alive(stray))
    assert worker.result(os.getpid, chore_id="chore-p-0001") != slot


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def test_threads_of_an_import_do_not_end_the_process(worker: WarmWorker) -> None:
    def start_with_import(folder: str) -> int:
        sys.path.append(folder)
        import with_thread  # type: ignore[import-not-found]

        return int(with_thread.PID)

    folder = worker.campaign.dir.root
    (folder / "with_thread.py").write_text(
        "import os, threading\nPID = os.getpid()\nFILE = open(__file__)\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    first = worker.result(start_with_import, str(folder))
    assert worker.result(os.getpid, chore_id="chore-p-0001") == first


def test_a_process_serves_only_so_many(start_worker: Callable[..., WarmWorker]) -> None:
    worker = start_worker("--recycle-after", "3", cores=1)
    orders = [worker.call(os.getpid, chore_id=f"chore-p-{i:04}") for i in range(8)]
    assert all(ended.is_committed for ended in worker.run(*orders))
    pids = [worker.value(order.chore_id) for order in orders]
    assert [len({*pids[i : i + 3]}) for i in (0, 3, 6)] == [1, 1, 1]
    assert len({*pids}) == 3


# --- what a chore is given ----------------------------------------------------------------------


def test_variables_of_a_chore(worker: WarmWorker) -> None:
    env = {"OWN": "1", "HOME": "/mine", "MATENSEMBLE_SCRIPT_DIR": "/scripts"}
    found = worker.result(lambda: (dict(os.environ), sys.path[-1]), env=env)
    variables, last_path = found
    assert last_path == "/scripts"
    assert {name: variables[name] for name in env} == env
    assert variables["MATENSEMBLE_CHORE_ID"] == "chore-f-0001"
    assert variables["MATENSEMBLE_RUN_DIR"] == str(worker.campaign.dir.root)
    assert (variables["MATENSEMBLE_NUM_TASKS"], variables["MATENSEMBLE_TASK_RANK"]) == ("1", "0")
    assert variables["PATH"] == os.environ["PATH"]
    assert "OWN" not in worker.result(lambda: dict(os.environ), chore_id="chore-g-0001")


BARE = {
    *("MATENSEMBLE_CHORE_ID", "MATENSEMBLE_RUN_DIR", "MATENSEMBLE_ATTEMPT", "MATENSEMBLE_JOBID"),
    *("MATENSEMBLE_NUM_TASKS", "MATENSEMBLE_TASK_RANK"),
}


def test_a_chore_that_inherits_nothing(worker: WarmWorker) -> None:
    found = worker.result(lambda: dict(os.environ), inherit=False, env={"OWN": "1"})
    assert found.keys() == {*BARE, "OWN"}
    order = worker.order("chore-p-0001", argv=("/usr/bin/env",), inherit=False, env={"OWN": "1"})
    worker.run(order)
    lines = (worker.text("chore-p-0001") or "").splitlines()
    assert {line.partition("=")[0] for line in lines} == {*BARE, "OWN"}
    assert worker.result(lambda: os.environ.get("PATH"), chore_id="chore-g-0001")


@linux
def test_cores_and_gpus(start_worker: Callable[..., WarmWorker]) -> None:
    worker = start_worker(
        "--gpus",
        "3",
        cores=len(os.sched_getaffinity(0)),
        env={"CUDA_VISIBLE_DEVICES": "4,5,6"},
    )
    assert worker.hello.gpus == 3

    def find() -> tuple[set[int], str]:
        return os.sched_getaffinity(0), os.environ["CUDA_VISIBLE_DEVICES"]

    cores, visible = worker.result(find, chore_id="chore-a-0001")
    assert (len(cores), visible) == (1, "-1")
    cores, visible = worker.result(find, chore_id="chore-b-0001", gpus=2)
    assert (len(cores), visible) == (1, "4,5")
    if worker.hello.cores > 1:
        cores, visible = worker.result(find, chore_id="chore-c-0001", cores=2, gpus=1)
        assert (len(cores), visible in {"4", "5", "6"}) == (2, True)
    argv = (sys.executable, "-c", "import os; print(*os.sched_getaffinity(0), end='')")
    worker.run(worker.order("chore-p-0001", argv=argv))
    assert len((worker.text("chore-p-0001") or "").split()) == 1
    assert (
        worker.result(find, chore_id="chore-d-0001", gpus=1, env={"CUDA_VISIBLE_DEVICES": "9"})[1]
        == "9"
    )


# --- what it writes -----------------------------------------------------------------------------


def test_output_is_each_chores_own(worker: WarmWorker) -> None:
    def speak(word: str) -> None:
        import ctypes
        import subprocess

        print(word)
        os.write(1, b"raw\n")
        subprocess.run(["sh", "-c", f"echo child {word}; echo {word} >&2"], check=True)
        ctypes.CDLL(None).printf(b"from C\n")

    orders = [worker.call(speak, f"w{i}", chore_id=f"chore-o-{i:04}") for i in range(3)]
    worker.run(*orders, worker.call(lambda: None, chore_id="chore-q-0001"))
    for i in range(3):
        assert worker.text(f"chore-o-{i:04}") == f"w{i}\nraw\nchild w{i}\nfrom C\n"
        assert worker.text(f"chore-o-{i:04}", "stderr") == f"w{i}\n"
    path = worker.campaign.dir.chore_file("chore-o-0000", "stdout")
    assert path.stat().st_mode & 0o777 == 0o600
    assert worker.text("chore-q-0001") is None
    assert worker.text("chore-q-0001", "stderr") is None


def test_output_of_a_long_chore_is_seen_while_it_runs(worker: WarmWorker) -> None:
    def speak() -> None:
        import signal

        print("first words")
        signal.pause()

    worker.say(
        Run((worker.call(speak), worker.call(lambda: print("next"), chore_id="chore-n-0001")))
    )
    worker.wait_for(lambda: worker.text("chore-f-0001") == "first words\n")
    worker.say(Cancel("chore-f-0001", 1))
    assert worker.wait_end("chore-f-0001").reason == "cancelled"
    assert worker.text("chore-f-0001") == "first words\n"
    worker.wait_end("chore-n-0001")
    assert worker.text("chore-n-0001") == "next\n"


def test_output_that_was_seen_stays_whole(worker: WarmWorker) -> None:
    def speak(go: Path) -> None:
        import time

        print("first")
        while not go.exists():
            time.sleep(0.01)
        print("last")

    go = worker.campaign.dir.root / "go"
    worker.say(Run((worker.call(speak, go),)))
    worker.wait_for(lambda: worker.text("chore-f-0001") == "first\n")
    go.touch()
    assert worker.wait_end("chore-f-0001").is_committed
    assert worker.text("chore-f-0001") == "first\nlast\n"
    worker.result(lambda: print("other"), chore_id="chore-o-0001")
    assert worker.text("chore-o-0001") == "other\n"
    assert worker.text("chore-f-0001") == "first\nlast\n"


# --- what comes and goes ------------------------------------------------------------------------


def test_large_arguments_results_and_requests(worker: WarmWorker) -> None:
    env = {"LARGE": "x" * 100_000}
    value = worker.result(lambda data: data + data, b"y" * 2_000_000, env=env, wants=1000)
    assert value == b"y" * 4_000_000
    assert sorted(path.suffix for path in worker.directory.iterdir()) == [
        *(".json", ".stderr", ".stdout")
    ]


def test_small_results_come_along(worker: WarmWorker) -> None:
    import pickle

    small = worker.call(lambda: [1, 2], chore_id="chore-s-0001", wants=100)
    large = worker.call(lambda: b"x" * 200, chore_id="chore-l-0001", wants=100)
    unwanted = worker.call(lambda: [1, 2], chore_id="chore-u-0001")
    first, second, third = worker.run(small, large, unwanted)
    assert first.result is not None
    assert pickle.loads(first.result) == [1, 2]
    assert (second.result, third.result) == (None, None)


def test_a_durable_result(worker: WarmWorker) -> None:
    assert worker.result(lambda: 7, record={"durable": True}) == 7


def test_a_program_with_references_and_inputs(worker: WarmWorker) -> None:
    worker.campaign.complete("chore-up-0001", {"word": "hello"})
    word = OutputReference("chore-up-0001")["word"]
    worker.campaign.exec(["sh", "-c", 'echo "$0"; cat in.txt', word], {"in.txt": word})
    (ended,) = worker.run(worker.order("chore-prog-0001"))
    assert (ended.exit_code, ended.is_committed) == (0, False)
    assert worker.text("chore-prog-0001") == "hello\nhello"
    assert worker.text("chore-prog-0001", "stderr") is None
    assert worker.result(lambda: 1) == 1


def test_a_program_whose_reference_is_gone(worker: WarmWorker) -> None:
    worker.campaign.exec(["echo", OutputReference("chore-up-0001")])
    (ended,) = worker.run(worker.order("chore-prog-0001"))
    assert (ended.exit_code, ended.reason) == (1, None)
    assert '"result_missing"' in (worker.text("chore-prog-0001", "error.json") or "")


def test_a_strategy(worker: WarmWorker) -> None:
    def ask() -> Any:
        from matensemble.chore import ChoreSpec

        return [ChoreSpec.exec("true"), ChoreSpec.exec("false")]

    assert worker.result(ask, record={"strategy": True}) == 2
    assert len((worker.text("chore-f-0001", "spawned.jsonl") or "").splitlines()) == 2
