"""Words for what keeps a chore from starting, and for why one that failed was not tried again.

Owns the words and the rules behind them; pure functions of what the records of a run say, which
read no file. Called by `matensemble.explanation` and by the dashboard, so that both say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matensemble.model import Resources, RunState
from matensemble.policy import NEVER_RETRIED, Retry
from matensemble.standing import Standing
from matensemble.status import RunStatus
from matensemble.terminal import describe_seconds, plural


def describe_hold(
    status: RunStatus | None, lost: str | None, *, has_begun: bool, paused_by: str = ""
) -> str:
    """Return what keeps every chore of a run from starting; empty where nothing does.

    Parameters
    ----------
    status
        Of the run; None where none was published.
    lost
        Why its driver seems lost, or None.
    has_begun
        Whether a driver began a journal.
    paused_by
        Who paused it, where that is known.
    """
    if lost is not None:
        return f"the driver of the run seems lost: {lost}"
    if status is None:
        return "the run is being started" if has_begun else "the run was not started"
    why = f" ({status.detail})" if status.detail else ""
    if status.state.is_terminal:
        return f"the run is over: it is {status.state.value}{why}"
    if status.state is RunState.RUNNING:
        return ""
    if status.state is RunState.PAUSED:
        return "held: the run is paused" + (f", by {paused_by}" if paused_by else "")
    return f"held: the run is {status.state.value}{why}"


def describe_request(
    resources: Resources, *, has_attempts: bool, has_upstream: bool, avoid: Sequence[str] = ()
) -> list[str]:
    """Return what a chore that waits for no other asks for, one line each.

    Parameters
    ----------
    resources
        What it asks for now.
    has_attempts
        Whether it was begun before.
    has_upstream
        Whether it depends on others.
    avoid
        Names of nodes that it keeps off.
    """
    if has_attempts:
        first = "its next attempt"
    elif has_upstream:
        first = "every chore it depends on is done; it"
    else:
        first = "it depends on no other chore, and"
    lines = [f"{first} asks for {resources.describe()}"]
    if avoid:
        lines.append(f"keeps off {', '.join(avoid)}, where attempts of it were lost")
    return lines


def describe_room(status: RunStatus, nodes: Any = None) -> str:
    """Return what the allocation has, and what is free of it.

    Parameters
    ----------
    status
        Of the run.
    nodes
        As the first record of a journal names them: name, cores and GPUs of each.
    """
    text = f"free are {status.free_cores:,} of {plural(status.total_cores, 'core')}"
    if status.total_gpus:
        text += f" and {status.free_gpus:,} of {plural(status.total_gpus, 'GPU')}"
    if isinstance(nodes, list) and len(nodes) > 1:
        largest = max((node[1] for node in nodes), default=0)
        text += f", on {len(nodes):,} nodes of at most {plural(largest, 'core')}"
    return text


def describe_order(nice: int, duration: float | None) -> list[str]:
    """Return what else decides when a chore starts, one line each.

    Parameters
    ----------
    nice
        Its place in the order.
    duration
        Its limit in seconds; None is no limit.
    """
    lines = []
    if duration is not None:
        text = f"may run for {describe_seconds(duration)}"
        lines.append(f"{text}, so it starts only where that much time is left")
    return [*lines, f"its nice is {nice}; those with a lower one come first"]


def why_not_again(standing: Standing, retry: Retry | None, error_type: str) -> str:
    """Return why a chore that failed was not tried again; empty where its reason says it.

    Parameters
    ----------
    standing
        Of the chore.
    retry
        What it asked for; None never tries again.
    error_type
        Qualified name of the exception type; empty where there was none.
    """
    if standing.reason is None or standing.reason in NEVER_RETRIED:
        return ""
    if retry is None:
        return "it was not tried again: no retries were asked for"
    if not retry.covers(standing.reason, standing.exit_code, error_type):
        return "it was not tried again: its retries do not cover this failure"
    if standing.retries >= retry.limit:
        return f"it was not tried again: {plural(retry.limit, 'further attempt')} is all it may use"
    return ""
