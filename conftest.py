"""Says in one line, at the end of every test run, what became of the tests that need a Flux."""

import shutil

import pytest

OUTCOMES = ("passed", "failed", "error", "skipped")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the tests marked `flux`: how many ran, and how many were skipped."""
    ended = {
        outcome: {
            report.nodeid
            for report in terminalreporter.stats.get(outcome, ())
            if isinstance(report, pytest.TestReport) and "flux" in report.keywords
        }
        for outcome in OUTCOMES
    }
    ran = ended["passed"] | ended["failed"] | ended["error"]
    if ran or ended["skipped"]:
        path = shutil.which("flux")
        terminalreporter.write_line(
            f"Flux: {f'found at {path}' if path else 'none on the PATH'}; "
            f"{len(ran)} of its tests ran, {len(ended['skipped'] - ran)} were skipped"
        )
