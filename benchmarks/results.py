"""The figures of one run of all benchmarks as a file, with the machine, the versions and the date.

Owns that format, which `report` reads. Nothing in it says where or by whom it was measured.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from row import LeftOut, Row

FORMAT = 1
OWN_PACKAGES = ("matensemble-runtime", "cloudpickle", "pyzmq", "networkx")
PEER_PACKAGES = ("distributed", "parsl", "executorlib", "hyperqueue")
_ASK = "import sys, importlib.metadata as m; [print(n, m.version(n)) for n in sys.argv[1:]]"


@dataclass(frozen=True)
class Results:
    """What was measured."""

    date: str
    """Day, as in 2026-11-22."""
    machine: str
    versions: Mapping[str, str]
    """By package, and of Python and flux-core."""
    rows: tuple[Row | LeftOut, ...]

    @classmethod
    def of(cls, rows: Iterable[Row | LeftOut], peers_python: str) -> Results:
        """Return rows that were measured just now, here."""
        day = datetime.now(UTC).date().isoformat()
        return cls(day, describe_machine(), find_versions(peers_python), tuple(rows))

    def save(self, path: Path) -> None:
        """Write the file."""
        content = {
            "format": FORMAT,
            "date": self.date,
            "machine": self.machine,
            "versions": dict(self.versions),
            "rows": [asdict(row) for row in self.rows],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read the file; raises ValueError where it has another format."""
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise ValueError(f"{path} has format {content['format']}, not {FORMAT}")
        rows = tuple(LeftOut(**one) if "why" in one else Row(**one) for one in content["rows"])
        return cls(content["date"], content["machine"], content["versions"], rows)


def describe_machine() -> str:
    """Return processor, cores, memory and system of this machine in one line."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        model = f"{found.group(1)} ({model})" if found else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, {platform.system()}"


def find_versions(peers_python: str) -> dict[str, str]:
    """Return the versions of what took part, as far as it is installed."""
    found = {"Python": platform.python_version()}
    for name in OWN_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    for name in PEER_PACKAGES:
        found.update(_ask([peers_python, "-c", _ASK, name]))
    for name, text in _ask(["flux", "--version"]).items():
        if name == "commands:":
            found["flux-core"] = text
    return found


def _ask(command: list[str]) -> dict[str, Any]:
    """Return the first two words of each line that a command prints; nothing where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return {}
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    return dict(words[:2] for words in map(str.split, lines) if len(words) >= 2)
