"""What the records of a run say of one chore: which it is, where it stands, and why.

Owns reading `workflow.jsonl` and `journal.jsonl` for a single chore, also while they grow. Loads no
pickle. Called by ``matensemble logs``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from matensemble.errors import FormatError, RunDirectoryError
from matensemble.foreign_json import parse_foreign_json
from matensemble.model import ChoreState, RunState
from matensemble.records import JournalRecord, RecordKind, decode_journal_line
from matensemble.workdir import RunDir

MAX_NAMED = 5


def find_chore(run: RunDir, text: str) -> str:
    """Return the id of the chore that a user means. O(chores of the run).

    Parameters
    ----------
    run
        The run.
    text
        An id; or the name of a group with one chore, or the beginning of an id or of a name, where
        that fits one chore only.

    Raises
    ------
    RunDirectoryError
        If it fits none, or several.
    FormatError
        If the records cannot be read.
    """
    chores = list(_known_chores(run, text))
    for found in (
        [chore_id for chore_id, _ in chores if chore_id == text],
        [chore_id for chore_id, name in chores if name == text],
        [i for i, name in chores if i.startswith(text) or name.startswith(text)],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            named = ", ".join(found[:MAX_NAMED]) + (" …" if len(found) > MAX_NAMED else "")
            raise RunDirectoryError(
                str(run.root), f"{text!r} fits {len(found)} chores, name one of them: {named}"
            )
    names = list(dict.fromkeys(name for _, name in _known_chores(run)))
    groups = ", ".join(names[:MAX_NAMED]) + (" …" if len(names) > MAX_NAMED else "")
    raise RunDirectoryError(
        str(run.root), f"no id and no name of a chore begins with {text!r}; groups: {groups}"
    )


def _known_chores(run: RunDir, text: str = "") -> Iterator[tuple[str, str]]:
    """Yield id and group of the chores, those that were added while it ran included.

    Decodes only the lines that hold `text`: ids and names are slugs, which JSON does not escape.
    """
    path, wanted = str(run.chores_path), text.encode(errors="replace")
    try:
        with run.chores_path.open("rb") as lines:
            for line in lines:
                if wanted in line:
                    header = parse_foreign_json(line, path)
                    yield header["id"], header["name"]
        with run.journal_path.open("rb") as lines:
            mark = f'"k":"{RecordKind.CHORE_ADDED.value}"'.encode()
            for line in lines:
                if mark in line and wanted in line and line.endswith(b"\n"):
                    header = decode_journal_line(line, str(run.journal_path)).fields["header"]
                    yield header["id"], header["name"]
    except FileNotFoundError as error:
        if error.filename == path:
            raise FormatError(path, "is missing; the run is incomplete") from error
        # not started: no journal, so nothing was added
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(path, f"holds a line that is no chore ({error})") from error


class ChoreHistory:
    """Where one chore stands by the journal; `read` brings it up to date.

    Attributes
    ----------
    state
        `BLOCKED` stands for every state before its submission.
    because
        One line about that state; empty where there is nothing to say.
    run_state
        The last state of the run that was recorded, or None before its end or interruption.
    """

    def __init__(self, run: RunDir, chore_id: str) -> None:
        self.chore_id = chore_id
        self.state = ChoreState.BLOCKED
        self.because = ""
        self.run_state: RunState | None = None
        self._path = run.journal_path
        self._offset = 0
        self._marks = (f'"c":"{chore_id}"'.encode(), f'"{RecordKind.RUN_STATE.value}"'.encode())

    @property
    def has_ended(self) -> bool:
        """Whether nothing will happen to this chore any more in this run."""
        return self.state.is_terminal or (self.run_state is not None and self.run_state.is_terminal)

    def read(self) -> None:
        """Read what was appended since the last time; nothing where the run was not started.

        Raises
        ------
        FormatError
            If a record is damaged.
        """
        try:
            journal = self._path.open("rb")
        except FileNotFoundError:
            return
        with journal:
            journal.seek(self._offset)
            for line in journal:
                if not line.endswith(b"\n"):
                    return  # is being written
                self._offset += len(line)
                if any(mark in line for mark in self._marks):
                    record = decode_journal_line(line, str(self._path))
                    try:
                        self._apply(record)
                    except (KeyError, TypeError, ValueError) as error:
                        raise FormatError(
                            str(self._path), f"record {record.sequence} is damaged ({error!r})"
                        ) from error

    def _apply(self, record: JournalRecord) -> None:
        fields = record.fields
        if record.kind == RecordKind.RUN_STATE:
            self.run_state = RunState(fields["state"])
        if record.chore_id != self.chore_id or record.kind not in _STATES:
            return
        self.state = _STATES[RecordKind(record.kind)]
        self.because = _because(self.state, fields)


_STATES = {
    RecordKind.SUBMIT_INTENT: ChoreState.SUBMITTED,
    RecordKind.SUBMITTED: ChoreState.SUBMITTED,
    RecordKind.STARTED: ChoreState.RUNNING,
    RecordKind.COMPLETED: ChoreState.COMPLETED,
    RecordKind.FAILED: ChoreState.FAILED,
    RecordKind.CANCELLED: ChoreState.CANCELLED,
    RecordKind.SKIPPED: ChoreState.SKIPPED,
    RecordKind.REQUEUED: ChoreState.BLOCKED,
}


def _because(state: ChoreState, fields: Any) -> str:
    if state is ChoreState.SKIPPED:
        return f"{fields.get('u')}, which it depends on, has no result"
    if state is ChoreState.RUNNING:
        return f"on {fields['h']}" if fields.get("h") else ""
    if state in (ChoreState.FAILED, ChoreState.CANCELLED, ChoreState.BLOCKED):
        code = fields.get("x")
        reason = str(fields.get("r", ""))
        if code is not None:
            reason += f" (exit code {code})"
        return ": ".join(filter(None, (reason, fields.get("d"))))
    return ""
