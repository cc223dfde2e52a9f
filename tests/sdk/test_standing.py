"""Where a chore stands by the journal, and what that costs a run of a million of them."""

from __future__ import annotations

import pytest

from matensemble.model import ChoreState
from matensemble.records import (
    JournalRecord,
    RecordKind,
    decode_journal_line,
    encode_journal_record,
    journal_stamp,
)
from matensemble.replay import Replay


def record(kind: RecordKind, chore_id: str | None = "a", attempt: int = 1, **fields: object):
    return JournalRecord(1, 1, 0.0, 0.0, kind, chore_id, attempt, fields)


def test_chores_of_warm_workers_that_end_well_share_their_standings():
    replay = Replay.of(
        record(kind, chore_id, **fields)
        for chore_id in "ab"
        for kind, fields in (
            (RecordKind.SUBMIT_INTENT, {"p": 1}),
            (RecordKind.COMPLETED, {"el": 0.01, "h": "n1"}),
        )
    )
    assert replay.standings["a"] is replay.standings["b"]
    assert replay.standings["a"] == (ChoreState.COMPLETED, 1, None, 0, *replay.standings["a"][4:])
    assert not replay.standings["a"].is_pooled


def test_who_ran_it_is_known_of_the_live_attempt_only():
    replay = Replay()
    for kind, attempt, fields, is_pooled in (
        (RecordKind.SUBMIT_INTENT, 1, {"p": 1}, True),
        (RecordKind.STARTED, 1, {"h": "n1"}, True),
        (RecordKind.REQUEUED, 1, {"r": "signal", "el": 1.5, "h": "n1"}, False),
        (RecordKind.SUBMIT_INTENT, 2, {}, False),
        (RecordKind.REQUEUED, 2, {}, False),
        (RecordKind.SUBMIT_INTENT, 3, {"p": 1}, True),
    ):
        replay.apply(record(kind, attempt=attempt, **fields))
        assert replay.standing("a").is_pooled is is_pooled
        assert replay.standing("a").attempt == attempt


def test_what_suits_a_group_is_remembered_and_what_was_lost_is_not():
    replay = Replay.of(
        [
            record(RecordKind.WORKERS, None, g="a", tier="trial", elapsed=0.1),
            record(RecordKind.WORKERS, None, g="a", tier="pool", elapsed=0.1, launch=0.5),
            record(RecordKind.WORKERS, None, g="b", tier="job"),
            record(RecordKind.WORKERS, None, tier="job", d="no pyzmq"),
        ]
    )
    assert replay.tiers == {"a": "pool", "b": "job"}


@pytest.mark.parametrize(
    "value", [0, 1, -5, 0.0, 1e-09, 0.01235, 1.5e300, True, None, "ü\n", ["a"], {"b": 1.5}]
)
def test_fields_of_records_come_back_as_they_were(value):
    line = encode_journal_record(
        1, journal_stamp(1, 0.0, 0.0), RecordKind.COMPLETED, "a", fields={"el": value}
    )
    found = decode_journal_line(line).fields["el"]
    assert found == value
    assert type(found) is type(value)
