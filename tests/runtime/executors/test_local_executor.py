"""The local executor: the contract, and what only it owes."""

from __future__ import annotations

import json
import os
import platform
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from contract import SHOW, SHOW_RANK, ExecutorContract, Session, make_fifo, read_line, untimed

from matensemble.environment import RANK_VARIABLES
from matensemble.errors import ExecutorUnavailableError, InvalidOptionError
from matensemble.model import Reason
from matensemble.protocols import RunOptions
from matensemble.runtime.executors import launcher_process
from matensemble.runtime.executors.base import JobEnded
from matensemble.runtime.executors.local import LocalExecutor, usable_cores
from matensemble.runtime.executors.mpi import mpi_command
from matensemble.runtime.scheduler.events import ChoreStarted, ResourcesFreed

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity"
)
needs_two_cores = pytest.mark.skipif(len(usable_cores()) < 2, reason="needs two cores")
CORES = "'cores': sorted(os.sched_getaffinity(0))"
GPUS = "k: v for k, v in os.environ.items() if k.endswith('VISIBLE_DEVICES')"

Opener = Callable[..., Session]


class TestContract(ExecutorContract):
    @pytest.fixture
    def executor(self) -> LocalExecutor:
        return LocalExecutor(cores=2)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    """Open local executors that are closed at the end of the test."""
    executors: list[LocalExecutor] = []

    def open_(cores: int | None = 2, gpus: int | None = 0, **options: object) -> Session:
        executors.append(LocalExecutor(cores, gpus, **options))  # type: ignore[arg-type]
        return Session(executors[-1], tmp_path)

    yield open_
    for executor in executors:
        executor.close()


def without_gpu_variables() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.endswith("VISIBLE_DEVICES")}


def program(directory: Path, name: str, text: str) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(text)
    path.chmod(0o755)
    return path


# --- capacity -----------------------------------------------------------------------------------


def test_default_capacity_is_what_this_process_may_use(opened: Opener) -> None:
    (node,) = opened(cores=None).allocation.nodes
    assert (node.name, node.cores) == (platform.node(), len(usable_cores()))


def test_options_of_a_run(tmp_path: Path) -> None:
    variables = {**without_gpu_variables(), "MATENSEMBLE_CORES": "3", "MATENSEMBLE_GPUS": "2"}
    for options, expected in (
        (RunOptions(), (3, 2)),
        (RunOptions(cores=5, gpus=0), (5, 0)),
    ):
        executor = LocalExecutor.from_options(options, variables)
        (node,) = Session(executor, tmp_path).allocation.nodes
        executor.close()
        assert (node.cores, node.gpus) == expected


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_bad_variables_are_typed_errors(value: str) -> None:
    with pytest.raises(InvalidOptionError, match=r"MATENSEMBLE_CORES=.* at least 1"):
        LocalExecutor.from_options(RunOptions(), {"MATENSEMBLE_CORES": value})


def test_an_empty_variable_is_unset(tmp_path: Path) -> None:
    variables = {
        **without_gpu_variables(),
        **{"MATENSEMBLE_CORES": "", "MATENSEMBLE_GPUS": " ", "CUDA_VISIBLE_DEVICES": "0,1,2"},
    }
    executor = LocalExecutor.from_options(RunOptions(), variables)
    (node,) = Session(executor, tmp_path).allocation.nodes
    executor.close()
    assert (node.cores, node.gpus) == (len(usable_cores()), 3)


def test_what_exceeds_the_machine_is_refused(opened: Opener) -> None:
    session = opened(cores=2)
    for chore_id, resources in (
        ("a", {"num_tasks": 3}),
        ("b", {"gpus_per_task": 1}),
        ("c", {"num_tasks": 2, "num_nodes": 2}),
    ):
        ended = session.run("true", chore_id=chore_id, **resources)
        assert (ended.exit_code, ended.reason) == (None, Reason.EXCEEDS_ALLOCATION)
        assert "there is 1 node with 2 cores" in ended.detail
    assert session.run("true", chore_id="d", num_tasks=2).exit_code == 0


