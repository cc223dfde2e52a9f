"""When a run has warm workers, and what is said where it cannot."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from matensemble.errors import ExecutorUnavailableError
from matensemble.protocols import RunOptions
from matensemble.runtime.executors import selection
from matensemble.runtime.executors.pool_executor import PoolExecutor
from matensemble.runtime.executors.selection import check_executor, select_executor

LOGGER = logging.getLogger("matensemble.test")


def select(**options: Any) -> Any:
    options = {"executor": "local", **options}
    return select_executor(RunOptions(**options), run_label="/run", logger=LOGGER, environ={})


@pytest.mark.parametrize("workers", ["auto", "pool", "job"])
@pytest.mark.parametrize("executor", ["local", "flux"])
def test_every_run_can_have_warm_workers(executor: str, workers: str) -> None:
    """Also one that asks for jobs: a single chore may ask for them."""
    assert isinstance(select(executor=executor, workers=workers), PoolExecutor)


@pytest.mark.parametrize("workers", ["auto", "job"])
def test_a_run_that_does_not_ask_for_them_needs_no_library(
    monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    monkeypatch.setattr(selection, "find_spec", lambda name: None)
    assert select(workers=workers).name == "local"
    check_executor(RunOptions(executor="local"), {})


def test_a_run_that_asks_for_them_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(selection, "find_spec", lambda name: None)
    install = r"pip install 'matensemble-worker\[pool\]'"
    with pytest.raises(ExecutorUnavailableError, match=install):
        select(workers="pool")
    with pytest.raises(ExecutorUnavailableError, match=install):
        check_executor(RunOptions(executor="local", workers="pool"), {})


def test_the_pool_learns_the_settings_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(selection, "PoolExecutor", lambda inner, options: made.append(options))
    select(executor="flux", script_dir=Path("/scripts"), recycle_after=3)
    select()
    flux, local = made
    assert (flux.run.root, flux.epoch, flux.is_remote) == (Path("/run"), 1, True)
    assert (flux.script_dir, flux.recycle_after) == (Path("/scripts"), 3)
    assert (local.is_remote, local.script_dir, local.recycle_after) == (False, None, 0)
