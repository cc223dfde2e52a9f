"""Whatever a function does, the driver learns why from `error.json` and the exit code."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from matensemble import failure, program, runtime_worker, wire
from matensemble.model import OutputReference, Reason

UP = "chore-up-0001"


def boom(*_):
    raise ValueError("lattice constant must be positive")


# --- exceptions ----------


def test_an_exception_is_reported_with_the_users_frames(campaign):
    campaign.add(boom, record={"attempt": 2})
    outcome = campaign.run()
    error = outcome.error
    assert (outcome.exit_code, outcome.has_result) == (1, False)
    assert error["format"] == 1
    assert (error["reason"], error["type"], error["module"]) == (
        *("exception", "ValueError", "builtins"),
    )
    assert error["message"] == "lattice constant must be positive"
    assert (error["exit_code"], error["attempt"], error["rank"]) == (1, 2, 0)
    assert error["chore_id"] == "chore-f-0001"
    assert 'raise ValueError("lattice constant must be positive")' in error["traceback"]
    assert "runtime_worker" not in error["traceback"]
    assert outcome.stderr == error["traceback"]


def test_the_cause_of_an_exception_is_shown(campaign):
    def wrap():
        try:
            {}["missing key"]
        except KeyError as error:
            raise RuntimeError("no such metal") from error

    campaign.add(wrap)
    traceback = campaign.run().error["traceback"]
    assert traceback.index("KeyError: 'missing key'") < traceback.index("no such metal")


def test_an_exception_group_is_shown(campaign):
    def group():
        raise ExceptionGroup("several", [ValueError("first"), TypeError("second")])

    campaign.add(group)
    traceback = campaign.run().error["traceback"]
    assert "ValueError: first" in traceback
    assert "TypeError: second" in traceback


def test_an_exception_that_can_be_neither_shown_nor_pickled(campaign):
    class Hostile(Exception):  # noqa: N818
        def __str__(self):
            raise RuntimeError("no")

        def __reduce__(self):
            raise RuntimeError("no")

    def fail():
        raise Hostile(sys.stdin)

    campaign.add(fail)
    outcome = campaign.run()
    assert outcome.exit_code == 1
    assert outcome.error["reason"] == "exception"
    assert outcome.error["type"].endswith("Hostile")
    assert "str() raised RuntimeError" in outcome.error["message"]
    assert "raise Hostile" in outcome.error["traceback"]


def test_message_and_traceback_are_bounded(campaign):
    def shout():
        raise ValueError("a" * 300_000 + "end")

    campaign.add(shout)
    error = campaign.run().error
    assert len(error["message"]) < 10_100
    assert len(error["traceback"]) < 100_100
    assert error["traceback"].startswith("Traceback")
    assert error["traceback"].rstrip().endswith("end")
    assert "characters left out" in error["message"]


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [(3, 3), (0, 1), (None, 1), (256, 1), (-1, 1), ("no input given", 1)],
)
def test_sys_exit_is_a_failure_because_nothing_was_returned(campaign, code, exit_code):
    campaign.add(lambda: sys.exit(code))
    outcome = campaign.run()
    assert (outcome.exit_code, outcome.error["exit_code"]) == (exit_code, exit_code)
    assert outcome.error["reason"] == "exception"
    assert f"sys.exit({code!r})" in outcome.error["message"]


def test_an_interrupt_is_a_failure(campaign):
    def interrupted():
        raise KeyboardInterrupt

    campaign.add(interrupted)
    outcome = campaign.run()
    assert outcome.exit_code == 1
    assert outcome.error["type"] == "KeyboardInterrupt"
    assert "interrupted" in outcome.error["message"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
def test_out_of_memory(campaign):
    def greedy():
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))
        kept = []
        while True:
            kept.append(bytearray(1 << 20))

    campaign.add(greedy)
    outcome = campaign.run()
    assert (outcome.exit_code, outcome.error["reason"]) == (1, "out_of_memory")


# --- processes that end by themselves ----------


@pytest.mark.parametrize("code", [0, 7])
def test_os_exit_leaves_neither_result_nor_error(campaign, code):
    campaign.add(lambda: os._exit(code))
    outcome = campaign.run()
    assert outcome.exit_code == code
    assert not outcome.has_result
    assert not outcome.has_error


def test_a_segmentation_fault_says_where(campaign):
    def crash():
        os.kill(os.getpid(), signal.SIGSEGV)

    campaign.add(crash)
    outcome = campaign.run()
    assert outcome.exit_code == -signal.SIGSEGV
    assert not outcome.has_result
    assert "in crash" in outcome.stderr


def test_a_built_in_function_that_raises(campaign):
    campaign.add(int, "no number")
    error = campaign.run().error
    assert "invalid literal" in error["message"]
    assert error["traceback"].startswith("Traceback")


def test_a_message_commands_no_terminal(campaign):
    def fail():
        raise ValueError("\x1b[2J\x1b]0;title\x07red\x1b[31m \x00 \u202e two\n\tlines \udcff")

    campaign.add(fail)
    outcome = campaign.run()
    assert outcome.error["message"] == "red \ufffd \ufffd two\n\tlines \ufffd"
    assert "\x1b[31m" in outcome.error["traceback"], "what the function said, as it said it"


def test_half_a_surrogate_pair_does_not_reach_the_record(campaign):
    def fail():
        raise type("Bad", (Exception,), {"__module__": "m\udcff"})("\udcff")

    campaign.add(fail)
    error = campaign.run().error
    assert (error["module"], error["message"]) == ("m\ufffd", "\ufffd")
    for text in (error["type"], error["module"], error["message"], error["traceback"]):
        text.encode()  # would raise
    assert error["traceback"].endswith("m\\udcff.Bad: \\udcff\n")


# --- imports ----------


def test_a_module_missing_in_the_body(campaign):
    def use():
        import surely_missing.part  # noqa: F401

    campaign.add(use)
    error = campaign.run().error
    assert error["reason"] == "import_error"
    assert "lacks the module 'surely_missing'" in error["message"]
    assert "import surely_missing.part" in error["traceback"]


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        (None, "lacks the module 'gone_module'"),
        ("", "lacks what is named here"),
        ("import absent", "lacks the module 'absent'"),
    ],
    ids=["no module", "no such name", "its own import"],
)
def test_what_a_pickled_function_names_is_missing(campaign, tmp_path, source, wanted):
    if source is not None:
        (tmp_path / "gone_module.py").write_text(source)
    campaign.record("chore-f-0001", kind="python", callable="f")
    campaign.write(campaign.dir.registry_dir / "f", b"cgone_module\nfunction\n.")
    outcome = campaign.run(env={"MATENSEMBLE_SCRIPT_DIR": str(tmp_path)})
    assert outcome.error["reason"] == "import_error"
    assert wanted in outcome.error["message"]


def test_a_module_missing_for_an_argument(campaign):
    campaign.register("f", boom)
    (place, _) = campaign.freeze(((), {}))
    path = campaign.dir.arguments_path
    campaign.write(path, b"cgone_module\nthing\n.")
    campaign.record(
        "chore-f-0001",
        kind="python",
        callable="f",
        arguments=(place.file, 0, path.stat().st_size),
    )
    assert campaign.run().error["reason"] == "import_error"


# --- results ----------


def exploding():
    class Exploding:
        def __reduce__(self):
            raise RuntimeError("cannot be reduced")

    return {"inner": [Exploding()]}


def nested():
    value = []
    for _ in range(200_000):
        value = [value]
    return value


async def coroutine():
    return 1


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lambda: (n for n in range(3)), "a generator"),
        (lambda: {"log": Path(os.devnull).open("w")}, "['log'], a TextIOWrapper"),  # noqa: SIM115
        (lambda: sys._getframe(), "a frame"),
        (exploding, "['inner'][0], an Exploding (RuntimeError: cannot be reduced)"),
        (nested, "too deep|depth|recursion"),
        (coroutine, "a coroutine"),
        (lambda: __import__("threading").Lock(), "a lock"),
    ],
    ids=["generator", "file", "frame", "reduce", "deep", "coroutine", "lock"],
)
def test_results_that_cannot_be_pickled(campaign, function, wanted):
    campaign.add(function)
    outcome = campaign.run()
    error = outcome.error
    assert (outcome.exit_code, error["reason"]) == (1, "unpicklable_result")
    assert not outcome.has_result
    assert "what the function returned cannot be pickled" in error["message"]
    assert any(part in error["message"] for part in wanted.split("|"))


def test_results_that_only_look_difficult(campaign):
    def make():
        ring = []
        ring.append(ring)
        return ring, lambda x: x + len(ring)

    campaign.add(make)
    ring, function = campaign.run().result
    assert ring[0] is ring
    assert function(1) == 2


def test_a_result_that_cannot_be_written(campaign):
    def block():
        Path("result.pickle").mkdir()

    campaign.add(block)
    outcome = campaign.run()
    assert (outcome.exit_code, outcome.error["reason"]) == (1, "io_error")
    assert "result.pickle" in outcome.error["message"]


def test_an_error_that_cannot_be_written_still_reaches_stderr(campaign):
    def block():
        Path("error.json").mkdir()
        raise ValueError("the reason")

    campaign.add(block)
    outcome = campaign.run()
    assert outcome.exit_code == 1
    assert "ValueError: the reason" in outcome.stderr
    assert "error.json could not be written" in outcome.stderr


# --- upstream results ----------


def test_an_upstream_result_is_missing(campaign):
    campaign.add(boom, OutputReference(UP))
    error = campaign.run().error
    assert error["reason"] == "result_missing"
    assert error["message"].startswith(f"{UP} has no result")


def test_an_upstream_result_is_corrupt(campaign):
    path = campaign.complete(UP, list(range(100)))
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    campaign.add(boom, OutputReference(UP))
    error = campaign.run().error
    assert error["reason"] == "result_corrupt"
    assert UP in error["message"]


def test_an_upstream_result_is_truncated(campaign):
    path = campaign.complete(UP, list(range(100)))
    path.write_bytes(path.read_bytes()[:-10])
    campaign.add(boom, OutputReference(UP))
    assert campaign.run().error["reason"] == "result_corrupt"


def test_an_upstream_result_that_cannot_be_unpickled_names_its_chore(campaign):
    path = campaign.dir.chore_dir(UP)
    path.mkdir()
    wire.write_result(path / "result.pickle", b"cbuiltins\nint\n(S'x'\ntR.", 1)
    campaign.add(boom, OutputReference(UP))
    error = campaign.run().error
    assert error["reason"] == "exception"
    assert f"while the result of {UP} was loaded" in error["traceback"]


def test_an_upstream_result_that_others_can_write_is_not_loaded(campaign):
    path = campaign.complete(UP, 1)
    path.chmod(0o666)
    campaign.add(boom, OutputReference(UP))
    error = campaign.run().error
    assert error["reason"] == "io_error"
    assert "can be written by others" in error["message"]


def test_a_part_that_the_result_lacks(campaign):
    campaign.complete(UP, {"energy": 1})
    campaign.add(boom, OutputReference(UP)["enrgy"])
    error = campaign.run().error
    assert (error["reason"], error["type"]) == ("exception", "PartMissingError")
    assert "enrgy" in error["message"]
    assert "energy" in error["message"], "what there is instead"


# --- the record ----------


def test_the_record_of_another_chore(campaign):
    campaign.add(boom)
    outcome = campaign.run(as_id="chore-g-0001")
    assert outcome.error["reason"] == "io_error"
    assert "is the record of chore-f-0001, not of chore-g-0001" in outcome.error["message"]


def test_a_record_that_is_none(campaign):
    path = campaign.add(boom)
    path.write_bytes(b"garbage")
    assert campaign.run().error["reason"] == "io_error"


def test_a_record_that_is_not_there(campaign):
    campaign.add(boom).unlink()
    error = campaign.run().error
    assert (error["reason"], error["attempt"]) == ("io_error", None)


@pytest.mark.parametrize("damage", ["gone", "damaged", "of another chore"])
def test_the_attempt_is_known_without_the_record(campaign, damage):
    path = campaign.add(boom)
    if damage == "gone":
        path.unlink()
    elif damage == "damaged":
        path.write_bytes(b"garbage")
    as_id = "chore-g-0001" if damage == "of another chore" else None
    error = campaign.run(env={"MATENSEMBLE_ATTEMPT": "3"}, as_id=as_id).error
    assert (error["reason"], error["attempt"]) == ("io_error", 3)


@pytest.mark.parametrize("file", ["record", "registry", "arguments"])
def test_a_link_in_place_of_a_pickle_is_not_followed(campaign, file):
    record = campaign.add(boom)
    path = {
        "record": record,
        "registry": campaign.dir.registry_dir / "f",
        "arguments": campaign.dir.arguments_path,
    }[file]
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))
    error = campaign.run().error
    assert error["reason"] == "io_error"
    assert "symbolic link" in error["message"]


# --- several tasks ----------


@pytest.mark.parametrize("order", [(0, 2, 1), (2, 0, 1), (1, 2, 0)])
def test_the_error_of_rank_zero_is_the_one_kept(campaign, order):
    def fail():
        raise ValueError(os.environ["MATENSEMBLE_TASK_RANK"])

    campaign.add(fail, record={"num_tasks": 3})
    for rank in order:
        outcome = campaign.run(env={"MATENSEMBLE_TASK_RANK": str(rank)})
        assert outcome.exit_code == 1
    assert (outcome.error["rank"], outcome.error["message"]) == (0, "0")


def test_another_rank_speaks_where_rank_zero_does_not(campaign):
    def fail():
        rank = int(os.environ["MATENSEMBLE_TASK_RANK"])
        if rank:
            raise ValueError(rank)
        return "fine"

    campaign.add(fail, record={"num_tasks": 3})
    outcomes = [campaign.run(env={"MATENSEMBLE_TASK_RANK": r}) for r in "201"]
    assert [one.exit_code for one in outcomes] == [1, 0, 1]
    assert outcomes[0].error["rank"] == 2
    assert outcomes[2].stderr.startswith("task 1: Traceback")
    assert outcomes[1].result == "fine"
    assert sorted(path.name for path in outcomes[0].directory.iterdir()) == (
        ["chore.pickle", "error.json", "result.pickle"]
    )


def test_a_failed_mpi_rank_ends_the_others(campaign, tmp_path):
    (tmp_path / "mpi4py").mkdir()
    (tmp_path / "mpi4py" / "__init__.py").touch()
    (tmp_path / "mpi4py" / "MPI.py").write_text(
        "import os\n"
        "Is_initialized = lambda: True\n"
        "Is_finalized = lambda: False\n"
        "class COMM_WORLD:\n"
        "    Get_size = staticmethod(lambda: 2)\n"
        "    Abort = staticmethod(lambda code: os._exit(40 + code))\n"
    )

    def fail():
        from mpi4py import MPI  # noqa: F401

        raise ValueError("one of two")

    campaign.add(fail, record={"num_tasks": 2})
    outcome = campaign.run(env={"PMI_RANK": "1", "PYTHONPATH": str(tmp_path)})  # hides a real one
    assert outcome.exit_code == 41
    assert outcome.error["message"] == "one of two"


# --- the table of reasons ----------


def test_the_reasons_are_those_of_the_model():
    reasons = {reason for _, _, reason in failure._REASONS}
    assert reasons < set(Reason)


def test_the_stages_are_those_of_the_worker():
    stages = {stage for names, _, _ in failure._REASONS for stage in names}
    source = Path(runtime_worker.__file__).read_text() + Path(program.__file__).read_text()
    assert all(
        f'stage = "{stage}"' in source or f': Stage = "{stage}"' in source for stage in stages
    )