def test_what_is_held_is_not_given_twice(opened: Opener) -> None:
    session = opened(cores=2)
    session.start("sleep", "600")
    ended = session.run("true", chore_id="b", cores_per_task=2)
    assert ended.reason is Reason.SUBMIT_ERROR
    assert "asks for 2 cores and 0 GPUs while 1 cores and 0 GPUs are free" in ended.detail
    session.executor.cancel("a", 1)
    session.wait_for(ResourcesFreed)
    assert session.run("true", chore_id="c", cores_per_task=2).exit_code == 0


def test_a_whole_node(opened: Opener) -> None:
    session = opened(cores=2)
    session.start("sleep", "600", num_nodes=1, exclusive=True)
    assert session.run("true", chore_id="b").reason is Reason.SUBMIT_ERROR


def test_submitting_to_a_closed_one(opened: Opener) -> None:
    session = opened()
    session.executor.close()
    with pytest.raises(RuntimeError, match="not open"):
        session.submit("true")


def test_a_python_that_does_not_start(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = program(tmp_path, "python", "#!/bin/sh\necho no library >&2\nexit 5\n")
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(ExecutorUnavailableError, match="exit code 5: no library"):
        opened()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    with pytest.raises(ExecutorUnavailableError, match="missing"):
        opened()


# --- while it runs --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_duration_that_is_shortened_or_given_late(opened: Opener) -> None:
    session = opened()
    session.start("sleep", "600", duration=600.0)
    session.start("sleep", "600", chore_id="b")
    for chore_id in "ab":
        session.executor.extend(chore_id, 1, 0.3)
        assert session.wait_for(JobEnded, chore_id=chore_id).reason is Reason.DURATION_EXCEEDED


@pytest.mark.slow
def test_more_time_does_not_save_what_is_being_ended(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher_process, "TERM_GRACE_SECONDS", 0.3)
    session = opened()
    ready = make_fifo(session.directory)
    session.submit("sh", "-c", f"trap '' TERM; echo $$ > '{ready}'; while :; do sleep 600; done")
    read_line(ready)
    session.executor.cancel("a", 1)
    session.executor.extend("a", 1, 600.0)
    assert untimed(session.wait_for(JobEnded)) == JobEnded(
        "a", 1, -signal.SIGKILL, Reason.CANCELLED
    )


def test_a_signal_reaches_every_task(opened: Opener) -> None:
    session = opened(cores=2)
    ready = [make_fifo(session.directory, name) for name in "01"]
    script = (
        "import os, signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
        "rank = os.environ['MATENSEMBLE_TASK_RANK']\n"
        f"open({str(session.directory)!r} + '/' + rank, 'w').write(rank + chr(10))\n"
        "signal.sigwait([signal.SIGUSR1])\n"
        "sys.exit(10 + int(rank))"
    )
    session.submit(sys.executable, "-c", script, num_tasks=2)
    for fifo in ready:
        read_line(fifo)
    session.executor.signal("a", 1, signal.SIGUSR1)
    assert untimed(session.wait_for(JobEnded)) == JobEnded("a", 1, 11)


@pytest.mark.parametrize("number", [-1, 0, 4000])
def test_what_is_no_signal(opened: Opener, number: int) -> None:
    session = opened()
    session.start("sleep", "600")
    with pytest.raises(ValueError, match=f"{number} is not the number of a signal"):
        session.executor.signal("a", 1, number)


# --- cores --------------------------------------------------------------------------------------


@needs_affinity
@needs_two_cores
def test_each_chore_has_its_own_cores(opened: Opener) -> None:
    session = opened(cores=2)
    fifo = make_fifo(session.directory)
    show = f"import json, os; open({str(fifo)!r}, 'w').write(json.dumps({{{CORES}}}) + chr(10))"
    session.submit(sys.executable, "-c", f"{show}\nimport time; time.sleep(600)")
    first = json.loads(read_line(fifo))["cores"]
    session.run(sys.executable, "-c", SHOW % CORES, chore_id="b")
    second = json.loads(session.text("b"))["cores"]
    assert len(first) == len(second) == 1
    assert first != second
    session.executor.cancel("a", 1)
    session.wait_for(ResourcesFreed)
    session.run(sys.executable, "-c", SHOW % CORES, chore_id="c", cores_per_task=2)
    assert json.loads(session.text("c"))["cores"] == sorted(first + second)


@needs_affinity
@needs_two_cores
def test_each_task_has_its_own_cores(opened: Opener) -> None:
    session = opened(cores=2)
    session.run(sys.executable, "-c", SHOW % CORES, num_tasks=2)
    shown = [json.loads(line)["cores"] for line in session.text().splitlines()]
    assert len(shown) == 2
    assert not set(shown[0]) & set(shown[1])


@needs_affinity
@pytest.mark.parametrize(
    "options", [{"set_cpu_affinity": False}, {"cores": len(usable_cores()) + 1}]
)
def test_unbound(opened: Opener, options: dict[str, int]) -> None:
    assert opened(**options).shown(CORES) == {"cores": usable_cores()}


# --- GPUs ---------------------------------------------------------------------------------------


def test_gpus_of_a_chore(opened: Opener) -> None:
    environ = {**without_gpu_variables(), "CUDA_VISIBLE_DEVICES": "4,GPU-5,6"}
    session = opened(cores=4, gpus=None, environ=environ)
    assert session.allocation.num_gpus == 3
    session.start("sleep", "600", gpus_per_task=1)
    visible = {"CUDA_VISIBLE_DEVICES": "GPU-5,6"}
    session.run(sys.executable, "-c", SHOW % GPUS, chore_id="b", num_tasks=2, gpus_per_task=1)
    assert [json.loads(line) for line in session.text("b").splitlines()] == [visible] * 2
    session.run(sys.executable, "-c", SHOW % GPUS, chore_id="c")
    assert json.loads(session.text("c")) == {"CUDA_VISIBLE_DEVICES": "-1"}
    own = {"CUDA_VISIBLE_DEVICES": "mine"}
    session.run(sys.executable, "-c", SHOW % GPUS, chore_id="d", env=own)
    assert json.loads(session.text("d")) == own


def test_gpus_of_each_task(opened: Opener) -> None:
    session = opened(cores=2, gpus=4, set_gpu_affinity=True, environ=without_gpu_variables())
    facts = "os.environ['MATENSEMBLE_TASK_RANK']: os.environ['CUDA_VISIBLE_DEVICES']"
    session.run(sys.executable, "-c", SHOW % facts, num_tasks=2, gpus_per_task=2)
    shown = [json.loads(line) for line in sorted(session.text().splitlines())]
    assert shown == [{"0": "0,1"}, {"1": "2,3"}]


def test_gpus_where_variables_build_on_one_another(opened: Opener) -> None:
    """HIP counts within what ROCR left, so the one is selected from and the other is kept."""
    environ = {
        **without_gpu_variables(),
        "ROCR_VISIBLE_DEVICES": "6,7",
        "HIP_VISIBLE_DEVICES": "0,1",
    }
    session = opened(gpus=None, environ=environ)
    session.start("sleep", "600", gpus_per_task=1)
    session.run(
        sys.executable,
        *("-c", SHOW % GPUS),
        chore_id="b",
        gpus_per_task=1,
        inherit_env=False,
        env={"ONLY": "this"},
    )
    expected = {"ROCR_VISIBLE_DEVICES": "6,7", "HIP_VISIBLE_DEVICES": "1"}
    assert json.loads(session.text("b")) == expected


def test_a_machine_without_gpus_gets_no_variables(opened: Opener) -> None:
    assert opened(gpus=0, environ=without_gpu_variables()).shown(GPUS) == {}


# --- MPI ----------------------------------------------------------------------------------------


def test_mpi_goes_through_the_mpiexec_of_the_chore(opened: Opener, tmp_path: Path) -> None:
    program(
        tmp_path / "bin", "mpiexec", '#!/bin/sh\nprintf "starter %s\\n" "$*"\nshift 2\nexec "$@"\n'
    )
    session = opened(cores=2)
    env = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    facts = (
        "'rank': os.environ.get('MATENSEMBLE_TASK_RANK'), 'n': os.environ['MATENSEMBLE_NUM_TASKS']"
    )
    session.run(sys.executable, "-c", SHOW % facts, num_tasks=2, mpi=True, env=env)
    starter, shown = session.text().splitlines()
    assert starter.startswith(f"starter -n 2 {sys.executable} -c ")
    assert json.loads(shown) == {"rank": None, "n": "2"}, "mpiexec gives the ranks"


def test_no_rank_of_mpi_takes_the_rank_of_the_driver(opened: Opener, tmp_path: Path) -> None:
    starter = '#!/bin/sh\nshift 2\nPMI_RANK=0 "$@"\nPMI_RANK=1 exec "$@"\n'
    program(tmp_path / "bin", "mpiexec", starter)
    path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    session = opened(environ={**os.environ, **path, **dict.fromkeys(RANK_VARIABLES, "0")})
    session.run(sys.executable, "-c", SHOW_RANK, num_tasks=2, mpi=True)
    assert [json.loads(line)[0] for line in session.text().splitlines()] == [0, 1]


def test_what_a_chore_sets_itself_is_kept(opened: Opener) -> None:
    session = opened(environ={**os.environ, "SLURM_PROCID": "3"})
    facts = "'rank': os.environ.get('SLURM_PROCID')"
    assert session.shown(facts, env={"SLURM_PROCID": "5"}) == {"rank": "5"}
    assert session.shown(facts, attempt=2) == {"rank": None}


def test_mpi_without_an_mpiexec(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    session = opened()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    ended = session.run("true", mpi=True, env={"PATH": "/nowhere"})
    assert (ended.exit_code, ended.reason) == (None, Reason.EXECUTABLE_NOT_FOUND)
    assert "no mpiexec" in ended.detail
    assert "pip install mpich" in ended.detail


@pytest.mark.mpi
@pytest.mark.slow
def test_real_ranks(opened: Opener) -> None:
    if mpi_command((), 1, os.environ["PATH"]) is None:
        pytest.skip("no mpiexec here")
    session = opened(cores=2)
    script = "echo ${PMI_RANK-${OMPI_COMM_WORLD_RANK-$PMIX_RANK}}"
    ended = session.run("sh", "-c", script, num_tasks=2, mpi=True)
    assert ended.exit_code == 0, (session.directory / "a" / "stderr").read_text()
    assert sorted(session.text().split()) == ["0", "1"]


# --- what cannot be started -----------------------------------------------------------------------


def test_missing_program_names_where_it_was_looked_for(opened: Opener) -> None:
    session = opened()
    ended = session.run("no-such-program", env={"PATH": "/one:/two"})
    assert ended.detail == "no program 'no-such-program' in PATH=/one:/two"
    ended = session.run("no-such-program", chore_id="b", inherit_env=False)
    assert ended.detail.endswith("(the chore has no PATH)")
    ended = session.run("./no-such-program", chore_id="c")
    assert ended.detail == f"./no-such-program in {session.directory / 'c'}: does not exist"


@pytest.mark.parametrize(
    ("text", "mode", "expected"),
    [
        ("#!/nowhere/interpreter\n", 0o755, "names an interpreter"),
        ("echo no first line\n", 0o755, "neither a program for this machine nor a script"),
        ("#!/bin/sh\n", 0o644, "chmod +x"),
    ],
)
def test_programs_that_cannot_run(
    opened: Opener, tmp_path: Path, text: str, mode: int, expected: str
) -> None:
    path = program(tmp_path, "program", text)
    path.chmod(mode)
    session = opened()
    ended = session.run(str(path))
    assert (ended.exit_code, ended.reason) == (None, Reason.EXECUTABLE_NOT_FOUND)
    assert expected in ended.detail
    assert ChoreStarted.__name__ not in session.kinds()
    assert session.run("true", chore_id="b").exit_code == 0


def test_a_file_on_the_path_that_is_not_executable(opened: Opener, tmp_path: Path) -> None:
    program(tmp_path / "bin", "tool", "#!/bin/sh\n").chmod(0o644)
    ended = opened().run("tool", env={"PATH": str(tmp_path / "bin")})
    assert ended.detail.endswith(f"; {tmp_path / 'bin' / 'tool'} is not executable")


def test_directories_and_files_that_cannot_be_used(opened: Opener, tmp_path: Path) -> None:
    session = opened()
    missing = tmp_path / "missing"
    ended = session.run("true", cwd=missing)
    assert ended.reason is Reason.IO_ERROR
    assert ended.detail == f"cannot enter {missing}: No such file or directory"
    for number, name in enumerate(("stdout_path", "stderr_path")):
        ended = session.run("true", chore_id=f"b{number}", **{name: missing / "file"})
        assert ended.reason is Reason.IO_ERROR
        assert ended.detail == f"cannot write {missing / 'file'}: No such file or directory"
    assert session.run("true", chore_id="c").exit_code == 0


@pytest.mark.slow
def test_arguments_that_no_program_can_receive(opened: Opener) -> None:
    session = opened()
    for chore_id, argument in (("a", "nul\0"), ("b", "x" * 10_000_000), ("d", "\ud800")):
        ended = session.run("true", argument, chore_id=chore_id)
        assert ended.reason is Reason.SUBMIT_ERROR
        assert ended.detail
    ended = session.run("true", chore_id="e", env={"HALF": "\ud800"})
    assert ended.reason is Reason.SUBMIT_ERROR
    assert session.run("true", chore_id="c").exit_code == 0


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="needs prlimit")
def test_a_machine_out_of_open_files(opened: Opener) -> None:
    import resource

    session = opened(cores=4)
    session.run("sh", "-c", "echo $PPID")
    launcher = int(session.text())
    used = {int(entry.name) for entry in Path(f"/proc/{launcher}/fd").iterdir()}
    first_free = min(set(range(len(used) + 1)) - used)
    limits = resource.prlimit(launcher, resource.RLIMIT_NOFILE)
    resource.prlimit(launcher, resource.RLIMIT_NOFILE, (first_free, limits[1]))
    ended = session.run("true", chore_id="b")
    assert ended.reason is Reason.IO_ERROR
    assert ended.detail.endswith("Too many open files")
    resource.prlimit(launcher, resource.RLIMIT_NOFILE, limits)
    assert session.run("true", chore_id="c").exit_code == 0


def test_a_duration_of_years(opened: Opener) -> None:
    assert opened().run("true", duration="10000d").exit_code == 0


def test_text_that_is_no_utf8(opened: Opener) -> None:
    session = opened()
    odd = os.fsdecode(b"\xff")
    script = "import os, sys; print(os.fsencode(sys.argv[1] + os.environ['ODD']))"
    session.run(sys.executable, "-c", script, odd, env={"ODD": odd})
    assert session.text() == "b'\\xff\\xff'\n"


# --- tasks --------------------------------------------------------------------------------------


def test_tasks_share_the_streams(opened: Opener) -> None:
    session = opened(cores=4)
    script = "i=0; while [ $i -lt 50 ]; do echo line; i=$((i+1)); done"
    session.run("sh", "-c", script, num_tasks=4)
    assert session.text() == "line\n" * 200


def test_a_signal_outweighs_exit_codes(opened: Opener) -> None:
    script = "case $MATENSEMBLE_TASK_RANK in 0) exit 9;; 1) kill -9 $$;; esac"
    assert opened(cores=3).run("sh", "-c", script, num_tasks=3).exit_code == -9


def test_umask_is_the_drivers(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        session = Session(LocalExecutor(cores=1), tmp_path)
    finally:
        os.umask(before)
    session.run("sh", "-c", ": > made")
    session.executor.close()
    assert stat.S_IMODE((tmp_path / "a" / "made").stat().st_mode) == 0o640


def test_blocked_and_ignored_signals_of_the_driver_stay_there(tmp_path: Path) -> None:
    """As under nohup, or where a library blocks signals on the thread that opens the executor."""
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGCHLD])
    try:
        session = Session(LocalExecutor(cores=1), tmp_path)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGHUP, handler)
    for chore_id, name in (("a", "HUP"), ("b", "USR1")):
        ended = session.run("sh", "-c", f"kill -{name} $$", chore_id=chore_id)
        assert ended.exit_code == -getattr(signal, f"SIG{name}")
    session.executor.close()


@pytest.mark.slow
def test_many_chores_leave_nothing_in_the_launcher(opened: Opener) -> None:
    session = opened(cores=8)
    session.run("sh", "-c", "echo $PPID")
    launcher = int(session.text())
    descriptors = Path(f"/proc/{launcher}/fd")
    before = len(list(descriptors.iterdir())) if descriptors.exists() else 0
    for first in range(0, 200, 8):
        batch = [str(number) for number in range(first, first + 8)]
        for chore_id in batch:
            session.submit("true", chore_id=chore_id)
        for chore_id in batch:
            session.wait_for(ResourcesFreed, chore_id=chore_id)
    ended = [event for event in session.events if isinstance(event, JobEnded)]
    assert len(ended) == 201
    assert {event.exit_code for event in ended} == {0}
    assert len({event.chore_id for event in ended}) == 201
    if descriptors.exists():
        assert len(list(descriptors.iterdir())) == before
