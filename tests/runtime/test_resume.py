"""Runs that go on: with real processes, through the manager."""

from __future__ import annotations

import pytest

from matensemble.chore import ChoreSpec
from matensemble.model import OutputReference
from matensemble.pipeline import Pipeline
from matensemble.records import RecordKind, read_records
from matensemble.results import Results
from matensemble.reuse import why_not_reused
from matensemble.runtime.resumption import take_over_journal
from matensemble.workdir import RESULT, RunDir

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


def make(basedir, **options) -> Pipeline:
    """Return a pipeline: squares, one more chore asked for on each of them, and their sum."""
    pipe = Pipeline(basedir, **options)

    @pipe.chore
    def square(x):
        return x * x

    @pipe.chore
    def negate(x):
        return -x

    @pipe.strategy(triggers=["square"])
    def ask(value):
        return ChoreSpec((value,), None, "negate")

    @pipe.chore
    def total(values):
        return sum(values)

    for x in (1, 2, 3):
        square(x)
    total(pipe.gather("negate"))
    return pipe


def run(pipe: Pipeline) -> RunDir:
    pipe.submit(executor="local", cores=2)
    assert pipe.results()["chore-total-0004"] == -14
    assert pipe.run_dir is not None
    return RunDir(pipe.run_dir)


def kinds(run_dir: RunDir, kind: RecordKind) -> list[str]:
    return [str(r.chore_id) for r in read_records(run_dir) if r.kind == kind]


def resume(run_dir: RunDir) -> Results:
    return Pipeline.resume(run_dir.root, executor="local", cores=2).results()


def test_a_finished_run_is_left_as_it_is(tmp_path):
    run_dir = run(make(tmp_path))
    before = kinds(run_dir, RecordKind.SUBMIT_INTENT)
    assert resume(run_dir)["chore-total-0004"] == -14
    assert kinds(run_dir, RecordKind.SUBMIT_INTENT) == before


def test_results_that_are_gone_or_damaged_are_made_again_and_nothing_is_asked_for_twice(tmp_path):
    run_dir = run(make(tmp_path))
    before = kinds(run_dir, RecordKind.CHORE_ADDED)
    strategy_chore = before[0]
    run_dir.chore_file("chore-square-0001", RESULT).unlink()
    run_dir.chore_file("chore-square-0002", RESULT).write_bytes(b"something else")
    run_dir.chore_file(strategy_chore, RESULT).unlink()
    results = resume(run_dir)
    assert [results[f"chore-square-000{i}"] for i in (1, 2, 3)] == [1, 4, 9]
    revoked = {"chore-square-0001", "chore-square-0002", strategy_chore}
    assert set(kinds(run_dir, RecordKind.REVOKED)) == revoked
    again = [r for r in read_records(run_dir) if r.kind == RecordKind.SUBMIT_INTENT]
    assert {str(r.chore_id) for r in again if r.attempt == 2} == revoked
    assert kinds(run_dir, RecordKind.CHORE_ADDED) == before


def test_a_result_found_damaged_by_who_needs_it_is_made_again_meanwhile(tmp_path):
    pipe = Pipeline(tmp_path)

    @pipe.chore
    def first():
        return 1

    @pipe.chore
    def harm():
        import os
        from pathlib import Path

        path = Path(os.environ["MATENSEMBLE_RUN_DIR"], "out/chore-first-0001/result.pickle")
        path.write_bytes(path.read_bytes()[:-1] + b"?")

    @pipe.chore
    def need(x):
        return x + 1

    one = first()
    need.options(after=[harm.options(after=[one])()])(one)
    pipe.submit(executor="local", cores=2)
    assert pipe.results()["chore-need-0003"] == 2
    run_dir = RunDir(pipe.run_dir)
    assert kinds(run_dir, RecordKind.REVOKED) == ["chore-first-0001"]
    assert kinds(run_dir, RecordKind.FAILED) == []


def test_a_result_that_is_taken_over_starts_what_watches_it_once(tmp_path):
    run(make(tmp_path, resume="latest"))
    second = run(make(tmp_path, resume="latest"))
    assert sorted(kinds(second, RecordKind.REUSED)) == [f"chore-square-000{i}" for i in (1, 2, 3)]
    added = kinds(second, RecordKind.CHORE_ADDED)
    assert len(added) == 6  # three strategy chores, three that they asked for
    assert resume(second)["chore-total-0004"] == -14
    assert kinds(second, RecordKind.CHORE_ADDED) == added


def test_a_file_that_a_chore_itself_writes_to_makes_only_its_result_unsure(tmp_path):
    data = tmp_path / "data"
    data.write_text("before")

    def once():
        pipe = Pipeline(tmp_path / "runs", resume="latest", cache_dir=tmp_path / "cache")
        pipe.exec(["sh", "-c", 'printf before > "$0"', str(data)], name="write")
        pipe.exec(["sh", "-c", "echo said"], name="say")
        pipe.submit(executor="local", cores=2)
        pipe.results()
        return RunDir(pipe.run_dir)

    first = once()
    log = first.log_path.read_text()
    assert f"chore-write-0001 is not put into the cache, nor is what else depends on {data}" in log
    second = once()
    assert kinds(second, RecordKind.REUSED) == ["chore-say-0002"]
    assert f"{data} changed" in (why_not_reused(second, "chore-write-0001") or "")


def test_what_a_killed_driver_had_not_committed_of_a_strategy_is_forgotten(tmp_path):
    run_dir = run(make(tmp_path))
    lines = run_dir.journal_path.read_bytes().splitlines(keepends=True)
    added = [i for i, line in enumerate(lines) if b'"k":"chore_added"' in line]
    parent_ends = next(
        i for i, line in enumerate(lines) if i > added[0] and b'"k":"completed"' in line
    )
    run_dir.journal_path.write_bytes(b"".join(lines[:parent_ends]))
    replay, accepted = take_over_journal(run_dir, 2)
    assert replay.added == []
    assert accepted is not None
    assert accepted.length == sum(map(len, lines[: added[0]]))


def test_a_reference_to_a_chore_of_a_resumed_run_has_its_result(tmp_path):
    run_dir = run(make(tmp_path))
    pipe = Pipeline.resume(run_dir.root, executor="local", cores=2)
    reference = OutputReference("chore-square-0003", (), pipe)
    assert reference.result(timeout=60) == 9
