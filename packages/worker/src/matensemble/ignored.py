"""Make the error that a chore receives for one upstream that failed and was to be ignored.

Owns how the record of such a dependency becomes a `ChoreFailedError`, the same that the results of
the run hold for it. Called by `matensemble.runtime_worker` only, and loaded only for a chore that
has such a dependency.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from matensemble import workdir
from matensemble.errors import ChoreFailedError, FormatError
from matensemble.foreign_json import read_foreign_json
from matensemble.references import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MAX_ERROR_BYTES = 1 << 20
"""A larger `error.json` is not one that a worker wrote."""


def load(run_dir: str, dep: Mapping[str, Any]) -> Unavailable:
    """Return what stands for the result of a chore that failed.

    Parameters
    ----------
    run_dir
        The run directory.
    dep
        The dependency as it stands in the record, with the key `failed`.
    """
    chore_id, failed = dep["id"], dep["failed"]
    upstream = failed.get("upstream")
    directory = f"{run_dir}/{workdir.chore_dir(upstream or chore_id)}"
    error = ChoreFailedError(
        chore_id,
        failed["reason"],
        exit_code=failed.get("exit_code"),
        upstream=upstream,
        detail=failed.get("detail", ""),
        traceback=_read_traceback(f"{directory}/{workdir.ERROR}"),
        directory=directory if os.path.isdir(directory) else None,
    )
    return Unavailable(error)


def _read_traceback(path: str) -> str | None:
    """Return the traceback that a failed chore left; None where there is none to be read."""
    try:
        told = read_foreign_json(path, MAX_ERROR_BYTES)
    except (OSError, FormatError):  # of a program, or killed: what is known stands in the record
        return None
    traceback = told.get("traceback") if isinstance(told, dict) else None
    return traceback if isinstance(traceback, str) else None
