"""Run a saved workflow: the composition root of the runtime.

Builds the parts of a run, connects them, and sees to it that every way out leaves a truthful
status and no process behind. Found by `Pipeline.submit` through the entry point
`matensemble.runtimes`; used by ``matensemble run``.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from matensemble import workdir
from matensemble.errors import (
    InvalidOptionError,
    MatEnsembleError,
    RunDirectoryError,
    RunFailedError,
)
from matensemble.file_watch import FileWatch
from matensemble.protocols import RunFuture, RunOptions
from matensemble.records import JOURNAL_FORMAT, RecordKind
from matensemble.replay import Replay
from matensemble.results import Results
from matensemble.runtime.caretaker import Caretaker
from matensemble.runtime.clock import SYSTEM_CLOCK, Clock
from matensemble.runtime.control_desk import ControlDesk
from matensemble.runtime.dashboard_process import DashboardProcess, check_dashboard
from matensemble.runtime.duties import end_in_time, serve_requests
from matensemble.runtime.engine import Duty, Engine
from matensemble.runtime.executors.base import Executor
from matensemble.runtime.executors.selection import check_executor, select_executor
from matensemble.runtime.inbox import Deposed, Inbox, OutcomeAsked
from matensemble.runtime.journal import FileJournal
from matensemble.runtime.launch import Preparer
from matensemble.runtime.outcomes import results_of
from matensemble.runtime.owner import SILENCE_SECONDS, Lease, claim
from matensemble.runtime.recorder import Listener, Recorder
from matensemble.runtime.resumption import TAKEN_OVER, Legacy, take_over_journal, was_started
from matensemble.runtime.reused import ResultCache, take_over
from matensemble.runtime.run_log import LOGGER, RunLog
from matensemble.runtime.scheduler.events import AllocationLearned, InterruptRequested, PoolLost
from matensemble.runtime.scheduler.instructions import Record
from matensemble.runtime.scheduler.policy import Policy
from matensemble.runtime.scheduler.resources import Allocation
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.runtime.scheduler.tiers import Tier
from matensemble.runtime.signals import SWITCH
from matensemble.runtime.small_results import SmallResults
from matensemble.runtime.spawner import Spawner
from matensemble.runtime.starting import StartingBeat
from matensemble.runtime.walltime import Deadline, find_time_left
from matensemble.runtime.watchdog import Watchdog
from matensemble.strategy import AdaptiveStrategy, FutureProcessingStrategy, NonAdaptiveStrategy
from matensemble.terminal import describe_seconds
from matensemble.workflow import Workflow

MAX_FAILURES_TOLD = 5
"""Failures that a script is told of on stderr at the end of its run."""


class FluxManager:
    """Owns the ready, blocked and running chores of one run, and runs the loop.

    Parameters
    ----------
    run_dir
        A saved run; one that was started needs ``options.resume``.
    options
        How to run it; None means the defaults.
    executor
        Where to run it; None selects by `options`. Where it has no warm workers, every chore is a
        job of its own.
    listeners
        Called with each status that is published, on the driver's thread; must be quick.
    clock
        For timeouts and stamps.

    Raises
    ------
    RunDirectoryError, FormatError, IncompatibleEnvironmentError
        If the run cannot be read, needs another environment, or was started before and is not to
        be resumed.
    """

    def __init__(
        self,
        run_dir: str | os.PathLike[str],
        options: RunOptions | None = None,
        *,
        executor: Executor | None = None,
        listeners: tuple[Listener, ...] = (),
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.workflow = Workflow.read(Path(run_dir))
        self.run_dir = self.workflow.run
        if not (options and options.resume) and was_started(self.run_dir):
            raise _already_started(self.run_dir)
        self.workflow.manifest.check_environment()
        self._options = options or RunOptions()
        self._strategy = _make_strategy(self._options)
        self._executor = executor
        self._listeners = listeners
        self._clock = clock
        self._is_deposed = False
        self._cache: ResultCache | None = None
        self._inbox: Inbox = SimpleQueue()
        # One a run, below `matensemble`: two runs of a process must not share a file.
        self._logger = LOGGER.getChild(self.run_dir.root.name.replace(".", "_"))

    def run(self) -> Results:
        """Run to the end on the calling thread.

        Returns
        -------
        Results
            Chore id → result; a chore without one has a `ChoreFailedError` as its value.

        Raises
        ------
        ExecutorUnavailableError
            If the executor that was asked for cannot be used; the run is not started.
        RunOwnedError
            If another driver is alive.
        RunInterruptedError
            If it was asked to stop, or taken over.
        RunFailedError
            If it could not go on.
        """
        with ExitStack() as stack:
            engine = self._open(stack)
            return self._drive(engine)

    def start(self) -> RunFuture:
        """Run in a thread of its own; return at once with the future of `run`.

        The thread is no daemon: an interpreter that reaches the end of its script waits for it.

        Raises
        ------
        ExecutorUnavailableError
            As `run`.
        """
        future = RunFuture(lambda chore_id, answer: self._inbox.put(OutcomeAsked(chore_id, answer)))
        future.set_running_or_notify_cancel()
        stack = ExitStack()
        try:
            engine = self._open(stack)
        except BaseException:
            stack.close()
            raise

        def drive() -> None:
            try:
                with stack:
                    results = self._drive(engine)
            except BaseException as error:
                future.set_exception(error)
                if not threading.main_thread().is_alive():
                    _tell_unasked(error)
            else:
                try:
                    _tell_failures(self.run_dir)  # before the script goes on and prints itself
                finally:
                    future.set_result(results)

        threading.Thread(target=drive, name="matensemble-driver").start()
        return future

    def interrupt(self, cause: str) -> None:
        """Ask the run to stop, from any thread or signal handler."""
        self._inbox.put(InterruptRequested(cause))

    # --- putting it together ------------------------------------------------------------------

    def _open(self, stack: ExitStack) -> Engine:
        """Connect everything; what must be undone is put on the stack, in reverse order."""
        run, options = self.run_dir, self._options
        opened_at = self._clock.monotonic()
        stack.callback(self._open_log().close)
        lease = self._claim(stack)
        SWITCH.add(self.interrupt)  # from here on somebody would wait for us
        stack.callback(SWITCH.remove, self.interrupt)
        desk = ControlDesk(run, self._logger)
        beat = StartingBeat(run, lease.epoch, self._clock)
        stack.callback(beat.stop)
        legacy = self._take_over(lease) if options.resume else Legacy(self.workflow, Replay())
        options = self._options = _with_workers(options, legacy.replay.run_started)
        if options.dashboard:
            dashboard = DashboardProcess(run, options.dashboard, self._logger)
            stack.callback(dashboard.close)
        executor = self._executor or select_executor(
            self._with_choice_of_pipeline(),
            run_label=str(run.root.resolve()),
            epoch=lease.epoch,
            logger=self._logger,
        )
        stack.callback(lambda: executor.close(abandon=self._is_deposed))
        allocation = executor.open(self._inbox.put, legacy.orphans())
        if executor.pool_look_ahead is None:
            self._inbox.put(PoolLost("this executor has no warm workers"))
        listeners = (*self._listeners, *self._open_display(stack))
        self._cache = self._open_cache(stack)
        journal = self._begin_journal(lease, executor, allocation, legacy)
        stack.push(self._closing(journal))
        max_failures = 1 if options.fail_fast else options.max_failures
        state = SchedulerState(
            Policy(
                look_ahead=executor.look_ahead,
                max_root_failures=max_failures,
                workers=options.workers or "auto",
                tiers={g: Tier(t) for g, t in legacy.replay.tiers.items() if t in list(Tier)},
            )
        )
        state.handle(AllocationLearned(allocation))
        self._logger.info("allocation: %s", allocation.describe() or "no usable node")
        deadline = self._learn_end(executor, opened_at)
        recorder = Recorder(
            run,
            executor_name=executor.name,
            epoch=journal.epoch,
            log_delay=options.log_delay,
            logger=self._logger,
            clock=self._clock,
            ends_at=None if deadline is None else deadline.ends_at,
            listeners=listeners,
        )
        watchdog = Watchdog(run, self._clock, self._inbox.put)
        caretaker = Caretaker(
            run, watchdog, keep=options.keep, logger=self._logger, cache=self._cache
        )
        stack.callback(caretaker.close)
        small_results = SmallResults()
        engine = Engine(
            self.workflow,
            state,
            executor,
            journal=journal,
            recorder=recorder,
            preparer=Preparer(self.workflow, state, options.script_dir, small_results),
            spawner=Spawner(self.workflow, state, legacy.parents, len(legacy.replay.added)),
            inbox=self._inbox,
            buffer_time=options.buffer_time,
            logger=self._logger,
            clock=self._clock,
            restored=None if legacy.is_empty else legacy.restored(),
            observers=(caretaker,),
            small_results=small_results,
        )
        engine.on_start = beat.stop
        look = self._leave_where_deposed(lease)
        engine.add_duty(look)
        engine.on_doubt = lambda: look(self._clock.monotonic())
        engine.add_duty(watchdog.check)
        engine.add_duty(serve_requests(desk, engine))
        if deadline is not None:
            engine.time_left = deadline.time_for_chores
            engine.add_duty(end_in_time(deadline, engine, options.drain_signal))
        return engine

    def _open_log(self) -> RunLog:
        try:
            return RunLog(self.run_dir, self._logger)
        except OSError as error:
            raise _not_writable(self.run_dir, error) from error

    def _claim(self, stack: ExitStack) -> Lease:
        """Make this process the driver; how it ends, it gives the run back."""
        run, options = self.run_dir, self._options
        try:
            lease = claim(
                run,
                self._clock,
                takeover=options.takeover,
                wait=_Wait(loud=options.progress),
                logger=self._logger,
            )
        except OSError as error:
            raise _not_writable(run, error) from error
        stack.callback(_release, lease, self._logger)
        if not options.resume and was_started(run):  # by who had it until just now
            raise _already_started(run)
        return lease

    def _open_cache(self, stack: ExitStack) -> ResultCache | None:
        try:
            watch = FileWatch.open(self.run_dir)
        except OSError as error:
            raise _not_writable(self.run_dir, error) from error
        if watch is not None:  # after the last end of a chore
            stack.callback(self._close_watch, watch)
        cache = ResultCache.open(self.run_dir, watch, self._logger)
        if cache is not None:
            stack.push(lambda kind, *_: cache.close(abandon=kind is not None))
        return cache

    def _close_watch(self, watch: FileWatch) -> None:
        if not self._is_deposed:  # else that is for the successor to say
            watch.close(self._logger)

    def _take_over(self, lease: Lease) -> Legacy:
        """Return what an earlier driver left; nothing where there was none."""
        skip_damaged = self._options.recover
        try:
            replay, accepted = take_over_journal(
                self.run_dir, lease.epoch, skip_damaged=skip_damaged
            )
        except OSError as error:
            raise _not_writable(self.run_dir, error) from error
        return Legacy(self.workflow, replay, accepted)

    def _begin_journal(
        self, lease: Lease, executor: Executor, allocation: Allocation, legacy: Legacy
    ) -> FileJournal:
        """Begin the journal of this driver: what it accepts of the one before, what it corrects."""
        if lease.is_deposed():  # this process was stopped for so long, or something hung
            self._is_deposed = True
            raise RunFailedError(str(self.run_dir.root), TAKEN_OVER)
        fields: dict[str, Any] = {
            "format": JOURNAL_FORMAT,
            "run": self.run_dir.root.name,
            "executor": executor.name,
            "nodes": [list(node) for node in allocation.nodes],
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "workers": self._options.workers,
            "recycle_after": self._options.recycle_after,
        }
        if legacy.accepted is not None:
            fields["previous"] = legacy.accepted._asdict()
        first = Record(RecordKind.RUN_STARTED, fields=fields)
        path = self.run_dir.journal_path
        try:
            journal = FileJournal.begin(path, lease.epoch, first, self._clock)
        except OSError as error:
            raise _not_writable(self.run_dir, error) from error
        corrections = legacy.find_revoked(self._logger)
        if self._options.recover:
            corrections += legacy.find_committed(self._logger)
        for record in chain(corrections, self._take_over_results(legacy)):
            journal.append(record)
            legacy.amend(record, lease.epoch)
        return journal

    def _take_over_results(self, legacy: Legacy) -> Iterator[Record]:
        """Bring results of earlier runs here; yield a record for each that is in its place."""
        known = legacy.replay.standings
        for one in take_over(self.run_dir, self._cache, known.__contains__, self._logger):
            fields: dict[str, Any] = {"from": one.source, "key": one.key}
            if one.exit_code:
                fields["x"] = one.exit_code
            yield Record(RecordKind.REUSED, one.chore_id, one.attempt, fields)

    def _closing(self, journal: FileJournal) -> Callable[..., None]:
        """Return what closes the journal on the way out, whichever that is."""

        def close(_: object, error: BaseException | None, __: object) -> None:
            try:
                journal.close()
            except OSError as problem:
                if error is None:  # else that is what happened, and perhaps because of this disk
                    detail = f"the end of its journal cannot be written: {problem.strerror}"
                    raise RunFailedError(str(self.run_dir.root), detail) from problem

        return close

    # --- duties -------------------------------------------------------------------------------

    def _leave_where_deposed(self, lease: Lease) -> Duty:
        def look(_: float) -> None:
            if lease.is_deposed():
                self._is_deposed = True
                raise Deposed(TAKEN_OVER)

        return look

    def _learn_end(self, executor: Executor, opened_at: float) -> Deadline | None:
        """Return when the allocation ends, and tell it; None where no end is known."""
        options, walltime = self._options, self._options.walltime
        if walltime is not None:  # to watch another driver and to read its journal took some of it
            walltime -= self._clock.monotonic() - opened_at
        left = find_time_left(walltime, executor.time_left(), os.environ, self._clock)
        if left is None:
            return None
        deadline = Deadline.after(left.seconds, self._clock.monotonic(), options.margin)
        self._logger.info(
            "%s left by %s; nothing starts in the last %s",
            describe_seconds(left.seconds),
            left.source,
            describe_seconds(deadline.margin),
        )
        return deadline

    def _drive(self, engine: Engine) -> Results:
        self._strategy.bind(engine)
        try:
            end = engine.run(self._strategy)
        except BaseException as error:
            self._logger.error("%s: %s", type(error).__name__, error)
            raise
        self._logger.info("the run has %s: %s", end.value, self.run_dir.root)
        return results_of(self.run_dir, engine.state)

    def _with_choice_of_pipeline(self) -> RunOptions:
        if self._options.reserve_broker_node is not None:
            return self._options
        return replace(
            self._options, reserve_broker_node=self.workflow.manifest.reserve_broker_node
        )

    def _open_display(self, stack: ExitStack) -> tuple[Listener, ...]:
        """Start the display of progress where it is wanted; it closes before the executor does."""
        if not self._options.progress:
            return ()
        from matensemble.runtime.progress import open_display

        display = open_display(self._options.log_delay)
        stack.callback(display.close)
        return (display,)


class Runtime:
    """What the entry point `matensemble.runtimes` names."""

    def check(self, options: RunOptions) -> None:
        """Check that a run with these settings could start; see `matensemble.protocols.Runtime`."""
        _check_strategy(options.processing_strategy)
        if options.dashboard:
            check_dashboard()
        check_executor(options)

    def run(self, run_dir: Path, options: RunOptions) -> Results:
        """Run a saved run on the calling thread; see `matensemble.protocols.Runtime`."""
        return FluxManager(run_dir, options).run()

    def submit(self, run_dir: Path, options: RunOptions) -> RunFuture:
        """Start a saved run in the background; see `matensemble.protocols.Runtime`."""
        return FluxManager(run_dir, options).start()


RUNTIME = Runtime()


def _tell_unasked(error: BaseException) -> None:
    """Print the end of a run whose script has ended: nobody will ask its future any more."""
    if isinstance(error, MatEnsembleError):
        print(f"matensemble: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error)


def _tell_failures(run: workdir.RunDir) -> None:
    """Print what failed: a script that does not look at its results would end without a word."""
    import click

    from matensemble.report import describe_failures
    from matensemble.runs import read_status_of

    # A courtesy: a terminal that is gone or full must not look like a failure of the run.
    with suppress(OSError, ValueError):
        status = read_status_of(run)
        for line in describe_failures(status, run, MAX_FAILURES_TOLD) if status else ():
            click.echo(line, err=True)


def _with_workers(options: RunOptions, before: Mapping[str, Any]) -> RunOptions:
    """Return the settings with what runs chores: as they say, else as the driver before was told.

    Parameters
    ----------
    options
        The settings.
    before
        Fields of the latest `run_started` record; empty where there is none.
    """
    workers, recycle_after = options.workers, options.recycle_after
    if workers is None:
        workers = before.get("workers", "auto")
    if recycle_after is None:
        recycle_after = before.get("recycle_after", 0)
    return replace(options, workers=workers, recycle_after=recycle_after)


class _Wait:
    """Waits for another driver to give a sign of life, and says so once on a terminal."""

    def __init__(self, *, loud: bool) -> None:
        self._loud = loud

    def __call__(self, seconds: float) -> None:
        if self._loud:
            self._loud = False
            print(
                "matensemble: another driver holds this run and may be alive: "
                f"watching it for up to {SILENCE_SECONDS:.0f} s (--takeover does not wait)",
                file=sys.stderr,
            )
        time.sleep(seconds)


def _release(lease: Lease, logger: logging.Logger) -> None:
    """Give a run back; who resumes it otherwise waits until this driver has been silent."""
    try:
        lease.release()
    except OSError as error:
        logger.warning("the run could not be given back: %s", error)


def _already_started(run: workdir.RunDir) -> RunDirectoryError:
    return RunDirectoryError(
        str(run.root),
        "was started before; `matensemble status` shows where it stands, and `matensemble resume` "
        "goes on with it. To run it afresh, save the pipeline again",
    )


def _not_writable(run: workdir.RunDir, error: OSError) -> RunDirectoryError:
    return RunDirectoryError(str(run.root), f"cannot be written: {error.strerror}")


def _make_strategy(options: RunOptions) -> FutureProcessingStrategy:
    strategy = options.processing_strategy
    _check_strategy(strategy)
    if strategy is None:
        return AdaptiveStrategy() if options.adaptive else NonAdaptiveStrategy()
    made: FutureProcessingStrategy = strategy() if isinstance(strategy, type) else strategy
    return made


def _check_strategy(strategy: object) -> None:
    kind = strategy if isinstance(strategy, type) else type(strategy)
    if strategy is not None and not issubclass(kind, FutureProcessingStrategy):
        raise InvalidOptionError(
            "processing_strategy", strategy, "a FutureProcessingStrategy class or instance"
        )
