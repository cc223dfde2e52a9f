"""What happened to a run as a whole: who opened it, what was asked of it, how it ended.

Owns the words of the tables `events` and `capacities`. Called by `fold` with records that are about
no chore.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from matensemble.dashboard.index.bounds import MAX_NAME, MAX_NUMBER, MAX_WALL, clean
from matensemble.model import RunState
from matensemble.records import JournalRecord, RecordKind
from matensemble.terminal import describe_seconds

_MAX_NAMED = 5
_TIERS = {
    "pool": "run on warm workers from now on",
    "trial": "are tried on warm workers",
    "job": "are jobs of their own from now on",
}
_VERBS = {"pause": "PAUSED", "unpause": "UNPAUSED"}


class EventKind(StrEnum):
    """Kinds of events of a run."""

    OPENED = "opened"
    """A driver began it."""
    TAKEN_OVER = "taken_over"
    """Another driver went on with it, which ends a pause."""
    PAUSED = "paused"
    """It starts nothing until it is unpaused."""
    UNPAUSED = "unpaused"
    REQUESTED = "requested"
    """Something else was asked of it, or was refused; the answer is in the text."""
    DRAINING = "draining"
    """It was asked to stop, and waits for what runs."""
    CLOSED = "closed"
    """Its driver ended it; the text begins with the state."""
    WORKERS = "workers"
    """It was decided what runs the chores of a group; the text says why."""


class Capacity(NamedTuple):
    """What there is to run on."""

    nodes: int
    cores: int
    gpus: int


NOTHING = Capacity(0, 0, 0)


def event_of(record: JournalRecord) -> tuple[EventKind, str] | None:
    """Return what a record tells of the run, None where it is of another kind.

    Raises
    ------
    KeyError, TypeError, ValueError, AttributeError
        If it lacks what its kind promises.
    """
    fields = record.fields
    if record.kind == RecordKind.RUN_STARTED:
        kind = EventKind.TAKEN_OVER if fields.get("previous") else EventKind.OPENED
        where = f"on {_name(fields.get('host', '?'))} with {_name(fields.get('executor', '?'))}"
        return kind, f"{where}: {_describe(capacity_of(fields))}"
    if record.kind == RecordKind.RUN_STATE:
        state, detail = RunState(fields["state"]), str(fields.get("d", ""))
        if not state.is_terminal and state is not RunState.DRAINING:
            return None
        kind = EventKind.CLOSED if state.is_terminal else EventKind.DRAINING
        return kind, clean(": ".join(filter(None, (state.value, detail))))
    if record.kind == RecordKind.CONTROL:
        return _request_of(fields)
    if record.kind == RecordKind.WORKERS:
        return EventKind.WORKERS, _describe_tier(fields)
    return None


def capacity_of(fields: Mapping[str, Any]) -> Capacity:
    """Return what the first record of a journal names; raises as `event_of`."""
    nodes = cores = gpus = 0
    for _, its_cores, its_gpus in fields["nodes"]:
        for number in (its_cores, its_gpus):
            if type(number) is not int or not 0 <= number < MAX_NUMBER:
                raise ValueError("a node has no such number of cores or GPUs")
        nodes, cores, gpus = nodes + (its_cores > 0), cores + its_cores, gpus + its_gpus
    return Capacity(nodes, cores, gpus)


def _describe_tier(fields: Mapping[str, Any]) -> str:
    tier, detail = str(fields["tier"]), str(fields.get("d", ""))
    if "g" not in fields:
        text = "no warm worker can be had, and all chores are jobs of their own"
    else:
        what = _TIERS.get(tier) or f"are run by {_name(tier)}"
        text = f"chores of {_name(fields['g'])} {what}"
    told = [
        words.format(describe_seconds(_seconds(fields[key])))
        for key, words in (
            ("elapsed", "one takes {}"),
            ("launch", "a process of its own {} to start"),
        )
        if key in fields
    ]
    return clean(": ".join(filter(None, (text, ", ".join(told), detail))))


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value < MAX_WALL:
        raise ValueError("that is no span of time")
    return float(value)


def _request_of(fields: Mapping[str, Any]) -> tuple[EventKind, str]:
    verb, by, answer = str(fields["verb"]), fields["by"], fields["answer"]
    kind = EventKind.REQUESTED
    if answer["done"] and verb in _VERBS:
        kind = EventKind[_VERBS[verb]]
    who = f"{_name(by.get('user', 'somebody'))} on {_name(by.get('host', 'some host'))}"
    what = " ".join(filter(None, (_name(verb), _describe_args(fields["args"]))))
    return kind, clean(f"{who} asked to {what}: {answer['text']}")


def _describe_args(args: Mapping[str, Any]) -> str:
    """Say what a request was about, by the fields that `matensemble.control` documents."""
    parts = []
    if args.get("everything"):
        parts.append("everything")
    if args.get("reason"):
        parts.append(f"what failed with {_name(args['reason'])}")
    elif args.get("failed"):
        parts.append("what failed")
    for name, word in (("groups", "group"), ("chores", "chore")):
        named = args.get(name, ())
        if named:
            more = f" and {len(named) - _MAX_NAMED} more" if len(named) > _MAX_NAMED else ""
            names = ", ".join(map(_name, named[:_MAX_NAMED]))
            parts.append(f"{word}{'s' if len(named) > 1 else ''} {names}{more}")
    text = ", ".join(parts)
    if "nice" in args:
        text += f" to nice {_name(args['nice'])}"
    if "seconds" in args:
        text += f" by {_name(args['seconds'])} s"
    return text


def _describe(capacity: Capacity) -> str:
    parts = [
        f"{count} {word}{'' if count == 1 else 's'}"
        for count, word in zip(capacity, ("node", "core", "GPU"), strict=True)
        if count or word != "GPU"
    ]
    return ", ".join(parts)


def _name(value: object) -> str:
    return clean(str(value), MAX_NAME)
