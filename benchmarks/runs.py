"""Make run directories of any size, as a driver would have left them, without running anything.

Three groups (relax → md → analyse) of a third of the chores each, on 256 cores of 8 hosts. Of each
hundred relaxations one fails, and what depends on it is skipped; of each fifty MD chores one loses
its host and runs again. The analyses are short Python chores, which run on warm workers after the
first 32: of most of them only the end is recorded. A live run is one whose driver was seen when
60 % had begun. Written are the manifest, the headers, the journal and the status: what shows a run,
not what resumes it.
`campaign.py` makes runs with more to see.

    python benchmarks/runs.py FOLDER CHORES [--live]
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from matensemble.model import OutputReference, RunState
from matensemble.records import JOURNAL_FORMAT, RecordKind, encode_journal_record, journal_stamp
from matensemble.status import Counts, RootFailure, RunStatus
from matensemble.wire import freeze
from matensemble.workdir import ARGUMENTS, RunDir
from matensemble.workflow import (
    Manifest,
    create_run_dir,
    present_versions,
    utc_now,
    write_workflow,
)

GROUPS = ("relax", "md", "analyse")
NUM_HOSTS = 8
NUM_CORES = 256
BEGAN_AT = 1_767_225_600.0
TICK_SECONDS = 0.01
LIVE_SHARE = 0.6
NUM_PROBES = 32
POOLED = 2
"""Number of the group that runs on warm workers, after its first chores."""
_ARGUMENTS = freeze(((OutputReference("trajectory"),), {"bins": 200}))[0]
"""Of each chore of that group: where another one's result goes, and a number."""


