"""Every reason code, provoked in a whole run on each executor: they are distinct and stable.

Each chore of one run is named after the reason that it is to fail with. A member of `Reason` that
neither this run nor a test named in `ELSEWHERE` provokes fails `test_every_code_is_provoked`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from matensemble.chore import ChoreSpec
from matensemble.errors import ChoreFailedError
from matensemble.model import Reason, RunState
from matensemble.pipeline import Pipeline
from matensemble.records import RecordKind

sys.path.append(str(Path(__file__).parent))
from whole_run import whole_run

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

HERE = Path(__file__).parent
ELSEWHERE = {
    ("flux", Reason.NODE_FAILURE): (
        HERE / "test_flux_faults_jobs.py",
        "test_a_node_that_dies_under_a_chore_that_may_not_lose_more",
    ),
}
"""What cannot be had in a run with others: who provokes it, by file and function."""
IMPOSSIBLE = {("local", Reason.NODE_FAILURE): "the node of the driver is the only one"}

Provoke = Callable[[Pipeline], Any]
PROVOKED: dict[Reason, Provoke] = {}
"""Records the chore that fails for a reason."""
EXIT_CODES = {Reason.NONZERO_EXIT: 3, Reason.SIGNAL: -9}


def provokes(reason: Reason) -> Callable[[Provoke], Provoke]:
    """Enter a function that records a chore, which takes the name of the reason."""

    def enter(function: Provoke) -> Provoke:
        PROVOKED[reason] = function
        return function

    return enter


def shell(pipe: Pipeline, reason: Reason, script: str, **options: Any) -> Any:
    """Record a script that is to fail."""
    return pipe.exec(["sh", "-c", script], name=reason.value, **options)


@provokes(Reason.NONZERO_EXIT)
def _(pipe: Pipeline) -> None:
    shell(pipe, Reason.NONZERO_EXIT, "exit 3")


@provokes(Reason.SIGNAL)
def _(pipe: Pipeline) -> None:
    shell(pipe, Reason.SIGNAL, "kill -9 $$")


@provokes(Reason.EXCEPTION)
def _(pipe: Pipeline) -> None:
    @pipe.chore(name=Reason.EXCEPTION.value)
    def diverge() -> None:
        raise ArithmeticError("no minimum")

    diverge()


@provokes(Reason.IMPORT_ERROR)
def _(pipe: Pipeline) -> None:
    @pipe.chore(name=Reason.IMPORT_ERROR.value)
    def load() -> None:
        import a_module_that_is_nowhere  # noqa: F401

    load()


@provokes(Reason.UNPICKLABLE_RESULT)
def _(pipe: Pipeline) -> None:
    @pipe.chore(name=Reason.UNPICKLABLE_RESULT.value)
    def generate() -> Any:
        return (number for number in range(3))

    generate()


@provokes(Reason.RESULT_MISSING)
def _(pipe: Pipeline) -> None:
    shell(pipe, Reason.RESULT_MISSING, "exit 0", outputs={"log": "log.lammps"})


@provokes(Reason.RESULT_CORRUPT)
def _(pipe: Pipeline) -> None:
    """A process that writes over its own result, and leaves before the worker can."""

    @pipe.chore(name=Reason.RESULT_CORRUPT.value)
    def spoil() -> None:
        import os
        from pathlib import Path

        out = Path(os.environ["MATENSEMBLE_RUN_DIR"]) / "out" / os.environ["MATENSEMBLE_CHORE_ID"]
        (out / "result.pickle").write_bytes(b"not a result" * 100)
        os._exit(0)

    spoil()


@provokes(Reason.EXECUTABLE_NOT_FOUND)
def _(pipe: Pipeline) -> None:
    pipe.exec(["a-program-that-is-nowhere"], name=Reason.EXECUTABLE_NOT_FOUND.value)


@provokes(Reason.SUBMIT_ERROR)
def _(pipe: Pipeline) -> None:
    """Of one argument more bytes than the system takes; for Flux, bytes that are no text."""
    argument = os.fsdecode(b"\xff") + "x" * (1 << 20)
    pipe.exec(["true", argument], name=Reason.SUBMIT_ERROR.value)


@provokes(Reason.EXCEEDS_ALLOCATION)
def _(pipe: Pipeline) -> None:
    shell(pipe, Reason.EXCEEDS_ALLOCATION, "exit 0", cores_per_task=100_000)


@provokes(Reason.DURATION_EXCEEDED)
def _(pipe: Pipeline) -> None:
    shell(pipe, Reason.DURATION_EXCEEDED, "exec sleep 600", duration=0.5)


@provokes(Reason.IDLE_TIMEOUT)
def _(pipe: Pipeline) -> None:
    shell(pipe, Reason.IDLE_TIMEOUT, "exec sleep 600", idle_timeout=0.5)


@provokes(Reason.OUTPUT_EXCEEDED)
def _(pipe: Pipeline) -> None:
    shell(pipe, Reason.OUTPUT_EXCEEDED, "seq 9999; exec sleep 600", max_output=1000)


@provokes(Reason.OUT_OF_MEMORY)
def _(pipe: Pipeline) -> None:
    @pipe.chore(name=Reason.OUT_OF_MEMORY.value)
    def grow() -> int:
        import resource

        limit = 1 << 30
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        return len(bytearray(2 * limit))

    grow()


@provokes(Reason.IO_ERROR)
def _(pipe: Pipeline) -> None:
    """A declared output that cannot be looked at: a link to itself."""
    shell(pipe, Reason.IO_ERROR, "ln -s loop loop", outputs={"loop": "loop"})


@provokes(Reason.INVALID_SPEC)
def _(pipe: Pipeline) -> None:
    @pipe.chore
    def point() -> int:
        return 1

    @pipe.chore(name=Reason.INVALID_SPEC.value)
    def take_one(value: int) -> int:
        return value

    @pipe.strategy(triggers=["point"])
    def ask(_: int) -> ChoreSpec:
        return ChoreSpec([1, 2, 3], {}, "invalid_spec")

    point()


@provokes(Reason.DEPENDENCY_FAILED)
def _(pipe: Pipeline) -> None:
    root = pipe.exec(["false"], name="root")
    shell(pipe, Reason.DEPENDENCY_FAILED, "exit 0", after=[root])


@provokes(Reason.CANCELLED)
def _(pipe: Pipeline) -> None:
    """The test cancels it by the command line, once it runs."""
    shell(pipe, Reason.CANCELLED, "exec sleep 600")


Failures = dict[str, ChoreFailedError]


@pytest.fixture(scope="module", params=["local", pytest.param("flux", marks=pytest.mark.flux)])
def ran(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Failures]]:
    """Run all that fails on one executor; return what failed, by name."""
    uri = request.getfixturevalue("start_flux")("--test-size=4") if request.param == "flux" else ""
    pipe = Pipeline(tmp_path_factory.mktemp("reasons"))
    for record in PROVOKED.values():
        record(pipe)
    with whole_run(pipe.save(), uri) as whole:
        driver = whole.start("run")
        (cancelled,) = [key for key, name in whole.names().items() if name == Reason.CANCELLED]
        whole.wait_for(RecordKind.STARTED, cancelled)
        assert whole.call("cancel", cancelled).exit_code == 0
        assert driver.wait() == 1, driver.said()
        assert whole.status().state is RunState.FAILED
        whole.assert_nothing_is_left()
        names = whole.names()
        failed = {
            names[key]: value
            for key, value in whole.results().items()
            if isinstance(value, ChoreFailedError)
        }
        yield request.param, failed


@pytest.mark.parametrize("reason", PROVOKED, ids=lambda reason: reason.value)
def test_each_has_its_code(ran: tuple[str, Failures], reason: Reason) -> None:
    executor, failed = ran
    error = failed[reason.value]
    assert error.reason == reason, f"{executor}: {error}"
    if reason in EXIT_CODES:
        assert error.exit_code == EXIT_CODES[reason]
    assert (error.upstream is not None) is (reason is Reason.DEPENDENCY_FAILED)
    assert error.detail or reason in (Reason.CANCELLED, Reason.NONZERO_EXIT)


def test_nothing_else_fails(ran: tuple[str, Failures]) -> None:
    _, failed = ran
    assert set(failed) == {reason.value for reason in PROVOKED} | {"root"}


@pytest.mark.parametrize("executor", ["local", "flux"])
def test_every_code_is_provoked(executor: str) -> None:
    elsewhere = {reason for where, reason in (*ELSEWHERE, *IMPOSSIBLE) if where == executor}
    assert set(PROVOKED) | elsewhere == set(Reason)
    assert elsewhere.isdisjoint(PROVOKED)


@pytest.mark.parametrize(("path", "name"), ELSEWHERE.values(), ids=lambda value: str(value)[-20:])
def test_who_provokes_it_elsewhere_exists(path: Path, name: str) -> None:
    assert f"\ndef {name}(" in path.read_text()
