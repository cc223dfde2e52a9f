"""SDK, worker and runtime: a script runs, and so does what the SDK alone saved elsewhere.

Resumed, what has ended stays so, and what lost its result is made again.
"""

import json
import pickle
import sys
from pathlib import Path

import expect
import study

from matensemble.pipeline import Pipeline

expect.absent("fastapi", "uvicorn", "pydantic", "flux", "matplotlib", "numpy")

if __name__ == "__main__":
    with Pipeline() as pipe:
        answer = study.record(pipe)
        pipe.submit(log_delay=1.0)
    assert answer.result() == study.EXPECTED
    assert len(pipe.results()) == 6

    saved = Path(sys.argv[1])
    expect.command("run", saved, "--cores", "2")
    assert json.loads(expect.command("status", saved, "--json"))["state"] == "completed"
    (result,) = saved.glob("out/chore-total-*/result.pickle")
    assert pickle.loads(result.read_bytes()) == study.EXPECTED
    expect.command("run", saved, exit_code=2)  # it was started before
    assert "completed" in expect.command("resume", saved, "--cores", "2")
    (total,) = saved.glob("out/chore-total-*")
    result.unlink()
    expect.command("resume", saved, "--cores", "2")
    assert pickle.loads(result.read_bytes()) == study.EXPECTED
    assert (total / "attempts" / "1").is_dir()
    assert "Attempts" in expect.command("explain", saved, total.name)
