"""What another user of the machine put there: no pickle of theirs is loaded, no request obeyed."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from matensemble import disk, wire
from matensemble.cli import main
from matensemble.control import Verb, answer_path, leave_request, make_request
from matensemble.errors import FormatError, RunDirectoryError
from matensemble.model import ChoreState
from matensemble.pipeline import Pipeline
from matensemble.results import Results
from matensemble.runtime.control_desk import ControlDesk
from matensemble.workdir import RunDir

SOMEBODY = 4711
NUM_READS = 200_000
ONE = "chore-one-0001"
PICKLES = ["workflow.args", "out/registry/one"]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")


class Canary:
    """Leaves a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def hatched(tmp_path):
    return tmp_path / "hatched"


@pytest.fixture
def egg(hatched):
    egg = pickle.dumps(Canary(hatched))
    pickle.loads(egg)
    assert hatched.exists(), "the canary works"
    hatched.unlink()
    return egg


def give_away(path):
    os.chown(path, SOMEBODY, -1)


def let_others_write(path):
    path.chmod(0o620)


def put_a_link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def put_a_pipe(path):
    path.unlink()
    os.mkfifo(path, 0o600)


WAYS = [pytest.param(give_away, marks=as_root), let_others_write, put_a_link, put_a_pipe]


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A run of one function, which is over."""
    pipe = Pipeline(tmp_path_factory.mktemp("ended"))
    pipe.chore(name="one")(int)()
    pipe.submit(executor="local", cores=1).result(60)
    return pipe.run_dir


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize("spoil", WAYS)
def test_result_that_somebody_else_could_have_written_is_not_loaded(
    ended, tmp_path, egg, hatched, spoil
):
    run = RunDir(Path(shutil.copytree(ended, tmp_path / "run")))
    path = run.chore_dir(ONE) / "result.pickle"
    wire.write_result(path, egg, 1)
    spoil(path)
    with pytest.raises(FormatError, match=r"pickle|load it|regular file"):
        Results.read(run)[ONE]
    assert not hatched.exists()


def start_run_with(egg, folder, name, spoil):
    """Run a chore whose pickle was replaced; return how it ended."""
    pipe = Pipeline(folder)
    pipe.chore(name="one")(len)(bytes(1000))  # room for the egg
    run_dir = Path(pipe.save())
    path = run_dir / name
    path.write_bytes(egg.ljust(path.stat().st_size, b"."))
    spoil(path)
    CliRunner().invoke(main, ["run", str(run_dir), "--executor", "local", "--cores", "1"])
    return Results.read(run_dir).outcome(ONE)


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize("spoil", WAYS[:3])
@pytest.mark.parametrize("name", PICKLES)
def test_code_that_somebody_else_could_have_written_does_not_run(
    tmp_path, egg, hatched, name, spoil
):
    outcome = start_run_with(egg, tmp_path / "runs", name, spoil)
    assert outcome.state is ChoreState.FAILED
    assert not hatched.exists()


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize("name", PICKLES)
def test_what_belongs_to_me_is_loaded_and_runs(tmp_path, egg, hatched, name):
    """The limit of it: a run directory that I copied from somebody is that person's program."""
    start_run_with(egg, tmp_path / "runs", name, lambda path: None)
    assert hatched.exists()


@pytest.mark.slow
def test_file_that_is_swapped_in_a_loop_is_never_taken_for_mine(tmp_path):
    """What is checked is what was opened, whatever the name stands for by then."""
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    disk.write_atomic(mine, b"mine")
    disk.write_atomic(theirs, b"theirs")
    theirs.chmod(0o666)
    path = tmp_path / "f"
    disk.write_atomic(path, b"mine")
    done = threading.Event()

    def swap():
        while not done.is_set():
            for make in (os.link, os.symlink):
                for target in (theirs, mine):
                    make(target, tmp_path / "next")
                    (tmp_path / "next").rename(path)
                    path.unlink(missing_ok=True)  # a rename onto the same file does nothing
                    (tmp_path / "next").unlink(missing_ok=True)

    swapper = threading.Thread(target=swap)
    swapper.start()
    refused = taken = 0
    try:
        while not (refused > 50 and taken > 5) and refused + taken < NUM_READS:
            try:
                assert wire.read_trusted(path) == b"mine"
                taken += 1
            except FormatError:
                refused += 1
            except FileNotFoundError:
                pass
    finally:
        done.set()
        swapper.join()
    assert refused
    assert taken


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path)


@pytest.fixture
def desk(run):
    return ControlDesk(run, logging.getLogger("test"))


@as_root
def test_request_of_somebody_else_is_ignored(run, desk):
    mine, theirs = make_request(Verb.PAUSE), make_request(Verb.CANCEL)
    leave_request(run, mine)
    forged = run.control_dir / f"request-{theirs.id}.json"
    # All of it is as it should be, and it says that I asked; but the file is another user's.
    disk.write_atomic(forged, json.dumps(mine.to_json() | {"id": theirs.id}).encode())
    give_away(forged)
    assert desk.poll() == [mine]
    assert not forged.exists()
    assert (
        f"left by user {SOMEBODY}" in json.loads(answer_path(run, theirs.id).read_bytes())["text"]
    )


@as_root
def test_directory_for_requests_of_somebody_else_is_not_used(run, desk):
    leave_request(run, make_request(Verb.PAUSE))
    give_away(run.control_dir)
    assert desk.poll() == []
    with pytest.raises(RunDirectoryError, match=f"belongs to user {SOMEBODY}"):
        leave_request(run, make_request(Verb.PAUSE))


def test_link_in_the_place_of_that_directory_is_not_used(run, desk, tmp_path):
    elsewhere = RunDir(tmp_path / "elsewhere")
    elsewhere.root.mkdir()
    leave_request(elsewhere, make_request(Verb.PAUSE))
    run.control_dir.symlink_to(elsewhere.control_dir)
    assert desk.poll() == []
    with pytest.raises(RunDirectoryError, match="is no directory"):
        leave_request(run, make_request(Verb.PAUSE))
