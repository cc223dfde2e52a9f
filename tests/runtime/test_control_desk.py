"""The desk takes requests from files it can trust, and turns them into events and answers."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from matensemble import control
from matensemble.chore import Chore
from matensemble.control import Request, Selection, Verb, answer_path, leave_request, make_request
from matensemble.model import ChoreType, Reason, Resources
from matensemble.runtime.control_desk import ControlDesk, act, audit
from matensemble.runtime.scheduler import events as ev
from matensemble.runtime.scheduler.resources import Allocation, Node
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.workdir import RunDir

LOGGER = logging.getLogger("test")


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


@pytest.fixture
def desk(run: RunDir) -> ControlDesk:
    """A desk whose first round, in which it finds what is left over, is behind it."""
    desk = ControlDesk(run, LOGGER)
    assert desk.poll() == []
    return desk


def answer_to(run: RunDir, request_id: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(answer_path(run, request_id).read_text())
    return answer


def names(run: RunDir) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in run.control_dir.iterdir())


# --- files ------------------------------------------------------------------------------------


def test_requests_are_taken_in_order_and_answered(run: RunDir, desk: ControlDesk) -> None:
    requests = [make_request(Verb.PAUSE), make_request(Verb.UNPAUSE)]
    for request in requests:
        leave_request(run, request)
    assert desk.poll() == requests
    assert desk.poll() == requests  # until they are answered
    answer = control.Answer(id=requests[0].id, done=True, text="paused")
    desk.answer(requests[0], answer)
    assert desk.poll() == requests[1:]
    assert control.wait_for_answer(run, requests[0].id, 0) == answer
    assert names(run) == ["request"]  # whoever read the answer has removed it


def test_what_was_left_for_an_earlier_driver_is_judged_anew(run: RunDir) -> None:
    pause, retry = make_request(Verb.PAUSE), make_request(Verb.RETRY, Selection(failed=True))
    for request in (pause, retry):
        leave_request(run, request)
    assert ControlDesk(run, LOGGER).poll() == [retry]
    answer = answer_to(run, pause.id)
    assert not answer["done"]
    assert "the driver before this one" in answer["text"]


def test_a_request_that_comes_while_the_driver_is_starting_is_for_this_one(run: RunDir) -> None:
    desk = ControlDesk(run, LOGGER)
    pause = make_request(Verb.PAUSE)
    leave_request(run, pause)
    assert desk.poll() == [pause]


def test_answers_that_nobody_came_for_go_after_a_day(run: RunDir) -> None:
    run.control_dir.mkdir(mode=0o700)
    old, new = (answer_path(run, make_request(Verb.PAUSE).id) for _ in range(2))
    for path in (old, new):
        path.write_text("{}")
    os.utime(old, (0, 0))
    ControlDesk(run, LOGGER)
    assert [path.exists() for path in (old, new)] == [False, True]


def spoil(**changes: Any) -> bytes:
    return json.dumps(make_request(Verb.PAUSE).to_json() | changes).encode()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is no JSON"),
        (b"[" * 60_000, "is no JSON"),
        (b"x" * (1 << 17), "holds more than 65536 bytes"),
        (b'{"a": 1}', "is no request"),
        (spoil(format=2), "has format 2"),
        (spoil(verb="explode"), "is no request"),
        (spoil(verb="prioritise"), "is no request"),
        (spoil(args={"seconds": -1}), "is no request"),
        (spoil(args={"reason": "whim"}), "is no request"),
        (spoil(), "has the name of another request"),
    ],
)
def test_nonsense_is_set_aside_and_answered(
    run: RunDir, desk: ControlDesk, content: bytes, problem: str
) -> None:
    good = make_request(Verb.PAUSE)
    leave_request(run, good)
    bad_id = make_request(Verb.CANCEL).id
    (run.control_dir / f"request-{bad_id}.json").write_bytes(content)
    assert desk.poll() == [good]
    assert problem in answer_to(run, bad_id)["text"]
    assert names(run) == ["answer", "refused", "request"]


def test_links_pipes_and_unreadable_files_hold_up_nobody(run: RunDir, desk: ControlDesk) -> None:
    good = make_request(Verb.PAUSE)
    leave_request(run, good)
    elsewhere = run.root / "elsewhere.json"
    elsewhere.write_bytes((run.control_dir / f"request-{good.id}.json").read_bytes())
    (run.control_dir / "request-20260101T000000Z-aaaaaaaa.json").symlink_to(elsewhere)
    os.mkfifo(run.control_dir / "request-20260101T000000Z-bbbbbbbb.json")
    (run.control_dir / "request-20260101T000000Z-cccccccc.json").mkdir()
    (run.control_dir / "request-../oops.json".replace("/", "_")).touch()
    assert desk.poll() == [good]
    assert names(run) == ["answer"] * 3 + ["refused"] * 4 + ["request"]
    assert elsewhere.exists()


def test_a_request_of_another_user_is_refused(
    run: RunDir, desk: ControlDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_request(Verb.PAUSE)
    leave_request(run, request)
    found = Path.lstat

    def lstat(path: Path) -> os.stat_result:
        seen = found(path)
        return os.stat_result((*seen[:4], 4711, *seen[5:10]))

    monkeypatch.setattr(Path, "lstat", lstat)
    assert desk.poll() == []
    assert "was left by user 4711" in answer_to(run, request.id)["text"]


def test_a_directory_that_others_can_write_is_not_used(
    run: RunDir, desk: ControlDesk, caplog: pytest.LogCaptureFixture
) -> None:
    leave_request(run, make_request(Verb.PAUSE))
    run.control_dir.chmod(0o770)
    assert desk.poll() == []
    assert desk.poll() == []
    assert len(caplog.records) == 1  # not each second
    assert "can be written by others" in caplog.text
    run.control_dir.chmod(0o700)
    assert len(desk.poll()) == 1


def test_an_answer_that_cannot_be_written_is_tried_again(
    run: RunDir, desk: ControlDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_request(Verb.PAUSE)
    leave_request(run, request)
    (taken,) = desk.poll()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("matensemble.disk.write_atomic", fail)
        desk.answer(taken, control.Answer(id=request.id, done=True, text="paused"))
        assert desk.poll() == []  # it was carried out, and is not carried out twice
        assert names(run) == ["request"]
    assert desk.poll() == []
    assert answer_to(run, request.id)["text"] == "paused"
    assert names(run) == ["answer"]


# --- meaning ----------------------------------------------------------------------------------


@pytest.fixture
def state() -> SchedulerState:
    """`a-1` runs, `a-2` is ready, `b-3` failed, `c-4` was skipped for it, `a-5` completed."""
    state = SchedulerState()
    state.handle(ev.AllocationLearned(Allocation((Node("n0", 3),))))
    hour = Resources(duration=3600)
    for chore_id, deps, resources in (
        ("a-1", (), hour),
        ("b-3", (), Resources()),
        ("a-5", (), Resources()),
        ("a-2", (), Resources(cores_per_task=3)),
        ("c-4", ("b-3",), Resources()),
    ):
        chore = Chore(chore_id, chore_id[0], ChoreType.PYTHON, deps=deps, resources=resources)
        state.handle(ev.ChoreAdded(chore))
    state.handle(ev.StartsConsidered())
    for chore_id, reason in (("b-3", Reason.SIGNAL), ("a-5", None)):
        state.handle(ev.ChoreFinished(chore_id, 1, reason, -9 if reason else 0))
        state.handle(ev.ResourcesFreed(chore_id, 1))
    state.validate()
    return state


def ask(
    state: SchedulerState, verb: Verb, *chores: str, **options: Any
) -> tuple[list[Any], control.Answer]:
    values = {name: options.pop(name) for name in ("nice", "seconds") if name in options}
    request = make_request(verb, Selection(chores=chores, **options), **values)
    events, answer = act(request, state)
    assert answer.id == request.id
    assert answer.done == bool(events)
    for event in events:
        state.handle(event)
        state.validate()
    return events, answer


def test_pause_and_unpause(state: SchedulerState) -> None:
    assert "is not paused" in ask(state, Verb.UNPAUSE)[1].text
    events, answer = ask(state, Verb.PAUSE)
    assert events == [ev.PauseRequested()]
    assert answer.text == "paused: nothing more starts; 1 started chore goes on"
    assert ask(state, Verb.PAUSE)[1].text == "the run is paused already"
    events, answer = ask(state, Verb.UNPAUSE)
    assert events == [ev.ResumeRequested()]
    assert answer.text == "the pause is over: 1 chore can start"


def test_cancel_says_what_runs_and_what_had_ended(state: SchedulerState) -> None:
    events, answer = ask(state, Verb.CANCEL, "c-4", "z-9", groups=("a", "y"))
    assert events == [ev.CancelRequested(("a-1", "a-2"))]
    assert answer.text.splitlines() == [
        "cancelled: a-1, a-2; 1 chore of these had started, and is being ended",
        "y: no group of this name",
        "c-4: had ended already (skipped)",
        "z-9: no chore of this id",
        "a-5: had ended already (completed)",
    ]
    assert (answer.num_chores, answer.chores) == (2, ("a-1", "a-2"))


def test_cancel_of_everything_also_stops_what_would_join(state: SchedulerState) -> None:
    events, answer = ask(state, Verb.CANCEL, everything=True)
    assert events == [ev.CancelRequested(None)]
    assert answer.num_chores == 2
    assert "is being cancelled" in ask(state, Verb.RETRY, failed=True)[1].text


def test_a_retry_of_what_was_skipped_is_one_of_its_root(state: SchedulerState) -> None:
    events, answer = ask(state, Verb.RETRY, "c-4", "a-1", "a-5")
    assert events == [ev.RetryRequested(("b-3", "c-4"))]
    assert "a-1: has not ended" in answer.text
    assert "a-5: completed, the result is there" in answer.text
    assert not state.entry("c-4").state.is_terminal


def test_retry_of_the_failed_ones_or_by_reason(state: SchedulerState) -> None:
    nothing = ask(state, Verb.RETRY, reason=Reason.OUT_OF_MEMORY)[1]
    assert nothing.text.splitlines()[1] == "no chore ended with out_of_memory"
    assert ask(state, Verb.RETRY, reason=Reason.SIGNAL)[0] == [ev.RetryRequested(("b-3",))]
    assert ask(state, Verb.RETRY, failed=True)[1].text.endswith("no chore failed")


def test_only_what_has_not_started_changes_its_place(state: SchedulerState) -> None:
    events, answer = ask(state, Verb.PRIORITISE, "a-1", "a-2", nice=-7)
    assert events == [ev.PriorityChanged(("a-2",), -7)]
    assert answer.text.splitlines() == ["nice is -7 now: a-2", "a-1: was started already"]


def test_time_is_added_to_what_has_a_limit(state: SchedulerState) -> None:
    events, answer = ask(state, Verb.ADD_TIME, "a-1", "a-2", seconds=1800.0)
    assert events == [ev.DurationExtended("a-1", 1800.0)]
    assert answer.text.splitlines() == [
        "may run 30 min longer: a-1",
        "a-2: has no duration that could be extended",
    ]


@pytest.mark.parametrize("verb", [Verb.PAUSE, Verb.CANCEL])
def test_a_run_that_is_being_ended_takes_no_requests(state: SchedulerState, verb: Verb) -> None:
    state.handle(ev.InterruptRequested("SIGTERM"))
    events, answer = ask(state, verb)
    assert events == []
    assert answer.text.startswith("the run is being interrupted")
    assert verb.can_wait == ("ask again" in answer.text)


def test_a_draining_run_cannot_be_paused(state: SchedulerState) -> None:
    state.handle(ev.DrainRequested("the allocation ends"))
    assert "the allocation ends soon" in ask(state, Verb.PAUSE)[1].text


def test_the_audit_says_who_asked_what_and_what_came_of_it(state: SchedulerState) -> None:
    request = make_request(Verb.PRIORITISE, Selection(chores=("a-2",)), nice=3)
    _, answer = act(request, state)
    fields = audit(request, answer)
    assert json.loads(json.dumps(fields)) == fields
    assert fields["args"] == {"chores": ["a-2"], "nice": 3}
    assert fields["by"]["pid"] == os.getpid()
    assert fields["answer"] == {"done": True, "text": "nice is 3 now: a-2", "num_chores": 1}


def test_a_crowd_of_chores_is_summarised(state: SchedulerState) -> None:
    for number in range(1000):
        chore = Chore(f"d-{number}", "d", ChoreType.PYTHON)
        state.handle(ev.ChoreAdded(chore))
    answer = ask(state, Verb.PRIORITISE, groups=("d",), nice=1)[1]
    assert answer.text == "nice is 1 now: 1,000 chores (d-0, d-1 …)"
    assert len(answer.chores) == 5


def test_a_request_survives_its_file(run: RunDir) -> None:
    request = make_request(Verb.ADD_TIME, Selection(chores=("a-1",)), seconds=90.0)
    leave_request(run, request)
    path = run.control_dir / f"request-{request.id}.json"
    assert Request.from_json(json.loads(path.read_text())) == request
    assert path.stat().st_mode & 0o777 == 0o600
    assert run.control_dir.stat().st_mode & 0o777 == 0o700
