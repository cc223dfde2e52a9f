"""What goes between a driver and its warm workers is read as it was written, or refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from matensemble import pool_messages
from matensemble.errors import FormatError
from matensemble.pool_messages import (
    Address,
    Bye,
    Cancel,
    Close,
    Ended,
    Extend,
    Hello,
    Order,
    Payload,
    Ping,
    Pong,
    Report,
    Run,
    Signal,
    Withdraw,
    decode_from_driver,
    decode_from_worker,
    decode_payload,
    encode,
    encode_payload,
    read_address,
    write_address,
)
from matensemble.workdir import RunDir

texts = st.text(max_size=20)
counts = st.integers(0, 1 << 31)
chores = st.tuples(texts, counts)
seconds = st.floats(0.0, 1e6)
orders = st.builds(
    Order,
    *(texts, counts, counts, counts, st.none() | seconds),
    *(st.sampled_from(["call", "program"]), counts, st.binary(max_size=50)),
)
ends = st.builds(
    Ended,
    *(texts, counts, st.none() | st.integers(-64, 255), st.none() | texts, texts, seconds),
    *(st.booleans(), st.none() | st.binary(max_size=50)),
)
from_driver = st.one_of(
    st.builds(Run, st.lists(orders, max_size=4).map(tuple)),
    st.builds(Cancel, texts, counts),
    st.builds(Signal, texts, counts, counts),
    st.builds(Extend, texts, counts, seconds),
    st.builds(Withdraw, counts),
    st.just(Close()),
    st.just(Ping()),
)
from_worker = st.one_of(
    st.builds(Hello, texts, texts, counts, counts, counts, format=counts),
    st.builds(
        Report,
        st.lists(chores, max_size=3).map(tuple),
        st.lists(ends, max_size=4).map(tuple),
        st.lists(chores, max_size=3).map(tuple),
    ),
    st.just(Bye()),
    st.just(Pong()),
)


@given(from_driver)
def test_what_a_driver_says_is_read_as_it_was_written(message):
    read = decode_from_driver(encode(message))
    assert (type(read), read) == (type(message), message)


@given(from_worker)
def test_what_a_worker_says_is_read_as_it_was_written(message):
    read = decode_from_worker(encode(message))
    assert (type(read), read) == (type(message), message)


@given(
    st.builds(
        Payload,
        *(st.none() | st.binary(max_size=50), st.lists(texts).map(tuple)),
        *(st.dictionaries(texts, texts), st.booleans(), texts, texts, texts),
    )
)
def test_a_payload_is_read_as_it_was_written(payload):
    assert decode_payload(encode_payload(payload)) == payload


END = ["chore-a-1", 1, 0, None, "", 0.5, True, -1]


def report(**fields):
    return [
        json.dumps({"op": "report", "started": [], "ended": [], "returned": [], **fields}).encode(),
        b"",
    ]


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b"{}"],
        [b"{}", b"", b""],
        [b"[]", b""],
        [b"\xff", b""],
        [b"[" * 100_000, b""],
        [b'{"op": "sing"}', b""],
        [b'{"op": ["bye"]}', b""],
        encode(Ping()),
        [encode(Report())[0], b"left over"],
        report(started=None),
        report(started=[["chore-a-1", "1"]]),
        report(returned=[[["chore"], 1]]),
        *(
            report(ended=[[*END[:place], wrong, *END[place + 1 :]]])
            for place, wrong in enumerate([7, True, "0", 3, None, -0.5, 1, 10])
        ),
        report(ended=[[*END[:5], float("nan"), *END[6:]]]),
        [b'{"op":"hello","worker":"w","host":"h","pid":-1,"cores":1,"gpus":0,"format":1}', b""],
    ],
)
def test_what_is_no_message_of_a_worker_is_refused(frames):
    with pytest.raises(FormatError):
        decode_from_worker(frames)


@pytest.mark.parametrize(
    "address",
    [Address("ipc:///tmp/x/pool"), Address("tcp://node7:5123", "s" * 40, "p" * 40, "q" * 40)],
)
def test_an_address_is_read_as_it_was_written(tmp_path, address):
    path = RunDir(tmp_path).pool_address_path(3)
    assert path.relative_to(tmp_path).as_posix() == "out/.pool/3/address.json"
    path.parent.mkdir(parents=True)
    write_address(path, address)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_address(path) == address


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": 2, "endpoint": "ipc:///x"}',
        '{"format": 1, "endpoint": 5, "server_key": null, "worker_public": null, '
        '"worker_secret": null}',
        '{"format": 1, "endpoint": "tcp://x:1", "server_key": "k", "worker_public": null, '
        '"worker_secret": null}',
        '{"format": 1, "endpoint": "tcp://x:1", "server_key": 1, "worker_public": 2, '
        '"worker_secret": 3}',
        " " * (pool_messages.MAX_ADDRESS_BYTES + 1),
    ],
)
def test_what_is_no_address_is_refused(tmp_path, content):
    path = tmp_path / "address.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(FormatError):
        read_address(path)


def test_an_address_that_others_could_have_written_is_refused(tmp_path):
    path = tmp_path / "address.json"
    write_address(path, Address("ipc:///tmp/x/pool"))
    path.chmod(0o620)
    with pytest.raises(FormatError, match="can be written by others"):
        read_address(path)
