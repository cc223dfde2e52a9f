"""Which executor runs a workflow here.

An explicit choice, else ``MATENSEMBLE_EXECUTOR``, else Flux where a broker answers and the
instance is ours, else this machine. The choice and its reason are logged. Around it stands the one
that serves pooled chores by warm workers; it starts none before there is such a chore.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from matensemble import environment
from matensemble.errors import ExecutorUnavailableError, UnknownExecutorError
from matensemble.protocols import EXECUTORS, RunOptions
from matensemble.runtime.executors import flux
from matensemble.runtime.executors.base import Executor
from matensemble.runtime.executors.flux_executor import FluxExecutor
from matensemble.runtime.executors.local import LocalExecutor
from matensemble.runtime.executors.pool_driver import CHANNEL_MODULE, PoolOptions
from matensemble.runtime.executors.pool_executor import PoolExecutor
from matensemble.workdir import RunDir

FLUX_VARIABLE = "FLUX_URI"
"""Set by Flux in everything that runs inside an instance."""

_ASKED = "it was asked for"


def select_executor(
    options: RunOptions,
    *,
    run_label: str,
    logger: logging.Logger,
    epoch: int = 1,
    environ: Mapping[str, str] = os.environ,
) -> Executor:
    """Return the executor for a run, not open yet.

    Parameters
    ----------
    options
        Settings of the run.
    run_label
        What no other run has, and all drivers of this one have: the absolute path of its directory.
    logger
        Of the run.
    epoch
        Of this driver of the run.
    environ
        The environment.

    Raises
    ------
    UnknownExecutorError
        If ``MATENSEMBLE_EXECUTOR`` names none.
    ExecutorUnavailableError
        If Flux or warm workers were asked for and cannot be used here.
    """
    choice, why = _choose(options, environ)
    logger.info("executor: %s (%s)", choice, why)
    if choice == "local" and FLUX_VARIABLE in environ and why != _ASKED:
        # Somebody holds an allocation and is about to use one node of it.
        logger.warning("inside a Flux instance, but on this machine only: %s", why)
        print(
            f"matensemble: this runs on this machine only, not in the Flux instance: {why}",
            file=sys.stderr,
        )
    is_flux = choice == "flux"
    executor: Executor = (
        FluxExecutor.from_options(options, run_label=run_label, epoch=epoch)
        if is_flux
        else LocalExecutor.from_options(options, environ)
    )
    _check_pool(options)
    pool = PoolOptions(
        RunDir(Path(run_label)),
        epoch=epoch,
        is_remote=is_flux,
        script_dir=options.script_dir,
        recycle_after=options.recycle_after or 0,
        binds=options.set_cpu_affinity,
    )
    return PoolExecutor(executor, pool)


def check_executor(options: RunOptions, environ: Mapping[str, str] = os.environ) -> None:
    """Check that the executor for a run can be used here, without opening it.

    Raises
    ------
    UnknownExecutorError, ExecutorUnavailableError
        As `select_executor`.
    InvalidOptionError
        If an environment variable holds no number of cores or GPUs, or more GPUs are wanted than
        the environment allows.
    """
    choice, _ = _choose(options, environ)
    _check_pool(options)
    if choice == "flux":
        flux.connect()
    else:
        LocalExecutor.from_options(options, environ).check()


def _choose(options: RunOptions, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the name of the executor, and why it is that one."""
    choice = options.executor or environ.get(environment.EXECUTOR) or "auto"
    if choice not in EXECUTORS:
        raise UnknownExecutorError(choice, EXECUTORS)
    if choice != "auto":
        return choice, _ASKED
    obstacle = flux.find_obstacle()
    if obstacle:
        return "local", f"Flux cannot be used: {obstacle}"
    return "flux", "a Flux instance of ours answers"


def _check_pool(options: RunOptions) -> None:
    """Check that a run can have the warm workers it asks for.

    One that leaves the choice to the scheduler does without where there are none.

    Raises
    ------
    ExecutorUnavailableError
        If it asks for them and what they talk by is not installed.
    """
    if options.workers == "pool" and find_spec(CHANNEL_MODULE) is None:
        raise ExecutorUnavailableError(
            "pool",
            "warm workers need pyzmq, which is not installed",
            "Install it with `pip install 'matensemble-worker[pool]'`",
        )
