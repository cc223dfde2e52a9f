"""A large machine rehearsed: many jobs of one run on hundreds of nodes that Flux only imagines.

    python benchmarks/flux_scale.py [--nodes 16 64 1000] [--jobs N] [--full] [--out FILE]

Each machine is a `flux start` of its own, on one broker: with nothing set (``as it is``), with rank
0 left out (``exclude``), with a scheduler that is given all that waits too (``unlimited``), or with
its records in memory as well (``memory``). Flux schedules each job, and only pretends to run it.

``fast`` jobs have one core and end at once, so the rate is that of the driver and of Flux.
``steady`` ones take a node each, for as long as keeps the machine just full at half the rate of the
floor: how busy it is says what the driver loses. Each is run by a loop that submits and listens and
does nothing else (the floor), by ``flux submit``, and by MatEnsemble, in the same instance.

Processor time stands a job: of the driver, of the scheduler (a process of its own), and of the
broker. Where the machine of the benchmark is busy with others, it says more than the rate.

``--out`` writes how busy the machine was, and how large the broker, over time, for a plot.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from matensemble.manager import FluxManager
from matensemble.model import RunState
from matensemble.pipeline import Pipeline
from matensemble.protocols import RunOptions
from matensemble.runtime.executors.flux import connect, load_flux
from matensemble.runtime.executors.flux_executor import FluxExecutor
from matensemble.runtime.executors.resource_set import holdings
from matensemble.status import read_status

CORES_PER_NODE = 64
FAST_SECONDS = 0.01
EXCLUDE = ('--conf=resource.exclude="0"',)
UNLIMITED = (*EXCLUDE, '--conf=modules.sched-simple.args=["queue-depth=unlimited"]')
SITES: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "exclude": EXCLUDE,
    "unlimited": UNLIMITED,
    "memory": (*UNLIMITED, "-Sstatedir={memory}"),
}
MEMORY = Path("/dev/shm")
RUNNERS = ("floor", "flux submit", "matensemble")
JOURNAL = "job-manager.events-journal"
NUM_BINS = 60
WINDOW = 256


# --- what runs the jobs, each in a process of its own --------------------------------------------


def run_floor(num_jobs: int, cores: int, seconds: float) -> None:
    """Submit as fast as Flux takes them, and listen until all have ended."""
    flux, handle = load_flux(), connect()
    system = {"duration": 0.0, "cwd": "/", "environment": {}, "exec": mocked(seconds)}
    slot = {"type": "slot", "count": 1, "label": "task", "with": [{"type": "core", "count": cores}]}
    task = {"command": ["true"], "slot": "task", "count": {"per_slot": 1}}
    jobspec = json.dumps(
        {"version": 1, "resources": [slot], "tasks": [task], "attributes": {"system": system}}
    )
    left = {"to submit": num_jobs, "to end": num_jobs}

    def submit(count: int) -> None:
        for _ in range(min(count, left["to submit"])):
            left["to submit"] -= 1
            flux.job.submit_async(handle, jobspec, novalidate=True).then(follow_up)

    def follow_up(future: Any) -> None:
        future.get_id()
        submit(1)

    def listen(future: Any) -> None:
        names = [event["name"] for event in future.get()["events"]]
        future.reset()
        left["to end"] -= names.count("clean")
        if not left["to end"]:
            handle.reactor_stop()

    payload = {"full": False, "allow": {"clean": 1}}
    handle.rpc(JOURNAL, payload, 0, flux.constants.FLUX_RPC_STREAMING).then(listen)
    submit(WINDOW)
    handle.reactor_run()


def run_flux_submit(num_jobs: int, cores: int, seconds: float) -> None:
    """Submit by the command."""
    mock = f"--setattr=system.exec.test.run_duration={seconds}s"
    what = ("--quiet", "--wait", "--env=-*", f"--cores-per-task={cores}", mock)
    copies = f"--cc=1-{num_jobs}"
    subprocess.run(["flux", "submit", *what, copies, "true"], check=True, stdout=subprocess.DEVNULL)


def run_matensemble(num_jobs: int, cores: int, seconds: float) -> None:
    """Run executables by a whole driver."""
    with tempfile.TemporaryDirectory() as folder:
        pipe = Pipeline(folder)
        for _ in range(num_jobs):
            pipe.exec("true", cores_per_task=cores)
        run_dir = Path(pipe.save())
        executor = FluxExecutor(str(run_dir), extra_attributes={"exec": mocked(seconds)})
        begin()
        FluxManager(run_dir, RunOptions(executor="flux", workers="job"), executor=executor).run()
        report()
        if read_status(run_dir / "status.json").state is not RunState.COMPLETED:
            raise SystemExit("the run was not completed")


def mocked(seconds: float) -> dict[str, Any]:
    """Return the attribute by which Flux only pretends to run a job."""
    return {"test": {"run_duration": f"{seconds}s"}}


def begin() -> None:
    """Note the processor time that preparations took."""
    os.environ["PREPARED"] = str(time.process_time())


def report() -> None:
    """Print what this process took, without preparations, for `measure`."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = time.process_time() - float(os.environ["PREPARED"])
    used += children.ru_utime + children.ru_stime
    memory = max(own.ru_maxrss, children.ru_maxrss) / 1024
    print(json.dumps({"cpu": used, "memory_mb": memory}))


