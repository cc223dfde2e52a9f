"""Where benchmarks leave their files until all of them have run.

Files are created much slower for a while after many were deleted, so nothing is deleted between
rounds, nor by the processes that measure: what these make in the directory for temporary files
stays there, and is cleared away by who called `scratch`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def scratch() -> Iterator[None]:
    """Give this process and those it starts a directory for temporary files of their own."""
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = None
            del os.environ["TMPDIR"]
            if before is not None:
                os.environ["TMPDIR"] = before
