"""Which files of a chore can be opened, whatever somebody puts in their place."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from matensemble.dashboard.files import artifacts
from matensemble.dashboard.files.artifact import (
    MAX_RANGE_BYTES,
    Artifact,
    open_directory,
    open_file,
)
from matensemble.dashboard.files.artifacts import MAX_OUTPUTS, MAX_RECORD_BYTES, ChoreFiles
from matensemble.errors import FormatError, RunDirectoryError

CHORE = "chore-relax-0001"
SECRET = b"secret of somebody else"
MAX_ROUNDS = 200_000
"""After so many looks at what another thread changes, something is wrong with the test."""

HOSTILE = [
    "",
    ".",
    "..",
    "../stdout",
    "../../secret",
    "..%2f..%2fsecret",
    "%2e%2e/secret",
    "/etc/passwd",
    "//etc/passwd",
    "stdout/",
    "stdout/../../../secret",
    "stdout\0",
    "\0",
    "..\\..\\secret",
    "．．/secret",
    "\u2024\u2024/secret",
    "\ud800",
    "x" * 300,
    "é" * 200,
    "a/" * 5000,
    "chore.pickle",
    "result.pickle",
    "attempts",
    "registry",
    ".pool",
    "STDOUT",
    "~",
    "C:secret",
    "stdout\n",
    "<script>alert(1)</script>",
]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(SECRET)
    run = tmp_path / "matensemble_workflow-20260101_120000"
    (run / "out" / "registry").mkdir(parents=True)
    (run / "out" / "registry" / "stdout").write_bytes(b"a callable")
    (run / "out" / ".pool").mkdir()
    (run / "out" / ".pool" / "stdout").write_bytes(b"a key")
    (run / "secret").write_bytes(SECRET)
    return run


@pytest.fixture
def chore_dir(run_dir: Path) -> Path:
    directory = run_dir / "out" / CHORE
    directory.mkdir()
    (directory / "stdout").write_bytes(b"one\ntwo\n")
    describe(directory)
    return directory


def describe(directory: Path, attempt: int = 1, **fields: Any) -> None:
    content = {"format": 1, "id": CHORE, "attempt": attempt} | fields
    (directory / "metadata.json").write_text(json.dumps(content))
    (directory / "chore.pickle").write_bytes(b"never read")


def read(run_dir: Path, name: str = "stdout", attempt: int | None = None) -> bytes:
    with ChoreFiles(run_dir, CHORE, attempt) as files, files.open(name) as artifact:
        return artifact.read(0, MAX_RANGE_BYTES)


def read_output(run_dir: Path, output: str, attempt: int | None = None) -> bytes:
    with ChoreFiles(run_dir, CHORE, attempt) as files, files.open_output(output) as artifact:
        return artifact.read(0, MAX_RANGE_BYTES)


def num_open() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


@pytest.mark.parametrize("name", HOSTILE)
def test_only_known_names_are_opened(run_dir, chore_dir, name):
    with pytest.raises(RunDirectoryError, match="cannot be asked for"):
        read(run_dir, name)


@pytest.mark.parametrize("chore_id", [*HOSTILE, "Registry", f"{CHORE}/attempts/1", f"./{CHORE}"])
def test_chore_ids_that_are_none_lead_nowhere(run_dir, chore_dir, chore_id):
    before = num_open()
    with pytest.raises(RunDirectoryError):
        ChoreFiles(run_dir, chore_id)
    assert num_open() == before


@pytest.mark.parametrize("output", HOSTILE)
def test_outputs_that_were_not_declared_are_not_there(run_dir, chore_dir, output):
    describe(chore_dir, outputs={"log": "log.lammps"})
    with pytest.raises(RunDirectoryError, match="was declared"):
        read_output(run_dir, output)


@pytest.mark.parametrize(
    "path",
    [
        "../../secret",
        "sub/../../../secret",
        "/etc/passwd",
        "..",
        ".",
        "",
        "log\0",
        "x" * 300,
        "a/" * 400,
        "chore.pickle",
        "Result.Pickle",
        "attempts/1/chore.pickle",
        "spawned.args",
        "spawned-2.args",
        7,
        None,
        ["log"],
        {"a": "b"},
        "\ud800",
    ],
)
def test_declared_paths_that_lead_elsewhere_are_left_out(run_dir, chore_dir, path):
    describe(chore_dir, outputs={"bad": path, "good": "sub/log"})
    (chore_dir / "sub").mkdir()
    (chore_dir / "sub" / "log").write_bytes(b"mine")
    assert read_output(run_dir, "good") == b"mine"
    with pytest.raises(RunDirectoryError, match="was declared"):
        read_output(run_dir, "bad")


def _put_link(path: Path) -> None:
    path.symlink_to(path.parents[2] / "secret")


def _put_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def _put_loop(path: Path) -> None:
    path.symlink_to(path.name)


def _put_zero_link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _put_pipe(path: Path) -> None:
    os.mkfifo(path)


def _put_directory(path: Path) -> None:
    path.mkdir()


def _put_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the address of a socket holds about a hundred bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize("name", ["stdout", "stderr", "error.json", "metadata.json"])
@pytest.mark.parametrize(
    "put",
    [
        _put_link,
        _put_dangling_link,
        _put_loop,
        _put_zero_link,
        _put_pipe,
        _put_directory,
        _put_socket,
    ],
)
def test_only_regular_files_are_opened(run_dir, chore_dir, name, put):
    (chore_dir / name).unlink(missing_ok=True)
    put(chore_dir / name)
    before = num_open()
    with pytest.raises(FormatError, match="not a regular file"):
        read(run_dir, name)
    with ChoreFiles(run_dir, CHORE) as files:
        listed = {entry.name: entry for entry in files.list_files()[0]}
    assert listed[name].state is None
    assert "not a regular file" in listed[name].problem
    assert num_open() == before


@pytest.mark.parametrize("device", ["null", "zero", "full", "random", "tty"])
def test_devices_are_not_read(device):
    if not stat.S_ISCHR(Path("/dev", device).stat().st_mode):
        pytest.skip(f"/dev/{device} is no device here")
    directory = os.open("/dev", os.O_RDONLY)
    before = num_open()
    try:
        # Without a terminal, opening /dev/tty is refused by the system itself.
        with pytest.raises((FormatError, OSError)):
            open_file(directory, (device,))
        assert num_open() == before
    finally:
        os.close(directory)


@pytest.mark.parametrize("place", ["out", f"out/{CHORE}", f"out/{CHORE}/sub"])
def test_directories_on_the_way_are_not_followed(run_dir, chore_dir, tmp_path, place):
    (chore_dir / "sub").mkdir()
    (chore_dir / "sub" / "log").write_bytes(b"mine")
    describe(chore_dir, outputs={"log": "sub/log"})
    assert read_output(run_dir, "log") == b"mine"
    (run_dir / place).rename(tmp_path / "elsewhere")
    (run_dir / place).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FormatError, match="no directory, or a link"):
        read_output(run_dir, "log")


def test_run_directory_that_became_a_link_is_not_followed(run_dir, chore_dir, tmp_path):
    run_dir.rename(tmp_path / "elsewhere")
    run_dir.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        read(run_dir)


@pytest.mark.slow
@pytest.mark.parametrize("swapped", ["stdout", "."])
def test_file_that_is_swapped_for_a_link_in_a_loop_yields_its_own_bytes(
    run_dir, chore_dir, tmp_path, swapped
):
    """Whichever moment is hit, it is the chore's own file or a refusal."""
    own = b"one\ntwo\n"
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "stdout").write_bytes(SECRET)
    is_over = threading.Event()
    target = chore_dir if swapped == "." else chore_dir / swapped
    lure = foreign if swapped == "." else foreign / "stdout"

    def swap() -> None:
        aside = target.with_name("aside")
        while not is_over.is_set():
            target.rename(aside)
            target.symlink_to(lure)
            target.unlink()
            aside.rename(target)

    thread = threading.Thread(target=swap)
    thread.start()
    before = num_open()
    seen: dict[object, int] = {}
    try:
        for number in range(MAX_ROUNDS):
            if number > 3000 and {own, FormatError} <= set(seen):
                break
            try:
                outcome: object = read(run_dir)
            except (FormatError, RunDirectoryError) as error:
                outcome = type(error)
            seen[outcome] = seen.get(outcome, 0) + 1
    finally:
        is_over.set()
        thread.join()
    assert set(seen) <= {own, FormatError, RunDirectoryError}
    assert {own, FormatError} <= set(seen), "both were to be met"
    assert num_open() == before


