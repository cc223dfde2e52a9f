"""Jobspec: a launch request as Flux describes a job (RFC 14, version 1).

Owns every key of the job description. Pure: it needs no Flux, so that what is asked of Flux can be
read and tested anywhere. Called by the Flux executor and by `matensemble.fluxlet`.
"""

from __future__ import annotations

import json
import logging
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from matensemble.environment import inheritable
from matensemble.model import Resources
from matensemble.runtime.executors.request import LaunchRequest
from matensemble.runtime.executors.resource_set import format_idset

LOGGER = logging.getLogger("matensemble.executors.flux")

USER_KEY = "matensemble"
"""Key under ``attributes.user`` that holds run, chore, attempt and epoch."""

INPUT_BATCH_SECONDS = 0.001
"""Flux notes a redirected standard input in the job's records and by default waits 0.5 s for more
to note, during which the job cannot end."""

MAX_CONSTRAINTS = 256
"""Constraints that are kept; nodes that are set aside change, and are mostly the same for long."""

_SECOND_BRACE = re.compile(r"(?<=\{)\{")


class Label(NamedTuple):
    """What a job says of itself, so that any driver of its run knows what it is."""

    run: str | None = None
    """The run, no other has the same; None for the jobs of others."""
    chore_id: str = ""
    attempt: int = 0
    epoch: int = 0
    """Of the driver that submitted it."""

    @property
    def key(self) -> tuple[str, int]:
        """Chore id and attempt."""
        return self.chore_id, self.attempt


def label_of(jobspec: Mapping[str, Any]) -> Label:
    """Return the label of a job, an empty one for the jobs of others."""
    found = ((jobspec.get("attributes") or {}).get("user") or {}).get(USER_KEY) or {}
    if not isinstance(found, dict):
        return Label()
    return Label(
        found.get("run"), found.get("chore", ""), found.get("attempt", 0), found.get("epoch", 0)
    )


