"""Signals reach every run that is alive, and nobody after the last one has ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from matensemble.runtime.signals import SignalSwitch

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def usual_handlers():
    """Begin with the handlers of an interactive Python; a job in the background ignores SIGINT."""
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def elsewhere(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join()


def test_a_signal_reaches_every_listener_once():
    switch, heard = SignalSwitch(), []
    first, second = (lambda name: heard.append((1, name))), (lambda name: heard.append((2, name)))
    switch.add(first)
    switch.add(second)
    signal.raise_signal(signal.SIGTERM)
    assert heard == [(1, "SIGTERM"), (2, "SIGTERM")]
    switch.remove(first)
    switch.remove(second)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_run_after_one_that_ended_on_its_own_thread():
    switch, heard = SignalSwitch(), []
    switch.add(print)
    elsewhere(switch.remove, print)
    switch.add(heard.append)
    signal.raise_signal(signal.SIGINT)
    assert heard == ["SIGINT"]
    switch.remove(heard.append)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_after_the_last_run_is_as_if_we_had_never_been_there():
    switch = SignalSwitch()
    switch.add(print)
    elsewhere(switch.remove, print)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
        signal.pthread_sigmask(signal.SIG_BLOCK, [])  # a moment for the pending one
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_users_own_is_called_too_and_comes_back():
    switch, heard = SignalSwitch(), []

    def users(number, frame):
        heard.append("user's")

    signal.signal(signal.SIGTERM, users)
    switch.add(heard.append)
    signal.raise_signal(signal.SIGTERM)
    assert heard == ["SIGTERM", "user's"]
    switch.remove(heard.append)
    assert signal.getsignal(signal.SIGTERM) is users


def test_a_handler_that_calls_ours_does_not_call_itself_for_ever():
    switch, heard = SignalSwitch(), []
    switch.add(heard.append)
    ours = signal.getsignal(signal.SIGTERM)
    signal.signal(
        signal.SIGTERM, lambda number, frame: (heard.append("on top"), ours(number, frame))
    )
    elsewhere(switch.remove, heard.append)
    signal.raise_signal(signal.SIGTERM)
    assert heard == ["on top"]


def test_off_the_main_thread_nothing_is_installed():
    switch = SignalSwitch()
    elsewhere(switch.add, print)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    switch = SignalSwitch()
    switch.add(print)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    switch.remove(print)


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_in_the_second_pipeline_of_a_script(tmp_path, number):
    script = textwrap.dedent(f"""
        import sys
        from matensemble.errors import RunInterruptedError
        from matensemble.pipeline import Pipeline
        first = Pipeline({str(tmp_path)!r})
        first.exec("true")
        first.submit(executor="local")
        first.results()
        second = Pipeline({str(tmp_path)!r})
        second.exec(["sh", "-c", "echo up > $MATENSEMBLE_RUN_DIR/../up; sleep 60"])
        second.submit(executor="local")
        try:
            second.results()
        except RunInterruptedError as error:
            print(error.cause)
    """)
    os.mkfifo(tmp_path / "up")
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    (tmp_path / "up").read_text()  # the chore of the second run is alive
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert output == f"{number.name}\n"
    assert process.returncode == 0
