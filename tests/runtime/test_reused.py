"""Bringing reused results into a run, and completed ones into a cache."""

import json
import os
import pickle
import shutil
import stat
from itertools import count

import cloudpickle
import pytest

from matensemble import disk, wire
from matensemble.file_watch import FileWatch
from matensemble.model import ChoreType
from matensemble.pipeline import Pipeline
from matensemble.records import RecordKind, encode_journal_record, journal_stamp
from matensemble.results import Results
from matensemble.reuse import why_not_reused
from matensemble.runtime import reused
from matensemble.runtime.reused import ResultCache, take_over
from matensemble.workdir import RunDir
from matensemble.workflow import Workflow


def double(x):
    return 2 * x


def save(folder, author=None, **options):
    """Save a pipeline with a function, what calls it again, and a program."""
    pipe = Pipeline(folder, **options)
    function = pipe.chore(name="double")(double)
    if author is None:
        first = function(1)
        function(first)
        pipe.exec(["echo", first], name="say", outputs={"log": "sub/log.txt", "all": "frames"})
    else:
        author(pipe, function)
    return RunDir(pipe.save())


def run(run_dir, cache=None, attempt=1):
    """Carry out a saved run as a driver would; return the ids of the chores that really ran."""
    taken = {t.chore_id: t for t in take_over(run_dir, cache)}
    records = [(RecordKind.RUN_STARTED, None, 1, {"format": 1})]
    ran = []
    for chore in Workflow.read(run_dir).chores():
        if chore.id in taken:
            one = taken[chore.id]
            fields = {"from": one.source, "key": one.key, "x": one.exit_code}
            records.append((RecordKind.REUSED, chore.id, one.attempt, fields))
            continue
        ran.append(chore.id)
        compute(run_dir, chore, attempt)
        records.append((RecordKind.SUBMIT_INTENT, chore.id, attempt, {}))
        records.append((RecordKind.COMPLETED, chore.id, attempt, {}))
        if cache is not None:
            cache.store(chore, attempt, 0)
    stamp = journal_stamp(1, 0.0, 0.0)
    lines = [
        encode_journal_record(number, stamp, kind, chore_id, n, fields)
        for number, (kind, chore_id, n, fields) in enumerate(records, 1)
    ]
    run_dir.journal_path.write_bytes(b"".join(lines))
    if cache is not None:
        cache.close()
    return ran


def open_cache(run_dir):
    return ResultCache.open(run_dir, FileWatch.open(run_dir))


def compute(run_dir, chore, attempt):
    directory = run_dir.chore_dir(chore.id)
    disk.make_dir(directory)
    (directory / "stderr").write_text("noise")
    if chore.kind is ChoreType.EXECUTABLE:
        (directory / "stdout").write_text("said")
        (directory / "sub").mkdir()
        (directory / "sub/log.txt").write_text("log")
        (directory / "frames").mkdir()
        (directory / "frames/1").write_text("frame")
        (directory / "undeclared").write_text("x")
        return
    arguments = wire.read_trusted(run_dir.arguments_path, *chore.arguments[1:])
    args, kwargs = wire.thaw(arguments, lambda slot: result(run_dir, chore.deps[slot]))
    function = cloudpickle.loads((run_dir.registry_dir / chore.callable).read_bytes())
    path = directory / "result.pickle"
    wire.write_result(path, wire.dumps(function(*args, **kwargs)), attempt, chore_id=chore.id)


def result(run_dir, chore_id):
    return wire.load_result(run_dir.chore_file(chore_id, "result.pickle"), chore_id, pickle.loads)


ALL = ["chore-double-0001", "chore-double-0002", "chore-say-0003"]


# --- from an earlier run ----------------------------------------------------------------------


def test_results_are_brought_over_and_read_back(tmp_path):
    first = save(tmp_path, resume="latest")
    assert run(first, attempt=3) == ALL
    second = save(tmp_path, resume="latest")
    taken = list(take_over(second))
    assert [t.chore_id for t in taken] == ALL
    assert [t.attempt for t in taken] == [3, 3, 3]
    assert run(second) == []
    results = Results.read(second)
    assert list(results) == ALL
    assert [results[i] for i in ALL[:2]] == [2, 4]
    said = results["chore-say-0003"]
    assert str(said) == "said"
    assert said["log"].read_text() == "log"
    assert (said["all"] / "1").read_text() == "frame"
    assert said.workdir == second.chore_dir("chore-say-0003")
    assert not (said.workdir / "undeclared").exists()
    assert why_not_reused(second, ALL[0]) is None
    # A third one takes from the second, though nothing ran there.
    shutil.rmtree(first.root)
    assert run(save(tmp_path, resume="latest")) == []


