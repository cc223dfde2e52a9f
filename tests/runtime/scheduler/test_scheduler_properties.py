"""Random graphs, shapes, failures and orders of completion: what must always hold."""

from __future__ import annotations

from hypothesis import given, settings, strategies as st

from matensemble.chore import Chore
from matensemble.model import ChoreType, Reason, Resources
from matensemble.records import RecordKind
from matensemble.references import Gather
from matensemble.runtime.scheduler import events as ev
from matensemble.runtime.scheduler.instructions import Cancel, Record, Submit
from matensemble.runtime.scheduler.policy import Policy
from matensemble.runtime.scheduler.resources import Allocation, Ledger, Node, Shape
from matensemble.runtime.scheduler.state import SchedulerState

TERMINAL = {RecordKind.COMPLETED, RecordKind.FAILED, RecordKind.CANCELLED, RecordKind.SKIPPED}

resources = st.builds(
    Resources,
    num_tasks=st.integers(1, 3),
    cores_per_task=st.integers(1, 5),
    gpus_per_task=st.sampled_from([0, 0, 1]),
)
allocations = st.lists(
    st.builds(Node, st.just("n"), st.integers(1, 6), st.integers(0, 2)), min_size=1, max_size=4
).map(lambda nodes: Allocation(tuple(nodes)))


@st.composite
def graphs(draw):
    """Return chores in topological order, some of which gather."""
    chores: list[Chore] = []
    for i in range(draw(st.integers(1, 25))):
        ups = draw(st.lists(st.integers(0, i - 1), max_size=3, unique=True)) if i else []
        stage = max((chores[u].stage for u in ups), default=0)
        deps: list = [chores[u].id for u in ups]
        if draw(st.booleans()) and draw(st.booleans()):
            deps.append(Gather("g0"))
            stage += 1
        chores.append(
            Chore(
                id=f"c{i}",
                name=f"g{i % 3}",
                kind=ChoreType.PYTHON,
                deps=tuple(deps),
                nice=draw(st.integers(-1, 1)),
                stage=stage,
                resources=draw(resources),
            )
        )
    return chores


class Run:
    """Plays the executor; everything that is drawn comes from hypothesis."""

    def __init__(self, allocation: Allocation, policy: Policy) -> None:
        self.state = SchedulerState(policy)
        self.submitted: list[tuple[str, int]] = []
        self.live: list[tuple[str, int]] = []
        self.unfreed: list[tuple[str, int]] = []
        self.ended: dict[str, RecordKind] = {}
        self.tell(ev.AllocationLearned(allocation))

    def tell(self, event) -> None:
        for order in self.state.handle(event):
            if isinstance(order, Submit):
                self.submitted.append((order.chore.id, order.attempt))
                self.live.append(self.submitted[-1])
            elif isinstance(order, Record) and order.kind in TERMINAL:
                assert order.chore_id not in self.ended, "ended twice"
                self.ended[order.chore_id] = order.kind
            elif isinstance(order, Cancel):
                assert (order.chore_id, order.attempt) in self.live
        self.state.validate()


@settings(max_examples=150, deadline=None)
@given(graphs(), allocations, st.data())
def test_every_run_ends_and_nothing_is_submitted_twice(chores, allocation, data):
    policy = Policy(
        look_ahead=data.draw(st.sampled_from([0, 0, 3]), "look ahead"),
        patience=data.draw(st.sampled_from([0.0, 0.5, 2.0, float("inf")]), "patience"),
        max_root_failures=data.draw(st.sampled_from([None, None, 2]), "limit"),
    )
    run = Run(allocation, policy)
    for chore in chores:
        run.tell(ev.ChoreAdded(chore))
    for _ in range(20 * len(chores)):
        run.tell(ev.StartsConsidered())
        if run.state.is_finished:
            break
        held = [a for a in run.live if run.state.entry(a[0]).placement is not None]
        if run.unfreed and (not held or data.draw(st.booleans(), "free first")):
            run.tell(ev.ResourcesFreed(*run.unfreed.pop(0)))
            continue
        assert held, "nothing holds resources and the run is not finished"
        one = data.draw(st.sampled_from(held), "who ends")
        run.live.remove(one)
        run.unfreed.append(one)
        reason = data.draw(
            st.sampled_from([None, None, None, Reason.EXCEPTION, Reason.CANCELLED]), "how"
        )
        run.tell(ev.ChoreFinished(*one, reason, 0 if reason is None else 1))
    assert run.state.is_finished
    for one in run.unfreed:
        run.tell(ev.ResourcesFreed(*one))
    assert set(run.ended) == {chore.id for chore in chores}
    assert len(run.submitted) == len(set(run.submitted))
    assert run.state.ledger.free_cores == allocation.num_cores


