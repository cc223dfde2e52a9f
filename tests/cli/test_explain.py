"""`explain`: why a chore waits, failed, ran again or was not run, by the records alone."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from matensemble.chronicle import Chronicle
from matensemble.cli import main
from matensemble.errors import FormatError, RunDirectoryError
from matensemble.explanation import Explanation, explain_chore, read_tail
from matensemble.history import ChoreIndex, find_chores
from matensemble.model import RunState
from matensemble.pipeline import Pipeline
from matensemble.policy import Retry
from matensemble.records import RecordKind as Kind, about, read_records
from matensemble.status import Counts, RunStatus
from matensemble.subcommands.explain import describe
from matensemble.workdir import RunDir

RELAX, ENERGY, FIT, REPORT, TABLE = (
    "chore-relax-0001",
    "chore-energy-0002",
    "chore-fit-0003",
    "chore-report-0004",
    "chore-table-0005",
)


@pytest.fixture
def saved(tmp_path: Path) -> RunDir:
    """A chain of four chores, and a table of all energies."""
    pipe = Pipeline(tmp_path / "runs")

    @pipe.chore(cores_per_task=4, duration="1h", retries=Retry(limit=2, on=("out_of_memory",)))
    def relax(x: float) -> float:
        return x

    @pipe.chore
    def energy(x: float) -> float:
        return x

    @pipe.chore(num_tasks=2)
    def fit(x: float) -> float:
        return x

    @pipe.chore
    def report(x: float) -> float:
        return x

    @pipe.chore
    def table(xs: list[float]) -> list[float]:
        return xs

    report(fit(energy(relax(0.1))))
    table(pipe.gather("energy"))
    return RunDir(pipe.save())


@pytest.fixture
def driven(
    saved: RunDir,
    make_status: Callable[..., RunStatus],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., None]:
    """Return what publishes a status of a driver that is alive."""
    monkeypatch.setattr("matensemble.runs.SILENCE_SECONDS", float("inf"))

    def publish(state: RunState = RunState.RUNNING, **changes: Any) -> None:
        status = make_status(state=state, host=socket.gethostname(), pid=os.getpid(), **changes)
        saved.status_path.write_text(json.dumps(status.to_json()))

    publish()
    return publish


def explain(run: RunDir, chore_id: str, now: datetime) -> Explanation:
    explanation = explain_chore(run, chore_id, now)
    assert json.loads(json.dumps(explanation.to_json()))["chore_id"] == chore_id
    return explanation


def text(run: RunDir, chore_id: str, now: datetime) -> str:
    return "\n".join(describe(explain(run, chore_id, now), run))


# --- why it waits -----------------------------------------------------------------------------


def test_of_a_run_that_was_not_started(saved: RunDir, now: datetime) -> None:
    found = explain(saved, FIT, now)
    assert found.state == "blocked"
    assert found.because == (f"waits for {ENERGY} (blocked)", "the run was not started")
    assert explain(saved, RELAX, now).because == (
        "the run was not started",
        "it depends on no other chore, and asks for 1 task of 4 cores",
    )


def test_what_is_blocked_names_what_it_waits_for_in_the_end(
    saved: RunDir, journal: Any, driven: Callable[..., None], now: datetime
) -> None:
    journal.write(Kind.SUBMIT_INTENT, RELAX)
    journal.write(Kind.STARTED, RELAX, {"h": "node7"}, at=60)
    found = explain(saved, REPORT, now)
    assert (found.state, found.because) == ("blocked", (f"waits for {FIT} (blocked)",))
    assert found.chain == (REPORT, FIT, ENERGY, RELAX)
    assert explain(saved, ENERGY, now).because == (f"waits for {RELAX} (running, on node7)",)
    running = explain(saved, RELAX, now)
    assert running.because == ("for 2 min on node7 with a limit of 1 h",)
    assert running.attempts[0].started_at is not None


def test_what_is_ready_says_what_it_asks_for_and_what_there_is(
    saved: RunDir, journal: Any, driven: Callable[..., None], now: datetime
) -> None:
    saved.journal_path.unlink()
    type(journal)(saved, nodes=[["node7", 16, 0], ["node8", 32, 0]])
    driven(total_cores=48, free_cores=3)
    found = explain(saved, RELAX, now)
    assert found.state == "ready"
    assert found.because == (
        "it depends on no other chore, and asks for 1 task of 4 cores",
        "free are 3 of 48 cores, on 2 nodes of at most 32 cores",
        "may run for 1 h, so it starts only where that much time is left",
        "its nice is 0; those with a lower one come first",
    )


def test_what_is_held_by_a_pause_says_by_whose(
    saved: RunDir, journal: Any, driven: Callable[..., None], now: datetime
) -> None:
    driven(RunState.PAUSED)
    fields = {
        "id": "x",
        "verb": "pause",
        "by": {"user": "ana", "host": "login1"},
        "args": {},
        "answer": {"done": True, "text": "paused"},
    }
    journal.write(Kind.CONTROL, fields=fields)
    assert "held: the run is paused, by ana on login1" in explain(saved, RELAX, now).because
    driven(RunState.DRAINING, detail="the allocation ends soon")
    because = explain(saved, FIT, now).because
    assert because[1] == "held: the run is draining (the allocation ends soon)"


def test_a_wait_before_another_attempt(
    saved: RunDir, journal: Any, driven: Callable[..., None], now: datetime
) -> None:
    journal.write(Kind.SUBMIT_INTENT, RELAX)
    fields = {"r": "out_of_memory", "b": "retry", "after": 60.0}
    journal.write(Kind.REQUEUED, RELAX, fields, at=150)  # half a minute ago
    found = explain(saved, RELAX, now)
    assert found.state == "blocked"
    assert found.because == ("waits 1 min before it is tried again, 30 s of it left",)
    journal.write(Kind.SUBMIT_INTENT, RELAX, attempt=2, at=179)
    assert explain(saved, RELAX, now).state == "submitted"


def test_a_gather_counts_what_has_ended(
    saved: RunDir, journal: Any, driven: Callable[..., None], now: datetime
) -> None:
    driven(groups={"energy": Counts(total=10, completed=5, failed=1, pending=4)})
    (because,) = explain(saved, TABLE, now).because
    assert because.endswith("; 6 of 10 of 'energy' have")


def test_what_is_left_by_a_lost_driver(
    saved: RunDir,
    journal: Any,
    make_status: Callable[..., RunStatus],
    write_status: Callable[[RunDir, RunStatus], None],
    now: datetime,
) -> None:
    write_status(saved, make_status())  # of long ago
    journal.write(Kind.SUBMIT_INTENT, RELAX)
    assert any("seems lost" in line for line in explain(saved, RELAX, now).because)
    write_status(saved, make_status(state=RunState.INTERRUPTED, detail="Ctrl-C"))
    assert explain(saved, FIT, now).because[1] == "the run is over: it is interrupted (Ctrl-C)"


# --- why it failed ----------------------------------------------------------------------------

TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 1\nValueError: no minimum\n'


@pytest.fixture
def failed(saved: RunDir, journal: Any, driven: Callable[..., None]) -> RunDir:
    """`relax` was made three times and failed; the others were skipped for it."""
    journal.write(Kind.SUBMIT_INTENT, RELAX)
    journal.write(Kind.SUBMITTED, RELAX, {"j": "ƒABC"})
    journal.write(Kind.STARTED, RELAX, {"h": "node7"}, at=1)
    retry = {
        "r": "out_of_memory",
        "x": -9,
        "d": "ended by SIGKILL",
        "b": "retry",
        "after": 2.0,
        "resources": {"cores_per_task": 8},
    }
    journal.write(Kind.REQUEUED, RELAX, retry, at=61)
    journal.write(Kind.SUBMIT_INTENT, RELAX, attempt=2, at=63)
    journal.write(Kind.STARTED, RELAX, {"h": "node7"}, attempt=2, at=64)
    loss = {"r": "node_failure", "b": "loss", "avoid": ["node7"]}
    journal.write(Kind.REQUEUED, RELAX, loss, attempt=2, at=70)
    journal.write(Kind.SUBMIT_INTENT, RELAX, attempt=3, at=71)
    journal.write(Kind.STARTED, RELAX, attempt=3, at=71)
    end = {"r": "exception", "x": 1, "d": "ValueError: no minimum"}
    journal.write(Kind.FAILED, RELAX, end, attempt=3, at=75)
    for chore_id in (ENERGY, FIT, REPORT):
        journal.write(Kind.SKIPPED, chore_id, {"u": RELAX})
    for number in (1, 2):
        saved.attempt_dir(RELAX, number).mkdir(parents=True)
    error = {"type": "ValueError", "message": "no minimum", "traceback": TRACEBACK}
    saved.chore_file(RELAX, "error.json").write_text(json.dumps(error))
    stderr = (
        f"step 3\r\x1b[31mstep 4\x1b[0m\n{TRACEBACK}\n[matensemble] {RELAX} failed: exception\n"
    )
    saved.chore_file(RELAX, "stderr").write_bytes(stderr.encode())
    saved.chore_file(RELAX, "stdout").write_bytes(b"column  one\n\n")
    driven(RunState.FAILED)
    return saved


def test_a_failure_in_words(failed: RunDir, now: datetime) -> None:
    assert text(failed, RELAX, now).splitlines() == [
        f"{RELAX} \x1b[31m\x1b[1mfailed\x1b[0m",
        "  exception (exit code 1): ValueError: no minimum",
        "  it was not tried again: its retries do not cover this failure",
        "",
        "What it runs:",
        "  relax(0.1)",
        "  asks for 1 task of 8 cores",
        "",
        "Attempts:",
        "   1  ended after 1 min on node7: out_of_memory (exit code -9): ended by SIGKILL",
        "      tried again by its retries, after a wait of 2.0 s, asking for 1 task of 8 cores",
        f"      files in out/{RELAX}/attempts/1",
        "   2  ended after 6.0 s on node7: node_failure",
        "      lost to the infrastructure, not charged to its retries, keeping off node7",
        f"      files in out/{RELAX}/attempts/2",
        "   3  failed after 4.0 s: exception (exit code 1): ValueError: no minimum",
        f"      files in out/{RELAX}",
        "",
        *(f"  {line}" for line in TRACEBACK.splitlines()),
        "",
        f"Last lines of out/{RELAX}/stderr:",
        "  step 4",
        "",
        f"Last lines of out/{RELAX}/stdout:",
        "  column  one",
        "",
        f"To run it again: matensemble retry {failed.root} {RELAX}",
    ]


def test_a_skipped_chore_shows_the_way_to_its_root_and_what_befell_that(
    failed: RunDir, now: datetime
) -> None:
    found = explain(failed, REPORT, now)
    assert (found.state, found.chain) == ("skipped", (REPORT, FIT, ENERGY, RELAX))
    assert found.because == (f"{RELAX}, which it depends on, has no result",)
    assert found.failure is not None
    assert (found.failure.chore_id, found.failure.reason) == (RELAX, "exception")
    assert found.failure.traceback == TRACEBACK
    words = text(failed, REPORT, now)
    assert f"{REPORT} ← {FIT} ← {ENERGY} ← {RELAX}" in words
    assert f"{RELAX} failed: " in words


def test_a_root_that_is_no_chore_is_shown_all_the_same(
    saved: RunDir, journal: Any, now: datetime
) -> None:
    journal.write(Kind.SKIPPED, FIT, {"u": "chore-none-0099"})
    found = explain(saved, FIT, now)
    assert (found.failure, found.chain) == (None, (FIT, "chore-none-0099"))


def test_hostile_text_stays_text(failed: RunDir, journal: Any, now: datetime) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202e\nTo run it again: rm -r"
    error = {"type": evil, "message": evil, "traceback": evil}
    failed.chore_file(RELAX, "error.json").write_text(json.dumps(error))
    failed.chore_file(RELAX, "stdout").write_text(evil)
    journal.write(Kind.SUBMIT_INTENT, RELAX, attempt=4)
    journal.write(Kind.STARTED, RELAX, {"h": evil}, attempt=4)
    journal.write(Kind.FAILED, RELAX, {"r": "exception", "d": evil}, attempt=4)
    answer = CliRunner().invoke(main, ["explain", str(failed.root), RELAX])
    assert answer.exit_code == 0
    assert not set(answer.stdout) & set("\x1b\x07\u202e")
    assert "\nTo run it again: rm" not in answer.stdout


def test_a_failure_without_retries_or_after_all_of_them(
    saved: RunDir, journal: Any, driven: Callable[..., None], now: datetime
) -> None:
    journal.write(Kind.FAILED, FIT, {"r": "exceeds_allocation", "d": "wants 512 cores"})
    assert explain(saved, FIT, now).because == ("exceeds_allocation: wants 512 cores",)
    journal.write(Kind.FAILED, ENERGY, {"r": "signal", "x": -11})
    because = explain(saved, ENERGY, now).because
    assert because[1] == "it was not tried again: no retries were asked for"
    for number in (1, 2):
        journal.write(Kind.SUBMIT_INTENT, RELAX, attempt=number)
        fields = {"r": "out_of_memory", "b": "retry"}
        journal.write(Kind.REQUEUED, RELAX, fields, attempt=number)
    journal.write(Kind.SUBMIT_INTENT, RELAX, attempt=3)
    journal.write(Kind.FAILED, RELAX, {"r": "out_of_memory"}, attempt=3)
    because = explain(saved, RELAX, now).because
    assert because[1] == "it was not tried again: 2 further attempts is all it may use"


# --- what else befell it ----------------------------------------------------------------------


def test_why_it_ran_again_and_who_asked(failed: RunDir, journal: Any, now: datetime) -> None:
    def audit(verb: str, **args: Any) -> None:
        fields = {
            "id": verb,
            "verb": verb,
            "by": {"user": "ana", "host": "login1"},
            "args": args,
            "answer": {"done": True, "text": ""},
        }
        journal.write(Kind.CONTROL, fields=fields)

    audit("retry", failed=True)
    journal.write(Kind.RETRIED, RELAX, attempt=3)
    audit("cancel", chores=[FIT])  # of another one
    audit("prioritise", chores=[RELAX])
    journal.write(Kind.CHANGED, RELAX, {"nice": -5}, attempt=3)
    journal.write(Kind.SUBMIT_INTENT, RELAX, attempt=4)
    resources = {"cores_per_task": 4, "duration": 7200.0}
    journal.write(Kind.CHANGED, RELAX, {"resources": resources}, attempt=4)
    journal.write(Kind.COMPLETED, RELAX, attempt=4)
    journal.write(Kind.REVOKED, RELAX, {"d": "result.pickle is missing"}, attempt=4)
    journal.write(Kind.REUSED, RELAX, {"from": "/old/run", "key": "k"}, attempt=4)
    found = explain(failed, RELAX, now)
    assert (found.state, found.because) == ("completed", ("taken over from /old/run",))
    assert found.remarks == (
        "runs again because somebody asked for it (asked for by ana on login1)",
        "has nice -5 since then (asked for by ana on login1)",
        "asks for 1 task of 4 cores, for 2 h at most",
        "runs again because its result cannot be used: result.pickle is missing",
        "was not run: its result was taken over from /old/run",
    )
    assert [attempt.outcome for attempt in found.attempts][2:] == ["failed", "completed"]
    audit("cancel", groups=["relax"])
    journal.write(Kind.SUBMIT_INTENT, RELAX, attempt=5)
    journal.write(Kind.CANCELLED, RELAX, {"r": "cancelled"}, attempt=5)
    found = explain(failed, RELAX, now)
    assert found.state == "cancelled"
    assert found.remarks[-1] == "was cancelled (asked for by ana on login1)"


def test_an_attempt_that_outlived_its_driver_is_timed_by_the_wall(
    saved: RunDir, journal: Any
) -> None:
    journal.write(Kind.SUBMIT_INTENT, RELAX)
    journal.write(Kind.STARTED, RELAX, at=10)
    successor = journal.replace()
    successor.write(Kind.COMPLETED, RELAX, at=130)
    chronicle = Chronicle.of(RELAX, "relax", read_records(saved, wanted=about(RELAX)))
    (attempt,) = chronicle.attempts
    assert (attempt.outcome, attempt.seconds) == ("completed", 120.0)


@pytest.mark.parametrize("state", ["submitted", "running", "completed"])
def test_a_chore_on_a_warm_worker_is_explained_without_files(
    saved: RunDir, journal: Any, driven: Callable[..., None], now: datetime, state: str
) -> None:
    journal.write(Kind.SUBMIT_INTENT, RELAX, {"p": 1})
    because = "handed to a warm worker, which has not started it yet"
    attempt = "submitted (warm worker)"
    if state == "running":
        journal.write(Kind.STARTED, RELAX, {"h": "node7"}, at=60)
        because = "for 2 min on node7 by a warm worker with a limit of 1 h"
        attempt = "running on node7 (warm worker)"
    elif state == "completed":
        journal.write(Kind.COMPLETED, RELAX, {"el": 0.0123, "h": "node7"}, at=60)
        because, attempt = "", "completed after 12 ms on node7 (warm worker)"
    found = explain(saved, RELAX, now)
    assert found.because == tuple(filter(None, [because]))
    assert (found.call, found.resources) == ("relax(0.1)", "1 task of 4 cores")
    assert found.attempts[0].is_pooled
    assert f"   1  {attempt}" in text(saved, RELAX, now).splitlines()


def test_what_runs_is_shown_without_secrets_and_without_loading_it(
    tmp_path: Path, now: datetime
) -> None:
    pipe = Pipeline(tmp_path / "runs")

    @pipe.chore(env={"API_TOKEN": "hunter2", "OMP_NUM_THREADS": "4"})
    def fetch(what: object, password: str) -> None:
        del what, password

    fetch(Path("data"), "hunter2")
    pipe.exec(["curl", "--token", "hunter2", "a b"], name="load")
    run = RunDir(pipe.save())
    lines = text(run, "chore-fetch-0001", now).splitlines()
    place = lines.index("What it runs:")
    assert lines[place + 1 :] == [
        "  fetch(<PosixPath>, <redacted>)",
        "  asks for 1 task of 1 core, and sets API_TOKEN, OMP_NUM_THREADS",
    ]
    assert explain(run, "chore-load-0002", now).call == "curl --token '<redacted>' 'a b'"


def test_a_record_of_nonsense_is_named(saved: RunDir, journal: Any) -> None:
    journal.write(Kind.SUBMIT_INTENT, RELAX)
    journal.write(Kind.SUBMITTED, RELAX, {})
    with pytest.raises(FormatError, match="record 3 of epoch 1 is no submitted"):
        Chronicle.of(RELAX, "relax", read_records(saved))


def test_why_an_earlier_result_was_not_reused(
    saved: RunDir, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert explain(saved, FIT, now).not_reused == ""
    because = "the code of `fit` changed"
    monkeypatch.setattr("matensemble.explanation.why_not_reused", lambda run, chore_id: because)
    assert f"  no earlier result was reused: {because}" in text(saved, FIT, now).splitlines()


# --- finding and reading ----------------------------------------------------------------------


def test_the_index_knows_saved_and_added_chores(saved: RunDir, journal: Any) -> None:
    header = {"id": "chore-more-0006", "name": "more", "kind": "executable", "command": ["a"]}
    journal.write(Kind.CHORE_ADDED, "chore-more-0006", {"header": header, "parent": FIT})
    index = ChoreIndex(saved)
    assert list(index) == [RELAX, ENERGY, FIT, REPORT, TABLE, "chore-more-0006"]
    assert index["chore-more-0006"].command == ("a",)
    assert index[REPORT].upstream == (FIT,)
    assert "chore-none-0007" not in index
    with pytest.raises(KeyError):
        index["chore-none-0007"]
    assert find_chores(saved, ["more", FIT, "tab"]) == ([FIT, TABLE], ["more"])
    with pytest.raises(RunDirectoryError, match="fits 6 chores"):
        find_chores(saved, ["chore"])


def test_a_chore_that_is_no_chore_is_named(saved: RunDir) -> None:
    content = saved.chores_path.read_text().replace('"python"', '"prayer"')
    saved.chores_path.write_text(content)
    with pytest.raises(FormatError, match=f"nonsense of {FIT}"):
        ChoreIndex(saved)[FIT]


def test_only_the_records_about_a_chore_are_decoded(saved: RunDir, journal: Any) -> None:
    for chore_id in (RELAX, ENERGY, FIT):
        journal.write(Kind.SUBMIT_INTENT, chore_id)
    fields = {"args": {"c": RELAX}, "text": f',"c":"{RELAX}"'}
    journal.write(Kind.RUN_STATE, fields={"state": "running", **fields})
    found = [(r.kind, r.chore_id) for r in read_records(saved, wanted=about(ENERGY))]
    assert found[:2] == [("run_started", None), ("intent", ENERGY)]
    assert FIT not in dict(found).values()


def test_the_tail_of_a_file_is_bounded_and_follows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "stdout"
    path.write_bytes(b"x" * 100_000 + b"\n" + b"\n".join(b"%d" % i for i in range(50)) + b"\n\n")
    assert read_tail(path) == tuple(str(i) for i in range(38, 50))
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "none", "."):
        assert read_tail(tmp_path / name) == ()


def test_the_command(failed: RunDir) -> None:
    answer = CliRunner().invoke(main, ["explain", str(failed.root.parent), "fit", "--json"])
    assert answer.exit_code == 0
    data = json.loads(answer.stdout)
    assert (data["chore_id"], data["state"], data["group"]) == (FIT, "skipped", "fit")
    answer = CliRunner().invoke(main, ["explain", str(failed.root), "gold"])
    assert answer.exit_code == 2
