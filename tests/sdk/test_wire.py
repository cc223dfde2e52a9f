"""Bytes on disk: footers under damage, atomic writes, who may have written a pickle."""

import os
import pickle
import stat
import struct
from hashlib import sha256

import pytest
from hypothesis import given, settings, strategies as st

from matensemble import disk, wire
from matensemble.errors import FormatError, ResultCorruptError, ResultMissingError, UnpicklableError

VALUE = {"lattice": 3.52, "energies": [1, 2, 3]}


@pytest.fixture(params=["c", None], ids=["of one chore", "of any"])
def result(tmp_path, request):
    path = tmp_path / "result.pickle"
    wire.write_result(path, wire.dumps(VALUE), 3, chore_id=request.param)
    return path


def test_result_round_trip_and_attempt(result):
    assert wire.load_result(result, "c") == VALUE
    assert wire.check_result(result, "c") == 3
    assert len(result.read_bytes()) == len(wire.dumps(VALUE)) + wire.FOOTER_SIZE


def test_a_result_of_the_first_format_is_read(tmp_path):
    payload = wire.dumps(VALUE)
    footer = b"MatEnsR\n" + struct.pack(">HIQ", 1, 2, len(payload)) + sha256(payload).digest()
    path = tmp_path / "result.pickle"
    disk.write_atomic(path, payload, footer)
    assert wire.load_result(path, "c") == VALUE
    assert wire.check_result(path, "c") == 2


def test_plain_pickle_load_ignores_the_footer(result):
    with result.open("rb") as file:
        assert pickle.load(file) == VALUE


def test_truncation_at_every_byte_is_detected(result, tmp_path):
    content = result.read_bytes()
    short = tmp_path / "short.pickle"
    for size in range(len(content)):
        disk.write_atomic(short, content[:size])
        with pytest.raises(ResultCorruptError):
            wire.read_result(short, "c")
        with pytest.raises(ResultCorruptError):
            wire.check_result(short, "c")


@pytest.mark.parametrize("bit", [1, 0x80, 0xFF])
def test_a_flipped_bit_anywhere_is_detected(tmp_path, bit):
    path = tmp_path / "result.pickle"
    wire.write_result(path, wire.dumps(VALUE), 3, chore_id="c")
    content = path.read_bytes()
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= bit
        disk.write_atomic(path, bytes(changed))
        with pytest.raises(ResultCorruptError):
            wire.read_result(path, "c")


def test_results_of_two_chores_that_were_swapped_are_detected(tmp_path):
    for chore_id in ("c-1", "c-2"):
        wire.write_result(tmp_path / chore_id, wire.dumps(VALUE), 1, chore_id=chore_id)
    (tmp_path / "c-1").rename(tmp_path / "swap")
    (tmp_path / "c-2").rename(tmp_path / "c-1")
    (tmp_path / "swap").rename(tmp_path / "c-2")
    for chore_id in ("c-1", "c-2"):
        with pytest.raises(ResultCorruptError, match="the result of another chore"):
            wire.read_result(tmp_path / chore_id, chore_id)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\0" * 54, b"\0" * 4096, b"MatEnsR\n", pickle.dumps(VALUE)),
        *(b"\x93NUMPY\x01\0" + b" " * 200, b"MatEnsR\n" + b"\xff" * 46),
    ],
)
def test_a_foreign_file_is_no_result(tmp_path, content):
    path = tmp_path / "result.pickle"
    disk.write_atomic(path, content)
    for look in (wire.check_result, wire.read_result):
        with pytest.raises(ResultCorruptError):
            look(path, "c")


def test_a_footer_alone_does_not_make_a_result_of_other_bytes(result):
    content = bytearray(result.read_bytes())
    content[: -wire.FOOTER_SIZE] = bytes(len(content) - wire.FOOTER_SIZE)  # lost with its node
    disk.write_atomic(result, bytes(content))
    assert wire.check_result(result, "c") == 3, "its size is right"
    with pytest.raises(ResultCorruptError, match="SHA-256"):
        wire.read_result(result, "c")


