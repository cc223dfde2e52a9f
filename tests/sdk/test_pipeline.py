"""Authoring a pipeline: every spelling, what is refused, what is saved."""

import inspect
import pickle
import types

import pytest

from matensemble import wire
from matensemble.chore import ChoreRegistry
from matensemble.errors import (
    ConflictingInstallationError,
    CycleError,
    DuplicateNameError,
    EmptyPipelineError,
    InvalidArgumentsError,
    InvalidCommandError,
    InvalidNameError,
    InvalidOptionError,
    InvalidResourcesError,
    UnknownNameError,
    UnknownReferenceError,
    UnpicklableError,
)
from matensemble.model import ChoreType, OutputReference, Resources
from matensemble.pipeline import Pipeline
from matensemble.policy import DEFAULT_POLICY, ChorePolicy, OnFailure, Retry
from matensemble.workflow import Workflow


@pytest.fixture
def pipe(tmp_path):
    return Pipeline(tmp_path)


def saved(pipe):
    workflow = Workflow.read(pipe.save())
    return workflow, {chore.id: chore for chore in workflow.chores()}


def arguments(workflow, chore, results=()):
    data = wire.read_trusted(workflow.run.root / chore.arguments.file, *chore.arguments[1:])
    return wire.thaw(data, lambda slot: results[slot], pickle.loads)


def step(x, y=0):
    """Do a step."""
    return x


# --- spellings --------------------------------------------------------------------------------


def test_decorator_with_and_without_parentheses(pipe):
    bare, named = pipe.chore(step), pipe.chore(name="other", num_tasks=2, mpi=True)(step)
    also = pipe.chore()(lambda_like())
    assert [f(1).chore_id for f in (bare, named, also)] == [
        "chore-step-0001",
        "chore-other-0002",
        "chore-inner-0003",
    ]
    _, chores = saved(pipe)
    assert chores["chore-other-0002"].resources == Resources(num_tasks=2, mpi=True)


def lambda_like():
    def inner(x):
        return x

    return inner


def test_decorated_functions_look_like_the_function(pipe):
    decorated = pipe.chore(step)
    assert decorated.__name__ == "step"
    assert decorated.__doc__ == "Do a step."
    assert inspect.signature(decorated) == inspect.signature(step)
    assert decorated.__wrapped__ is step


def test_a_resources_object_everywhere(pipe):
    wanted = Resources(num_tasks=4, num_nodes=2, exclusive=True, duration="30m", env={"A": "1"})
    decorated = pipe.chore(name="a", resources=wanted)(step)
    decorated(1)
    pipe.exec("true", resources=wanted)
    pipe.call("a", 1, resources=Resources(duration=5))
    pipe.strategy(triggers=["a"], name="s", resources=wanted)(step)
    workflow, chores = saved(pipe)
    a, program, other = chores.values()
    for chore in (a, program, *workflow.manifest.strategies):
        assert chore.resources == Resources(
            num_tasks=4, num_nodes=2, exclusive=True, duration=1800.0
        )
        assert workflow.read_env(chore.env_place) == {"A": "1"}
    assert len({a.env_place, program.env_place, workflow.manifest.strategies[0].env_place}) == 1
    assert other.resources == Resources(duration=5)
    for attempt in (pipe.chore, lambda **kw: Pipeline().exec("true", **kw)):
        with pytest.raises(InvalidOptionError, match="not both"):
            attempt(resources=wanted, num_tasks=2)


def test_secrets_stand_only_where_a_chore_needs_them(pipe):
    pipe.chore(env={"TOKEN": "s3cr3t"})(step)(1)
    root = pipe.save()
    holding = [p.name for p in root.rglob("*") if p.is_file() and b"s3cr3t" in p.read_bytes()]
    assert holding == ["workflow.args"]


def test_options_of_single_calls(pipe):
    decorated = pipe.chore(num_tasks=2)(step)
    first = decorated(1)
    second = decorated.options(after=[first], nice=-3, success_codes=[0, 134], gpus_per_task=1)
    ids = [ref.chore_id for ref in second.map([1, 2], y=5)]
    workflow, chores = saved(pipe)
    for chore_id in ids:
        chore = chores[chore_id]
        assert chore.after == (first.chore_id,)
        assert (chore.nice, chore.success_codes) == (-3, (0, 134))
        assert chore.resources == Resources(num_tasks=2, gpus_per_task=1)
    assert chores[first.chore_id].nice == 0
    assert arguments(workflow, chores[ids[1]]) == ((2,), {"y": 5})


