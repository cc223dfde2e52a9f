"""The saved part of a run directory: written whole or not at all, read with typed errors."""

import io
import json
import stat

import pytest

from matensemble.chore import CallShape, Place
from matensemble.errors import FormatError, IncompatibleEnvironmentError, RunDirectoryError
from matensemble.model import Resources
from matensemble.policy import ChorePolicy
from matensemble.workdir import RunDir
from matensemble.workflow import (
    CallableEntry,
    Manifest,
    StrategyEntry,
    Workflow,
    create_run_dir,
    present_versions,
    utc_now,
    write_workflow,
)

HEADERS = [
    '{"id":"chore-a-0001","name":"a","kind":"python","arguments":["workflow.args",0,4]}',
    '{"id":"chore-b-0002","name":"b","kind":"python","deps":["chore-a-0001"],'
    '"arguments":["workflow.args",4,4],"env":["workflow.args",8,9]}',
]
ARGUMENTS = b'AAAABBBB{"K":"v"}'


def manifest(**changes):
    known = {
        "name": "study",
        "created_at": utc_now(),
        "versions": present_versions(),
        "num_chores": 2,
        "next_number": 3,
        "groups": {"a": 1, "b": 1},
        "by_value": ("study",),
        "callables": {
            "a": CallableEntry(shape=CallShape.of(lambda x, *, y=1: x)),
            "b": CallableEntry(
                shape=CallShape(None),
                resources=Resources(num_tasks=2),
                env_place=Place("workflow.args", 8, 9),
                policy=ChorePolicy(3),
            ),
        },
        "strategies": (
            StrategyEntry(
                name="b",
                triggers=("a",),
                arguments=Place("workflow.args", 0, 4),
                policy=ChorePolicy(on_failure="abort"),
            ),
        ),
    }
    return Manifest(**{**known, **changes})


@pytest.fixture
def run(tmp_path):
    run = create_run_dir(tmp_path)
    write_workflow(run, manifest(), HEADERS, io.BytesIO(ARGUMENTS), {"a": b"x", "b": b"y"})
    return run


def test_names_never_collide_and_are_private(tmp_path):
    runs = [create_run_dir(tmp_path / "new" / "base") for _ in range(3)]
    assert len({run.root for run in runs}) == 3
    for run in runs:
        assert run.root.name.startswith("matensemble_workflow-")
        assert stat.S_IMODE(run.root.stat().st_mode) == 0o700


def test_basedir_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="cannot be created"):
        create_run_dir(tmp_path / "file")


def test_round_trip(run):
    workflow = Workflow.read(run.root)
    assert workflow.manifest == manifest(created_at=workflow.manifest.created_at)
    first, second = workflow.chores()
    assert second.upstream == (first.id,)
    assert workflow.read_env(second.env_place) == {"K": "v"}
    assert workflow.read_env(None) is None
    assert (run.registry_dir / "a").read_bytes() == b"x"


def test_what_chores_have_in_common_is_kept_once(run):
    first, second = Workflow.read(run).chores()
    assert second.deps == (first.id,)
    assert second.deps[0] is first.id
    assert second.arguments.file is first.arguments.file
    assert second.outputs is first.outputs


def test_every_file_is_private(run):
    for path in run.root.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_no_absolute_path_is_saved(run):
    text = run.manifest_path.read_text() + run.chores_path.read_text()
    assert str(run.root.parent) not in text


def test_unknown_fields_are_ignored(run):
    data = json.loads(run.manifest_path.read_text())
    data["later"] = data["callables"]["a"]["later"] = data["strategies"][0]["later"] = 1
    run.manifest_path.write_text(json.dumps(data))
    assert Workflow.read(run).manifest.num_chores == 2


