"""Threads for what takes time: their order, their end, and what becomes of a failure."""

from __future__ import annotations

import logging
import threading

import pytest

from matensemble.runtime.background import BackgroundThread, map_in_threads

LOGGER = logging.getLogger("matensemble.test_background")
PATIENCE_SECONDS = 20.0


def test_all_is_done_in_order_on_one_other_thread_before_it_closes():
    done = []
    background = BackgroundThread("side", LOGGER)
    for number in range(100):
        background.do(
            "counting", lambda number=number: done.append((number, threading.current_thread().name))
        )
    background.close()
    background.close()
    assert done == [(number, "side") for number in range(100)]
    with pytest.raises(RuntimeError, match="side is closed"):
        background.do("counting", list)


def test_a_failure_is_told_and_holds_up_nothing(caplog):
    done = []
    background = BackgroundThread("side", LOGGER)
    background.do("dividing by 0", lambda: 1 / 0)
    background.do("going on", lambda: done.append(1))
    background.close()
    assert done == [1]
    assert "dividing by 0 failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_what_waits_can_be_abandoned():
    done = []
    has_begun = threading.Event()
    background = BackgroundThread("side", LOGGER)

    def hand_over_until_it_is_closed():
        has_begun.set()
        with pytest.raises(RuntimeError):
            while True:
                background.do("more", lambda: done.append("more"))
        done.append("first")

    background.do("the first", hand_over_until_it_is_closed)
    assert has_begun.wait(PATIENCE_SECONDS)
    background.close(abandon=True)
    assert done == ["first"]


def test_answers_come_in_the_order_of_the_questions_and_several_are_found_at_once():
    together = threading.Barrier(3, timeout=PATIENCE_SECONDS)

    def double(number):
        if number < 3:
            together.wait()  # passed only by three at once
        return 2 * number

    assert map_in_threads(double, range(50), 3, "look") == [2 * n for n in range(50)]
    assert map_in_threads(double, [], 3, "look") == []
    assert map_in_threads(double, [7], 3, "look") == [14]


def test_the_first_failure_is_raised_and_nothing_more_is_begun():
    begun = []

    def fail(number):
        begun.append(number)
        raise ValueError(f"number {number}")

    with pytest.raises(ValueError, match="number 0"):
        map_in_threads(fail, range(1000), 1, "look")
    assert begun == [0]
