"""What a trivial chore makes the worker import: every chore pays for it."""

from __future__ import annotations

import sys

import cloudpickle
import pytest

from matensemble import light_pickle

HEAVY = {
    *("argparse", "ast", "asyncio", "cloudpickle", "concurrent.futures", "contextlib", "ctypes"),
    *("dataclasses", "datetime", "dis", "email", "enum", "hashlib", "importlib.metadata"),
    *("inspect", "json", "linecache", "logging", "networkx", "numpy", "pathlib", "pickle"),
    *("platform", "random", "re", "shlex", "shutil", "signal", "socket", "ssl", "subprocess"),
    *("tempfile", "threading", "tokenize", "traceback", "typing", "urllib", "uuid", "warnings"),
    *("weakref", "zipfile"),
}
OURS = {
    *("disk", "environment", "errors", "light_pickle", "references", "runtime_worker", "wire"),
    "workdir",
}

pytestmark = pytest.mark.skipif(
    not light_pickle.can_load(cloudpickle.__version__),
    reason=f"the light loader has not been compared with cloudpickle {cloudpickle.__version__}",
)
START = ("-P", "-c", "from matensemble.runtime_worker import main; raise SystemExit(main())")


def list_modules(*_):
    return sorted(sys.modules)


def site_modules():
    """What the interpreter loads before it runs anything, some of it for editable installs."""
    import subprocess

    code = "import sys; print(*sys.modules)"
    return set(
        subprocess.run(
            [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_a_trivial_chore_loads_a_handful_of_modules(campaign):
    campaign.complete("chore-up-0001", {"energy": 1.5})
    from matensemble.model import OutputReference

    campaign.add(list_modules, OutputReference("chore-up-0001")["energy"], [1, "two"])
    loaded = set(campaign.run(python=START).result) - site_modules()
    assert not loaded & HEAVY
    ours = {name for name in loaded if name.startswith("matensemble.")}
    assert ours == {f"matensemble.{name}" for name in OURS}
    assert len(loaded) < 35, sorted(loaded)


def test_started_as_a_module_only_the_interpreters_runner_is_added(campaign):
    campaign.add(list_modules)
    with_runner = set(campaign.run().result)
    campaign.add(list_modules)
    without = set(campaign.run(python=START).result)
    added = {name.partition(".")[0] for name in with_runner - without}
    assert added <= {"runpy", "importlib", "contextlib", "pkgutil", "warnings", "threading"}


def test_an_unknown_version_of_cloudpickle_is_given_to_the_real_library(campaign):
    campaign.add(list_modules, record={"cloudpickle": "99.0"})
    outcome = campaign.run(python=START)
    assert "cloudpickle" in outcome.result
    assert "matensemble.light_pickle" in outcome.result
