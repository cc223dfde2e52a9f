"""The SDK alone: pipelines are written, saved and shown; running one is refused with a remedy."""

import sys
from pathlib import Path

import expect
import study

from matensemble.errors import RuntimeMissingError
from matensemble.pipeline import Pipeline

expect.absent("flux", "fastapi", "uvicorn", "pydantic", "rich", "matplotlib", "numpy")
expect.absent("matensemble.manager", "matensemble.runtime", "matensemble.runtime_worker")

pipe = Pipeline()
study.record(pipe)
run_dir = Path(pipe.save())
expect.command("validate", run_dir)
assert "square" in expect.command("graph", run_dir)
for command in ("run", "resume"):
    assert "matensemble-runtime" in expect.command(command, run_dir, exit_code=2)
expect.command("pause", run_dir, exit_code=1)  # nothing drives it
assert "#SBATCH" in expect.command(
    *("batch-script", run_dir, "--site", "slurm", "--nodes", 2, "--walltime", "1h")
)
run_dir.rename(sys.argv[1])

unsubmitted = Pipeline()
study.record(unsubmitted)
try:
    unsubmitted.submit()
except RuntimeMissingError as error:
    assert "matensemble-runtime" in str(error)
else:
    raise AssertionError("submit() worked without a runtime")
