"""Whole runs on warm workers, with real processes: on this machine, and in a Flux of four nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from matensemble import workdir
from matensemble.model import RunState
from matensemble.pipeline import Pipeline
from matensemble.records import RecordKind, read_records
from matensemble.results import Results
from matensemble.runs import find_run
from matensemble.status import Counts, read_status
from matensemble.workdir import RunDir

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

PATIENCE_SECONDS = 60.0

HEAD = """
import os, signal, sys, time
from pathlib import Path
from matensemble.chore import ChoreSpec
from matensemble.pipeline import Pipeline

folder, options = Path(sys.argv[1]), dict(option.split("=") for option in sys.argv[2:])
pipe = Pipeline(folder / "runs")

def mark(name):
    with (folder / name).open("a") as file:
        file.write("x\\n")
"""

MIXED = """
@pipe.chore(workers="pool")
def square(x):
    return x * x

@pipe.chore(workers="job")
def apart(x):
    return os.getpid()

@pipe.chore(workers="pool")
def add(numbers):
    return sum(numbers)

@pipe.strategy(triggers=["add"], workers="pool")
def go_on(total):
    return [ChoreSpec(([total, 1],), None, "add")] if total % 2 == 0 else None

squares = [square(x) for x in range(40)]
apart(1)
chain = square(square(2))
told = pipe.exec(["echo", chain], "told", outputs={"text": "stdout"}, workers="pool")
plain = pipe.exec(["sh", "-c", "echo plain; echo loud >&2"], "plain", workers="pool")
add(squares[:5])
pipe.chore("count")(lambda found: len(found))
pipe.call("count", pipe.gather("square"))
"""

AUTO = """
@pipe.chore
def square(x):
    return x * x

square.map(range(200))
"""

CRASHES = """
@pipe.chore(workers="pool")
def wild(how):
    if how == "exit":
        os._exit(7)
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "raise":
        print("last words")
        raise ValueError("no")
    return how

@pipe.chore(workers="pool", retries=2)
def twice(x):
    mark(f"tried-{x}")
    if "MATENSEMBLE_PREVIOUS_DIR" not in os.environ:
        os._exit(3)
    return x

for number in range(20):
    wild(number)
for how in ("exit", "segfault", "raise"):
    wild(how)
for number in range(20, 40):
    wild(number)
for number in range(3):
    twice(number)
"""

SLOW = """
@pipe.chore(workers="pool")
def count(x):
    mark(f"ran-{x}")
    time.sleep(0.05)
    while x >= 60 and "gated" in options and not (folder / "gate").exists():
        time.sleep(0.02)
    return x

for number in range(64):
    count(number)
