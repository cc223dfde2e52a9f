"""What a worker does when the disk refuses: nothing false, and the driver can tell."""

from __future__ import annotations

import errno
import sys
from types import SimpleNamespace

import pytest

from matensemble import failure, wire
from matensemble.chore import Chore
from matensemble.disk import DISK_TROUBLE
from matensemble.model import ChoreType, OutputReference, Reason
from matensemble.runtime.executors.base import JobEnded
from matensemble.runtime.settlement import settle

UP = "chore-up-0001"
CHORE = Chore("chore-f-0001", "f", ChoreType.PYTHON, callable="f")


def failing_open(number, *endings):
    """A script that starts the worker with an `os.open` that fails where it would write."""
    return (
        "-P",
        "-c",
        "import os\n"
        "real = os.open\n"
        "def fail(path, flags, *args, **kwargs):\n"
        "    name = os.fspath(path).removesuffix('.tmp')[:-9]\n"
        f"    if flags & os.O_CREAT and name.endswith({endings}):\n"
        f"        raise OSError({int(number)}, os.strerror({int(number)}), path)\n"
        "    return real(path, flags, *args, **kwargs)\n"
        "os.open = fail\n"
        "from matensemble.runtime_worker import main\n"
        "raise SystemExit(main())\n",
    )


def settled(campaign, outcome):
    return settle(campaign.dir, CHORE, JobEnded(CHORE.id, 1, outcome.exit_code))


@pytest.mark.parametrize("number", sorted(DISK_TROUBLE))
def test_a_result_that_finds_no_room_is_told_with_its_errno(campaign, number):
    campaign.add(lambda: 1)
    outcome = campaign.run(python=failing_open(number, "result.pickle"))
    assert (outcome.exit_code, outcome.has_result) == (1, False)
    assert (outcome.error["reason"], outcome.error["errno"]) == ("io_error", number)
    finished = settled(campaign, outcome)
    assert (finished.reason, finished.errno) == (Reason.IO_ERROR, number)


def test_a_disk_that_takes_nothing_at_all_is_told_by_the_exit_code(campaign):
    campaign.add(lambda: 1)
    outcome = campaign.run(python=failing_open(errno.ENOSPC, "result.pickle", "error.json"))
    assert (outcome.exit_code, outcome.has_error) == (74, False)
    assert "error.json could not be written: [Errno 28]" in outcome.stderr
    assert settled(campaign, outcome).reason is Reason.IO_ERROR


def test_other_trouble_with_the_record_keeps_the_exit_code(campaign):
    def fail():
        raise ValueError("the reason")

    campaign.add(fail)
    outcome = campaign.run(python=failing_open(errno.EACCES, "error.json"))
    assert (outcome.exit_code, outcome.has_error) == (1, False)


def test_an_os_error_of_the_function_is_its_own(campaign):
    def fail():
        raise OSError(errno.ENOSPC, "the scratch disk is full")

    campaign.add(fail)
    outcome = campaign.run()
    assert (outcome.error["reason"], outcome.error["errno"]) == ("exception", errno.ENOSPC)
    assert settled(campaign, outcome).errno is None


@pytest.mark.parametrize("damage", ["gone", "cut", "of another chore"])
def test_a_result_upstream_that_is_no_good_is_named(campaign, damage):
    path = campaign.complete(UP, list(range(50)))
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        wire.write_result(path, wire.dumps([1]), 1, chore_id="chore-up-0002")
    campaign.add(len, OutputReference(UP))
    outcome = campaign.run()
    assert outcome.error["upstream"] == UP
    chore = Chore(CHORE.id, "f", ChoreType.PYTHON, deps=(UP,), callable="f")
    finished = settle(campaign.dir, chore, JobEnded(chore.id, 1, outcome.exit_code))
    assert finished.culprit == UP


def test_the_attempt_of_a_damaged_result_is_the_one_of_the_preparation():
    deps = [{"id": "a"}, {"id": "b", "attempt": 2}, {"gather": [{"id": "c", "attempt": 3}]}]
    task = SimpleNamespace(record={"deps": deps})
    found = [failure.find_upstream_attempt(task, chore_id) for chore_id in ("a", "b", "c", "d")]
    assert found == [None, 2, 3, None]


def test_a_result_that_the_function_itself_misses_names_nobody(campaign):
    campaign.complete(UP, 1)

    def look(_):
        wire.read_result("/nowhere", UP)

    campaign.add(look, OutputReference(UP))
    assert "upstream" not in campaign.run().error


@pytest.mark.skipif(sys.platform != "linux", reason="names of descriptors come from /proc")
def test_a_durable_result_is_on_the_disk_before_and_under_its_name_after(campaign):
    trace = (
        "-P",
        "-c",
        "import os, sys\n"
        "def traced(name, real):\n"
        "    def call(*args):\n"
        "        shown = [os.path.basename(os.readlink(f'/proc/self/fd/{a}')) if name == 'fsync'\n"
        "                 else os.path.basename(a) for a in args]\n"
        "        print(name, *(s.partition('.pickle')[0] for s in shown), file=sys.stderr)\n"
        "        return real(*args)\n"
        "    return call\n"
        "for name in ('fsync', 'replace'):\n"
        "    setattr(os, name, traced(name, getattr(os, name)))\n"
        "from matensemble.runtime_worker import main\n"
        "raise SystemExit(main())\n",
    )
    campaign.add(lambda: 1, record={"durable": True})
    outcome = campaign.run(python=trace)
    assert outcome.result == 1
    assert outcome.stderr.splitlines() == [
        *("fsync result", "replace result result", "fsync chore-f-0001"),
    ]
    campaign.add(lambda: 2)
    assert "fsync" not in campaign.run(python=trace).stderr
