"""Save the ensemble of the reliability tests: ``python ensemble.py FOLDER RETRIES``.

Every chore tells the file `EXECUTION_LOG` that it starts and that it is about to end. A fan, a
chain, a chore that fails once, a strategy that spawns chores, a program with a declared output, and
a gather. Results depend on nothing but the arguments.
"""

import sys

from matensemble.chore import ChoreSpec
from matensemble.pipeline import Pipeline


def tell(what):
    import os

    line = f"{what} {os.environ['MATENSEMBLE_CHORE_ID']} {os.environ['MATENSEMBLE_ATTEMPT']}\n"
    descriptor = os.open(os.environ["EXECUTION_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def told(function):
    from functools import wraps

    @wraps(function)
    def call(*args, **kwargs):
        tell("start")
        result = function(*args, **kwargs)
        tell("end")
        return result

    return call


SCRIPT = """
echo "start $MATENSEMBLE_CHORE_ID $MATENSEMBLE_ATTEMPT" >> "$EXECUTION_LOG"
echo "energy $1" > log.out
echo "end $MATENSEMBLE_CHORE_ID $MATENSEMBLE_ATTEMPT" >> "$EXECUTION_LOG"
"""


def save(folder, retries):
    pipe = Pipeline(folder)

    @pipe.chore(retries=retries)
    @told
    def square(x):
        return x * x

    @pipe.chore(retries=retries + 1)
    @told
    def flaky(x):
        import os

        if os.environ["MATENSEMBLE_ATTEMPT"] == "1":
            raise RuntimeError("the first attempt fails")
        print("converged")
        return x + 1

    @pipe.chore(retries=retries)
    @told
    def refined(x, y):
        return [x, y]

    @pipe.strategy(triggers=["flaky"], name="refine", retries=retries)
    @told
    def refine(x):
        first = ChoreSpec([x, 1], {}, "refined")
        return [first, ChoreSpec([x, first.ref], {}, "refined")]

    @pipe.chore(retries=retries)
    @told
    def read(path):
        return path.read_text().strip()

    @pipe.chore(retries=retries)
    @told
    def table(squares, log, points):
        return {"squares": squares, "log": log, "points": points}

    squares = [square(x) for x in (1, 2)]
    flaky(squares[0])
    program = pipe.exec(
        ["sh", "-c", SCRIPT, "sh", squares[1]],
        name="simulate",
        outputs={"log": "log.out"},
        retries=retries,
    )
    table(squares, read(program["log"]), pipe.gather("refined"))
    return pipe.save()


if __name__ == "__main__":
    print(save(sys.argv[1], int(sys.argv[2])))
