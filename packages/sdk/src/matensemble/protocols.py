"""What `Pipeline.submit` needs of a runtime, which it finds by entry point.

Owns the settings of a run, validated when they are made, because both sides of that door need them.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, cast

from matensemble.errors import InvalidOptionError, RuntimeMissingError, UnknownExecutorError
from matensemble.model import parse_duration
from matensemble.policy import WORKERS

if TYPE_CHECKING:
    from matensemble.results import Results

ENTRY_POINT_GROUP = "matensemble.runtimes"
EXECUTORS = ("auto", "local", "flux")
KEEP = ("all", "failed", "results")
_SWITCHES = (
    "set_cpu_affinity", "set_gpu_affinity", "adaptive", "fail_fast", "progress", "resume",
    "takeover", "recover",
)  # fmt: skip
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
    """Whether the first failure stops the run: the same as ``max_failures=1``."""
    max_failures: int | None = None
    """Number of failed chores that stops the run, at least 1; consequences of a failure and chores
    whose failure is ignored do not count. None never stops it."""
    keep: Literal["all", "failed", "results"] = "all"
    """Which files of chores that ended stay: ``"all"``; with ``"failed"``, of completed chores the
    result only (of a program: declared outputs, stdout and stderr); with ``"results"`` also, of
    the others, only `error.json` and the ends of stdout and stderr."""
    workers: Literal["auto", "pool", "job"] | None = None
    """What runs chores that do not say so themselves: ``"pool"``, warm workers that serve one chore
    after the other; ``"job"``, a job of its own for each; ``"auto"``: warm workers for the groups
    whose chores take little more time than a process takes to start. None: as the driver before,
    where a run is resumed; else auto."""
    recycle_after: int | None = None
    """Python chores after which a warm worker takes a fresh process for the next; 0: never, as long
    as the process is sound. None: as the driver before; else 0."""
    walltime: float | None = None
    """Seconds (or text like ``"4h"``) from the start of the driver to the end of the allocation;
    None asks the executor and the environment, and where these do not know, there is no end."""
    margin: float | None = None
    """Seconds (or text) before that end at which nothing more starts and what runs is signalled,
    0 or more; None: 60 s, or a tenth of the time left where that is less."""
    drain_signal: int | None = None
    """Signal that tells what runs of that end, by number or name (``"USR1"``); None sends none."""
    resume: bool = False
    """Whether to go on with a run that was started before (one that was not is started); else
    such a run is refused."""
    takeover: bool = False
    """Whether to take a run that is resumed from a driver that may be alive, without waiting
    whether it is."""
    recover: bool = False
    """Whether to go on behind damaged lines of the journal of a run that is resumed."""
    progress: bool = False
    """Whether progress is shown on the terminal or in the notebook."""
    dashboard: bool | Mapping[str, Any] = False
    """Whether to serve the dashboard; a mapping, also an empty one, serves it and sets ``host``
    (text) and ``port`` (0 to 65535; 0 takes a free one), or ``socket`` (path of a unix socket, in a
    directory that is yours alone); ``allow_actions`` (bool: whether it may also pause, cancel and
    retry; else it only shows) and ``keep`` (bool: whether it stays when the run has ended)."""
    reserve_broker_node: bool | None = None
    """Whether Flux rank 0 is left to the broker; None takes the pipeline's choice."""
    mpi_pmi: str = "pmi2"
    """Flux shell option ``pmi`` of MPI chores: one name, or several separated by commas."""
    script_dir: Path | None = None
    """Directory of the user's script, appended to the workers' import path; None appends none."""

    def __post_init__(self) -> None:
        if self.executor is not None and self.executor not in EXECUTORS:
            raise UnknownExecutorError(self.executor, EXECUTORS)
        for name, minimum in (
            *(("cores", 1), ("gpus", 0), ("max_failures", 1)),
            ("recycle_after", 0),
        ):
            value = getattr(self, name)
            if value is not None and not _is_count(value, minimum):
                raise InvalidOptionError(name, value, f"an integer of at least {minimum}, or None")
        for name, known in (("keep", KEEP), ("workers", (*WORKERS, None))):
            value = getattr(self, name)
            if value not in known:
                raise InvalidOptionError(name, value, " or ".join(map(repr, known)))
        object.__setattr__(self, "buffer_time", parse_duration(self.buffer_time, "buffer_time"))
        if (
            isinstance(self.log_delay, bool)
            or not isinstance(self.log_delay, (int, float))
            or (not 0 <= self.log_delay < float("inf"))
        ):
            raise InvalidOptionError("log_delay", self.log_delay, "seconds, 0 or more")
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise InvalidOptionError(name, getattr(self, name), "True or False")
        self._check_end()
        if self.reserve_broker_node is not None and not isinstance(self.reserve_broker_node, bool):
            raise InvalidOptionError(
                "reserve_broker_node", self.reserve_broker_node, "True, False or None"
            )
        if not isinstance(self.mpi_pmi, str) or not _PMI.fullmatch(self.mpi_pmi):
            raise InvalidOptionError("mpi_pmi", self.mpi_pmi, "a name such as 'pmi2' or 'pmix'")
        object.__setattr__(self, "dashboard", _check_dashboard(self.dashboard))

    def _check_end(self) -> None:
        """Check what may end the run early, and how an earlier one is gone on with."""
        if self.fail_fast:
            if self.max_failures not in (None, 1):
                raise InvalidOptionError("max_failures", self.max_failures, "1 beside fail_fast")
            object.__setattr__(self, "max_failures", 1)
        for name in ("walltime", "margin"):
            value = getattr(self, name)
            if value is not None and (name, value) != ("margin", 0):
                object.__setattr__(self, name, parse_duration(value, name))
        if self.walltime is not None and self.margin is not None and self.margin >= self.walltime:
            raise InvalidOptionError(
                "margin", self.margin, f"less than walltime={self.walltime:g}, or nothing starts"
            )
        object.__setattr__(self, "drain_signal", _check_signal(self.drain_signal))
        for name in ("takeover", "recover"):
            if getattr(self, name) and not self.resume:
                raise InvalidOptionError(name, True, "given together with resume=True")


