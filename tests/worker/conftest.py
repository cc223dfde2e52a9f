"""A run directory built by hand, so that the worker is tested without SDK pipeline or runtime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from matensemble import disk, wire
from matensemble.chore import ChoreRegistry, Place
from matensemble.environment import inheritable
from matensemble.workdir import RunDir

sys.path.append(str(Path(__file__).parent))
pytest.register_assert_rewrite("pool_harness")

MODULE = ("-P", "-m", "matensemble.runtime_worker")


@dataclass(frozen=True)
class Outcome:
    """What one worker process left behind."""

    exit_code: int
    stdout: str
    stderr: str
    directory: Path

    @property
    def has_result(self) -> bool:
        return (self.directory / "result.pickle").exists()

    @property
    def result(self) -> Any:
        assert self.exit_code == 0, self.stderr
        return wire.load_result(self.directory / "result.pickle", self.directory.name)

    @property
    def error(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.directory / "error.json").read_bytes())
        return record

    @property
    def has_error(self) -> bool:
        return (self.directory / "error.json").exists()


class Campaign:
    """Builds a run directory and runs its chores in real worker processes."""

    def __init__(self, root: Path) -> None:
        self.dir = RunDir(root)
        for path in (root, self.dir.out_dir, self.dir.registry_dir):
            path.mkdir(mode=0o700)

    def register(self, name: str, function: Callable[..., Any]) -> None:
        registry = ChoreRegistry()
        registry.register(name, function)
        self.write(self.dir.registry_dir / name, registry.dumps(name))

    def write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        path.chmod(0o600)

    def freeze(self, value: object) -> tuple[Place, tuple[Any, ...]]:
        """Append frozen arguments to `workflow.args` and return their place and dependencies."""
        data, deps = wire.freeze(value)
        path = self.dir.arguments_path
        offset = path.stat().st_size if path.exists() else 0
        with path.open("ab") as file:
            file.write(data)
        path.chmod(0o600)
        return Place(path.name, offset, len(data)), deps

    def record(self, chore_id: str, **record: Any) -> Path:
        """Write a chore record as the driver would and return its path."""
        directory = self.dir.chore_dir(chore_id)
        directory.mkdir(mode=0o700, exist_ok=True)
        path = directory / "chore.pickle"
        content = {
            "id": chore_id,
            "name": chore_id.split("-")[1],
            "attempt": 1,
            "num_tasks": 1,
            "deps": [],
            "cloudpickle": cloudpickle.__version__,
            **record,
        }
        disk.write_atomic(path, wire.encode_record(content))
        return path

    def add(
        self,
        function: Callable[..., Any],
        *args: Any,
        chore_id: str = "chore-f-0001",
        upstream: Mapping[str, Mapping[str, Any]] | None = None,
        deps: list[Any] | None = None,
        record: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Path:
        """Register a function and record a call; `upstream` describes dependencies by id."""
        name = chore_id.split("-")[1]
        self.register(name, function)
        place, found = self.freeze((args, kwargs))
        described = [
            {"id": dep, "kind": "python", **((upstream or {}).get(dep, {}))} for dep in found
        ]
        return self.record(
            chore_id,
            **{
                "kind": "python",
                "callable": name,
                "arguments": tuple(place),
                "deps": deps if deps is not None else described,
                **(record or {}),
            },
        )

    def exec(
        self,
        elements: list[Any],
        inputs: Mapping[str, Any] | None = None,
        chore_id: str = "chore-prog-0001",
        **described: Mapping[str, Any],
    ) -> Path:
        """Record an executable that the worker must resolve."""
        place, found = self.freeze((elements, dict(inputs or {})))
        deps = [{"id": dep, "kind": "python", **described.get("upstream", {})} for dep in found]
        return self.record(chore_id, kind="executable", arguments=tuple(place), deps=deps)

    def complete(self, chore_id: str, value: object) -> Path:
        """Write the result of an earlier chore."""
        directory = self.dir.chore_dir(chore_id)
        directory.mkdir(mode=0o700)
        path = directory / "result.pickle"
        wire.write_result(path, wire.dumps(value), 1)
        return path

    def run(
        self,
        chore_id: str = "chore-f-0001",
        env: Mapping[str, str] | None = None,
        python: tuple[str, ...] = MODULE,
        spec_file: str | None = None,
        as_id: str | None = None,
    ) -> Outcome:
        """Run one worker to its end."""
        directory = self.dir.chore_dir(chore_id)
        environment = inheritable(os.environ)
        environment |= {"MATENSEMBLE_CHORE_ID": chore_id, **(env or {})}
        process = subprocess.run(
            [
                *(sys.executable, *python, "--chore-id", as_id or chore_id),
                *("--spec-file", spec_file or str(directory / "chore.pickle")),
            ],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Outcome(process.returncode, process.stdout, process.stderr, directory)


@pytest.fixture
def start_worker(campaign: Campaign) -> Iterator[Callable[..., Any]]:
    """Start warm workers of the campaign, each a `pool_harness.WarmWorker`, closed at the end."""
    from pool_harness import WarmWorker

    with ExitStack() as stack:

        def start(*arguments: Any, **options: Any) -> Any:
            worker = WarmWorker(campaign, *arguments, **options)
            stack.callback(worker.close)
            return worker

        yield start


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path / "run")
