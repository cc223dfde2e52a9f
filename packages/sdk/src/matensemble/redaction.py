"""What looks like a secret by its name, and how it is shown to people.

Owns the one pattern that headers, metadata and previews are redacted by. It knows names only: a
secret that stands under a harmless name is shown, so secrets belong into `env`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

REDACTED = "<redacted>"

_SECRET_NAME = re.compile(
    r"secret|token|passw|passphrase|api[_-]?key|credential|private[_-]?key|access[_-]?key|auth",
    re.I,
)
# "name=", "name: ", '"name": '; "--name " inside a longer text; "//user:" before "password@host".
# Possessive, so that no text takes longer than it is long.
_NAMED = re.compile(
    r"(?<![\w.-])(?:([\w.-]++)['\"]?\s*+[=:]\s*+|(--?[\w.-]++)\s++)|//[^/\s:@]*+:(?=[^/\s@]++@)"
)
_OPTION = re.compile(r"--?[\w.-]+")


def is_secret_name(name: object) -> bool:
    """Return whether what stands under this name should not be shown."""
    return isinstance(name, str) and _SECRET_NAME.search(name) is not None


def redact_text(text: str) -> str:
    """Return a text without what follows the first name in it that looks like a secret's.

    A password in an address (``//user:password@host``) counts as named.
    """
    for found in _NAMED.finditer(text):
        name = found[1] or found[2]
        if (name is None or is_secret_name(name)) and found.end() < len(text):
            return text[: found.end()] + REDACTED
    return text


def redact_command(elements: Iterable[object]) -> list[object]:
    """Return the elements of a command for people: ``--token <redacted>``, ``KEY=<redacted>``.

    Elements that are no text are kept.
    """
    elements = list(elements)
    words = "\0".join([element for element in elements if isinstance(element, str)])
    if "//" not in words and _SECRET_NAME.search(words) is None:
        return elements  # as nearly always, and told by one look instead of two for each element
    shown: list[object] = []
    hide_next = False
    for element in elements:
        if not isinstance(element, str):
            shown.append(element)
            hide_next = False
            continue
        shown.append(REDACTED if hide_next else redact_text(element))
        hide_next = _OPTION.fullmatch(element) is not None and is_secret_name(element)
    return shown
