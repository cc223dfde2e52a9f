"""All four together: one command with all subcommands, and the same results."""

import expect
import study

from matensemble.pipeline import Pipeline

SUBCOMMANDS = ("run", "status", "logs", "graph", "validate", "list", "dashboard")

if __name__ == "__main__":
    help_text = expect.command("--help")
    missing = [name for name in SUBCOMMANDS if name not in help_text]
    assert not missing, f"not listed: {missing}"
    for name in SUBCOMMANDS:
        expect.command(name, "--help")

    with Pipeline() as pipe:
        answer = study.record(pipe)
        pipe.submit(log_delay=1.0)
    assert answer.result() == study.EXPECTED
