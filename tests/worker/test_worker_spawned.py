"""What a strategy chore asked for, as rows that the driver reads without loading a pickle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from matensemble import wire
from matensemble.chore import Chore, ChoreSpec
from matensemble.model import ChoreType, OutputReference, Reason, Resources
from matensemble.references import Gather

STRATEGY = "chore-refine-0001"


def spawn(campaign, function, *args, env=None):
    """Run a strategy and return its outcome with the rows it wrote."""
    campaign.add(function, *args, chore_id=STRATEGY, record={"strategy": True})
    outcome = campaign.run(STRATEGY, env=env)
    path = outcome.directory / "spawned.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else None
    return outcome, rows


def bytes_at(campaign, place):
    file, offset, size = place
    return wire.read_trusted(campaign.dir.root / file, offset, size)


def test_a_python_spec(campaign):
    def refine(result):
        return ChoreSpec(
            ("Cu", result),
            {"steps": 5},
            "energy",
            Resources(cores_per_task=4, duration="30m"),
            nice=-2,
            after=[OutputReference("chore-prepare-0001")],
            success_codes=[0, 134],
        )

    campaign.complete("chore-fit-0001", 3.6)
    outcome, rows = spawn(campaign, refine, OutputReference("chore-fit-0001"))
    assert outcome.result == 1
    (row,) = rows
    chore = Chore.from_header(row)
    assert row["format"] == 1
    assert (chore.id, chore.name, chore.callable, chore.kind) == (
        *("", "energy", "energy", ChoreType.PYTHON),
    )
    assert chore.resources == Resources(cores_per_task=4, duration=1800.0)
    assert (chore.nice, chore.after, chore.success_codes) == (
        *(-2, ("chore-prepare-0001",), (0, 134)),
    )
    assert row["call"] == [2, ["steps"]]
    assert "registered_resources" not in row
    assert chore.arguments.file == f"out/{STRATEGY}/spawned.args"
    frozen = bytes_at(campaign, chore.arguments)
    assert wire.thaw(frozen, lambda slot: None) == (("Cu", 3.6), {"steps": 5})


def test_references_to_earlier_chores_and_to_siblings(campaign):
    def refine():
        energies = [ChoreSpec((x,), qualname="energy") for x in (0.1, 0.2)]
        earlier = OutputReference("chore-energy-0001")
        fit = ChoreSpec(
            ([e.ref for e in energies],), {"old": earlier["e"]}, "fit", Resources(num_tasks=2)
        )
        table = ChoreSpec((OutputReference(Gather("fit")), fit.ref), qualname="table")
        return table, *energies, fit

    _, rows = spawn(campaign, refine)
    chores = [Chore.from_header(row) for row in rows]
    assert [chore.name for chore in chores] == ["table", "energy", "energy", "fit"]
    assert [getattr(dep, "token", dep) for dep in chores[3].deps] == [1, 2, "chore-energy-0001"]
    assert chores[0].gathers == ("fit",)
    assert rows[0]["deps"] == [{"gather": "fit"}, {"spec": 3}]
    values = ["first", "second", {"e": "old"}]
    frozen = bytes_at(campaign, chores[3].arguments)
    assert wire.thaw(frozen, values.__getitem__) == ((["first", "second"],), {"old": "old"})
    assert [bool(row.get("registered_resources")) for row in rows] == [True, True, True, False]


def test_an_executable_spec(campaign):
    def refine():
        other = ChoreSpec((), qualname="energy")
        return [
            other,
            ChoreSpec.exec("lmp -in in.melt", inputs={"in.melt": "units metal\n"}),
            ChoreSpec.exec(["echo", other.ref], name="say", outputs={"log": "log.lammps"}),
            ChoreSpec.exec(["true"]),
        ]

    outcome, rows = spawn(campaign, refine)
    assert outcome.result == 4
    melt, say, true = (Chore.from_header(row) for row in rows[1:])
    assert (melt.name, melt.kind, melt.command) == (
        *("lmp", ChoreType.EXECUTABLE, ("lmp", "-in", "in.melt")),
    )
    assert wire.thaw(bytes_at(campaign, melt.arguments), lambda slot: None) == (
        *(["lmp", "-in", "in.melt"], {"in.melt": "units metal\n"}),
    )
    assert (say.name, dict(say.outputs)) == ("say", {"log": "log.lammps"})
    assert rows[2]["deps"] == [{"spec": 0}]
    assert (true.command, true.arguments, true.needs_worker) == (("true",), None, False)
    assert "call" not in rows[1]


def test_an_environment_stands_apart_from_the_rows(campaign):
    def refine():
        return ChoreSpec((), qualname="energy", resources=Resources(env={"API_TOKEN": "canary"}))

    outcome, (row,) = spawn(campaign, refine)
    chore = Chore.from_header(row)
    assert json.loads(bytes_at(campaign, chore.env_place)) == {"API_TOKEN": "canary"}
    assert "canary" not in (outcome.directory / "spawned.jsonl").read_text()
    assert (outcome.directory / "spawned.args").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "returned", [lambda: None, list, lambda: iter(())], ids=["None", "list", "iterator"]
)
def test_no_spec(campaign, returned):
    outcome, rows = spawn(campaign, lambda: returned())
    assert (outcome.result, rows) == (0, [])
    assert not (outcome.directory / "spawned.args").exists()


def test_a_generator_of_specs(campaign):
    def refine():
        for x in range(3):
            yield ChoreSpec((x,), qualname="energy")

    outcome, rows = spawn(campaign, refine)
    assert outcome.result == 3
    assert [row["call"] for row in rows] == [[1, []]] * 3


def test_a_bad_spec_spares_its_siblings(campaign):
    def refine():
        stranger = ChoreSpec((), qualname="stranger")
        unpicklable = ChoreSpec(((n for n in ()),), qualname="unpicklable")
        return [
            ChoreSpec((1,), qualname="energy"),
            unpicklable,
            ChoreSpec((stranger.ref,), qualname="fit"),
            ChoreSpec("text", qualname="texts"),
            ChoreSpec((), {1: 2}, qualname="keys"),
            ChoreSpec((), qualname="late", after=["chore-x-0001"]),
            ChoreSpec((2,), qualname="energy"),
        ]

    outcome, rows = spawn(campaign, refine)
    assert outcome.result == 7
    errors = {i: row["error"] for i, row in enumerate(rows) if "error" in row}
    assert list(errors) == [1, 2, 3, 4, 5]
    assert {error["reason"] for error in errors.values()} == {Reason.INVALID_SPEC.value}
    assert [error["name"] for error in errors.values()] == (
        ["unpicklable", "fit", "texts", "keys", "late"]
    )
    assert "a generator" in errors[1]["detail"]
    assert "ref of 'stranger'" in errors[2]["detail"]
    frozen = [bytes_at(campaign, rows[i]["arguments"]) for i in (0, 6)]
    assert [wire.thaw(one, lambda slot: None)[0] for one in frozen] == [(1,), (2,)]


@pytest.mark.parametrize("returned", [3, "energy", {"a": 1}, [1], {"energy"}])
def test_a_value_that_is_no_spec_fails_the_strategy(campaign, returned):
    outcome, rows = spawn(campaign, lambda: returned)
    assert (outcome.exit_code, outcome.has_result, rows) == (1, False, None)
    assert outcome.error["reason"] == "exception"
    assert "a strategy returns None, a ChoreSpec, or several" in outcome.error["message"]


def test_a_generator_that_fails_fails_the_strategy(campaign):
    def refine():
        yield ChoreSpec((1,), qualname="energy")
        raise ValueError("no minimum")

    outcome, rows = spawn(campaign, refine)
    assert (outcome.error["message"], rows) == ("no minimum", None)
    assert "raise ValueError" in outcome.error["traceback"]


def test_only_rank_zero_writes(campaign):
    campaign.add(
        lambda: ChoreSpec((), qualname="energy"),
        chore_id=STRATEGY,
        record={"strategy": True, "num_tasks": 2},
    )
    outcome = campaign.run(STRATEGY, env={"MATENSEMBLE_TASK_RANK": "1"})
    assert outcome.exit_code == 0
    assert not (outcome.directory / "spawned.jsonl").exists()


def test_the_result_is_committed_last(campaign):
    def refine():
        Path("spawned.jsonl").mkdir()
        return ChoreSpec((), qualname="energy")

    campaign.add(refine, chore_id=STRATEGY, record={"strategy": True})
    outcome = campaign.run(STRATEGY)
    assert (outcome.error["reason"], outcome.has_result) == ("io_error", False)


def test_a_later_attempt_leaves_the_arguments_of_the_earlier_ones_alone(campaign):
    def refine():
        return ChoreSpec((1,), None, "energy")

    _, (first,) = spawn(campaign, refine)
    campaign.add(refine, chore_id=STRATEGY, record={"strategy": True, "attempt": 2})
    campaign.run(STRATEGY)
    directory = campaign.dir.chore_dir(STRATEGY)
    (second,) = map(json.loads, (directory / "spawned.jsonl").read_text().splitlines())
    assert Chore.from_header(first).arguments.file == f"out/{STRATEGY}/spawned.args"
    assert Chore.from_header(second).arguments.file == f"out/{STRATEGY}/spawned-2.args"
    assert bytes_at(campaign, first["arguments"]) == bytes_at(campaign, second["arguments"])
