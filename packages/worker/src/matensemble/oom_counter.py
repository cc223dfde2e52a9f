"""Where the kernel counts the processes that it killed for want of memory.

Owns the search for that file; `process_keeper.count_oom_kills` reads it, for it tells an exhausted
memory from any other SIGKILL. Called when the local executor opens, and by warm workers.
"""

from __future__ import annotations

from pathlib import Path


def find_oom_counter(
    cgroups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> Path | None:
    """Return the file that counts for this process and its children, None where there is none.

    It is that of our cgroup, or of the nearest one above it that has a counter: inside a container,
    the path of our cgroup may be one that only the outside knows.

    Parameters
    ----------
    cgroups
        In which cgroups this process is, as Linux tells it.
    mounted
        Where the cgroups are to be seen: version 2, or version 1 with a directory a controller.
    """
    try:
        lines = cgroups.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, name = mounted, "memory.events"
        elif "memory" in controllers.split(","):
            top, name = mounted / "memory", "memory.oom_control"
        else:
            continue
        own = top / path.lstrip("/")
        for directory in (own, *own.parents):
            if (directory / name).exists():
                return directory / name
            if directory == top:
                break
    return None
