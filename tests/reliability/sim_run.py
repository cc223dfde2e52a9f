"""One run, from its first driver to its end, through whatever the dice bring.

`simulate` plays it and checks at every step what must always hold; see `test_sim`.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sim_cluster import Cluster, SimExecutor
from sim_world import Disk, Killed, VirtualInbox, World

import matensemble.manager
from matensemble import disk
from matensemble.control import Request, Selection, Verb
from matensemble.errors import (
    ChoreFailedError,
    FormatError,
    RunDirectoryError,
    RunFailedError,
    RunInterruptedError,
)
from matensemble.manager import FluxManager
from matensemble.model import ChoreState, ChoreType, RunState
from matensemble.pipeline import Pipeline
from matensemble.policy import Retry
from matensemble.protocols import RunOptions
from matensemble.records import JournalRecord, RecordKind, decode_journal_line, read_records
from matensemble.replay import Replay
from matensemble.results import Results
from matensemble.runtime.scheduler import events as ev
from matensemble.runtime.scheduler.resources import Node
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.runtime.scheduler.states import LIVE
from matensemble.status import read_status
from matensemble.workdir import RunDir

MAX_DRIVERS = 40
MAX_SECONDS = 50_000.0
"""Virtual; the longest of these runs need a few thousand."""
CALM_AFTER = 1_500.0
"""Virtual seconds after which nothing bad happens any more, so that a run must come to its end."""


def plain(*args):
    """Stand for the work of a chore; the cluster makes up what it returns."""


@dataclass
class Story:
    """What came of a simulation."""

    seed: int
    run: RunDir
    journals: list[bytes] = field(default_factory=list)
    """Bytes of the journals, oldest first, without what no seed decides."""
    counts: Counter[str] = field(default_factory=Counter)
    end: RunState | None = None


class CheckedState(SchedulerState):
    """The core, which holds its invariants after every event."""

    latest: CheckedState

    def __init__(self, policy=None):
        super().__init__(policy)
        type(self).latest = self

    def handle(self, event):
        orders = super().handle(event)
        if not isinstance(event, (ev.ChoreAdded, ev.ChoreRestored)):
            self.validate()
        return orders


class Simulation:
    """One run with its world.

    Parameters
    ----------
    seed
        Decides everything.
    base
        Folder for the run; must be empty.
    """

    def __init__(self, seed: int, base: Path) -> None:
        self.world = world = World(seed)
        rng = world.rng
        self.run = RunDir(self._save(base))
        self.story = Story(seed, self.run)
        self.disk = Disk(world, self.run.root)
        nodes = tuple(Node(f"n{i}", rng.choice((2, 4)), rng.choice((0, 1))) for i in range(3))
        self.cluster = Cluster(
            world,
            self.run,
            (Node("n", 4, 1), *nodes[: rng.randrange(3)]),
            survives=world.chance(0.5),
            failure_rate=rng.choice((0.0, 0.1, 0.3)),
        )
        self.cluster.sees_late = world.chance(0.2)
        self.look_ahead = rng.choice((0, 0, 3))
        self.is_calm = False
        self.kill_rate = rng.choice((0.0, 0.0005, 0.005))
        self.chore_ids = [chore.id for chore in FluxManager(self.run.root).workflow.chores()]
        self.num_requests = 0
        self.executor: SimExecutor | None = None
        self.revoked: set[str] = set()

    # --- what is run --------------------------------------------------------------------------

    def _save(self, base: Path) -> Path:
        rng, chance = self.world.rng, self.world.chance
        pipe = Pipeline(base)
        works = {name: pipe.chore(name)(plain) for name in ("g0", "g1", "g2", "plain", "seen")}
        has_strategy = chance(0.3)
        if has_strategy:
            pipe.strategy(["seen"], name="look")(plain)
        refs = []
        for number in range(rng.randrange(1, 14)):
            ups = rng.sample(refs, min(len(refs), rng.choice((0, 1, 1, 2, 3))))
            settings = self._settings()
            name = "seen" if has_strategy and chance(0.2) else f"g{number % 3}"
            if chance(0.25):
                refs.append(pipe.exec("true", name=f"x{name}", after=ups, **settings))
            else:
                refs.append(works[name].options(**settings)(number, *ups))
        if chance(0.3):
            works["plain"](pipe.gather("g0"))
        return pipe.save().rename(base / "run")

    def _settings(self):
        rng, chance = self.world.rng, self.world.chance
        retry = Retry(
            limit=rng.randrange(1, 4),
            delay=rng.choice((0, 0, 3, 50)),
            grow={"out_of_memory": {"cores_per_task": 2}} if chance(0.2) else {},
        )
        return {
            "num_tasks": rng.choice((1, 1, 1, 2)),
            "cores_per_task": rng.choice((1, 1, 2)),
            "gpus_per_task": int(chance(0.1)),
            "duration": rng.choice((None, None, 20.0, 100.0)),
            "nice": rng.randrange(-2, 3),
            "retries": rng.choice((None, retry)),
            "idle_timeout": rng.choice((None, 15.0)) if chance(0.5) else 300.0,
            "on_failure": rng.choice(("continue", "continue", "continue", "ignore", "abort")),
        }

    # --- how it is run ------------------------------------------------------------------------

    def play(self) -> Story:
        """Start driver after driver, until one comes to the end of the run."""
        world, story = self.world, self.story
        self._plan_misfortunes()
        with self.disk.mounted(), _checked():
            for number in range(MAX_DRIVERS):
                self.is_calm = number > MAX_DRIVERS - 10 or world.now > CALM_AFTER
                results = self._drive(is_first=number == 0)
                story.counts["drivers"] += 1
                if results is not None and not self.disk.is_failing:
                    if self.is_calm or not self._wants_more(results):
                        break
                else:  # or the disk took neither the last record nor the last status
                    world.pass_until(world.now + world.rng.uniform(0, 60))
            else:
                raise AssertionError(f"the run does not end after {MAX_DRIVERS} drivers")
        assert world.now < MAX_SECONDS
        story.counts["events"] = world.num_events
        story.counts["faults"] = self.disk.num_faults
        self._check_end(results)
        story.journals = [_normalised(path.read_bytes(), self.run) for path in self._journals()]
        return story

    def _journals(self) -> list[Path]:
        replaced = self.run.root.glob("journal-*.jsonl")
        return [
            *sorted(replaced, key=lambda path: (len(path.name), path.name)),
            self.run.journal_path,
        ]

    def _drive(self, is_first: bool) -> Results | None:
        """Let one driver do what it can; return the results, None where it did not get so far."""
        world, cluster = self.world, self.cluster
        if self.is_calm:
            self.disk.stop_failing()
            cluster.is_disk_full, cluster.failure_rate = False, 0.0
        resume = not is_first
        options = RunOptions(
            resume=resume,
            takeover=resume,
            buffer_time=world.rng.choice((0.2, 1.0)),
            adaptive=world.chance(0.8),
            walltime=None if self.is_calm or world.chance(0.8) else world.rng.uniform(50, 400),
            drain_signal=world.rng.choice((None, "USR1")),
        )
        world.kill_rate = 0.0 if self.is_calm else self.kill_rate
        world.is_dead, world.num_waits = False, 0
        self.executor = SimExecutor(cluster, self.look_ahead)
        try:
            manager = FluxManager(self.run.root, options, executor=self.executor, clock=world)
            manager._inbox = VirtualInbox(world)  # the one place where a driver waits
            world.in_driver = True
            results = manager.run()
        except Killed:
            self.story.counts["killed"] += 1
        except RunInterruptedError:
            self.story.counts["interrupted"] += 1
        except RunDirectoryError:
            assert self.disk.is_failing, "nothing was wrong with the disk"
            self.story.counts["refused"] += 1
        except RunFailedError as error:
            is_known = re.search("launcher died|nothing runs and nothing can be", str(error))
            is_last = "the end of its journal cannot be written" in str(error)
            assert is_known or (is_last and self.disk.is_failing), f"a driver gave up: {error}"
            self.story.counts["gave up"] += 1
        else:
            if not self.disk.is_failing:
                self._compare_with_journal()
            return results
        finally:
            world.in_driver = False
            self._bury()
        return None

    def _bury(self) -> None:
        """Leave behind what a process leaves behind."""
        world, cluster = self.world, self.cluster
        if not world.is_dead:
            return
        world.is_dead, world.kill_rate = False, 0.0
        takes_node = not cluster.survives and world.chance(0.3)
        cluster.forget_driver(ends_jobs=not cluster.survives)
        self.disk.forget_driver()
        if takes_node:
            self._tear_journal()

    def _tear_journal(self) -> None:
        """Lose what the node had not brought to the disk."""
        path = self.run.journal_path
        if not path.exists():
            return
        data = path.read_bytes()
        if len(data) <= self.disk.synced:
            return
        rng = self.world.rng
        cut = rng.randrange(self.disk.synced, len(data))
        rest = b"\0" * (len(data) - cut) if self.world.chance(0.5) else b""
        path.write_bytes(data[:cut] + rest)
        self.story.counts["torn journals"] += 1
        for line in data[data.rfind(b"\n", 0, cut) + 1 :].splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            record = decode_journal_line(line)
            if record.kind == RecordKind.SUBMIT_INTENT:  # it is as if this had never been
                self.cluster.handed.discard((record.chore_id, record.attempt))
                self.cluster.committed.pop(record.chore_id, None)

    # --- misfortunes --------------------------------------------------------------------------

    def _plan_misfortunes(self) -> None:
        world = self.world
        happenings = {
            self._change_wall_clock: 300.0,
            self._fail_disk: world.rng.choice((100.0, 1000.0)),
            self._lose_node: world.rng.choice((100.0, 1000.0)),
            self._request: world.rng.choice((20.0, 300.0)),
            self._damage: world.rng.choice((60.0, 2000.0)),
            self._break_executor: 800.0,
        }
        for happening, seconds in happenings.items():
            self._again(happening, seconds)

    def _again(self, happening, seconds: float) -> None:
        def happen():
            if self.world.now < CALM_AFTER and not self.is_calm:
                happening()
                self._again(happening, seconds)

        self.world.after(self.world.rng.expovariate(1 / seconds), happen)

    def _change_wall_clock(self) -> None:
        self.world.wall_offset += self.world.rng.uniform(-5000, 5000)

    def _fail_disk(self) -> None:
        self.disk.begin_to_fail()
        self.cluster.is_disk_full = True

        def end():
            self.disk.stop_failing()
            self.cluster.is_disk_full = False

        self.world.after(self.world.rng.uniform(0.1, 30), end)

    def _lose_node(self) -> None:
        index = self.world.rng.randrange(len(self.cluster.allocation.nodes))
        self.cluster.lose_node(index, self.world.rng.uniform(1, 15))

    def _damage(self) -> None:
        self.cluster.damage_a_result()

    def _break_executor(self) -> None:
        if self.executor is not None:
            self.executor.lose()

    def _request(self, verb: Verb | None = None, selection: Selection | None = None) -> None:
        rng = self.world.rng
        chosen = verb or rng.choice([*Verb, *Verb])
        some = Selection(chores=tuple(rng.sample(self.chore_ids, min(2, len(self.chore_ids)))))
        if chosen in (Verb.PAUSE, Verb.UNPAUSE):
            some = Selection()
            if chosen is Verb.PAUSE:
                self.world.after(rng.uniform(0, 20), lambda: self._request(Verb.UNPAUSE))
        elif chosen is Verb.CANCEL and self.world.chance(0.05):
            some = Selection(everything=True)
        elif chosen is Verb.RETRY and self.world.chance(0.5):
            some = Selection(failed=True)
        self.num_requests += 1
        request = Request(
            id=f"20260101T000000Z-{self.num_requests:08x}",
            verb=chosen,
            selection=selection or some,
            nice=rng.randrange(-5, 5) if chosen is Verb.PRIORITISE else None,
            seconds=rng.uniform(1, 100) if chosen is Verb.ADD_TIME else None,
            by={"user": "somebody"},
        )
        if not self.run.control_dir.exists():
            disk.make_dir(self.run.control_dir)
        path = self.run.control_dir / f"request-{request.id}.json"
        disk.write_atomic(path, json.dumps(request.to_json()).encode())
        self.story.counts["requests"] += 1

    def _wants_more(self, results: Results) -> bool:
        """Perhaps ask a run that has ended to try again what failed."""
        if not results.failures() or not self.world.chance(0.3):
            return False
        self._request(Verb.RETRY, Selection(failed=True))
        return True

    # --- what must hold -----------------------------------------------------------------------

    def records(self) -> list[JournalRecord]:
        return [*read_records(self.run)]

    def _compare_with_journal(self) -> None:
        """The journal, folded, is the state that the driver had at its end."""
        replay = Replay.of(self.records())
        state = CheckedState.latest
        for entry in state:
            told = replay.standing(entry.chore.id)
            stands = ChoreState.BLOCKED if entry.state is ChoreState.READY else entry.state
            assert (told.state, told.attempt) == (stands, entry.attempt), entry.chore.id
            assert (told.retries, told.losses) == (entry.past.retries, entry.past.losses)
            if entry.state.is_terminal:
                assert (told.reason, told.root, told.exit_code, told.detail) == (
                    entry.reason,
                    entry.root,
                    entry.exit_code,
                    entry.detail,
                )
            assert entry.state not in LIVE

    def _check_end(self, results: Results) -> None:
        cluster, status, records = self.cluster, read_status(self.run.status_path), self.records()
        self.story.end = status.state
        replay, state = Replay.of(records), CheckedState.latest
        assert replay.run_state is status.state
        assert status.state in (RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED)
        assert (status.epoch, status.sequence) == (records[-1].epoch, records[-1].sequence)
        assert status.counts == state.counts()
        stands = Counter(replay.standing(entry.chore.id).state for entry in state)
        bad = stands[ChoreState.FAILED] + stands[ChoreState.SKIPPED]
        counts = status.counts
        assert (counts.completed, counts.failed) == (stands[ChoreState.COMPLETED], bad)
        assert (counts.pending, counts.running) == (0, 0)
        assert counts.total == len(state) == len(results)
        self.story.counts["chores"] += counts.total
        read_back = Results.read(self.run)
        for entry in state:
            chore = entry.chore
            assert read_back.outcome(chore.id) == results.outcome(chore.id)
            if entry.state is not ChoreState.COMPLETED:
                assert isinstance(results[chore.id], ChoreFailedError)
            elif chore.kind is ChoreType.PYTHON and chore.id in cluster.committed:
                # Not there: several tasks made it, or the disk ate it at the very end.
                attempt, value = cluster.committed[chore.id]
                assert (entry.attempt, results[chore.id]) == (attempt, value)
        assert not cluster.alive(), "something runs after the end"


@contextmanager
def _checked():
    """Let managers hold the core's invariants after every event."""
    module = matensemble.manager
    saved = module.SchedulerState
    module.SchedulerState = CheckedState
    try:
        yield
    finally:
        module.SchedulerState = saved


def _normalised(journal: bytes, run: RunDir) -> bytes:
    """Return a journal without process id, paths, and the checksums that cover them."""
    journal = journal.replace(str(run.root).encode(), b"RUN")
    return re.sub(rb'"pid":\d+|,"z":"[0-9a-f]{8}"', b"", journal)


def simulate(seed: int, base: Path) -> Story:
    """Play a seed in an empty folder; raises AssertionError where a promise is broken."""
    logger = logging.getLogger("matensemble")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        return Simulation(seed, base).play()
    except FormatError as error:
        raise AssertionError(f"a file of ours cannot be read: {error}") from error
    finally:
        logger.setLevel(level)
