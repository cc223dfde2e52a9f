"""The index agrees with the replay of the same journal, whatever happens to its files."""

from __future__ import annotations

import concurrent.futures
import importlib.util
import json
import shutil
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from matensemble.dashboard.index import run_index
from matensemble.dashboard.index.fold import pattern_of
from matensemble.dashboard.index.run_index import RunIndex
from matensemble.dashboard.index.schema import SCHEMA_VERSION, open_for_reading, open_for_writing
from matensemble.errors import FormatError
from matensemble.model import ChoreState
from matensemble.pipeline import Pipeline
from matensemble.records import RecordKind, encode_journal_record, journal_stamp, read_records
from matensemble.replay import Replay
from matensemble.workdir import RunDir
from matensemble.workflow import Workflow

ROOT = Path(__file__).parents[2]


def load_generator():
    spec = importlib.util.spec_from_file_location("runs", ROOT / "benchmarks" / "runs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_run = load_generator().make_run


@pytest.fixture
def finished(tmp_path):
    return make_run(tmp_path, 900)


@pytest.fixture
def make_index(tmp_path):
    made = []

    def make(run, name="index.sqlite"):
        made.append(RunIndex(run, tmp_path / name))
        return made[-1]

    yield make
    for index in made:
        index.close()


def rows_of(index):
    database = open_for_reading(index.path)
    try:
        return {row["id"]: dict(row) for row in database.execute("SELECT * FROM chores")}
    finally:
        database.close()


def ask(index, statement):
    database = open_for_reading(index.path)
    try:
        return [tuple(row) for row in database.execute(statement)]
    finally:
        database.close()


def assert_agrees(index, run):
    """Compare all standings and counts with those of the replay, which reads everything."""
    replay = Replay.of(read_records(run))
    rows = rows_of(index)
    names = {chore.id: chore.name for chore in Workflow.read(run).chores()}
    names |= {added.chore.id: added.chore.name for added in replay.added}
    assert rows.keys() == names.keys()
    counts = Counter()
    for chore_id, row in rows.items():
        standing = replay.standing(chore_id)
        told = (row["state"], row["attempt"], row["reason"], row["exit_code"], row["root"])
        assert told == (
            standing.state,
            standing.attempt,
            standing.reason,
            standing.exit_code,
            standing.root,
        )
        assert row["name"] == names[chore_id]
        counts[row["name"], row["state"]] += 1
    kept = ask(index, "SELECT name, state, count FROM counts WHERE count != 0")
    assert {(name, state): count for name, state, count in kept} == counts
    clusters = ask(index, "SELECT id, failed, skipped FROM clusters")
    for cluster, failed, skipped in clusters:
        members = Counter(r["state"] for r in rows.values() if r["cluster"] == cluster)
        assert (members["failed"], members["skipped"]) == (failed, skipped)


def test_finished_run(make_index, finished):
    index = make_index(finished)
    progress = index.catch_up()
    assert progress.num_bytes == progress.total_bytes
    assert_agrees(index, finished)
    assert ask(index, "SELECT reason, pattern, failed, skipped FROM clusters") == [
        ("exception", "ValueError: atom … left the box at step …", 3, 6)
    ]
    lost = ask(index, "SELECT attempt, reason, detail, host FROM attempts")
    assert len(lost) == 6
    assert lost[0] == (1, "node_failure", "node3 is lost", "node3")
    assert ask(index, "SELECT count(*) FROM chores WHERE seconds < 0")[0][0] == 6  # the skipped


def test_progress_grows_to_its_end(make_index, finished, monkeypatch):
    monkeypatch.setattr(run_index, "BATCH_LINES", 100)
    index = make_index(finished)
    shares, is_complete = [], False
    while not is_complete:
        read, total, is_complete = index.update()
        shares.append(read / total)
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.2
    assert shares[-1] == 1


def test_looking_again_writes_nothing(make_index, finished):
    index = make_index(finished)
    index.catch_up()
    before = ask(index, "SELECT value FROM meta")
    assert index.update().is_complete
    assert ask(index, "SELECT value FROM meta") == before


def test_journal_that_grows_by_any_piece(make_index, finished, monkeypatch):
    monkeypatch.setattr(run_index, "BATCH_LINES", 50)
    journal = finished.journal_path.read_bytes()
    finished.journal_path.write_bytes(b"")
    index = make_index(finished)
    index.catch_up()
    with finished.journal_path.open("ab") as file:
        for start in range(0, len(journal), 7919):  # ends within lines nearly always
            file.write(journal[start : start + 7919])
            file.flush()
            index.catch_up()
            if start % (7919 * 5) == 0:
                assert_agrees(index, finished)
    assert_agrees(index, finished)


def test_index_outlives_the_process_that_made_it(make_index, finished):
    journal = finished.journal_path.read_bytes()
    half = journal.index(b"\n", len(journal) // 2) + 1
    finished.journal_path.write_bytes(journal[:half])
    first = make_index(finished)
    first.catch_up()
    first.close()
    with finished.journal_path.open("ab") as file:
        file.write(journal[half:])
    second = make_index(finished)
    generation = ask(second, "SELECT value FROM meta")[0][0]
    second.catch_up()
    assert ask(second, "SELECT value FROM meta")[0][0] - generation < 10  # was not made anew
    assert_agrees(second, finished)


def test_truncated_journal_makes_it_anew(make_index, finished):
    index = make_index(finished)
    index.catch_up()
    journal = finished.journal_path.read_bytes()
    finished.journal_path.write_bytes(journal[: journal.index(b"\n", len(journal) // 3) + 1])
    index.catch_up()
    assert_agrees(index, finished)


def test_replaced_run_makes_it_anew(make_index, finished, tmp_path):
    index = make_index(finished)
    index.catch_up()
    other = make_run(tmp_path / "other", 1200)
    for name in ("chores_path", "journal_path", "arguments_path", "manifest_path"):
        shutil.copyfile(getattr(other, name), getattr(finished, name))  # the inodes stay
    index.catch_up()
    assert_agrees(index, finished)


def take_over(run: RunDir, length: int) -> None:
    """Do to the journals what a driver does that takes a run over and ends it."""
    run.journal_path.rename(run.journal_of(1))
    stamp = journal_stamp(2, 1.8e9, 5.0)
    previous = {"epoch": 1, "length": length}
    facts = {"format": 1, "run": "x", "executor": "local", "nodes": [], "previous": previous}
    first = encode_journal_record(1, stamp, RecordKind.RUN_STARTED, fields=facts)
    second = encode_journal_record(
        2, stamp, RecordKind.RETRIED, "chore-relax-0008", 1, {"by": "somebody"}
    )
    third = encode_journal_record(3, stamp, RecordKind.SUBMIT_INTENT, "chore-relax-0008", 2)
    run.journal_path.write_bytes(first + second + third)


def test_takeover_that_accepts_all_goes_on(make_index, finished):
    index = make_index(finished)
    index.catch_up()
    before = ask(index, "SELECT value FROM meta")[0][0]
    take_over(finished, finished.journal_path.stat().st_size)
    index.catch_up()
    assert ask(index, "SELECT value FROM meta")[0][0] - before < 5
    assert_agrees(index, finished)
    assert rows_of(index)["chore-relax-0008"]["state"] == "submitted"
    assert ("exception",) in ask(index, "SELECT reason FROM attempts")


def test_takeover_that_accepts_less_undoes_the_rest(make_index, finished):
    index = make_index(finished)
    index.catch_up()
    journal = finished.journal_path.read_bytes()
    take_over(finished, journal.index(b"\n", len(journal) // 2) + 1)
    index.catch_up()
    assert_agrees(index, finished)
    finished.journal_of(1).write_bytes(journal + b"what a replaced driver still writes\n")
    index.catch_up()
    assert_agrees(index, finished)


def test_torn_and_damaged_lines(make_index, finished):
    journal = finished.journal_path.read_bytes()
    cut = journal.index(b"\n", len(journal) // 2) + 1
    finished.journal_path.write_bytes(journal[: cut + 20])
    index = make_index(finished)
    index.catch_up()
    assert_agrees(index, finished)
    num_ended = len(ask(index, "SELECT id FROM chores WHERE ended_at > 0"))
    finished.journal_path.write_bytes(journal[: cut + 20] + b"\n" + journal[cut:])
    for _ in range(2):
        with pytest.raises(FormatError, match="damaged"):
            index.catch_up()
    assert len(ask(index, "SELECT id FROM chores WHERE ended_at > 0")) == num_ended
    finished.journal_path.write_bytes(journal)
    index.catch_up()
    assert_agrees(index, finished)


@pytest.mark.parametrize(
    ("kind", "chore_id", "attempt", "fields"),
    [
        (RecordKind.SUBMIT_INTENT, "chore-nobody-0001", 1, {}),
        (RecordKind.SUBMIT_INTENT, "chore-relax-0001", 2**70, {}),
        (RecordKind.FAILED, "chore-relax-0001", 1, {"r": "exception", "x": 2**70}),
        (RecordKind.REQUEUED, "chore-relax-0001", 1, {"x": "one"}),
        (RecordKind.FAILED, "chore-relax-0001", 1, {"r": "bad luck"}),
        (RecordKind.FAILED, "chore-relax-0001", 1, {}),
        (RecordKind.SKIPPED, "chore-relax-0001", 1, {"u": "chore-nobody-0001"}),
        (RecordKind.CHORE_ADDED, "x", 1, {"header": {"id": "chore-relax-0001"}}),
        (
            RecordKind.CHORE_ADDED,
            "x",
            1,
            {"header": {"id": "chore-relax-0001", "name": "relax", "kind": "python"}},
        ),
        (RecordKind.CHORE_ADDED, "x", 1, {"header": {"id": "a\x1b[2J", "name": "b", "kind": "c"}}),
    ],
)
def test_records_without_sense_are_told(make_index, finished, kind, chore_id, attempt, fields):
    journal = finished.journal_path.read_bytes()
    first = journal[: journal.index(b"\n") + 1]
    stamp = journal_stamp(1, 1.8e9, 5.0)
    finished.journal_path.write_bytes(
        first + encode_journal_record(2, stamp, kind, chore_id, attempt, fields)
    )
    index = make_index(finished)
    for _ in range(2):
        with pytest.raises(FormatError):
            index.catch_up()
    assert ask(index, "SELECT count(*) FROM chores")[0][0] == 900
    assert ask(index, "SELECT sum(count) FROM counts")[0][0] == 900


def test_hostile_detail_is_cleaned_and_bounded(make_index, finished):
    journal = finished.journal_path.read_bytes()
    first = journal[: journal.index(b"\n") + 1]
    stamp = journal_stamp(1, 1.8e9, 5.0)
    fields = {"r": "exception", "d": "\x1b]0;x\x07\ud800\n" + "a" * 100_000}
    finished.journal_path.write_bytes(
        first + encode_journal_record(2, stamp, RecordKind.FAILED, "chore-relax-0001", 1, fields)
    )
    index = make_index(finished)
    index.catch_up()
    detail = rows_of(index)["chore-relax-0001"]["detail"]
    assert detail.startswith("\ufffd aaa")
    assert len(detail) == 2000


@pytest.mark.parametrize("name", ["journal_path", "chores_path"])
def test_links_are_not_followed(make_index, finished, tmp_path, name):
    path = getattr(finished, name)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FormatError, match="symbolic link"):
        make_index(finished).catch_up()


def test_run_that_was_not_started(make_index, finished):
    finished.journal_path.unlink()
    index = make_index(finished)
    index.catch_up()
    assert {row["state"] for row in rows_of(index).values()} == {"blocked"}


@pytest.mark.parametrize("damage", ["version", "content"])
def test_index_of_another_version_or_damaged_is_made_anew(make_index, finished, damage):
    first = make_index(finished)
    first.catch_up()
    if damage == "version":
        first._database.execute("DROP TABLE chores")
        first._database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    first.close()
    if damage == "content":
        first.path.write_bytes(b"no database at all" * 1000)
    second = make_index(finished)
    second.catch_up()
    assert_agrees(second, finished)
    assert first.path.stat().st_mode & 0o777 == 0o600


def test_two_feed_one_index_in_turns(make_index, finished, monkeypatch):
    monkeypatch.setattr(run_index, "BATCH_LINES", 100)
    first, second = make_index(finished), make_index(finished)
    while not (first.update().is_complete and second.update().is_complete):
        pass
    assert_agrees(first, finished)


def test_an_index_is_made_by_several_at_once(tmp_path):
    barrier = threading.Barrier(4)

    def make(number):
        path = tmp_path / f"{number}.sqlite"
        barrier.wait(60)
        with closing(open_for_writing(path)) as database:
            return database.execute("PRAGMA journal_mode").fetchone()[0]

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        for number in range(20):
            assert [*threads.map(make, [number] * 4)] == ["wal"] * 4


@pytest.mark.slow
def test_two_processes_feed_one_index_at_once(make_index, finished, tmp_path):
    script = (
        "import sys; from pathlib import Path; from matensemble.workdir import RunDir\n"
        "from matensemble.dashboard.index import run_index\n"
        "run_index.BATCH_LINES = 100\n"
        "run_index.RunIndex(RunDir(Path(sys.argv[1])), Path(sys.argv[2])).catch_up()\n"
    )
    path = tmp_path / "index.sqlite"
    command = [sys.executable, "-P", "-c", script, str(finished.root), str(path)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert_agrees(make_index(finished), finished)


@pytest.mark.slow
@pytest.mark.e2e
def test_real_run(make_index, tmp_path):
    pipe = Pipeline(tmp_path)

    @pipe.chore(name="half")
    def half(number):
        if number % 2:
            raise ValueError(f"{number} is odd")
        return number // 2

    @pipe.strategy(triggers=["half"])
    def more(result):
        return None if result else pipe_spec()

    def pipe_spec():
        from matensemble.chore import ChoreSpec

        return ChoreSpec.exec("true", name="late")

    halves = [half(number) for number in (0, 1, 2)]
    pipe.exec("false", name="wrong")
    half(halves[1])
    pipe.submit(log_delay=60).exception(timeout=100)
    (root,) = tmp_path.glob("matensemble_workflow-*")
    index = make_index(RunDir(root))
    index.catch_up()
    assert_agrees(index, RunDir(root))
    rows = rows_of(index)
    assert Counter(row["name"] for row in rows.values()) == {
        "half": 4,
        "more": 2,
        "wrong": 1,
        "late": 1,
    }
    late = next(row for row in rows.values() if row["name"] == "late")
    assert late["state"] == ChoreState.COMPLETED
    journal = RunDir(root).journal_path.read_bytes()
    line = journal[late["offset"] : late["offset"] + late["length"]]
    assert json.loads(line)["header"]["id"] == late["id"]


def test_pattern_keeps_what_failures_have_in_common():
    pattern = pattern_of(
        "OSError: [Errno 28] no space for '/scratch/a b/x 7' at 0x7f3a, step 1.5e-3"
    )
    assert pattern == "OSError: [Errno …] no space for … at …, step …"
    assert pattern_of("a" * 1000) == "a" * 200