@settings(max_examples=100, deadline=None)
@given(graphs(), allocations, st.data())
def test_an_interruption_leaves_only_ended_blocked_and_ready_chores(chores, allocation, data):
    run = Run(allocation, Policy())
    for chore in chores:
        run.tell(ev.ChoreAdded(chore))
    run.tell(ev.StartsConsidered())
    for one in data.draw(st.lists(st.sampled_from(run.live), unique=True)) if run.live else []:
        run.live.remove(one)
        run.tell(ev.ChoreFinished(*one, None, 0))
        run.tell(ev.ResourcesFreed(*one))
    run.tell(ev.StartsConsidered())
    run.tell(ev.InterruptRequested("test"))
    for one in list(run.live):
        run.tell(ev.ChoreFinished(*one, Reason.CANCELLED, -15))
        run.tell(ev.ResourcesFreed(*one))
    assert run.state.is_finished
    assert run.state.counts().cancelled == 0
    assert run.state.ledger.free_cores == allocation.num_cores


@settings(max_examples=200, deadline=None)
@given(allocations, resources, st.data())
def test_what_is_found_fits_and_what_is_not_found_does_not(allocation, wanted, data):
    ledger = Ledger(allocation)
    for index, node in enumerate(allocation.nodes):
        taken = data.draw(st.integers(0, node.cores))
        ledger.change(index, -taken, -data.draw(st.integers(0, node.gpus)))
    shape = Shape.of(wanted)
    placement = ledger.find(shape)
    slots = 0
    for index in range(len(allocation.nodes)):
        cores, gpus = ledger.free_on(index)
        by_gpu = gpus // shape.gpus_per_task if shape.gpus_per_task else cores
        slots += min(cores // shape.cores_per_task, by_gpu)
    assert (placement is not None) == (slots >= shape.num_tasks)
    if placement is not None:
        assert sum(share.cores for share in placement) == wanted.num_cores
        assert sum(share.gpus for share in placement) == wanted.num_gpus
        for share in placement:
            cores, gpus = ledger.free_on(share.node)
            assert share.cores <= cores
            assert share.gpus <= gpus


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4), st.integers(2, 8), st.floats(0.1, 3))
def test_no_chore_starves_behind_an_endless_stream(num_nodes, cores, patience):
    run = Run(Allocation((Node("n", cores),) * num_nodes), Policy(patience=patience))
    number = 0

    def add(**wanted) -> None:
        nonlocal number
        number += 1
        run.tell(
            ev.ChoreAdded(Chore(f"s{number}", "s", ChoreType.PYTHON, resources=Resources(**wanted)))
        )

    add()
    big = Resources(num_tasks=num_nodes, cores_per_task=cores)
    run.tell(ev.ChoreAdded(Chore("big", "big", ChoreType.PYTHON, resources=big)))
    # every small chore that ends is followed by a new one
    limit = 4 * num_nodes * cores * (2 + int(patience))
    for _ in range(limit):
        add()
        run.tell(ev.StartsConsidered())
        if ("big", 1) in run.live:
            return
        one = run.live.pop(0)
        run.tell(ev.ChoreFinished(*one, None, 0))
        run.tell(ev.ResourcesFreed(*one))
    raise AssertionError(f"big did not start within {limit} completions")
