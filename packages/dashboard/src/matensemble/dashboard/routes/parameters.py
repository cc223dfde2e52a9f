"""What stands in the paths of several routes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

RunId = Annotated[str, Path(description="Id of the run", max_length=255)]
ChoreId = Annotated[str, Path(description="Id of the chore", max_length=255)]
