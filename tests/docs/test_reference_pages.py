"""Holds the reference pages to what the code says."""

import re
from pathlib import Path

from matensemble import workdir
from matensemble.model import Reason

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


def test_every_reason_code_is_explained_once():
    rows = re.findall(r"^\| `(\w+)` \|", (REFERENCE / "reasons.md").read_text(), re.MULTILINE)
    assert rows == [reason.value for reason in Reason]


def test_every_file_of_a_run_is_listed():
    text = (REFERENCE / "files.md").read_text()
    names = {
        value.rpartition("/")[2]
        for name, value in vars(workdir).items()
        if name.isupper() and isinstance(value, str) and name != "DIRECTORY_PREFIX"
    }
    assert {name for name in names if name not in text} == set()
    assert workdir.DIRECTORY_PREFIX in text


def test_every_variable_of_ours_is_described():
    text = (REFERENCE / "environment.md").read_text()
    packages = REFERENCE.parents[1] / "packages"
    used = {
        variable
        for path in packages.rglob("*.py")
        for variable in re.findall(r"\bMATENSEMBLE_[A-Z][A-Z_]*[A-Z]\b", path.read_text())
    }
    assert {variable for variable in used if variable not in text} == set()