def test_a_result_of_the_same_id_is_linked_and_the_rest_copied(tmp_path):
    first = save(tmp_path, resume="latest")
    run(first)
    second = save(tmp_path, resume="latest")
    run(second)
    for name, is_linked in (("result.pickle", True), ("stderr", False)):
        old, new = (r.chore_file(ALL[0], name) for r in (first, second))
        assert old.samefile(new) is is_linked
    old, new = (r.chore_file(ALL[2], "sub/log.txt") for r in (first, second))
    assert not old.samefile(new)


def test_a_result_of_another_id_is_bound_to_its_new_chore(tmp_path):
    run(save(tmp_path, lambda pipe, function: (function(1), function(2)), resume="latest"))
    second = save(tmp_path, lambda pipe, f: (f(0), f(2), f(3), f(1)), resume="latest")
    assert run(second, attempt=2) == ["chore-double-0001", "chore-double-0003"]
    assert result(second, "chore-double-0002") == 4
    assert result(second, "chore-double-0004") == 2
    path = second.chore_file("chore-double-0004", "result.pickle")
    assert wire.check_result(path, "chore-double-0004") == 1
    assert why_not_reused(second, "chore-double-0001") == "it is a new chore"


def test_without_links_a_result_is_copied(tmp_path, monkeypatch):
    run(save(tmp_path, resume="latest"))

    def refuse(*args):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    second = save(tmp_path, resume="latest")
    assert run(second) == []
    assert result(second, ALL[0]) == 2


def test_what_vanished_since_runs_and_says_so(tmp_path, caplog):
    first = save(tmp_path, resume="latest")
    run(first)
    second = save(tmp_path, resume="latest")
    first.chore_file(ALL[0], "result.pickle").unlink()
    first.chore_file(ALL[2], "sub/log.txt").unlink()
    assert run(second) == [ALL[0], ALL[2]]
    assert f"{ALL[0]} is not taken over" in caplog.text
    assert "could not be taken over" in why_not_reused(second, ALL[0])
    assert result(second, ALL[1]) == 4


def test_a_damaged_result_is_not_rewritten(tmp_path):
    def author(pipe, function):
        function(1)

    first = save(tmp_path, author, resume="latest")
    run(first)
    second = save(tmp_path, lambda pipe, f: (f(0), f(1)), resume="latest")
    path = first.chore_file(ALL[0], "result.pickle")
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    assert run(second) == ["chore-double-0001", "chore-double-0002"]


def test_a_result_that_others_could_have_written_is_not_taken_over(tmp_path, caplog):
    first = save(tmp_path, resume="latest")
    run(first)
    second = save(tmp_path, resume="latest")
    first.chore_file(ALL[0], "result.pickle").chmod(0o666)
    assert run(second) == [ALL[0]]
    assert "can be written by others" in caplog.text


@pytest.mark.parametrize("step", ["_copy", "_link", "check_result"])
def test_a_kill_in_the_middle_is_repeated_harmlessly(tmp_path, monkeypatch, step):
    first = save(tmp_path, resume="latest")
    run(first)
    second = save(tmp_path, resume="latest")
    module = wire if step == "check_result" else reused
    real = getattr(module, step)

    def killed(*args):
        real(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, step, killed)
    with pytest.raises(KeyboardInterrupt):
        list(take_over(second))
    monkeypatch.undo()
    assert run(second) == []
    assert [result(second, i) for i in ALL[:2]] == [2, 4]
    assert not list(second.out_dir.rglob("*.tmp"))
    assert result(first, ALL[0]) == 2


def test_what_the_journal_knows_is_left_alone(tmp_path):
    run(save(tmp_path, resume="latest"))
    second = save(tmp_path, resume="latest")
    taken = take_over(second, is_settled=lambda chore_id: chore_id != ALL[1])
    assert [t.chore_id for t in taken] == [ALL[1]]
    assert not second.chore_dir(ALL[0]).exists()


