"""A study whose chores mean harm, are told secrets, and touch whatever a run writes.

python campaign.py FOLDER UMASK CANARY
"""

import json
import os
import sys
import time
from pathlib import Path

from matensemble import disk
from matensemble.chore import ChoreSpec
from matensemble.control import Selection, Verb, answer_path, leave_request, make_request
from matensemble.pipeline import Pipeline
from matensemble.workdir import RunDir

HOSTILE = (
    "<script>window.wasObeyed = 1</script><img src=x onerror='wasObeyed = 2'> "
    "\x1b[2J\x1b]0;owned\x07\x1b]8;;http://evil.example\x1b\\link\x9b31m\u202etxt"
    " \a\r{{ 7 * 7 }}"
)
FOLDER, CANARY = Path(sys.argv[1]), sys.argv[3]
os.umask(int(sys.argv[2], 8))
SECRETS = {"DB_PASSWORD": CANARY, "HARMLESS": CANARY}
pipe = Pipeline(FOLDER)


def wait_for(path):
    while not path.exists():
        time.sleep(0.02)


@pipe.chore(name="talk", env=SECRETS, retries=1)
def talk(api_key, options):
    print(HOSTILE)
    print(HOSTILE, file=sys.stderr)
    raise ValueError(HOSTILE)


@pipe.chore(name="ask")
def ask():
    """Ask the driver of this run for something, and look at what holds the link."""
    run = RunDir(Path(os.environ["MATENSEMBLE_RUN_DIR"]))
    request = make_request(Verb.PRIORITISE, Selection(groups=("talk",)), nice=3)
    leave_request(run, request)
    nonsense = run.control_dir / "request-20260101T000000Z-00000000.json"
    disk.write_atomic(nonsense, HOSTILE.encode())
    wait_for(answer_path(run, "20260101T000000Z-00000000"))
    wait_for(answer_path(run, request.id))
    wait_for(run.dashboard_path)
    Path("own").touch()
    return [oct(run.dashboard_path.stat().st_mode), oct(run.control_dir.stat().st_mode)]


@pipe.chore(name="number", env=SECRETS)
def number(password):
    return 1


@pipe.strategy(triggers="number")
def refine(value):
    command = ["sh", "-c", "exit 0", "sh", "--token", os.environ.get("TOKEN_OF_A_STRATEGY", "")]
    return [ChoreSpec.exec(command, name="asked")]


talk(CANARY, {"auth_token": CANARY})
asked = ask()
number(password=CANARY)
pipe.exec(["sh", "-c", "cat in", "--token", CANARY], inputs={"in": "text"}, name="shown")
pipe.exec(f"false --password={CANARY} API_KEY={CANARY}", name="refused")
pipe.exec(["missing-program", "--token", CANARY], name="lost")
results = pipe.submit(cores=4, executor="local", dashboard=True, keep="all").result(90)
print(json.dumps({"run": str(pipe.run_dir), "modes": results[asked.chore_id]}))
