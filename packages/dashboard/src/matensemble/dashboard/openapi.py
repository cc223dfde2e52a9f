"""Print the interface as OpenAPI: ``python -m matensemble.dashboard.openapi``.

Owns nothing but the form of that document. It is committed as ``frontend/openapi.json``, from which
the page's types are made.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from matensemble.dashboard.app import create_dashboard_app


def describe_api() -> str:
    """Return the OpenAPI document as JSON text with a final newline."""
    return json.dumps(create_dashboard_app(Path()).openapi(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(describe_api())
