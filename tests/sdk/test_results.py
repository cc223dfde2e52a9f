"""Results of a finished run: lazy, one damaged file costs one key, failures are values."""

import io
import itertools
import json
import os

import pytest

from matensemble import wire
from matensemble.chore import Chore
from matensemble.errors import ChoreFailedError, FormatError, ResultCorruptError, ResultMissingError
from matensemble.model import ChoreState, ChoreType, ExecResult, Reason
from matensemble.records import RecordKind, encode_journal_record, journal_stamp
from matensemble.results import COMPLETED, Outcome, Results
from matensemble.workflow import (
    Manifest,
    create_run_dir,
    present_versions,
    utc_now,
    write_workflow,
)


def python(number, name="a"):
    return Chore(f"chore-{name}-{number:04d}", name, ChoreType.PYTHON, callable=name)


PROGRAM = Chore(
    "chore-lmp-0004", "lmp", ChoreType.EXECUTABLE, command=("lmp",), outputs={"log": "log.lammps"}
)
CHORES = {c.id: c for c in [python(1), python(2), python(3), PROGRAM, python(5)]}


@pytest.fixture
def run(tmp_path):
    run = create_run_dir(tmp_path)
    manifest = Manifest(
        name="x",
        created_at=utc_now(),
        versions=present_versions(),
        num_chores=len(CHORES),
        next_number=6,
    )
    headers = [json.dumps(chore.to_header()) for chore in CHORES.values()]
    write_workflow(run, manifest, headers, io.BytesIO(), {})
    for number in (1, 2):
        store(run, f"chore-a-{number:04d}", {"value": number})
    return run


def store(run, chore_id, value):
    run.chore_dir(chore_id).mkdir()
    wire.write_result(run.chore_file(chore_id, "result.pickle"), wire.dumps(value), 1)


OUTCOMES = {
    "chore-a-0001": COMPLETED,
    "chore-a-0002": COMPLETED,
    "chore-a-0003": Outcome(ChoreState.FAILED, Reason.EXCEPTION, 1),
    "chore-lmp-0004": Outcome(ChoreState.COMPLETED, exit_code=3),
    "chore-a-0005": Outcome(ChoreState.SKIPPED, upstream="chore-a-0003"),
}


def test_values(run):
    results = Results(run, CHORES, OUTCOMES)
    assert list(results) == list(OUTCOMES)
    assert len(results) == 5
    assert results["chore-a-0001"] == {"value": 1}
    program = results["chore-lmp-0004"]
    assert isinstance(program, ExecResult)
    assert program.exit_code == 3
    assert program["log"] == run.root / "out" / "chore-lmp-0004" / "log.lammps"
    assert results.gather("a") == [{"value": 1}, {"value": 2}]
    assert results.outcome("chore-a-0001") is COMPLETED


def test_failures_are_values_with_their_facts(run):
    directory = run.chore_dir("chore-a-0003")
    directory.mkdir()
    (directory / "error.json").write_text(
        json.dumps({"type": "ValueError", "message": "no", "traceback": "Traceback …\n"})
    )
    results = Results(run, CHORES, OUTCOMES)
    failed = results["chore-a-0003"]
    assert isinstance(failed, ChoreFailedError)
    assert (failed.reason, failed.exit_code) == ("exception", 1)
    assert failed.detail == "ValueError: no"
    assert failed.traceback == "Traceback …\n"
    assert failed.directory == str(directory)
    skipped = results["chore-a-0005"]
    assert (skipped.reason, skipped.upstream) == ("dependency_failed", "chore-a-0003")


def test_a_skipped_chore_says_what_befell_its_root(run):
    run.chore_dir("chore-a-0003").mkdir()
    run.chore_file("chore-a-0003", "error.json").write_text(
        json.dumps({"type": "ValueError", "message": "no", "traceback": "Traceback …\n"})
    )
    skipped = Results(run, CHORES, OUTCOMES)["chore-a-0005"]
    assert str(skipped).splitlines()[0] == (
        "chore-a-0005: dependency_failed (root: chore-a-0003): "
        "exception (exit code 1): ValueError: no"
    )
    assert (skipped.exit_code, skipped.traceback) == (None, "Traceback …\n")
    assert skipped.directory == str(run.chore_dir("chore-a-0003"))


def test_failures_are_the_roots_only(run):
    results = Results(run, CHORES, OUTCOMES)
    assert [error.chore_id for error in results.failures()] == ["chore-a-0003"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1]",
        '"x"',
        "[" * 200_000,
        '{"type": "E", "traceback": [1]}',
        '"' + "x" * (1 << 21),
    ],
)
def test_a_damaged_error_record_does_not_hide_the_failure(run, content):
    run.chore_dir("chore-a-0003").mkdir()
    run.chore_file("chore-a-0003", "error.json").write_text(content)
    assert Results(run, CHORES, OUTCOMES)["chore-a-0003"].reason == "exception"


def test_damage_and_absence_cost_one_key(run):
    results = Results(run, CHORES, OUTCOMES)
    run.chore_file("chore-a-0001", "result.pickle").write_bytes(b"x")
    with pytest.raises(ResultCorruptError):
        results["chore-a-0001"]
    run.chore_file("chore-a-0001", "result.pickle").unlink()
    with pytest.raises(ResultMissingError):
        results["chore-a-0001"]
    assert results["chore-a-0002"] == {"value": 2}