def test_a_durable_write_is_synced_before_and_after_it_gets_its_name(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def call(*args, name=name, real=real):
            is_dir = name == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode)
            calls.append(f"{name} directory" if is_dir else name)
            return real(*args)

        monkeypatch.setattr(os, name, call)
    wire.write_result(tmp_path / "r", b"x", 1, durable=True)
    assert calls == ["fsync", "replace", "fsync directory"]
    monkeypatch.chdir(tmp_path)
    disk.write_atomic("r", b"x", durable=True)
    assert len(calls) == 6
    disk.write_atomic("r", b"x")
    assert calls[6:] == ["replace"]


def test_appended_bytes_are_detected(result):
    with result.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ResultCorruptError):
        wire.read_result(result, "c")


def test_missing_result(tmp_path):
    for read in (wire.read_result, wire.check_result):
        with pytest.raises(ResultMissingError) as info:
            read(tmp_path / "none", "chore-a-0001")
        assert info.value.chore_id == "chore-a-0001"


@settings(max_examples=50)
@given(st.binary(max_size=200), st.integers(1, 2**32 - 1))
def test_any_payload_and_attempt(tmp_path_factory, payload, attempt):
    path = tmp_path_factory.mktemp("r") / "x"
    wire.write_result(path, payload, attempt)
    assert bytes(wire.read_result(path, "c")) == payload
    assert wire.check_result(path, "c") == attempt


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_modes_under_any_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        disk.make_dir(tmp_path / "d")
        disk.write_atomic(tmp_path / "d" / "f", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "d" / "f").stat().st_mode) == 0o600


def test_failed_write_leaves_the_old_content_and_no_temporary(tmp_path):
    disk.write_atomic(tmp_path / "f", b"old")
    with pytest.raises(TypeError):
        disk.write_atomic(tmp_path / "f", b"new", "no bytes")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_untrusted_files_are_refused(tmp_path):
    path = tmp_path / "f"
    disk.write_atomic(path, b"x")
    path.chmod(0o620)
    with pytest.raises(FormatError, match="written by others"):
        wire.read_trusted(path)
    path.chmod(0o600)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(FormatError, match="symbolic link"):
        wire.read_trusted(tmp_path / "link")
    with pytest.raises(FormatError, match="regular file"):
        wire.read_trusted(tmp_path)
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(FormatError, match="regular file"):  # and does not block
        wire.read_trusted(tmp_path / "fifo")


def test_read_trusted_ranges(tmp_path):
    disk.write_atomic(tmp_path / "f", b"abcdef")
    assert wire.read_trusted(tmp_path / "f", 2, 3) == b"cde"
    assert wire.read_trusted(tmp_path / "f", 4) == b"ef"
    with pytest.raises(FormatError, match="2 bytes too early"):
        wire.read_trusted(tmp_path / "f", 4, 4)


def test_record_round_trip_and_damage():
    data = wire.encode_record({"id": "chore-a-0001", "new_key": [1]})
    assert wire.decode_record("p", data) == {"format": 1, "id": "chore-a-0001", "new_key": [1]}
    for size in range(len(data)):
        with pytest.raises(FormatError):
            wire.decode_record("p", data[:size])
    with pytest.raises(FormatError, match="format 99"):
        wire.decode_record("p", wire._dumps({"format": 99}))


def test_unpicklable_value_names_the_culprit():
    import threading

    with pytest.raises(UnpicklableError) as info:
        wire.dumps({"pot": [1, threading.Lock()]})
    assert "['pot'][1]" in info.value.culprit
    assert "lock" in info.value.culprit


def test_too_deep_nesting_is_a_typed_error():
    value: list = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(UnpicklableError, match="nested too deeply"):
        wire.dumps(value)


def test_objects_of_main_travel_by_value(monkeypatch):
    import sys
    import types

    main = types.ModuleType("__main__")
    exec("class Point:\n    def __init__(self, x): self.x = x\n", main.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", main)
    data = wire.dumps(main.Point(3))
    monkeypatch.undo()  # a process that has no such class
    assert pickle.loads(data).x == 3


def test_checking_a_pipe_or_a_directory_does_not_wait(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    for name in ("pipe", "directory"):
        with pytest.raises(ResultCorruptError, match="not a regular file"):
            wire.check_result(tmp_path / name, "c")
