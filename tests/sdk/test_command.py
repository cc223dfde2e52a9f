"""Commands of executables: splitting, freezing, what is refused."""

from pathlib import Path

import pytest

from matensemble import wire
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
