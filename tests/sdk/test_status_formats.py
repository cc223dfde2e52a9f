"""status.json and journal lines: round trips, damage, later versions."""

import json
import zlib

import pytest
from hypothesis import given, strategies as st

from matensemble.errors import FormatError
from matensemble.model import RunState
from matensemble.records import (
    RecordKind,
    decode_journal_line,
    encode_journal_record,
    journal_stamp,
)
from matensemble.status import STATUS_FORMAT, Counts, RootFailure, RunStatus, read_status

FIELDS = st.dictionaries(
    st.sampled_from(["r", "x", "d", "u", "h", "j"]),
    st.none() | st.integers() | st.text(max_size=20),
    max_size=3,
)


@given(
    st.integers(1),
    st.integers(1),
    st.floats(0, 2e9),
    st.floats(0, 1e6),
    st.sampled_from(RecordKind),
    st.none() | st.just("chore-a-0001"),
    st.integers(1, 9),
    FIELDS,
)
def test_journal_round_trip(sequence, epoch, wall, monotonic, kind, chore_id, attempt, fields):
    line = encode_journal_record(
        sequence,
        journal_stamp(epoch, wall, monotonic),
        kind,
        chore_id,
        attempt,
        fields or None,
    )
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    record = decode_journal_line(line)
    assert (record.sequence, record.epoch, record.kind) == (sequence, epoch, kind)
    assert (record.chore_id, record.attempt, record.fields) == (chore_id, attempt, fields)
    assert record.wall == pytest.approx(wall, abs=1e-2)
    assert record.monotonic == pytest.approx(monotonic, abs=1e-2)
    assert json.loads(line)["k"] == kind.value


LINE = encode_journal_record(
    7,
    journal_stamp(1, 1.5, 2.5),
    RecordKind.FAILED,
    "chore-a-0001",
    1,
    {"r": "exception", "d": 'a,"z":"'},
)


def test_the_first_epoch_is_left_out_and_later_ones_are_told():
    first = encode_journal_record(1, journal_stamp(1, 1.0, 0.0), RecordKind.COMPLETED, "chore-a-1")
    second = encode_journal_record(1, journal_stamp(2, 1.0, 0.0), RecordKind.COMPLETED, "chore-a-1")
    assert b'"e":' not in first
    assert [decode_journal_line(line).epoch for line in (first, second)] == [1, 2]


def test_a_line_that_tells_the_first_epoch_and_a_finer_time_is_read():
    body = b'{"s":7,"e":1,"t":1795352515.62,"m":0.1827,"k":"completed","c":"chore-a-0001"'
    record = decode_journal_line(b'%b,"z":"%08x"}\n' % (body, zlib.crc32(body)))
    assert (record.sequence, record.epoch, record.monotonic) == (7, 1, 0.1827)


def test_truncation_at_every_byte_is_detected():
    for size in range(len(LINE) - 1):  # without its newline the line is still whole
        with pytest.raises(FormatError):
            decode_journal_line(LINE[:size])
    assert decode_journal_line(LINE[:-1]) == decode_journal_line(LINE)


def test_a_flipped_bit_anywhere_is_detected():
    for position in range(len(LINE) - 1):
        changed = bytearray(LINE)
        changed[position] ^= 1
        with pytest.raises(FormatError):
            decode_journal_line(bytes(changed))


COUNTS = st.builds(Counts, *[st.integers(0, 10**6)] * 6)
STATUSES = st.builds(
    RunStatus,
    run=st.text(max_size=9),
    state=st.sampled_from(RunState),
    sequence=st.integers(0),
    counts=COUNTS,
    groups=st.dictionaries(st.text(max_size=5), COUNTS, max_size=3),
    rate=st.floats(0, 1e5),
    root_failures=st.lists(
        st.builds(RootFailure, st.text(max_size=5), st.text(max_size=5)), max_size=2
    ).map(tuple),
    ended_at=st.none() | st.just("2026-01-01T00:00:00+00:00"),
    ends_at=st.none() | st.just("2026-01-01T12:00:00+00:00"),
)


@given(STATUSES)
def test_status_round_trip_ignores_unknown_fields(status):
    data = json.loads(json.dumps(status.to_json()))
    data["field_of_later_version"] = 1
    data["counts"]["lost"] = 3
    assert RunStatus.from_json(data) == status


def test_a_status_of_a_version_that_knew_no_end_of_the_allocation():
    data = RunStatus(run="r", state=RunState.RUNNING).to_json()
    del data["ends_at"]
    assert RunStatus.from_json(data).ends_at is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        json.dumps({"format": STATUS_FORMAT}),
        json.dumps({"format": STATUS_FORMAT + 1, "run": "x", "state": "running"}),
        json.dumps({**RunStatus(run="r", state=RunState.RUNNING).to_json(), "state": "dreaming"}),
        json.dumps({**RunStatus(run="r", state=RunState.RUNNING).to_json(), "counts": [1]}),
    ],
)
def test_damaged_status(tmp_path, content):
    path = tmp_path / "status.json"
    path.write_text(content)
    with pytest.raises(FormatError, match=r"status\.json"):
        read_status(path)


def test_missing_status(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_status(tmp_path / "status.json")


def test_a_journal_line_that_is_no_record():
    for body in ('{"s":1', "[1", '{"s":' + "[" * 100_000):
        line = f'{body},"z":"{zlib.crc32(body.encode()):08x}"}}'.encode()
        with pytest.raises(FormatError, match="is no record"):
            decode_journal_line(line)
