"""Commands of executables: splitting, freezing, what is refused."""

from pathlib import Path

import pytest

from matensemble import wire
from matensemble.chore import ChoreSpec
from matensemble.command import freeze_command
from matensemble.errors import InvalidCommandError, InvalidOptionError
from matensemble.model import OutputReference


def freeze(command, name=None, inputs=None, outputs=None):
    return freeze_command(name, command, inputs or {}, outputs or {})


def test_text_is_split_as_a_shell_would():
    frozen = freeze("/opt/bin/lmp -in 'in file' -var T=300")
    assert frozen.command == ("/opt/bin/lmp", "-in", "in file", "-var", "T=300")
    assert (frozen.name, frozen.data, frozen.deps) == ("lmp", None, ())


def test_elements_become_text():
    assert freeze(["echo", 3, 0.5, Path("a/b")]).command == ("echo", "3", "0.5", "a/b")


def test_references_are_frozen_with_the_inputs(tmp_path):
    (tmp_path / "pot").write_bytes(b"potential")
    ref = OutputReference("chore-a-0001")
    frozen = freeze(["echo", ref["log"]], inputs={"in": "text", "pot": tmp_path / "pot", "r": ref})
    assert frozen.deps == ("chore-a-0001",)
    (tmp_path / "pot").write_bytes(b"changed later")
    elements, inputs = wire.thaw(frozen.data, lambda slot: {"log": "L"})
    assert elements == ["echo", "L"]
    assert inputs == {"in": "text", "pot": b"potential", "r": {"log": "L"}}


@pytest.mark.parametrize("program", ["/", "./-x", "a b", OutputReference("c")])
def test_a_program_without_a_usable_name(program):
    assert freeze([program]).name == "exec"


@pytest.mark.parametrize(
    "command",
    [
        "",
        "   ",
        [],
        [""],
        "echo 'unclosed",
        None,
        3,
        {"echo"},
        ["echo", None],
        ["echo", True],
        ["echo", ["nested"]],
        ["echo", "nul\0"],
        f"echo {OutputReference('c')}",
        ["echo", f"x{OutputReference('c')}"],
    ],
)
def test_bad_commands(command):
    with pytest.raises(InvalidCommandError) as info:
        freeze(command, name="step")
    assert info.value.name == "step"


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", ".", "nul\0", 3])
def test_files_stay_inside_the_directory(path):
    with pytest.raises(InvalidOptionError):
        freeze("true", inputs={path: "x"})
    with pytest.raises(InvalidOptionError):
        freeze("true", outputs={"log": path})


def test_bad_inputs_and_outputs(tmp_path):
    with pytest.raises(InvalidOptionError, match="readable file"):
        freeze("true", inputs={"in": tmp_path / "missing"})
    with pytest.raises(InvalidOptionError, match="text, bytes, a Path or a reference"):
        freeze("true", inputs={"in": 3})
    with pytest.raises(InvalidOptionError, match="names as text"):
        freeze("true", outputs={1: "log"})


OWN_FILES = [
    *("chore.pickle", "metadata.json", "result.pickle", "error.json", "spawned.jsonl"),
    *("spawned.args", "attempts", "attempts/1/x", "./error.json", "Result.Pickle", "stdout/x"),
]


@pytest.mark.parametrize("path", [*OWN_FILES, "stdout", "stderr", Path("stdout")])
def test_inputs_leave_the_files_of_the_run_alone(path):
    with pytest.raises(InvalidOptionError, match="MatEnsemble keeps its own"):
        freeze("true", inputs={path: "x"})


@pytest.mark.parametrize("path", OWN_FILES)
def test_outputs_are_files_of_the_program(path):
    with pytest.raises(InvalidOptionError, match="MatEnsemble keeps its own"):
        freeze("true", outputs={"log": path})


def test_what_a_program_prints_can_be_an_output():
    assert freeze("true", outputs={"out": "stdout", "err": "./stderr"}).command == ("true",)
    assert freeze("true", inputs={"in/stdout": "x"}).data is not None


@pytest.mark.parametrize("path", ["x" * 201, "ä" * 101, "x/" * 250 + "x", "\ud800"])
def test_file_names_that_no_file_system_takes(path):
    with pytest.raises(InvalidOptionError):
        freeze("true", outputs={"log": path})
    with pytest.raises(InvalidOptionError):
        freeze("true", inputs={path: "x"})


def test_the_longest_file_names():
    freeze("true", outputs={"log": "x" * 200}, inputs={"x/" * 249 + "x": "x"})


@pytest.mark.parametrize("keywords", [{"inputs": ["a"]}, {"outputs": "log"}, {"outputs": {3: "a"}}])
def test_inputs_and_outputs_are_mappings(keywords):
    with pytest.raises(InvalidOptionError):
        freeze("true", **keywords)


def test_secrets_are_for_the_program_only():
    frozen = freeze("prog --password=hunter2 --token hunter2 API_KEY=hunter2 -n 3")
    assert frozen.command == (
        *("prog", "--password=<redacted>", "--token", "<redacted>", "API_KEY=<redacted>"),
        *("-n", "3"),
    )
    elements, inputs = wire.thaw(frozen.data, lambda slot: None)
    assert elements[1:5] == ["--password=hunter2", "--token", "hunter2", "API_KEY=hunter2"]
    assert inputs == {}
    sibling = ChoreSpec.exec(["prog", "--token", "hunter2"], "login")
    assert "hunter2" not in str(freeze(["prog", sibling.ref]).command)
    with pytest.raises(InvalidCommandError) as info:
        freeze("prog --password='hunter2")
    assert "hunter2" not in str(info.value)
