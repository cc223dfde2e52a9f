#!/usr/bin/env python3
"""Every command of this repository, for example ``python3 dev.py test``.

Sets up what a command needs (a virtual environment in ``.venv``, the page's packages in
``frontend/node_modules``) and runs it. Nothing is installed outside the checkout, so a Python that
belongs to the system is left alone. The second time, set-up is one comparison.

Needs nothing but the standard library, and its syntax is that of Python 3.6: an older interpreter
must get far enough to look for a newer one.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BUILD = ROOT / "build"
FRONTEND = ROOT / "frontend"
STATIC = ROOT / "packages/dashboard/src/matensemble/dashboard/static"
PACKAGES = ("sdk", "worker", "runtime", "dashboard")
SOURCES = tuple("packages/" + name + "/src" for name in PACKAGES)
OLDEST_PYTHON = (3, 11)
TORTURES = (
    "tests/reliability",
    "tests/runtime/test_lock_torture.py",
    "tests/runtime/scheduler/test_scheduler_machine.py",
)
"""Tests that look longer where MATENSEMBLE_LONG is set."""


class SetupError(Exception):
    """Set-up is not possible on this machine; the message says what is missing."""


# --- the environment --------------------------------------------------------------------------


def say(text: str) -> None:
    """Print one line about what is being done, in order with the output of child processes."""
    print("[dev.py] " + text, flush=True)


def run(*command: object, cwd: Path = ROOT, env: "dict | None" = None) -> None:
    """Run a command; on failure leave with its exit code, its own output being the message."""
    words = [str(word) for word in command]
    process = subprocess.Popen(words, cwd=str(cwd), env=env, stdin=subprocess.DEVNULL)
    code = None
    while code is None:
        try:
            code = process.wait()
        except KeyboardInterrupt:  # it received the Ctrl-C too, and ends in its own way
            continue
    if code != 0:
        say(f"failed with exit code {code}: {' '.join(words)}")
        sys.exit(code if code > 0 else 128 - code)


def succeeds(*command: object) -> bool:
    """Return whether a command exists and ends with exit code 0, showing nothing of it."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


def is_supported(python: object) -> bool:
    """Return whether an interpreter runs and is new enough."""
    return succeeds(python, "-c", f"import sys; sys.exit(sys.version_info < {OLDEST_PYTHON})")


def restart_with_newer_python() -> None:
    """Replace this process by the newest supported Python on the PATH.

    Raises
    ------
    SetupError
        If there is none.
    """
    for minor in range(20, OLDEST_PYTHON[1] - 1, -1):
        python = shutil.which(f"python3.{minor}")
        if python and is_supported(python):
            say(f"{sys.executable} is too old; going on with {python}")
            os.execv(python, [python, __file__] + sys.argv[1:])  # noqa: RUF005 - Python 3.6
    raise SetupError(
        f"Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or newer is needed; "
        f"this is {sys.version.split()[0]}, and there is no newer one on the PATH"
    )


def venv_python() -> Path:
    """Return the interpreter of the private environment, which is created where it is missing."""
    python = VENV / "bin/python"
    if not is_supported(python):
        if VENV.exists():
            say("the environment in .venv does not work any more; making it again")
            shutil.rmtree(str(VENV))
        say(f"creating .venv with Python {sys.version.split()[0]}")
        has_pip = succeeds(sys.executable, "-c", "import ensurepip")
        run(sys.executable, "-m", "venv", *([] if has_pip else ["--without-pip"]), VENV)
    if not succeeds(python, "-m", "pip", "--version"):
        add_pip(python)
    return python


def add_pip(python: Path) -> None:
    """Bring pip into an environment whose Python cannot (some distributions split ensurepip off).

    Raises
    ------
    SetupError
        If nothing here can.
    """
    if succeeds(python, "-m", "ensurepip"):
        return
    # pip's --python installs into another environment, so that it is not stopped by PEP 668.
    if succeeds(sys.executable, "-m", "pip", "--python", python, "install", "pip"):
        return
    if succeeds("uv", "pip", "install", "--python", python, "pip"):
        return
    raise SetupError(
        f"{sys.executable} can create a virtual environment, but has no pip to put into it. "
        "On Debian and Ubuntu: apt install python3-venv; elsewhere install pip or uv"
    )


