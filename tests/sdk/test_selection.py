"""The rule of which chores a request changes, on a board of a few chores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, strategies as st

from matensemble.control import Selection, Verb, make_request
from matensemble.model import ChoreState, Reason
from matensemble.replay import Standing
from matensemble.selection import MAX_NAMED, Plan, describe_refused, name_chores, plan


class Board:
    """Chores by id; the group is the part before the dash."""

    def __init__(self, **standings: Standing) -> None:
        self._standings = {name.replace("_", "-"): value for name, value in standings.items()}

    def standing(self, chore_id: str) -> Standing | None:
        return self._standings.get(chore_id)

    def has_limit(self, chore_id: str) -> bool:
        return chore_id.startswith("limited")

    def members(self, group: str) -> list[str]:
        return [chore_id for chore_id in self._standings if chore_id.partition("-")[0] == group]

    def __iter__(self) -> Iterator[str]:
        return iter(self._standings)


def at(state: ChoreState, reason: Reason | None = None, root: str | None = None) -> Standing:
    return Standing(state, 1, reason, root=root)


BOARD = Board(
    a_1=at(ChoreState.COMPLETED),
    a_2=at(ChoreState.RUNNING),
    a_3=at(ChoreState.BLOCKED),
    b_1=at(ChoreState.FAILED, Reason.SIGNAL),
    b_2=at(ChoreState.FAILED, Reason.OUT_OF_MEMORY),
    b_3=at(ChoreState.CANCELLED, Reason.CANCELLED),
    c_1=at(ChoreState.SKIPPED, Reason.DEPENDENCY_FAILED, "b-1"),
    limited_1=at(ChoreState.SUBMITTED),
)


def choose(verb: Verb, **selection: object) -> Plan:
    values = {"nice": 1} if verb is Verb.PRIORITISE else {}
    return plan(make_request(verb, Selection(**selection), **values), BOARD)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("selection", "chores"),
    [
        ({"chores": ("b-1", "b-1")}, ("b-1",)),
        ({"chores": ("c-1",)}, ("b-1", "c-1")),
        ({"groups": ("b",)}, ("b-1", "b-2", "b-3")),
        ({"failed": True}, ("b-1", "b-2")),
        ({"reason": Reason.OUT_OF_MEMORY}, ("b-2",)),
        ({"chores": ("a-1", "a-2")}, ()),
    ],
)
def test_retry(selection: dict[str, object], chores: tuple[str, ...]) -> None:
    assert choose(Verb.RETRY, **selection).chores == chores


def test_cancel_counts_what_had_started() -> None:
    chosen = choose(Verb.CANCEL, everything=True)
    assert chosen.chores == ("a-2", "a-3", "limited-1")
    assert chosen.num_live == 2
    assert chosen.refused == {}


def test_each_refusal_has_its_reason() -> None:
    assert choose(Verb.PRIORITISE, groups=("a", "none"), chores=("x-1",)).refused == {
        "no group of this name": ("none",),
        "no chore of this id": ("x-1",),
        "had ended already (completed)": ("a-1",),
        "was started already": ("a-2",),
    }
    assert choose(Verb.ADD_TIME, chores=("a-2", "limited-1")).chores == ("limited-1",)


@given(
    st.sampled_from([Verb.CANCEL, Verb.RETRY]),
    st.lists(st.sampled_from([*BOARD, "x-1"])).map(tuple),
    st.lists(st.sampled_from(["a", "b", "c", "x"])).map(tuple),
)
def test_whatever_is_named_is_changed_or_refused(
    verb: Verb, chores: tuple[str, ...], groups: tuple[str, ...]
) -> None:
    chosen = choose(verb, chores=chores, groups=groups)
    refused = [name for names in chosen.refused.values() for name in names]
    assert {*chores} <= {*chosen.chores, *refused}
    assert not {*chosen.chores} & {*refused}
    assert len(set(chosen.chores)) == len(chosen.chores)


@pytest.mark.parametrize(
    ("verb", "selection", "words"),
    [
        (Verb.RETRY, {"reason": Reason.IO_ERROR}, "no chore ended with io_error"),
        (Verb.CANCEL, {}, "it names no chore"),
    ],
)
def test_a_request_for_nothing_says_so(
    verb: Verb, selection: dict[str, object], words: str
) -> None:
    request = make_request(verb, Selection(**selection))  # type: ignore[arg-type]
    assert describe_refused(request, plan(request, BOARD)) == [words]


def test_many_chores_are_named_by_their_number() -> None:
    few = tuple(f"a-{i}" for i in range(MAX_NAMED))
    assert name_chores(few) == "a-0, a-1, a-2, a-3, a-4"
    assert name_chores((*few, "a-5")) == "6 chores (a-0, a-1 …)"
