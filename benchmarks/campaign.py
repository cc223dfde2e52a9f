"""Make a run directory that looks like a campaign: something to see on every page of a dashboard.

A sample is prepared, relaxed, run and analysed, twenty analyses are fitted together, and one report
gathers the fits. The machine has 64 hosts of 64 cores and 4 GPUs. Durations are lognormal. Some
relaxations do not converge, one host has a full disk, some runs take too long, and another host is
lost in the midst: what it ran is run again elsewhere. What depends on a failure is skipped. Written
is what shows a run, not what resumes it; the same arguments give the same run.

    python benchmarks/campaign.py FOLDER CHORES [--live]
"""

from __future__ import annotations

import argparse
import heapq
import json
import time
from collections import Counter, deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import NamedTuple

from runs import write_headers

from matensemble.model import RunState
from matensemble.records import JOURNAL_FORMAT, RecordKind, encode_journal_record, journal_stamp
from matensemble.status import Counts, RootFailure, RunStatus
from matensemble.workdir import RunDir
from matensemble.workflow import (
    create_run_dir,
)

NUM_HOSTS, HOST_CORES, HOST_GPUS = 64, 64, 4
FULL_HOST, LOST_HOST = 17, 42
SAMPLES_PER_FIT = 20
SPREAD = 0.6
"""Standard deviation of the logarithm of durations."""
LIVE_SHARE = 0.6
"""Of the records, in a run whose driver is in the midst of it."""
MAX_ATTEMPTS = 3


class Group(NamedTuple):
    """What chores of one name ask for, and how long they take."""

    cores: int
    gpus: int
    seconds: float
    """Median."""


GROUPS = {
    "prepare": Group(1, 0, 20.0),
    "relax": Group(8, 1, 500.0),
    "md": Group(16, 2, 1500.0),
    "analyse": Group(2, 0, 60.0),
    "fit": Group(32, 0, 240.0),
    "report": Group(1, 0, 15.0),
}
CHAIN = ("prepare", "relax", "md", "analyse")


class Failure(NamedTuple):
    """How an attempt ends that does not go well."""

    reason: str
    exit_code: int | None
    detail: str
    is_retried: bool = False