def flux_command() -> "tuple | None":
    """Return version and library directory of the Flux on the PATH, or None."""
    path = shutil.which("flux")
    if path is None:
        return None
    try:
        text = subprocess.check_output([path, "--version"], stdin=subprocess.DEVNULL).decode()
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"commands:\s*(\d+\.\d+\.\d+)", text)
    prefix = Path(os.path.realpath(path)).parent.parent
    libraries = [p for p in (prefix / "lib64", prefix / "lib") if list(p.glob("libflux-core.so*"))]
    return (found.group(1), libraries[0] if libraries else None) if found else None


def activated() -> dict:
    """Return the environment variables under which the private environment is used."""
    env = dict(os.environ, VIRTUAL_ENV=str(VENV))
    env["PATH"] = os.pathsep.join([str(VENV / "bin"), env.get("PATH", os.defpath)])
    env.pop("PYTHONHOME", None)
    flux = flux_command()
    if flux and flux[1]:  # the flux-python wheel does not find the library of the installed Flux
        paths = [str(flux[1]), env.get("LD_LIBRARY_PATH", "")]
        env["LD_LIBRARY_PATH"] = os.pathsep.join(path for path in paths if path)
    return env


def set_up(group: str) -> Path:
    """Return a Python that has the four packages and a dependency group of pyproject.toml."""
    python = venv_python()
    flux = flux_command()
    digest = hashlib.sha256(repr(flux).encode())
    for path in (ROOT / "pyproject.toml", *sorted(ROOT.glob("packages/*/pyproject.toml"))):
        digest.update(path.read_bytes())
    stamp = VENV / ("set-up-for-" + group)
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return python
    say(f"installing the packages and the group '{group}' into .venv (once)")
    pip = (python, "-m", "pip", "--disable-pip-version-check", "-qq", "install")
    run(*pip, "pip>=25.1")  # the first that knows dependency groups
    names = [name + "[pool]" if name == "worker" else name for name in PACKAGES]
    editables = [word for name in names for word in ("--editable", "packages/" + name)]
    run(*pip, *editables, "--group", group)
    if flux:
        binding = "flux-python==" + flux[0]
        say(f"found Flux {flux[0]}; installing {binding}")
        command = [*pip, binding, "--editable", "packages/runtime[flux]"]
        if subprocess.call([str(word) for word in command], cwd=str(ROOT)) != 0:
            say(f"{binding} cannot be installed here; going on without Flux")
    stamp.write_text(digest.hexdigest())
    return python


def npm(*arguments: str) -> None:
    """Run npm in frontend/, after installing the page's packages where they changed.

    Raises
    ------
    SetupError
        If there is no npm.
    """
    command = shutil.which("npm")
    if command is None:
        raise SetupError(
            "npm was not found on the PATH; the page in frontend/ needs Node.js 20 or newer. "
            "To run the Python tests alone: python3 dev.py test tests"
        )
    lock = FRONTEND / "package-lock.json"
    wanted = b"".join(p.read_bytes() for p in (FRONTEND / "package.json", lock) if p.exists())
    stamp = FRONTEND / "node_modules/.set-up"
    if not stamp.exists() or stamp.read_text() != hashlib.sha256(wanted).hexdigest():
        say("installing the page's packages into frontend/node_modules (once)")
        run(command, "ci" if lock.exists() else "install", "--no-audit", "--no-fund", cwd=FRONTEND)
        wanted = b"".join(p.read_bytes() for p in (FRONTEND / "package.json", lock) if p.exists())
        stamp.write_text(hashlib.sha256(wanted).hexdigest())
    run(command, *arguments, cwd=FRONTEND)


