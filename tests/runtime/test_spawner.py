"""What joins the graph while the run is alive, judged from headers alone."""

from __future__ import annotations

import json
import pickle
import sys
import types

import pytest

from matensemble import wire
from matensemble.chore import ChoreSpec
from matensemble.errors import FormatError
from matensemble.model import OutputReference, Resources
from matensemble.pipeline import Pipeline
from matensemble.policy import ChorePolicy
from matensemble.references import Gather
from matensemble.runtime.scheduler.events import AllocationLearned, ChoreAdded, SpecRejected
from matensemble.runtime.scheduler.resources import Allocation, Node
from matensemble.runtime.scheduler.state import SchedulerState
from matensemble.runtime.spawner import Spawner
from matensemble.spec import SpecWriter
from matensemble.workflow import Workflow


class Scene:
    """A saved run with one completed strategy chore that may return specs."""

    def __init__(self, basedir):
        pipe = Pipeline(basedir)

        @pipe.chore(name="energy", cores_per_task=2, env={"A": "1"}, retries=2)
        def energy(strain, *, scale=1.0):
            return strain * scale

        @pipe.strategy(triggers=["energy"], name="refine", nice=-3, on_failure="abort")
        def refine(value):
            return None

        self.ref = energy(0.1)
        self.workflow = Workflow.read(pipe.save())
        self.run = self.workflow.run
        self.state = SchedulerState()
        self.state.handle(AllocationLearned(Allocation((Node("n", 4),))))
        for chore in self.workflow.chores():
            self.state.handle(ChoreAdded(chore))
        self.spawner = Spawner(self.workflow, self.state)
        (added,) = self.spawner.after(self.state.entry("chore-energy-0001").chore)
        self.state.handle(added)
        self.strategy = added.chore
        self.run.chore_dir(self.strategy.id).mkdir()

    def returns(self, *specs):
        writer = SpecWriter(f"out/{self.strategy.id}/spawned.args", specs)
        rows = [writer.row(spec) for spec in specs]
        return self.write("".join(json.dumps(row) + "\n" for row in rows))

    def write(self, text):
        self.run.chore_file(self.strategy.id, "spawned.jsonl").write_text(text)
        return self.spawner.after(self.strategy)


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


def test_a_completed_chore_starts_its_strategy(scene):
    chore = scene.strategy
    assert chore.id == "chore-refine-0002"
    assert chore.deps == ("chore-energy-0001",)
    assert chore.is_strategy
    assert chore.nice == -3
    assert chore.policy == ChorePolicy(on_failure="abort")
    assert chore.arguments is not None


def test_no_specs_add_nothing(scene):
    assert scene.returns() == []


def test_specs_take_registered_resources_unless_they_name_their_own(scene):
    one, two = scene.returns(
        ChoreSpec((0.2,), {"scale": 2}, "energy"),
        ChoreSpec((0.2,), None, "energy", Resources(), nice=4),
    )
    assert one.chore.resources.cores_per_task == 2
    assert scene.workflow.read_env(one.chore.env_place) == {"A": "1"}
    assert two.chore.resources.cores_per_task == 1
    assert two.chore.env_place is None
    assert two.chore.nice == 4
    assert one.parent == scene.strategy.id
    assert one.chore.id == "chore-energy-0003"


def test_specs_take_the_registered_policy_unless_they_have_their_own(scene):
    added = scene.returns(
        ChoreSpec((0.2,), None, "energy"),
        ChoreSpec((0.2,), None, "energy", Resources()),
        ChoreSpec((0.2,), None, "energy", idle_timeout="1m"),
        ChoreSpec((0.2,), None, "energy", retries=0),
        ChoreSpec.exec("true", "say"),
        ChoreSpec.exec("true", "say", max_output="1kB"),
    )
    assert [event.chore.policy for event in added] == [
        ChorePolicy(2),
        ChorePolicy(2),
        ChorePolicy(idle_timeout=60.0),
        ChorePolicy(),
        ChorePolicy(),
        ChorePolicy(max_output=1000),
    ]


