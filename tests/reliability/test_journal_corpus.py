"""What readers and a resumed driver make of a journal that is damaged, in all ways we can think of.

The golden journals are those of a run with three drivers. ``MATENSEMBLE_LONG=1`` damages each byte,
and resumes at many more cuts.
"""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from matensemble import wire
from matensemble.errors import FormatError, RunInterruptedError
from matensemble.manager import FluxManager
from matensemble.model import ChoreState
from matensemble.pipeline import Pipeline
from matensemble.protocols import RunOptions
from matensemble.records import (
    JournalRecord,
    RecordKind,
    decode_journal_line,
    encode_journal_record,
    journal_stamp,
    read_records,
)
from matensemble.replay import Replay
from matensemble.results import Results
from matensemble.runtime.scheduler.events import InterruptRequested
from matensemble.runtime.testing import FakeExecutor, ManualClock, Outcome
from matensemble.workdir import RunDir

IS_LONG = bool(os.environ.get("MATENSEMBLE_LONG"))
pytestmark = pytest.mark.timeout(0 if IS_LONG else 120)


def plain(*args):
    """Stand for the work of a chore; the executor makes up what it returns."""


class Played(FakeExecutor):
    """Runs chores as a worker would, and interrupts the run after some of them."""

    def __init__(self, limit: float = float("inf")) -> None:
        super().__init__(script=self._play)
        self.executed: list[str] = []
        self._limit = limit

    def open(self, post, orphans=()):
        self._tell = post
        return super().open(post, orphans)

    def _play(self, request):
        if len(self.executed) >= self._limit:
            self._tell(InterruptRequested("enough"))
            return None
        self.executed.append(request.chore_id)
        data = pickle.dumps(request.chore_id)
        path = request.cwd / "result.pickle"
        if request.argv[0] != "true":
            wire.write_result(path, data, request.attempt, chore_id=request.chore_id)
        return Outcome(0)


def resume(run: RunDir, *, recover: bool = False, limit: float = float("inf")) -> Played:
    """Go on with a run; return what was executed."""
    executor = Played(limit)
    options = RunOptions(resume=True, takeover=True, recover=recover, buffer_time=0.01)
    FluxManager(run.root, options, executor=executor, clock=ManualClock()).run()
    return executor


@pytest.fixture(scope="session")
def golden(tmp_path_factory) -> RunDir:
    """Return a run that took three drivers, of which each journal has something to tell."""
    pipe = Pipeline(tmp_path_factory.mktemp("corpus"))
    work = pipe.chore("work")(plain)
    first = [work(number) for number in range(3)]
    second = [work(ref) for ref in first]
    pipe.exec("true", name="program", after=second[:2])
    work(*second)
    run = RunDir(pipe.save())
    for limit in (2, 3):
        with pytest.raises(RunInterruptedError):
            resume(run, limit=limit)
    resume(run)
    assert len(journals(run)) == 3
    return run


@pytest.fixture
def run(golden, tmp_path) -> RunDir:
    """Return a copy that may be damaged."""
    return copy(golden, tmp_path / "run")


def copy(run: RunDir, root: Path) -> RunDir:
    shutil.copytree(run.root, root)
    return RunDir(root)


def journals(run: RunDir) -> list[Path]:
    return [*sorted(run.root.glob("journal-*.jsonl")), run.journal_path]


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def records(run: RunDir, **options) -> list[JournalRecord]:
    return [*read_records(run, **options)]


def completed(run: RunDir, **options) -> set[str]:
    standings = Replay.of(read_records(run, **options)).standings.items()
    return {chore_id for chore_id, at in standings if at.state is ChoreState.COMPLETED}


