"""Executables that the worker prepares and then becomes."""

from __future__ import annotations

import sys

from matensemble.model import OutputReference

UP = "chore-up-0001"
PROG = "chore-prog-0001"


def test_references_become_text(campaign):
    campaign.complete(UP, {"strain": 0.01, "metal": "Cu"})
    ref = OutputReference(UP)
    campaign.exec(["printf", "%s|", ref["metal"], ref["strain"], "plain text"])
    outcome = campaign.run(PROG)
    assert (outcome.exit_code, outcome.stdout) == (0, "Cu|0.01|plain text|")
    assert not outcome.has_result
    assert not outcome.has_error


def test_an_executables_result_is_its_stdout_and_its_outputs_are_paths(campaign):
    directory = campaign.dir.chore_dir("chore-sim-0001")
    directory.mkdir()
    (directory / "stdout").write_text("first\nlast\n")
    ref = OutputReference("chore-sim-0001")
    described = {"kind": "executable", "exit_code": 0, "outputs": {"log": "run.log"}}
    campaign.exec(["printf", "%s|", ref, ref["log"]], upstream=described)
    assert campaign.run(PROG).stdout == f"first\nlast|{directory / 'run.log'}|"


def test_inputs_are_written_first(campaign):
    campaign.complete(UP, 2.5)
    campaign.exec(
        ["cat", "in.text", "deep/er/in.ref"],
        {"in.text": "gemäß\n", "in.bytes": b"\0\xff", "deep/er/in.ref": OutputReference(UP)},
    )
    outcome = campaign.run(PROG)
    assert outcome.stdout == "gemäß\n2.5"
    assert (outcome.directory / "in.bytes").read_bytes() == b"\0\xff"
    assert (outcome.directory / "in.bytes").stat().st_mode & 0o777 == 0o600
    assert (outcome.directory / "deep" / "er").stat().st_mode & 0o777 == 0o700
    assert {path.name for path in outcome.directory.iterdir()} == (
        {"chore.pickle", "deep", "in.bytes", "in.text"}
    )


def test_every_task_finds_the_inputs(campaign):
    campaign.complete(UP, "content")
    campaign.exec(["cat", "in"], {"in": OutputReference(UP)})
    for rank in "10":
        (campaign.dir.chore_dir(PROG) / "in").unlink(missing_ok=True)
        assert campaign.run(PROG, env={"FLUX_TASK_RANK": rank}).stdout == "content"


def test_the_program_takes_the_place_of_the_worker(campaign):
    campaign.exec(["sh", "-c", "kill -TERM $$"])
    assert campaign.run(PROG).exit_code == -15


def test_its_exit_code_is_that_of_the_program(campaign):
    campaign.exec(["sh", "-c", "exit 42"])
    outcome = campaign.run(PROG)
    assert outcome.exit_code == 42
    assert not outcome.has_error


def test_signals_that_python_ignores_are_restored(campaign):
    campaign.exec(["sh", "-c", "kill -PIPE $$; echo survived"])
    outcome = campaign.run(PROG)
    assert outcome.exit_code == -13
    assert outcome.stdout == ""


def test_a_program_that_is_not_there(campaign):
    campaign.exec(["no-such-lammps", "-in", "x"])
    outcome = campaign.run(PROG)
    assert (outcome.exit_code, outcome.error["exit_code"]) == (127, 127)
    assert outcome.error["reason"] == "executable_not_found"
    assert outcome.error["message"].startswith("no program 'no-such-lammps' in PATH=/")
    assert "frozen os" not in outcome.error["traceback"]


def test_a_path_that_does_not_exist(campaign):
    campaign.exec(["./no-such-lammps"], {"in": "x"})
    outcome = campaign.run(PROG)
    assert outcome.exit_code == 127
    message = "the program './no-such-lammps' cannot be executed: No such file or directory"
    assert outcome.error["message"] == message


def test_a_program_that_may_not_be_executed(campaign):
    campaign.exec(["./run.sh"], {"run.sh": "#!/bin/sh\n"})
    outcome = campaign.run(PROG)
    assert outcome.exit_code == 126
    assert outcome.error["reason"] == "executable_not_found"
    assert "Permission denied" in outcome.error["message"]


def test_an_input_that_cannot_be_written(campaign):
    campaign.exec(["true"], {"taken/in": "x"})
    (campaign.dir.chore_dir(PROG) / "taken").write_text("a file")
    outcome = campaign.run(PROG)
    assert (outcome.exit_code, outcome.error["reason"]) == (1, "io_error")


def test_a_missing_upstream_result_starts_nothing(campaign):
    campaign.exec(["touch", "started", OutputReference(UP)])
    outcome = campaign.run(PROG)
    assert outcome.error["reason"] == "result_missing"
    assert not (outcome.directory / "started").exists()


def test_a_missing_stdout_of_an_executable(campaign):
    ref = OutputReference("chore-sim-0001")
    campaign.exec(["echo", ref], upstream={"kind": "executable", "exit_code": 0})
    assert campaign.run(PROG).error["reason"] == "io_error"


def test_a_command_without_arguments_stands_in_the_record(campaign):
    campaign.record(PROG, kind="executable", command=(sys.executable, "-c", "print(6)"))
    assert campaign.run(PROG).stdout == "6\n"


def test_a_program_is_prepared_as_lightly_as_a_function_is_called(campaign):
    campaign.complete(UP, "x")
    campaign.exec(["true", OutputReference(UP)], {"in": "x"})
    code = (
        "import os, sys\n"
        "os.execvp = lambda *_: (print(*sys.modules, flush=True), os._exit(0))\n"
        "from matensemble.runtime_worker import main\n"
        "main()\n"
    )
    loaded = set(campaign.run(PROG, python=("-P", "-c", code)).stdout.split())
    assert "matensemble.program" in loaded
    assert not loaded & {"enum", "re", "pathlib", "dataclasses", "shlex", "cloudpickle", "signal"}
