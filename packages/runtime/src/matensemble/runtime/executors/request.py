"""What an executor needs to know to start one attempt of a chore."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from matensemble.model import Resources
from matensemble.runtime.scheduler.resources import Placement


class LaunchRequest(NamedTuple):
    """One attempt of a chore, as processes."""

    chore_id: str
    """The chore."""
    attempt: int
    """From 1."""
    name: str
    """Name of the group, for people who look at the resource manager."""
    argv: tuple[str, ...]
    """Program and arguments; a program without a slash is looked up on the chore's PATH."""
    cwd: Path
    """Directory to run in, absolute; exists."""
    stdout_path: Path
    """Where standard output goes, absolute."""
    stderr_path: Path
    """Where standard error goes, absolute."""
    resources: Resources
    """Tasks, cores, GPUs, duration, MPI; `resources.env` is already part of `env`."""
    env: Mapping[str, str]
    """Variables laid over the inherited environment, or the whole of it."""
    inherit_env: bool = True
    """Whether the driver's environment lies under `env`."""
    placement: Placement | None = None
    """Where the scheduler expects it; executors that place by themselves ignore it."""
    avoid: frozenset[int] = frozenset()
    """Nodes (indices into `Allocation.nodes`) to keep off: they are set aside for another chore."""
    is_pooled: bool = False
    """Whether a warm worker is to serve it; else it is a job of its own."""
    record: bytes | None = None
    """Of a Python chore for a warm worker, and of a program with references: the chore's record,
    as `wire.encode_record` made it; `argv` is empty then."""
    wants: int = 0
    """Largest result, in bytes of its pickle, that a warm worker is to send along; 0: none."""
    is_program: bool = False
    """Whether `record` is that of a program, whose references are resolved before it starts; else
    it is that of a Python function."""
