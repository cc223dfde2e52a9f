"""The site file: what a cluster wants to be told of every job, written once.

Owns its keys, their validation, and where the file is looked for. Knows nothing of job scripts;
`matensemble.batch` puts the values into one.
"""

from __future__ import annotations

import difflib
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from matensemble.environment import SITE
from matensemble.errors import SiteFileError

DEFAULT_SITE_FILE = Path(".config", "matensemble", "site.toml")
"""Where the file is looked for last, relative to the home directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What the job scripts of a site have in common. Every field is a key of the site file."""

    account: str | None = None
    """Who pays: Slurm's account, Flux's bank."""
    queue: str | None = None
    """Slurm's partition, Flux's queue."""
    gpus_per_node: int = 0
    """GPUs to ask for on each node, 0 or more; 0 asks for none. Flux gives whole nodes anyway."""
    directives: tuple[str, ...] = ()
    """Further directives, each as it would stand behind ``#SBATCH`` or ``# flux:``."""
    modules: tuple[str, ...] = ()
    """Environment modules to load, in this order."""
    setup: tuple[str, ...] = ()
    """Lines of shell that follow the modules, as they are: an environment to activate, exports."""
    srun_options: tuple[str, ...] = ()
    """Options of the ``srun`` that starts one Flux broker a node, behind those of the script."""
    flux_options: tuple[str, ...] = ()
    """Options of ``flux start`` on Slurm; on Flux, options of its brokers."""
    mpi_pmi: str | None = None
    """How MPI chores find each other: Flux's shell option ``pmi``; None leaves the default."""


def find_site_file(path: Path | None, environ: Mapping[str, str], home: Path) -> Path | None:
    """Return the site file to read, None where there is none.

    Parameters
    ----------
    path
        What the user named; comes first and must exist, which reading it will show.
    environ
        ``MATENSEMBLE_SITE`` comes second and must exist as well; empty counts as not set.
    home
        The home directory; `DEFAULT_SITE_FILE` in it comes last and may be missing.
    """
    if path is not None:
        return path
    if environ.get(SITE):
        return Path(environ[SITE])
    default = home / DEFAULT_SITE_FILE
    return default if default.exists() else None


def read_site(path: Path) -> Site:
    """Return the site that a file describes.

    Raises
    ------
    SiteFileError
        If the file cannot be read, is no TOML, or has a key or a value that cannot be.
    """
    try:
        with path.open("rb") as stream:
            data = tomllib.load(stream)
    except OSError as error:
        raise SiteFileError(str(path), f"cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SiteFileError(str(path), f"is no TOML: {error}") from error
    known = [field.name for field in fields(Site)]
    for key in data:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "there are " + ", ".join(known)
            raise SiteFileError(str(path), f"unknown key {key!r}; {hint}", key=key)
    return Site(**{key: _check(path, key, value) for key, value in data.items()})


def _check(path: Path, key: str, value: object) -> Any:
    """Return a value as its field holds it."""
    if key == "gpus_per_node":
        is_valid = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        expected = "an integer of at least 0"
    elif key in ("account", "queue", "mpi_pmi"):
        is_valid = _is_line(value)
        expected = "text without line breaks"
    else:
        is_valid = isinstance(value, list) and all(map(_is_line, value))
        expected = "a list of texts without line breaks, one an element"
    if not is_valid:
        raise SiteFileError(str(path), f"{key} = {value!r} is not possible; it must be {expected}")
    return tuple(value) if isinstance(value, list) else value


def _is_line(value: object) -> bool:
    return isinstance(value, str) and value.strip() != "" and is_one_line(value)


def is_one_line(text: str) -> bool:
    """Return whether a text can stand in a comment of a shell script and stay in it.

    A directive is such a comment: what follows a line break would be a command. Tabs may stand in
    it; other control characters, and bytes that are no UTF-8, may not.
    """
    return all(c == "\t" or unicodedata.category(c) not in ("Cc", "Cs") for c in text)
