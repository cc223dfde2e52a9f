"""What holds for the repository as a whole: layout, names, sizes, versions."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PORTIONS = {
    name: ROOT / "packages" / name / "src" / "matensemble"
    for name in ("sdk", "worker", "runtime", "dashboard")
}
MODULES = sorted(path for portion in PORTIONS.values() for path in portion.rglob("*.py"))
FORBIDDEN_STEMS = {"utils", "util", "helpers", "helper", "common", "misc"}
MAX_LINES = 600
# Written in parts, so that this file does not name them either.
REGISTRY_HOSTS = ["pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org", "yarnpkg" + ".com"]


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def project(path: Path) -> dict:
    return tomllib.loads((path / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("portion", PORTIONS.values(), ids=PORTIONS)
def test_no_portion_closes_the_namespace(portion):
    assert portion.is_dir()
    assert not (portion / "__init__.py").exists()


def test_no_module_is_in_two_portions():
    names = [
        path.relative_to(portion).parts[0]
        for portion in PORTIONS.values()
        for path in portion.iterdir()
        if path.name != "__pycache__"
    ]
    assert sorted(names) == sorted(set(names))


def test_only_the_sdk_ships_the_typing_marker():
    assert [relative(path) for path in sorted(ROOT.glob("packages/*/src/**/py.typed"))] == [
        "packages/sdk/src/matensemble/py.typed"
    ]


def test_no_module_is_a_drawer_for_anything():
    drawers = [
        relative(path)
        for path in tracked_files()
        if path.suffix in {".py", ".ts", ".tsx"}
        and FORBIDDEN_STEMS & {path.stem, *(part.lower() for part in path.relative_to(ROOT).parts)}
    ]
    assert drawers == []


def test_no_source_file_is_too_long():
    long = {
        relative(path): lines
        for path in tracked_files()
        if path.suffix in {".py", ".ts", ".tsx"} and "generated" not in path.parts
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert long == {}


def test_no_tracked_file_names_a_package_registry():
    pattern = re.compile("|".join(re.escape(host) for host in REGISTRY_HOSTS).encode())
    naming = [relative(path) for path in tracked_files() if pattern.search(path.read_bytes())]
    assert naming == []


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_module_says_what_it_owns(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_one_version_for_all_and_siblings_are_pinned_to_it():
    version = project(ROOT)["version"]
    for name in PORTIONS:
        described = project(ROOT / "packages" / name)
        assert described["version"] == version
        siblings = [d for d in described.get("dependencies", []) if d.startswith("matensemble")]
        assert all(dependency.endswith(f"=={version}") for dependency in siblings), siblings


def test_distributions_depend_only_downwards():
    siblings = {
        name: {
            re.split(r"[=\[]", dependency)[0]
            for dependency in project(ROOT / "packages" / name)["dependencies"]
            if dependency.startswith("matensemble")
        }
        for name in PORTIONS
    }
    assert siblings == {
        "sdk": set(),
        "worker": {"matensemble-sdk"},
        "runtime": {"matensemble-sdk", "matensemble-worker"},
        "dashboard": {"matensemble-sdk"},
    }


def test_the_changelog_has_an_entry_for_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[?{re.escape(project(ROOT)['version'])}\b", changelog, re.MULTILINE)


def test_the_same_licence_is_in_every_distribution():
    text = (ROOT / "LICENSE").read_text()
    for name in PORTIONS:
        assert (ROOT / "packages" / name / "LICENSE").read_text() == text


def test_every_decision_says_how_it_is_violated():
    records = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    for path in records:
        text = path.read_text()
        assert "**Violated when**" in text, path.name
        assert path.stem in (ROOT / "docs/adr/index.md").read_text()
