"""The text log holds what one run says, and a disk that refuses it costs lines and nothing else."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from matensemble.runtime.run_log import LOGGER, RunLog
from matensemble.workdir import RunDir

FULL = Path("/dev/full")
needs_full_disk = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


@pytest.fixture
def logger(request):
    return LOGGER.getChild(request.node.name)


@pytest.fixture
def log(tmp_path, logger):
    log = RunLog(RunDir(tmp_path), logger)
    yield log
    log.close()


def lines(tmp_path):
    text = RunDir(tmp_path).log_path.read_text()
    return [line.split(" ", 2)[2] for line in text.splitlines()]  # without the time


def test_it_holds_what_its_run_and_nobody_in_particular_says(tmp_path, log, logger):
    other_dir = tmp_path / "other"
    other_dir.mkdir()
    other = RunLog(RunDir(other_dir), LOGGER.getChild("another_run"))
    logger.info("mine")
    LOGGER.getChild("another_run").warning("not mine")
    LOGGER.getChild("library").info("for all")
    other.close()
    assert lines(tmp_path) == ["INFO mine", "INFO for all"]
    assert lines(other_dir) == ["WARNING not mine", "INFO for all"]


def test_after_the_end_nothing_is_written_and_no_name_is_kept(tmp_path, log, logger):
    log.close()
    logger.warning("too late")
    assert lines(tmp_path) == []
    assert log not in LOGGER.handlers
    assert logger.name not in RunLog._names


@needs_full_disk
def test_a_disk_that_refuses_costs_lines_and_no_word_on_stderr(tmp_path, log, logger, capfd):
    own = log.stream.fileno()
    kept = os.dup(own)
    full = os.open(FULL, os.O_WRONLY)
    os.dup2(full, own)
    os.close(full)
    logger.info("first")
    logger.info("second")
    os.dup2(kept, own)
    os.close(kept)
    logger.info("there is room again")
    assert capfd.readouterr().err == ""
    assert lines(tmp_path)[-1] == "INFO there is room again"


@needs_full_disk
def test_it_can_be_closed_while_the_disk_refuses(log, logger, capfd):
    full = os.open(FULL, os.O_WRONLY)
    os.dup2(full, log.stream.fileno())
    os.close(full)
    logger.info("lost")
    log.close()
    assert log.stream.closed
    assert capfd.readouterr().err == ""


def test_a_fault_of_a_line_itself_is_told(log, logger, capfd):
    # Not through the logger: the handlers of pytest would raise.
    log.handle(logger.makeRecord(logger.name, logging.INFO, "f", 1, "%d chores", ("many",), None))
    assert "--- Logging error ---" in capfd.readouterr().err


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path, logger):
    RunDir(tmp_path).log_path.mkdir()
    with pytest.raises(OSError) as raised:
        RunLog(RunDir(tmp_path), logger)
    assert raised.value.errno == errno.EISDIR
    assert logger.name not in RunLog._names
