"""Real runs in processes of their own, whose files fail or whose life ends where a test says.

A run is saved once and copied for each trial. The driver and its workers load
`faults/sitecustomize.py`, which reads what is to happen from a plan.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from matensemble import wire, workdir
from matensemble.cli import main
from matensemble.errors import ResultCorruptError, ResultMissingError
from matensemble.model import ChoreType, ExecResult
from matensemble.records import read_records
from matensemble.replay import Replay
from matensemble.results import Results
from matensemble.status import RunStatus, read_status
from matensemble.workdir import RunDir
from matensemble.workflow import Workflow

HERE = Path(__file__).parent
FAULTS = HERE / "faults"
DEADLINE_SECONDS = 60.0
"""A driver that takes longer hangs: undisturbed it takes a second or two."""
NUM_TRIALS_AT_ONCE = 2
_ONE_COMMAND = threading.Lock()
"""The command line is called in this process, whose streams it replaces meanwhile."""
IS_LONG = bool(os.environ.get("MATENSEMBLE_LONG"))


@pytest.fixture(scope="session")
def is_long() -> bool:
    """Whether everything is to be tried, and not only a sample."""
    return IS_LONG


class Trial:
    """One copy of a run, driven, disturbed and driven again.

    Parameters
    ----------
    folder
        Holds the run, its execution log and the notes of the faults.
    pycache
        Where Python keeps byte code.
    """

    def __init__(self, folder: Path, pycache: Path) -> None:
        self.folder = folder
        self.run = RunDir(folder / "run")
        self.notes = folder / "notes"
        self._pycache = pycache
        self._drivers: set[bytes] = set()

    def copy(self, folder: Path) -> Trial:
        """Return another trial that stands where this one does; without the notes."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("notes", "plan.json"))
        return Trial(folder, self._pycache)

    # --- driving ------------------------------------------------------------------------------

    def start(self, command: str, plan: dict[str, Any] | None = None) -> subprocess.Popen[str]:
        """Start ``matensemble run`` or ``resume`` in a session of its own."""
        environ = {
            **os.environ,
            "EXECUTION_LOG": str(self.folder / "executions"),
            "MATENSEMBLE_CORES": "2",
            "MATENSEMBLE_EXECUTOR": "local",
            "PYTHONPATH": os.pathsep.join([str(FAULTS), *_import_path()]),
            "PYTHONPYCACHEPREFIX": str(self._pycache),
        }
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        environ.pop("FAULT_PLAN", None)
        if plan is not None:
            shutil.rmtree(self.notes, ignore_errors=True)
            self.notes.mkdir()
            place = {"run": str(self.run.root), "notes": str(self.notes)}
            plan_path = self.folder / "plan.json"
            plan_path.write_text(json.dumps({**plan, **place}))
            environ["FAULT_PLAN"] = str(plan_path)
        process = subprocess.Popen(
            [sys.executable, "-m", "matensemble.cli", command, str(self.run.root)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ,
            start_new_session=True,
        )
        self._drivers.add(b"%d" % process.pid)
        return process

    def wait(self, process: subprocess.Popen[str], seconds: float = DEADLINE_SECONDS) -> Ended:
        """Wait for the end of a driver; one that hangs is killed, and the trial fails."""
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"the driver hangs; its stderr: {err[-800:]}") from None
        return Ended(process.returncode, out, err)

    def drive(self, command: str, plan: dict[str, Any] | None = None) -> Ended:
        """Run or resume to the end."""
        return self.wait(self.start(command, plan))

    @property
    def was_hit(self) -> bool:
        """Whether what was planned has happened."""
        return (self.notes / "hit").exists()

    # --- looking ------------------------------------------------------------------------------

    def replay(self) -> Replay:
        """Return the records of the run, folded; of a run that was never started, none."""
        try:
            return Replay.of(read_records(self.run))
        except FileNotFoundError:
            return Replay()

    def completed(self) -> set[str]:
        """Return the chores of which the journal says that they completed."""
        standings = self.replay().standings
        return {name for name, one in standings.items() if one.state.value == "completed"}

    def committed(self) -> set[str]:
        """Return the chores that must not run again: completed, or with an intact result.

        A result counts where it is of the very attempt that the journal says was live.
        """
        replay = self.replay()
        chores = [*Workflow.read(self.run).chores(), *(added.chore for added in replay.added)]
        committed = self.completed()
        for chore in chores:
            standing = replay.standing(chore.id)
            if chore.kind is ChoreType.PYTHON and standing.is_live:
                path = self.run.chore_file(chore.id, workdir.RESULT)
                try:
                    if wire.check_result(path, chore.id) == standing.attempt:
                        committed.add(chore.id)
                except (ResultMissingError, ResultCorruptError):
                    continue
        return committed

    def executions(self) -> Counter[str]:
        """Return how often each chore has started, by what the chores themselves told."""
        log = self.folder / "executions"
        lines = log.read_text().splitlines() if log.exists() else []
        return Counter(line.split()[1] for line in lines if line.startswith("start "))

    def failed_for_the_disk(self) -> list[str]:
        """Return what the journals tell of failures that no chore of the ensemble has of itself.

        One raises in its first attempt; where the disk does not take the reason of that, its exit
        code has to do.
        """
        return [
            f"{record.kind} {record.chore_id} {dict(record.fields)}"
            for record in read_records(self.run)
            if record.kind in ("failed", "skipped", "cancelled")
            or (record.kind == "requeued" and record.fields.get("b") == "retry")
            if record.fields.get("r") not in ("exception", "nonzero_exit")
        ]

    def status(self) -> RunStatus:
        """Return the published status."""
        return read_status(self.run.status_path)

    def results(self) -> dict[str, Any]:
        """Return the results of all chores, without what differs between two copies of a run."""
        return {key: _plain(value) for key, value in Results.read(self.run).items()}

    def assert_status_works(self) -> None:
        """Ask the command line where the run stands."""
        with _ONE_COMMAND:
            shown = CliRunner().invoke(main, ["status", str(self.run.root)])
        assert shown.exit_code == 0, f"status: {shown.output} {shown.exception!r}"

    def assert_finished(self, expected: dict[str, Any]) -> None:
        """Check that the run completed with the results of an undisturbed one, and left nothing."""
        assert self.results() == expected
        assert self.status().state.value == "completed"
        self.assert_status_works()
        deadline = time.monotonic() + 5.0
        while left := self.find_processes():
            assert time.monotonic() < deadline, f"left behind: {left}"
            time.sleep(0.02)  # processes of others have no event to wait for

    def find_processes(self) -> list[str]:
        """Return the processes that are chores of this run, and the launchers of its drivers."""
        mark = f"MATENSEMBLE_RUN_DIR={self.run.root}\0".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                command = (path / "cmdline").read_bytes().split(b"\0")
                is_launcher = any(part.endswith(b"/launcher.py") for part in command)
                is_ours = is_launcher and not self._drivers.isdisjoint(command)
                if is_ours or mark in (path / "environ").read_bytes():
                    found.append(f"{path.name} {command}")
            except OSError:  # gone, or not ours
                continue
        return found

    def resume_to_the_end(self, expected: dict[str, Any]) -> None:
        """Resume after a crash, and check all that a resumed run is to keep."""
        self.assert_status_works()
        completed, committed = self.completed(), self.committed()
        executed = self.executions()
        ended = self.drive("resume")
        assert ended.exit_code == 0, ended
        assert completed <= self.completed(), "what had completed must stay so"
        again = {c for c in committed if self.executions()[c] != executed[c]}
        assert not again, f"committed, and run again: {again}"
        self.assert_finished(expected)