def test_nothing_is_done_where_nobody_asked(tmp_path):
    plain = save(tmp_path)
    assert list(take_over(plain)) == []
    assert open_cache(plain) is None


# --- a cache ----------------------------------------------------------------------------------


def test_a_cache_is_filled_and_used_by_other_runs(tmp_path):
    cache_dir = tmp_path / "cache"
    first = save(tmp_path / "a", cache_dir=cache_dir)
    assert run(first, open_cache(first), attempt=2) == ALL
    assert stat.S_IMODE(cache_dir.stat().st_mode) == 0o700
    shutil.rmtree(first.root)
    second = save(tmp_path / "b", lambda pipe, f: (f(7), f(f(1))), cache_dir=cache_dir)
    cache = open_cache(second)
    taken = list(take_over(second, cache))
    assert [(t.chore_id, t.attempt) for t in taken] == [
        ("chore-double-0002", 2),
        ("chore-double-0003", 2),
    ]
    assert run(second, cache) == ["chore-double-0001"]
    assert Results.read(second)["chore-double-0003"] == 4
    assert why_not_reused(second, "chore-double-0001") == "its result was not in the cache"
    third = save(tmp_path / "c", cache_dir=cache_dir)
    assert run(third, open_cache(third)) == []
    assert Results.read(third)["chore-say-0003"]["log"].read_text() == "log"
    assert not list(cache_dir.rglob("*.tmp"))


def test_an_entry_stays_as_it_is(tmp_path):
    first, second = (save(tmp_path / n, cache_dir=tmp_path / "cache") for n in "ab")
    caches = [open_cache(r) for r in (first, second)]
    for run_dir, cache in zip((first, second), caches, strict=True):
        for chore in Workflow.read(run_dir).chores():
            compute(run_dir, chore, 1)
            cache.store(chore, 1, 0)
    for cache in caches:
        cache.close()
    assert len(list((tmp_path / "cache").rglob("entry.json"))) == 3
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_what_a_chore_changes_in_its_own_files_does_not_reach_the_cache(tmp_path):
    first = save(tmp_path / "a", cache_dir=tmp_path / "cache")
    run(first, open_cache(first))
    first.chore_file("chore-say-0003", "sub/log.txt").write_text("changed")
    second = save(tmp_path / "b", cache_dir=tmp_path / "cache")
    run(second, open_cache(second))
    assert Results.read(second)["chore-say-0003"]["log"].read_text() == "log"


def test_a_gather_is_nobody_elses(tmp_path):
    def author(pipe, function):
        function(1)
        pipe.chore(name="total")(sum)(pipe.gather("double"))

    first = save(tmp_path / "a", author, cache_dir=tmp_path / "cache")
    cache = open_cache(first)
    chores = {chore.id: chore for chore in Workflow.read(first).chores()}
    compute(first, chores["chore-double-0001"], 1)
    cache.store(chores["chore-total-0002"], 1, 0)
    cache.close()
    assert not list((tmp_path / "cache").rglob("entry.json"))


@pytest.mark.parametrize("damage", ["entry", "result", "key", "outputs"])
def test_a_damaged_entry_is_not_used(tmp_path, damage):
    cache_dir = tmp_path / "cache"
    first = save(tmp_path / "a", cache_dir=cache_dir)
    run(first, open_cache(first))
    entries = list(cache_dir.rglob("entry.json"))
    for entry in entries:
        if damage == "entry":
            entry.write_text("{")
        elif damage == "key":
            entry.write_text(entry.read_text().replace('"key": "', '"key": "0'))
        for path in entry.parent.rglob("result.pickle" if damage == "result" else "log.txt"):
            path.unlink()
    second = save(tmp_path / "b", cache_dir=cache_dir)
    expected = {"result": ALL[:2], "outputs": ALL[2:]}.get(damage, ALL)
    assert set(run(second, open_cache(second))) >= set(expected)


def test_a_cache_that_others_can_write_to_is_not_used(tmp_path, caplog):
    cache_dir = tmp_path / "cache"
    cache_dir.mkdir()
    cache_dir.chmod(0o777)
    run_dir = save(tmp_path / "a", cache_dir=cache_dir)
    assert open_cache(run_dir) is None
    assert "others can write to it" in caplog.text


