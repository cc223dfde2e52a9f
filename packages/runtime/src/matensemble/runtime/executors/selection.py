"""Which executor runs a workflow here.

An explicit choice, else ``MATENSEMBLE_EXECUTOR``, else Flux where a broker answers and the
instance is ours, else this machine. The choice and its reason are logged.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from matensemble import environment
from matensemble.errors import UnknownExecutorError
from matensemble.protocols import EXECUTORS, RunOptions
from matensemble.runtime.executors import flux
from matensemble.runtime.executors.base import Executor
from matensemble.runtime.executors.flux_executor import FluxExecutor
from matensemble.runtime.executors.local import LocalExecutor


def select_executor(
    options: RunOptions,
    *,
    run_name: str,
    logger: logging.Logger,
    environ: Mapping[str, str] = os.environ,
) -> Executor:
    """Return the executor for a run, not open yet.

    Raises
    ------
    UnknownExecutorError
        If ``MATENSEMBLE_EXECUTOR`` names none.
    ExecutorUnavailableError
        If Flux was asked for and cannot be used here.
    """
    choice = options.executor or environ.get(environment.EXECUTOR) or "auto"
    if choice not in EXECUTORS:
        raise UnknownExecutorError(choice, EXECUTORS)
    why = "it was asked for"
    if choice == "auto":
        obstacle = flux.find_obstacle()
        choice = "local" if obstacle else "flux"
        why = f"Flux cannot be used: {obstacle}" if obstacle else "a Flux instance of ours answers"
    logger.info("executor: %s (%s)", choice, why)
    if choice == "flux":
        return FluxExecutor.from_options(options, run_name=run_name)
    return LocalExecutor.from_options(options, environ)