class RunKeywords(TypedDict, total=False):
    """The fields of `RunOptions` that a user gives, as keywords of `Pipeline.resume`."""

    buffer_time: float
    log_delay: float
    set_cpu_affinity: bool
    set_gpu_affinity: bool
    adaptive: bool
    processing_strategy: Any
    dashboard: bool | Mapping[str, Any]
    executor: str | None
    cores: int | None
    gpus: int | None
    fail_fast: bool
    max_failures: int | None
    keep: Literal["all", "failed", "results"]
    workers: Literal["auto", "pool", "job"] | None
    recycle_after: int | None
    walltime: float | str | None
    margin: float | str | None
    drain_signal: str | int | None
    progress: bool
    mpi_pmi: str
    takeover: bool
    recover: bool


def _is_count(value: object, minimum: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum


def _check_signal(given: object) -> int | None:
    """Return the number of a signal that is given by number or name; None is none.

    KILL and STOP are refused: nobody can be told something by them.
    """
    if given is None:
        return None
    found: signal.Signals | None = None
    if isinstance(given, str):
        name = given.strip().upper()
        name = name if name.startswith("SIG") else f"SIG{name}"
        found = signal.Signals.__members__.get(name)
    elif isinstance(given, int) and not isinstance(given, bool):
        found = next((known for known in signal.Signals if known == given), None)
    if found is None or found in (signal.SIGKILL, signal.SIGSTOP):
        raise InvalidOptionError(
            "drain_signal", given, "a signal that a program can catch, such as 'USR1' or 10"
        )
    return int(found)


_DASHBOARD_KEYS = ("host", "port", "socket", "allow_actions", "keep")


def _check_dashboard(options: object) -> bool | Mapping[str, Any]:
    """Return the option `dashboard`, a mapping as a copy, after checking it."""
    if isinstance(options, bool):
        return options
    if not isinstance(options, Mapping) or not options.keys() <= set(_DASHBOARD_KEYS):
        expected = f"True, False, or a mapping with the keys {', '.join(_DASHBOARD_KEYS)}"
        raise InvalidOptionError("dashboard", options, expected)
    host, port = options.get("host", "localhost"), options.get("port", 0)
    if not isinstance(host, str) or not host:
        raise InvalidOptionError("dashboard host", host, "text")
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
        raise InvalidOptionError("dashboard port", port, "an integer from 0 to 65535")
    for name in ("allow_actions", "keep"):
        if not isinstance(options.get(name, False), bool):
            raise InvalidOptionError(f"dashboard {name}", options[name], "True or False")
    if "socket" not in options:
        return dict(options) or True
    socket = options["socket"]
    if not isinstance(socket, (str, Path)) or not str(socket):
        raise InvalidOptionError("dashboard socket", socket, "a path")
    if options.keys() & {"host", "port"}:
        raise InvalidOptionError("dashboard", options, "a mapping with socket, or host and port")
    return {**options, "socket": str(Path(socket).expanduser().absolute())}


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

        With ``options.resume`` also one that was started before: chores that completed stay so.

        Raises
        ------
        RunInterruptedError, RunFailedError
            If it ended before its chores did.
        MatEnsembleError
            As `submit`.
        """

    def submit(self, run_dir: Path, options: RunOptions) -> RunFuture:
        """Start a saved run in the background, or go on with one as `run` does; return at once.

        Returns
        -------
        Future
            Its result maps chore ids to results; its exception is `RunInterruptedError` or
            `RunFailedError`.

        Raises
        ------
        MatEnsembleError
            If the run cannot be started: the directory was started already and is not to be
            resumed, its driver is alive, the executor is not available, the environment does not
            fit.
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
