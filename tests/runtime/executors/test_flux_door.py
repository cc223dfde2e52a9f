"""What people read where Flux cannot be used; needs no Flux."""

from __future__ import annotations

import builtins
import subprocess
import sys
from typing import Any

import pytest

from matensemble.errors import ExecutorUnavailableError
from matensemble.runtime.executors import flux


def fail_import(monkeypatch: pytest.MonkeyPatch, error: ImportError) -> None:
    real = builtins.__import__

    def fake(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "flux":
            raise error
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fake)


@pytest.mark.parametrize(
    ("error", "problem", "remedy"),
    [
        (ModuleNotFoundError("x", name="flux"), "bindings are not installed", "pip install"),
        (
            ModuleNotFoundError("x", name="ply"),
            "need the module 'ply'",
            "matensemble-runtime[flux]",
        ),
        (ImportError("libflux-core.so.2: cannot open"), "libflux-core.so.2", "LD_LIBRARY_PATH"),
    ],
)
def test_missing_parts_are_named(
    monkeypatch: pytest.MonkeyPatch, error: ImportError, problem: str, remedy: str
) -> None:
    fail_import(monkeypatch, error)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        ExecutorUnavailableError, match="the flux executor cannot be used"
    ) as caught:
        flux.load_flux()
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy
    assert problem in (flux.find_obstacle() or "")


def test_modules_load_without_flux() -> None:
    program = (
        "import sys; sys.modules['flux'] = None\n"
        "import matensemble.fluxlet, matensemble.runtime.executors.flux_executor\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_old_instances_are_refused() -> None:
    with pytest.raises(ExecutorUnavailableError, match=r"0\.67\.1.*0\.68 or later"):
        flux.check_versions("0.67.1", None)


def test_bindings_must_fit_the_instance() -> None:
    flux.check_versions("0.88.0-12-gabcdef", "0.88.3")
    flux.check_versions("0.88.0", None)
    with pytest.raises(ExecutorUnavailableError, match=r"pip install 'flux-python==0\.85\.0'"):
        flux.check_versions("0.85.0-3-gabcdef", "0.88.0")