def test_policies_reach_the_header_from_everywhere(pipe):
    asked = {
        "retries": Retry(2, on="out_of_memory", grow={"out_of_memory": {"cores_per_task": 2}}),
        "idle_timeout": "10m",
        "max_output": "1MB",
        "on_failure": "ignore",
        "durable": True,
        "version": "a",
    }
    policy = ChorePolicy(asked["retries"], 600.0, 1_000_000, OnFailure.IGNORE, True, "a")
    decorated = pipe.chore(**asked)(step)
    pipe.strategy(triggers="step", name="refine", **asked)(step)
    pipe.chore(name="plain")(step)
    ids = [
        decorated(1).chore_id,
        pipe.call("step", 2).chore_id,
        decorated.options(nice=1)(3).chore_id,
        pipe.exec("true", **asked).chore_id,
    ]
    once = decorated.options(retries=1, idle_timeout=None, num_tasks=2)(4).chore_id
    plain = pipe.call("plain", 5).chore_id
    workflow, chores = saved(pipe)
    assert [chores[chore_id].policy for chore_id in ids] == [policy] * 4
    assert chores[once].policy == ChorePolicy(1, None, 1_000_000, OnFailure.IGNORE, True, "a")
    assert chores[once].resources == Resources(num_tasks=2)
    assert chores[plain].policy is DEFAULT_POLICY
    (strategy,) = workflow.manifest.strategies
    assert strategy.policy == policy
    callables = workflow.manifest.callables
    assert [callables[name].policy for name in ("step", "refine")] == [policy, policy]
    assert callables["plain"].policy == DEFAULT_POLICY


def test_map_is_like_the_builtin(pipe):
    decorated = pipe.chore(step)
    references = decorated.map([1, 2, 3], [4, 5])
    assert [r.chore_id for r in references] == ["chore-step-0001", "chore-step-0002"]
    workflow, chores = saved(pipe)
    assert [arguments(workflow, c) for c in chores.values()] == [((1, 4), {}), ((2, 5), {})]


def test_call_by_name(pipe, tmp_path):
    registry = ChoreRegistry()
    registry.register("shared", step)
    pipe = Pipeline(tmp_path, registry)
    pipe.call("shared", 1, y=2, queue_nice=4)
    with pytest.raises(UnknownNameError, match="registered here: shared"):
        pipe.call("shard", 1)
    with pytest.raises(InvalidArgumentsError):
        pipe.call("shared")
    with pytest.raises(InvalidOptionError):
        pipe.call("shared", 1, queue_nice="high")
    with pytest.raises(InvalidOptionError):
        pipe.call("shared", 1, queue_nice=False)
    with pytest.raises(InvalidOptionError):
        pipe.call("shared", 1, resources={"num_tasks": 1})
    workflow, chores = saved(pipe)
    (chore,) = chores.values()
    assert (chore.nice, chore.callable) == (4, "shared")
    assert arguments(workflow, chore) == ((1,), {"y": 2})


def test_call_keeps_what_the_function_was_decorated_with(pipe):
    pipe.chore(nice=5, cores_per_task=2, success_codes=[0, 3])(step)
    pipe.call("step", 1, resources=Resources(cores_per_task=4))
    pipe.call("step", 1, queue_nice=0)
    chores = saved(pipe)[1].values()
    assert [(c.nice, c.resources.cores_per_task) for c in chores] == [(5, 4), (0, 2)]
    assert {c.success_codes for c in chores} == {(0, 3)}


def test_exec_with_everything(pipe):
    up = pipe.chore(step)(1)
    run = pipe.exec(
        ["lmp", "-var", "T", up["T"]],
        inputs={"in.lmp": "units metal"},
        outputs={"log": "log.lammps"},
        after=[up],
        num_tasks=4,
        success_codes=134,
    )
    plain = pipe.exec("echo 'a b'", name="say")
    workflow, chores = saved(pipe)
    chore = chores[run.chore_id]
    assert (chore.kind, chore.name, chore.outputs) == (
        ChoreType.EXECUTABLE, "lmp", {"log": "log.lammps"},
    )  # fmt: skip
    assert chore.success_codes == (134,)
    assert arguments(workflow, chore, [{"T": 300}]) == (
        ["lmp", "-var", "T", 300], {"in.lmp": "units metal"},
    )  # fmt: skip
    assert chores[plain.chore_id].command == ("echo", "a b")
    assert chores[plain.chore_id].arguments is None