def test_earlier_attempts_have_their_own_files(run_dir, chore_dir):
    kept = chore_dir / "attempts" / "1"
    kept.mkdir(parents=True)
    (kept / "stdout").write_bytes(b"first")
    describe(chore_dir, attempt=2)
    (chore_dir / "stdout").write_bytes(b"second")
    assert read(run_dir, attempt=1) == b"first"
    assert read(run_dir, attempt=2) == read(run_dir) == b"second"
    with ChoreFiles(run_dir, CHORE) as files, files.open("stdout") as artifact:
        assert artifact.attempt == 2
    with pytest.raises(RunDirectoryError, match="no stdout of attempt 3"):
        read(run_dir, attempt=3)
    with pytest.raises(RunDirectoryError, match="no stderr of attempt 1"):
        read(run_dir, "stderr", attempt=1)


def test_attempt_that_is_being_moved_is_found_in_either_place(run_dir, chore_dir):
    """A driver that died between two moves leaves files of one attempt in two places."""
    kept = chore_dir / "attempts" / "1"
    kept.mkdir(parents=True)
    (chore_dir / "stdout").rename(kept / "stdout")
    (chore_dir / "stderr").write_bytes(b"still here")
    assert read(run_dir, attempt=1) == b"one\ntwo\n"
    assert read(run_dir, "stderr", attempt=1) == b"still here"


