"""What a reader gets of logs, records and files of a chore over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import re
import threading
import tracemalloc
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings, strategies as st
from starlette.requests import ClientDisconnect

from matensemble.dashboard.files.artifact import MAX_RANGE_BYTES, Artifact
from matensemble.dashboard.files.log_text import (
    MAX_SEARCH_BYTES,
    MIN_RANGE_BYTES,
    find_text,
    read_text,
)
from matensemble.dashboard.routes.files import Download

RUN = "matensemble_workflow-20260101_120000"
CHORE = "chore-relax-0001"
BASE = f"/api/v1/runs/{RUN}/chores/{CHORE}"
BROKEN = "\N{REPLACEMENT CHARACTER}"


@pytest.fixture
def chore_dir(write_run) -> Path:
    directory = write_run(RUN) / "out" / CHORE
    directory.mkdir(parents=True)
    (directory / "stdout").write_bytes(b"one\ntwo\nthree\n")
    describe(directory)
    return directory


def describe(directory: Path, attempt: int = 1, **fields: object) -> None:
    content = {"format": 1, "id": CHORE, "attempt": attempt} | fields
    (directory / "metadata.json").write_text(json.dumps(content))


@pytest.fixture
def get(connect, chore_dir):
    """Ask something of the chore; keywords are the question."""
    client = connect()

    def ask(what: str, expect: int = 200, headers=None, **query):
        answer = client.ask("GET", f"{BASE}/{what}", params=query, headers=headers)
        assert answer.status_code == expect, answer.text
        return answer

    return ask


def open_log(path: Path) -> Artifact:
    return Artifact(os.open(path, os.O_RDONLY), path.name, None)


def test_whole_log(get):
    answer = get("log")
    log = answer.json()
    mark = log.pop("mark")
    assert log.pop("modified_at") > 0
    assert log == {
        "stream": "stdout",
        "attempt": 1,
        "text": "one\ntwo\nthree\n",
        "start": 0,
        "end": 14,
        "size": 14,
        "is_complete": True,
        "is_replaced": False,
    }
    assert mark.startswith("14-")
    assert answer.headers["cache-control"] == "no-store"


def test_ranges_and_tail(get):
    part = get("log", offset=4, length=5).json()
    assert (part["text"], part["start"], part["end"]) == ("two\nt", 4, 9)
    assert not part["is_complete"]
    tail = get("log", tail=6).json()
    assert (tail["text"], tail["start"], tail["end"]) == ("three\n", 8, 14)
    assert get("log", tail=1000).json()["start"] == 0
    behind = get("log", offset=99).json()
    assert (behind["text"], behind["start"], behind["end"], behind["size"]) == ("", 99, 99, 14)


@pytest.mark.parametrize(
    "query",
    [
        {"offset": -1},
        {"offset": 2**63},
        {"offset": "1e3"},
        {"length": 3},
        {"length": MAX_RANGE_BYTES + 1},
        {"tail": 0},
        {"tail": MAX_RANGE_BYTES + 1},
        {"stream": "chore.pickle"},
        {"stream": "../stdout"},
        {"attempt": 0},
        {"attempt": 2**63},
        {"attempt": "../1"},
        {"mark": "x" * 65},
        {"offset": 1, "tail": 10},
        {"offset": 1, "mark": "1-x"},
    ],
)
def test_impossible_questions(get, query):
    get("log", expect=422, **query)


def test_follow_by_mark(get, chore_dir):
    mark = get("log").json()["mark"]
    assert get("log", mark=mark).json()["text"] == ""
    with (chore_dir / "stdout").open("ab") as log:
        log.write(b"four\n")
    new = get("log", mark=mark).json()
    assert (new["text"], new["start"], new["is_replaced"]) == ("four\n", 14, False)
    (chore_dir / "stdout").write_bytes(b"another, and it is longer than the one before")
    again = get("log", mark=new["mark"]).json()
    assert again["is_replaced"]
    assert (again["start"], again["text"][:7]) == (0, "another")
    os.truncate(chore_dir / "stdout", 2)
    cut = get("log", mark=again["mark"]).json()
    assert (cut["is_replaced"], cut["text"], cut["size"]) == (True, "an", 2)


def test_log_that_did_not_change_is_not_sent_again(get, chore_dir):
    etag = get("log").headers["etag"]
    answer = get("log", expect=304, headers={"if-none-match": etag})
    assert answer.content == b""
    with (chore_dir / "stdout").open("ab") as log:
        log.write(b"four\n")
    answer = get("log", headers={"if-none-match": etag})
    assert answer.headers["etag"] != etag


def test_streams_and_attempts(get, chore_dir):
    kept = chore_dir / "attempts" / "1"
    kept.mkdir(parents=True)
    (chore_dir / "stdout").rename(kept / "stdout")
    describe(chore_dir, attempt=2)
    (chore_dir / "stderr").write_bytes(b"warning\n")
    assert get("log", attempt=1).json()["text"].startswith("one")
    latest = get("log", stream="stderr").json()
    assert (latest["text"], latest["attempt"], latest["stream"]) == ("warning\n", 2, "stderr")
    assert "no stdout" in get("log", expect=404).json()["detail"]
    assert "attempt 3" in get("log", expect=404, attempt=3).json()["detail"]


def test_escapes_stay_and_other_controls_do_not(get, chore_dir):
    printed = "\x1b[31mred\x1b[0m\ta\r\nb\x00\x07\x08\x0b\x0c\x7f\x9b31m\u202ex\u2028<script>"
    (chore_dir / "stdout").write_bytes(printed.encode())
    text = get("log").json()["text"]
    assert text == f"\x1b[31mred\x1b[0m\ta\r\nb{BROKEN * 7}31m{BROKEN}x{BROKEN}<script>"


def test_bytes_that_are_no_text(get, chore_dir):
    (chore_dir / "stdout").write_bytes(bytes(range(256)))
    answer = get("log")
    assert answer.headers["content-type"] == "application/json"
    assert BROKEN in answer.json()["text"]
    assert answer.json()["end"] == 256


@pytest.mark.parametrize("character", ["é", "€", "🙂"])
def test_characters_are_not_cut(get, chore_dir, character):
    size = len(character.encode())
    (chore_dir / "stdout").write_bytes(f"abcd{character}e".encode())
    first = get("log", offset=0, length=4 + size - 1).json()
    assert (first["text"], first["end"]) == ("abcd", 4)
    inside = get("log", offset=4 + size - 1).json()
    assert (inside["text"], inside["start"]) == ("e", 4 + size)


def test_unfinished_character_waits_for_its_rest(get, chore_dir):
    whole = "a€".encode()
    (chore_dir / "stdout").write_bytes(whole[:-1])
    log = get("log").json()
    assert (log["text"], log["end"], log["size"], log["is_complete"]) == ("a", 1, 3, True)
    assert get("log", is_final=True).json()["text"] == "a" + BROKEN
    with (chore_dir / "stdout").open("ab") as stdout:
        stdout.write(whole[-1:])
    assert get("log", mark=log["mark"]).json()["text"] == "€"


_pieces = st.one_of(
    st.binary(max_size=8),
    st.text(max_size=8).map(str.encode),
    st.sampled_from([b"\xf0\x9f", b"\xe2\x82", b"\x82\xac", b"\xed\xa0\x80", b"\xc0\x80", b"\xff"]),
)


@given(
    data=st.lists(_pieces, max_size=20).map(b"".join),
    lengths=st.lists(st.integers(MIN_RANGE_BYTES, 12), min_size=1, max_size=5),
)
@settings(deadline=None, max_examples=200)
def test_ranges_one_after_the_other_are_the_whole(tmp_path_factory, data, lengths):
    path = tmp_path_factory.getbasetemp() / "ranges"
    path.write_bytes(data)
    with open_log(path) as log:
        whole = read_text(log, 0, MAX_RANGE_BYTES, is_final=True)
        parts, offset, number = [], 0, 0
        while True:
            part = read_text(log, offset, lengths[number % len(lengths)], is_final=True)
            assert part.start == offset
            parts.append(part.text)
            offset, number = part.end, number + 1
            if part.is_complete:
                break
            assert part.end > part.start
    assert "".join(parts) == whole.text
    assert offset == len(data)
    assert not set(whole.text) & set(map(chr, {*range(32), *range(127, 160)} - {9, 10, 13, 27}))


@given(text=st.text(min_size=1), offset=st.integers(0, 80))
@settings(deadline=None, max_examples=200)
def test_range_from_anywhere_begins_with_a_whole_character(tmp_path_factory, text, offset):
    path = tmp_path_factory.getbasetemp() / "anywhere"
    data = text.encode()
    path.write_bytes(data)
    with open_log(path) as log:
        part = read_text(log, offset, 100)
    assert 0 <= part.start - offset <= 3
    if offset <= len(data):
        assert (data[: part.start] + data[part.start :]).decode() == text
        data[: part.start].decode()
        data[part.start : part.end].decode()


def test_search(get, chore_dir):
    (chore_dir / "stdout").write_bytes(b"ERROR a\nerror b\naaaa\nError\n")
    assert get("log/search", text="error").json() == {
        "stream": "stdout",
        "attempt": 1,
        "offsets": [8],
        "next_offset": None,
        "size": 27,
    }
    assert get("log/search", text="eRRor", ignore_case=True).json()["offsets"] == [0, 8, 21]
    assert get("log/search", text="aa").json()["offsets"] == [16, 18]
    first = get("log/search", text="a", limit=2).json()
    assert (first["offsets"], first["next_offset"]) == ([6, 16], 17)
    rest = get("log/search", text="a", offset=first["next_offset"]).json()
    assert rest["offsets"] == [17, 18, 19]
    assert get("log/search", text="nothing").json()["offsets"] == []
    assert get("log/search", text="a", offset=1000).json()["offsets"] == []


@pytest.mark.parametrize(
    "query", [{}, {"text": ""}, {"text": "x" * 257}, {"text": "a", "limit": 0}]
)
def test_impossible_searches(get, query):
    get("log/search", expect=422, **query)


@given(
    data=st.lists(st.sampled_from([b"a", b"b", b"ab", b"aab"]), max_size=60).map(b"".join),
    text=st.text("ab", min_size=1, max_size=4),
    limit=st.integers(1, 5),
)
@settings(deadline=None, max_examples=200)
def test_search_in_steps_finds_the_same_as_in_one(tmp_path_factory, data, text, limit):
    path = tmp_path_factory.getbasetemp() / "searched"
    path.write_bytes(data)
    found: list[int] = []
    offset: int | None = 0
    with open_log(path) as log:
        while offset is not None:
            matches = find_text(log, text, offset, limit=limit)
            found += matches.offsets
            offset = matches.next_offset
    assert found == [match.start() for match in re.finditer(re.escape(text), data.decode())]


@pytest.mark.slow
def test_match_across_the_borders_of_reads_and_calls_is_found(tmp_path):
    path = tmp_path / "log"
    places = [MAX_RANGE_BYTES - 3, 2 * MAX_RANGE_BYTES - 1, MAX_SEARCH_BYTES - 2]
    with path.open("wb") as log:
        for place in places:
            log.seek(place)
            log.write(b"needle")
    found, offset, num_calls = [], 0, 0
    with open_log(path) as artifact:
        while offset is not None:
            matches = find_text(artifact, "needle", offset, limit=10)
            found += matches.offsets
            assert matches.next_offset is None or matches.next_offset > offset
            offset, num_calls = matches.next_offset, num_calls + 1
    assert found == places
    assert num_calls == 2


@pytest.mark.slow
def test_log_of_100_mb_takes_little_memory(get, chore_dir):
    line = b"step 1234567 energy -3.14159265 \xe2\x82\xac\n"
    block = line * (MAX_RANGE_BYTES // len(line))
    path = chore_dir / "stdout"
    with path.open("wb") as log:
        while log.tell() < 100_000_000:
            log.write(block)
        log.write(b"the end\n")
    size = path.stat().st_size
    tracemalloc.start()
    try:
        end, num_lines = 0, 0
        for offset in (0, 10_000_000, 50_000_001, size - MAX_RANGE_BYTES):
            part = get("log", offset=offset, length=MAX_RANGE_BYTES).json()
            assert part["size"] == size
            assert BROKEN not in part["text"]
            end, num_lines = part["end"], num_lines + part["text"].count("\n")
        assert end == size
        assert num_lines > 100_000
        found, at = [], 0
        while at is not None:
            answer = get("log/search", text="the end", offset=at).json()
            found, at = found + answer["offsets"], answer["next_offset"]
        assert found == [size - 8]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30 * MAX_RANGE_BYTES


def test_log_that_grows_while_it_is_read_is_read_in_order(get, chore_dir):
    path = chore_dir / "stdout"
    path.write_bytes(b"")
    written = b"".join(b"line %d \xe2\x82\xac\n" % number for number in range(3000))

    def write() -> None:
        with path.open("ab", buffering=0) as log:
            for start in range(0, len(written), 1000):
                log.write(written[start : start + 1000])

    thread = threading.Thread(target=write)
    thread.start()
    text, mark = "", get("log").json()["mark"]
    first = get("log", length=MIN_RANGE_BYTES, offset=0).json()
    text, mark = first["text"], first["mark"]
    while True:
        is_last = not thread.is_alive()
        part = get("log", mark=mark).json()
        assert not part["is_replaced"]
        text, mark = text + part["text"], part["mark"]
        if is_last and part["end"] == part["size"]:
            break
    thread.join()
    assert text == written.decode()


def test_records(get, chore_dir):
    (chore_dir / "error.json").write_text(
        '{"type": "ValueError", "message": "\\u001b[1mx", "n": NaN}'
    )
    error = get("error").json()
    assert error["content"] == {"type": "ValueError", "message": "x", "n": "nan"}
    assert error["attempt"] == 1
    assert get("metadata").json()["content"]["id"] == CHORE
    (chore_dir / "error.json").write_bytes(b"[" * 100_000)
    assert "no JSON" in get("error", expect=503).json()["detail"]
    (chore_dir / "error.json").unlink()
    get("error", expect=404)


def test_download(get, chore_dir):
    answer = get("download", file="stdout")
    assert answer.content == b"one\ntwo\nthree\n"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-length"] == "14"
    assert answer.headers["content-disposition"] == f'attachment; filename="{CHORE}-stdout"'
    assert answer.headers["etag"] == get("log").headers["etag"]
    assert get("download", file="stdout", offset=4, length=3).content == b"two"
    assert get("download", file="stdout", offset=10**12).content == b""
    get("download", expect=422)
    get("download", expect=422, file="stdout", output="log")
    get("download", expect=422, file="chore.pickle")
    get("download", expect=422, file="stdout", length=MAX_RANGE_BYTES + 1)
    get("download", expect=404, file="stderr")


def test_download_of_a_file_that_is_cut_meanwhile_has_no_proper_end(tmp_path):
    path = tmp_path / "log"
    size = 2 * MAX_RANGE_BYTES
    path.write_bytes(b"x" * size)
    log = open_log(path)
    response = Download(log, 0, size, {})
    sent: list[dict] = []

    async def send(message):
        sent.append(message)
        os.truncate(path, MAX_RANGE_BYTES + 5)

    asyncio.run(response.stream_response(send))
    assert sum(len(message.get("body", b"")) for message in sent) == MAX_RANGE_BYTES + 5
    assert all(message["more_body"] for message in sent[1:])


def test_who_goes_away_amid_a_download_leaves_no_open_file(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"x" * 2 * MAX_RANGE_BYTES)
    descriptor = os.open(path, os.O_RDONLY)
    response = Download(Artifact(descriptor, "log", None), 0, 2 * MAX_RANGE_BYTES, {})

    async def send(message):
        raise ConnectionResetError

    async def receive():
        await asyncio.Event().wait()

    scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
    with pytest.raises(ClientDisconnect):
        asyncio.run(response(scope, receive, send))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("log.lammps", "log.lammps"),
        ('a"; filename="evil.html', "a_filename_evil.html"),
        ("a\r\nSet-Cookie: x=1", "a_Set-Cookie_x_1"),
        ("<script>.html", "_script_.html"),
        ("sub/naïve.dat", "na_ve.dat"),
    ],
)
def test_declared_outputs_are_downloaded_under_a_safe_name(get, chore_dir, path, shown):
    (chore_dir / path).parent.mkdir(exist_ok=True)
    (chore_dir / path).write_bytes(b"\x00\xffdata")
    describe(chore_dir, outputs={"the <b>log</b>": path})
    listed = get("artifacts").json()
    assert [entry["name"] for entry in listed["artifacts"] if entry["is_output"]] == [
        "the <b>log</b>"
    ]
    assert listed["num_outputs"] == 1
    answer = get("download", output="the <b>log</b>")
    assert answer.content == b"\x00\xffdata"
    assert answer.headers["content-disposition"] == f'attachment; filename="{CHORE}-{shown}"'
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "chore",
    [
        "..",
        "../../",
        "%2e%2e",
        "%2e%2e%2f%2e%2e%2fstatus.json",
        "..%2f..",
        "%252e%252e",
        "registry",
        "%00",
        f"{CHORE}%00",
        f"{CHORE}%2f..",
        f"{CHORE}%2fattempts%2f1",
        "%ff",
        "%ed%a0%80",
        "x" * 255,
        "é" * 200,
        "．．",
        "%0d%0aSet-Cookie:x",
        "<script>",
        "%1b%5d0;title%07",
    ],
)
@pytest.mark.parametrize("what", ["log", "log/search?text=a", "metadata", "artifacts"])
def test_chores_that_are_none_are_not_found(connect, chore_dir, chore, what):
    (chore_dir.parent / "registry").mkdir(exist_ok=True)
    (chore_dir.parent / "registry" / "stdout").write_bytes(b"a callable")
    answer = connect().ask("GET", f"/api/v1/runs/{RUN}/chores/{chore}/{what}")
    assert answer.status_code == 404
    assert "\x1b" not in answer.json()["detail"]


def test_longer_ids_than_any_are_refused(connect, chore_dir):
    answer = connect().ask("GET", f"/api/v1/runs/{RUN}/chores/{'x' * 5000}/log")
    assert answer.status_code == 422


@pytest.mark.parametrize("run", ["..", "other", "%2e%2e", quote("/", safe=""), "%00", f"{RUN}%2f"])
def test_runs_that_are_none_are_not_found(connect, chore_dir, run):
    answer = connect().ask("GET", f"/api/v1/runs/{run}/chores/{CHORE}/log")
    assert answer.status_code == 404


def test_pipes_and_links_are_answered_at_once(get, chore_dir, tmp_path):
    (chore_dir / "stdout").unlink()
    os.mkfifo(chore_dir / "stdout")
    (tmp_path / "secret").write_text("secret")
    (chore_dir / "stderr").symlink_to(tmp_path / "secret")
    for stream in ("stdout", "stderr"):
        for what in ({"what": "log", "stream": stream}, {"what": "download", "file": stream}):
            answer = get(expect=503, **what)
            assert "not a regular file" in answer.json()["detail"]
            assert "secret" not in answer.text


class Canary:
    """Leaves a file where it is loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def test_nothing_is_unpickled(get, chore_dir, tmp_path):
    laid = tmp_path / "hatched"
    egg = pickle.dumps(Canary(str(laid)))
    pickle.loads(egg)
    assert laid.exists(), "the canary works"
    laid.unlink()
    names = ["stdout", "stderr", "error.json", "chore.pickle", "result.pickle", "log.dat"]
    for name in names:
        (chore_dir / name).write_bytes(egg)
    describe(chore_dir, outputs={"log": "log.dat", "result": "result.pickle"})
    get("log")
    get("log", stream="stderr", tail=100)
    get("log/search", text="a")
    get("error", expect=503)
    get("artifacts")
    assert get("download", output="log").content == egg
    get("download", output="result", expect=404)
    (chore_dir / "metadata.json").write_bytes(egg)
    get("metadata", expect=503)
    get("log")
    get("artifacts")
    assert not laid.exists()


def test_nothing_is_answered_without_the_token(connect, chore_dir):
    client = connect(token=None)
    for what in ("log", "log/search?text=a", "error", "metadata", "artifacts", "download"):
        assert client.ask("GET", f"{BASE}/{what}").status_code == 401