def test_programs_of_one_group_differ_in_what_they_were_asked_for(pipe):
    asked = [
        {},
        {"nice": 3},
        {"cores_per_task": 2},
        {"success_codes": [0, 3]},
        {"retries": 2},
        {"outputs": {"log": "a.log"}},
        {"env": {"A": "1"}},
        {"env": {"A": "2"}},
    ]
    refs = [pipe.exec(["true", str(i)], name="x", **one) for i, one in enumerate(2 * asked)]
    workflow, chores = saved(pipe)
    for index, ref in enumerate(refs):
        chore, one = chores[ref.chore_id], (2 * asked)[index]
        assert chore.command == ("true", str(index))
        assert chore.nice == one.get("nice", 0)
        assert chore.resources.cores_per_task == one.get("cores_per_task", 1)
        assert chore.success_codes == tuple(one.get("success_codes", (0,)))
        assert (chore.policy.retry is not None) is ("retries" in one)
        assert chore.outputs == one.get("outputs", {})
        assert workflow.read_env(chore.env_place) == one.get("env")


@pytest.mark.parametrize("spelling", ["bolo_list", "triggers"])
def test_strategy(pipe, spelling):
    energy = pipe.chore(name="energy")(step)
    energy(1)

    @pipe.strategy(**{spelling: [energy, "energy"]}, nice=2)
    def refine(result):
        return None

    assert refine(3) is None  # stays a plain function
    workflow, _ = saved(pipe)
    (entry,) = workflow.manifest.strategies
    assert (entry.name, entry.triggers, entry.nice) == ("refine", ("energy",), 2)
    assert arguments(workflow, entry, ["the result"]) == (("the result",), {})


@pytest.mark.parametrize(
    "keywords",
    [{}, {"triggers": []}, {"triggers": 3}, {"bolo_list": ["a"], "triggers": ["a"]}],
)
def test_bad_triggers(pipe, keywords):
    with pytest.raises(InvalidOptionError, match="triggers"):
        pipe.strategy(**keywords)


def test_strategy_must_take_one_argument(pipe):
    with pytest.raises(InvalidArgumentsError, match="missing"):
        pipe.strategy(triggers=["a"])(lambda a, b: None)
    pipe.strategy(triggers="step", name="ok")(lambda a: None)
    pipe.chore(step)(1)
    pipe.strategy(triggers="stepp", name="typo")(lambda a: None)
    with pytest.raises(UnknownNameError, match="stepp"):
        pipe.save()


def test_gather_stages_and_unknown_groups(pipe):
    decorated = pipe.chore(step)
    decorated.map(range(3))
    table = pipe.chore(name="table")(step)(pipe.gather("step"))
    _, chores = saved(pipe)
    assert chores[table.chore_id].gathers == ("step",)
    assert chores[table.chore_id].stage == 1
    other = Pipeline(pipe.basedir)
    other.chore(step)(other.gather("stepp"))
    with pytest.raises(UnknownNameError, match="'stepp'"):
        other.save()
    assert other.run_dir is None
    with pytest.raises(InvalidNameError):
        other.gather("a/b")


# --- arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"z": 1}), ((1,), {"x": 1})]
)
def test_wrong_arguments_fail_when_the_call_is_written(pipe, args, kwargs):
    decorated = pipe.chore(step)
    with pytest.raises(InvalidArgumentsError, match=r"step\(x, y=0\)"):
        decorated(*args, **kwargs)
    with pytest.raises(EmptyPipelineError):
        pipe.save()


@pytest.mark.parametrize(
    "function", [lambda *a, **k: 0, lambda a, /, *, b=1: 0, print, lambda a, b=1, *c: 0]
)
def test_other_signatures(pipe, function):
    assert pipe.chore(name="f")(function)(1).chore_id == "chore-f-0001"


def test_keyword_only_arguments_are_required(pipe):
    decorated = pipe.chore(name="f")(lambda a, *, b: 0)
    with pytest.raises(InvalidArgumentsError, match="'b'"):
        decorated(1)
    assert decorated(1, b=2).chore_id == "chore-f-0001"


def test_arguments_are_frozen_at_the_call(pipe):
    strains = [1, 2]
    pipe.chore(step)(strains)
    strains.append(3)
    workflow, chores = saved(pipe)
    assert arguments(workflow, chores["chore-step-0001"]) == (([1, 2],), {})


