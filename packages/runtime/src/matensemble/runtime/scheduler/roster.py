"""All chores of a run, counted by where they stand.

Owns the entries, the groups, the counters, the stages of gathers and the memory of the latest
changes of state. It decides nothing: `SchedulerState`, its only writer, says who moves where.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from matensemble.chore import Chore
from matensemble.model import ChoreState
from matensemble.runtime.scheduler.entry import Entry, Group, Transition
from matensemble.runtime.scheduler.resources import Shape
from matensemble.runtime.scheduler.states import BLOCKED, ENDED, TRANSITIONS
from matensemble.status import Counts

HISTORY_LENGTH = 1000


class Roster:
    """Entries by id and by group, and how many stand where.

    Attributes
    ----------
    entries
        Chore id → entry, in the order of admission, which is a topological one.
    groups
        Name → group.
    total
        How many chores are in each state.
    live
        Chore id → entry, of those that have an attempt with the executor.
    unended
        Stage → how many of its chores have not ended.
    gathering
        Stage → chores that wait until the stages below have ended.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.groups: dict[str, Group] = {}
        self.total: dict[ChoreState, int] = dict.fromkeys(ChoreState, 0)
        self.live: dict[str, Entry] = {}
        self.unended: list[int] = []
        self.gathering: dict[int, list[Entry]] = {}
        self._stage = 0  # lowest stage that has unended chores
        self._shapes: dict[Shape, Shape] = {}  # one for all that are equal
        self._history: deque[tuple[str, ChoreState, ChoreState, type]] = deque(
            maxlen=HISTORY_LENGTH
        )

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def admit(self, chore: Chore) -> Entry:
        """Add a chore, blocked until somebody says otherwise.

        Raises
        ------
        ValueError
            If its id is taken.
        """
        if chore.id in self.entries:
            raise ValueError(f"{chore.id} was added twice")
        group = self.groups.get(chore.name)
        if group is None:
            group = self.groups[chore.name] = Group()
        shape = Shape.of(chore.resources)
        shape = self._shapes.setdefault(shape, shape)
        entry = Entry(chore, group, shape, len(self.entries))
        self.entries[chore.id] = entry
        group.members.append(entry)
        group.counts[BLOCKED] += 1
        group.shown = None
        self.total[BLOCKED] += 1
        stage = chore.stage
        while len(self.unended) <= stage:
            self.unended.append(0)
        self.unended[stage] += 1
        self._stage = min(self._stage, stage)
        return entry

    def move(self, entry: Entry, state: ChoreState, event: type) -> None:
        """Bring a chore into another state.

        Parameters
        ----------
        entry
            The chore.
        state
            One that `TRANSITIONS` allows.
        event
            Type of the event that is the cause, for the memory.

        Raises
        ------
        ValueError
            If the table of transitions does not allow it.
        """
        before = entry.state
        if state not in TRANSITIONS[before]:
            raise ValueError(f"{entry.chore.id} cannot go from {before} to {state}")
        self.place(entry, state)
        self._history.append((entry.chore.id, before, state, event))

    def place(self, entry: Entry, state: ChoreState) -> None:
        """Note that a chore is in a state, without asking how it came there."""
        before = entry.state
        entry.state = state
        group = entry.group
        group.shown = None
        counts = group.counts
        counts[before] -= 1
        counts[state] += 1
        self.total[before] -= 1
        self.total[state] += 1
        if state in ENDED:
            if before not in ENDED:
                self.unended[entry.chore.stage] -= 1
        elif before in ENDED:
            stage = entry.chore.stage
            self.unended[stage] += 1
            self._stage = min(self._stage, stage)

    def take_released_gathers(self) -> list[Entry]:
        """Return the gathering chores below which everything has ended, and forget them."""
        while self._stage < len(self.unended) and not self.unended[self._stage]:
            self._stage += 1
        released: list[Entry] = []
        for stage in [stage for stage in self.gathering if stage <= self._stage]:
            released += self.gathering.pop(stage)
        return released

    def counts(self) -> Counts:
        """Return how many chores stand where."""
        return _counts(self.total)

    def counts_by_group(self) -> dict[str, Counts]:
        """Return the same by group; only groups in which something moved are summed up anew."""
        shown: dict[str, Counts] = {}
        for name, group in self.groups.items():
            if group.shown is None:
                group.shown = _counts(group.counts)
            shown[name] = group.shown
        return shown

    @property
    def history(self) -> list[Transition]:
        """The latest changes of state, oldest first; at most `HISTORY_LENGTH`."""
        return [
            Transition(chore_id, before, after, event.__name__)
            for chore_id, before, after, event in self._history
        ]


def _counts(counts: dict[ChoreState, int]) -> Counts:
    return Counts(
        total=sum(counts.values()),
        pending=counts[ChoreState.BLOCKED]
        + counts[ChoreState.READY]
        + counts[ChoreState.SUBMITTED],
        running=counts[ChoreState.RUNNING],
        completed=counts[ChoreState.COMPLETED],
        failed=counts[ChoreState.FAILED] + counts[ChoreState.SKIPPED],
        cancelled=counts[ChoreState.CANCELLED],
    )
