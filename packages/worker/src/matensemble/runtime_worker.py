"""Run one chore in a process of its own.

``python -P -m matensemble.runtime_worker --chore-id ID --spec-file out/<id>/chore.pickle``

Reads the chore's record, fills its frozen arguments with the results of earlier chores, calls the
function and commits what it returned (or replaces itself by the program of an executable chore).
It decides nothing: a failure becomes `error.json`, a traceback on stderr and an exit code, and the
driver judges. Started by the executors, never imported by them.

Where the run directory is
    Three levels above the record: ``<run>/out/<id>/chore.pickle``. Nothing in it is absolute.
Tasks
    All tasks of a chore run the function; only task rank 0 commits a result. What task this is says
    ``MATENSEMBLE_TASK_RANK``, else the variable of Flux, PMI, Open MPI, PMIx or Slurm
    (`environment.RANK_VARIABLES`).
Exit codes
    0 success; 1 failure (of ``sys.exit(n)`` inside a function: n, but never 0, because it did not
    return); 2 wrong usage; 74 a failure whose `error.json` the disk did not take; 126 a program
    that cannot be executed, 127 one that is not there.
Import path
    ``-P`` keeps the working directory off it. ``MATENSEMBLE_SCRIPT_DIR`` is appended, so modules
    beside the user's script can be imported and hide nothing.

Every short chore pays for what this module imports, so it imports next to nothing; a failure (its
own, or one upstream), a program and a strategy's specs have their modules, loaded when needed.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import sys
from _pickle import loads as _loads

from matensemble import environment, wire, workdir
from matensemble.errors import FormatError, ResultMissingError, UnpicklableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Literal, TypeAlias

    Stage: TypeAlias = Literal["read", "load", "call", "commit", "execute"]

USAGE = "usage: python -P -m matensemble.runtime_worker --chore-id ID --spec-file PATH\n"


class Task:
    """One task of one attempt of a chore: what the process is there for.

    A slot of a warm worker (`matensemble.pool.slot`) runs one after the other, with ways of its own
    to find a function, to read a file and to write a result.

    Parameters
    ----------
    chore_id
        The chore that the record must be of.
    chore_dir
        Its directory, absolute.
    rank
        Rank of this task, from 0.

    Attributes
    ----------
    stage
        What is being done, so that a failure can be told apart: reading files of the run, loading
        pickles of the user, calling the function, committing files, executing a program.
    record
        The chore's record; empty until it was read.
    """

    def __init__(self, chore_id: str, chore_dir: str, rank: int = 0) -> None:
        self.chore_id = chore_id
        self.rank = rank
        self.chore_dir = chore_dir
        self.run_dir = chore_dir.rsplit("/", 2)[0]
        self.stage: Stage = "read"
        self.record: dict[str, Any] = {}
        self.loads: Callable[[bytes], Any] = _loads

    def path(self, name: str) -> str:
        """Return the path of one of the chore's own files."""
        return f"{self.chore_dir}/{name}"

    def take(self, path: str, data: bytes) -> None:
        """Take what a record says for what is to be done.

        Parameters
        ----------
        path
            Where it comes from, for people.
        data
            The record, as `wire.encode_record` made it.

        Raises
        ------
        FormatError
            If it is no record, or that of another chore.
        """
        record = wire.decode_record(path, data)
        if record["id"] != self.chore_id:
            raise FormatError(path, f"is the record of {record['id']}, not of {self.chore_id}")
        self.record = record
        if record.get("num_tasks") == 1:
            self.rank = 0  # rank variables that stand in the environment are someone else's
        if "cloudpickle" in record:
            from matensemble import light_pickle

            if light_pickle.can_load(record["cloudpickle"]):
                self.loads = light_pickle.loads

    def run(self) -> bytes:
        """Run the chore to its committed result and return its pickle.

        An executable does not return; a task that is not the first returns no bytes.
        """
        record = self.record
        if record["kind"] == "executable":
            from matensemble import program

            program.execute(self)
        value = self._call()
        if record.get("strategy"):
            from matensemble import spawned

            specs = spawned.collect(value)
            self._flush()
            if self.rank == 0:
                spawned.write(self, specs)
            value = len(specs)
        return self._commit(value)

    def load_arguments(self) -> Any:
        """Return the chore's frozen arguments, references replaced; None where it has none."""
        self.stage = "read"
        place = self.record.get("arguments")
        if place is None:
            return None
        file, offset, size = place
        data = self.read(f"{self.run_dir}/{file}", offset, size)
        self.stage = "load"
        return wire.thaw(data, Upstream(self).load, self.loads)

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Return a part of a file of the run that holds pickles."""
        return wire.read_trusted(path, offset, size)

    def find_function(self, name: str) -> Callable[..., Any]:
        """Return a registered function."""
        data = wire.read_trusted(f"{self.run_dir}/{workdir.registry_file(name)}")
        self.stage = "load"
        function: Callable[..., Any] = self.loads(data)
        gc.enable()
        return function

    def write_result(self, payload: bytes) -> None:
        """Commit a pickled result."""
        record = self.record
        wire.write_result(
            self.path(workdir.RESULT),
            payload,
            record["attempt"],
            chore_id=record["id"],
            durable=record.get("durable", False),
        )

    def _call(self) -> Any:
        name = self.record["callable"]
        function = self.find_function(name)
        args, kwargs = self.load_arguments() or ((), {})
        sys.argv = [name]
        self.stage = "call"
        return function(*args, **kwargs)

    def _commit(self, value: object) -> bytes:
        self._flush()
        if self.rank != 0:
            return b""
        try:
            payload = wire.dumps(value)
        except UnpicklableError as error:
            what = f"the result of {self.record['name']!r}"
            raise UnpicklableError(what, error.culprit, error.cause) from error.__cause__
        self.write_result(payload)
        return payload

    def _flush(self) -> None:
        """Let what the function printed reach its file before the result says that it is done."""
        self.stage = "commit"
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is not None and not stream.closed:
                stream.flush()


class Upstream:
    """The results that fill the slots of a chore's arguments; each is loaded once, on demand."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._slots: dict[int, Any] = {}
        self._results: dict[str, Any] = {}

    def load(self, slot: int) -> Any:
        """Return the result for a slot, or the list of results of a gather, in recorded order.

        Raises
        ------
        ResultMissingError, ResultCorruptError
            If a result is not there or damaged.
        """
        if slot not in self._slots:
            dep = self._task.record["deps"][slot]
            group = dep.get("gather")
            self._slots[slot] = (
                self._result(dep) if group is None else [self._result(one) for one in group]
            )
        return self._slots[slot]

    def _result(self, dep: Mapping[str, Any]) -> Any:
        chore_id = dep["id"]
        if chore_id not in self._results:
            if "failed" in dep:
                load = self._failure
            else:
                load = self._exec_result if dep["kind"] == "executable" else self._python_result
            self._results[chore_id] = load(dep)
        return self._results[chore_id]

    def _python_result(self, dep: Mapping[str, Any]) -> Any:
        task, chore_id = self._task, dep["id"]
        data = dep.get("data")
        if data is None:
            data = self._read(chore_id)
        task.stage = "load"
        try:
            return task.loads(data)
        except Exception as error:
            error.add_note(f"This happened while the result of {chore_id} was loaded.")
            raise

    def _read(self, chore_id: str) -> bytes:
        task = self._task
        path = f"{task.run_dir}/{workdir.chore_file(chore_id, workdir.RESULT)}"
        task.stage = "read"
        try:
            return wire.read_result(path, chore_id)
        except (ResultMissingError, OSError) as error:
            # A network file system may remember that it was not there, or another file in its
            # place (ESTALE); listing asks the server.
            if not _is_listed(path, error):
                raise
            return wire.read_result(path, chore_id)

    def _failure(self, dep: Mapping[str, Any]) -> Any:
        from matensemble import ignored

        return ignored.load(self._task.run_dir, dep)

    def _exec_result(self, dep: Mapping[str, Any]) -> Any:
        from pathlib import Path

        from matensemble.model import ExecResult

        chore_dir = Path(self._task.run_dir, workdir.chore_dir(dep["id"]))
        return ExecResult(
            exit_code=dep["exit_code"],
            workdir=chore_dir,
            stdout_path=chore_dir / workdir.STDOUT,
            outputs={name: chore_dir / file for name, file in (dep.get("outputs") or {}).items()},
        )


