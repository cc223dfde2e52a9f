"""submit(dashboard=True): a process of its own, announced once, gone after the run."""

from __future__ import annotations

import io
import logging
import stat
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

from matensemble.errors import DashboardMissingError
from matensemble.pipeline import Pipeline
from matensemble.runtime import dashboard_process
from matensemble.runtime.dashboard_process import DashboardProcess
from matensemble.workdir import RunDir

LOGGER = logging.getLogger("matensemble.test")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def run(tmp_path):
    pipe = Pipeline(tmp_path)
    pipe.exec("true")
    return RunDir(pipe.save())


@contextmanager
def announced(run, terminal):
    """Serve a run; what is to be said has been said."""
    dashboard = DashboardProcess(run, True, LOGGER, terminal)
    try:
        while not terminal.getvalue() and dashboard._attendant.is_alive():
            dashboard._attendant.join(0.05)
        yield dashboard
    finally:
        dashboard.close()
        dashboard._attendant.join(30)
    assert not dashboard._attendant.is_alive()


def assert_opens(link):
    address, _, token = link.partition("#token=")
    request = urllib.request.Request(
        f"{address}api/status", headers={"Authorization": f"Bearer {token}"}
    )
    with pytest.raises(urllib.error.HTTPError, match="404") as answer:  # it was not started
        urllib.request.urlopen(request)
    answer.value.close()
    return address, token


@pytest.mark.slow
@pytest.mark.e2e
def test_it_serves_while_the_driver_holds_it_and_ends_after(run, caplog):
    caplog.set_level(logging.INFO)
    terminal = Terminal()
    with announced(run, terminal):
        address, token = assert_opens(terminal.getvalue().split()[1])
        assert not run.dashboard_path.exists()
    assert "ssh -" in terminal.getvalue()
    assert token
    assert token not in caplog.text
    assert address in caplog.text


@pytest.mark.slow
@pytest.mark.e2e
def test_where_no_terminal_is_the_link_is_in_a_private_file(run, caplog):
    """The output of a batch job can often be read by others."""
    caplog.set_level(logging.INFO)
    output = io.StringIO()
    with announced(run, output):
        assert stat.S_IMODE(run.dashboard_path.stat().st_mode) == 0o600
        _, token = assert_opens(run.dashboard_path.read_text().strip())
    assert f"Dashboard: its link is in {run.dashboard_path}\n" in output.getvalue()
    assert str(run.dashboard_path) in caplog.text
    assert "ssh -" in output.getvalue()
    assert token not in output.getvalue() + caplog.text
    assert not run.dashboard_path.exists()


@pytest.mark.slow
@pytest.mark.e2e
def test_a_link_that_cannot_be_kept_is_told(run, caplog):
    run.dashboard_path.mkdir()
    output = io.StringIO()
    with announced(run, output):
        assert "could not be written" in output.getvalue()
    assert "cannot be kept" in caplog.text
    assert "token=" not in output.getvalue() + caplog.text


@pytest.mark.slow
@pytest.mark.e2e
def test_a_run_that_is_over_first_leaves_no_link(run):
    output = io.StringIO()
    dashboard = DashboardProcess(run, True, LOGGER, output)
    dashboard.close()
    dashboard._attendant.join(30)
    assert "over before it was served" in output.getvalue()
    assert not run.dashboard_path.exists()


def test_a_missing_dashboard_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(dashboard_process, "find_spec", lambda name: None)
    with pytest.raises(DashboardMissingError, match="pip install matensemble-dashboard"):
        DashboardProcess(RunDir(tmp_path), True, LOGGER)


@pytest.mark.slow
@pytest.mark.e2e
def test_one_that_is_kept_outlives_its_driver_and_keeps_its_link(run, caplog):
    caplog.set_level(logging.INFO)
    output = io.StringIO()
    dashboard = DashboardProcess(run, {"keep": True, "port": 0}, LOGGER, output)
    process = dashboard._process
    try:
        while "kill" not in output.getvalue() and dashboard._attendant.is_alive():
            dashboard._attendant.join(0.05)
        dashboard.close()
        assert f"to stop it: kill {process.pid}\n" in output.getvalue()
        assert_opens(run.dashboard_path.read_text().strip())
        assert process.poll() is None
    finally:
        process.terminate()
        dashboard._attendant.join(30)
    assert not dashboard._attendant.is_alive()


def test_options_become_arguments_of_the_process(run):
    command = dashboard_process._command(
        run, {"socket": "/a b/s", "allow_actions": True, "keep": False}
    )
    assert command[command.index("--run-dir") :] == [
        "--run-dir",
        str(run.root),
        "--socket=/a b/s",
        "--allow-actions",
        "--exit-with-stdin",
    ]
