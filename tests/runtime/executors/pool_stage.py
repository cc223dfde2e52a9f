"""What tests of pools stand on: a warm worker in a thread, and an executor inside that starts it.

A `FakeWorker` speaks to the driver over the real channel and runs no process: what it does with
what it is told is up to the test. `FakeInside` is a `FakeExecutor` whose workers are such threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from matensemble import environment, pool_messages as messages
from matensemble.pool_messages import Ended, Hello, Order, Report
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.scheduler.resources import Allocation, Node
from matensemble.runtime.testing import FakeExecutor, Outcome

TIMEOUT = 60.0
ONE_NODE = Allocation((Node("here", 4, 2),))
TWO_NODES = Allocation((Node("one", 2, 0), Node("two", 2, 0)))


def ended(order: Order, exit_code: int | None = 0, **fields: Any) -> Ended:
    """Return the end of an order."""
    values = {"reason": None, "detail": "", "elapsed": 0.001, "is_committed": True, "result": None}
    return Ended(order.chore_id, order.attempt, exit_code, **{**values, **fields})


def connect(context: zmq.Context[Any], address: messages.Address, key: str) -> zmq.Socket[bytes]:
    """Return a socket that is connected, as a worker connects it."""
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.ROUTING_ID, key.encode())
    socket.setsockopt(zmq.LINGER, 0)
    if address.server_key:
        socket.curve_serverkey = address.server_key.encode()
        socket.curve_publickey = (address.worker_public or "").encode()
        socket.curve_secretkey = (address.worker_secret or "").encode()
    socket.connect(address.endpoint)
    return socket


Answer = Callable[["FakeWorker", Any], None]


def finish_at_once(worker: FakeWorker, message: Any) -> None:
    """End everything well as soon as it comes, and leave when told to."""
    if isinstance(message, messages.Run):
        worker.say(Report(ended=tuple(ended(order) for order in message.orders)))
    elif isinstance(message, messages.Close):
        worker.leave()


class FakeWorker:
    """A warm worker in a thread.

    Attributes
    ----------
    told
        What the driver has said, pings excepted.
    """

    def __init__(
        self, request: LaunchRequest, answer: Answer, on_end: Callable[[FakeWorker], None]
    ) -> None:
        begin = request.argv.index("--worker")
        words = request.argv[begin:]
        arguments = dict(zip(words[::2], words[1::2], strict=True))
        self.key = arguments["--worker"]
        self.request = request
        self.told: list[Any] = []
        self._answer = answer
        self._on_end = on_end
        self._address = messages.read_address(Path(arguments["--address-file"]))
        self._context: zmq.Context[Any] = zmq.Context()
        self._changed = threading.Condition()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def hello(self, **fields: Any) -> Hello:
        resources = self.request.resources
        said = Hello(self.key, "there", 1, resources.cores_per_task, resources.gpus_per_task)
        return said._replace(**fields)

    def say(self, message: messages.FromWorker) -> None:
        """Say something; on the thread of the worker only."""
        self.say_frames(messages.encode(message))

    def say_frames(self, frames: list[bytes]) -> None:
        self._socket.send_multipart(frames)

    def leave(self) -> None:
        """Say goodbye and end; on the thread of the worker only."""
        self.say(messages.Bye())
        self._is_over.set()

    def die(self) -> None:
        """End without a word."""
        self._is_over.set()

    def wait_told(self, kind: type, count: int = 1) -> list[Any]:
        """Wait until the driver has said so much of a kind; return it."""
        with self._changed:
            found = self._changed.wait_for(lambda: len(self._of(kind)) >= count, TIMEOUT)
            assert found, f"{self.key} was told {self.told}"
            return self._of(kind)

    def orders(self) -> list[Order]:
        """Return what it was told to run."""
        return [order for run in self._of(messages.Run) for order in run.orders]

    def _of(self, kind: type) -> list[Any]:
        return [message for message in self.told if isinstance(message, kind)]

    def _run(self) -> None:
        self._socket = connect(self._context, self._address, self.key)
        self._answer(self, None)
        while not self._is_over.is_set():
            if not self._socket.poll(20):
                continue
            message = messages.decode_from_driver(self._socket.recv_multipart())
            if isinstance(message, messages.Ping):
                self.say(messages.Pong())
                continue
            with self._changed:
                self.told.append(message)
                self._changed.notify_all()
            self._answer(self, message)
        self._socket.close(linger=1000)
        self._context.term()
        self._on_end(self)


def greeting(answer: Answer = finish_at_once) -> Answer:
    """Return what says hello first, and answers like another one then."""

    def greet(worker: FakeWorker, message: Any) -> None:
        if message is None:
            worker.say(worker.hello())
        else:
            answer(worker, message)

    return greet


class FakeInside(FakeExecutor):
    """An executor without processes, whose warm workers are threads.

    Parameters
    ----------
    answer
        What its workers do: called with each message, and first with None, when the worker begins.
    """

    def __init__(
        self, answer: Answer | None = None, allocation: Allocation = ONE_NODE, **options: Any
    ) -> None:
        super().__init__(allocation, script=self._begin, **options)
        self.answer = answer or greeting()
        self.workers: list[FakeWorker] = []
        self.requests: list[LaunchRequest] = []
        self.exit_code = 1

    def _begin(self, request: LaunchRequest) -> Outcome | None:
        self.requests.append(request)
        if environment.WARM_WORKER in request.env:
            self.workers.append(FakeWorker(request, self.answer, self._end_worker))
        return None

    def _end_worker(self, worker: FakeWorker) -> None:
        with self._changed:
            if worker.key in self.running:
                self.finish(worker.key, self.exit_code)

    def cancel(self, chore_id: str, attempt: int) -> None:
        super().cancel(chore_id, attempt)
        for worker in self.workers:
            if worker.key == chore_id:
                worker.die()

    def wait_workers(self, count: int) -> list[FakeWorker]:
        """Wait until so many workers were started; return them."""
        with self._changed:
            found = self._changed.wait_for(lambda: len(self.workers) >= count, TIMEOUT)
            assert found, f"{len(self.workers)} workers"
            return [*self.workers]

    def close(self, *, abandon: bool = False) -> None:
        super().close(abandon=abandon)
        for worker in self.workers:
            worker.die()
            worker._thread.join()