def test_without_metadata_the_attempt_is_the_one_after_those_that_are_kept(run_dir, chore_dir):
    (chore_dir / "attempts" / "1").mkdir(parents=True)
    (chore_dir / "attempts" / "3").mkdir()
    (chore_dir / "attempts" / "notes").mkdir()
    (chore_dir / "metadata.json").unlink()
    with ChoreFiles(run_dir, CHORE) as files, files.open("stdout") as artifact:
        assert artifact.attempt is None, "an attempt is just being prepared"
    (chore_dir / "chore.pickle").unlink()
    assert read(run_dir, attempt=4) == b"one\ntwo\n"
    with ChoreFiles(run_dir, CHORE) as files, files.open("stdout") as artifact:
        assert artifact.attempt == 4


@pytest.mark.parametrize("told", [0, -1, True, "2", 1.0, None, [], 10**30])
def test_attempt_that_the_chore_wrote_itself_misleads_nobody_else(run_dir, chore_dir, told):
    describe(chore_dir, attempt=told)
    assert read(run_dir) == b"one\ntwo\n"
    with ChoreFiles(run_dir, CHORE) as files, files.open("stdout") as artifact:
        assert artifact.attempt == (told if told == 10**30 else None)


@pytest.mark.slow
def test_attempts_that_change_in_a_loop_are_never_mixed_up(run_dir, chore_dir):
    is_over = threading.Event()

    def retry() -> None:
        attempt = 1
        while not is_over.is_set():
            kept = chore_dir / "attempts" / str(attempt)
            kept.mkdir(parents=True)
            for name in ("metadata.json", "stdout", "chore.pickle"):
                (chore_dir / name).rename(kept / name)
            attempt += 1
            (chore_dir / "chore.pickle").write_bytes(b"")
            draft = chore_dir / "metadata.json.tmp"
            draft.write_text(json.dumps({"attempt": attempt}))
            draft.rename(chore_dir / "metadata.json")
            (chore_dir / "stdout").write_bytes(b"%d" % attempt)

    (chore_dir / "stdout").write_bytes(b"1")
    thread = threading.Thread(target=retry)
    thread.start()
    num_seen = newest = 0
    try:
        for number in range(MAX_ROUNDS):
            if num_seen > 300 and newest > 1:
                break
            wanted = (None, newest, newest + 1)[number % 3] or None
            try:
                with (
                    ChoreFiles(run_dir, CHORE, wanted) as files,
                    files.open("stdout") as artifact,
                ):
                    text, attempt = artifact.read(0, 100), artifact.attempt
            except RunDirectoryError:
                continue
            assert wanted in (None, attempt)
            # Just made, it may be empty.
            if attempt is not None and text:
                assert int(text) == attempt
                newest = max(newest, attempt)
                num_seen += 1
    finally:
        is_over.set()
        thread.join()
    assert num_seen > 300
    assert newest > 1


