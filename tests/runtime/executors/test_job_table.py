"""Events of Flux jobs as events of chores, without a Flux."""

from __future__ import annotations

from typing import Any

import pytest
from test_jobspec import make_request

from matensemble.model import Reason
from matensemble.runtime.executors.base import JobEnded
from matensemble.runtime.executors.job_table import Job, JobTable
from matensemble.runtime.executors.resource_set import parse_idset, placement_of
from matensemble.runtime.scheduler.events import (
    ChorePlaced,
    ChoreStarted,
    ChoreSubmitted,
    ResourcesFreed,
)
from matensemble.runtime.scheduler.resources import Share

ID = "chore-a-0001"
R = {"execution": {"R_lite": [{"rank": "1-2", "children": {"core": "0-1,3", "gpu": "0"}}]}}
LABELS = {"attributes": {"user": {"matensemble": {"chore": ID, "attempt": 1}}}}


class Table:
    def __init__(self, **resources: Any) -> None:
        self.asked: list[Job] = []
        self.table = JobTable({1: 0, 2: 1}, ["n1", "n2"], str, self.asked.append)
        self.job = self.table.add(make_request(**resources))
        self.events: list[Any] = []

    def tell(self, name: str, jobid: int = 7, **context: Any) -> Table:
        extra = {"submit": {"jobspec": LABELS}, "alloc": {"R": R}}.get(name, {})
        self.events += self.table.apply(jobid, {"name": name, "context": context}, extra)
        return self

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


def test_jobs_of_others_mean_nothing() -> None:
    table = Table()
    stranger = {"jobspec": {"attributes": {"system": {}}}}
    assert table.table.apply(9, {"name": "submit", "context": {}}, stranger) == []
    table.tell("start", jobid=9).tell("finish", jobid=9, status=0).tell("clean", jobid=9)
    assert table.events == []
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
    assert ended.reason is Reason.CANCELLED
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
    assert placement_of(R, {2: 4}) == (Share(4, 3, 1),)