class JobspecEncoder:
    """Turns requests into jobspecs.

    The environment below the chores is serialised once; a chore adds the text of its own variables.

    Parameters
    ----------
    run
        Label of the run, the same for all its drivers and for no other run: the absolute path of
        its directory.
    epoch
        Of the driver, 0 where no driver keeps count.
    environ
        The driver's environment; what it says of the driver itself is not inherited.
    set_cpu_affinity
        Whether each task is bound to its own cores; False binds nothing.
    set_gpu_affinity
        Whether each task of a chore with GPUs sees only its own; False shows it all of the chore's.
    mpi_pmi
        Shell option ``pmi`` of MPI chores: ``"pmi2"``, ``"simple"``, ``"pmix"``, ``"cray-pals"`` …
    ranks
        Flux rank of each node of the allocation, which gives `LaunchRequest.avoid` its meaning.
    barred
        Flux ranks that no chore may use.
    extra_attributes
        Laid over ``attributes.system`` of every jobspec: a queue, a bank, or
        ``{"exec": {"test": {"run_duration": "0.01s"}}}``, with which Flux only pretends to run.
    """

    def __init__(
        self,
        *,
        run: str,
        epoch: int,
        environ: Mapping[str, str],
        set_cpu_affinity: bool = True,
        set_gpu_affinity: bool = False,
        mpi_pmi: str = "pmi2",
        ranks: Sequence[int] = (),
        barred: Iterable[int] = (),
        extra_attributes: Mapping[str, Any] | None = None,
    ) -> None:
        self._run = run
        self._epoch = epoch
        self._set_cpu_affinity = set_cpu_affinity
        self._set_gpu_affinity = set_gpu_affinity
        self._mpi_pmi = mpi_pmi
        self._ranks = tuple(ranks)
        self._barred = frozenset(barred)
        self._constraints: dict[frozenset[int], dict[str, Any]] = {}
        self._extra = dict(extra_attributes or {})
        self._environ = _representable(inheritable(environ))
        self._inherited: dict[tuple[str, ...], str] = {}

    def encode(self, request: LaunchRequest) -> str:
        """Return the jobspec of a request as JSON.

        Raises
        ------
        ValueError
            If an argument or variable cannot be written as JSON text (NUL, or bytes that are not
            UTF-8).
        """
        for text in (*request.argv, *request.env, *request.env.values(), str(request.cwd)):
            if "\0" in text or not _is_unicode(text):
                raise ValueError(f"Flux takes only UTF-8 text without NUL, not {text!r}")
        text = json.dumps(self._document(request), separators=(",", ":"))
        return f"{text.removesuffix('{}}}}')}{self._environment(request)}}}}}}}"

    def document(self, request: LaunchRequest) -> dict[str, Any]:
        """Return the jobspec of a request as an object; raises as `encode`."""
        document: dict[str, Any] = json.loads(self.encode(request))
        return document

    def _document(self, request: LaunchRequest) -> dict[str, Any]:
        """Return the jobspec, its (empty) environment last."""
        resources = request.resources
        section, count = _resource_section(resources)
        system: dict[str, Any] = {
            "duration": resources.duration or 0.0,
            "cwd": str(request.cwd),
            "job": {"name": request.name},
            "shell": {"options": self._shell_options(request)},
        }
        if constraint := self._constraint(request.avoid):
            system["constraints"] = constraint
        user = {
            "run": self._run,
            "chore": request.chore_id,
            "attempt": request.attempt,
            "epoch": self._epoch,
        }
        return {
            "version": 1,
            "resources": [section],
            "tasks": [{"command": literal_argv(request.argv), "slot": "task", "count": count}],
            "attributes": {
                "user": {USER_KEY: user},
                "system": {**system, **self._extra, "environment": {}},
            },
        }

    def _shell_options(self, request: LaunchRequest) -> dict[str, Any]:
        resources = request.resources
        options: dict[str, Any] = {
            "input": {
                "stdin": {"type": "file", "path": "/dev/null"},
                "batch-timeout": INPUT_BATCH_SECONDS,
            },
            "output": {
                stream: {
                    "type": "file",
                    "path": path.name if path.parent == request.cwd else str(path),
                }
                for stream, path in (
                    ("stdout", request.stdout_path),
                    ("stderr", request.stderr_path),
                )
            },
        }
        if not self._set_cpu_affinity:
            options["cpu-affinity"] = "off"
        elif resources.num_tasks > 1:  # a single task has all cores of the job by default
            options["cpu-affinity"] = "per-task"
        if resources.gpus_per_task and self._set_gpu_affinity:
            options["gpu-affinity"] = "per-task"
        if resources.mpi:
            options["pmi"] = self._mpi_pmi
        elif resources.num_tasks > 1:
            # Tasks that know nothing of each other may end at any time after one another.
            options["exit-timeout"] = "none"
        return options

    def _constraint(self, avoid: frozenset[int]) -> dict[str, Any] | None:
        """Return which ranks a job may use, None where that is all.

        Flux's Python scheduler parses the list anew for each node that has room, whenever it tries
        to place the job, so the shorter of the two lists is written: a job that is pinned to one of
        a thousand nodes is placed in a tenth of the time.
        """
        constraint = self._constraints.get(avoid)
        if constraint is None and (avoid or self._barred):
            shunned = self._barred.union(self._ranks[node] for node in avoid)
            left = [rank for rank in self._ranks if rank not in shunned]
            # One operator: of an object with several, Flux evaluates only one.
            if 0 < len(left) < len(shunned):
                constraint = {"ranks": [format_idset(left)]}
            else:
                constraint = {"not": [{"ranks": [format_idset(shunned)]}]}
            if len(self._constraints) == MAX_CONSTRAINTS:
                self._constraints.clear()
            self._constraints[avoid] = constraint
        return constraint

    def _environment(self, request: LaunchRequest) -> str:
        own = json.dumps(dict(request.env), separators=(",", ":"))
        if not request.inherit_env:
            return own
        covered = tuple(key for key in request.env if key in self._environ)
        below = self._inherited.get(covered)
        if below is None:
            rest = {key: value for key, value in self._environ.items() if key not in covered}
            below = json.dumps(rest, separators=(",", ":"))
            self._inherited[covered] = below
        if below == "{}":
            return own
        return below if own == "{}" else f"{below[:-1]},{own[1:]}"


def literal_argv(argv: Sequence[str]) -> list[str]:
    """Return a command that Flux starts with exactly these arguments.

    The Flux shell replaces ``{{id}}`` and the like in arguments, and knows no way to quote them. A
    command with two opening braces therefore goes through ``sh``, with quotes between the braces.
    """
    if not any("{{" in argument for argument in argv):
        return list(argv)
    words = " ".join(_SECOND_BRACE.sub("''{", shlex.quote(argument)) for argument in argv)
    return ["/bin/sh", "-c", f"exec {words}"]


def _resource_section(resources: Resources) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the resources of a job and how many tasks there are, as `flux.job.JobspecV1` does."""
    children = [{"type": "core", "count": resources.cores_per_task}]
    if resources.gpus_per_task:
        children.append({"type": "gpu", "count": resources.gpus_per_task})
    slot = {
        "type": "slot",
        "count": resources.num_tasks,
        "with": children,
        "label": "task",
    }
    if resources.num_nodes is None:
        return slot, {"per_slot": 1}
    slot["count"] = -(-resources.num_tasks // resources.num_nodes)
    uneven = resources.num_tasks % resources.num_nodes
    node: dict[str, Any] = {"type": "node", "count": resources.num_nodes, "with": [slot]}
    if resources.exclusive:
        node["exclusive"] = True
    return node, {"total": resources.num_tasks} if uneven else {"per_slot": 1}


def _representable(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that JSON can hold; one with other bytes would refuse every chore."""
    kept = {k: v for k, v in environ.items() if _is_unicode(k) and _is_unicode(v)}
    if lost := sorted(repr(key) for key in environ.keys() - kept.keys()):
        LOGGER.warning("not passed on, because Flux takes only UTF-8: %s", ", ".join(lost))
    return kept


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
