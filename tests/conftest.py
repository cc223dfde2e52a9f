"""Fixtures for tests that need a real Flux, and signals as a terminal would leave them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from hypothesis import settings

from matensemble.errors import ExecutorUnavailableError
from matensemble.runtime.executors.flux import load_flux

settings.register_profile(
    "tests",
    deadline=None,  # what takes long on a busy machine is not wrong
    derandomize="MATENSEMBLE_LONG" not in os.environ,  # so that a change fails, or does not
)
settings.load_profile("tests")


def pytest_configure() -> None:
    """Undo what a job in the background inherits: it ignores Ctrl-C, and so would all it starts."""
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@contextmanager
def running_flux(*options: str) -> Iterator[str]:
    """Run a Flux instance on this machine; yield its URI."""
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("FLUX_", "PMI", "SLURM_"))}
    script = 'echo "$FLUX_URI"; exec cat'  # it ends when its standard input does
    command = ["flux", "start", *options, "sh", "-c", script]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=outside
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        uri = process.stdout.readline().strip()
        assert uri, "flux start failed"
        yield uri
        process.stdin.close()
        process.wait(60)


@pytest.fixture(scope="session")
def flux_library() -> None:
    """Skip where Flux or its bindings cannot be loaded; no broker is started."""
    if shutil.which("flux") is None:
        pytest.skip("no Flux here: the command `flux` is not on the PATH")
    try:
        load_flux()
    except ExecutorUnavailableError as error:
        pytest.skip(error.problem)


@pytest.fixture(scope="session")
def start_flux(flux_library: None) -> Iterator[Callable[..., str]]:
    """Start Flux with some options, once a session for each; return its URI. Skips without Flux."""
    uris: dict[tuple[str, ...], str] = {}
    with ExitStack() as stack:

        def start(*options: str) -> str:
            if options not in uris:
                uris[options] = stack.enter_context(running_flux(*options))
            return uris[options]

        yield start
