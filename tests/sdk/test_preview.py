"""Arguments are shown without running anything that they hold."""

from __future__ import annotations

import collections
import dataclasses
import os

import numpy as np
from hypothesis import given, strategies as st

from matensemble import wire
from matensemble.model import OutputReference
from matensemble.preview import PREVIEW_MAX_CHARACTERS, preview


def show(*args, parameters=(), **kwargs):
    data, deps = wire.freeze((args, kwargs))
    return preview(data, [str(dep) for dep in deps], parameters)


def test_plain_values_are_shown_as_written():
    assert show(1, "two", [3.5, None], key={"a": (True,)}) == (
        "1, 'two', [3.5, None], key={'a': (True,)}"
    )


def test_references_are_shown_by_what_they_stand_for():
    ref = OutputReference("chore-a-0001")
    assert show(ref["x"].attr("y"), [ref]) == "<chore-a-0001['x'].y>, [<chore-a-0001>]"


@dataclasses.dataclass
class Point:
    x: int


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["PREVIEW_CANARY"],)


def test_no_code_of_the_pickle_runs(tmp_path, monkeypatch):
    canary = tmp_path / "canary"
    monkeypatch.setenv("PREVIEW_CANARY", str(canary))
    data, _ = wire.freeze(((Bomb(),), {}))
    assert preview(data, []) == "<mkdir>"
    assert not canary.exists()


def test_objects_are_shown_by_their_class():
    assert show(np.arange(3)) == "<numpy object>"
    assert show(collections.OrderedDict(a=1)) == "<OrderedDict>"
    assert show(Point(1)) == "<Point>"
    assert show(len, {1, 2}) == "<len>, {1, 2}"


def test_what_looks_like_a_secret_by_name_is_hidden():
    text = show(
        "hunter2",
        1,
        api_key="hunter2",
        options={"db_password": "hunter2", "n": 3},
        parameters=("token",),
    )
    assert "hunter2" not in text
    assert text == (
        "<redacted>, 1, api_key=<redacted>, options={'db_password': <redacted>, 'n': 3}"
    )


def test_secrets_inside_texts_and_commands_are_hidden():
    text = show(["prog", "--token", "hunter2"], "--password=hunter2", {"f": b"token: hunter2"})
    assert "hunter2" not in text
    assert text == ("['prog', '--token', '<redacted>'], '--password=<redacted>', {'f': <14 bytes>}")
    command, _ = wire.freeze((["prog", "--token", "hunter2"], {"in": "auth: hunter2"}))
    assert preview(command, ()) == "'prog', '--token', '<redacted>', in='auth: <redacted>'"


def test_a_long_text_is_cut():
    text = show(*[f"argument number {i}" for i in range(200)])
    assert len(text) == PREVIEW_MAX_CHARACTERS
    assert text.endswith("…")


@given(st.binary(max_size=200))
def test_any_bytes_give_some_text(data):
    assert isinstance(preview(data, []), str)
