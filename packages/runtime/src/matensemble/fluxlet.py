"""A chore as a Flux job, for those who drive Flux themselves.

Owns no state of a run: it turns a `Chore` into the jobspec that the Flux executor would submit, and
hands it to a `flux.job.FluxExecutor`. Runs made with `Pipeline.submit` do not come this way, since
one watch a job costs the broker more than the journal that `FluxManager` follows; the jobspec is
made by the same code.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matensemble import wire, workdir
from matensemble.chore import Chore
from matensemble.errors import ResultCorruptError, ResultMissingError
from matensemble.model import ChoreState, ChoreType, Reason
from matensemble.runtime.executors.flux import connect, load_flux, survey
from matensemble.runtime.executors.flux_jobs import make_empty
from matensemble.runtime.executors.jobspec import JobspecEncoder
from matensemble.runtime.launch import Preparer
from matensemble.runtime.scheduler.instructions import Submit
from matensemble.workflow import Workflow


class Fluxlet:
    """Submits the chores of one saved run through a `flux.job.FluxExecutor`.

    The caller keeps the order: a chore is submitted once the chores it depends on have completed.

    Parameters
    ----------
    handle
        A `flux.Flux` of the instance, used only here and only on this thread; None opens one on the
        instance around this process.
    run_dir
        The run directory that `Pipeline.save` wrote; the current directory if not given.
    reserve_broker_node
        Whether rank 0 is left to the broker where there are more nodes; None takes the choice of
        the pipeline.
    set_cpu_affinity
        Whether each task is bound to its own cores.
    set_gpu_affinity
        Whether each task of a chore with GPUs sees only its own.
    mpi_pmi
        Flux shell option ``pmi`` of MPI chores.
    script_dir
        Directory appended to the workers' import path; None appends none.

    Raises
    ------
    ExecutorUnavailableError
        If Flux cannot be used here; the message says what to do.
    RunDirectoryError, FormatError
        If `run_dir` holds no saved run.

    Examples
    --------
    Inside an allocation::

        from flux.job import FluxExecutor

        fluxlet = Fluxlet(run_dir=run_dir)
        with FluxExecutor() as executor:
            for chore in fluxlet.chores:  # in topological order
                future = fluxlet.submit(executor, chore)
                print(chore.id, future.result())
    """

    def __init__(
        self,
        handle: Any = None,
        run_dir: str | os.PathLike[str] = ".",
        *,
        reserve_broker_node: bool | None = None,
        set_cpu_affinity: bool = True,
        set_gpu_affinity: bool = False,
        mpi_pmi: str = "pmi2",
        script_dir: Path | None = None,
    ) -> None:
        workflow = Workflow.read(Path(run_dir))
        self.chores: tuple[Chore, ...] = tuple(workflow.chores())
        """The saved chores, each after those it depends on."""
        if reserve_broker_node is None:
            reserve_broker_node = workflow.manifest.reserve_broker_node
        instance = survey(connect() if handle is None else handle, reserve_broker_node)
        self._encoder = JobspecEncoder(
            run=str(workflow.run.root.resolve()),
            epoch=0,  # where a driver runs this workflow too, the chores are its own
            environ=os.environ,
            set_cpu_affinity=set_cpu_affinity,
            set_gpu_affinity=set_gpu_affinity,
            mpi_pmi=mpi_pmi,
            ranks=instance.ranks,
            barred=instance.barred,
        )
        self._graph = _Graph(workflow, self.chores)
        self._preparer = Preparer(workflow, self._graph, script_dir)

    def jobspec(self, chore: Chore, attempt: int = 1) -> Any:
        """Return a chore as `flux.job.JobspecV1`; writes its directory and records first.

        Parameters
        ----------
        chore
            A chore of this run.
        attempt
            From 1.

        Raises
        ------
        OSError
            If the chore's directory cannot be written.
        ValueError
            If an argument holds what Flux cannot take (NUL, or bytes that are not UTF-8).
        """
        return load_flux().job.JobspecV1(**self._encoder.document(self._prepare(chore, attempt)))

    def submit(self, executor: Any, chore: Chore, *, attempt: int = 1, **options: Any) -> Any:
        """Submit a chore and return at once.

        Parameters
        ----------
        executor
            A `flux.job.FluxExecutor`.
        chore
            A chore of this run whose dependencies have completed.
        attempt
            From 1.
        **options
            Passed on to ``executor.submit``: ``urgency``, ``waitable``.

        Returns
        -------
        flux.job.FluxExecutorFuture
            Its result is the exit code: 128 + n where a task was ended by signal n, ``-n`` where
            the job shell was.

        Raises
        ------
        OSError, ValueError
            As `jobspec`.
        """
        jobspec = self._encoder.encode(self._prepare(chore, attempt))
        future = executor.submit(jobspec, novalidate=True, **options)
        self._graph.futures[chore.id] = future
        return future

    def _prepare(self, chore: Chore, attempt: int) -> Any:
        request = self._preparer.prepare(Submit(chore, attempt, None))
        for path in (request.stdout_path, request.stderr_path):
            make_empty(path)
        return request


@dataclass(frozen=True, slots=True)
class _Standing:
    """A chore and where it stands, as the disk and the futures tell."""

    chore: Chore
    state: ChoreState
    exit_code: int | None
    attempt: int = 1
    reason: Reason | None = None
    detail: str = ""
    root: str | None = None


class _Graph:
    """Where chores stand when no scheduler keeps count."""

    def __init__(self, workflow: Workflow, chores: Sequence[Chore]) -> None:
        self._run = workflow.run
        self._chores = {chore.id: chore for chore in chores}
        self.futures: dict[str, Any] = {}

    def entry(self, chore_id: str) -> _Standing:
        """Return a chore and where it stands; raises KeyError for an unknown id."""
        chore = self._chores[chore_id]
        future: Any = self.futures.get(chore_id)
        exit_code: int | None = None
        if future is not None and future.done() and future.exception() is None:
            exit_code = future.result()
        if chore.kind is ChoreType.PYTHON:
            has_completed = self._has_result(chore_id)
        else:
            has_completed = exit_code in chore.success_codes
        state = ChoreState.COMPLETED if has_completed else ChoreState.SUBMITTED
        return _Standing(chore, state, exit_code)

    def members(self, group: str) -> list[_Standing]:
        """Return the chores of a group."""
        return [self.entry(chore.id) for chore in self._chores.values() if chore.name == group]

    def _has_result(self, chore_id: str) -> bool:
        path = self._run.chore_file(chore_id, workdir.RESULT)
        try:
            wire.check_result(path, chore_id)
        except (ResultMissingError, ResultCorruptError):
            return False
        return True
