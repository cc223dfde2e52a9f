"""Flux's journal of resources as nodes that are lost and come back, without a Flux."""

from __future__ import annotations

from typing import Any

from hypothesis import given, strategies as st

from matensemble.runtime.executors.node_watch import NodeWatch
from matensemble.runtime.scheduler.events import NodesChanged

NODES = {1: 0, 2: 1, 3: 2}
"""Rank 0 is the broker's own, 4 was down when the allocation was surveyed."""
CAUGHT_UP: dict[str, Any] = {"events": []}


def message(*events: tuple[str, str]) -> dict[str, Any]:
    """Return a message of the journal; an event of all ranks has the shape of ``restart``."""
    return {
        "events": [
            {
                "name": name,
                "context": {"ranks": "0-4", "online": ranks}
                if name == "restart"
                else {"idset": ranks},
            }
            for name, ranks in events
        ]
    }


def watch() -> NodeWatch:
    """Return a watch that has heard how an instance comes up."""
    nodes = NodeWatch(NODES)
    past = message(("restart", ""), ("online", "0"), ("online", "1-3"))
    assert nodes.apply(past) is None
    assert nodes.apply(CAUGHT_UP) is None, "all that is in the allocation is up"
    return nodes


def test_lost_and_back() -> None:
    nodes = watch()
    assert nodes.apply(message(("offline", "2"))) == NodesChanged(lost=frozenset({1}))
    assert nodes.apply(message(("offline", "0,4"))) is None
    assert nodes.apply(message(("drain", "2-3"))) == NodesChanged(lost=frozenset({2}))
    assert nodes.apply(message(("online", "2"))) is None, "it is still drained"
    assert nodes.apply(message(("undrain", "2-3"))) == NodesChanged(back=frozenset({1, 2}))


def test_events_that_concern_no_node() -> None:
    resource_define = {"events": [{"name": "resource-define", "context": {"method": "kvs"}}]}
    assert watch().apply(resource_define) is None
    assert watch().apply({"events": [{"name": "truncate"}]}) is None


def test_what_went_before_it_was_watched() -> None:
    nodes = NodeWatch(NODES)
    nodes.apply(message(("restart", ""), ("online", "0-3"), ("offline", "3"), ("drain", "1")))
    assert nodes.apply(CAUGHT_UP) == NodesChanged(lost=frozenset({0, 2}))


def test_a_journal_that_is_told_again_changes_only_what_is_new() -> None:
    nodes = watch()
    nodes.apply(message(("drain", "1")))
    nodes.begin()
    assert nodes.apply(message(("restart", ""), ("online", "0-2"), ("drain", "1"))) is None
    assert nodes.apply(CAUGHT_UP) == NodesChanged(lost=frozenset({2}))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["offline", "online", "drain", "undrain"]),
            st.sets(st.integers(0, 4), min_size=1).map(lambda s: ",".join(map(str, sorted(s)))),
        )
    )
)
def test_changes_add_up(events: list[tuple[str, str]]) -> None:
    nodes, lost = watch(), set[int]()
    for event in events:
        changed = nodes.apply(message(event))
        if changed is not None:
            assert changed.lost | changed.back
            assert not changed.lost & lost
            assert changed.back <= lost
            lost = (lost | changed.lost) - changed.back
    at_once = NodeWatch(NODES)
    at_once.apply(message(("restart", "0-3"), *events))
    changed = at_once.apply(CAUGHT_UP)
    assert lost == (changed.lost if changed else frozenset())