@pytest.mark.parametrize("is_before", [True, False])
@pytest.mark.parametrize("wanted", [None, 1, 2])
def test_attempt_that_begins_while_a_file_is_opened(
    run_dir, chore_dir, monkeypatch, wanted, is_before
):
    """At the worst moment: between the look at the attempt and the file, or right after both."""
    has_begun = False

    def begin() -> None:
        nonlocal has_begun
        has_begun = True
        kept = chore_dir / "attempts" / "1"
        kept.mkdir(parents=True)
        for name in ("metadata.json", "stdout", "chore.pickle"):
            (chore_dir / name).rename(kept / name)
        describe(chore_dir, attempt=2)
        (chore_dir / "stdout").write_bytes(b"second")

    def open_at_a_bad_moment(directory: int, parts: tuple[str, ...]) -> int:
        if parts != ("stdout",) or has_begun:
            return open_file(directory, parts)
        if is_before:
            begin()
        try:
            return open_file(directory, parts)
        finally:
            if not is_before:
                begin()

    monkeypatch.setattr(artifacts, "open_file", open_at_a_bad_moment)
    text = {1: b"one\ntwo\n", 2: b"second"}
    if wanted == 2:  # it had not begun when it was asked for
        with pytest.raises(RunDirectoryError, match="no stdout of attempt 2"):
            read(run_dir, attempt=2)
        return
    with ChoreFiles(run_dir, CHORE, wanted) as files, files.open("stdout") as artifact:
        assert artifact.read(0, 100) == text[artifact.attempt]
        assert artifact.attempt == (wanted or 2)


def test_file_that_grows_or_is_cut_yields_what_is_there(run_dir, chore_dir):
    path = chore_dir / "stdout"
    with ChoreFiles(run_dir, CHORE) as files, files.open("stdout") as artifact:
        first = artifact.look()
        mark = artifact.mark(4)
        with path.open("ab") as log:
            log.write(b"three\n")
        grown = artifact.look()
        assert (first.size, grown.size) == (8, 14)
        assert first.etag != grown.etag
        assert artifact.find_mark(mark) == 4
        assert artifact.read(8, 100) == b"three\n"
        os.truncate(path, 3)
        assert artifact.look().size == 3
        assert artifact.read(0, 100) == b"one"
        assert artifact.read(8, 100) == b""
        assert artifact.find_mark(mark) is None
        assert b"".join(artifact.stream(0, 14)) == b"one"


def test_replaced_file_is_noticed_even_with_the_number_of_the_old_one(run_dir, chore_dir):
    path = chore_dir / "stdout"
    with ChoreFiles(run_dir, CHORE) as files, files.open("stdout") as artifact:
        mark, etag = artifact.mark(8), artifact.look().etag
        path.unlink()
        path.write_bytes(b"another log, longer")
        assert artifact.read(0, 100) == b"one\ntwo\n", "what was opened is what is read"
    with ChoreFiles(run_dir, CHORE) as files, files.open("stdout") as artifact:
        assert artifact.find_mark(mark) is None
        assert artifact.look().etag != etag
    path.write_bytes(b"in place, same number")  # the file of the moment, rewritten
    with ChoreFiles(run_dir, CHORE) as files, files.open("stdout") as artifact:
        assert artifact.find_mark(mark) is None


@pytest.mark.parametrize(
    "mark", ["", "-", "8", "8-", "-8-x", "x-y", "9" * 5000 + "-x", "8-" + "0" * 32, "٣-x", "+8-x"]
)
def test_what_is_no_mark_is_none(run_dir, chore_dir, mark):
    with ChoreFiles(run_dir, CHORE) as files, files.open("stdout") as artifact:
        assert artifact.find_mark(mark) is None


def test_one_read_is_bounded(run_dir, chore_dir):
    os.truncate(chore_dir / "stdout", 5 * MAX_RANGE_BYTES)
    with ChoreFiles(run_dir, CHORE) as files, files.open("stdout") as artifact:
        assert len(artifact.read(0, 10 * MAX_RANGE_BYTES)) == MAX_RANGE_BYTES
        pieces = [len(piece) for piece in artifact.stream(7, 2 * MAX_RANGE_BYTES + 9)]
    assert pieces == [MAX_RANGE_BYTES, MAX_RANGE_BYTES, 2]


