"""Other systems at the same work: no-op chores on their warm workers, and whole graphs.

Owns how each peer is set up and used in its own fastest idiom, and nothing of ours: this file runs
under an interpreter that need not have MatEnsemble, in a process of its own for each case. The
other benchmarks call `measure`, which starts it::

    python benchmarks/peers.py executorlib calls --cold 4000 --warm 16000
    python benchmarks/peers.py dask graph --file graph.json

It prints one line of JSON: seconds from a cold start (the pool is made, and all results are back),
seconds from a warm one (the same again, in the same pool), and the version. Imports and the
end of a pool are not timed; files stay, see `scratch`. A peer that is not installed says so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

KINDS = ("calls", "programs", "graph")
TIMEOUT_SECONDS = 900.0
"""After this a peer is given up: it hangs, which is a result too."""


# --- what chores do -------------------------------------------------------------------------------


def square(number: int) -> int:
    """Do nothing much."""
    return number**2


def run_true(_: int) -> int:
    """Run the cheapest program; return its exit code."""
    return subprocess.run(["true"], check=False).returncode


def nap(seconds: float, *_upstream: object) -> float:
    """Take the time that a chore of a graph takes."""
    import time  # Parsl ships the function without the names around it

    time.sleep(seconds)
    return seconds


# --- the peers ------------------------------------------------------------------------------------


class Pool:
    """Workers of a peer that are ready, as `concurrent.futures` would offer them.

    Parameters
    ----------
    submit
        Takes a function and its arguments, which may be futures of earlier ones where the peer
        knows graphs; returns a future.
    gather
        Returns the results of futures; None asks each.
    """

    def __init__(
        self,
        submit: Callable[..., Any],
        gather: Callable[[list[Any]], list[Any]] | None = None,
    ) -> None:
        self._submit = submit
        self._gather = gather or (lambda futures: [future.result() for future in futures])

    def calls(self, count: int) -> float:
        """Run no-op functions, check their results, and return when these were back."""
        futures = [self._submit(square, number) for number in range(count)]
        results = self._gather(futures)
        ended_at = time.time()
        assert results == [number**2 for number in range(count)]
        return ended_at

    def programs(self, count: int) -> float:
        """Run ``true`` from functions, where the peer has no better way."""
        futures = [self._submit(run_true, number) for number in range(count)]
        assert not any(self._gather(futures))
        return time.time()

    def graph(self, naps: Sequence[tuple[float, Sequence[int]]]) -> float:
        """Run a graph: seconds and positions of the upstream chores, each after its upstream."""
        futures: list[Any] = []
        for seconds, upstream in naps:
            futures.append(self._submit(nap, seconds, *[futures[place] for place in upstream]))
        assert self._gather(futures) == [seconds for seconds, _ in naps]
        return time.time()


@contextmanager
def open_processes(slots: int, _: str) -> Iterator[Pool]:
    """Open the standard library's pool, which keeps nothing and survives nothing."""
    with ProcessPoolExecutor(slots) as pool:
        yield Pool(pool.submit)


@contextmanager
def open_executorlib(slots: int, _: str) -> Iterator[Pool]:
    """Open executorlib's block allocation on this machine."""
    from executorlib import SingleNodeExecutor

    with SingleNodeExecutor(
        max_workers=slots, block_allocation=True, hostname_localhost=True
    ) as pool:
        yield Pool(pool.submit)


@contextmanager
def open_executorlib_on_flux(slots: int, _: str) -> Iterator[Pool]:
    """Open executorlib's block allocation with workers that are Flux jobs."""
    from executorlib import FluxJobExecutor

    with FluxJobExecutor(max_workers=slots, block_allocation=True) as pool:
        yield Pool(pool.submit)


@contextmanager
def open_dask(slots: int, folder: str) -> Iterator[Pool]:
    """Open a cluster of Dask worker processes with one thread each."""
    import dask
    import distributed

    dask.config.set({"distributed.scheduler.worker-saturation": "inf"})  # as many as it likes
    with (
        distributed.LocalCluster(
            n_workers=slots, threads_per_worker=1, dashboard_address=None, local_directory=folder
        ) as cluster,
        distributed.Client(cluster) as client,
    ):

        def submit(function: Callable[..., Any], *arguments: Any) -> Any:
            return client.submit(function, *arguments, pure=False)

        yield Pool(submit, client.gather)


@contextmanager
def open_parsl(slots: int, folder: str) -> Iterator[Pool]:
    """Open Parsl with its HighThroughputExecutor."""
    import parsl
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    # Its programs are looked up on the PATH.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    executor = HighThroughputExecutor(
        address="127.0.0.1",
        max_workers_per_node=slots,
        cores_per_worker=1e-3,  # as many as asked for, also where that is more than there are
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )
    config = parsl.Config(executors=[executor], run_dir=folder, initialize_logging=False)
    with parsl.load(config):
        apps = {function: parsl.python_app(function) for function in (square, nap)}
        yield Pool(lambda function, *arguments: apps[function](*arguments))


