"""No part of a run on one machine listens to the network, warm workers or not.

The dashboard alone does, and only when it is asked for. Where workers are on other nodes, their
driver listens: who gets in there is the matter of `test_pool_channel`.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROC = Path("/proc")
TIMEOUT = 60.0
LISTENERS = {
    *("listen", "create_server", "start_server", "start_unix_server"),
    *("TCPServer", "HTTPServer", "ThreadingHTTPServer", "Listener", "BaseManager", "SyncManager"),
}
MODULES = {"socketserver", "http", "xmlrpc", "zmq", "multiprocessing", "asyncio"}
CHANNEL = {("pool_link.py", "zmq"), ("link.py", "zmq")}
"""The two ends of the channel of warm workers, which `test_pool_channel` looks at."""
STUDY = """
import sys, time
from pathlib import Path
from matensemble.pipeline import Pipeline

folder = Path(sys.argv[1])
pipe = Pipeline(folder)

@pipe.chore
def wait(number):
    (folder / f"runs-{number}").touch()
    while not (folder / "gate").exists():
        time.sleep(0.02)

wait.map(range(2))
pipe.exec(["sh", "-c", "touch ../../../runs-2; while ! test -e ../../../gate; do sleep 0.02; done"])
pipe.submit(executor="local", cores=3, workers=sys.argv[2]).result(60)
"""


@pytest.mark.parametrize("package", ["sdk", "worker", "runtime"])
def test_no_module_listens(package):
    """In the text: what no run of a test happens to come by is seen too."""
    found = []
    for path in (ROOT / "packages" / package / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node.func, "attr", getattr(node.func, "id", "")) if is_call(node) else ""
            imported = imports_of(node) & MODULES
            imported = {module for module in imported if (path.name, module) not in CHANNEL}
            if name in LISTENERS or imported:
                found.append(f"{path.name}:{node.lineno}: {name or imported}")
    assert found == []


def is_call(node):
    return isinstance(node, ast.Call)


def imports_of(node):
    """Return the packages that a statement imports."""
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and not node.level:
        return {(node.module or "").partition(".")[0]}
    return set()


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.skipif(
    not (PROC / "net" / "tcp").exists(), reason="what a process has open is told by Linux only"
)
@pytest.mark.parametrize("workers", ["job", "pool"])
def test_no_process_of_a_run_listens(tmp_path, workers):
    mark = f"MATENSEMBLE_TEST_MARK={uuid.uuid4().hex}"
    driver = subprocess.Popen(
        [sys.executable, "-c", STUDY, str(tmp_path), workers],
        env=os.environ | dict([mark.split("=")]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + TIMEOUT
        while len(list(tmp_path.glob("runs-*"))) < 3:
            assert time.monotonic() < deadline
            assert driver.poll() is None
            time.sleep(0.02)
        pids = [pid for pid in everybody() if mark.encode() in read(PROC / pid / "environ")]
        assert len(pids) >= 4, "the driver and what runs three chores"
        inodes = {inode for pid in pids for inode in sockets_of(pid)}
        assert inodes & listening() == set()
    finally:
        (tmp_path / "gate").touch()
        assert driver.wait(TIMEOUT) == 0


def everybody():
    return [path.name for path in PROC.iterdir() if path.name.isdigit()]


def read(path):
    with suppress(OSError):  # of another user, or gone
        return path.read_bytes()
    return b""


def sockets_of(pid):
    """Yield the inodes of the sockets that a process has open."""
    with suppress(OSError):
        for entry in (PROC / pid / "fd").iterdir():
            with suppress(OSError):
                kind, _, rest = str(entry.readlink()).partition(":[")
                if kind == "socket":
                    yield rest.rstrip("]")


def listening():
    """Return the inodes of all sockets of this machine that listen on a port."""
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in read(PROC / "net" / name).decode().splitlines()[1:]
    ]
    return {row[9] for row in rows if row[3] == "0A"}