def test_a_cache_that_cannot_be_made_is_no_failure(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    run_dir = save(tmp_path / "a", cache_dir=tmp_path / "file" / "cache")
    assert open_cache(run_dir) is None
    assert "no cache in" in caplog.text


def test_what_cannot_be_stored_is_logged_only(tmp_path, caplog):
    run_dir = save(tmp_path / "a", cache_dir=tmp_path / "cache")
    cache = open_cache(run_dir)
    for chore in Workflow.read(run_dir).chores():
        cache.store(chore, 1, 0)  # nothing was computed
    cache.close()
    assert caplog.text.count("is not put into the cache") == 3
    assert not list((tmp_path / "cache").rglob("*.tmp"))


TIMES = count(1)


def rewrite(path, text):
    """Write to a file so that it shows, however coarse the clock of the file system is."""
    path.write_text(text)
    os.utime(path, ns=(0, next(TIMES)))


def save_reader(folder, path):
    """Save a program that reads a file by its absolute path, what follows it, and another one."""

    def author(pipe, function):
        sim = pipe.exec(["cat", path], name="sim")
        pipe.exec(["true"], name="next", after=[sim])
        function(1)

    return save(folder, author, cache_dir=folder.parent / "cache", resume="latest")


READER = ["chore-sim-0001", "chore-next-0002", "chore-double-0003"]


def stored(folder):
    return {json.loads(e.read_text())["id"] for e in (folder / "cache").rglob("entry.json")}


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.txt"
    path.write_text("one")
    return path


def test_what_stays_the_same_is_put_into_the_cache(tmp_path, data):
    run_dir = save_reader(tmp_path / "a", data)
    run(run_dir, open_cache(run_dir))
    assert stored(tmp_path) == set(READER)


@pytest.mark.parametrize("contents", [["two"], ["two", "one"], [None]])
def test_a_file_that_changes_before_a_chore_ends_keeps_its_result_out(
    tmp_path, data, caplog, contents
):
    run_dir = save_reader(tmp_path / "a", data)
    cache = open_cache(run_dir)
    for content in contents:
        data.unlink() if content is None else rewrite(data, content)
    run(run_dir, cache)
    assert stored(tmp_path) == {"chore-double-0003"}
    assert caplog.text.count("is not put into the cache") == 1
    assert f"depends on {data}" in caplog.text


def test_a_file_that_is_another_one_when_the_driver_begins_keeps_results_out(tmp_path, data):
    run_dir = save_reader(tmp_path / "a", data)
    rewrite(data, "two")
    run(run_dir, open_cache(run_dir))
    assert stored(tmp_path) == {"chore-double-0003"}


def test_a_copy_of_a_file_will_do_if_it_was_there_before_anything_ran(tmp_path, data):
    run_dir = save_reader(tmp_path / "a", data)
    data.unlink()
    rewrite(data, "one")  # as on a node with a file system of its own
    run(run_dir, open_cache(run_dir))
    assert stored(tmp_path) == set(READER)


def test_the_next_driver_of_a_run_takes_no_copy(tmp_path, data):
    run_dir = save_reader(tmp_path / "a", data)
    rewrite(data, "one")
    open_cache(run_dir).close()  # killed: says nothing at its end
    assert FileWatch.open(run_dir).changed((0, 1), 0.0) is None
    rewrite(data, "two")
    rewrite(data, "one")
    run(run_dir, open_cache(run_dir))
    assert stored(tmp_path) == {"chore-double-0003"}


def test_a_change_that_one_driver_saw_is_known_to_the_next(tmp_path, data):
    run_dir = save_reader(tmp_path / "a", data)
    watch = FileWatch.open(run_dir)
    rewrite(data, "two")
    watch.close(reused.LOGGER)
    rewrite(data, "one")
    assert FileWatch.open(run_dir).changed(range(2), 0.0) == str(data)


def test_an_earlier_run_comes_before_the_cache(tmp_path):
    options = {"cache_dir": tmp_path / "cache", "resume": "latest"}
    first = save(tmp_path / "a", **options)
    run(first, open_cache(first))
    second = save(tmp_path / "a", **options)
    first.chore_file(ALL[0], "result.pickle").unlink()
    sources = {t.chore_id: t.source for t in take_over(second, open_cache(second))}
    assert str(tmp_path / "cache") in sources[ALL[0]]
    assert sources[ALL[1]] == str(first.chore_dir(ALL[1]))
