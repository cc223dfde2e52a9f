"""Holds the reference pages to what the code says."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from matensemble import cli, workdir
from matensemble.chore import Chore
from matensemble.model import ChoreType, Reason, Resources, RunState
from matensemble.owner import Owner
from matensemble.policy import ChorePolicy
from matensemble.records import RecordKind
from matensemble.references import Gather
from matensemble.status import RunStatus
from matensemble.workflow import Manifest

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


def section(title: str) -> str:
    """Return what stands below one heading of the page about files."""
    text = (REFERENCE / "files.md").read_text()
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_reason_code_is_explained_once():
    rows = re.findall(r"^\| `(\w+)` \|", (REFERENCE / "reasons.md").read_text(), re.MULTILINE)
    assert rows == [reason.value for reason in Reason]


def test_every_file_of_a_run_is_listed():
    text = (REFERENCE / "files.md").read_text()
    names = {
        value.rpartition("/")[2]
        for name, value in vars(workdir).items()
        if name.isupper() and isinstance(value, str) and name != "DIRECTORY_PREFIX"
    }
    assert {name for name in names if name not in text} == set()
    assert workdir.DIRECTORY_PREFIX in text


def test_every_variable_of_ours_is_described():
    text = (REFERENCE / "environment.md").read_text()
    packages = REFERENCE.parents[1] / "packages"
    used = {
        variable
        for path in packages.rglob("*.py")
        for variable in re.findall(r"\bMATENSEMBLE_[A-Z][A-Z_]*[A-Z]\b", path.read_text())
    }
    assert {variable for variable in used if variable not in text} == set()


@pytest.mark.parametrize("shape", [Manifest, RunStatus, Owner], ids=lambda shape: shape.__name__)
def test_every_field_of_a_file_is_described(shape):
    text = (REFERENCE / "files.md").read_text()
    assert [name for name in shape.__dataclass_fields__ if f"`{name}`" not in text] == []


def test_every_key_of_a_header_is_described():
    chore = Chore(
        id="chore-a-0001",
        name="a",
        kind=ChoreType.EXECUTABLE,
        deps=("chore-b-0002", Gather("c")),
        after=("chore-d-0003",),
        resources=Resources(num_tasks=2),
        nice=1,
        success_codes=(0, 1),
        callable="f",
        command=("true",),
        outputs={"log": "log"},
        arguments=("workflow.args", 0, 1),
        env_place=("workflow.args", 1, 1),
        is_strategy=True,
        stage=1,
        policy=ChorePolicy(version="2"),
    )
    described = section("workflow.jsonl")
    assert [key for key in chore.to_header() if f"`{key}`" not in described] == []
    assert len(chore.to_header()) == len(set(Chore.__dataclass_fields__))


def test_every_kind_of_record_is_described_once():
    kinds = re.findall(r"^\| `(\w{3,})` \|", section("journal.jsonl"), re.MULTILINE)
    assert sorted(kinds) == sorted(kind.value for kind in RecordKind)


def test_every_state_of_a_run_is_named():
    (row,) = re.findall(r"^\| `state` \|.*$", section("status.json"), re.MULTILINE)
    assert [state for state in RunState if f"`{state.value}`" not in row] == []


def test_every_subcommand_and_exit_code_is_described():
    text = (REFERENCE / "command.md").read_text()
    told = CliRunner().invoke(cli.main, ["--help"]).stdout
    subcommands = re.findall(r"^  ([a-z-]+)  ", told.partition("Commands:")[2], re.MULTILINE)
    assert len(subcommands) > 10
    assert [name for name in subcommands if f"`{name}`" not in text] == []
    codes = re.findall(r"\b\d+\b", told.partition("Exit codes:")[2])
    assert re.findall(r"^\| (\d+) \|", text, re.MULTILINE) == codes