class Campaign:
    """Chores, and the records of a driver that runs them one moment after the other."""

    def __init__(self, count: int, began_at: float) -> None:
        self.random = Random(count)
        self.headers: list[dict[str, object]] = []
        self.began_at = began_at
        self.states: list[str] = []
        self.failures: list[RootFailure] = []
        self.num_failures = 0
        self.sequence, self.now = 0, 0.0
        self._downstream: list[list[int]] = []
        self._missing: list[int] = []
        self._attempts: list[int] = []
        self._free = [[HOST_CORES, HOST_GPUS] for _ in range(NUM_HOSTS)]
        self._ready: dict[str, deque[int]] = {name: deque() for name in GROUPS}
        self._ends: list[tuple[float, int, int, int]] = []  # when, attempt, chore, host
        self._running: dict[int, int] = {}
        self._is_lost = False
        self._plan(count)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of the journal."""
        nodes = [[_host(i), HOST_CORES, HOST_GPUS] for i in range(NUM_HOSTS)]
        facts = {"format": JOURNAL_FORMAT, "run": "campaign", "executor": "flux", "nodes": nodes}
        yield self._line(RecordKind.RUN_STARTED, fields={**facts, "host": "login1", "pid": 4711})
        num_ended = 0
        yield from self._start_ready()
        while self._ends:
            self.now, attempt, chore, host = heapq.heappop(self._ends)
            if self._attempts[chore] != attempt or chore not in self._running:
                continue  # it was lost with its host
            num_ended += 1
            yield from self._end(chore, host)
            if not self._is_lost and num_ended > len(self.states) // 3:
                yield from self._lose(LOST_HOST)
            yield from self._start_ready()
        yield self._line(RecordKind.RUN_STATE, fields={"state": RunState.FAILED.value})

    # --- the graph --------------------------------------------------------------------------------

    def _plan(self, count: int) -> None:
        per_fit = SAMPLES_PER_FIT * len(CHAIN) + 1
        for _ in range(max(count // per_fit, 1)):
            analyses = []
            for _ in range(SAMPLES_PER_FIT):
                upstream: list[int] = []
                for name in CHAIN:
                    upstream = [self._add(name, upstream)]
                analyses += upstream
            self._add("fit", analyses)
        fits = [i for i, header in enumerate(self.headers) if header["name"] == "fit"]
        report = self._add("report", fits)
        self.headers[report]["deps"] = [{"gather": "fit"}]
        for chore, missing in enumerate(self._missing):
            if not missing:
                self._ready[str(self.headers[chore]["name"])].append(chore)

    def _add(self, name: str, upstream: list[int]) -> int:
        number, group = len(self.headers), GROUPS[name]
        resources = {"num_tasks": group.cores}
        if group.gpus:
            tasks = group.gpus
            resources = {
                "num_tasks": tasks,
                "cores_per_task": group.cores // tasks,
                "gpus_per_task": 1,
            }
        header: dict[str, object] = {
            "id": f"chore-{name}-{number + 1:04}",
            "name": name,
            "kind": "executable",
            "deps": [self.headers[i]["id"] for i in upstream],
            "command": [f"{name}.sh", f"sample-{number}"],
            "resources": resources,
        }
        self.headers.append(header)
        self.states.append("blocked")
        self._attempts.append(0)
        self._missing.append(len(upstream))
        self._downstream.append([])
        for i in upstream:
            self._downstream[i].append(number)
        return number

    # --- its course -------------------------------------------------------------------------------

    def _start_ready(self) -> Iterator[bytes]:
        for name, ready in self._ready.items():
            group = GROUPS[name]
            while ready and (host := self._find_host(group)) is not None:
                chore = ready.popleft()
                self._attempts[chore] += 1
                attempt = self._attempts[chore]
                self._free[host][0] -= group.cores
                self._free[host][1] -= group.gpus
                self._running[chore] = host
                seconds = self.random.lognormvariate(0.0, SPREAD) * group.seconds
                heapq.heappush(self._ends, (self.now + seconds, attempt, chore, host))
                yield self._line(RecordKind.SUBMIT_INTENT, chore)
                yield self._line(RecordKind.SUBMITTED, chore, {"j": f"ƒ{self.sequence:x}"})
                yield self._line(RecordKind.STARTED, chore, {"h": _host(host)})

    def _find_host(self, group: Group) -> int | None:
        for host, (cores, gpus) in enumerate(self._free):
            if cores >= group.cores and gpus >= group.gpus:
                return host
        return None

    def _release(self, chore: int) -> None:
        host, group = self._running.pop(chore), GROUPS[str(self.headers[chore]["name"])]
        if not (self._is_lost and host == LOST_HOST):
            self._free[host][0] += group.cores
            self._free[host][1] += group.gpus

    def _end(self, chore: int, host: int) -> Iterator[bytes]:
        self._release(chore)
        failure = self._judge(chore, host)
        if failure is None:
            self.states[chore] = "completed"
            yield self._line(RecordKind.COMPLETED, chore)
            for later in self._downstream[chore]:
                self._missing[later] -= 1
                if not self._missing[later] and self.states[later] == "blocked":
                    self._ready[str(self.headers[later]["name"])].append(later)
            return
        fields: dict[str, object] = {"r": failure.reason, "d": failure.detail}
        if failure.exit_code is not None:
            fields["x"] = failure.exit_code
        if failure.is_retried and self._attempts[chore] < MAX_ATTEMPTS:
            yield self._line(RecordKind.REQUEUED, chore, {**fields, "b": "retry"})
            self._ready[str(self.headers[chore]["name"])].append(chore)
            return
        self.states[chore] = "failed"
        self.num_failures += 1
        if len(self.failures) < 20:
            root = RootFailure(
                str(self.headers[chore]["id"]), failure.reason, failure.exit_code, failure.detail
            )
            self.failures.append(root)
        yield self._line(RecordKind.FAILED, chore, fields)
        yield from self._skip_behind(chore)

    def _skip_behind(self, chore: int) -> Iterator[bytes]:
        waiting = deque(self._downstream[chore])
        while waiting:
            later = waiting.popleft()
            if self.states[later] == "blocked":
                self.states[later] = "skipped"
                yield self._line(RecordKind.SKIPPED, later, {"u": self.headers[chore]["id"]})
                waiting.extend(self._downstream[later])

    def _lose(self, host: int) -> Iterator[bytes]:
        lost = [chore for chore, its_host in self._running.items() if its_host == host]
        self._is_lost = True
        self._free[host] = [0, 0]
        for chore in lost:
            self._release(chore)
            fields = {"r": "node_failure", "d": f"{_host(host)} is lost", "b": "loss"}
            yield self._line(RecordKind.REQUEUED, chore, fields)
            self._ready[str(self.headers[chore]["name"])].append(chore)

    def _judge(self, chore: int, host: int) -> Failure | None:
        """Return how an attempt went wrong, None where it did not."""
        name, chance = self.headers[chore]["name"], self.random.random()
        if name == "relax" and chance < 0.002:
            change = self.random.lognormvariate(-7.0, 1.0)
            detail = f"RuntimeError: SCF did not converge in 200 cycles (dE = {change:.2e} eV)"
            return Failure("exception", 1, detail)
        if name == "md" and host == FULL_HOST and chance < 0.05:
            detail = f"OSError: [Errno 28] No space left on device: '/scratch/{chore}/run.dcd'"
            return Failure("exception", 1, detail)
        if name == "md" and chance < 0.02:
            return Failure("nonzero_exit", 134, f"lost atoms at step {chore * 37 % 90_000}", True)
        if name == "md" and chance > 0.999:
            return Failure("duration_exceeded", None, "ran longer than its 2 h")
        if name == "analyse" and chance < 0.001:
            return Failure("signal", -11, "ended by SIGSEGV")
        return None

    def _line(
        self, kind: RecordKind, chore: int | None = None, fields: dict[str, object] | None = None
    ) -> bytes:
        self.sequence += 1
        stamp = journal_stamp(1, self.began_at + self.now, self.now)
        if chore is None:
            return encode_journal_record(self.sequence, stamp, kind, fields=fields)
        chore_id, attempt = str(self.headers[chore]["id"]), max(self._attempts[chore], 1)
        return encode_journal_record(self.sequence, stamp, kind, chore_id, attempt, fields)

    def status(self, run: RunDir, *, is_live: bool) -> RunStatus:
        """Return the status after the lines that were yielded so far."""
        by_group: dict[str, Counter[str]] = {name: Counter() for name in GROUPS}
        for i, (header, state) in enumerate(zip(self.headers, self.states, strict=True)):
            shown = {"blocked": "pending", "skipped": "failed"}.get(state, state)
            by_group[str(header["name"])]["running" if i in self._running else shown] += 1
        groups = {name: Counts(total=found.total(), **found) for name, found in by_group.items()}
        names = ("total", "pending", "running", "completed", "failed")
        updated_at = datetime.fromtimestamp(self.began_at + self.now, UTC)
        updated = updated_at.isoformat(timespec="seconds")
        num_nodes = NUM_HOSTS - self._is_lost
        return RunStatus(
            run=run.root.name,
            state=RunState.RUNNING if is_live else RunState.FAILED,
            sequence=self.sequence,
            counts=Counts(
                **{name: sum(getattr(c, name) for c in groups.values()) for name in names}
            ),
            groups=groups,
            executor="flux",
            num_nodes=num_nodes,
            total_cores=num_nodes * HOST_CORES,
            free_cores=sum(cores for cores, _ in self._free),
            total_gpus=num_nodes * HOST_GPUS,
            free_gpus=sum(gpus for _, gpus in self._free),
            root_failures=tuple(self.failures),
            num_root_failures=self.num_failures,
            host="login1",
            pid=4711,
            started_at=datetime.fromtimestamp(self.began_at, UTC).isoformat(timespec="seconds"),
            updated_at=updated,
            ended_at=None if is_live else updated,
        )


def _host(number: int) -> str:
    return f"node{number:03}"


def _longest(count: int) -> float:
    """Return more seconds than a campaign of so many chores takes."""
    return 86_400.0 * max(1.0, count / 10_000)


def make_campaign(
    folder: Path, count: int, *, is_live: bool = False, began_at: float | None = None
) -> RunDir:
    """Return a new run of about `count` chores.

    Parameters
    ----------
    folder
        Where the run directory is made.
    count
        Chores; rounded to whole fits of 81 chores, at least one.
    is_live
        Whether its driver is in the midst of it.
    began_at
        Seconds since the Unix epoch; None: so long ago that it has ended.
    """
    campaign = Campaign(count, time.time() - _longest(count) if began_at is None else began_at)
    run = create_run_dir(folder)
    num_chores = len(campaign.headers)
    groups = Counter(str(header["name"]) for header in campaign.headers)
    write_headers(run, "campaign", map(json.dumps, campaign.headers), groups)
    last = num_chores * 4 * LIVE_SHARE if is_live else float("inf")
    with run.journal_path.open("wb") as journal:
        for line in campaign.lines():
            journal.write(line)
            if campaign.sequence >= last:
                break
    status = campaign.status(run, is_live=is_live)
    run.status_path.write_text(json.dumps(status.to_json()))
    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("chores", type=int)
    parser.add_argument("--live", action="store_true")
    given = parser.parse_args()
    print(make_campaign(given.folder, given.chores, is_live=given.live).root)