class Ended:
    """How a driver ended."""

    def __init__(self, exit_code: int, out: str, err: str) -> None:
        self.exit_code = exit_code
        self.out = out
        self.err = err

    def __repr__(self) -> str:
        return f"exit code {self.exit_code}; stdout: {self.out[-300:]}; stderr: {self.err[-1500:]}"


def _import_path() -> list[str]:
    """Return what this process was told to import from, besides what is installed."""
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _plain(value: Any) -> Any:
    if isinstance(value, ExecResult):
        return value.exit_code, {name: path.read_text() for name, path in value.outputs.items()}
    return value


class Ensemble:
    """The saved run of all trials of one kind, and what an undisturbed one comes to.

    Parameters
    ----------
    folder
        For its runs.
    retries
        Of each chore.
    """

    def __init__(self, folder: Path, retries: int) -> None:
        self.folder = folder
        self._points: dict[str, Counter[str]] = {}
        pycache = folder / "pycache"
        saved = folder / "saved"
        saved.mkdir()
        made = subprocess.run(
            [sys.executable, str(HERE / "ensemble.py"), str(folder / "author"), str(retries)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        Path(made.stdout.strip()).rename(saved / "run")
        self.saved = Trial(saved, pycache)
        first = self.trial("undisturbed")
        ended = first.drive("run")
        assert ended.exit_code == 0, ended
        self.results = first.results()
        self.num_chores = len(self.results)
        first.assert_finished(self.results)

    def trial(self, name: str, source: Trial | None = None) -> Trial:
        """Return a fresh copy of the saved run, or of one that has come further."""
        return (source or self.saved).copy(self.folder / name)

    def find_points(self, kind: str, command: str, source: Trial | None = None) -> Counter[str]:
        """Return how often an undisturbed driver, or its workers, come to each point."""
        name = f"points-{kind}-{command}"
        if name not in self._points:
            trial = self.trial(name, source)
            ended = trial.drive(command, {"mode": "note", "kind": kind})
            assert ended.exit_code == 0, ended
            self._points[name] = Counter((trial.notes / "points").read_text().splitlines())
        return self._points[name]


Case = tuple[Any, ...]
Try = Callable[[str, Case], str]


@pytest.fixture(scope="session")
def try_all(request: pytest.FixtureRequest) -> Callable[[str, Iterable[Case], Try], Counter[str]]:
    """Try cases, some at once, and fail with all that went wrong; prints the counts.

    Each is tried by a function of the name of the case and the case, which says what came of it.
    """

    def try_(what: str, cases: Iterable[Case], one: Try) -> Counter[str]:
        cases = list(cases)
        began = time.monotonic()
        problems: list[str] = []
        outcomes: Counter[str] = Counter()

        def attempt(numbered: tuple[int, Case]) -> None:
            number, case = numbered
            try:
                outcomes[one(f"{what}-{number}".replace(" ", "-"), case)] += 1
            except Exception as error:
                problems.append(f"{case}: {type(error).__name__}: {error}")

        with ThreadPoolExecutor(NUM_TRIALS_AT_ONCE) as pool:
            list(pool.map(attempt, enumerate(cases)))
        told = ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items()))
        seconds = time.monotonic() - began
        print(f"{what}: {len(cases)} tried in {seconds:.0f} s: {told}; {len(problems)} failed")
        assert not problems, f"{len(problems)} of {len(cases)}:\n" + "\n".join(problems)
        return outcomes

    return try_


@pytest.fixture(scope="session")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    """An ensemble whose chores are retried, so that they may be killed."""
    return Ensemble(tmp_path_factory.mktemp("patient").resolve(), retries=3)


@pytest.fixture(scope="session")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    """An ensemble whose chores are not retried: what fails, fails."""
    return Ensemble(tmp_path_factory.mktemp("strict").resolve(), retries=0)


@pytest.fixture(scope="session")
def crashed(patient: Ensemble) -> Trial:
    """A run whose driver was killed in the middle, with chores completed, running and waiting."""
    return _crash(patient)


@pytest.fixture(scope="session")
def strictly_crashed(strict: Ensemble) -> Trial:
    """The same of chores that are not retried."""
    return _crash(strict)


def _crash(ensemble: Ensemble) -> Trial:
    trial = ensemble.trial("crashed")
    point = {"point": "write:journal.jsonl[completed]:after", "occurrence": 3}
    ended = trial.drive("run", {"mode": "kill", "kind": "driver", **point})
    assert ended.exit_code == -signal.SIGKILL, ended
    assert 0 < len(trial.completed()) < ensemble.num_chores
    return trial
