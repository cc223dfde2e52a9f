"""Ctrl-C and SIGTERM on real processes: exit code, what the disk says, and that nothing is left."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from matensemble.model import RunState
from matensemble.status import read_status

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SCRIPT = """
import atexit, os, pathlib, sys, time
from matensemble.pipeline import Pipeline

folder = pathlib.Path(sys.argv[1])
pipe = Pipeline(folder / "runs")

@pipe.chore
def nap(marks):
    pathlib.Path(marks, f"{os.getpid()}").touch()
    time.sleep(600)

nap(folder)
pipe.exec(["sh", "-c", f"touch {folder}/$$; sleep 601 & wait"], name="sleeper")
nap(folder)  # waits for a core
if sys.argv[2] == "save":
    pipe.save()
else:
    atexit.register(print, "goodbye")
    pipe.submit()
"""

Wait = Callable[..., Any]
Start = Callable[..., "subprocess.Popen[str]"]


class Study:
    """A run of chores that sleep, in a process of its own."""

    def __init__(self, folder: Path, start: Start, wait_until: Wait) -> None:
        self.folder = folder
        self.script = folder / "study.py"
        self.script.write_text(SCRIPT)
        self._start = start
        self.wait_until = wait_until

    @property
    def run_dir(self) -> Path:
        return next((self.folder / "runs").iterdir())

    def pids(self) -> list[int]:
        return [int(path.name) for path in self.folder.iterdir() if path.name.isdigit()]

    def start_script(self) -> subprocess.Popen[str]:
        process = self._start(str(self.script), str(self.folder), "submit")
        self.wait_until(lambda: len(self.pids()) == 2)
        return process

    def start_command(self, **streams: Any) -> subprocess.Popen[str]:
        saving = self._start(str(self.script), str(self.folder), "save")
        assert saving.wait(60) == 0
        process = self._start("-m", "matensemble.cli", "run", str(self.run_dir), **streams)
        self.wait_until(lambda: len(self.pids()) == 2)
        return process

    def assert_nothing_is_left(self, timeout: float = 5.0) -> None:
        self.wait_until(lambda: not any(map(_is_alive, self.pids())), timeout)

    def state(self) -> RunState:
        return read_status(self.run_dir / "status.json").state


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def study(tmp_path: Path, start: Start, wait_until: Wait) -> Study:
    return Study(tmp_path, start, wait_until)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_the_command_in_order(study: Study, number: signal.Signals) -> None:
    process = study.start_command()
    started = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - started < 10
    assert process.returncode == 130
    assert study.state() is RunState.INTERRUPTED
    study.assert_nothing_is_left()
    assert "interrupted: 0 of 3 completed, 3 pending" in out
    assert f"the run was interrupted ({number.name})" in err
    assert "Traceback" not in err


def test_a_second_ctrl_c_leaves_at_once(study: Study) -> None:
    process = study.start_command()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    try:
        process.wait(0.2)
    except subprocess.TimeoutExpired:  # the two came as one
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    study.assert_nothing_is_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_script_that_has_ended_dies_of_the_signal(study: Study, number: signal.Signals) -> None:
    process = study.start_script()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == -number, err
    assert out == "goodbye\n"  # what else is due at its end is done before, once
    assert study.state() is RunState.INTERRUPTED
    study.assert_nothing_is_left()
    assert f"matensemble: the run was interrupted ({number.name})" in err


def test_ctrl_c_on_a_terminal_leaves_it_as_it_was(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    ours, theirs = pty.openpty()
    shown = bytearray()
    reader = threading.Thread(target=_read_all, args=(ours, shown), daemon=True)
    reader.start()
    process = study.start_command(stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    study.wait_until(lambda: "╍" in shown.decode(errors="replace"))  # the picture of what runs
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    reader.join(10)
    os.close(ours)
    text = shown.decode()
    assert "\x1b[?25l" not in text  # the cursor was never hidden, so nothing can leave it so
    assert "\x1b[?1049h" not in text  # nor was another screen taken
    assert "0 of 3 completed, 3 pending" in text


def _read_all(descriptor: int, into: bytearray) -> None:
    while True:
        try:
            data = os.read(descriptor, 4096)
        except OSError:  # Linux: the other side is closed
            return
        if not data:
            return
        into += data
