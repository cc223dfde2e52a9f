"""The façade for those who drive Flux themselves: the same jobspec, through `FluxExecutor`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from matensemble.errors import ExecutorUnavailableError, RunDirectoryError
from matensemble.fluxlet import Fluxlet
from matensemble.pipeline import Pipeline
from matensemble.runtime.executors import flux
from matensemble.runtime.scheduler.resources import Allocation
from matensemble.wire import load_result

pytestmark = [pytest.mark.flux, pytest.mark.slow]


@pytest.fixture
def uri(start_flux: Callable[..., str]) -> str:
    return start_flux("--test-size=2")


@pytest.fixture
def executor(uri: str) -> Any:
    module = flux.load_flux()
    with module.job.FluxExecutor(handle_args=(uri,), poll_interval=0.01) as executor:
        yield executor


def save(basedir: Path) -> Path:
    pipe = Pipeline(basedir=basedir)

    @pipe.chore
    def double(value: int) -> int:
        return 2 * value

    first = double(21)
    double(first)
    pipe.exec(["echo", first], name="show")
    pipe.exec(["echo", "{{id}}"], name="braces")
    pipe.exec(["sh", "-c", "echo here; exit 3"], name="fail")
    return Path(pipe.save())


def test_submits_the_chores_of_a_run(uri: str, executor: Any, tmp_path: Path) -> None:
    run_dir = save(tmp_path)
    fluxlet = Fluxlet(flux.connect(uri), run_dir)
    codes = {}
    for chore in fluxlet.chores:
        future = fluxlet.submit(executor, chore)
        codes[chore.name] = future.result(timeout=60)
    assert codes == {"double": 0, "show": 0, "braces": 0, "fail": 3}
    out = {chore.name: run_dir / "out" / chore.id for chore in fluxlet.chores}
    assert load_result(out["double"] / "result.pickle", out["double"].name) == 84
    assert (out["show"] / "stdout").read_text() == "42\n"
    assert (out["braces"] / "stdout").read_text() == "{{id}}\n"
    assert (out["fail"] / "stdout").stat().st_mode & 0o777 == 0o600


def test_jobspec_is_the_one_that_is_submitted(uri: str, tmp_path: Path) -> None:
    run_dir = save(tmp_path)
    fluxlet = Fluxlet(flux.connect(uri), run_dir)
    jobspec = fluxlet.jobspec(fluxlet.chores[0], attempt=2)
    assert isinstance(jobspec, flux.load_flux().job.JobspecV1)
    assert jobspec.attributes["user"]["matensemble"] == {
        "run": str(run_dir.resolve()),
        "chore": fluxlet.chores[0].id,
        "attempt": 2,
        "epoch": 0,
    }
    assert jobspec.attributes["system"]["constraints"] == {"not": [{"ranks": ["0"]}]}


def test_needs_a_saved_run(uri: str, tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError):
        Fluxlet(flux.connect(uri), tmp_path)


def test_needs_a_broker(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = save(tmp_path)
    monkeypatch.setenv("FLUX_URI", f"local://{tmp_path}/none")
    monkeypatch.setenv("FLUX_LOCAL_CONNECTOR_RETRY_COUNT", "0")
    with pytest.raises(ExecutorUnavailableError, match="no Flux broker answers"):
        Fluxlet(run_dir=run_dir)


@pytest.mark.parametrize(
    ("asked", "written", "taken"),
    [(None, False, False), (None, True, True), (True, False, True), (False, True, False)],
)
def test_the_broker_node_is_left_as_the_pipeline_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bool | None, written: bool, taken: bool
) -> None:
    reserved: list[bool | None] = []

    def survey(handle: Any, reserve_broker_node: bool | None) -> flux.Instance:
        reserved.append(reserve_broker_node)
        return flux.Instance(Allocation(()), (), ())

    monkeypatch.setattr("matensemble.fluxlet.survey", survey)
    pipe = Pipeline(tmp_path, reserve_broker_node=written)
    pipe.exec("true")
    Fluxlet(object(), pipe.save(), reserve_broker_node=asked)
    assert reserved == [taken]
