"""Which GPUs this machine has, and the variables that show a process only some of them.

Called by the local executor when it opens, and by
warm workers.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matensemble.environment import VISIBLE_DEVICES
from matensemble.errors import InvalidOptionError

_TOOLS = (
    ("nvidia-smi", ("-L",), r"^GPU (\d+):", "CUDA_VISIBLE_DEVICES"),
    ("rocm-smi", ("-i",), r"^GPU\[(\d+)\]", "ROCR_VISIBLE_DEVICES"),
)
_TOOL_TIMEOUT_SECONDS = 30.0  # the first call after a boot loads the driver


class Gpus(NamedTuple):
    """The GPUs that chores may use."""

    ids: tuple[str, ...]
    """As the variable names them: numbers, or ids of the vendor."""
    variable: str
    """The one variable that selects among them. Only one is set: they apply on top of each other,
    so a second one would select from what the first had left."""

    def show(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the variable that shows a process these GPUs; none at all for no ids.

        A machine without GPUs needs no variable.
        """
        # Not the empty text, which HIP takes for "not set"; -1 is no device for all of them.
        return {self.variable: ",".join(ids) or "-1"} if self.ids else {}


def find_gpus(environ: Mapping[str, str], wanted: int | None = None) -> Gpus:
    """Return the GPUs of this machine.

    Parameters
    ----------
    environ
        Environment of the driver. The first of `VISIBLE_DEVICES` that is set names the GPUs;
        where none is, the vendor's tool on PATH counts them (``nvidia-smi``, ``rocm-smi``).
    wanted
        How many to use; None uses all that are found. More than a variable names is an error; more
        than a tool counts is not, for a tool may be missing.

    Raises
    ------
    InvalidOptionError
        If `wanted` exceeds what a visible-devices variable allows.
    """
    for variable in VISIBLE_DEVICES:
        if variable in environ:
            ids = _parse(environ[variable])
            if wanted is not None and wanted > len(ids):
                expected = f"at most {len(ids)}, the devices in {variable}={environ[variable]}"
                raise InvalidOptionError("gpus", wanted, expected)
            return Gpus(ids[:wanted], variable)
    if wanted == 0:  # the tools take a second
        return Gpus((), VISIBLE_DEVICES[0])
    count, variable = _count(environ)
    return Gpus(tuple(str(i) for i in range(count if wanted is None else wanted)), variable)


def _parse(value: str) -> tuple[str, ...]:
    """Return the devices of a variable: as CUDA does, what follows an invalid one is ignored."""
    ids: list[str] = []
    for item in value.split(","):
        device = item.strip()
        if not device or device.startswith("-") or device == "NoDevFiles":
            break
        ids.append(device)
    return tuple(ids)


def _count(environ: Mapping[str, str]) -> tuple[int, str]:
    """Return how many GPUs the first vendor's tool that finds any counts, and its variable."""
    for tool, options, pattern, variable in _TOOLS:
        program = shutil.which(tool, path=environ.get("PATH"))
        if program is None:
            continue
        try:
            answer = subprocess.run(
                [program, *options],
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TOOL_TIMEOUT_SECONDS,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            continue  # installed on a machine without its driver, as on login nodes
        if ids := set(re.findall(pattern, answer.stdout, re.MULTILINE)):
            return len(ids), variable
    return 0, VISIBLE_DEVICES[0]
