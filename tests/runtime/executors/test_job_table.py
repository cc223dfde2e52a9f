"""Events of Flux jobs as events of chores, without a Flux."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from test_jobspec import make_request

from matensemble.model import Reason, Resources
from matensemble.runtime.executors.base import JobEnded, Orphan
from matensemble.runtime.executors.job_table import CANCEL_NOTE, Job, JobTable
from matensemble.runtime.executors.jobspec import Label
from matensemble.runtime.executors.resource_set import format_idset, parse_idset, placement_of
from matensemble.runtime.scheduler.events import (
    AttemptLost,
    ChorePlaced,
    ChoreStarted,
    ChoreSubmitted,
    ResourcesFreed,
)
from matensemble.runtime.scheduler.resources import Share

ID = "chore-a-0001"
R = {"execution": {"R_lite": [{"rank": "1-2", "children": {"core": "0-1,3", "gpu": "0"}}]}}


def labelled(run: str = "/run", chore: str = ID, attempt: int = 1, epoch: int = 1) -> Any:
    """Return the jobspec of a job of ours, as far as it matters."""
    label = {"run": run, "chore": chore, "attempt": attempt, "epoch": epoch}
    return {"attributes": {"user": {"matensemble": label}}}


def past(jobid: int, *events: str | dict[str, Any], **label: Any) -> dict[str, Any]:
    """Return the history of a job."""
    told = [{"name": event} if isinstance(event, str) else event for event in events]
    for event in told:
        if event["name"] == "finish":
            event.setdefault("context", {"status": 0})
    return {"id": jobid, "events": told, "jobspec": labelled(**label), "R": R}


def cancelled(note: str = CANCEL_NOTE) -> dict[str, Any]:
    return {"name": "exception", "context": {"type": "cancel", "severity": 0, "note": note}}


class Table:
    def __init__(self, *, epoch: int = 1, empty: bool = False, **resources: Any) -> None:
        self.asked: list[Job] = []
        self.strangers: list[tuple[int, Label]] = []
        self.table = JobTable(
            "/run",
            epoch,
            nodes={1: 0, 2: 1},
            hosts=["n1", "n2"],
            format_jobid=str,
            ask_signal=self.asked.append,
            turn_away=lambda *stranger: self.strangers.append(stranger),
        )
        self.events: list[Any] = []
        if not empty:
            self.job = self.table.add(make_request(**resources))

    @classmethod
    def with_orphan(cls, jobid: str | None = None, epoch: int = 2) -> Table:
        table = cls(epoch=epoch, empty=True)
        table.table.adopt(Orphan(ID, 1, jobid, "", Resources(), Path("/run")))
        return table

    def tell(self, name: str, jobid: int = 7, **context: Any) -> Table:
        extra = {"submit": {"jobspec": labelled()}, "alloc": {"R": R}}.get(name, {})
        event = {"name": name, "context": context}
        self.events += self.table.take({"id": jobid, "events": [event], **extra})
        return self

    def recall(self, *messages: Any) -> list[Any]:
        """Tell the history of all jobs; return what that adds."""
        kept: Iterable[Any] = [message for message in messages if self.table.matters(message)]
        added = self.table.recall(kept)
        self.events += added
        return added

    def run(self) -> Table:
        return self.tell("submit").tell("alloc").tell("start")

    def fail(self, kind: str, note: str = "", severity: int = 0) -> Table:
        return self.tell("exception", type=kind, note=note, severity=severity)

    @property
    def ended(self) -> JobEnded:
        (ended,) = [event for event in self.events if isinstance(event, JobEnded)]
        return ended


def test_the_whole_way() -> None:
    table = Table().run().tell("finish", status=0).tell("free").tell("clean")
    assert table.events == [
        ChoreSubmitted(ID, 1, "7"),
        ChorePlaced(ID, 1, (Share(0, 3, 1), Share(1, 3, 1))),
        ChoreStarted(ID, 1, "n1"),
        JobEnded(ID, 1, 0),
        ResourcesFreed(ID, 1),
    ]
    assert len(table.table) == 0


def test_how_long_a_job_ran_is_told_by_the_clock_of_flux() -> None:
    table = Table().tell("submit")
    start, finish = (
        {"name": "start", "timestamp": 10.5},
        {"name": "finish", "timestamp": 12.75, "context": {"status": 0}},
    )
    table.events += table.table.take({"id": 7, "events": [start]})
    table.events += table.table.take({"id": 7, "events": [finish]})
    assert table.ended.elapsed == 2.25


def test_jobs_of_others_mean_nothing() -> None:
    table = Table()
    for jobspec in ({"attributes": {"system": {}}}, labelled(run="/other")):
        message = {"id": 9, "events": [{"name": "submit"}], "jobspec": jobspec}
        assert table.table.take(message) == []
        assert not table.table.matters(message)
    table.tell("start", jobid=9).tell("finish", jobid=9, status=0).tell("clean", jobid=9)
    assert table.events == []
    assert table.strangers == []
    assert len(table.table) == 1


@pytest.mark.parametrize(("status", "code"), [(0, 0), (3 << 8, 3), (255 << 8, 255), (9, -9)])
def test_exit_codes(status: int, code: int) -> None:
    assert Table().run().tell("finish", status=status).ended.exit_code == code


@pytest.mark.parametrize(("task_status", "code"), [(9, -9), (137 << 8, 137), (None, -9)])
def test_a_code_above_128_is_asked_about(task_status: int | None, code: int) -> None:
    table = Table().run().tell("finish", status=137 << 8).tell("free").tell("clean")
    assert not any(isinstance(event, (JobEnded, ResourcesFreed)) for event in table.events)
    (job,) = table.asked
    table.events += table.table.answer(job, task_status)
    assert table.events[-2:] == [JobEnded(ID, 1, code), ResourcesFreed(ID, 1)]
    assert table.table.answer(job, task_status) == [], "once"


@pytest.mark.parametrize(
    ("kind", "note", "reason"),
    [
        ("cancel", "by hand", Reason.CANCELLED),
        ("timeout", "resource allocation expired", Reason.DURATION_EXCEEDED),
        ("exec", "lost contact with job shell on n1", Reason.NODE_FAILURE),
        ("exec", "task 0: Out of memory", Reason.OUT_OF_MEMORY),
        ("exec", "exited first", None),
    ],
)
def test_exceptions_of_what_ran(kind: str, note: str, reason: Reason | None) -> None:
    table = Table(duration=9).run().fail(kind, note)
    assert not any(isinstance(event, JobEnded) for event in table.events), "it still runs"
    table.tell("finish", status=143 << 8)
    assert (table.ended.exit_code, table.ended.reason) == (-15, reason)


@pytest.mark.parametrize(
    ("note", "reason"),
    [
        (
            "task 0 (host n1): start failed: lmp: No such file or directory",
            Reason.EXECUTABLE_NOT_FOUND,
        ),
        ("task 0 (host n1): start failed: lmp: Argument list too long", Reason.SUBMIT_ERROR),
        ("shell_init: No such file or directory", Reason.IO_ERROR),
    ],
)
def test_programs_that_do_not_start(note: str, reason: Reason) -> None:
    ended = Table().run().fail("exec", note).tell("finish", status=127 << 8).ended
    assert (ended.exit_code, ended.reason) == (None, reason)
    assert ended.detail


def test_what_never_fits_ends_without_running() -> None:
    table = Table().tell("submit").fail("alloc", "unsatisfiable request").tell("clean")
    assert table.events[1:] == [
        JobEnded(ID, 1, None, Reason.EXCEEDS_ALLOCATION, "Flux: unsatisfiable request"),
        ResourcesFreed(ID, 1),
    ]


def test_the_first_fatal_exception_counts() -> None:
    table = Table().run().fail("other", severity=3).fail("cancel").fail("exec", "killed")
    assert table.tell("finish", status=9).ended.reason is Reason.CANCELLED


def test_end_of_the_allocation_is_not_the_chore_s_duration() -> None:
    ended = Table().run().fail("timeout").tell("finish", status=15).ended
    assert ended.reason is Reason.NODE_FAILURE  # nothing the chore could help
    assert "allocation" in ended.detail


def test_refused() -> None:
    table = Table()
    assert table.table.refuse(table.job, Reason.SUBMIT_ERROR, "no") == [
        JobEnded(ID, 1, None, Reason.SUBMIT_ERROR, "no"),
        ResourcesFreed(ID, 1),
    ]
    assert table.table.get((ID, 1)) is None


def test_resource_sets() -> None:
    assert parse_idset("[0-2,5]") == [0, 1, 2, 5]
    assert parse_idset("") == []
    assert format_idset([5, 0, 2, 1]) == "0-2,5"
    assert format_idset([]) == ""
    assert placement_of(R, {2: 4}) == (Share(4, 3, 1),)


# --- what happened before ---------------------------------------------------------------------

WHOLE = ("submit", "alloc", "start", "finish", "free", "clean")
ALL_EVENTS = [
    ChoreSubmitted(ID, 1, "7"),
    ChorePlaced(ID, 1, (Share(0, 3, 1), Share(1, 3, 1))),
    ChoreStarted(ID, 1, "n1"),
    JobEnded(ID, 1, 0),
    ResourcesFreed(ID, 1),
]


@pytest.mark.parametrize("jobid", [None, "7"])
@pytest.mark.parametrize("known", [1, 2, 3, 4, 6])
def test_an_orphan_is_followed_from_wherever_it_stands(jobid: str | None, known: int) -> None:
    table = Table.with_orphan(jobid)
    table.recall(past(7, *WHOLE[:known]))
    for name in WHOLE[known:]:
        table.tell(name, **({"status": 0} if name == "finish" else {}))
    assert table.events == ALL_EVENTS
    assert table.strangers == []
    assert len(table.table) == 0


@pytest.mark.parametrize(
    "other", [{"run": "/other"}, {"attempt": 2}, {"chore": "chore-a-0002"}], ids=str
)
def test_an_orphan_without_a_job_is_lost(other: dict[str, Any]) -> None:
    table = Table.with_orphan("7")
    (lost,) = table.recall(past(7, *WHOLE, **other))
    assert lost[:2] == (ID, 1)
    assert isinstance(lost, AttemptLost)
    assert lost.detail
    assert len(table.table) == 0


@pytest.mark.parametrize(
    ("run", "jobid", "is_found"),
    [("/elsewhere/run", "7", True), ("/elsewhere/run", None, False), ("/run/other", "7", False)],
)
def test_a_run_under_another_path_needs_the_id(run: str, jobid: str | None, is_found: bool) -> None:
    table = Table.with_orphan(jobid)
    table.recall(past(7, *WHOLE[:3], run=run))
    assert (table.events[0] == ChoreSubmitted(ID, 1, "7")) is is_found
    assert (type(table.events[0]) is AttemptLost) is not is_found
    assert table.strangers == []
    added = table.recall(past(7, *WHOLE, run=run))
    assert added == (ALL_EVENTS[3:] if is_found else [])


def test_of_several_jobs_the_one_that_was_told_counts() -> None:
    table = Table.with_orphan("7")
    table.recall(past(9, "submit", "alloc", "start"), past(7, "submit"), past(5, *WHOLE))
    assert table.events == [ChoreSubmitted(ID, 1, "7")]
    assert [jobid for jobid, _ in table.strangers] == [9], "the other one that may run is ended"


def test_of_several_jobs_none_of_which_was_told_the_newest_counts() -> None:
    table = Table.with_orphan()
    table.recall(past(7, "submit"), past(9, "submit"))
    assert table.events == [ChoreSubmitted(ID, 1, "9")]
    assert [jobid for jobid, _ in table.strangers] == [7]


def test_what_an_earlier_driver_ended_says_nothing_of_the_chore() -> None:
    table = Table.with_orphan("7")
    assert table.recall(past(7, "submit", "alloc", "start", cancelled())) == []
    table.tell("finish", status=15)
    assert table.events == [], "it may still run"
    table.tell("free").tell("clean")
    assert table.events == [AttemptLost(ID, 1, "another driver of this run ended it")]


def test_what_somebody_ended_while_no_driver_lived_is_cancelled() -> None:
    table = Table.with_orphan("7")
    table.recall(past(7, "submit", "alloc", "start", cancelled("by hand"), *WHOLE[3:]))
    assert table.events[-2].reason is Reason.CANCELLED


def test_an_end_of_its_own_counts_though_it_was_cancelled_then() -> None:
    table = Table.with_orphan("7")
    table.recall(past(7, *WHOLE[:4], cancelled(), *WHOLE[4:]))
    assert table.events == ALL_EVENTS


def test_history_is_posted_once() -> None:
    for known in range(1, len(WHOLE) + 1):
        table = Table()
        for name in WHOLE[:known]:
            table.tell(name, **({"status": 0} if name == "finish" else {}))
        table.recall(past(7, *WHOLE))
        assert table.events == ALL_EVENTS, known
        table.recall(past(7, *WHOLE))
        assert table.events == ALL_EVENTS, known


def test_an_answer_that_was_lost_is_asked_for_again() -> None:
    table = Table().run().tell("finish", status=137 << 8)
    ends = [{"name": "finish", "context": {"status": 137 << 8}}, "free", "clean"]
    assert table.recall(past(7, *WHOLE[:3], *ends)) == []
    assert len(table.asked) == 2
    assert table.table.answer(table.job, 9) == [JobEnded(ID, 1, -9), ResourcesFreed(ID, 1)]


def test_a_request_that_never_arrived_is_still_owed() -> None:
    table = Table()
    assert table.recall() == []
    assert table.table.unknown_to_flux() == [table.job]
    table.recall(past(7, "submit"))
    assert table.table.unknown_to_flux() == []


def test_a_job_that_flux_has_forgotten_is_lost() -> None:
    table = Table().run()
    (lost,) = table.recall()
    assert isinstance(lost, AttemptLost)
    table = Table().run().tell("finish", status=0)
    assert table.recall() == [ResourcesFreed(ID, 1)]


@pytest.mark.parametrize(("epoch", "count"), [(0, 1), (1, 1), (2, 1), (3, 0)])
def test_strangers_of_this_run_are_turned_away_but_not_those_of_a_successor(
    epoch: int, count: int
) -> None:
    table = Table(epoch=2, empty=True)
    table.recall(past(5, "submit", epoch=epoch), past(6, *WHOLE[:4], epoch=epoch))
    assert [jobid for jobid, _ in table.strangers] == [5] * count
    message = {"id": 9, "events": [{"name": "submit"}], "jobspec": labelled(epoch=epoch)}
    assert table.table.take(message) == []
    assert [jobid for jobid, _ in table.strangers] == [5, 9][: 2 * count]
    assert table.events == []


def test_a_driver_that_was_replaced_does_not_take_the_job_of_its_successor() -> None:
    table = Table()
    message = {"id": 9, "events": [{"name": "submit"}], "jobspec": labelled(epoch=2)}
    assert table.table.take(message) == []
    assert table.strangers == []
    assert table.table.unknown_to_flux() == [table.job]


# --- what warm workers of an earlier driver served ----------------------------------------------


def with_pooled_orphan() -> Table:
    table = Table(epoch=2, empty=True)
    table.table.adopt(Orphan(ID, 1, "7/worker-1-1", "", Resources(), Path("/run"), True))
    return table


LOST = [AttemptLost(ID, 1, "its driver is gone, and so are the warm workers that it had")]


def test_what_a_warm_worker_served_is_lost_once_the_worker_is_gone() -> None:
    table = with_pooled_orphan()
    assert table.recall(past(7, "submit", "alloc", "start", chore="worker-1-1")) == []
    assert [(jobid, label.chore_id) for jobid, label in table.strangers] == [(7, "worker-1-1")]
    table.tell("exception", type="cancel", severity=0)
    assert table.events == []
    assert table.tell("finish", status=15).events == LOST
    assert table.tell("free").tell("clean").events == LOST, "once"


def test_what_a_warm_worker_served_is_lost_at_once_where_no_worker_is_left() -> None:
    table = with_pooled_orphan()
    ended = past(7, "submit", "alloc", "start", "finish", "clean", chore="worker-1-1")
    assert table.recall(ended) == LOST
    assert table.strangers == []


def test_a_warm_worker_that_is_being_ended_is_waited_for() -> None:
    """Also where the connection broke after its end was asked for."""
    table = with_pooled_orphan()
    ending = past(7, "submit", "alloc", "start", cancelled(), chore="worker-1-1")
    assert table.recall(ending) == []
    assert table.recall(ending) == []
    assert table.strangers == [], "its end was asked for before"
    assert table.tell("finish", status=15).events == LOST


def test_a_job_of_its_own_does_not_hold_back_what_a_warm_worker_served() -> None:
    table = with_pooled_orphan()
    table.table.adopt(Orphan("chore-b-0002", 1, "8", "", Resources(), Path("/run")))
    table.recall(past(8, "submit", "alloc", "start", chore="chore-b-0002"))
    assert [e for e in table.events if isinstance(e, AttemptLost)] == LOST
    assert table.strangers == []