def test_stream_closes_the_file(chore_dir):
    directory = os.open(chore_dir, os.O_RDONLY)
    before = num_open()
    artifact = Artifact(open_file(directory, ("stdout",)), "stdout", None)
    assert list(artifact.stream(0, 3)) == [b"one"]
    assert num_open() == before
    with pytest.raises(FileNotFoundError):
        open_directory(directory, ("attempts",))
    assert num_open() == before
    os.close(directory)


def test_record_is_cleaned(run_dir, chore_dir):
    (chore_dir / "error.json").write_text(
        '{"message": "\\u001b[31mred\\u001b]0;title\\u0007 \\u202e \\ud800", "n": NaN, '
        '"i": Infinity, "big": 123456789012345678901234567890, "list": [true, null, '
        '"\\u0000"], "k\\u0007": 1,'
        ' "deep": ' + "[" * 200 + "]" * 200 + "}"
    )
    with ChoreFiles(run_dir, CHORE) as files:
        content, state, attempt = files.read_record("error.json")
    assert content["message"] == "red \N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER}"
    assert (content["n"], content["i"]) == ("nan", "inf")
    assert content["big"] == 123456789012345678901234567890
    assert content["list"] == [True, None, "\N{REPLACEMENT CHARACTER}"]
    assert content["k\N{REPLACEMENT CHARACTER}"] == 1
    assert (state.size, attempt) == ((chore_dir / "error.json").stat().st_size, 1)
    text = json.dumps(content, allow_nan=False, ensure_ascii=False).encode()
    assert text.count(b"[") < 40


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no JSON"),
        (b"[]", "no JSON object"),
        (b'"text"', "no JSON object"),
        (b"[" * 200_000, "no JSON"),
        (b'{"a":' * 100_000, "no JSON"),
        (b'{"n": ' + b"9" * 10_000 + b"}", "no JSON"),
        (b"\x80\x04\x95", "no JSON"),
        (b" " * (MAX_RECORD_BYTES + 1), "more than"),
    ],
)
@pytest.mark.parametrize("name", ["error.json", "metadata.json"])
def test_record_that_is_none_is_refused(run_dir, chore_dir, name, content, words):
    (chore_dir / name).write_bytes(content)
    with ChoreFiles(run_dir, CHORE) as files, pytest.raises(FormatError, match=words):
        files.read_record(name)
    assert read(run_dir) == b"one\ntwo\n", "the log is there nevertheless"


def test_list_names_what_there_is_and_what_was_declared(run_dir, chore_dir):
    (chore_dir / "log.lammps").write_bytes(b"x" * 70)
    describe(chore_dir, outputs={"log": "log.lammps", "gone": "gone.dat", "bad": "../x"})
    with ChoreFiles(run_dir, CHORE) as files:
        listed, num_outputs = files.list_files()
    assert [(entry.name, entry.is_output, entry.problem) for entry in listed] == [
        ("stdout", False, None),
        ("metadata.json", False, None),
        ("log", True, None),
        ("gone", True, "is not there"),
    ]
    assert listed[2].state.size == 70
    assert num_outputs == 2


def test_list_is_bounded(run_dir, chore_dir):
    many = {f"output {number}": f"{number}.dat" for number in range(MAX_OUTPUTS + 5)}
    describe(chore_dir, outputs=many)
    with ChoreFiles(run_dir, CHORE) as files:
        listed, num_outputs = files.list_files()
    assert sum(entry.is_output for entry in listed) == MAX_OUTPUTS
    assert num_outputs == MAX_OUTPUTS + 5


def test_list_of_an_earlier_attempt_is_that_of_its_files(run_dir, chore_dir):
    kept = chore_dir / "attempts" / "1"
    kept.mkdir(parents=True)
    (kept / "stderr").write_bytes(b"12345")
    describe(kept, outputs={"log": "old.log"})
    (kept / "old.log").write_bytes(b"old")
    describe(chore_dir, attempt=2, outputs={"log": "new.log"})
    with ChoreFiles(run_dir, CHORE, 1) as files:
        listed, _ = files.list_files()
    assert {entry.name: entry.state.size for entry in listed if entry.name != "metadata.json"} == {
        "stderr": 5,
        "log": 3,
    }
    assert read_output(run_dir, "log", attempt=1) == b"old"
