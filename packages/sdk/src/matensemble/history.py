"""What the records of a run say of single chores: which they are, where they stand, and why.

Owns finding a few chores among a million, without decoding the others, and following one while its
records grow. What a record means is the business of `matensemble.replay`. Loads no pickle. Called
by the subcommands and by `matensemble.explanation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from matensemble.chore import Chore
from matensemble.errors import FormatError, MatEnsembleError, RunDirectoryError
from matensemble.foreign_json import parse_foreign_json
from matensemble.model import ChoreState, RunState
from matensemble.records import RecordKind, about, journal_chain, read_records, scan_journal
from matensemble.replay import UNTOUCHED, Replay, Standing
from matensemble.standing import describe_standing
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
    chores = list(known_chores(run, text))
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
    names = list(dict.fromkeys(name for _, name in known_chores(run)))
    groups = ", ".join(names[:MAX_NAMED]) + (" …" if len(names) > MAX_NAMED else "")
    raise RunDirectoryError(
        str(run.root), f"no id and no name of a chore begins with {text!r}; groups: {groups}"
    )


def find_chores(run: RunDir, texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the ids and the groups that a user means; raises as `find_chore`.

    O(chores of the run) for each text.

    Parameters
    ----------
    run
        The run.
    texts
        Ids, names of groups, or what `find_chore` takes.
    """
    ids: list[str] = []
    groups: list[str] = []
    for text in texts:
        if any(name == text for _, name in known_chores(run, text)):
            groups.append(text)
        else:
            ids.append(find_chore(run, text))
    return ids, groups


def known_chores(run: RunDir, text: str = "") -> Iterator[tuple[str, str]]:
    """Yield id and group of the chores, those that were added while it ran included.

    Decodes only the lines that hold `text`: ids and names are slugs, which JSON does not escape.

    Raises
    ------
    FormatError
        If the records cannot be read.
    """
    path, wanted = str(run.chores_path), text.encode(errors="replace")
    try:
        with run.chores_path.open("rb") as lines:
            for line in lines:
                if wanted in line:
                    header = parse_foreign_json(line, path)
                    yield header["id"], header["name"]
    except FileNotFoundError as error:
        raise FormatError(path, "is missing; the run is incomplete") from error
    except (KeyError, TypeError) as error:
        raise FormatError(path, f"holds a line that is no chore ({error})") from error
    yield from ((chore.id, chore.name) for chore in _added_chores(run, wanted))


_ADDED_MARK = f'"k":"{RecordKind.CHORE_ADDED.value}"'.encode()


def _added_chores(run: RunDir, text: bytes = b"") -> list[Chore]:
    """Return the chores that joined while it ran; only those whose record holds some text."""
    try:
        records = read_records(run, wanted=lambda line: _ADDED_MARK in line and text in line)
        return [chore for chore, _ in Replay.of(records).added]
    except FileNotFoundError:
        return []  # not started, so nothing was added


class ChoreIndex:
    """The chores of a run by their ids; reads what each of them is when it is asked for.

    Making one costs a look at each line, and an offset in memory for each chore.

    Raises
    ------
    FormatError
        If the records cannot be read.
    """

    def __init__(self, run: RunDir) -> None:
        self._path: Path = run.chores_path
        self._offsets: dict[bytes, int] = {}
        offset = 0
        try:
            with self._path.open("rb") as lines:
                for line in lines:
                    _, _, rest = line.partition(b'"id":')
                    self._offsets[rest.partition(b'"')[2].partition(b'"')[0]] = offset
                    offset += len(line)
        except FileNotFoundError as error:
            raise FormatError(str(self._path), "is missing; the run is incomplete") from error
        self._added = {chore.id: chore for chore in _added_chores(run)}

    def __getitem__(self, chore_id: str) -> Chore:
        if chore_id in self._added:
            return self._added[chore_id]
        with self._path.open("rb") as lines:
            lines.seek(self._offsets[chore_id.encode()])
            line = lines.readline()
        try:
            return Chore.from_header(parse_foreign_json(line, self._path))
        except (KeyError, TypeError, ValueError, AttributeError, MatEnsembleError) as error:
            raise FormatError(str(self._path), f"says nonsense of {chore_id} ({error})") from error

    def __contains__(self, chore_id: str) -> bool:
        return chore_id in self._added or chore_id.encode() in self._offsets

    def __iter__(self) -> Iterator[str]:
        yield from (chore_id.decode(errors="replace") for chore_id in self._offsets)
        yield from self._added


class ChoreHistory:
    """Where one chore stands by the journal; `read` brings it up to date, through takeovers."""

    def __init__(self, run: RunDir, chore_id: str) -> None:
        self.chore_id = chore_id
        self._run = run
        self._wanted = about(chore_id)
        self.is_pooled = False
        """Whether its latest attempt went to a warm worker, which leaves no empty files."""
        self._replay = Replay()
        self._seen: list[tuple[int, int | None]] = []  # journals by inode, and what counts of each
        self._offset = 0  # read of the last of them

    @property
    def standing(self) -> Standing:
        """Where it stands."""
        return self._replay.standings.get(self.chore_id, UNTOUCHED)

    @property
    def state(self) -> ChoreState:
        """Its state; `BLOCKED` stands for every state before its submission."""
        return self.standing.state

    @property
    def because(self) -> str:
        """One line about that state; empty where there is nothing to say."""
        return describe_standing(self.standing)

    @property
    def run_state(self) -> RunState | None:
        """The last state of the run that was recorded, None before the first."""
        return self._replay.run_state

    @property
    def has_ended(self) -> bool:
        """Whether nothing will happen to this chore any more while this driver works."""
        return self.state.is_terminal or (self.run_state is not None and self.run_state.is_terminal)

    def read(self) -> None:
        """Read what was appended since the last time; nothing where the run was not started.

        Raises
        ------
        FormatError
            If a record is damaged.
        """
        try:
            chain = journal_chain(self._run)
            seen = [(path.stat().st_ino, length) for path, length, _ in chain]
            if seen == self._seen:
                chain = chain[-1:]
            else:  # a takeover: what the driver before wrote last may not count
                self._replay, self._offset = Replay(), 0
                self._seen = []  # until it is read whole
            for path, length, is_recovered in chain:
                is_last = length is None
                start = self._offset if is_last else 0
                for end, record in scan_journal(
                    path,
                    start=start,
                    length=length,
                    skip_damaged=is_recovered,
                    wanted=self._wanted,
                ):
                    if record is not None:
                        self._replay.apply(record)
                        if record.kind == RecordKind.SUBMIT_INTENT:
                            self.is_pooled = bool(record.fields.get("p"))
                    if is_last:
                        self._offset = end
            self._seen = seen
        except FileNotFoundError:
            return  # not started, or a takeover is under way
