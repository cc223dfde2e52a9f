"""What an imported module is, for content keys: which version, or which files.

Owns the difference between modules that are installed (their distribution's version stands for
them) and a user's own (the bytecode of all their files does, with that of the modules that these
import in turn). A user's package counts as a whole: what a worker imports of it, and what its code
then reaches, cannot be told from outside. Imports nothing that was not imported. Called by
`matensemble.canonical`.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from importlib.metadata import packages_distributions, version
from pathlib import Path

from matensemble.plain_value import encode_code, token

MAX_FILES = 10_000
"""Of a user's package; one with more is surely no package."""

_NOWHERE = {"lineno": 1, "end_lineno": 1, "col_offset": 0, "end_col_offset": 0}


class UnknownOriginError(Exception):
    """What a module is made of cannot be known; the message says why."""


class Origins:
    """What top-level modules are made of, each looked at once.

    Files that change afterwards are not seen: make one for each pipeline that is saved.
    """

    def __init__(self) -> None:
        self._origins: dict[str, bytes] = {}
        self._versions: dict[str, str | None] = {}
        self._distributions: Mapping[str, list[str]] | None = None
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
            return token(b"installed", f"{top} {known}".encode())
        digests: dict[str, bytes] = {}
        waiting = {top}
        while waiting:
            name = waiting.pop()
            if (known := self.installed_version(name)) is not None:
                digests[name] = known.encode()
                continue
            if name not in self._files:
                self._files[name] = _read_module(name)
            digests[name], imports = self._files[name]
            waiting |= imports - digests.keys()
        return token(b"files", b"".join(token(n.encode(), digests[n]) for n in sorted(digests)))

    def installed_version(self, top: str) -> str | None:
        """Return the version of an installed top-level module; None for a user's own."""
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
        if self._distributions is None:
            self._distributions = packages_distributions()
        names = sorted(set(self._distributions.get(top, ())))
        # Without a distribution it was put there by hand.
        return ", ".join(f"{name} {version(name)}" for name in names) or None


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


def _read_module(top: str) -> tuple[bytes, frozenset[str]]:
    """Return a digest of the files of a user's module, and which top-level modules they import."""
    digest = sha256()
    imports: set[str] = set()
    places = _places(top)
    if not places and top in sys.modules:
        raise UnknownOriginError(f"the code of the module {top} is in no file")
    for number, (name, path) in enumerate(_files(places)):
        if number >= MAX_FILES:
            raise UnknownOriginError(f"the package {top} has more than {MAX_FILES} files")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UnknownOriginError(f"{path} cannot be read ({error.strerror})") from error
        if path.suffix == ".py":
            content, found = _compile(content)
            imports |= found
        digest.update(token(name.encode("utf-8", "surrogateescape"), content))
    return digest.digest(), frozenset(imports)


def _files(places: list[Path]) -> Iterator[tuple[str, Path]]:
    suffixes = (".py", *EXTENSION_SUFFIXES)
    for place in places:
        if not place.is_dir():
            yield place.name, place
            continue
        for path in sorted(place.rglob("*")):
            if path.name.endswith(suffixes):
                yield str(path.relative_to(place)), path


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
