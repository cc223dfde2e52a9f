"""Is this installation whole? A published MatEnsemble 0.5 in the same environment breaks it.

`matensemble` is a namespace without an ``__init__.py``; an older release has one, which turns it
into one closed package and hides the distributions that lie elsewhere. Called when a pipeline is
made and by the command line, before anything can fail in a way that says less.
"""

from __future__ import annotations

import sys

from matensemble.errors import ConflictingInstallationError


def check_installation() -> None:
    """Check that `matensemble` is the namespace that all its distributions share.

    Raises
    ------
    ConflictingInstallationError
        If an older release has made a package of it; names what to uninstall.
    """
    path = getattr(sys.modules["matensemble"], "__file__", None)
    if path is not None:
        raise ConflictingInstallationError(path)