def test_siblings_come_in_an_order_that_can_be_admitted(scene):
    first = ChoreSpec((0.1,), None, "energy")
    second = ChoreSpec((first.ref,), None, "energy")
    third = ChoreSpec.exec(["echo", second.ref, scene.ref], "say")
    added = scene.returns(third, second, first)
    by_position = {a.chore.id: a.chore for a in added}
    assert [a.chore.id for a in added] == [
        "chore-energy-0005",
        "chore-energy-0004",
        "chore-say-0003",
    ]
    assert by_position["chore-energy-0004"].deps == ("chore-energy-0005",)
    assert by_position["chore-say-0003"].deps == ("chore-energy-0004", "chore-energy-0001")
    for event in added:
        scene.state.handle(event)
    scene.state.validate()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (ChoreSpec((), None, "nobody"), "no callable is registered as 'nobody'"),
        (ChoreSpec((1, 2, 3), None, "energy"), "too many positional"),
        (ChoreSpec((), {"strain": 1, "typo": 2}, "energy"), "typo"),
        (ChoreSpec((OutputReference("chore-x-0099"),), None, "energy"), "chore-x-0099"),
        (ChoreSpec((OutputReference(Gather("nobody")),), None, "energy"), "'nobody'"),
        (ChoreSpec((ChoreSpec((1,), None, "energy").ref,), None, "energy"), "ref of"),
        (ChoreSpec((lambda: (_ for _ in ()),), {"scale": (i for i in "x")}, "energy"), "generator"),
    ],
)
def test_a_bad_spec_is_rejected_alone(scene, spec, words):
    good, bad = sorted(
        scene.returns(spec, ChoreSpec((1,), None, "energy")),
        key=lambda event: isinstance(event, SpecRejected),
    )
    assert isinstance(good, ChoreAdded)
    assert isinstance(bad, SpecRejected)
    assert words in bad.detail
    assert bad.parent == scene.strategy.id


def test_specs_that_wait_for_one_another_are_rejected(scene):
    a = ChoreSpec((1,), None, "energy")
    b = ChoreSpec((a.ref,), None, "energy")
    a.args = (b.ref,)
    behind = ChoreSpec((b.ref,), None, "energy")
    fine = ChoreSpec((1,), None, "energy")
    added = scene.returns(a, b, behind, fine)
    rejected = [e for e in added if isinstance(e, SpecRejected)]
    assert len(rejected) == 3
    assert "waits for itself" in rejected[0].detail
    for event in added:
        scene.state.handle(event)


def test_a_gather_in_a_spec_waits_for_what_runs_now(scene):
    (added,) = scene.returns(ChoreSpec((OutputReference(Gather("energy")),), None, "energy"))
    assert added.chore.stage == 1


def test_damaged_rows_are_an_error_that_names_the_file(scene):
    with pytest.raises(FormatError, match=r"spawned\.jsonl"):
        scene.write("{nonsense\n")


def test_rows_of_nonsense_are_rejected(scene):
    events = scene.write('{"name": "x"}\n[]\n{"name": "../up", "kind": "python"}\n')
    assert all(isinstance(event, SpecRejected) for event in events)
    assert len({event.chore.id for event in events}) == 3
    assert not any("/" in event.chore.id for event in events)


def test_numbers_go_on_behind_those_of_the_pipeline(scene):
    addition = scene.spawner.admit(ChoreSpec((1,), None, "energy"))
    assert addition.chore.id == "chore-energy-0003"
    place = addition.chore.arguments
    assert place.offset + place.size == scene.run.arguments_path.stat().st_size


@pytest.mark.parametrize("row", ['{"deps": 5}', '{"deps": [[]]}', '{"name": 3, "kind": 4}', "null"])
def test_rows_of_odd_types_are_rejected(scene, row):
    (event,) = scene.write(row + "\n")
    assert isinstance(event, SpecRejected)


def test_a_row_nested_without_measure_is_an_error_that_names_the_file(scene):
    with pytest.raises(FormatError, match=r"spawned\.jsonl"):
        scene.write("[" * 100_000 + "\n")


def test_what_a_processing_strategy_adds_takes_along_modules_that_workers_lack(
    tmp_path, monkeypatch
):
    module = types.ModuleType("matensemble_study_only_here")
    exec("class Point:\n    x = 1", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    pipe = Pipeline(tmp_path, by_value=[module])
    pipe.chore(name="energy")(lambda point: point.x)(None)
    workflow = Workflow.read(pipe.save())
    addition = Spawner(workflow, SchedulerState()).admit(ChoreSpec((module.Point(),), {}, "energy"))
    place = addition.chore.arguments
    data = wire.read_trusted(workflow.run.root / place.file, *place[1:])
    monkeypatch.delitem(sys.modules, module.__name__)  # as on a worker
    (point,), _ = wire.thaw(data, lambda slot: None, pickle.loads)
    assert point.x == 1
