"""Opening the Flux executor where the instance hangs or goes: no Flux needed, nothing waits."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from matensemble.errors import ExecutorUnavailableError
from matensemble.runtime.executors import flux_connection, flux_driver, flux_executor, flux_jobs
from matensemble.runtime.executors.base import ExecutorEvent
from matensemble.runtime.executors.flux import Instance
from matensemble.runtime.executors.flux_executor import FluxExecutor
from matensemble.runtime.scheduler.resources import Allocation, Node

TIMEOUT = 30.0


class Handle:
    """A handle of an instance that answers nothing; its reactor does what a test says."""

    def __init__(self, reactor: Callable[[], None]) -> None:
        self._reactor = reactor

    def reactor_run(self, *no_wait: Any) -> None:
        if not no_wait:
            self._reactor()

    def reactor_stop(self) -> None:
        """It does not run."""

    def fd_watcher_create(self, *_: Any) -> Handle:
        return self

    timer_watcher_create = fd_watcher_create

    def start(self) -> Handle:
        return self

    def stop(self) -> None:
        """Nothing watches."""

    def destroy(self) -> None:
        """Nothing watches."""

    def fulfill_error(self, *_: Any) -> None:
        """Nobody waits."""

    def rpc(self, *_: Any) -> Handle:
        return self

    def then(self, *_: Any) -> None:
        """No answer comes."""


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """What a hanging instance waits for; set at the end. Waiting as for jobs would take hours."""
    event = threading.Event()
    monkeypatch.setattr(flux_executor, "CLOSE_SECONDS", 10_000.0)
    for module in (flux_connection, flux_jobs):
        monkeypatch.setattr(module, "load_flux", lambda: SimpleNamespace(constants=Constants))
    monkeypatch.setattr(
        flux_driver, "survey", lambda *_: Instance(Allocation((Node("a", 1, 0),)), (0,), ())
    )
    monkeypatch.setattr(flux_driver, "identify", lambda _: "the only one")
    monkeypatch.setattr(flux_driver, "find_expiration", lambda _: None)
    yield event
    event.set()
    for thread in threading.enumerate():
        if thread.name == "matensemble-flux":
            thread.join(TIMEOUT)


class Constants:
    FLUX_POLLIN = FLUX_RPC_STREAMING = 0


def open_with(monkeypatch: pytest.MonkeyPatch, reactor: Callable[[], None]) -> list[ExecutorEvent]:
    """Open an executor and close it; return what it posted."""
    monkeypatch.setattr(flux_driver, "connect", lambda _: Handle(reactor))
    events: list[ExecutorEvent] = []
    executor = FluxExecutor("run")
    try:
        executor.open(events.append)
    finally:
        executor.close()
    return events


def test_an_instance_that_hangs(released: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flux_executor, "OPEN_SECONDS", 0.01)
    monkeypatch.setattr(flux_executor, "ABANDON_SECONDS", 0.01)
    with pytest.raises(ExecutorUnavailableError, match=r"did not answer within 0\.01 s.*uptime"):
        open_with(monkeypatch, lambda: assert_set(released))


def assert_set(event: threading.Event) -> None:
    assert event.wait(TIMEOUT)


def test_a_reactor_that_ends_at_once(
    released: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExecutorUnavailableError, match="the reactor of the Flux handle ended"):
        open_with(monkeypatch, lambda: None)


def test_an_instance_that_goes_meanwhile(
    released: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ConnectionResetError("Connection reset by peer")

    with pytest.raises(ExecutorUnavailableError, match="Connection reset by peer") as caught:
        open_with(monkeypatch, fail)
    assert isinstance(caught.value.__cause__, ConnectionResetError)


def test_ctrl_c_while_it_hangs(released: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flux_executor, "ABANDON_SECONDS", 0.01)
    main = threading.main_thread().ident
    assert main is not None

    def hang() -> None:
        signal.pthread_kill(main, signal.SIGINT)
        assert_set(released)

    with pytest.raises(KeyboardInterrupt):
        open_with(monkeypatch, hang)
    assert not released.is_set(), "it was not waited for"


def test_a_thread_left_behind_posts_nothing(
    released: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flux_executor, "CLOSE_SECONDS", -2.0)  # it does not wait at all

    def hang_and_go() -> None:
        assert_set(released)
        raise ConnectionResetError

    def tell_all(self: Handle, on_message: Callable[..., None], *args: Any) -> None:
        message = {"id": -1, "events": []}
        on_message(SimpleNamespace(get=lambda: message, reset=lambda: None), *args)

    monkeypatch.setattr(Handle, "then", tell_all)
    events = open_with(monkeypatch, hang_and_go)
    (thread,) = [one for one in threading.enumerate() if one.name == "matensemble-flux"]
    released.set()
    thread.join(TIMEOUT)
    assert not thread.is_alive()
    assert events == []
