"""Whatever a function does or returns, through a real worker: one reason, and words to act upon.

What the worker writes about each is held in `test_worker_failure`; here is what the driver makes
of it, without ever loading a pickle.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

import pytest

from matensemble.chore import Chore
from matensemble.model import ChoreType, Reason
from matensemble.runtime.executors.base import JobEnded
from matensemble.runtime.settlement import MAX_DETAIL_CHARACTERS, settle

CHORE = Chore("chore-f-0001", "f", ChoreType.PYTHON, callable="f")


def exploding():
    class Exploding:
        def __reduce__(self):
            raise RuntimeError("cannot be reduced")

    return [Exploding()]


def fatal_reduce():
    class Fatal:
        def __reduce__(self):
            os._exit(0)

    return Fatal()


def exiting_reduce():
    class Exiting:
        def __reduce__(self):
            sys.exit(0)

    return Exiting()


def deep():
    value = []
    for _ in range(200_000):
        value = [value]
    return value


def recursing():
    return recursing()


def shout():
    raise ValueError("lattice " * 1_000_000)


def hostile():
    class Hostile(Exception):  # noqa: N818
        def __str__(self):
            raise RuntimeError("no")

    raise Hostile


def crash():
    ctypes.string_at(0)


def kill(number):
    os.kill(os.getpid(), number)


def abort():
    os.abort()


ZOO = {
    "generator": (lambda: (n for n in range(3)), Reason.UNPICKLABLE_RESULT, "a generator"),
    "open file": (
        lambda: Path(os.devnull).open("w"),  # noqa: SIM115
        *(Reason.UNPICKLABLE_RESULT, "a TextIOWrapper"),
    ),
    "reduce that raises": (exploding, Reason.UNPICKLABLE_RESULT, "an Exploding"),
    "reduce that exits": (exiting_reduce, Reason.EXCEPTION, "sys.exit(0)"),
    "reduce that ends the process": (fatal_reduce, Reason.RESULT_MISSING, "os._exit"),
    "too deep": (deep, Reason.UNPICKLABLE_RESULT, "nested too deeply"),
    "endless recursion": (recursing, Reason.EXCEPTION, "RecursionError: maximum recursion"),
    "sys.exit": (lambda: sys.exit(0), Reason.EXCEPTION, "sys.exit(0)"),
    "os._exit well": (lambda: os._exit(0), Reason.RESULT_MISSING, "os._exit"),
    "os._exit badly": (lambda: os._exit(3), Reason.NONZERO_EXIT, ""),
    "null pointer": (crash, Reason.SIGNAL, "ended by SIGSEGV: compiled code crashed"),
    "abort": (abort, Reason.SIGNAL, "ended by SIGABRT: compiled code gave up"),
    "killed": (lambda: kill(signal.SIGKILL), Reason.SIGNAL, "memory of the node"),
    "terminated": (lambda: kill(signal.SIGTERM), Reason.SIGNAL, "ended by SIGTERM"),
    "huge message": (shout, Reason.EXCEPTION, "ValueError: lattice lattice"),
    "message that raises": (hostile, Reason.EXCEPTION, "str() raised RuntimeError"),
    "lambda": (lambda: lambda x: x + 1, None, ""),
    "a value that holds itself": (lambda: (ring := [], ring.append(ring)), None, ""),
    "nothing": (lambda: None, None, ""),
    "not a number": (lambda: float("nan"), None, ""),
    "half a surrogate pair": (lambda: "\udcff", None, ""),
}


@pytest.mark.parametrize(("function", "reason", "wanted"), ZOO.values(), ids=ZOO)
def test_every_animal_has_one_reason_and_a_readable_detail(campaign, function, reason, wanted):
    campaign.add(function)
    outcome = campaign.run()
    (outcome.directory / "stderr").write_text(outcome.stderr)
    finished = settle(campaign.dir, CHORE, JobEnded(CHORE.id, 1, outcome.exit_code))
    assert finished.reason is reason
    assert wanted in finished.detail
    assert len(finished.detail) <= MAX_DETAIL_CHARACTERS
    assert finished.detail.isprintable()
    annotated = (outcome.directory / "stderr").read_text()
    if reason is None:
        assert outcome.has_result
        assert annotated == outcome.stderr
    else:
        assert not outcome.has_result
        assert f"[matensemble] {CHORE.id} failed: {reason.value}" in annotated.splitlines()[-1]