def test_failed_write_leaves_nothing(tmp_path):
    run = create_run_dir(tmp_path)

    def headers():
        yield HEADERS[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(RunDirectoryError, match="No space left"):
        write_workflow(run, manifest(), headers(), io.BytesIO(ARGUMENTS), {"a": b"x"})
    assert list(tmp_path.iterdir()) == []


def test_unfinished_directory_is_no_run(run, tmp_path):
    run.manifest_path.unlink()
    for path in (run.root, tmp_path / "missing", run.chores_path):
        with pytest.raises(RunDirectoryError, match="no run directory"):
            Workflow.read(path)


def test_a_manifest_of_before_there_were_policies_is_read():
    data = json.loads(json.dumps(manifest().to_json()))
    for entry in (*data["callables"].values(), *data["strategies"]):
        del entry["policy"]
    older = Manifest.from_json(data)
    assert {entry.policy for entry in older.callables.values()} == {ChorePolicy()}
    assert [entry.policy for entry in older.strategies] == [ChorePolicy()]


@pytest.mark.parametrize("key", sorted(manifest().to_json()))
def test_manifest_without_a_field(run, key):
    data = json.loads(run.manifest_path.read_text())
    del data[key]
    run.manifest_path.write_text(json.dumps(data))
    with pytest.raises(FormatError, match=r"workflow\.json"):
        Workflow.read(run)


@pytest.mark.parametrize("content", ["", "[]", "3", "{", '{"format": 99}', "[" * 100_000])
def test_damaged_manifest(run, content):
    run.manifest_path.write_text(content)
    with pytest.raises(FormatError, match=r"workflow\.json"):
        Workflow.read(run)


def test_manifest_truncated_at_every_byte(run):
    content = run.manifest_path.read_bytes()
    for size in range(len(content.rstrip())):
        run.manifest_path.write_bytes(content[:size])
        with pytest.raises(FormatError):
            Workflow.read(run)


def test_headers_truncated_at_every_byte(run):
    content = run.chores_path.read_bytes()
    for size in range(len(content) - 1):  # the last newline is not needed
        run.chores_path.write_bytes(content[:size])
        with pytest.raises(FormatError, match=r"line \d"):
            list(Workflow.read(run).chores())


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (HEADERS[0], "comes twice"),
        (HEADERS[1].replace("chore-a-0001", "chore-x-0009"), "does not stand before it"),
        (HEADERS[1].replace("chore-b-0002", "../../etc"), "cannot be a directory name"),
        (HEADERS[1].replace('"b"', '"b/c"'), "path separator"),
        (HEADERS[1].replace("4,4", "4,400"), "outside workflow.args"),
        (HEADERS[1].replace("workflow.args", "/etc/passwd"), "outside workflow.args"),
        (HEADERS[1].replace("4,4", "-4,4"), "outside workflow.args"),
        (HEADERS[1].replace("python", "magic"), "magic"),
        (HEADERS[1].replace('"id"', '"ID"'), "KeyError"),
        ("[]", "line 2"),
        ("{", "line 2"),
    ],
)
def test_damaged_header_names_its_line(run, line, problem):
    run.chores_path.write_text(f"{HEADERS[0]}\n{line}\n")
    with pytest.raises(FormatError) as info:
        list(Workflow.read(run).chores())
    assert "line 2" in str(info.value)
    assert problem in str(info.value)


def test_missing_files(run):
    run.arguments_path.unlink()
    with pytest.raises(FormatError, match=r"workflow\.args"):
        list(Workflow.read(run).chores())


def test_damaged_environment(run):
    workflow = Workflow.read(run)
    with pytest.raises(FormatError, match="holds no environment"):
        workflow.read_env(Place("workflow.args", 0, 4))
    with pytest.raises(FormatError, match="holds no environment"):
        workflow.read_env(Place("missing", 0, 4))


def test_environment_check():
    recorded = manifest()
    recorded.check_environment()
    present = present_versions()
    recorded.check_environment({**present, "python_full": "x", "matensemble": "9"})
    patch = ".".join([*present["cloudpickle"].split(".")[:2], "99"])
    recorded.check_environment({**present, "cloudpickle": patch})
    with pytest.raises(IncompatibleEnvironmentError, match=r"Python .*this environment has 3\.99"):
        recorded.check_environment({**present, "python": "3.99"})
    with pytest.raises(IncompatibleEnvironmentError, match="cloudpickle"):
        recorded.check_environment({**present, "cloudpickle": "99.0.0"})


def test_run_dir_is_a_path_like(run):
    assert Workflow.read(RunDir(run.root)).run.root == run.root