# --- what watches them, inside the instance ------------------------------------------------------


class BrokerWatch(threading.Thread):
    """Notes how large the processes of the broker are, and what they used, twice a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, float]] = []
        """Time, and megabytes of all its processes."""
        self._pids = [pid, *self._modules(pid)]
        self._over = threading.Event()

    @staticmethod
    def _modules(pid: int) -> Iterator[int]:
        """Yield the modules that are processes: the scheduler."""
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                command = (stat.parent / "cmdline").read_bytes()
                if parent == pid and b"flux-module-python-exec" in command:
                    yield int(stat.parent.name)

    def run(self) -> None:
        """Sample from now until `end`."""
        is_over = False
        while not is_over:
            is_over = self._over.wait(0.5 if self.samples else 0.0)
            self.samples.append((time.time(), self._megabytes()))

    def _megabytes(self) -> float:
        pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._pids)
        return sum(pages) * os.sysconf("SC_PAGESIZE") / 1e6

    def cpu(self) -> list[float]:
        """Return the processor seconds of broker and scheduler so far."""
        tick = os.sysconf("SC_CLK_TCK")
        stats = [
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self._pids
        ]
        return [(int(fields[11]) + int(fields[12])) / tick for fields in stats]

    def end(self) -> None:
        """Stop sampling."""
        self._over.set()
        self.join()


def measure(runner: str, num_jobs: int, cores: int, seconds: float) -> dict[str, Any]:
    """Let one runner run its jobs, and return what came of it."""
    handle = connect()
    watch = BrokerWatch(int(handle.attr_get("broker.pid")))
    before, began_at = watch.cpu(), time.time()
    watch.start()
    told = subprocess.run(
        [sys.executable, __file__, "--run", runner, str(num_jobs), str(cores), str(seconds)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    subprocess.run(["flux", "queue", "idle", "--quiet"], check=True)  # the last may not be over
    after = watch.cpu()
    watch.end()
    used = json.loads(told.splitlines()[-1])
    spans = list(job_spans(handle, began_at))
    first, last = min(s for s, _, _ in spans), max(e for _, e, _ in spans)
    server = [(a - b) / num_jobs * 1e3 for a, b in zip(after, before, strict=True)]
    return {
        "runner": runner,
        "jobs": num_jobs,
        "told": len(spans),
        "seconds": last - first,
        "rate": len(spans) / (last - first),
        "driver_ms": used["cpu"] / num_jobs * 1e3,
        "driver_mb": used["memory_mb"],
        "broker_ms": server[0],
        "scheduler_ms": sum(server[1:]),
        "broker_mb": watch.samples[-1][1],
        "busy": busy_over_time(spans, first, last),
        "broker_mb_over_time": [(at - began_at, size) for at, size in watch.samples],
    }


def job_spans(handle: Any, since: float) -> Iterator[tuple[float, float, int]]:
    """Yield allocation, release and cores of each job that Flux remembers from a time on."""
    streaming = load_flux().constants.FLUX_RPC_STREAMING
    payload = {"full": True, "allow": {"submit": 1, "alloc": 1, "free": 1}}
    history = handle.rpc(JOURNAL, payload, 0, streaming)
    while (message := history.get())["id"] != -1:
        history.reset()
        times = {event["name"]: event["timestamp"] for event in message["events"]}
        if times["submit"] >= since and "free" in times:
            held = holdings(message["R"])
            yield times["alloc"], times["free"], sum(cores for cores, _ in held.values())


def busy_over_time(spans: list[tuple[float, float, int]], first: float, last: float) -> list[float]:
    """Return the mean number of busy cores in each of `NUM_BINS` equal parts of the time."""
    width = (last - first) / NUM_BINS
    busy = [0.0] * NUM_BINS
    for begin_at, end_at, cores in spans:
        begin_bin, end_bin = (begin_at - first) / width, (end_at - first) / width
        for bin_ in range(int(begin_bin), min(int(end_bin) + 1, NUM_BINS)):
            busy[bin_] += cores * (min(end_bin, bin_ + 1) - max(begin_bin, bin_))
    return busy


def measure_machine(num_nodes: int, num_jobs: int, is_steady: bool) -> Iterator[dict[str, Any]]:
    """Yield what each runner makes of the instance around this process."""
    total = resource_cores()
    rate = 0.0
    for runner in RUNNERS:
        case = measure(runner, num_jobs, 1, FAST_SECONDS)
        rate = rate or case["rate"]
        yield {"load": "fast", **case}
    if is_steady:
        seconds = round(num_nodes / (rate / 2), 3)
        for runner in ("floor", "matensemble"):
            case = measure(runner, max(num_jobs, 3 * num_nodes), CORES_PER_NODE, seconds)
            middle = case["busy"][NUM_BINS // 4 : -NUM_BINS // 4]
            yield {"load": "steady", "utilisation": sum(middle) / len(middle) / total, **case}


def resource_cores() -> int:
    """Return the cores of the instance."""
    return int(load_flux().resource.resource_list(connect()).get().up.ncores)


# --- the table -----------------------------------------------------------------------------------


def start_machine(
    num_nodes: int, site: str, num_jobs: int, is_steady: bool
) -> Iterator[dict[str, Any]]:
    """Start an instance, and yield what `measure_machine` finds there, as it comes."""
    with tempfile.TemporaryDirectory(dir=MEMORY if site == "memory" else None) as folder:
        command = [
            *("flux", "start"),
            f"--conf=fake-resources.nnodes={num_nodes}",
            f"--conf=fake-resources.cores-per-node={CORES_PER_NODE}",
            *(option.replace("{memory}", folder) for option in SITES[site]),
            *(sys.executable, __file__, "--inside", "--nodes", str(num_nodes)),
            *("--jobs", str(num_jobs), *(() if is_steady else ("--fast-only",))),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as instance:
            assert instance.stdout is not None
            for line in instance.stdout:
                yield {"nodes": num_nodes, "site": site, **json.loads(line)}
        if instance.returncode:
            raise SystemExit(f"the instance ended with {instance.returncode}")


HEADER = (
    f"{'nodes':>5} {'site':9} {'load':6} {'runner':11} {'jobs/s':>7} {'ratio':>5} {'busy':>5}"
    f" {'driver':>9} {'scheduler':>9} {'broker':>9} {'driver':>7} {'broker':>7}"
)


def line_of(case: dict[str, Any], floor: dict[str, Any]) -> str:
    """Return a line of the table."""
    busy = f"{case['utilisation']:.0%}" if "utilisation" in case else ""
    return (
        f"{case['nodes']:5} {case['site']:9} {case['load']:6} {case['runner']:11}"
        f" {case['rate']:7.1f} {case['rate'] / floor['rate']:5.2f} {busy:>5}"
        f" {case['driver_ms']:6.2f} ms {case['scheduler_ms']:6.2f} ms {case['broker_ms']:6.2f} ms"
        f" {case['driver_mb']:4.0f} MB {case['broker_mb']:4.0f} MB"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[16, 64, 1000])
    parser.add_argument("--sites", nargs="+", choices=SITES, default=[*SITES])
    parser.add_argument("--jobs", type=int, default=400, help="a case")
    parser.add_argument("--full", action="store_true", help="100,000 jobs a case: hours")
    parser.add_argument("--fast-only", action="store_true", help="no steady load")
    parser.add_argument("--out", type=Path, help="JSON of everything")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    num_jobs = 100_000 if arguments.full else arguments.jobs
    if arguments.run:
        runner, *numbers = arguments.run
        run_one(runner, int(numbers[0]), int(numbers[1]), float(numbers[2]))
        return
    if arguments.inside:
        for case in measure_machine(arguments.nodes[0], num_jobs, not arguments.fast_only):
            print(json.dumps(case), flush=True)
        return
    cases: list[dict[str, Any]] = []
    print(HEADER)
    for num_nodes in arguments.nodes:
        for site in arguments.sites:
            floor: dict[str, Any] = {}
            for case in start_machine(num_nodes, site, num_jobs, not arguments.fast_only):
                floor = case if case["runner"] == "floor" else floor
                cases.append(case)
                print(line_of(case, floor), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(cases, indent=1))


def run_one(runner: str, num_jobs: int, cores: int, seconds: float) -> None:
    """Be the process of a runner."""
    begin()
    run = {"floor": run_floor, "flux submit": run_flux_submit, "matensemble": run_matensemble}
    run[runner](num_jobs, cores, seconds)
    if runner != "matensemble":
        report()


if __name__ == "__main__":
    main()
