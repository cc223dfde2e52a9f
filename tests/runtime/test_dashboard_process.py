"""submit(dashboard=True): a process of its own, announced once, gone after the run."""

from __future__ import annotations

import io
import logging
import urllib.request

import pytest

from matensemble.errors import DashboardMissingError
from matensemble.pipeline import Pipeline
from matensemble.runtime import dashboard_process
from matensemble.runtime.dashboard_process import DashboardProcess
from matensemble.workdir import RunDir

LOGGER = logging.getLogger("matensemble.test")


@pytest.mark.slow
@pytest.mark.e2e
def test_it_serves_while_the_driver_holds_it_and_ends_after(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    pipe = Pipeline(tmp_path)
    pipe.exec("true")
    terminal = io.StringIO()
    dashboard = DashboardProcess(RunDir(pipe.save()), True, LOGGER, terminal)
    try:
        while not terminal.getvalue() and dashboard._attendant.is_alive():
            dashboard._attendant.join(0.05)
        link = terminal.getvalue().split()[1]
        address, _, token = link.partition("#")
        with urllib.request.urlopen(address) as page:
            assert page.status == 200
    finally:
        dashboard.close()
    dashboard._attendant.join(30)
    assert not dashboard._attendant.is_alive()
    assert "ssh -" in terminal.getvalue()
    assert token
    assert token not in caplog.text
    assert address in caplog.text


def test_a_missing_dashboard_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(dashboard_process, "find_spec", lambda name: None)
    with pytest.raises(DashboardMissingError, match="pip install matensemble-dashboard"):
        DashboardProcess(RunDir(tmp_path), True, LOGGER)
