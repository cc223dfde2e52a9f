"""What an imported module is, for content keys: which version, or which files.

Owns the difference between modules that are installed (the version of their distribution stands for
them, with what its RECORD says of the content of its files) and a user's own (the bytecode of all
their files does, with that of the modules that these import in turn). Where a distribution has no
hashes (as packages of Linux distributions), the content of the module's files stands for it.
A user's package counts as a whole: what a worker imports of it, and what its code then reaches,
cannot be told from outside. Imports nothing that was not imported. Called by
`matensemble.canonical`.
"""

from __future__ import annotations

import ast
import csv
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from importlib.metadata import Distribution, distribution, packages_distributions, version
from pathlib import Path

from matensemble.file_marks import MAX_FILES, Mark, code_files, digest_of, mark, stamp
from matensemble.plain_value import encode_code, token

_NOWHERE = {"lineno": 1, "end_lineno": 1, "col_offset": 0, "end_col_offset": 0}


class UnknownOriginError(Exception):
    """What a module is made of cannot be known; the message says why."""


class Origins:
    """What top-level modules are made of, each looked at once.

    Files that change afterwards are not seen: make one for each pipeline that is saved.
    """

    def __init__(self) -> None:
        self._origins: dict[str, bytes] = {}
        self._closures: dict[str, frozenset[str]] = {}
        self._versions: dict[str, str | None] = {}
        self._distributions: Mapping[str, list[str]] | None = None
        self._records: dict[str, tuple[str, Mark] | None] = {}
        self._marks: dict[str, list[Mark]] = {}
        self._files: dict[str, tuple[bytes, frozenset[str]]] = {}

    def origin(self, module: str) -> bytes:
        """Return bytes that change where what a module is made of changes.

        Parameters
        ----------
        module
            Its name; what counts is the top-level module or package that it belongs to.

        Raises
        ------
        UnknownOriginError
            If its code cannot be found.
        """
        top = module.partition(".")[0]
        if top not in self._origins:
            self._origins[top] = self._find(top)
        return self._origins[top]

    def _find(self, top: str) -> bytes:
        if (known := self.installed_version(top)) is not None:
            self._closures[top] = frozenset({top})
            return token(b"installed", f"{top} {known}".encode())
        digests: dict[str, bytes] = {}
        waiting = {top}
        while waiting:
            name = waiting.pop()
            if (known := self.installed_version(name)) is not None:
                digests[name] = known.encode()
                continue
            if name not in self._files:
                places = _places(name)
                if not places and name in sys.modules:
                    raise UnknownOriginError(f"the code of the module {name} is in no file")
                digest, imports, self._marks[name] = _read_module(name, places)
                self._files[name] = (digest, imports)
            digests[name], imports = self._files[name]
            waiting |= imports - digests.keys()
        self._closures[top] = frozenset(digests)
        return token(b"files", b"".join(token(n.encode(), digests[n]) for n in sorted(digests)))

    def marks(self, tops: Iterable[str]) -> Iterator[Mark]:
        """Yield what tells later whether modules whose origins were asked for have changed."""
        for name in sorted({name for top in tops for name in self._closures[top]}):
            yield from self._marks.get(name, ())

    def installed_version(self, top: str) -> str | None:
        """Return version and content of an installed top-level module; None for a user's own.

        Raises
        ------
        UnknownOriginError
            If its distribution has no hashes, and its files cannot be read.
        """
        if top not in self._versions:
            self._versions[top] = self._find_version(top)
        return self._versions[top]

    def _find_version(self, top: str) -> str | None:
        if top in sys.builtin_module_names or top in sys.stdlib_module_names:
            return "stdlib"
        if top.startswith("_cython_"):
            return "cython"  # made in memory by compiled modules; its name holds its version
        if top == "matensemble":  # also where it is installed for development
            return version("matensemble-sdk")
        places = _places(top)
        if not places or not all(map(_is_installed, places)):
            return None
        return self._find_installed(top, places)

    def _find_installed(self, top: str, places: list[Path]) -> str | None:
        if self._distributions is None:
            self._distributions = packages_distributions()
        names = sorted(set(self._distributions.get(top, ())))
        if not names:  # it was put there by hand
            return None
        known = ", ".join(f"{name} {version(name)}" for name in names)
        records = [self._record(name) for name in names]
        if None not in records:
            self._marks[top] = [record[1] for record in records if record]
            return f"{known} {' '.join(record[0] for record in records if record)}"
        self._marks[top] = [_read_place(top, place)[0] for place in places]
        return f"{known} {' '.join(str(found.digest) for found in self._marks[top])}"

    def _record(self, name: str) -> tuple[str, Mark] | None:
        if name not in self._records:
            self._records[name] = _read_record(distribution(name))
        return self._records[name]