def find_rank(environ: Mapping[str, str]) -> int:
    """Return the rank of this task: the first rank variable that holds a number, else 0."""
    for name in environment.RANK_VARIABLES:
        value = environ.get(name, "")
        if value.isdecimal():
            return int(value)
    return 0


def main() -> int:
    """Run the chore that the command line names and return the exit code."""
    options = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=False))
    if len(sys.argv) != 5 or options.keys() != {"--chore-id", "--spec-file"}:
        sys.stderr.write(USAGE)
        return 2
    if sys.stdout is not None:  # what is printed is seen while it runs, and is a sign of life
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    gc.disable()  # until the function is loaded: importing makes objects, not garbage
    faulthandler.enable()  # a crash in compiled code then says where in the function it was
    script_dir = os.environ.get(environment.SCRIPT_DIR)
    if script_dir and script_dir not in sys.path:
        sys.path.append(script_dir)
    spec_file = os.path.abspath(options["--spec-file"])
    task = Task(options["--chore-id"], os.path.dirname(spec_file), find_rank(os.environ))
    try:
        task.take(spec_file, wire.read_trusted(spec_file))
        # Our modules live to the end, so no collection need look at them, not even the last one at
        # exit: that one alone costs a sixth of a short chore. Whatever the function brings along
        # stays collectable: a file that one of its modules holds open is written out by that.
        gc.freeze()
        task.run()
    except BaseException as error:  # sys.exit and interrupts too: the function did not return
        return report(task, error)
    return 0


def report(task: Task, error: BaseException) -> int:
    """Record a failure and return the exit code; see `failure.report`."""
    if isinstance(error, MemoryError):
        _free_frames(error)
    from matensemble import failure  # only now is there memory for it

    return failure.report(task, error)


def _free_frames(error: BaseException) -> None:
    """Release what the failed function held, because reporting needs memory too."""
    traceback = error.__traceback__
    while traceback is not None:
        try:
            traceback.tb_frame.clear()
        except RuntimeError:  # the worker's own frame, still running
            pass
        traceback = traceback.tb_next


def _is_listed(path: str, error: Exception) -> bool:
    """Return whether a file is there after all, or another one of its name."""
    if isinstance(error, OSError):
        import errno

        return error.errno == errno.ESTALE
    try:
        return os.path.basename(path) in os.listdir(os.path.dirname(path))
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(main())
