"""Every exception of the product.

Owns the tree of error types. Each class carries its facts as fields, so that programs need not
parse messages, and survives pickling with them. A message says what happened, where to look and
what to do. Imports nothing, because the worker loads this module at its start.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def _restore(
    cls: type[MatEnsembleError], args: tuple[object, ...], fields: dict[str, object]
) -> MatEnsembleError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(fields)
    return error


class MatEnsembleError(Exception):
    """Base of every error that MatEnsemble raises on purpose.

    Subclasses take their fields in the constructor and pass the finished message on; pickling
    restores message and fields without calling the constructor again.
    """

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), self.args, self.__dict__)


# --- while a pipeline is written --------------------------------------------------------------


class AuthoringError(MatEnsembleError):
    """A pipeline was described wrongly; nothing has run."""


class InvalidResourcesError(AuthoringError, ValueError):
    """A resource request is impossible in itself (zero, negative, not an integer …)."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        self.field = field
        self.value = repr(value)
        self.expected = expected
        super().__init__(f"resources: {field}={value!r} is not possible; it must be {expected}")


class InvalidOptionError(AuthoringError, ValueError):
    """An option of a chore or of a run has a value that it cannot have."""

    def __init__(self, option: str, value: object, expected: str) -> None:
        self.option = option
        self.value = repr(value)
        self.expected = expected
        super().__init__(f"{option}={value!r} is not possible; it must be {expected}")


class InvalidNameError(AuthoringError, ValueError):
    """A name cannot become a single path segment."""

    def __init__(self, name: object, problem: str) -> None:
        self.name = name
        self.problem = problem
        super().__init__(
            f"the name {name!r} {problem}; use letters, digits, '_', '-' and '.', "
            "at most 100 of them, starting with a letter, a digit or '_'"
        )


class DuplicateNameError(AuthoringError, ValueError):
    """A name was registered twice."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"the name {name!r} is already registered in this pipeline; "
            "give the second function its own with name=…"
        )


class UnknownNameError(AuthoringError, LookupError):
    """No callable is registered under this name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name = name
        self.known = tuple(known)
        listed = ", ".join(self.known[:10]) + (" …" if len(self.known) > 10 else "")
        super().__init__(
            f"no callable is registered as {name!r}; registered here: {listed or 'none'}"
        )

    def __str__(self) -> str:  # LookupError would show the repr of the message
        return str(self.args[0])


class InvalidArgumentsError(AuthoringError, TypeError):
    """The arguments of a call do not fit the signature of the function."""

    def __init__(self, name: str, signature: str, problem: str) -> None:
        self.name = name
        self.signature = signature
        self.problem = problem
        super().__init__(f"{name}{signature} cannot be called like this: {problem}")


class UnpicklableError(AuthoringError, TypeError):
    """A callable or an argument cannot travel to another process."""

    def __init__(self, what: str, culprit: str, cause: str) -> None:
        self.what = what
        self.culprit = culprit
        self.cause = cause
        super().__init__(
            f"{what} cannot be pickled: the problem is {culprit} ({cause}). "
            "Create such objects inside the chore, or pass what is needed to make them"
        )


class InvalidCommandError(AuthoringError, ValueError):
    """The command of an executable chore is empty or cannot be split."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self.problem = problem
        super().__init__(f"the command of {name!r} {problem}")


class ReferenceUseError(AuthoringError, TypeError):
    """A reference was used as if the result were already there."""

    def __init__(self, reference: str, use: str) -> None:
        self.reference = reference
        self.use = use
        super().__init__(
            f"{reference} stands for a result that does not exist yet, so {use} is not possible. "
            "Pass it to another chore, take a part with ref['key'], ref[0] or ref.attr('name'), "
            "or call ref.result() after the run"
        )


class UnknownReferenceError(AuthoringError, ValueError):
    """A chore refers to a chore that is not part of the pipeline."""

    def __init__(self, chore_id: str, missing: str) -> None:
        self.chore_id = chore_id
        self.missing = missing
        super().__init__(
            f"{chore_id} depends on {missing}, which is not a chore of this pipeline; "
            "was the reference made by another Pipeline, or before a cell was run again?"
        )


class CycleError(AuthoringError, ValueError):
    """The chores depend on one another in a circle."""

    def __init__(self, chore_ids: Sequence[str]) -> None:
        self.chore_ids = tuple(chore_ids)
        super().__init__("these chores wait for one another: " + " → ".join(self.chore_ids))


class EmptyPipelineError(AuthoringError, ValueError):
    """A pipeline without a chore was saved or submitted."""

    def __init__(self) -> None:
        super().__init__(
            "this pipeline has no chores; call a function decorated with @pipe.chore, "
            "or pipe.exec(…), before saving or submitting"
        )


class PipelineSubmittedError(AuthoringError, RuntimeError):
    """A pipeline that was already submitted or saved was used again."""

    def __init__(self, action: str, run_dir: str) -> None:
        self.action = action
        self.run_dir = run_dir
        super().__init__(
            f"{action} is not possible any more: this pipeline was written to {run_dir}. "
            "Make a new Pipeline for a new run"
        )


class NotSubmittedError(AuthoringError, RuntimeError):
    """A result was asked for before the pipeline was submitted."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"{what} is not there yet: nothing has run. Call pipe.submit() first, "
            "or `matensemble run DIR` on what pipe.save() wrote"
        )


