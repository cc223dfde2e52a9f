"""Every path and file name of a run directory.

The layout is an interface that tools outside this project read, so each name stands here once.
The functions give paths relative to the run directory as plain strings: the worker uses them, and
it must not pay for `pathlib` at its start. Everything else uses `RunDir`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "workflow.json"
CHORES = "workflow.jsonl"
ARGUMENTS = "workflow.args"
STATUS = "status.json"
LOG = "matensemble_workflow.log"
JOURNAL = "journal.jsonl"
OWNER = "owner.json"
DASHBOARD = "dashboard.url"
CONTROL = "control"
KEYS = "workflow.keys"
FILES = "workflow.files"
WATCHED = "files.json"
REUSE = "workflow.reuse"
BATCH_PREFIX = "batch-"
"""What the names of the logs of batch jobs begin with."""
OUT = "out"
REGISTRY = "out/registry"

STDOUT = "stdout"
STDERR = "stderr"
RECORD = "chore.pickle"
METADATA = "metadata.json"
RESULT = "result.pickle"
ERROR = "error.json"
SPAWNED = "spawned.jsonl"
SPAWNED_ARGUMENTS = "spawned.args"
DAMAGED_RESULT = "result.pickle.damaged"
ATTEMPTS = "attempts"

POOL = "out/.pool"
"""What warm workers have, a directory an epoch; no chore id begins with a dot."""
POOL_ADDRESS = "address.json"

DIRECTORY_PREFIX = "matensemble_workflow-"
DIRECTORY_MODE = 0o700
FILE_MODE = 0o600


def chore_dir(chore_id: str) -> str:
    """Return the directory of a chore, relative to the run directory."""
    return f"{OUT}/{chore_id}"


def chore_file(chore_id: str, name: str) -> str:
    """Return a file of a chore, relative to the run directory."""
    return f"{OUT}/{chore_id}/{name}"


def registry_file(name: str) -> str:
    """Return the file of a registered callable, relative to the run directory."""
    return f"{REGISTRY}/{name}"


def spawned_arguments(attempt: int) -> str:
    """Return the file of a strategy chore that holds the arguments of what it asked for.

    Each attempt has its own, which stays where it is: chores that joined the graph because of an
    earlier attempt have their arguments there.
    """
    return SPAWNED_ARGUMENTS if attempt == 1 else f"spawned-{attempt}.args"


def is_spawned(name: str) -> bool:
    """Whether a file of a strategy chore holds what it asked for, or arguments of that."""
    return name == SPAWNED or (name.startswith("spawned") and name.endswith(".args"))


class RunDir:
    """One run directory.

    Parameters
    ----------
    root
        The directory itself, for example ``matensemble_workflow-20260101_120000``.
    """

    __slots__ = ("root",)

    def __init__(self, root: Path) -> None:
        self.root = root

    def __fspath__(self) -> str:
        return str(self.root)

    def __repr__(self) -> str:
        return f"RunDir({str(self.root)!r})"

    @property
    def manifest_path(self) -> Path:
        """Versions, name and counts of the saved pipeline."""
        return self.root / MANIFEST

    @property
    def chores_path(self) -> Path:
        """One JSON header a chore, in topological order."""
        return self.root / CHORES

    @property
    def arguments_path(self) -> Path:
        """The frozen arguments of all chores, one after the other."""
        return self.root / ARGUMENTS

    @property
    def status_path(self) -> Path:
        """The small summary that is replaced atomically."""
        return self.root / STATUS

    @property
    def log_path(self) -> Path:
        """Text log of the `matensemble` logger."""
        return self.root / LOG

    @property
    def journal_path(self) -> Path:
        """Append-only record of every transition."""
        return self.root / JOURNAL

    @property
    def owner_path(self) -> Path:
        """Who drives this run."""
        return self.root / OWNER

    def journal_of(self, epoch: int) -> Path:
        """Return the journal of an epoch that a takeover has ended."""
        return self.root / f"journal-{epoch}.jsonl"

    def claim_path(self, epoch: int) -> Path:
        """Return the file by which a takeover claimed an epoch, from 2."""
        return self.root / f"owner-{epoch}.json"

    @property
    def keys_path(self) -> Path:
        """Content keys of the saved chores, where the pipeline asked for them."""
        return self.root / KEYS

    @property
    def files_path(self) -> Path:
        """What the files that content keys cover were, where there are keys."""
        return self.root / FILES

    @property
    def watched_path(self) -> Path:
        """Which of those files changed while the run was alive."""
        return self.root / WATCHED

    @property
    def reuse_path(self) -> Path:
        """Which results of an earlier run are to be taken over, and why others are not."""
        return self.root / REUSE

    def pool_dir(self, epoch: int) -> Path:
        """Return the directory of the warm workers of an epoch."""
        return self.root / POOL / str(epoch)

    def pool_address_path(self, epoch: int) -> Path:
        """Return the file by which warm workers find the driver of an epoch."""
        return self.pool_dir(epoch) / POOL_ADDRESS

    @property
    def dashboard_path(self) -> Path:
        """Link to the dashboard of the run while it is alive, with its token."""
        return self.root / DASHBOARD

    @property
    def control_dir(self) -> Path:
        """Requests from other processes."""
        return self.root / CONTROL

    @property
    def out_dir(self) -> Path:
        """One directory a chore, and the registry."""
        return self.root / OUT

    @property
    def registry_dir(self) -> Path:
        """One cloudpickled callable per registered name."""
        return self.root / REGISTRY

    def chore_dir(self, chore_id: str) -> Path:
        """Return the directory of a chore."""
        return self.root.joinpath(OUT, chore_id)  # once a chore: half the cost of two steps

    def attempt_dir(self, chore_id: str, attempt: int) -> Path:
        """Return where the files of an earlier attempt are kept."""
        return self.root / OUT / chore_id / ATTEMPTS / str(attempt)

    def chore_file(self, chore_id: str, name: str) -> Path:
        """Return a file of a chore, by one of the names declared in this module."""
        return self.root.joinpath(OUT, chore_id, name)
