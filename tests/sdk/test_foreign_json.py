"""Nothing that a chore leaves behind may block, flood or stop its reader."""

from __future__ import annotations

import os

import pytest

from matensemble.errors import FormatError
from matensemble.foreign_json import read_foreign_json


def test_a_plain_file_is_read(tmp_path):
    (tmp_path / "f").write_text('{"a": [1, "ä"]}')
    assert read_foreign_json(tmp_path / "f", 100) == {"a": [1, "ä"]}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"nan garbage"])
def test_nonsense_is_one_kind_of_error(tmp_path, content):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(FormatError, match="is no JSON"):
        read_foreign_json(tmp_path / "f", 1_000_000)


def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "f")
    with pytest.raises(FormatError, match="not a regular file"):
        read_foreign_json(tmp_path / "f", 100)


def test_a_directory_and_a_link_are_refused(tmp_path):
    (tmp_path / "real").write_text("1")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "directory").mkdir()
    with pytest.raises(FormatError, match="symbolic link"):
        read_foreign_json(tmp_path / "link", 100)
    with pytest.raises(FormatError, match="not a regular file"):
        read_foreign_json(tmp_path / "directory", 100)


def test_a_flood_is_refused_and_a_missing_file_is_missing(tmp_path):
    (tmp_path / "f").write_text('"' + "x" * 200 + '"')
    with pytest.raises(FormatError, match="more than 100 bytes"):
        read_foreign_json(tmp_path / "f", 100)
    with pytest.raises(FileNotFoundError):
        read_foreign_json(tmp_path / "nothing", 100)
