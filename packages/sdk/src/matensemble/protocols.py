"""What `Pipeline.submit` needs of a runtime, which it finds by entry point.

Owns the settings of a run, validated when they are made, because both sides of that door need them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from matensemble.errors import InvalidOptionError, RuntimeMissingError, UnknownExecutorError
from matensemble.model import parse_duration

if TYPE_CHECKING:
    from matensemble.results import Results

ENTRY_POINT_GROUP = "matensemble.runtimes"
EXECUTORS = ("auto", "local", "flux")
_PMI = re.compile(r"[A-Za-z0-9_.-]+(,[A-Za-z0-9_.-]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a run directory is to be run.

    Raises
    ------
    UnknownExecutorError, InvalidOptionError
        If a value is impossible.
    """

    executor: str | None = None
    """``"local"``, ``"flux"`` or ``"auto"``; None takes ``MATENSEMBLE_EXECUTOR``, else auto."""
    cores: int | None = None
    """Cores of the local executor; None takes ``MATENSEMBLE_CORES``, else those of this process."""
    gpus: int | None = None
    """GPUs of the local executor; None takes ``MATENSEMBLE_GPUS``, else those that are visible."""
    buffer_time: float = 1.0
    """Seconds that one round of a processing strategy waits for completions, above 0."""
    log_delay: float = 5.0
    """Seconds between two progress lines in the log, at least; 0 logs at every change."""
    set_cpu_affinity: bool = True
    """Whether each chore is bound to its own cores."""
    set_gpu_affinity: bool = False
    """Whether each task of a chore with GPUs sees its own GPUs only."""
    adaptive: bool = True
    """Whether what becomes ready starts at once; else a wave ends before the next starts."""
    processing_strategy: Any = None
    """A `FutureProcessingStrategy` class or instance; overrides `adaptive`."""
    fail_fast: bool = False
    """Whether the first failure stops the run."""
    progress: bool = False
    """Whether progress is shown on the terminal or in the notebook."""
    dashboard: bool | Mapping[str, Any] = False
    """Whether to serve the dashboard; a mapping, also an empty one, serves it and sets ``host``
    (text) and ``port`` (0 to 65535; 0 takes a free one)."""
    reserve_broker_node: bool | None = None
    """Whether Flux rank 0 is left to the broker; None takes the pipeline's choice."""
    mpi_pmi: str = "pmi2"
    """Flux shell option ``pmi`` of MPI chores: one name, or several separated by commas."""
    script_dir: Path | None = None
    """Directory of the user's script, appended to the workers' import path; None appends none."""

    def __post_init__(self) -> None:
        if self.executor is not None and self.executor not in EXECUTORS:
            raise UnknownExecutorError(self.executor, EXECUTORS)
        for name, minimum in (("cores", 1), ("gpus", 0)):
            value = getattr(self, name)
            if value is not None and (
                not isinstance(value, int) or isinstance(value, bool) or value < minimum
            ):
                raise InvalidOptionError(name, value, f"an integer of at least {minimum}, or None")
        object.__setattr__(self, "buffer_time", parse_duration(self.buffer_time, "buffer_time"))
        if (
            isinstance(self.log_delay, bool)
            or not isinstance(self.log_delay, (int, float))
            or (not 0 <= self.log_delay < float("inf"))
        ):
            raise InvalidOptionError("log_delay", self.log_delay, "seconds, 0 or more")
        for name in ("set_cpu_affinity", "set_gpu_affinity", "adaptive", "fail_fast", "progress"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidOptionError(name, getattr(self, name), "True or False")
        if self.reserve_broker_node is not None and not isinstance(self.reserve_broker_node, bool):
            raise InvalidOptionError(
                "reserve_broker_node", self.reserve_broker_node, "True, False or None"
            )
        if not isinstance(self.mpi_pmi, str) or not _PMI.fullmatch(self.mpi_pmi):
            raise InvalidOptionError("mpi_pmi", self.mpi_pmi, "a name such as 'pmi2' or 'pmix'")
        object.__setattr__(self, "dashboard", _check_dashboard(self.dashboard))


def _check_dashboard(options: object) -> bool | Mapping[str, Any]:
    """Return the option `dashboard`, a mapping as a copy, after checking it."""
    if isinstance(options, bool):
        return options
    if not isinstance(options, Mapping) or not options.keys() <= {"host", "port"}:
        raise InvalidOptionError("dashboard", options, "True, False, or a mapping of host and port")
    host, port = options.get("host", "localhost"), options.get("port", 0)
    if not isinstance(host, str) or not host:
        raise InvalidOptionError("dashboard host", host, "text")
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
        raise InvalidOptionError("dashboard port", port, "an integer from 0 to 65535")
    return dict(options) or True


class RunFuture(Future["Results"]):
    """Future of a whole run, which also tells when a single chore has ended.

    Parameters
    ----------
    ask
        Called with a chore id and the future to answer when that chore ends; from any thread.
    """

    def __init__(self, ask: Callable[[str, Future[Results]], None]) -> None:
        super().__init__()
        self._ask = ask

    def when_ended(self, chore_id: str) -> Future[Results]:
        """Return the future of one chore: results that hold at least its own.

        Its exception is that of the run, where the run ends before the chore does.
        """
        answer: Future[Results] = Future()
        answer.set_running_or_notify_cancel()  # the driver's to answer: it cannot be cancelled
        self._ask(chore_id, answer)
        self.add_done_callback(lambda run: _answer_late(run, chore_id, answer))
        return answer


def _answer_late(run: Future[Results], chore_id: str, answer: Future[Results]) -> None:
    """Answer for a driver that has gone; it answers on the thread that ends the run, or never."""
    if answer.done():
        return
    error = run.exception()
    if error is None:
        answer.set_result(run.result())
    else:
        answer.set_exception(error)


class Runtime(Protocol):
    """A runtime, as the entry point `matensemble.runtimes` names it."""

    def check(self, options: RunOptions) -> None:
        """Check, before anything is written, that a run with these settings could start here.

        Raises
        ------
        InvalidOptionError, UnknownExecutorError
            If a setting, or an environment variable that stands for one, is impossible.
        ExecutorUnavailableError, DashboardMissingError
            If what was asked for cannot be used here.
        """

    def run(self, run_dir: Path, options: RunOptions) -> Results:
        """Run a saved run to its end on the calling thread and return its results.

        Raises
        ------
        RunInterruptedError, RunFailedError
            If it ended before its chores did.
        MatEnsembleError
            As `submit`.
        """

    def submit(self, run_dir: Path, options: RunOptions) -> RunFuture:
        """Start a saved run in the background and return at once.

        Returns
        -------
        Future
            Its result maps chore ids to results; its exception is `RunInterruptedError` or
            `RunFailedError`.

        Raises
        ------
        MatEnsembleError
            If the run cannot be started: the directory was started already, the executor is not
            available, the environment does not fit.
        """


def find_runtime() -> Runtime:
    """Return the runtime that is installed here; of several, the one named ``default``.

    Raises
    ------
    RuntimeMissingError
        If there is none.
    """
    found = sorted(
        entry_points(group=ENTRY_POINT_GROUP), key=lambda e: (e.name != "default", e.name)
    )
    if not found:
        raise RuntimeMissingError
    return cast(Runtime, found[0].load())