# --- files ------------------------------------------------------------------------------------


class RunDirectoryError(MatEnsembleError):
    """A run directory is not what the operation needs."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}")


class FormatError(MatEnsembleError, ValueError):
    """A file is damaged, or written in a format this version does not read."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}")


class SiteFileError(MatEnsembleError, ValueError):
    """The site file cannot be read, or has a key or a value that it cannot have."""

    def __init__(self, path: str, problem: str, key: str | None = None) -> None:
        self.path = path
        self.problem = problem
        self.key = key
        super().__init__(f"the site file {path}: {problem}")


class IncompatibleEnvironmentError(MatEnsembleError, RuntimeError):
    """The run was authored under versions that this environment cannot load."""

    def __init__(self, what: str, recorded: str, present: str) -> None:
        self.what = what
        self.recorded = recorded
        self.present = present
        super().__init__(
            f"this run was authored with {what} {recorded}, but this environment has {present}; "
            f"its pickled functions may not load here. Use an environment with {what} {recorded}, "
            "or author the run again with this one"
        )


class ResultMissingError(MatEnsembleError, LookupError):
    """A chore has no result on disk."""

    def __init__(self, chore_id: str, path: str) -> None:
        self.chore_id = chore_id
        self.path = path
        super().__init__(f"{chore_id} has no result: {path} does not exist")

    def __str__(self) -> str:
        return str(self.args[0])


class PartMissingError(MatEnsembleError, LookupError):
    """A reference to a part of a result names one that the result does not have."""

    def __init__(self, part: str, kind: str, known: str) -> None:
        self.part = part
        self.kind = kind
        self.known = known
        hint = f"; it has {known}" if known else ""
        super().__init__(f"the result, a {kind}, has no part {part}{hint}")

    def __str__(self) -> str:
        return str(self.args[0])


class ResultCorruptError(MatEnsembleError, ValueError):
    """A result on disk does not match its footer."""

    def __init__(self, chore_id: str, path: str, problem: str) -> None:
        self.chore_id = chore_id
        self.path = path
        self.problem = problem
        super().__init__(
            f"the result of {chore_id} is damaged: {path}: {problem}. "
            "To have it made again, remove that file and resume the run"
        )


# --- running ----------------------------------------------------------------------------------


class RuntimeMissingError(MatEnsembleError, RuntimeError):
    """No runtime is installed that could run a pipeline."""

    def __init__(self, run_dir: str | None = None) -> None:
        self.run_dir = run_dir
        super().__init__(
            "running a pipeline needs the package matensemble-runtime in this environment: "
            "pip install matensemble-runtime (inside a Flux allocation: "
            "'matensemble-runtime[flux]'). To author here and run elsewhere, use pipe.save() "
            "and `matensemble run DIR` there"
        )


class DashboardMissingError(MatEnsembleError, RuntimeError):
    """A run was to be shown in the browser, but the dashboard is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "dashboard=True needs the package matensemble-dashboard in this environment: "
            "pip install matensemble-dashboard. It may also be installed elsewhere and pointed at "
            "the run directory: `matensemble dashboard DIR`"
        )


class MissingExtraError(MatEnsembleError, ImportError):
    """Something optional was asked for whose library is not installed."""

    def __init__(self, what: str, library: str, extra: str) -> None:
        self.what = what
        self.library = library
        self.extra = extra
        super().__init__(f"{what} needs {library}: pip install '{extra}'")


class ConflictingInstallationError(MatEnsembleError, ImportError):
    """A published MatEnsemble 0.5 lies in the same environment and hides parts of this one."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            f"{path} belongs to an older MatEnsemble (0.5 or before), which hides parts of this "
            "one. Remove it: pip uninstall matensemble, then reinstall what it took along: "
            "pip install --force-reinstall --no-deps matensemble-sdk (and the other "
            "matensemble-… packages you use)"
        )


class UnknownExecutorError(AuthoringError, ValueError):
    """No executor has this name."""

    def __init__(self, name: object, known: Sequence[str]) -> None:
        self.name = name
        self.known = tuple(known)
        super().__init__(f"there is no executor {name!r}; there are {', '.join(self.known)}")


