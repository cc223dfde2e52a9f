"""Ctrl-C and SIGTERM on real processes: exit code, what the disk says, and that nothing is left."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import threading
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
deaf = "trap '' TERM;" if "deaf" in sys.argv else ""
pipe.exec(["sh", "-c", f"{deaf} touch {folder}/$$; sleep 601 & wait"], name="sleeper")
nap(folder)  # waits for a core
if sys.argv[2] == "save":
    pipe.save()
else:
    atexit.register(print, "goodbye")
    pipe.submit()
"""

PATIENT_COMMAND = """
import sys
from matensemble.runtime import engine
from matensemble.runtime.executors import launcher_process
engine.INTERRUPT_PATIENCE_SECONDS = launcher_process.TERM_GRACE_SECONDS = 3600.0
from matensemble.cli import main
main(sys.argv[1:])
"""
"""The command, but it waits for an hour for a chore that is deaf to TERM."""

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

    def start_command(
        self,
        *given: str,
        python: tuple[str, ...] = ("-m", "matensemble.cli"),
        **streams: Any,
    ) -> subprocess.Popen[str]:
        saving = self._start(str(self.script), str(self.folder), "save", *given)
        assert saving.wait(60) == 0
        process = self._start(*python, "run", str(self.run_dir), **streams)
        self.wait_until(lambda: len(self.pids()) == 2)
        return process

    def assert_nothing_is_left(self) -> None:
        self.wait_until(lambda: not any(map(_is_alive, self.pids())))

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
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert study.state() is RunState.INTERRUPTED
    study.assert_nothing_is_left()
    assert "interrupted: 0 of 3 completed, 3 pending" in out
    assert f"the run was interrupted ({number.name})" in err
    assert "Traceback" not in err


def test_a_second_ctrl_c_leaves_at_once(study: Study) -> None:
    process = study.start_command("deaf", python=("-c", PATIENT_COMMAND))
    process.send_signal(signal.SIGINT)
    study.wait_until(lambda: study.state() is RunState.DRAINING)  # the first was taken
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert study.state() is RunState.DRAINING, "it waited for nothing, not even to write"
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