def _read_record(found: Distribution) -> tuple[str, Mark] | None:
    """Return a digest of the files of a distribution, and its RECORD; None where it has no hashes.

    Scripts, which hold the path of their environment, do not count; nor does how it was installed.
    """
    rows = list(csv.reader((found.read_text("RECORD") or "").splitlines()))
    place = next((row[0] for row in rows if row and row[0].endswith(".dist-info/RECORD")), None)
    if place is None:
        return None
    record = mark(Path(str(found.locate_file(place))))
    if rows != list(csv.reader((found.read_text("RECORD") or "").splitlines())):
        raise UnknownOriginError(f"{record.path} is being changed")
    digest = sha256()
    num_hashed = 0
    for path, hashed, *_ in sorted(row for row in rows if len(row) > 1):
        if hashed and ".dist-info/" not in path and not path.startswith(("../", "/")):
            digest.update(token(path.encode(), hashed.encode()))
            num_hashed += 1
        elif path.endswith((".py", *EXTENSION_SUFFIXES)) and not hashed:
            return None
    return (digest.hexdigest(), record) if num_hashed else None


@lru_cache(maxsize=1)
def _installed_roots() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    return tuple({Path(paths[key]).resolve() for key in ("purelib", "platlib")})


def _is_installed(path: Path) -> bool:
    path = path.resolve()
    return any(path.is_relative_to(root) for root in _installed_roots()) or (
        not {"site-packages", "dist-packages"}.isdisjoint(path.parts)
    )


def _places(top: str) -> list[Path]:
    """Return the file of a module, or the directories of a package; nothing where it is neither."""
    module = sys.modules.get(top)
    spec = getattr(module, "__spec__", None)
    if spec is None and module is None:
        try:
            spec = PathFinder.find_spec(top)
        except (ImportError, ValueError):
            return []
    search = getattr(module, "__path__", None) or getattr(spec, "submodule_search_locations", None)
    if search:
        return [Path(path) for path in search]
    file = getattr(module, "__file__", None) or getattr(spec, "origin", None)
    return [Path(file)] if file else []


def _read_module(top: str, places: list[Path]) -> tuple[bytes, frozenset[str], list[Mark]]:
    """Return a digest of a user's module, what its files import, and marks of them."""
    digest = sha256()
    imports: set[str] = set()
    marks = []
    for place in places:
        found, contents = _read_place(top, place)
        marks.append(found)
        for name, content in contents:
            code = content
            if name.endswith(".py"):
                code, more = _compile(content)
                imports |= more
            digest.update(token(name.encode("utf-8", "surrogateescape"), code))
    return digest.digest(), frozenset(imports), marks


def _read_place(top: str, place: Path) -> tuple[Mark, list[tuple[str, bytes]]]:
    """Return a mark of the file or the directory of a module, and the contents of its files."""
    place = place.absolute()
    text, is_young = stamp(place)
    contents = []
    for number, (name, path) in enumerate(code_files(place)):
        if number >= MAX_FILES:
            raise UnknownOriginError(f"the package {top} has more than {MAX_FILES} files")
        try:
            contents.append((name, path.read_bytes()))
        except OSError as error:
            raise UnknownOriginError(f"{path} cannot be read ({error.strerror})") from error
    is_package = place.is_dir()
    found = digest_of(contents) if is_package else sha256(contents[0][1]).hexdigest()
    return Mark(str(place), found, text, is_young), contents


def _compile(source: bytes) -> tuple[bytes, set[str]]:
    """Return the bytecode of a source file, or its bytes where it is none, and what it imports."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an import has shown them
            tree = ast.parse(source)
            for node in ast.walk(tree):
                if "lineno" in node._attributes:  # classes keep theirs
                    vars(node).update(_NOWHERE)
            code = compile(tree, "", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return source, set()
    return encode_code(code), set(_imports(tree))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]
