"""The door to Flux: the one module that imports flux.

Owns loading the bindings, connecting to an instance that may be used, and what is asked of it once.
It imports flux only when called, so that it loads where no Flux is; each obstacle is one readable
error with its remedy. Called by `flux_driver`, `selection` and `matensemble.fluxlet`.
"""

from __future__ import annotations

import ctypes
import errno
import importlib.metadata
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

from matensemble.errors import ExecutorUnavailableError
from matensemble.runtime.executors.resource_set import holdings
from matensemble.runtime.scheduler.resources import Allocation, Node

LOGGER = logging.getLogger("matensemble.executors.flux")

OLDEST_VERSION = (0, 68)
"""First flux-core whose journal this module understands."""

MANY_NODES = 128
"""From so many on it is said what leaving out rank 0 costs where each job has to ask for it: Flux's
Python scheduler takes a millisecond more for every hundred nodes that have room, and four for all
else."""


def load_flux() -> Any:
    """Return the module `flux`, with the submodules used here loaded.

    The libraries of the Flux on the PATH are loaded first where the dynamic linker does not find
    them, so that nobody needs to set ``LD_LIBRARY_PATH``.

    Raises
    ------
    ExecutorUnavailableError
        If something is missing; the message says what.
    """
    try:
        try:
            return _import_flux()
        except ImportError as error:
            if "libflux" not in str(error) or not _load_libraries():
                raise
            for name in [*sys.modules]:  # the halves that the failed import left behind
                if name.partition(".")[0] in ("flux", "_flux"):
                    del sys.modules[name]
            return _import_flux()
    except ModuleNotFoundError as error:
        if error.name in ("flux", "_flux"):
            problem = "the Flux Python bindings are not installed"
        else:
            problem = f"the Flux Python bindings need the module {error.name!r}"
        remedy = (
            "Install them: pip install 'matensemble-runtime[flux]' 'flux-python==<flux version>', "
            "with the version that `flux version` shows"
        )
        raise ExecutorUnavailableError("flux", problem, remedy) from error
    except ImportError as error:
        raise ExecutorUnavailableError(
            "flux",
            f"the Flux library does not load ({error})",
            "Put the `lib` directory of the Flux installation on the library path, for example: "
            'export LD_LIBRARY_PATH="$(dirname "$(readlink -f "$(command -v flux)")")/../lib"',
        ) from error


def _import_flux() -> Any:
    import flux
    import flux.constants
    import flux.hostlist
    import flux.job
    import flux.resource

    return flux


def _load_libraries() -> bool:
    """Load the libraries beside the `flux` command; return whether they are there."""
    command = shutil.which("flux")
    if command is None:
        return False
    prefix = Path(command).resolve().parent.parent
    for lib in (prefix / "lib", prefix / "lib64"):
        libraries = [
            path
            for name in ("idset", "hostlist", "taskmap", "core")
            for path in sorted(lib.glob(f"libflux-{name}.so.[0-9]"))
        ]
        if libraries:
            for path in libraries:
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
            return True
    return False


def check_versions(broker: str, bindings: str | None) -> None:
    """Check that the broker is recent enough and the bindings are made for it.

    Parameters
    ----------
    broker
        Version of the running instance, for example ``"0.88.0"``.
    bindings
        Version of the installed `flux-python`, None where the bindings are those of the
        installation itself.

    Raises
    ------
    ExecutorUnavailableError
        If they do not go together: the interfaces of Flux are not stable before 1.0.
    """
    running = _major_minor(broker)
    if running < OLDEST_VERSION:
        raise ExecutorUnavailableError(
            "flux",
            f"this instance runs flux-core {broker}",
            f"MatEnsemble needs {'.'.join(map(str, OLDEST_VERSION))} or later; "
            "use --executor local on one node, or ask for a newer Flux",
        )
    if bindings is not None and _major_minor(bindings) != running:
        raise ExecutorUnavailableError(
            "flux",
            f"the Python bindings are flux-python {bindings}, the instance runs flux-core {broker}",
            f"Install those that fit: pip install 'flux-python=={broker.partition('-')[0]}'",
        )


def _major_minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.lstrip("v").split(".")[:2])


def _bindings_version(flux: Any) -> str | None:
    try:
        distribution = importlib.metadata.distribution("flux-python")
    except importlib.metadata.PackageNotFoundError:
        return None
    own = Path(str(distribution.locate_file("flux"))).resolve()
    return distribution.version if own == Path(flux.__file__).resolve().parent else None


def connect(uri: str | None = None) -> Any:
    """Return a handle of an instance that may be used.

    Parameters
    ----------
    uri
        The instance; None means the one around this process.

    Raises
    ------
    ExecutorUnavailableError
        If there is none, it is not ours, or its version does not fit.
    """
    flux = load_flux()
    try:
        handle = flux.Flux(uri) if uri else flux.Flux()
        version = handle.attr_get("version")
        owner = int(handle.attr_get("security.owner"))
    except OSError as error:
        raise ExecutorUnavailableError(
            "flux",
            f"no Flux broker answers ({error})",
            "Run inside an allocation: `flux alloc -N2 …`, or `srun … flux start …` under Slurm; "
            "on one machine `flux start …`, or --executor local",
        ) from error
    if owner != os.getuid():
        raise ExecutorUnavailableError(
            "flux",
            f"the instance belongs to user {owner}: it is the system's, not an allocation of yours",
            "Get an allocation and run inside it: `flux alloc -N2 …`",
        )
    check_versions(version, _bindings_version(flux))
    return handle


def identify(handle: Any) -> str:
    """Return what tells an instance from another one at the same address."""
    return f"{handle.attr_get('broker.starttime')} {handle.attr_get('size')}"


def find_expiration(handle: Any) -> float | None:
    """Return when the instance ends, in seconds of the wall clock; None where no end is known."""
    try:
        resource_set = handle.rpc("resource.status", {}, 0).get().get("R") or {}
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        return None
    return resource_set.get("execution", {}).get("expiration") or None


def find_obstacle() -> str | None:
    """Return why Flux cannot be used here, None if it can; for the choice ``auto``."""
    try:
        connect()
    except ExecutorUnavailableError as error:
        return error.problem
    return None


class Instance(NamedTuple):
    """What is asked of the instance once."""

    allocation: Allocation
    ranks: tuple[int, ...]
    """Flux rank of each node."""
    barred: tuple[int, ...]
    """Ranks that have resources but are not for chores."""


def survey(handle: Any, reserve_broker_node: bool | None) -> Instance:
    """Return the nodes that chores may use: those that are up, without the broker's own.

    Parameters
    ----------
    handle
        Of the instance.
    reserve_broker_node
        Whether rank 0 is left to the broker where there are more nodes; None means yes.
    """
    flux = load_flux()
    resources = flux.resource.resource_list(handle).get()
    document = resources.up.to_dict()
    held = holdings(document) if resources.up.nnodes else {}
    names = dict(zip(sorted(held), flux.hostlist.Hostlist(resources.up.nodelist), strict=True))
    reserve = reserve_broker_node is not False and len(held) > 1 and 0 in held
    if reserve and len(held) >= MANY_NODES:
        LOGGER.warning(
            "each job tells Flux to leave out rank 0, which takes time with %d nodes: start the "
            "instance with --conf='resource.exclude=\"0\"', and it is told once",
            len(held),
        )
    ranks = tuple(rank for rank in sorted(held) if not (reserve and rank == 0))
    nodes = tuple(Node(names[rank], *held[rank]) for rank in ranks)
    return Instance(Allocation(nodes), ranks, (0,) if reserve else ())