def test_unpicklable_argument_names_chore_and_object(pipe, tmp_path):
    with (tmp_path / "f").open("w") as file, pytest.raises(UnpicklableError) as info:
        pipe.chore(step)({"pot": file})
    assert "chore-step-0001" in str(info.value)
    assert "['pot']" in info.value.culprit


def test_unpicklable_function_is_found_before_anything_is_written(pipe, tmp_path):
    import threading

    lock = threading.Lock()

    @pipe.chore
    def locked(x):
        return lock

    locked(1)
    with pytest.raises(UnpicklableError, match=r"'locked'.*'lock'"):
        pipe.save()
    assert list(tmp_path.iterdir()) == []


def test_a_function_that_uses_the_pipeline_says_so(pipe):
    @pipe.chore
    def wrong(x):
        return pipe.call("wrong", x)

    wrong(1)
    with pytest.raises(UnpicklableError, match="'pipe', a Pipeline"):
        pipe.save()


def test_references_of_another_pipeline(pipe, tmp_path):
    foreign = Pipeline(tmp_path).chore(step)(1)
    decorated = pipe.chore(step)
    decorated(0)  # has the id of the foreign one
    for attempt in (
        lambda: decorated([foreign]),
        lambda: decorated.options(after=[foreign])(1),
        lambda: pipe.exec(["echo", foreign]),
        lambda: pipe.exec("echo", after=[foreign]),
    ):
        with pytest.raises(UnknownReferenceError) as info:
            attempt()
        assert info.value.missing == "chore-step-0001"
        assert info.value.chore_id.endswith("-0002")


def test_references_made_by_hand_are_checked_before_anything_runs(pipe):
    decorated = pipe.chore(step)
    decorated(OutputReference("chore-step-0009"))
    for check in (pipe.graph, pipe.save):
        with pytest.raises(UnknownReferenceError, match="chore-step-0009"):
            check()


def test_cycles(pipe):
    decorated = pipe.chore(step)
    decorated(OutputReference("chore-step-0002"))
    decorated(OutputReference("chore-step-0001"))
    for check in (pipe.graph, pipe.save):
        with pytest.raises(CycleError) as info:
            check()
        assert set(info.value.chore_ids) == {"chore-step-0001", "chore-step-0002"}


def test_forward_references_are_saved_in_topological_order(pipe):
    decorated = pipe.chore(step)
    decorated(OutputReference("chore-step-0002"))
    decorated(1)
    _, chores = saved(pipe)
    assert list(chores) == ["chore-step-0002", "chore-step-0001"]


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a/b", "", "..", "a b"])
def test_bad_names(pipe, name):
    with pytest.raises(InvalidNameError):
        pipe.chore(name=name)(step)
    with pytest.raises(InvalidNameError):
        pipe.exec("true", name=name)


def test_functions_without_a_name_need_one(pipe):
    import functools

    with pytest.raises(InvalidNameError, match="name="):
        pipe.chore()(functools.partial(step, 1))
    with pytest.raises(InvalidNameError):
        pipe.chore(lambda x: x)
    with pytest.raises(InvalidOptionError, match="callable"):
        pipe.chore(name="x")(3)


def test_duplicate_names(pipe):
    pipe.chore(step)
    with pytest.raises(DuplicateNameError):
        pipe.chore(step)
    with pytest.raises(DuplicateNameError):
        pipe.strategy(triggers="step", name="step")(step)


def test_notebook_cells_register_again(pipe, monkeypatch):
    import sys

    fake = types.SimpleNamespace(get_ipython=lambda: object())
    monkeypatch.setitem(sys.modules, "IPython", fake)
    pipe.chore(name="f")(step)(1)
    pipe.chore(name="f")(lambda x: -x)(1)
    monkeypatch.undo()
    root = pipe.save()
    assert pickle.loads((root / "out/registry/f").read_bytes())(2) == -2


# --- other bad input --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keywords", [{"num_tasks": 0}, {"cores_per_task": True}, {"env": {"A": 1}}]
)
def test_impossible_resources(pipe, keywords):
    decorated = pipe.chore(step)
    for attempt in (
        pipe.chore,
        decorated.options,
        lambda **kw: pipe.exec("true", **kw),
        lambda **kw: pipe.strategy("a", **kw),
    ):
        with pytest.raises(InvalidResourcesError):
            attempt(**keywords)
    with pytest.raises(InvalidOptionError):
        decorated.options(resources=keywords)


