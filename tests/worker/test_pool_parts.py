"""The parts of a warm worker by themselves: packets, and who holds which cores."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, strategies as st

from matensemble.pool import packet
from matensemble.pool.shares import Share, Shares

numbers = st.integers(0, (1 << 32) - 1)
small_and_large = st.sampled_from([0, 1, packet.MAX_PACKET_BYTES, packet.MAX_PACKET_BYTES + 1])


@given(st.sampled_from([packet.CALL, packet.RESOLVE]), numbers, numbers, small_and_large)
def test_a_request_is_read_as_it_was_written(kind: int, wants: int, number: int, size: int) -> None:
    with TemporaryDirectory() as directory:
        spilled = Path(directory, "request")
        payload = b"x" * size
        written = packet.encode_request(kind, wants, number, payload, str(spilled))
        assert len(written) < 2 * packet.MAX_PACKET_BYTES
        assert spilled.exists() == (size > packet.MAX_PACKET_BYTES)
        assert packet.decode_request(written) == (kind, wants, number, payload)
        assert not spilled.exists()


@given(
    st.sampled_from([0, packet.IS_COMMITTED, packet.RETIRES, packet.IS_READY]),
    st.integers(-64, 255),
    st.floats(0.0, 1e9),
    st.none() | small_and_large,
)
def test_a_reply_is_read_as_it_was_written(
    flags: int, exit_code: int, elapsed: float, size: int | None
) -> None:
    with TemporaryDirectory() as directory:
        spilled = Path(directory, "reply")
        data = None if size is None else b"y" * size
        written = packet.encode_reply(flags, exit_code, elapsed, data, str(spilled))
        read_flags, *rest = packet.decode_reply(written)
        assert rest == [exit_code, elapsed, data]
        assert read_flags & ~packet.HAS_DATA == flags
        assert not spilled.exists()


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), max_size=30), st.data())
def test_nothing_is_held_twice(shapes: list[tuple[int, int]], data: st.DataObject) -> None:
    shares = Shares(range(8), [f"gpu{i}" for i in range(3)])
    held: list[Share] = []
    for shape in shapes:
        while (share := shares.find(*shape)) is None:
            assert not shares.fits(*shape)
            given_back = held.pop(data.draw(st.integers(0, len(held) - 1)))
            shares.give_back(given_back)
            assert shares.is_free(given_back)
        assert share.shape == shape
        shares.take(share)
        held.append(share)
        cores = [core for one in held for core in one.cores]
        gpus = [gpu for one in held for gpu in one.gpus]
        assert (len(cores), len(gpus)) == (len({*cores}), len({*gpus}))
        assert not shares.is_free(share)


@pytest.mark.parametrize(
    ("unwanted", "cores"), [((), (0, 1)), ((0, 2), (1, 3)), ((0, 1, 2), (3, 0))]
)
def test_unwanted_cores_are_the_last_that_are_taken(
    unwanted: tuple[int, ...], cores: tuple[int, ...]
) -> None:
    share = Shares(range(4), ()).find(2, 0, unwanted)
    assert share == Share(cores, ())
