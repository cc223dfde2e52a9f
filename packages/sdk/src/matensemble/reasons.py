"""What each reason code means, and what to do about it, in words.

Owns these words; `docs/reference/reasons.md` says the same, and a test holds them together. Called
by whatever shows a failure to people.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from matensemble.model import Reason


class Meaning(NamedTuple):
    """A reason code in words."""

    what: str
    """What happened."""
    advice: str
    """What to do."""


MEANINGS: Mapping[Reason, Meaning] = MappingProxyType(
    {
        Reason.NONZERO_EXIT: Meaning(
            "The process ended with a code that is not a success code.",
            "Read stderr. If the code means success for this program, say so with success_codes.",
        ),
        Reason.SIGNAL: Meaning(
            "The process was ended by a signal that MatEnsemble did not send; exit_code is its "
            "negative number.",
            "−11 is a crash of native code. −9 may be the kernel, for want of memory, where it "
            "does not count that: see the logs of the node.",
        ),
        Reason.EXCEPTION: Meaning(
            "The function raised.",
            "The traceback is in the error, and at the end of stderr.",
        ),
        Reason.IMPORT_ERROR: Meaning(
            "A module that the chore needs is missing in the compute environment.",
            "Install it there, or ship your own module with Pipeline(by_value=[module]).",
        ),
        Reason.UNPICKLABLE_RESULT: Meaning(
            "The function returned something that cannot be pickled.",
            "Return data: arrays, numbers, paths of files. The message names the object.",
        ),
        Reason.RESULT_MISSING: Meaning(
            "The process ended well, but its result or a declared output is not there; on a "
            "network file system it was looked for for a minute.",
            "For a program: check the names in outputs. For a function: something ended the "
            "process early, for example os._exit(0).",
        ),
        Reason.RESULT_CORRUPT: Meaning(
            "A result does not match its footer: it is truncated, changed, or that of another "
            "chore.",
            "What was found is result.pickle.damaged. Check quota and file system, then let it "
            "run again: matensemble retry.",
        ),
        Reason.EXECUTABLE_NOT_FOUND: Meaning(
            "The program is not on the PATH or cannot be executed.",
            "Give its full path, or set PATH with env=; check that the file is executable.",
        ),
        Reason.SUBMIT_ERROR: Meaning(
            "The executor refused the chore.",
            "The detail is the executor's own message.",
        ),
        Reason.EXCEEDS_ALLOCATION: Meaning(
            "The chore can never fit into the allocation: a task must fit on one node.",
            "Ask for less, or run in a larger allocation; the detail shows both shapes.",
        ),
        Reason.DURATION_EXCEEDED: Meaning(
            "The chore ran longer than its duration.",
            "Raise duration, or make the chore smaller.",
        ),
        Reason.IDLE_TIMEOUT: Meaning(
            "The chore wrote nothing to stdout and stderr for longer than its idle_timeout.",
            "Read what it wrote last. If it works in silence, raise the limit, or let it print. "
            "Many programs keep what they print in memory for a while, and a network file system "
            "shows it late: limits below some minutes are risky there.",
        ),
        Reason.OUTPUT_EXCEEDED: Meaning(
            "The chore wrote more to stdout and stderr than its max_output.",
            "Read the end of what it wrote: often one warning, again and again.",
        ),
        Reason.OUT_OF_MEMORY: Meaning(
            "The chore ran out of memory: Python said so, Flux did, or the chore was killed (−9, "
            "or 137 from a shell around it) while the count of such kills in the cgroup of the "
            "driver grew.",
            "Give it a node with more, or fewer neighbours: more cores_per_task, or "
            "exclusive=True.",
        ),
        Reason.NODE_FAILURE: Meaning(
            "The node under the chore was lost, and so were those of further attempts elsewhere.",
            "Nothing is wrong with the chore: matensemble retry.",
        ),
        Reason.IO_ERROR: Meaning(
            "A file of the chore could not be read or written.",
            "It was tried again three times. Check permissions and quota of the run directory. A "
            "run whose disk is full waits for room.",
        ),
        Reason.INVALID_SPEC: Meaning(
            "A strategy returned a chore that cannot exist.",
            "The detail says what is wrong with it: an unknown name, wrong arguments, an unknown "
            "dependency.",
        ),
        Reason.DEPENDENCY_FAILED: Meaning(
            "A chore that this one needs has no result. A program whose command or input is made "
            'of the result of a chore that failed with on_failure="ignore" fails with it too.',
            "Look at upstream: it names the root.",
        ),
        Reason.CANCELLED: Meaning(
            "It was stopped on request.",
            "If that was not meant: matensemble retry.",
        ),
    }
)
"""Of every code, without marks of Markdown."""
