"""What importing loads, what a type checker sees, what large arguments and many chores cost."""

import json
import logging
import subprocess
import sys
import tracemalloc

import pytest

from matensemble.draft import SPOOL_BYTES
from matensemble.pipeline import Pipeline

FORBIDDEN = {"matplotlib", "flux", "fastapi", "uvicorn", "pydantic", "numpy", "rich", "IPython"}


@pytest.mark.slow
def test_importing_the_pipeline_loads_nothing_heavy():
    code = "import json, sys, matensemble.pipeline; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", code]))
    assert {name.split(".")[0] for name in loaded} & FORBIDDEN == set()
    assert not [n for n in loaded if n.startswith(("matensemble.runtime", "matensemble.dashboard"))]


@pytest.mark.slow
def test_only_our_own_logger_is_configured():
    code = (
        "import logging; before = list(logging.root.handlers), logging.root.level\n"
        "import matensemble.pipeline\n"
        "assert (list(logging.root.handlers), logging.root.level) == before"
    )
    subprocess.check_call([sys.executable, "-c", code])
    assert logging.getLogger("matensemble").name == "matensemble"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_type_checker_knows_the_result(tmp_path):
    snippet = tmp_path / "snippet.py"
    snippet.write_text(
        "from matensemble.pipeline import Pipeline\n"
        "pipe = Pipeline()\n"
        "@pipe.chore\n"
        "def bare(x: int) -> float:\n    return 0.5\n"
        "@pipe.chore(num_tasks=2)\n"
        "def named(x: int) -> dict[str, int]:\n    return {}\n"
        "@pipe.strategy(triggers=['bare'])\n"
        "def refine(result: float) -> None:\n    pass\n"
        "reveal_type(bare(1))\n"
        "reveal_type(named(1))\n"
        "reveal_type(bare.map([1]))\n"
        "reveal_type(bare.options(nice=1)(1).result())\n"
        "reveal_type(pipe.exec('true').result())\n"
        "reveal_type(refine)\n"
    )
    shown = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(snippet)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    for expected in (
        "OutputReference[float]",
        "OutputReference[dict[str, int]]",
        "list[matensemble.model.OutputReference[float]]",
        'note: Revealed type is "float"',
        "model.ExecResult",
        "(result: float)",
    ):
        assert expected in shown.replace("builtins.", ""), shown
    assert "error" not in shown, shown


@pytest.mark.slow
def test_a_large_array_is_not_kept(tmp_path):
    np = pytest.importorskip("numpy")
    pipe = Pipeline(tmp_path)
    take = pipe.chore(name="take")(lambda a: a)
    array = np.zeros(50_000_000, dtype=np.uint8)
    tracemalloc.start()
    try:
        take(array)
        kept, peak = tracemalloc.get_traced_memory()
        assert kept < SPOOL_BYTES
        # One pickle of it while it is written, in the pickler's buffer that grows by halves.
        assert peak < 1.6 * array.nbytes
        tracemalloc.reset_peak()
        pipe.save()
        assert tracemalloc.get_traced_memory()[1] < SPOOL_BYTES
    finally:
        tracemalloc.stop()
    assert pipe.run_dir.joinpath("workflow.args").stat().st_size > array.nbytes


@pytest.mark.slow
def test_memory_of_many_chores(tmp_path):
    pipe = Pipeline(tmp_path)
    take = pipe.chore(name="take")(lambda a: a)
    number = 20_000
    tracemalloc.start()
    try:
        reference = take(0)
        for _ in range(number - 1):
            reference = take(reference)
        pipe.save()
        peak = tracemalloc.get_traced_memory()[1] - pipe._draft.arguments.size
    finally:
        tracemalloc.stop()
    assert peak / number < 1000  # the target is 800 for ten times as many
