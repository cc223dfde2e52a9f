"""The stream of a run: one look for all who follow, messages when something changed, an end."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from matensemble.dashboard import create_dashboard_app, streams as streams_module
from matensemble.dashboard.routes import events
from matensemble.dashboard.security import SECURITY_HEADERS, Access
from matensemble.dashboard.streams import MAX_STREAMS, NoRoomError, Sighting, Streams
from matensemble.errors import RunDirectoryError

NAME = "matensemble_workflow-20260101_120000"
TIMEOUT = 30.0


class World:
    """A run that changes when the test says so; counts how often it is looked at."""

    def __init__(self):
        self.seen = Sighting("0", 0, False)
        self.problem = None
        self.num_looks = 0
        self.running = set()

    def look(self, run_id):
        assert run_id not in self.running, "two look at one run at a time"
        self.running.add(run_id)
        self.num_looks += 1
        self.running.remove(run_id)
        if self.problem is not None:
            raise self.problem
        return self.seen


@pytest.fixture
def world():
    return World()


@pytest.fixture
def streams(world):
    return Streams(world.look, interval=0.001)


async def follow(streams, texts, run_id="a"):
    """Collect what a listener hears, each message announced by an event."""
    with streams.join(run_id) as watcher:
        async for seen in watcher.sightings():
            texts.put_nowait(seen.text)
    texts.put_nowait(None)


def in_loop(coroutine):
    async def bounded():
        async with asyncio.timeout(TIMEOUT):
            await coroutine

    asyncio.run(bounded())


def test_all_listeners_share_one_watcher_and_hear_each_change_once(streams, world):
    async def listen():
        heard = [asyncio.Queue() for _ in range(5)]
        tasks = [asyncio.create_task(follow(streams, texts)) for texts in heard]
        for number in range(3):
            world.seen = Sighting(str(number), number, False)
            for texts in heard:
                assert await texts.get() == str(number)
        before = world.num_looks
        while world.num_looks < before + 5:  # looked at again, and nothing had changed
            await asyncio.sleep(0)
        assert all(texts.empty() for texts in heard)
        world.seen = Sighting("end", "end", True)
        for texts in heard:
            assert [await texts.get(), await texts.get()] == ["end", None]
        await asyncio.gather(*tasks)

    in_loop(listen())


def test_who_comes_after_the_end_hears_it_and_is_let_go(streams, world):
    async def listen():
        world.seen = Sighting("end", "end", True)
        for _ in range(2):
            texts = asyncio.Queue()
            await follow(streams, texts)
            assert [await texts.get(), await texts.get()] == ["end", None]

    in_loop(listen())


def test_nobody_looks_when_nobody_listens(streams, world):
    async def listen():
        texts = asyncio.Queue()
        task = asyncio.create_task(follow(streams, texts))
        await texts.get()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in others if "_watch" in repr(task)]

    in_loop(listen())


@pytest.mark.parametrize("problem", [RunDirectoryError("a", "is gone"), OSError("no disk")])
def test_a_run_that_is_gone_ends_its_streams(streams, world, problem):
    async def listen():
        texts = asyncio.Queue()
        task = asyncio.create_task(follow(streams, texts))
        assert await texts.get() == "0"
        world.problem = problem
        assert await texts.get() is None
        await task

    in_loop(listen())


def test_closing_ends_all_streams_without_a_last_word(streams, world):
    async def listen():
        heard = [asyncio.Queue() for _ in range(3)]
        tasks = [
            asyncio.create_task(follow(streams, texts, run_id))
            for texts, run_id in zip(heard, "aab", strict=True)
        ]
        for texts in heard:
            assert await texts.get() == "0"
        streams.close()
        for texts in heard:
            assert await texts.get() is None
        await asyncio.gather(*tasks)

    in_loop(listen())


def test_number_of_streams_is_bounded_and_seats_come_back(streams):
    async def fill():
        for _ in range(3):
            opened = [streams.join("a") for _ in range(MAX_STREAMS)]
            for stream in opened:
                stream.__enter__()
            with pytest.raises(NoRoomError), streams.join("b"):
                pass
            for stream in opened:
                stream.__exit__(None, None, None)

    in_loop(fill())


class Wire:
    """An ASGI connection by hand: `httpx` would wait for the end of the answer."""

    def __init__(self, app, path, token):
        self._asked = False
        self._gone = asyncio.Event()
        self.status = None
        self.headers = {}
        self.text = ""
        self.changed = asyncio.Condition()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"localhost"), (b"authorization", f"Bearer {token}".encode())],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
        }
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self):
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        async with self.changed:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            self.text += message.get("body", b"").decode()
            self.changed.notify_all()

    async def heard(self, number):
        """Return the first messages once there are so many."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.text.count("\n\n") >= number)
        return self.text.split("\n\n")[:number]

    async def go(self):
        self._gone.set()
        await self.task