def sample(size: int, count: int) -> Iterator[int]:
    """Yield positions, all of them where this may take long."""
    return iter(range(size) if IS_LONG else range(0, size, max(1, size // count)))


# --- the end is torn ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_journal_that_ends_anywhere_tells_the_story_up_to_there(run):
    whole = records(run)
    data = run.journal_path.read_bytes()
    num_before = len(whole) - data.count(b"\n")
    before = records_without_present(run)
    assert before == whole[:num_before]
    for size in range(len(data)):
        run.journal_path.write_bytes(data[:size])
        told = records(run)
        # One that has not even begun counts for nothing: the one before is the last.
        assert told == whole[: num_before + data[:size].count(b"\n")]
        Replay.of(told)


@pytest.mark.slow
def test_a_run_whose_journal_was_cut_is_resumed_and_runs_nothing_twice(golden, tmp_path):
    data = golden.journal_path.read_bytes()
    for size in [0, 1, *sample(len(data), 12), len(data)]:
        run = copy(golden, tmp_path / f"cut-{size}")
        known = {
            chore_id
            for chore_id, at in Replay.of(cut(run, size)).standings.items()
            if at.is_live or at.state is ChoreState.COMPLETED
        }
        executor = resume(run)
        everything = {
            chore.id for chore in FluxManager(run.root, RunOptions(resume=True)).workflow.chores()
        }
        assert completed(run) == everything
        python = {chore_id for chore_id in executor.executed if "work" in chore_id}
        # What the journal knew to be handed over has a result on the disk: that is evidence.
        assert not python & known
        shutil.rmtree(run.root)


def cut(run: RunDir, size: int) -> list[JournalRecord]:
    """Cut the present journal, and return the records that are left of all."""
    run.journal_path.write_bytes(run.journal_path.read_bytes()[:size])
    return records(run)


def records_without_present(run: RunDir) -> list[JournalRecord]:
    path = run.journal_path
    aside = path.rename(path.with_name("aside"))
    try:
        return records(run)
    finally:
        aside.rename(path)


@pytest.mark.parametrize("tail", [b"\0" * 4096, b"\0" * 100 + b"\n", b'{"s":99', b"\xff\n\xfe\n"])
def test_what_a_lost_node_leaves_at_the_end_is_ignored(run, tail):
    whole = records(run)
    with run.journal_path.open("ab") as file:
        file.write(tail)
    assert records(run) == whole
    assert resume(run).executed == []


# --- bytes are flipped ----------------------------------------------------------------------------


@pytest.mark.slow
def test_no_flipped_bit_goes_unnoticed_unless_it_is_the_torn_end(golden, tmp_path):
    whole = records(golden)
    run = copy(golden, tmp_path / "run")
    num_detected = num_torn = 0
    for path in journals(run):
        data = path.read_bytes()
        last_line = data.rfind(b"\n", 0, -1) + 1
        for position in sample(len(data), 150):
            damaged = bytearray(data)
            damaged[position] ^= 1 << (position % 8)
            path.write_bytes(damaged)
            try:
                told = records(run)
            except FormatError as error:
                assert "line" in str(error) or "journal" in str(error)
                num_detected += 1
            else:
                assert told == whole[: len(told)]
                # The break before the last line counts: without it, two lines are one torn end.
                assert path == run.journal_path and position >= last_line - 1, (path, position)
                num_torn += 1
        path.write_bytes(data)
    assert num_detected > 100
    assert num_torn


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("number", [0, 2])
def test_a_damaged_line_stops_a_resume_until_it_is_told_to_recover(run, which, number):
    path = journals(run)[which]
    lines = lines_of(path)
    lines[number] = lines[number].replace(b'"k"', b'"K"')
    path.write_bytes(b"".join(lines))
    results = [*(run.out_dir).glob("*/result.pickle")]
    with pytest.raises(FormatError, match="--recover") as caught:
        resume(run)
    assert f"line {number + 1}" in str(caught.value)
    executor = resume(run, recover=True)
    assert not [chore_id for chore_id in executor.executed if "work" in chore_id]
    assert {path.parent.name for path in results} <= completed(run)
    # It was decided once: whoever reads the run afterwards is not asked again.
    assert len(Results.read(run)) == 8
    assert resume(run).executed == []


def test_committed_results_are_found_by_their_footers(run):
    path = journals(run)[0]
    lines = lines_of(path)
    lost = [
        position
        for position, line in enumerate(lines)
        if decode_journal_line(line).kind in (RecordKind.COMPLETED, RecordKind.SUBMIT_INTENT)
    ]
    for position in lost:
        lines[position] = b"x" * (len(lines[position]) - 1) + b"\n"
    path.write_bytes(b"".join(lines))
    executor = resume(run, recover=True)
    assert executor.executed == []
    found = [r for r in records(run) if r.kind == RecordKind.COMPLETED and r.epoch == 4]
    assert len(found) == 2


# --- lines are where they do not belong -----------------------------------------------------------


def swapped(lines):
    return [lines[0], lines[2], lines[1], *lines[3:]]


def repeated(lines):
    return [*lines[:3], lines[2], *lines[3:]]


def missing(lines):
    return [*lines[:2], *lines[3:]]


def headless(lines):
    return lines[1:]


def of_another_run(lines):
    stamp = journal_stamp(9, 0.0, 0.0)
    alien = encode_journal_record(3, stamp, RecordKind.COMPLETED, "chore-alien-0001")
    return [*lines[:2], alien, *lines[2:]]


def appended_from_elsewhere(lines):
    return [*lines, lines[1]]


def with_a_hole(lines):
    return [*lines[:2], b"\0" * len(lines[2]), *lines[3:]]


DISORDER = [
    swapped, repeated, missing, headless, of_another_run, appended_from_elsewhere, with_a_hole
]  # fmt: skip


@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize("disorder", DISORDER)
def test_lines_that_do_not_follow_each_other_are_noticed(run, disorder, which):
    path = journals(run)[which]
    size = path.stat().st_size
    path.write_bytes(b"".join(disorder(lines_of(path))))
    if which == 1 and path.stat().st_size > size and disorder is appended_from_elsewhere:
        assert records(run)  # behind what the next driver accepted: a stale driver wrote it
        return
    with pytest.raises(FormatError, match="--recover"):
        records(run)
    with pytest.raises(FormatError, match="--recover"):
        resume(run)
    executor = resume(run, recover=True)
    assert not [chore_id for chore_id in executor.executed if "work" in chore_id]
    assert "chore-alien-0001" not in completed(run)
    assert len(completed(run)) == 8


def test_journals_that_changed_places_are_noticed(run):
    one, two, _ = journals(run)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    with pytest.raises(FormatError, match="epoch"):
        records(run)


def test_a_journal_that_builds_on_itself_ends(run):
    stamp = journal_stamp(3, 0.0, 0.0)
    fields = {"format": 1, "previous": {"epoch": 3, "length": 10}}
    line = encode_journal_record(1, stamp, RecordKind.RUN_STARTED, fields=fields)
    run.journal_of(3).write_bytes(line)
    run.journal_path.write_bytes(line)
    with pytest.raises(FormatError, match="builds on"):
        records(run)


# --- whole journals -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 1000])
def test_a_journal_of_a_later_version_is_not_touched(run, version):
    stamp = journal_stamp(3, 0.0, 0.0)
    fields = {"format": version, "previous": "in some other way"}
    run.journal_path.write_bytes(
        encode_journal_record(1, stamp, RecordKind.RUN_STARTED, fields=fields)
    )
    for recover in (False, True):
        with pytest.raises(FormatError, match=f"has format {version}"):
            resume(run, recover=recover)
        with pytest.raises(FormatError, match=f"has format {version}"):
            records(run)


def test_a_missing_journal_is_named_and_can_be_done_without(run):
    one, *_ = journals(run)
    one.unlink()
    with pytest.raises(FormatError, match=rf"{one.name}.*missing.*--recover"):
        resume(run)
    executor = resume(run, recover=True)
    assert not [chore_id for chore_id in executor.executed if "work" in chore_id]
    assert len(completed(run)) == 8
    assert len(Results.read(run)) == 8


def test_a_journal_that_lost_its_end_to_a_later_one_is_noticed(run):
    path = journals(run)[1]
    path.write_bytes(b"".join(lines_of(path)[:-1]))
    with pytest.raises(FormatError, match="before what a later journal builds on"):
        records(run)
    assert resume(run, recover=True).executed == []


def test_an_empty_journal_is_none(run):
    whole = records_without_present(run)
    run.journal_path.write_bytes(b"")
    resume(run)
    told = records(run)
    assert told[: len(whole)] == whole
    assert len(completed(run)) == 8
