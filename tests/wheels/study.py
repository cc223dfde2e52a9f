"""A small ensemble, written as a user would: functions, a program, edges between them."""

from matensemble.model import OutputReference
from matensemble.pipeline import Pipeline

EXPECTED = "sum of squares: 14"


def record(pipe: Pipeline) -> OutputReference:
    """Record the chores and return a reference to the last one's result."""

    @pipe.chore
    def square(x: int) -> int:
        return x * x

    @pipe.chore(cores_per_task=1)
    def total(values: list[int], label: str) -> str:
        return f"{label}: {sum(values)}"

    label = pipe.exec(["printf", "sum of %s", "squares"], name="label")

    @pipe.chore
    def text(result: object) -> str:
        return str(result)

    return total(square.map([1, 2, 3]), text(label))
