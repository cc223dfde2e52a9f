"""Which results of an earlier run a new one takes over, and why it runs the rest again.

Owns `workflow.reuse`: decided when the pipeline is saved, carried out by the runtime when the run
starts. A result is taken over where the content key is the same, its chore completed, and it is
still there. Loads no pickle. What a key is made of is the business of `matensemble.content_key`.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matensemble import wire, workdir
from matensemble.chore import Chore, chore_id_order
from matensemble.content_key import ChoreKey, read_keys, read_lines
from matensemble.errors import (
    FormatError,
    InvalidOptionError,
    MatEnsembleError,
    ResultCorruptError,
    ResultMissingError,
    RunDirectoryError,
)
from matensemble.file_watch import PastFiles
from matensemble.model import ChoreState, ChoreType
from matensemble.records import RecordKind, read_records
from matensemble.replay import UNTOUCHED, Replay, Standing
from matensemble.runs import list_runs
from matensemble.workdir import RunDir
from matensemble.workflow import Workflow

REUSE_FORMAT = 1
LATEST = "latest"
_WORDS = {
    "number": "another number of chores before it have the same content",
    "program": "the program changed, or a file that its command names",
}
LOGGER = logging.getLogger("matensemble")


class ReuseWish(NamedTuple):
    """What a pipeline wants to reuse."""

    resume: str | os.PathLike[str] | None = None
    """Results of an earlier run: its directory, or a folder of which the newest is taken;
    `LATEST` is the folder that the new run is created in. None: of no run."""
    cache_dir: Path | None = None
    """Where results are shared between runs; None: nowhere."""

    @property
    def is_any(self) -> bool:
        """Whether anything is to be reused, so that keys are needed."""
        return self.resume is not None or self.cache_dir is not None


class Found(NamedTuple):
    """A result that can be taken over: a line of `workflow.reuse`."""

    id: str
    """The chore that needs not run."""
    key: str
    """Its content key, and that of the result."""
    chore_dir: Path
    """Directory of the chore that made the result, in the earlier run."""
    attempt: int
    """Attempt that made it."""
    exit_code: int
    """Exit code of that attempt."""


class Plan(NamedTuple):
    """Content of `workflow.reuse`."""

    cache_dir: Path | None
    """Cache of this run, None where it has none."""
    because: str
    """Why nothing is taken over from an earlier run; empty where something may be."""
    found: Mapping[str, Found]
    """Chore id → what is to be taken over."""
    reasons: Mapping[str, str]
    """Chore id → why it runs."""


# --- the earlier run --------------------------------------------------------------------------


class Source:
    """An earlier run, as far as its results can be taken over.

    Parameters
    ----------
    run
        The run; it has keys and was started.

    Raises
    ------
    FormatError, RunDirectoryError
        If it cannot be read.
    """

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self.keys: dict[str, ChoreKey] = {key.id: key for key in read_keys(run)}
        self.by_key = {key.key: key.id for key in self.keys.values() if key.key is not None}
        self._chores = {chore.id: chore for chore in Workflow.read(run).chores()}
        replay = Replay.of(read_records(run, skip_damaged=True))
        self._standings = replay.standings
        self._extended = {added.chore.name for added in replay.added}
        self._plan = read_plan(run)
        self._files = PastFiles.read(run)
        self._whole: set[str] | None = None
        groups: dict[str, list[str]] = {}
        for chore_id in sorted(self.keys, key=chore_id_order):
            groups.setdefault(self.keys[chore_id].group, []).append(chore_id)
        self.groups = groups

    def find(self, key: ChoreKey) -> Found | str:
        """Return the result for a key, or why there is none to take over."""
        assert key.key is not None
        chore = self._chores[self.by_key[key.key]]
        standing = self._standings.get(chore.id, UNTOUCHED)
        planned = self._plan.found.get(chore.id) if self._plan is not None else None
        if standing.state is not ChoreState.COMPLETED:
            if standing is not UNTOUCHED or planned is None or planned.key != key.key:
                return _why_unfinished(standing)
            # It was to be taken over, and that run ended before it was.
            return _check(chore, planned._replace(id=key.id))
        if standing.resources is not None and (
            standing.resources.get("num_tasks", 1) != chore.resources.num_tasks
        ):
            return "the earlier one was retried with another number of tasks"
        if key.is_conditional and chore.id not in self._whole_chores():
            return "not all chores before the earlier one completed, or others were gathered"
        if (changed := self._files.changed(self.keys[chore.id].files)) is not None:
            return f"{changed} changed after the earlier run was saved, perhaps before it ended"
        directory, code = self.run.chore_dir(chore.id), standing.exit_code or 0
        return _check(chore, Found(key.id, key.key, directory, standing.attempt, code))

    def _whole_chores(self) -> set[str]:
        """Return the chores that completed, as did all before them, gathered ones included."""
        if self._whole is None:
            self._whole = set()
            members: dict[str, list[str]] = {}
            for chore in self._chores.values():
                members.setdefault(chore.name, []).append(chore.id)
            for chore in sorted(self._chores.values(), key=lambda chore: chore.stage):
                before = [*chore.upstream, *(i for g in chore.gathers for i in members.get(g, ()))]
                standing = self._standings.get(chore.id, UNTOUCHED)
                is_complete = self._whole.issuperset(before) and (
                    self._extended.isdisjoint(chore.gathers)  # by what this run may not do
                )
                if standing.state is ChoreState.COMPLETED and is_complete:
                    self._whole.add(chore.id)
        return self._whole


def _why_unfinished(standing: Standing) -> str:
    if standing.state is ChoreState.FAILED:
        return f"the earlier one failed ({standing.reason})"
    if standing.state is ChoreState.SKIPPED:
        return f"the earlier one was skipped: {standing.root} had failed"
    if standing.state is ChoreState.CANCELLED:
        return "the earlier one was cancelled"
    return "the earlier one did not end"


def _check(chore: Chore, found: Found) -> Found | str:
    """Return what was found where it is intact, else what is wrong with it."""
    try:
        if chore.kind is ChoreType.PYTHON:
            attempt = wire.check_result(found.chore_dir / workdir.RESULT, chore.id)
            return found._replace(attempt=attempt)
        for path in chore.outputs.values():
            if not (found.chore_dir / path).exists():
                return f"of its earlier result {path} is gone"
    except ResultMissingError:
        return "its earlier result is gone"
    except ResultCorruptError as error:
        return f"its earlier result is damaged: {error.problem}"
    except OSError as error:
        return f"its earlier result cannot be read: {error.strerror}"
    return found


def find_source(resume: str | os.PathLike[str], basedir: Path, new: RunDir) -> Source | str:
    """Return the run whose results are to be taken over, or why there is none.

    Parameters
    ----------
    resume
        As in `ReuseWish`.
    basedir
        Where the new run is.
    new
        The new run, which is not its own source.

    Raises
    ------
    RunDirectoryError
        If `resume` is a path where nothing can be read.
    FormatError
        If the run that was named is damaged.
    """
    path = basedir if resume == LATEST else Path(resume)
    if (path / workdir.MANIFEST).exists():
        run = RunDir(path.absolute())
        if not run.keys_path.exists():
            return f"{path.name} was saved without content keys"
        return Source(run) if _was_started(run) else f"{path.name} was never started"
    runs = [run for run in list_runs(path) if run.root != new.root]
    for run in runs:
        if run.keys_path.exists() and _was_started(run):
            try:
                return Source(RunDir(run.root.absolute()))
            except MatEnsembleError as error:
                LOGGER.warning("results of %s are not reused: %s", run.root, error)
    if runs:
        return f"no earlier run in {path} has content keys (resume= or cache_dir= makes them)"
    return f"there is no earlier run in {path}"


def _was_started(run: RunDir) -> bool:
    return run.journal_path.exists() or any(run.root.glob("journal-*.jsonl"))


# --- deciding ---------------------------------------------------------------------------------


def decide(
    keys: Sequence[ChoreKey], source: Source, upstream: Callable[[str], Sequence[str]]
) -> Iterator[Found | tuple[str, str]]:
    """Yield for each chore what is taken over, or its id and why it runs. O(chores + edges).

    Parameters
    ----------
    keys
        Of the new run, in topological order.
    source
        The earlier run.
    upstream
        Called with a chore id, returns those that must complete first.
    """
    known = {key.key for key in keys if key.key is not None}
    positions: Counter[str] = Counter()
    ordered = sorted(keys, key=lambda key: chore_id_order(key.id))
    pairs: dict[str, ChoreKey] = {}
    for key in ordered:
        group = source.groups.get(key.group, [])
        position = positions[key.group]
        positions[key.group] += 1
        if position < len(group) and source.keys[group[position]].key not in known:
            pairs[key.id] = source.keys[group[position]]
    by_id = {key.id: key for key in keys}
    for key in keys:
        if key.key is None:
            yield key.id, key.because
        elif key.key in source.by_key:
            found = source.find(key)
            yield (key.id, found) if isinstance(found, str) else found
        elif key.id in pairs:
            changed = [
                chore_id
                for chore_id in upstream(key.id)
                if by_id[chore_id].key not in source.by_key
            ]
            yield key.id, difference(pairs[key.id], key, changed)
        else:
            yield key.id, "it is a new chore"


def difference(before: ChoreKey, now: ChoreKey, changed: Sequence[str]) -> str:
    """Return in words what two keys differ in.

    Parameters
    ----------
    before, now
        The keys.
    changed
        Upstream chores of the new one that have no counterpart in the earlier run.
    """
    if before.key is None:
        return f"the earlier one had no content key ({before.because})"
    names = [
        name
        for name in dict.fromkeys((*now.parts, *before.parts))
        if now.parts.get(name) != before.parts.get(name)
    ]
    if "upstream" in names:  # what holds the references differs with it
        names = [name for name in names if name not in ("arguments", "command", "inputs")]
    return "; ".join(_describe(name, before, now, changed) for name in names) or (
        "it is of another kind"
    )


def _describe(name: str, before: ChoreKey, now: ChoreKey, changed: Sequence[str]) -> str:
    if name == "code":
        return f"the code of `{now.group}` changed"
    if name == "upstream":
        if not changed:
            return "it depends on other chores than before"
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        return f"upstream {changed[0]}{more} changed"
    if name in ("num_tasks", "mpi", "version", "python", "success_codes"):
        default = {"num_tasks": 1, "mpi": 0, "success_codes": "0"}.get(name, "none")
        was, is_now = (key.parts.get(name, default) for key in (before, now))
        return f"{name} changed from {was} to {is_now}"
    return _WORDS.get(name, f"{name} changed")


# --- workflow.reuse ---------------------------------------------------------------------------


def plan_reuse(
    wish: ReuseWish,
    run: RunDir,
    keys: Sequence[ChoreKey],
    upstream: Callable[[str], Sequence[str]],
) -> Iterator[str]:
    """Yield the lines of `workflow.reuse`, without newline.

    Parameters
    ----------
    wish
        What is to be reused.
    run
        The new run.
    keys, upstream
        As `decide`.

    Raises
    ------
    RunDirectoryError, FormatError
        As `find_source`.
    """
    header: dict[str, Any] = {"format": REUSE_FORMAT}
    if wish.cache_dir is not None:
        header["cache"] = str(wish.cache_dir)
    source: Source | str = ""
    if wish.resume is not None:
        source = find_source(wish.resume, run.root.parent, run)
    if isinstance(source, str):
        header["because"] = source
        if wish.resume is not None:
            LOGGER.warning("nothing is taken over: %s", source)
        yield json.dumps(header)
        return
    yield json.dumps(header)
    encode = json.JSONEncoder(separators=(",", ":")).encode
    num_found = 0
    for verdict in decide(keys, source, upstream):
        if isinstance(verdict, Found):
            num_found += 1
            line = {**verdict._asdict(), "chore_dir": _relative(verdict.chore_dir, run.root)}
        else:
            line = {"id": verdict[0], "because": verdict[1]}
        yield encode(line)
    LOGGER.info("%d of %d results are taken over from %s", num_found, len(keys), source.run.root)


def _relative(path: Path, root: Path) -> str:
    """Return a path so that a folder of runs can be moved as a whole."""
    is_beside = path.is_relative_to(root.parent)
    return os.path.relpath(path, root) if is_beside else str(path)


def read_plan(run: RunDir) -> Plan | None:
    """Return what is to be taken over, or None where the run was saved without such a wish.

    Raises
    ------
    FormatError
        If the file is damaged, or of a later format.
    """
    try:
        lines = list(read_lines(run.reuse_path, REUSE_FORMAT, with_first=True))
    except FileNotFoundError:
        return None
    try:
        header, *lines = lines
        found = {
            line["id"]: Found(
                line["id"],
                line["key"],
                Path(os.path.normpath(run.root / line["chore_dir"])),
                int(line["attempt"]),
                int(line["exit_code"]),
            )
            for line in lines
            if "chore_dir" in line
        }
        reasons = {line["id"]: line["because"] for line in lines if "because" in line}
        cache = header.get("cache")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(str(run.reuse_path), f"holds a line that is none ({error!r})") from error
    return Plan(None if cache is None else Path(cache), header.get("because", ""), found, reasons)


def why_not_reused(run: RunDir, chore_id: str) -> str | None:
    """Return why a chore was run although its result could have been reused.

    None where it was reused, or nobody asked for that. O(chores + records).

    Raises
    ------
    FormatError
        If a file of the run is damaged.
    """
    plan = read_plan(run)
    if plan is None:
        return None
    if chore_id in plan.reasons:
        return plan.reasons[chore_id]
    if run.journal_path.exists() and _was_reused(run, chore_id):
        return None
    if chore_id in plan.found:
        return f"its result, found in {plan.found[chore_id].chore_dir}, could not be taken over"
    for key in read_keys(run):
        if key.id == chore_id and key.key is None:
            return key.because
    return plan.because or "its result was not in the cache"


def _was_reused(run: RunDir, chore_id: str) -> bool:
    return any(
        record.kind == RecordKind.REUSED and record.chore_id == chore_id
        for record in read_records(run, skip_damaged=True)
    )


def check_wish(
    resume: str | os.PathLike[str] | None, cache_dir: str | os.PathLike[str] | None
) -> ReuseWish:
    """Return what the options `resume` and `cache_dir` of a pipeline ask for.

    Raises
    ------
    InvalidOptionError
        If one is no path.
    RunDirectoryError
        If `resume` names a directory that does not exist.
    """
    for name, value in (("resume", resume), ("cache_dir", cache_dir)):
        if value is not None and (not isinstance(value, (str, os.PathLike)) or not str(value)):
            expected = "a path or None" if name == "cache_dir" else f"{LATEST!r}, a path or None"
            raise InvalidOptionError(name, value, expected)
    cache = None if cache_dir is None else Path(cache_dir).absolute()
    if resume is None or resume == LATEST:
        return ReuseWish(resume, cache)
    path = Path(resume).absolute()
    if not path.is_dir():
        raise RunDirectoryError(str(path), "is no run directory and no folder of runs")
    return ReuseWish(path, cache)