@pytest.mark.parametrize("command", ["", [], "echo '", None])
def test_bad_commands(pipe, command):
    with pytest.raises(InvalidCommandError):
        pipe.exec(command)


@pytest.mark.parametrize(
    "keywords",
    [{"registry": {}}, {"by_value": ["numpy"]}, {"reserve_broker_node": 1}, {"name": 3}],
)
def test_bad_pipelines(tmp_path, keywords):
    with pytest.raises(InvalidOptionError):
        Pipeline(tmp_path, **keywords)


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"retries": -1}, InvalidOptionError),
        ({"idle_timeout": "soon"}, InvalidOptionError),
        ({"max_output": 0}, InvalidOptionError),
        ({"on_failure": "stop"}, InvalidOptionError),
        ({"durable": "yes"}, InvalidOptionError),
        ({"version": 1}, InvalidOptionError),
        ({"retrys": 1}, TypeError),
        ({"retry": 1}, TypeError),
    ],
)
def test_impossible_policies_are_refused_when_they_are_written(pipe, keywords, error):
    decorated = pipe.chore(step)
    for attempt in (
        lambda: pipe.chore(name="other", **keywords),
        lambda: decorated.options(**keywords),
        lambda: pipe.exec("true", **keywords),
        lambda: pipe.strategy(triggers="step", **keywords),
    ):
        with pytest.raises(error, match=next(iter(keywords))):
            attempt()
    assert len(pipe.graph()) == 0


@pytest.mark.parametrize("keywords", [{"nice": "x"}, {"success_codes": []}, {"after": ["id"]}])
def test_bad_policies(pipe, keywords):
    with pytest.raises(InvalidOptionError):
        pipe.chore(**keywords)
    with pytest.raises(InvalidOptionError):
        pipe.exec("true", **keywords)


def test_empty_pipeline(pipe, tmp_path):
    with pytest.raises(EmptyPipelineError):
        pipe.save()
    assert pipe.graph().number_of_nodes() == 0
    assert list(tmp_path.iterdir()) == []


def test_an_older_installation_is_named(monkeypatch, tmp_path):
    import sys

    monkeypatch.setattr(sys.modules["matensemble"], "__file__", "/s/matensemble/__init__.py")
    with pytest.raises(ConflictingInstallationError, match="pip uninstall matensemble"):
        Pipeline(tmp_path)


# --- functions that call decorated functions --------------------------------------------------


def test_a_decorated_function_travels_as_the_plain_one(pipe):
    @pipe.chore
    def double(x):
        return 2 * x

    @pipe.chore
    def both(x, function):
        return double(x) + function(x)

    both(1, double)
    root = pipe.save()
    workflow, chores = Workflow.read(root), list(Workflow.read(root).chores())
    args, _ = arguments(workflow, chores[0])
    loaded = pickle.loads((root / "out/registry/both").read_bytes())
    assert loaded(3, args[1]) == 12


def test_recursion_travels(pipe):
    @pipe.chore
    def factorial(n):
        return n * factorial(n - 1) if n else 1

    factorial(3)
    loaded = pickle.loads((pipe.save() / "out/registry/factorial").read_bytes())
    assert loaded(5) == 120


class Strain:
    def __init__(self, value):
        self.value = value


def test_classes_of_the_functions_module_are_the_same_on_both_sides(pipe):
    @pipe.chore
    def is_strain(x):
        return isinstance(x, Strain)

    is_strain(Strain(1))
    root = pipe.save()
    code = (
        "import pickle, sys; from matensemble import wire; d = sys.argv[1]\n"
        "f = pickle.load(open(d + '/out/registry/is_strain', 'rb'))\n"
        "(x,), _ = wire.thaw(open(d + '/workflow.args', 'rb').read(), None, pickle.loads)\n"
        "print(f(x), 'test_pipeline' in str(sys.modules.keys()))"
    )
    import subprocess
    import sys

    shown = subprocess.check_output([sys.executable, "-P", "-c", code, str(root)], text=True)
    assert shown.split() == ["True", "False"]


def test_a_lambda_needs_a_name(pipe):
    with pytest.raises(InvalidNameError, match="pass name="):
        pipe.chore(lambda x: x)
    assert pipe.chore(name="f")(lambda x: x)(1).chore_id == "chore-f-0001"