def test_lookup_is_lazy_and_unknown_keys_are_key_errors(run):
    results = Results(run, CHORES, OUTCOMES)
    run.chore_file("chore-a-0001", "result.pickle").unlink()
    assert "chore-a-0001" in results
    assert "chore-x-0009" not in results
    with pytest.raises(KeyError):
        results["chore-x-0009"]
    with pytest.raises(TypeError):
        results["chore-a-0001"] = 1


def test_gather_orders_by_number_past_four_digits(run):
    numbers = [10000, 2, 9999, 1]
    chores = {c.id: c for c in map(python, numbers)}
    results = Results(run, chores, dict.fromkeys(chores, COMPLETED))
    expected = ["chore-a-0001", "chore-a-0002", "chore-a-9999", "chore-a-10000"]
    assert results.group("a") == expected


def journal(run, *records):
    lines = [
        encode_journal_record(i, journal_stamp(1, 0.0, 0.0), kind, chore_id, 1, fields)
        for i, (kind, chore_id, fields) in enumerate(records, 1)
    ]
    run.journal_path.write_bytes(b"".join(lines))


HISTORY = [
    (RecordKind.RUN_STARTED, None, {"format": 1}),
    (RecordKind.COMPLETED, "chore-a-0001", {"x": 0}),
    (RecordKind.FAILED, "chore-a-0002", {"r": "signal", "x": -9, "d": "killed"}),
    (RecordKind.SUBMIT_INTENT, "chore-a-0002", None),
    (RecordKind.COMPLETED, "chore-a-0002", {"x": 0}),
    (RecordKind.FAILED, "chore-a-0003", {"r": "nonzero_exit", "x": 2, "d": "oops"}),
    (RecordKind.COMPLETED, "chore-lmp-0004", {"x": 3}),
    (RecordKind.SKIPPED, "chore-a-0005", {"u": "chore-a-0003"}),
    (
        RecordKind.CHORE_ADDED,
        "chore-a-0006",
        {"header": python(6).to_header(), "parent": "chore-a-0001"},
    ),
    (RecordKind.CANCELLED, "chore-a-0006", None),
]


def test_reading_a_finished_run(run):
    journal(run, *HISTORY)
    results = Results.read(run.root)
    assert results["chore-a-0002"] == {"value": 2}
    assert results["chore-a-0003"].detail == "oops"
    assert results["chore-lmp-0004"].exit_code == 3
    assert results["chore-a-0005"].upstream == "chore-a-0003"
    assert results["chore-a-0006"].reason == "cancelled"


@pytest.mark.slow
def test_reading_at_every_prefix_of_the_journal(run):
    journal(run, *HISTORY)
    content = run.journal_path.read_bytes()
    ended = []
    sizes = [*range(0, len(content), 1 if os.environ.get("MATENSEMBLE_LONG") else 7), len(content)]
    for size in sizes:
        run.journal_path.write_bytes(content[:size])
        ended.append(len(Results.read(run)))
    assert ended[0] == 0
    assert ended[-1] == 6
    assert all(abs(a - b) <= 1 for a, b in itertools.pairwise(ended))


@pytest.mark.parametrize(
    "damage",
    [
        (RecordKind.FAILED, "chore-a-0003", {"r": "nobody knows"}),
        (RecordKind.FAILED, "chore-a-0003", {}),
        (RecordKind.FAILED, "chore-a-0003", {"r": "signal", "x": "nine"}),
        (RecordKind.FAILED, "chore-a-0003", {"r": "signal", "d": ["text"]}),
        (RecordKind.SKIPPED, "chore-a-0005", {"u": 3}),
        (RecordKind.CHORE_ADDED, "chore-a-0006", {"header": [1]}),
        (RecordKind.CHORE_ADDED, "chore-a-0006", {}),
    ],
)
def test_a_record_that_says_nonsense_is_an_error_that_names_it(run, damage):
    journal(run, HISTORY[0], damage)
    with pytest.raises(FormatError, match="record 2"):
        Results.read(run)


def test_a_failure_with_exit_code_0_reads_back_as_such(run):
    journal(run, HISTORY[0], (RecordKind.FAILED, "chore-a-0003", {"r": "result_missing", "x": 0}))
    assert Results.read(run)["chore-a-0003"].exit_code == 0


def test_a_named_pipe_in_the_place_of_an_error_record_blocks_nobody(run):
    run.chore_dir("chore-a-0003").mkdir()
    os.mkfifo(run.chore_file("chore-a-0003", "error.json"))
    assert Results(run, CHORES, OUTCOMES)["chore-a-0003"].reason == "exception"


def test_a_damaged_middle_is_an_error_that_names_the_line(run):
    journal(run, *HISTORY)
    lines = run.journal_path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"signal", b"SIGNAL")
    run.journal_path.write_bytes(b"".join(lines))
    with pytest.raises(FormatError, match="line 3"):
        Results.read(run)


def test_a_run_that_was_never_started(run):
    with pytest.raises(FileNotFoundError):
        Results.read(run)
