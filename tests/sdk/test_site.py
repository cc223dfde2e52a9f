"""The site file: its keys, what they may hold, and where it is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from matensemble.errors import SiteFileError
from matensemble.site import DEFAULT_SITE_FILE, Site, find_site_file, read_site


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_every_key_of_a_site_file(tmp_path):
    path = write(
        tmp_path / "site.toml",
        """
        account = "mat 'n' co"
        queue = "batch"
        gpus_per_node = 4
        directives = ["--constraint=nvme", "--comment='two words'"]
        modules = ["gcc/13", "a b"]
        setup = ["export GREETING='hello world'"]
        srun_options = ["--mpi=pmi2"]
        flux_options = ["-Sstatedir=/tmp/a b"]
        mpi_pmi = "pmix"
        """,
    )
    assert read_site(path) == Site(
        account="mat 'n' co",
        queue="batch",
        gpus_per_node=4,
        directives=("--constraint=nvme", "--comment='two words'"),
        modules=("gcc/13", "a b"),
        setup=("export GREETING='hello world'",),
        srun_options=("--mpi=pmi2",),
        flux_options=("-Sstatedir=/tmp/a b",),
        mpi_pmi="pmix",
    )
    assert read_site(write(tmp_path / "empty.toml", "")) == Site()


def test_an_unknown_key_names_the_one_that_was_meant(tmp_path):
    with pytest.raises(SiteFileError, match="did you mean 'account'") as caught:
        read_site(write(tmp_path / "site.toml", 'acount = "x"'))
    assert caught.value.key == "acount"
    with pytest.raises(SiteFileError, match="there are account, queue"):
        read_site(write(tmp_path / "site.toml", "zzz = 1"))


@pytest.mark.parametrize(
    "line",
    [
        "account = 3",
        "account = ''",
        'queue = "a\\nrm -rf"',
        "gpus_per_node = true",
        "gpus_per_node = -1",
        "modules = 'gcc'",
        "directives = ['--x\\n', 3]",
        'directives = ["--x\\ntouch pwned"]',
        'setup = ["true", ""]',
        "mpi_pmi = ['pmi2']",
        "account =",
    ],
)
def test_an_impossible_value_is_refused(tmp_path, line):
    with pytest.raises(SiteFileError, match=r"site\.toml"):
        read_site(write(tmp_path / "site.toml", line))


def test_a_site_file_that_is_missing(tmp_path):
    with pytest.raises(SiteFileError, match="No such file"):
        read_site(tmp_path / "site.toml")
    (tmp_path / "latin.toml").write_bytes(b"account = '\xff'")
    with pytest.raises(SiteFileError, match="is no TOML"):
        read_site(tmp_path / "latin.toml")


def test_where_the_site_file_is_looked_for(tmp_path):
    default = tmp_path / DEFAULT_SITE_FILE
    assert find_site_file(None, {}, tmp_path) is None
    default.parent.mkdir(parents=True)
    default.touch()
    assert find_site_file(None, {"MATENSEMBLE_SITE": ""}, tmp_path) == default
    assert find_site_file(None, {"MATENSEMBLE_SITE": "/x"}, tmp_path) == Path("/x")
    assert find_site_file(Path("/y"), {"MATENSEMBLE_SITE": "/x"}, tmp_path) == Path("/y")
