"""What a file of patterns leaves out: ``.mlmpignore``, written as one writes a ``.gitignore``.

A line is a pattern; ``#`` begins a comment, ``!`` brings back what an earlier line left out, ``/`` at the end means
folders only, ``/`` before that ties the pattern to the place of the file. ``*`` and ``?`` stand for characters of one
name, ``**`` for any number of folders. The last line that fits decides; what is in a folder that is left out is not
looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Rule:
    fits: re.Pattern[str]
    back: bool
    folders: bool
    tied: bool


class Patterns:
    """The lines of such a file. :raises ValueError: a line is no pattern; it is named."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._rules = [rule for number, line in enumerate(lines, 1) if (rule := _rule(line, number)) is not None]

    def leave_out(self, path: str, *, folder: bool) -> bool:
        """Whether ``path``, with slashes and relative to the place of the file, is left out."""
        name = path.rpartition("/")[2]
        for rule in reversed(self._rules):
            if (folder or not rule.folders) and rule.fits.fullmatch(path if rule.tied else name):
                return not rule.back
        return False


def _rule(line: str, number: int) -> _Rule | None:
    text = line.strip()
    if not text or text.startswith("#"):
        return None
    back = text.startswith("!")
    text = text.removeprefix("!").removeprefix("\\")
    folders = text.endswith("/")
    text = text.rstrip("/")
    tied = "/" in text
    try:
        return _Rule(re.compile(_expression(text.lstrip("/")), re.DOTALL), back, folders, tied)
    except re.error as error:
        raise ValueError(f"line {number}: {line.strip()[:60]!r} is not a pattern ({error})") from None


_PART = re.compile(
    r"(?P<any>\*\*/)|(?P<rest>/\*\*$)|(?P<stars>\*+)|(?P<one>\?)|(?P<set>\[!?\]?[^\]/]*\])|(?P<is>.)", re.DOTALL
)
_MEANS = {"any": "(?:[^/]+/)*", "rest": "/.+", "stars": "[^/]*", "one": "[^/]"}


def _expression(text: str) -> str:
    """A pattern as a regular expression over the whole path or name."""
    parts = []
    for found in _PART.finditer(text):
        kind, said = str(found.lastgroup), found.group()
        if kind == "set":
            inner = re.sub(r"[\[\\&~|]", r"\\\g<0>", said[1:-1])
            parts.append(f"[^/{inner[1:]}]" if inner.startswith("!") else f"[{inner}]")
        else:
            parts.append(_MEANS.get(kind) or re.escape(said))
    return "".join(parts)
