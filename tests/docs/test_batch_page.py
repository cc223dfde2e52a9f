"""Holds the scripts that are shown to those that are written."""

import re
import tomllib
from pathlib import Path

from matensemble.batch import SUPERVISOR, BatchJob, ResourceManager, make_script
from matensemble.site import Site, read_site

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "batch.md"
RUN = Path("/scratch/me/matensemble_workflow-20260301_115700")


def fences(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_script_for_slurm(tmp_path):
    (site_file,) = fences("toml")
    (tmp_path / "site.toml").write_text(site_file)
    job = BatchJob(
        run_dir=RUN,
        manager=ResourceManager.SLURM,
        num_nodes=4,
        walltime=7200,
        chain=10,
        site=read_site(tmp_path / "site.toml"),
    )
    shown = fences("bash")[0]
    assert make_script(job) == re.sub(r"\n# … the supervisor.*\n", lambda _: SUPERVISOR, shown)


def test_the_directives_for_flux():
    job = BatchJob(run_dir=RUN, manager=ResourceManager.FLUX, num_nodes=4, walltime=7200)
    assert make_script(job).startswith(fences("bash")[1] + "\n")


def test_every_key_of_the_site_file_is_explained():
    rows = re.findall(r"^\| (`[^|]*`) \|", PAGE.read_text(), re.MULTILINE)
    explained = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert explained == set(Site.__dataclass_fields__)
    assert set(tomllib.loads(fences("toml")[0])) <= explained
