"""The builder of an ensemble: record chores, look at the graph, save, submit, read the results.

Owns the order of these steps and nothing else: what a chore is, how it is frozen, the graph, the
files and the results have modules of their own, and running is the runtime's, which is found by
entry point. Importing this module loads neither flux nor a plotting or numerical library.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, cast

from matensemble import dag, drawing
from matensemble.chore import ChoreRegistry
from matensemble.draft import Draft
from matensemble.errors import (
    ChoreFailedError,
    EmptyPipelineError,
    InvalidOptionError,
    NotSubmittedError,
    PipelineSubmittedError,
    RunInterruptedError,
)
from matensemble.installation import check_installation
from matensemble.protocols import RunFuture, RunKeywords, RunOptions, find_runtime
from matensemble.recording import Recording
from matensemble.references import Gather
from matensemble.results import Results
from matensemble.reuse import check_wish
from matensemble.runs import find_run
from matensemble.session import script_dir
from matensemble.snapshot import save_draft
from matensemble.workflow import Workflow

if TYPE_CHECKING:
    from typing import Unpack

    import networkx as nx

    from matensemble.references import Dependency


class Pipeline(Recording):
    """An ensemble in the making: a directed acyclic graph of chores.

    As a context manager it waits for a submitted run at the end of the block; it never submits by
    itself. Where the block raises, it does not wait, so that the error is seen at once.

    Parameters
    ----------
    basedir
        Where the run directory is created; None means the current directory.
    registry
        Callables that were registered elsewhere, for `call` and strategies; None starts empty.
    by_value
        Modules whose functions and classes travel to the workers by value, because the compute
        environment lacks them. The module of a decorated function does so anyway, unless it is an
        installed one.
    reserve_broker_node
        Whether Flux rank 0 is left to the broker where the instance has more nodes.
    name
        What people call it; None takes the name of the run directory.
    resume
        Earlier run whose results are taken over where code and arguments are the same:
        ``"latest"`` is the newest one in `basedir`, a path names a run or a folder of runs; None
        takes over nothing. This is a new run all the same; `Pipeline.resume` goes on with an old
        one.
    cache_dir
        Directory in which results are kept for other runs of this user, and looked up; None keeps
        none.

    Raises
    ------
    InvalidOptionError
        If a value is impossible.
    RunDirectoryError
        If `resume` names a directory that does not exist.
    ConflictingInstallationError
        If a MatEnsemble 0.5 in the same environment hides parts of this one.
    """

    def __init__(
        self,
        basedir: str | os.PathLike[str] | None = None,
        registry: ChoreRegistry | None = None,
        *,
        by_value: Sequence[ModuleType] = (),
        reserve_broker_node: bool = True,
        name: str | None = None,
        resume: str | os.PathLike[str] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        check_installation()
        if registry is not None and not isinstance(registry, ChoreRegistry):
            raise InvalidOptionError("registry", registry, "a ChoreRegistry or None")
        if not isinstance(reserve_broker_node, bool):
            raise InvalidOptionError("reserve_broker_node", reserve_broker_node, "True or False")
        if name is not None and not isinstance(name, str):
            raise InvalidOptionError("name", name, "text or None")
        self.basedir = Path.cwd() if basedir is None else Path(basedir).absolute()
        super().__init__(Draft(self.basedir), ChoreRegistry() if registry is None else registry)
        self.registry.ship_by_value(by_value)
        self.reserve_broker_node = reserve_broker_node
        self.name = name
        self._wish = check_wish(resume, cache_dir)
        self._saved: Workflow | None = None
        self._future: RunFuture | None = None

    def _check_open(self, action: str) -> None:
        if self._saved is not None:
            raise PipelineSubmittedError(action, str(self._saved.run.root))

    # --- the graph ----------------------------------------------------------------------------

    def graph(
        self, output_path: str | os.PathLike[str] | None = None, show: bool = False
    ) -> nx.DiGraph[str]:
        """Return the graph with an edge upstream → downstream, and draw it where a path is given.

        Nodes are chore ids with the attributes ``name`` (group), ``kind`` and, where a chore
        gathers groups, ``gathers``.

        Parameters
        ----------
        output_path
            ``.mmd`` or ``.md`` for Mermaid text, ``.png``, ``.svg`` or ``.pdf`` for a picture
            (needs the extra ``matensemble-sdk[draw]``); None draws no file.
        show
            Whether to show the picture on the screen or in the notebook.

        Raises
        ------
        UnknownReferenceError, CycleError
            If the graph is none that could run.
        InvalidOptionError
            If the suffix of the path is another one.
        MissingExtraError
            If a picture is wanted and matplotlib is not installed.
        FormatError, RunDirectoryError
            If a loaded pipeline cannot be read.
        """
        rows = list(self._rows())
        graph, _ = dag.build_graph((row[0], row[3]) for row in rows)
        for chore_id, name, kind, _, gathers in rows:
            graph.nodes[chore_id].update(name=name, kind=kind)
            if gathers:
                graph.nodes[chore_id]["gathers"] = gathers
        if output_path is not None:
            drawing.draw(graph, Path(output_path))
        if show:
            drawing.show(graph)
        return graph

    def _rows(self) -> Iterator[tuple[str, str, str, Sequence[str], tuple[str, ...]]]:
        """Yield id, group, kind, upstream ids and gathered groups of each chore."""
        if self._saved is not None:
            for chore in self._saved.chores():
                yield chore.id, chore.name, chore.kind.value, chore.upstream, chore.gathers
            return
        draft = self._draft
        for index, (chore_id, template) in enumerate(zip(draft.ids, draft.templates, strict=True)):
            gathers = draft.gathers.get(index, ())
            yield chore_id, template.name, template.kind, draft.upstream(index), gathers

    # --- saving and loading -------------------------------------------------------------------

    @property
    def run_dir(self) -> Path | None:
        """The run directory, or None before the pipeline is saved or submitted."""
        return None if self._saved is None else self._saved.run.root

    def save(self) -> Path:
        """Write the self-contained run directory and return its path.

        ``matensemble run PATH`` runs it, here or in another place with the same versions of Python
        and cloudpickle. Nothing can be recorded afterwards; `submit` runs what was written.

        Raises
        ------
        EmptyPipelineError
            If there are no chores.
        UnknownReferenceError, CycleError
            If the graph is none that could run.
        UnknownNameError
            If a gather or a strategy names a group that nothing can be part of.
        UnpicklableError, ReferenceUseError
            If a function cannot travel to the workers.
        RunDirectoryError
            If it cannot be written.
        """
        if self._saved is None:
            self._saved = save_draft(
                self._draft,
                self.basedir,
                self.registry,
                functions=self._functions,
                strategies=self._strategies,
                name=self.name,
                reserve_broker_node=self.reserve_broker_node,
                wish=self._wish,
            )
        return self._saved.run.root

    @classmethod
    def load(cls, run_dir: str | os.PathLike[str]) -> Self:
        """Return a saved pipeline: to look at its graph, to submit it, to read its results.

        No argument and no function is unpickled. Nothing can be recorded.

        Raises
        ------
        RunDirectoryError, FormatError
            If the directory is not a saved pipeline, or is damaged.
        """
        saved = Workflow.read(run_dir)
        pipeline = cls(
            saved.run.root.parent,
            reserve_broker_node=saved.manifest.reserve_broker_node,
            name=saved.manifest.name,
        )
        pipeline._saved = saved
        return pipeline

    # --- running ------------------------------------------------------------------------------

    def submit(
        self,
        buffer_time: float = 1.0,
        log_delay: float = 5.0,
        set_cpu_affinity: bool = True,
        set_gpu_affinity: bool = False,
        adaptive: bool = True,
        processing_strategy: Any = None,
        dashboard: bool | Mapping[str, Any] = False,
        *,
        executor: str | None = None,
        cores: int | None = None,
        gpus: int | None = None,
        fail_fast: bool = False,
        max_failures: int | None = None,
        keep: Literal["all", "failed", "results"] = "all",
        workers: Literal["auto", "pool", "job"] = "auto",
        recycle_after: int = 0,
        walltime: float | str | None = None,
        margin: float | str | None = None,
        drain_signal: str | int | None = None,
        progress: bool = False,
        mpi_pmi: str = "pmi2",
    ) -> Future[Results]:
        """Save the pipeline where that was not done, start the run, and return at once.

        Parameters
        ----------
        buffer_time, log_delay, set_cpu_affinity, set_gpu_affinity, adaptive, processing_strategy
            As in `RunOptions`.
        dashboard, executor, cores, gpus, fail_fast, max_failures, keep
            As in `RunOptions`.
        workers, recycle_after, walltime, margin, drain_signal, progress, mpi_pmi
            As in `RunOptions`.

        Returns
        -------
        Future
            Its result maps chore ids to results; failed chores have a `ChoreFailedError` as their
            value. Its exception is `RunInterruptedError` or `RunFailedError`.

        Raises
        ------
        PipelineSubmittedError
            If it was submitted before.
        UnknownExecutorError, InvalidOptionError
            If an option is impossible; nothing was written.
        RuntimeMissingError, DashboardMissingError, ExecutorUnavailableError
            If what is asked for is not installed or does not answer here; nothing was written.
        MatEnsembleError
            What `save` raises, and what the runtime raises where it cannot start.
        """
        keywords = RunKeywords(
            executor=executor,
            cores=cores,
            gpus=gpus,
            buffer_time=buffer_time,
            log_delay=log_delay,
            set_cpu_affinity=set_cpu_affinity,
            set_gpu_affinity=set_gpu_affinity,
            adaptive=adaptive,
            processing_strategy=processing_strategy,
            fail_fast=fail_fast,
            max_failures=max_failures,
            keep=keep,
            workers=workers,
            recycle_after=recycle_after,
            walltime=walltime,
            margin=margin,
            drain_signal=drain_signal,
            progress=progress,
            dashboard=dashboard,
            mpi_pmi=mpi_pmi,
        )
        return self._start(keywords, resume=False)

    def _start(self, keywords: RunKeywords, *, resume: bool) -> RunFuture:
        if self._future is not None and self._saved is not None:
            raise PipelineSubmittedError("submitting it again", str(self._saved.run.root))
        options = RunOptions(
            **keywords,  # type: ignore[arg-type]  # durations and signals may be text here
            resume=resume,
            script_dir=script_dir(),
        )
        if self._saved is None and not len(self._draft):
            raise EmptyPipelineError
        runtime = find_runtime()
        runtime.check(options)
        self._future = runtime.submit(self.save(), options)
        return self._future

    @classmethod
    def resume(cls, run_dir: str | os.PathLike[str], **keywords: Unpack[RunKeywords]) -> Self:
        """Go on with a run that ended early, and return its pipeline at once.

        Chores that completed are not run again, unless their result is gone or damaged. Those that
        were running are looked up where they run, and what cannot be found there becomes their
        next attempt. A run that was saved only is started. ``matensemble resume DIR`` does the
        same from a shell.

        Parameters
        ----------
        run_dir
            A run directory, or a folder of runs, of which the newest is taken.
        **keywords
            As for `submit`; and ``takeover=True`` to take the run from a driver that may be alive
            without waiting whether it is, ``recover=True`` to go on behind damaged lines of its
            journal.

        Raises
        ------
        RunDirectoryError, FormatError
            If there is no run, or it cannot be read.
        MatEnsembleError
            As `submit`; and if its driver is alive.
        """
        pipeline = cls.load(find_run(Path(run_dir)).root)
        pipeline._start(keywords, resume=True)
        return pipeline

    def results(self, timeout: float | None = 100) -> Results:
        """Wait for the run and return its results, or read those of a loaded pipeline.

        Parameters
        ----------
        timeout
            Seconds to wait at most; None waits without limit. A loaded pipeline that was not
            submitted here has nothing to wait for: what has ended so far is read from its journal.

        Raises
        ------
        TimeoutError
            If the run has not ended in time.
        RunInterruptedError, RunFailedError
            If it ended before its chores did.
        NotSubmittedError
            If nothing was submitted.
        """
        if self._future is not None:
            return self._wait(self._future, timeout, "the run")
        if self._saved is not None:
            with suppress(FileNotFoundError):  # it was not started
                return Results.read(self._saved.run)
        raise NotSubmittedError("the results of this pipeline")

    def wait_result(self, dependency: Dependency, timeout: float | None) -> Any:
        """Return the result of a chore or a gather; `OutputReference.result` calls this."""
        if self._future is None:
            raise NotSubmittedError(f"the result of {dependency}")
        if isinstance(dependency, Gather):
            return self._wait(self._future, timeout, "the run").gather(dependency.name)
        chore_id = cast(str, dependency)
        try:
            results = self._wait(self._future.when_ended(chore_id), timeout, chore_id)
        except RunInterruptedError:
            results = Results.read(cast(Workflow, self._saved).run)
            if chore_id not in results:
                raise
        value = results[chore_id]
        if isinstance(value, ChoreFailedError):
            raise value
        return value

    def _wait(self, future: Future[Results], timeout: float | None, what: str) -> Results:
        try:
            return future.result(timeout)
        except TimeoutError:
            if future.done():  # it is the answer, then
                raise
            raise TimeoutError(
                f"{what} has not ended within {timeout:g} s, and goes on in {self.run_dir}; "
                "ask again later, or with timeout=None to wait without limit"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None and self._future is not None:
            self._future.result()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Pipeline stays where it is written; it cannot travel to a worker")

    def __repr__(self) -> str:
        where = "not saved" if self._saved is None else str(self._saved.run.root)
        num = (
            len(self._draft)
            if self._saved is None or len(self._draft)
            else (self._saved.manifest.num_chores)
        )
        return f"<Pipeline of {num} chores, {where}>"