# --- commands ---------------------------------------------------------------------------------


def example(arguments: list) -> None:
    """Run the example study, equations of state of seven metals, in the current directory."""
    python = set_up("examples")
    run(python, ROOT / "examples/eos.py", *arguments, cwd=Path.cwd(), env=activated())


def test(arguments: list) -> None:
    """Pass all tests: the page's, then Python's. With arguments, only pytest with these."""
    python = set_up("dev")
    if not arguments:
        npm("test")
    flux = flux_command()
    say(f"Flux {flux[0]} was found" if flux else "no Flux was found: its tests skip")
    run(python, "-m", "pytest", *arguments, env=activated())


def torture(arguments: list) -> None:
    """Look for what breaks a run, much longer than the tests do; print how often each looked."""
    python = set_up("dev")
    options = ("-rP", "--hypothesis-show-statistics", "--timeout=3600")
    env = dict(activated(), MATENSEMBLE_LONG="1")
    run(python, "-m", "pytest", *options, *(arguments or TORTURES), env=env)


def lint(_arguments: list) -> None:
    """Check style and formatting (ruff)."""
    python = set_up("dev")
    run(python, "-m", "ruff", "check")
    run(python, "-m", "ruff", "format", "--check")


def types(_arguments: list) -> None:
    """Check types (mypy, strict) of the four packages."""
    run(set_up("dev"), "-m", "mypy", *SOURCES)


def imports(_arguments: list) -> None:
    """Check who imports whom (import-linter)."""
    python = set_up("dev")
    run(python.parent / "lint-imports", "--no-cache", "--no-logo")


def frontend(_arguments: list) -> None:
    """Check the page: types, style, tests, build."""
    npm("run", "check")


def docs(_arguments: list) -> None:
    """Build the documentation into docs/_build/html; a warning is an error."""
    options = ("-W", "--keep-going", "--quiet", "--fresh-env", "-b", "html")
    run(set_up("dev"), "-m", "sphinx", *options, "docs", "docs/_build/html", env=activated())
    say("the documentation is in docs/_build/html/index.html")


def screenshots(_arguments: list) -> None:
    """Take the pictures of the dashboard anew that the documentation shows."""
    python = set_up("dev")
    npm("run", "build")
    run(python, "docs/screenshots.py", env=activated())


def benchmark(arguments: list) -> None:
    """Measure the speed of everything, beside floors and other systems, in one table."""
    run(set_up("dev"), "benchmarks", *arguments, env=activated())


def wheels(_arguments: list) -> None:
    """Build the wheels and try each where nothing else is installed."""
    python = set_up("dev")
    shutil.rmtree(str(STATIC), ignore_errors=True)  # or files of an earlier build ship too
    npm("run", "build")
    target = BUILD / "wheels"
    shutil.rmtree(str(target), ignore_errors=True)
    packages = ["packages/" + name for name in PACKAGES]
    pip = (python, "-m", "pip", "--disable-pip-version-check", "-qq")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", target, *packages)
    run(python, "tests/wheels/try_wheels.py", target, env=activated())


COMMANDS = (
    example, test, torture, lint, types, imports, frontend, docs, screenshots, benchmark, wheels,
)  # fmt: skip


def main() -> None:
    """Run the command that was asked for."""
    parser = argparse.ArgumentParser(
        description="The commands of this repository; each does its own set-up.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(
            f"  {command.__name__:11} {command.__doc__.splitlines()[0]}" for command in COMMANDS
        ),
    )
    by_name = {command.__name__: command for command in COMMANDS}
    parser.add_argument("command", choices=sorted(by_name), metavar="command")
    parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, help="passed on (example, test, torture, benchmark)"
    )
    options = parser.parse_args()
    try:
        if sys.version_info < OLDEST_PYTHON:
            restart_with_newer_python()
        by_name[options.command](options.arguments)
    except SetupError as error:
        say(f"cannot go on: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
