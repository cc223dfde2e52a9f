"""Every environment variable by which MatEnsemble speaks, and what a chore must not inherit.

Owns the names: the driver sets them, the executors add theirs, the worker reads them. Imported by
the worker at its start, so it is nothing but constants and one function.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

EXECUTOR = "MATENSEMBLE_EXECUTOR"
"""Which executor runs the chores of a driver."""
CORES = "MATENSEMBLE_CORES"
"""Cores of the local executor."""
GPUS = "MATENSEMBLE_GPUS"
"""GPUs of the local executor."""
SITE = "MATENSEMBLE_SITE"
"""Site file of the job scripts."""

CHORE_ID = "MATENSEMBLE_CHORE_ID"
"""Id of the chore."""
RUN_DIR = "MATENSEMBLE_RUN_DIR"
"""Absolute path of the run directory."""
ATTEMPT = "MATENSEMBLE_ATTEMPT"
"""Number of the attempt, from 1."""
PREVIOUS_DIR = "MATENSEMBLE_PREVIOUS_DIR"
"""Absolute path of what the attempt before left behind; not set for the first."""
SCRIPT_DIR = "MATENSEMBLE_SCRIPT_DIR"
"""Directory that the worker appends to its import path."""
TASK_RANK = "MATENSEMBLE_TASK_RANK"
"""Rank of this task, from 0."""
NUM_TASKS = "MATENSEMBLE_NUM_TASKS"
"""Number of tasks of the chore."""
JOBID = "MATENSEMBLE_JOBID"
"""Job of the local executor that a process belongs to."""

WARM_WORKER = "MATENSEMBLE_WARM_WORKER"
"""Set, to 1, for a warm worker and nobody else."""
POOL_ADDRESS = "MATENSEMBLE_POOL_ADDRESS"
"""Host name or IP address by which warm workers on other nodes reach the driver."""

RANK_VARIABLES = (
    TASK_RANK,
    "FLUX_TASK_RANK",
    "PMI_RANK",
    "OMPI_COMM_WORLD_RANK",
    "PMIX_RANK",
    "SLURM_PROCID",
)
"""Where a worker looks up the rank of its task, in this order."""

NOT_INHERITED = frozenset(
    (
        *(CHORE_ID, RUN_DIR, ATTEMPT, PREVIOUS_DIR, SCRIPT_DIR, NUM_TASKS, WARM_WORKER),
        *RANK_VARIABLES,
        *("FLUX_TASK_LOCAL_ID", "SLURM_LOCALID", "SLURM_NODEID"),
        *("PMI_FD", "PMI_SIZE", "PMI_PORT", "PMI_ID", "PMIX_NAMESPACE"),
        *("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
        "OMPI_COMM_WORLD_NODE_RANK",
    )
)
"""What says which task of which job a process is.

A driver may be a task itself (``flux run python study.py``, ``srun``, ``mpiexec``, a chore): what
it was told holds for it alone. Every task of a chore would otherwise take itself for that one, and
an MPI program would call a process manager that does not know it. `JOBID` is inherited: a chore of
a chore is ended with it.
"""

VISIBLE_DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
"""Which GPUs a process sees. Innermost first: AMD's HIP numbers anew what ROCR left, and takes
CUDA's variable for its own."""


def inheritable(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what chores inherit of the environment of their driver."""
    return {name: value for name, value in environ.items() if name not in NOT_INHERITED}
