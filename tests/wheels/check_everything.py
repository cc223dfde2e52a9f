"""All four together: one command with all subcommands, and the same results."""

import expect
import study

from matensemble.pipeline import Pipeline

SUBCOMMANDS = (
    *("run", "resume", "dashboard"),
    *("status", "logs", "explain", "graph", "validate", "list", "batch-script"),
    *("pause", "unpause", "cancel", "retry", "prioritise", "add-time"),
)

if __name__ == "__main__":
    help_text = expect.command("--help")
    missing = [name for name in SUBCOMMANDS if f"\n  {name} " not in help_text]
    assert not missing, f"not listed: {missing}"
    for name in SUBCOMMANDS:
        expect.command(name, "--help")

    with Pipeline() as pipe:
        answer = study.record(pipe)
        pipe.submit(log_delay=1.0)
    assert answer.result() == study.EXPECTED