"""

SUBMIT = """
pipe.submit(buffer_time=0.1, **{k: v for k, v in options.items() if k != "gated"})
"""

RESUME = """
Pipeline.resume(folder / "runs")
"""


class Study:
    """Scripts that run and resume one pipeline in a folder."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.folder = folder
        self._environ = environ
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, text: str, **options: object) -> subprocess.Popen[str]:
        script = self.folder / "study.py"
        script.write_text(HEAD + text)
        given = [f"{name}={value}" for name, value in options.items()]
        process = subprocess.Popen(
            [sys.executable, script, self.folder, *given],
            env={**os.environ, **self._environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def end(self, text: str, **options: object) -> tuple[RunDir, str]:
        """Run a script to its end; return its run and what it said on stderr."""
        process = self.start(text, **options)
        _, said = process.communicate(timeout=2 * PATIENCE_SECONDS)
        assert "Traceback" not in said, said
        return self.run, said

    @property
    def run(self) -> RunDir:
        return find_run(self.folder / "runs")

    def open_gate(self) -> None:
        """Let the last chores end, if they wait for that."""
        (self.folder / "gate").touch()

    def marks(self, prefix: str) -> Counter[str]:
        """Return how often each of some marks was made."""
        paths = self.folder.glob(f"{prefix}-*")
        return Counter({path.name: len(path.read_text().split()) for path in paths})

    def wait_marks(self, prefix: str, count: int) -> None:
        wait_until(lambda: len(self.marks(prefix)) >= count, f"{count} of {prefix}")

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.communicate(timeout=PATIENCE_SECONDS)


def wait_until(is_so, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


@pytest.fixture(params=["local", pytest.param("flux", marks=pytest.mark.flux)])
def study(request, tmp_path):
    environ = {"MATENSEMBLE_EXECUTOR": request.param}
    if request.param == "flux":
        environ["FLUX_URI"] = request.getfixturevalue("start_flux")("--test-size=4")
        environ["MATENSEMBLE_POOL_ADDRESS"] = "127.0.0.1"
    made = Study(tmp_path, environ)
    yield made
    made.close()


def pooled(run: RunDir) -> set[str]:
    """Return the chores of which an attempt was given to a warm worker."""
    intents = (r for r in read_records(run) if r.kind == RecordKind.SUBMIT_INTENT)
    return {record.chore_id for record in intents if "p" in record.fields}


def state_of(run: RunDir) -> RunState:
    return read_status(run.status_path).state


def counts_of(run: RunDir) -> Counts:
    return read_status(run.status_path).counts


def named(run: RunDir, name: str) -> list[str]:
    return [chore.id for chore in Pipeline.load(run.root)._saved.chores() if chore.name == name]


# --- what runs -----------------------------------------------------------------------------------


def test_pooled_chores_and_jobs_make_one_run(study):
    run, _ = study.end(MIXED + SUBMIT)
    assert state_of(run) is RunState.COMPLETED
    results = Results.read(run)
    assert results.gather("square") == [x * x for x in range(40)] + [4, 16]
    assert results.gather("add") == [30, 31]
    assert results.gather("count") == [42]
    assert results.gather("go_on") == [1, 0]
    told, plain = (results[named(run, name)[0]] for name in ("told", "plain"))
    assert told.stdout_path.read_text() == "16\n"
    assert plain.stdout_path.read_text() == "plain\n"
    assert run.chore_file(named(run, "plain")[0], workdir.STDERR).read_text() == "loud\n"
    assert pooled(run).isdisjoint(named(run, "apart"))
    assert pooled(run) >= {*named(run, "square"), *named(run, "add"), *named(run, "plain")}
    square = run.chore_dir(named(run, "square")[0])
    assert {path.name for path in square.iterdir()} == {workdir.RESULT}
    job = run.chore_dir(named(run, "apart")[0])
    assert {workdir.RECORD, workdir.METADATA, workdir.STDOUT} <= {p.name for p in job.iterdir()}


def test_what_suits_a_large_group_is_found_out(study):
    run, _ = study.end(AUTO + SUBMIT)
    assert state_of(run) is RunState.COMPLETED
    assert Results.read(run).gather("square") == [x * x for x in range(200)]
    decisions = [r.fields for r in read_records(run) if r.kind == RecordKind.WORKERS]
    assert {one["g"] for one in decisions} == {"square"}
    tiers = [one["tier"] for one in decisions]
    # On a machine that is busy enough even a short one may seem to be long.
    assert tiers in (["trial"], ["trial", "pool"], ["trial", "job"], ["job"])
    assert bool(pooled(run)) is ("trial" in tiers)


def test_jobs_only_where_that_is_asked_for(study):
    run, _ = study.end(SLOW.replace('workers="pool"', "") + SUBMIT, workers="job")
    assert state_of(run) is RunState.COMPLETED
    assert pooled(run) == set()
    for chore_id in named(run, "count"):
        names = {path.name for path in run.chore_dir(chore_id).iterdir()}
        assert names == {
            *(workdir.RECORD, workdir.METADATA, workdir.RESULT, workdir.STDOUT, workdir.STDERR)
        }


def test_a_crash_fails_its_own_chore_only(study):
    run, said = study.end(CRASHES + SUBMIT)
    assert state_of(run) is RunState.FAILED
    status = read_status(run.status_path)
    assert (status.counts.completed, status.counts.failed) == (43, 3), said
    reasons = {(one.reason, one.exit_code) for one in status.root_failures}
    assert reasons == {("nonzero_exit", 7), ("signal", -11), ("exception", 1)}
    raised = next(one.chore_id for one in status.root_failures if one.reason == "exception")
    assert run.chore_file(raised, workdir.STDOUT).read_text() == "last words\n"
    assert "ValueError: no" in run.chore_file(raised, workdir.STDERR).read_text()
    assert study.marks("tried") == {f"tried-{number}": 2 for number in range(3)}


# --- early ends ----------------------------------------------------------------------------------


def test_a_driver_that_is_killed_loses_nothing_that_was_committed(study):
    driver = study.start(SLOW + SUBMIT, gated=1)
    study.wait_marks("ran", 8)
    driver.kill()
    driver.communicate(timeout=PATIENCE_SECONDS)
    run = study.run
    written = {
        chore_id
        for chore_id in named(run, "count")
        if run.chore_file(chore_id, workdir.RESULT).exists()
    }
    before = study.marks("ran")
    study.open_gate()
    _, said = study.end(RESUME)
    assert state_of(run) is RunState.COMPLETED, said
    results = Results.read(run)
    assert results.gather("count") == [*range(64)]
    ids = named(run, "count")
    again = {
        ids[int(name.partition("-")[2])]
        for name, n in (study.marks("ran") - before).items()
        if before[name] and n
    }
    assert again.isdisjoint(written), "what was committed has run twice"


def test_an_interrupted_run_ends_its_workers_and_can_go_on(study):
    driver = study.start(SLOW + SUBMIT, gated=1)
    study.wait_marks("ran", 8)
    driver.send_signal(signal.SIGINT)
    _, said = driver.communicate(timeout=PATIENCE_SECONDS)
    assert "interrupt" in said.lower()
    run = study.run
    assert state_of(run) is RunState.INTERRUPTED
    wait_until(lambda: not workers_of(run), "the end of the workers")
    study.open_gate()
    study.end(RESUME)
    assert Results.read(run).gather("count") == [*range(64)]


def test_the_end_of_the_time_drains_warm_workers(study):
    run, _ = study.end(SLOW + SUBMIT, walltime=12, margin=5, gated=1, drain_signal="TERM")
    assert state_of(run) is RunState.INTERRUPTED
    counts = read_status(run.status_path).counts
    assert counts.failed == 0
    assert counts.completed >= 1
    assert counts.completed + counts.pending + counts.running == 64
    wait_until(lambda: not workers_of(run), "the end of the workers")


def workers_of(run: RunDir) -> list[int]:
    """Return the processes of warm workers of a run on this machine."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdecimal():
            continue
        try:
            environ = (path / "environ").read_bytes().split(b"\0")
            is_alive = "State:\tZ" not in (path / "status").read_text()
        except OSError:  # gone, or somebody else's
            continue
        if f"MATENSEMBLE_RUN_DIR={run.root}".encode() in environ and is_alive:
            found.append(int(path.name))
    return found


# --- while it goes -------------------------------------------------------------------------------


def test_a_chore_on_a_warm_worker_can_be_paused_before_and_ended_from_outside(study):
    driver = study.start(SLOW + SUBMIT, gated=1)
    study.wait_marks("ran", 61)
    run = study.run
    ids = named(run, "count")
    asleep = [ids[x] for x in range(60, 64) if f"ran-{x}" in study.marks("ran")]

    def ask(*words: str) -> None:
        command = [sys.executable, "-m", "matensemble.cli", words[0], str(run.root), *words[1:]]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_SECONDS)

    ask("pause")
    wait_until(lambda: state_of(run) is RunState.PAUSED, "the pause")
    ask("cancel", asleep[0])
    wait_until(lambda: counts_of(run).cancelled == 1 and counts_of(run).completed == 60, "its end")
    ask("cancel", "--all")
    _, said = driver.communicate(timeout=PATIENCE_SECONDS)
    assert "Traceback" not in said
    assert (counts_of(run).completed, counts_of(run).cancelled) == (60, 4)
    wait_until(lambda: not workers_of(run), "the end of the workers")