class _Play:
    """The records of a run, in the order in which a driver would have written them."""

    def __init__(self, width: int, began_at: float = BEGAN_AT) -> None:
        self.width = width
        self.began_at = began_at
        self.sequence = 0
        self.counts: dict[str, Counter[str]] = {group: Counter() for group in GROUPS}
        self.failures: list[RootFailure] = []
        self.num_failures = 0
        self._running: deque[tuple[int, int]] = deque()

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of the journal."""
        hosts = [[f"node{i}", NUM_CORES // NUM_HOSTS, 0] for i in range(NUM_HOSTS)]
        facts = {"format": JOURNAL_FORMAT, "run": "generated", "executor": "local", "nodes": hosts}
        yield self._line(
            RecordKind.RUN_STARTED, fields={**facts, "host": "nowhere.invalid", "pid": 1}
        )
        for number in range(len(GROUPS)):
            for i in range(self.width):
                if number and _fails(i):
                    continue  # its record stands behind that of the failure
                while len(self._running) >= NUM_CORES:  # one that ends may run again at once
                    yield from self._end(number)
                if number == POOLED and i == NUM_PROBES:
                    yield from self._decide()
                yield from self._start(number, i, 1)
            while self._running:
                yield from self._end(number)
        yield self._line(RecordKind.RUN_STATE, fields={"state": RunState.COMPLETED.value})

    def status(self, run: RunDir, *, is_live: bool) -> RunStatus:
        """Return the status after the lines that were yielded so far."""
        groups = {
            group: Counts(
                total=self.width,
                pending=self.width - found.total(),
                running=found["running"],
                completed=found["completed"],
                failed=found["failed"],
            )
            for group, found in self.counts.items()
        }
        fields = ("total", "pending", "running", "completed", "failed")
        total = {name: sum(getattr(c, name) for c in groups.values()) for name in fields}
        instant = _instant(self.began_at + self.sequence * TICK_SECONDS)
        return RunStatus(
            run=run.root.name,
            state=RunState.RUNNING if is_live else RunState.COMPLETED,
            sequence=self.sequence,
            counts=Counts(**total),
            groups=groups,
            executor="local",
            num_nodes=NUM_HOSTS,
            total_cores=NUM_CORES,
            free_cores=NUM_CORES - len(self._running),
            root_failures=tuple(self.failures),
            num_root_failures=self.num_failures,
            host="nowhere.invalid",
            pid=1,
            started_at=_instant(self.began_at),
            updated_at=instant,
            ended_at=None if is_live else instant,
        )

    def _start(self, number: int, i: int, attempt: int) -> Iterator[bytes]:
        chore = self._id(number, i)
        self._running.append((i, attempt))
        if _is_pooled(number, i):
            yield self._line(RecordKind.SUBMIT_INTENT, chore, attempt, {"p": 1})
            return
        self.counts[GROUPS[number]]["running"] += 1
        yield self._line(RecordKind.SUBMIT_INTENT, chore, attempt)
        yield self._line(RecordKind.SUBMITTED, chore, attempt, {"j": f"ƒ{self.sequence}"})
        yield self._line(RecordKind.STARTED, chore, attempt, {"h": f"node{i % NUM_HOSTS}"})

    def _end(self, number: int) -> Iterator[bytes]:
        i, attempt = self._running.popleft()
        chore, counts = self._id(number, i), self.counts[GROUPS[number]]
        counts["running"] -= not _is_pooled(number, i)
        if number == 0 and _fails(i):
            counts["failed"] += 1
            self.num_failures += 1
            detail = f"ValueError: atom {i} left the box at step {i * 7}"
            if len(self.failures) < 20:
                self.failures.append(RootFailure(chore, "exception", 1, detail))
            yield self._line(
                RecordKind.FAILED, chore, attempt, {"r": "exception", "x": 1, "d": detail}
            )
            for later in (1, 2):
                self.counts[GROUPS[later]]["failed"] += 1
                yield self._line(RecordKind.SKIPPED, self._id(later, i), 1, {"u": chore})
        elif number == 1 and i % 50 == 3 and attempt == 1:
            yield self._line(
                RecordKind.REQUEUED,
                chore,
                attempt,
                {"r": "node_failure", "d": f"node{i % NUM_HOSTS} is lost", "b": "loss"},
            )
            yield from self._start(number, i, attempt + 1)
        else:
            counts["completed"] += 1
            host = f"node{i % NUM_HOSTS}"
            told = {"el": 0.012 + 0.031 * (i % 9), "h": host} if _is_pooled(number, i) else {}
            yield self._line(RecordKind.COMPLETED, chore, attempt, told)

    def _decide(self) -> Iterator[bytes]:
        """Yield what a driver says of the workers of a group whose first chores were short."""
        told = {"g": GROUPS[POOLED], "tier": "trial", "elapsed": 0.15}
        yield self._line(RecordKind.WORKERS, fields=told)
        yield self._line(RecordKind.WORKERS, fields={**told, "tier": "pool", "launch": 0.082})

    def _id(self, number: int, i: int) -> str:
        return chore_id(number, i, self.width)

    def _line(
        self,
        kind: RecordKind,
        chore: str | None = None,
        attempt: int = 1,
        fields: dict[str, object] | None = None,
    ) -> bytes:
        self.sequence += 1
        elapsed = self.sequence * TICK_SECONDS
        stamp = journal_stamp(1, self.began_at + elapsed, elapsed)
        return encode_journal_record(self.sequence, stamp, kind, chore, attempt, fields)


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _is_pooled(number: int, i: int) -> bool:
    return number == POOLED and i >= NUM_PROBES


def _fails(i: int) -> bool:
    return i % 100 == 7


def chore_id(number: int, i: int, width: int) -> str:
    """Return the id of a chore: the `i`-th of the group `number`, of `width` in each."""
    return f"chore-{GROUPS[number]}-{number * width + i + 1:04}"


def _headers(width: int) -> Iterator[str]:
    for number, group in enumerate(GROUPS):
        for i in range(width):
            header: dict[str, object] = {"id": chore_id(number, i, width), "name": group}
            if number == POOLED:
                header |= {"kind": "python", "arguments": [ARGUMENTS, 0, len(_ARGUMENTS)]}
            else:
                header |= {"kind": "executable", "command": ["true"]}
            if number:
                header["deps"] = [chore_id(number - 1, i, width)]
            yield json.dumps(header)


def write_headers(
    run: RunDir,
    name: str,
    headers: Iterable[str],
    groups: Mapping[str, int],
    arguments: bytes = b"",
) -> None:
    """Write what was saved of a made run; `groups` are the sizes of its groups."""
    num_chores = sum(groups.values())
    manifest = Manifest(
        name=name,
        created_at=utc_now(),
        versions=present_versions(),
        num_chores=num_chores,
        next_number=num_chores + 1,
        groups=dict(groups),
    )
    write_workflow(run, manifest, headers, io.BytesIO(arguments), {})


def make_run(folder: Path, count: int, *, is_live: bool = False) -> RunDir:
    """Return a new run of about `count` chores (a multiple of three).

    Parameters
    ----------
    folder
        Where the run directory is made.
    count
        Chores, at least 3.
    is_live
        Whether its driver is in the midst of it.
    """
    width = count // len(GROUPS)
    run = create_run_dir(folder)
    num_chores = width * len(GROUPS)
    groups = dict.fromkeys(GROUPS, width)
    write_headers(run, "generated", _headers(width), groups, _ARGUMENTS)
    last = num_chores * 4 * LIVE_SHARE if is_live else float("inf")
    play = _Play(width, time.time() - last * TICK_SECONDS if is_live else BEGAN_AT)
    with run.journal_path.open("wb") as journal:
        for line in play.lines():
            journal.write(line)
            if play.sequence >= last:
                break
    status = play.status(run, is_live=is_live)
    run.status_path.write_text(json.dumps(status.to_json()))
    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("chores", type=int)
    parser.add_argument("--live", action="store_true")
    given = parser.parse_args()
    print(make_run(given.folder, given.chores, is_live=given.live).root)
