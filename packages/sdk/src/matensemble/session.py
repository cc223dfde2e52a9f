"""What kind of Python session a pipeline is written in: a script, a notebook, a prompt.

Owns the questions whose answer is not in the pipeline but around it.
"""

from __future__ import annotations

import sys
from pathlib import Path


def is_notebook() -> bool:
    """Return whether this is an IPython session, where cells are run again."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def script_dir() -> Path:
    """Return the directory of the running script, which workers append to their import path.

    In a notebook, at a prompt and with ``python -m`` it is the current directory, from which such
    a session imports its helper modules.
    """
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    if path is None or getattr(main, "__spec__", None) is not None:
        return Path.cwd()
    return Path(path).absolute().parent
