"""A study that goes on only when it is told to: each gate is a file that the test makes.

    python study.py GATES

The chores print what a reader of logs must cope with: progress bars, colours, and mark-up that a
page must show and not obey.
"""

import sys
import time
from pathlib import Path

from matensemble.pipeline import Pipeline

GATES = Path(sys.argv[1])
SCRIPT = "<script>window.wasObeyed = true</script><img src=x onerror='window.wasObeyed = true'>"


def wait_for(gate: str) -> None:
    print(f"waiting for {gate}", flush=True)
    while not (GATES / gate).exists():
        time.sleep(0.05)


with Pipeline() as pipe:

    @pipe.chore(name="relax")
    def relax(number):
        print(f"\x1b[32mstep 0\x1b[0m of {number} {SCRIPT}", flush=True)
        if number >= 4:
            wait_for("middle")
        return number

    @pipe.chore(name="anneal")
    def anneal():
        wait_for("log")
        print("line behind the gate", flush=True)
        wait_for("end")
        return 1.0

    @pipe.chore(name="fragile")
    def fragile():
        if not (GATES / "mended").exists():
            raise ValueError(f"atom 7 left the box {SCRIPT}")
        return 2.0

    @pipe.chore(name="endless")
    def endless():
        wait_for("never")

    @pipe.chore(name="fit")
    def fit(energies, first):
        return sum(energies) + first

    # More than can run at once would wait for cores, and so for gates that others hold.
    fit(relax.map(range(8)), anneal())
    fit([fragile()], 0.0)
    endless()
    pipe.submit(cores=16, log_delay=0.5)
