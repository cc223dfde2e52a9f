"""A chore goes on without the result of one that failed: it receives the error in its place."""

from __future__ import annotations

import json

import pytest

from matensemble.errors import ChoreFailedError
from matensemble.model import OutputReference

UP, ROOT = "chore-up-0001", "chore-root-0002"
FAILED = {"reason": "exception", "exit_code": 1, "detail": "ValueError: no"}


@pytest.fixture
def failed(campaign):
    """An upstream that failed, with what its worker told."""
    directory = campaign.dir.chore_dir(UP)
    directory.mkdir(mode=0o700)
    (directory / "error.json").write_text(json.dumps({"traceback": "Traceback …\nValueError: no"}))
    return {UP: {"failed": FAILED}}


def describe(*values):
    return [
        (type(v).__name__, v.chore_id, v.reason, v.exit_code, v.upstream, v.detail, v.traceback)
        if isinstance(v, ChoreFailedError)
        else v
        for v in values
    ]


def test_the_error_stands_for_the_result_and_for_each_part_of_it(campaign, failed):
    campaign.complete(ROOT, 7)
    up = OutputReference(UP)
    campaign.add(
        describe, up, up["energy"], up.attr("mean")[0], OutputReference(ROOT), upstream=failed
    )
    error = (
        *("ChoreFailedError", UP, "exception", 1, None),
        *("ValueError: no", "Traceback …\nValueError: no"),
    )
    assert campaign.run().result == [error, error, error, 7]


def test_inside_containers_too_and_all_references_are_one_object(campaign, failed):
    def look(table):
        return table["a"][0] is table["b"], str(table["b"]), table["b"].directory

    campaign.add(look, {"a": [OutputReference(UP)], "b": OutputReference(UP)}, upstream=failed)
    is_same, message, directory = campaign.run().result
    assert is_same
    assert message.startswith(f"{UP}: exception (exit code 1): ValueError: no\n  look into ")
    assert directory == str(campaign.dir.chore_dir(UP))


def test_of_one_that_was_skipped_the_root_is_shown(campaign):
    directory = campaign.dir.chore_dir(ROOT)
    directory.mkdir(mode=0o700)
    (directory / "error.json").write_text(json.dumps({"traceback": "of the root"}))
    told = {
        "reason": "dependency_failed",
        "exit_code": None,
        "detail": "signal (exit code -9)",
        "upstream": ROOT,
    }
    campaign.add(describe, OutputReference(UP), upstream={UP: {"failed": told}})
    assert campaign.run().result == [
        (
            *("ChoreFailedError", UP, "dependency_failed", None, ROOT),
            *("signal (exit code -9)", "of the root"),
        )
    ]


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"traceback": 3}', b"["])
def test_a_record_that_says_nothing_hides_no_failure(campaign, content):
    if content is not None:
        directory = campaign.dir.chore_dir(UP)
        directory.mkdir(mode=0o700)
        (directory / "error.json").write_bytes(content)
    campaign.add(describe, OutputReference(UP), upstream={UP: {"failed": FAILED}})
    ((*_, reason, exit_code, upstream, detail, traceback),) = campaign.run().result
    assert (reason, exit_code, upstream) == ("exception", 1, None)
    assert (detail, traceback) == ("ValueError: no", None)


@pytest.mark.parametrize("where", ["element", "input"])
def test_a_program_cannot_be_given_an_error(campaign, failed, where):
    up = OutputReference(UP)
    if where == "element":
        campaign.exec(["echo", up], upstream=failed[UP])
    else:
        campaign.exec(["cat", "in.txt"], {"in.txt": up}, upstream=failed[UP])
    outcome = campaign.run("chore-prog-0001")
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    error = outcome.error
    assert (error["reason"], error["type"]) == ("dependency_failed", "ChoreFailedError")
    wanted = f"this program needs the result of {UP}, which has none: exception: ValueError: no"
    assert error["message"] == wanted
    assert "upstream" not in error, "no result of it can be made again"
    assert not (outcome.directory / "in.txt").exists()


def test_nothing_of_it_is_loaded_for_others(campaign):
    import sys

    campaign.complete(UP, 1)
    campaign.add(lambda value: "matensemble.ignored" in sys.modules, OutputReference(UP))
    assert campaign.run().result is False
