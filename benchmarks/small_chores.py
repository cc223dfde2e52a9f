"""S3 and S9: chores that take no time, on warm workers, against pools that keep nothing.

    python benchmarks/small_chores.py [--rounds N] [--share X] [--peers-python PATH]
    flux start python benchmarks/small_chores.py --executor flux

Each case has a process of its own in each round, and the cases take turns; medians of their rates
are compared. ``cold`` begins before the workers start and has `COLD_CHORES` chores; ``warm`` has
`WARM_CHORES`, on workers that are up. Ours writes a result, stdout where the contract has it, and
a journal for each chore, and is timed until the last of it is on the disk (see `ours`); the peers
are timed until the results are back in memory (see `peers`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ours
import peers
from row import HEADER, LeftOut, Row, print_rows
from scratch import scratch

COLD_CHORES = 4000
WARM_CHORES = 16000
"""More, so that what a run costs once hardly counts."""
FEW_CHORES = 1000
"""For what is slow: rates are compared."""
OURS = "MatEnsemble"
STARTS = ("warm", "cold")

Figures = Mapping[str, float]
"""Chores a second by start: ``warm`` and ``cold``."""


@dataclass(frozen=True)
class Case:
    """One system at one kind of chores."""

    title: str
    counts: Mapping[str, int]
    """Number of chores by start."""
    measure: Callable[[], Mapping[str, float]]
    """Returns seconds by start."""


def our_case(kind: str, executor: str, slots: int, counts: Mapping[str, int]) -> Case:
    """Return ours."""
    setting = ours.Setting(slots, executor)
    return Case(OURS, counts, lambda: ours.measure(setting, kind, **counts))


def peer_case(name: str, kind: str, slots: int, counts: Mapping[str, int], python: str) -> Case:
    """Return a peer."""

    def measure() -> Mapping[str, float]:
        return peers.measure(python, name, kind, slots=slots, **counts)

    return Case(peers.PEERS[name].title, counts, measure)


def cases_of(kind: str, executor: str, slots: int, share: float, python: str) -> list[Case]:
    """Return what is compared: ours first, then the floor, then the others."""
    many = {"cold": max(1, round(COLD_CHORES * share)), "warm": max(1, round(WARM_CHORES * share))}
    few = dict.fromkeys(STARTS, max(1, round(FEW_CHORES * share)))
    if kind == "programs":
        own, names = few, {"hyperqueue": few, "processes": few}
    elif executor == "flux":
        own, names = many, {"executorlib-flux": many}
    else:
        own, names = many, {"executorlib": many, "processes": many, "dask": few, "parsl": few}
    others = (peer_case(name, kind, slots, counts, python) for name, counts in names.items())
    return [our_case(kind, executor, slots, own), *others]


def measure(cases: list[Case], rounds: int) -> dict[str, Figures | str]:
    """Return the median rates of each case by title, or why there are none."""
    rates: dict[str, dict[str, list[float]]] = {}
    missing: dict[str, str] = {}
    for _ in range(rounds):
        for case in cases:
            if case.title in missing:
                continue
            try:
                seconds = case.measure()
            except peers.PeerError as error:
                missing[case.title] = str(error)
                continue
            for start in STARTS:
                rate = case.counts[start] / seconds[start]
                rates.setdefault(case.title, {}).setdefault(start, []).append(rate)
    return {
        case.title: missing.get(case.title)
        or {start: statistics.median(values) for start, values in rates[case.title].items()}
        for case in cases
    }


class Comparison:
    """Rates of one kind of chores at one place, against the one that the target names.

    Parameters
    ----------
    target, what
        As in `Row`.
    floor
        Title of the case that the others are divided by.
    limits
        What the target demands of ours, by start.
    """

    def __init__(self, target: str, what: str, floor: str, limits: Mapping[str, float]) -> None:
        self._target = target
        self._what = what
        self._floor = floor
        self._limits = limits

    def rows(self, measured: Mapping[str, Figures | str]) -> Iterator[Row | LeftOut]:
        """Yield the rows of all systems, warm and cold."""
        for system, figures in measured.items():
            if isinstance(figures, str):
                yield LeftOut(self._target, f"{self._what}: {system}", figures)
        for start in STARTS:
            yield from self._rows_of(start, measured)

    def _rows_of(self, start: str, measured: Mapping[str, Figures | str]) -> Iterator[Row]:
        floor = measured[self._floor]
        for system, figures in measured.items():
            if isinstance(figures, str):
                continue
            yield Row(
                self._target,
                f"{self._what}, {start} start: {system}",
                figures[start],
                "chores/s",
                None if isinstance(floor, str) else figures[start] / floor[start],
                self._limits.get(start) if system == OURS else None,
                at_least=True,
                chart=f"Chores a second: {self._what}",
                bar=f"{system}, {start}",
            )


COMPARISONS: Mapping[tuple[str, str], Comparison] = {
    ("calls", "local"): Comparison(
        "S3", "functions, local", peers.PEERS["executorlib"].title, {"warm": 1.5, "cold": 1.2}
    ),
    ("calls", "flux"): Comparison(
        "S3",
        "functions, Flux",
        peers.PEERS["executorlib-flux"].title,
        {"warm": 1.5, "cold": 1.2},
    ),
    ("programs", "local"): Comparison(
        "S9", "`true` as a program, local", peers.PEERS["hyperqueue"].title, {"warm": 1.0}
    ),
    ("programs", "flux"): Comparison(
        "S9", "`true` as a program, Flux", peers.PEERS["hyperqueue"].title, {"warm": 1.0}
    ),
}


def measure_all(
    executor: str, rounds: int, share: float, python: str
) -> dict[str, dict[str, Figures | str]]:
    """Return what `measure` returns, by kind of chores."""
    slots = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return {
        kind: measure(cases_of(kind, executor, slots, share, python), rounds)
        for kind, where in COMPARISONS
        if where == executor
    }


def rows(
    executor: Literal["local", "flux"], rounds: int, share: float, python: str
) -> Iterator[Row | LeftOut]:
    """Yield S3 and S9 at one place; on Flux inside a broker of their own."""
    if executor == "local":
        measured = measure_all(executor, rounds, share, python)
    else:
        command = ["flux", "start", sys.executable, str(Path(__file__)), "--json"]
        command += ["--executor", executor, "--rounds", str(rounds), "--share", str(share)]
        command += ["--peers-python", python]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        measured = json.loads(answer.splitlines()[-1])
    for kind, by_system in measured.items():
        yield from COMPARISONS[kind, executor].rows(by_system)


def main() -> None:
    """Print the table, or JSON for the process outside of the broker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executor", choices=("local", "flux"), default="local")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of chores")
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with scratch():
        measured = measure_all(asked.executor, asked.rounds, asked.share, asked.peers_python)
    if asked.json:
        print("\n" + json.dumps(measured))
        return
    print(HEADER)
    for kind, by_system in measured.items():
        print_rows(COMPARISONS[kind, asked.executor].rows(by_system))


if __name__ == "__main__":
    main()
