"""What the checks of this directory share: commands, and what must not be installed."""

import importlib.util
import subprocess
import sys
from pathlib import Path

COMMAND = Path(sys.executable).parent / "matensemble"


def absent(*modules: str) -> None:
    """Require that modules are not installed here."""
    found = [name for name in modules if importlib.util.find_spec(name) is not None]
    assert not found, f"installed, but nothing here needs them: {found}"


def command(*arguments: object, exit_code: int = 0) -> str:
    """Run `matensemble` as a user does; return what it printed, after checking its exit code."""
    done = subprocess.run(
        [COMMAND, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    said = done.stdout + done.stderr
    assert done.returncode == exit_code, f"{arguments}: exit code {done.returncode}\n{said}"
    return said