class HyperQueuePool(Pool):
    """HyperQueue by its Python interface; each program's stdout is a file, as ours is."""

    def __init__(self, client: Any, folder: str) -> None:
        super().__init__(client.submit)
        self._client = client
        self._folder = folder

    def programs(self, count: int) -> float:
        """Run programs as tasks of one job; its client looks once a second, so the files tell."""
        from hyperqueue import Job

        folder = Path(tempfile.mkdtemp(dir=self._folder))
        job = Job(folder)
        for _ in range(count):
            job.program(["true"], stderr=None)
        assert self._client.wait_for_jobs([self._client.submit(job)])
        outputs = list(folder.iterdir())
        assert len(outputs) == count
        return max(output.stat().st_mtime for output in outputs)


@contextmanager
def open_hyperqueue(slots: int, folder: str) -> Iterator[Pool]:
    """Open a HyperQueue server with one worker."""
    from hyperqueue.cluster import LocalCluster, WorkerConfig

    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=slots))
        yield HyperQueuePool(cluster.client(), folder)


@dataclass(frozen=True)
class Peer:
    """One system."""

    title: str
    package: str
    """Its distribution, empty for the standard library."""
    open: Callable[[int, str], AbstractContextManager[Pool]]
    """Takes the number of slots and a folder for its files."""
    kinds: tuple[str, ...]
    """What it is measured at."""


PEERS = {
    "processes": Peer("ProcessPoolExecutor", "", open_processes, ("calls", "programs")),
    "executorlib": Peer("executorlib, blocks", "executorlib", open_executorlib, ("calls",)),
    "executorlib-flux": Peer(
        "executorlib, blocks on Flux", "executorlib", open_executorlib_on_flux, ("calls",)
    ),
    "dask": Peer("Dask distributed", "distributed", open_dask, ("calls", "graph")),
    "parsl": Peer("Parsl HTEX", "parsl", open_parsl, ("calls", "graph")),
    "hyperqueue": Peer("HyperQueue", "hyperqueue", open_hyperqueue, ("programs",)),
}


# --- measuring, in the process of the peer --------------------------------------------------------


def _version_of(peer: Peer) -> str:
    return version(peer.package) if peer.package else sys.version.split()[0]


def measure_here(
    name: str, kind: str, cold: int, warm: int, slots: int, file: str
) -> dict[str, Any]:
    """Return the figures of a peer; raises ImportError where it is not installed."""
    peer = PEERS[name]
    figures: dict[str, Any] = {"version": _version_of(peer)}
    folder = tempfile.mkdtemp()  # see `scratch`
    os.chdir(folder)
    with peer.open(1, folder) as pool:  # imports whatever is imported late
        (pool.programs if kind == "programs" else pool.calls)(1)
    began_at = time.time()
    with peer.open(slots, folder) as pool:
        if kind == "graph":
            naps = json.loads(Path(file).read_text())
            pool.calls(slots)
            began_at = time.time()
            figures["makespan"] = pool.graph(naps) - began_at
        else:
            run: Callable[[int], float] = getattr(pool, kind)
            figures["cold"] = run(cold) - began_at
            began_at = time.time()
            figures["warm"] = run(warm) - began_at
    return figures


def main() -> None:
    """Print the figures of one peer as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--cold", type=int, default=1000, help="chores from a cold start")
    parser.add_argument("--warm", type=int, default=1000, help="chores from a warm start")
    parser.add_argument("--slots", type=int, default=os.cpu_count())
    parser.add_argument("--file", default="", help="a graph: JSON, [[seconds, [position …]] …]")
    asked = parser.parse_args()
    try:
        figures = measure_here(
            asked.peer, asked.kind, asked.cold, asked.warm, asked.slots, asked.file
        )
    except ImportError as error:
        figures = {"missing": str(error)}
    # Some peers leave threads or processes behind that would keep this one.
    print("\n" + json.dumps(figures), flush=True)
    os._exit(0)


# --- measuring, from another process --------------------------------------------------------------


class PeerError(Exception):
    """A peer gave no figures; the text says why, in one line."""


def measure(
    python: str, name: str, kind: str, *, slots: int, cold: int = 0, warm: int = 0, file: str = ""
) -> dict[str, Any]:
    """Return the figures of one peer, measured in a process of its own.

    Parameters
    ----------
    python
        Interpreter that has the peer.
    name, kind
        Which, and at what.
    slots
        Its workers, one core each.
    cold, warm
        How many no-ops from either start.
    file
        The graph, for the kind ``graph``.

    Raises
    ------
    PeerError
        If it is not installed, fails, or has no figures after `TIMEOUT_SECONDS`.
    """
    command = [python, __file__, name, kind, "--slots", str(slots)]
    command += ["--cold", str(cold), "--warm", str(warm), "--file", file]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise PeerError(f"no answer within {TIMEOUT_SECONDS:.0f} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise PeerError(last)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "missing" in figures:
        raise PeerError(f"not installed: {figures['missing']}")
    return figures


if __name__ == "__main__":
    main()
