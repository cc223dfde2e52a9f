"""Try built wheels where nothing else is installed: each part alone, and all together.

``python tests/wheels/try_wheels.py build/wheels``, which ``python3 dev.py wheels`` runs after it
has built them. Installs them into fresh virtual environments of the oldest and the newest supported
Python that is present, runs there what stands beside this file, and removes the environments.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENTS = {
    "SDK alone": ("sdk",),
    "dashboard alone": ("sdk", "dashboard"),
    "SDK, worker and runtime": ("sdk", "worker", "runtime"),
    "everything": ("sdk", "worker", "runtime", "dashboard"),
}
CHECKS = {
    "SDK alone": "check_sdk.py",
    "dashboard alone": "check_dashboard.py",
    "SDK, worker and runtime": "check_runtime.py",
    "everything": "check_everything.py",
}


class WheelError(Exception):
    """A wheel does not do what it must; the message says which and what."""


# --- what is in the wheels --------------------------------------------------------------------


def find_wheels(directory: Path) -> dict[str, Path]:
    """Return the four wheels by the last part of their name."""
    wheels = {
        path.name.split("-")[0].removeprefix("matensemble_"): path
        for path in sorted(directory.resolve().glob("*.whl"))
    }
    if sorted(wheels) != sorted(ENVIRONMENTS["everything"]):
        raise WheelError(f"{directory} holds {sorted(wheels)}")
    return wheels


def check_contents(wheels: dict[str, Path]) -> None:
    """Check what no import would show: the namespace stays open, and nothing is left behind."""
    for name, path in wheels.items():
        with zipfile.ZipFile(path) as archive:
            files = set(archive.namelist())
        source = ROOT / "packages" / name / "src"
        expected = {str(p.relative_to(source)) for p in source.rglob("*.py")}
        problems = {
            "closes the namespace": files & {"matensemble/__init__.py"},
            "lacks": expected - files,
            "holds what is no module of it": {f for f in files if f.endswith(".py")} - expected,
            "lacks its licence": set() if any("licenses/LICENSE" in f for f in files) else {name},
        }
        typed = "matensemble/py.typed" in files
        if typed != (name == "sdk"):
            problems["holds or lacks py.typed"] = {name}
        if name == "dashboard" and "matensemble/dashboard/static/index.html" not in files:
            problems["lacks the page"] = {"matensemble/dashboard/static/index.html"}
        for problem, culprits in problems.items():
            if culprits:
                raise WheelError(f"{path.name} {problem}: {', '.join(sorted(culprits))}")


# --- which Pythons ----------------------------------------------------------------------------


def candidates() -> Iterator[tuple[list[str], dict[str, str]]]:
    """Yield commands that may be a Python, with variables that they need."""
    yield [sys.executable], {}
    for minor in range(11, 30):
        if found := shutil.which(f"python3.{minor}"):
            yield [found], {}
    if uv := shutil.which("uv"):
        listed = _output([uv, "python", "list", "--only-installed", "--output-format", "json"])
        yield from (([entry["path"]], {}) for entry in json.loads(listed or "[]"))
    if pyenv := shutil.which("pyenv"):
        for version in (_output([pyenv, "versions", "--bare"]) or "").split():
            yield [pyenv, "exec", "python"], {"PYENV_VERSION": version}


def _output(command: list[str], env: dict[str, str] | None = None) -> str | None:
    done = subprocess.run(
        command,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout if done.returncode == 0 else None


def find_pythons() -> dict[str, str]:
    """Return the oldest and the newest supported Python that is present: version → interpreter."""
    question = (
        "import sys; print(sys.implementation.name, '%d.%d' % sys.version_info[:2],"
        " getattr(sys, '_base_executable', sys.executable))"
    )
    found: dict[tuple[int, int], str] = {}
    for command, env in candidates():
        answer = (_output([*command, "-c", question], env) or "").split(maxsplit=2)
        if len(answer) == 3 and answer[0] == "cpython":
            major, minor = map(int, answer[1].split("."))
            if (major, minor) >= (3, 11):
                found.setdefault((major, minor), answer[2].strip())
    return {f"{v[0]}.{v[1]}": found[v] for v in sorted({min(found), max(found)})}


# --- environments -----------------------------------------------------------------------------


def run(command: list[object], **options: object) -> None:
    """Run a command, and show what it said only where it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
        **options,
    )  # type: ignore[call-overload]
    if done.returncode != 0:
        raise WheelError(f"{' '.join(words)}\nended with {done.returncode}:\n{done.stdout}")


def make_environment(python: str, directory: Path, wheels: list[Path]) -> Path:
    """Install wheels, with what they need and nothing else, into a new environment."""
    run([python, "-m", "venv", "--without-pip", directory])
    inside = directory / "bin/python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", inside]
    run([*pip, "-qq", "install", *wheels])
    run([*pip, "-qq", "check"])
    return inside


def try_python(version: str, python: str, wheels: dict[str, Path], scratch: Path) -> None:
    """Run each check in its own environment of one Python."""
    saved = scratch / f"saved-{version}"  # by the SDK alone, run by the runtime
    for number, (name, parts) in enumerate(ENVIRONMENTS.items()):
        started = time.monotonic()
        environment = scratch / f"{version}-{number}"
        inside = make_environment(python, environment, [wheels[part] for part in parts])
        env = {
            k: v
            for k, v in os.environ.items()
            if not re.match(r"PYTHON|MATENSEMBLE_|VIRTUAL_ENV|FLUX_", k)
        }
        env["PATH"] = f"{inside.parent}{os.pathsep}{env.get('PATH', os.defpath)}"
        env["MATENSEMBLE_EXECUTOR"] = "local"
        work = scratch / f"work-{version}-{number}"
        work.mkdir()
        run([inside, "-W", "error", HERE / CHECKS[name], saved], cwd=work, env=env)
        shutil.rmtree(environment)
        print(f"  {name}: works ({time.monotonic() - started:.0f} s)", flush=True)


def main() -> None:
    """Check the wheels of the directory that was named."""
    wheels = find_wheels(Path(sys.argv[1]))
    check_contents(wheels)
    pythons = find_pythons()
    print(f"wheels are tried on Python {' and '.join(pythons)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="matensemble-wheels-") as scratch:
        for version, python in pythons.items():
            print(f"Python {version} ({python})", flush=True)
            try_python(version, python, wheels, Path(scratch).resolve())


if __name__ == "__main__":
    try:
        main()
    except WheelError as failure:
        sys.exit(f"wheels: {failure}")