class ExecutorUnavailableError(MatEnsembleError, RuntimeError):
    """An executor was asked for that cannot work here."""

    def __init__(self, executor: str, problem: str, remedy: str) -> None:
        self.executor = executor
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"the {executor} executor cannot be used: {problem}. {remedy}")


class ChoreFailedError(MatEnsembleError, RuntimeError):
    """A chore has no result because it failed, was skipped or was cancelled.

    It is the *value* of such a chore in the results, and `OutputReference.result` raises it.

    Attributes
    ----------
    chore_id
        The chore.
    reason
        A stable reason code (`matensemble.model.Reason`), for example ``"nonzero_exit"``.
    exit_code
        Exit code of the process, negative for a signal, None where no process ended.
    upstream
        For ``"dependency_failed"``: the chore whose failure is the root of this one.
    detail
        One line: the exception and its message, the missing program, the shape asked for …;
        for ``"dependency_failed"`` the reason of the root and its detail.
    traceback
        The remote traceback of a Python chore (there: of the root), or None.
    directory
        Where the chore's (there: the root's) stdout, stderr and records are, or None where it
        never started.
    """

    def __init__(
        self,
        chore_id: str,
        reason: str,
        *,
        exit_code: int | None = None,
        upstream: str | None = None,
        detail: str = "",
        traceback: str | None = None,
        directory: str | None = None,
    ) -> None:
        self.chore_id = chore_id
        self.reason = reason
        self.exit_code = exit_code
        self.upstream = upstream
        self.detail = detail
        self.traceback = traceback
        self.directory = directory
        message = f"{chore_id}: {reason}"
        if upstream is not None:
            message += f" (root: {upstream})"
        elif exit_code is not None:
            message += f" (exit code {exit_code})"
        if detail:
            message += f": {detail}"
        if directory is not None:
            message += f"\n  look into {directory}"
        if traceback:
            message += "\n\n" + traceback.rstrip()
        super().__init__(message)


class RunInterruptedError(MatEnsembleError, RuntimeError):
    """The run was stopped before its chores had ended; what completed is kept.

    Attributes
    ----------
    run_dir
        Where it is kept.
    cause
        Who or what stopped it.
    is_out_of_time
        Whether that was the end of the allocation, so that the run is to go on in the next one.
    """

    def __init__(self, run_dir: str, cause: str, is_out_of_time: bool = False) -> None:
        from shlex import quote  # the worker loads this module, and must not pay for it

        self.run_dir = run_dir
        self.cause = cause
        self.is_out_of_time = is_out_of_time
        what = "the time of the allocation is over" if is_out_of_time else "the run was interrupted"
        where = "in the next allocation" if is_out_of_time else "with"
        super().__init__(
            f"{what} ({cause}); what completed is kept. "
            f"Go on {where}: matensemble resume {quote(run_dir)}"
        )


class RunFailedError(MatEnsembleError, RuntimeError):
    """The driver itself could not go on; the chores are not to blame."""

    def __init__(self, run_dir: str, cause: str) -> None:
        self.run_dir = run_dir
        self.cause = cause
        super().__init__(f"the run in {run_dir} could not go on: {cause}")


class RunOwnedError(MatEnsembleError, RuntimeError):
    """Somebody else drives the run.

    Attributes
    ----------
    directory
        The run directory.
    host
        Host of its driver, or None where the claim cannot be read.
    pid
        Process of its driver, or None where the claim cannot be read.
    age
        Seconds since it took the run, or None where the claim does not say.
    """

    def __init__(
        self, directory: str, host: str | None, pid: int | None, *, age: float | None = None
    ) -> None:
        self.directory = directory
        self.host = host
        self.pid = pid
        self.age = age
        who, stop = "a process that cannot be identified", "stop it"
        if host is not None:
            who, stop = f"process {pid} on {host}", f"stop it (`kill {pid}` on {host})"
        since = "" if age is None else f", which took it {_describe_age(age)} ago"
        super().__init__(
            f"{directory} is driven by {who}{since}, and is alive: its status has just changed. "
            f"Wait for its end (`matensemble status --watch` shows it), or {stop}; "
            "`matensemble resume --takeover` takes the run away from it"
        )


def _describe_age(seconds: float) -> str:
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class AddressUnavailableError(MatEnsembleError, RuntimeError):
    """The dashboard cannot listen where it was asked to."""

    def __init__(self, host: str, port: str, problem: str) -> None:
        self.host = host
        self.port = port
        self.problem = problem
        super().__init__(
            f"cannot listen on {host} port {port}: {problem}. Leave the port out to take a free "
            "one, or give another with --port N (0: any) or --host NAME"
        )


class SocketUnavailableError(MatEnsembleError, RuntimeError):
    """The dashboard cannot listen on the unix socket it was asked to."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(
            f"cannot listen on the socket {path}: {problem}. Give another path with --socket, in a "
            "directory that is yours alone"
        )
