"""Fifty processes race for a run, again and again: one of them gets it, each time.

The winner of a race is killed, or stopped until the others take it for dead and then continued.
``MATENSEMBLE_LONG=1`` runs many more races; ``pytest -rP`` shows how many there were.

Started as a program, this file is the arena: one process that forks the racers.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import pytest

from matensemble import disk
from matensemble.errors import RunOwnedError
from matensemble.model import RunState
from matensemble.owner import present_owner
from matensemble.runs import look_at
from matensemble.runtime.owner import claim
from matensemble.status import RunStatus
from matensemble.workdir import RunDir

NUM_RACERS = 50
NUM_RACES = 200 if os.environ.get("MATENSEMBLE_LONG") else 3
SILENCE_SECONDS = 5.0
"""Of a stopped winner. Long enough for a winner that runs to publish, however busy the machine."""
WAIT_SCALE = 0.05
"""Racers look at the heartbeat twenty times as often as drivers do."""
BEAT_SECONDS = 0.05
PATIENCE_SECONDS = 60.0


# --- the racers -------------------------------------------------------------------------------


def race(run: RunDir, start: int, news: int) -> None:
    """Claim the run as soon as all may; drive it until somebody else does."""

    def tell(*words: object) -> None:
        os.write(news, (" ".join(map(str, (os.getpid(), *words))) + "\n").encode())

    tell("ready")
    os.read(start, 1)  # until the arena closes the other end
    try:
        lease = claim(
            run,
            time,  # type: ignore[arg-type]  # a module is a clock
            wait=lambda seconds: time.sleep(seconds * WAIT_SCALE),
            silence=SILENCE_SECONDS,
        )
    except RunOwnedError as error:
        tell("refused", error.pid)
        return
    tell("owner", lease.epoch)
    beat = 0
    while not lease.is_deposed():
        beat += 1
        status = RunStatus(run="r", state=RunState.RUNNING, epoch=lease.epoch, beat=beat)
        disk.write_atomic(run.status_path, json.dumps(status.to_json()).encode())
        time.sleep(BEAT_SECONDS)
    tell("deposed", lease.epoch)


# --- the arena --------------------------------------------------------------------------------


class Arena:
    """Forks racers, listens to them, and treats the winners badly."""

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self.news_end, self.news = os.pipe()
        self.rest = b""
        self.stopped: int | None = None

    def fork(self, start: int, start_end: int) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            os.close(start_end)
            os.close(self.news_end)
            logging_to_nowhere()
            race(self.run, start, self.news)
            code = 0
        finally:
            os._exit(code)

    def hear(self) -> list[str]:
        """Return the words of the next line: who, what, about whom or what."""
        while b"\n" not in self.rest:
            assert select.select([self.news_end], [], [], PATIENCE_SECONDS)[0], "nothing is said"
            self.rest += os.read(self.news_end, 65536)
        line, _, self.rest = self.rest.partition(b"\n")
        return line.decode().split()

    def hold_race(self) -> tuple[int, int]:
        """Let fifty race; return process and epoch of the one that won."""
        start, start_end = os.pipe()
        racers = {self.fork(start, start_end) for _ in range(NUM_RACERS)}
        os.close(start)
        for _ in racers:
            assert self.hear()[1] == "ready"
        os.close(start_end)
        said = [self.hear() for _ in racers]
        counts = Counter(words[1] for words in said)
        assert counts == {"owner": 1, "refused": NUM_RACERS - 1}, said
        assert {int(words[0]) for words in said} == racers
        winner, epoch = next((int(w[0]), int(w[2])) for w in said if w[1] == "owner")
        assert {int(words[2]) for words in said if words[1] == "refused"} == {winner}
        for pid in racers - {winner}:
            assert os.waitpid(pid, 0)[1] == 0
        return winner, epoch

    def continue_stopped(self, epoch: int) -> None:
        """Continue the winner of the race before, which must see that it lost the run."""
        pid, self.stopped = self.stopped, None
        if pid is None:
            return
        os.kill(pid, signal.SIGCONT)
        assert self.hear() == [str(pid), "deposed", str(epoch - 1)]
        assert os.waitpid(pid, 0)[1] == 0
        # Perhaps it was stopped just before it published, and did so when it went on.
        status = look_at(self.run).status
        assert status is not None
        assert status.epoch == epoch

    def end_winner(self, winner: int, index: int) -> None:
        """Stop it, or kill it; every other dead one stays unburied where that can be seen."""
        if index % 2 == 0:
            os.kill(winner, signal.SIGSTOP)
            os.waitpid(winner, os.WUNTRACED)
            self.stopped = winner
            return
        os.kill(winner, signal.SIGKILL)
        if index % 4 == 1 and sys.platform == "linux":
            os.waitid(os.P_PID, winner, os.WEXITED | os.WNOWAIT)
        else:
            os.waitpid(winner, 0)

    def run_races(self, num_races: int) -> None:
        for index in range(num_races):
            winner, epoch = self.hold_race()
            assert epoch == index + 1
            owner = present_owner(self.run)
            assert owner is not None
            assert (owner.pid, owner.epoch) == (winner, epoch)
            self.continue_stopped(epoch)
            self.end_winner(winner, index)
        if self.stopped is not None:
            os.kill(self.stopped, signal.SIGKILL)  # it would hold the output open
        print(f"{num_races} races of {NUM_RACERS} processes, one winner each")


def logging_to_nowhere() -> None:
    import logging

    logging.getLogger("matensemble").addHandler(logging.NullHandler())


def refuse_links() -> None:
    """Let this be a file system without hard links."""

    def link(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    os.link = link  # type: ignore[assignment]


if __name__ == "__main__":
    if sys.argv[3] == "without":
        refuse_links()
    try:
        Arena(RunDir(Path(sys.argv[1]))).run_races(int(sys.argv[2]))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os.killpg(0, signal.SIGKILL)  # the racers, and this process


# --- the test ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(60 + 30 * NUM_RACES)
@pytest.mark.parametrize("links", ["with", "without"])
def test_of_fifty_racers_one_wins(tmp_path, links):
    command = [sys.executable, __file__, str(tmp_path), str(NUM_RACES), links]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as arena:
        try:
            output, _ = arena.communicate(timeout=50 + 30 * NUM_RACES)
        finally:
            if arena.poll() is None:
                os.killpg(arena.pid, signal.SIGKILL)
    print(output)
    assert arena.returncode == 0, output
    assert output.endswith(f"{NUM_RACES} races of {NUM_RACERS} processes, one winner each\n")
    claims = {f"owner-{epoch}.json" for epoch in range(2, NUM_RACES + 1)}
    left = {path.name for path in tmp_path.iterdir()} - {"status.json"}
    assert left == {"owner.json", *claims}