def parse(message):
    kind, data = message.split("\n")
    assert kind.startswith("event: ")
    return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@pytest.mark.slow
def test_stream_tells_changes_and_the_end(app, write_run, token):
    async def listen():
        wire = Wire(app, f"/api/v1/runs/{NAME}/events", token)
        kind, first = parse((await wire.heard(1))[0])
        assert kind == "run"
        assert first["run"]["id"] == NAME
        assert first["run"]["status"]["sequence"] == 17
        assert wire.status == 200
        assert wire.headers["content-type"].startswith("text/event-stream")
        for name, value in SECURITY_HEADERS.items():
            assert wire.headers[name] == value
        assert wire.headers["cache-control"] == "no-store"
        write_run(sequence=18)
        assert parse((await wire.heard(2))[1])[1]["run"]["status"]["sequence"] == 18
        write_run(sequence=19, state="completed")
        messages = [parse(message) for message in await wire.heard(4)]
        assert messages[2][1]["run"]["health"] == "ended"
        assert messages[3] == ("ended", {})
        await wire.task  # it ended by itself

    in_loop(listen())


@pytest.mark.slow
def test_too_many_streams_are_told_when_to_come_again(app, token, monkeypatch):
    monkeypatch.setattr(streams_module, "MAX_STREAMS", 1)

    async def listen():
        path = f"/api/v1/runs/{NAME}/events"
        first = Wire(app, path, token)
        await first.heard(1)
        second = Wire(app, path, token)
        await second.task
        assert second.status == 503
        assert int(second.headers["retry-after"]) > 0
        assert second.headers["content-security-policy"]
        assert json.loads(second.text)["title"] == "Service Unavailable"
        await first.go()
        third = Wire(app, path, token)  # the seat is free again
        await third.heard(1)
        assert third.status == 200
        await third.go()

    in_loop(listen())


@pytest.mark.slow
def test_listener_that_takes_no_more_loses_its_seat(app, token, monkeypatch):
    monkeypatch.setattr(events, "SEND_SECONDS", 0.05)
    streams: Streams = app.state.streams

    class Stuck(Wire):
        async def _send(self, message):
            if message["type"] == "http.response.body":
                await asyncio.Event().wait()

    async def listen():
        await Stuck(app, f"/api/v1/runs/{NAME}/events", token).task
        assert streams._num_streams == 0
        assert not streams._watchers

    in_loop(listen())


def test_stream_of_no_run_is_not_found(connect):
    assert connect().ask("GET", "/api/v1/runs/nothing/events").status_code == 404


@pytest.mark.slow
def test_a_lost_run_is_told_once_and_not_each_second(app, token, monkeypatch):
    """Its problem says for how long it has been silent."""
    looked = threading.Semaphore(0)
    streams: Streams = app.state.streams
    look = streams._look

    def counted(run_id):
        seen = look(run_id)
        looked.release()
        return seen

    monkeypatch.setattr(streams, "_look", counted)

    async def listen():
        wire = Wire(app, f"/api/v1/runs/{NAME}/events", token)
        _, message = parse((await wire.heard(1))[0])
        assert message["run"]["health"] == "lost"
        assert "no sign of life" in message["run"]["problem"]
        for _ in range(5):  # two seconds and more
            await asyncio.to_thread(looked.acquire)
        assert wire.text.count("event: run") == 1
        await wire.go()

    in_loop(listen())


def test_settings_say_how_it_was_started(connect, write_run, tmp_path, token):
    run_dir = write_run()
    for root, is_single_run in ((run_dir, True), (tmp_path, False)):
        for allow_actions in (False, True):
            app = create_dashboard_app(
                root, access=Access(token=token), allow_actions=allow_actions
            )
            answer = connect(app).ask("GET", "/api/v1/settings").json()
            assert answer.pop("version")
            assert answer == {
                "root": root.name,
                "is_single_run": is_single_run,
                "allow_actions": allow_actions,
            }
