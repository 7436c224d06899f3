"""What tells parameters from a path: a template such as ``lr={lr}/bs={bs}/*.png``, or a regular expression.

Both go through RE2, whose time is linear in the path whatever was written, so that no expression can stop the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Protocol

import re2

from mlmp_spawner.errors import Invalid

LONGEST = 1000
"""Characters of a pattern."""
MOST_AXES = 12
_MEMORY = 8 << 20
_LARGEST_PROGRAM = 20_000
_PIECE = re.compile(r"\{([^{}]*)\}|(\*+)|([{}])")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}\Z")

Values = tuple[str, ...]


class Pattern(Protocol):
    """``names``: the parameters, in the order in which they stand in the pattern."""

    names: tuple[str, ...]

    def match(self, path: str) -> Values | None:
        """The value of each parameter in a path relative to the root; None where the path is another one."""


def compile_pattern(text: str) -> Pattern:
    """The pattern that was written: an expression where it has a named group, else a template.

    :raises Invalid: it is none.
    """
    if not text:
        raise _wrong("is missing: a template such as lr={lr}/{file}, or an expression with named groups")
    if len(text) > LONGEST:
        raise _wrong(f"has {len(text)} characters; at most {LONGEST}")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise _wrong("has a character that is none")
    return Expression(text) if "(?P<" in text or "(?<" in text else Template(text)


class Expression:
    """A regular expression with named groups, for whole paths."""

    def __init__(self, text: str) -> None:
        self._compiled = _compile(text)
        groups = sorted((index, name.decode()) for name, index in self._compiled.groupindex.items())
        self.names = tuple(name for _, name in groups)
        self._groups = [index for index, _ in groups]
        _check_names(self.names)

    def match(self, path: str) -> Values | None:
        """As :meth:`Pattern.match`; a group that took no part is empty."""
        try:
            found = self._compiled.fullmatch(path.encode())
        except UnicodeEncodeError:  # bytes that are no text
            return None
        if found is None:
            return None
        groups = found.groups(default=b"")
        return tuple(groups[index - 1].decode(errors="replace") for index in self._groups)


class Template:
    """Literal text, with ``{name}`` for a parameter and ``*`` for anything; neither goes beyond its folder.

    Folders and files are matched by themselves, and what was found is kept: there are fewer folders than files, and
    files in different ones often have the same names.
    """

    def __init__(self, text: str) -> None:
        parts = [_part(part) for part in text.strip("/").split("/")]
        self.names = tuple(name for names, _ in parts for name in names)
        _check_names(self.names)
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise _wrong(f"has {{{twice}}} twice; each parameter has a name of its own")
        self._parts = [_compile(expression) for _, expression in parts]
        self._folders: dict[str, Values | None] = {}
        self._names: dict[str, Values | None] = {}

    def match(self, path: str) -> Values | None:
        """As :meth:`Pattern.match`."""
        folder, _, name = path.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = self._folder(folder)
        if name not in self._names:
            self._names[name] = _groups(self._parts[-1], name)
        before, last = self._folders[folder], self._names[name]
        return None if before is None or last is None else before + last

    def _folder(self, folder: str) -> Values | None:
        names = folder.split("/") if folder else []
        if len(names) != len(self._parts) - 1:
            return None
        found: Values = ()
        for part, name in zip(self._parts, names, strict=False):
            values = _groups(part, name)
            if values is None:
                return None
            found += values
        return found


def _groups(compiled: Any, name: str) -> Values | None:
    try:
        found = compiled.fullmatch(name.encode())
    except UnicodeEncodeError:  # bytes that are no text
        return None
    return None if found is None else tuple(group.decode() for group in found.groups())


def _part(part: str) -> tuple[list[str], str]:
    """The names in a folder's part of a template, and its expression."""
    names: list[str] = []
    expression, end = "", 0
    for piece in _PIECE.finditer(part):
        expression += literal(part[end : piece.start()])
        name, stars, brace = piece.groups()
        if brace or (stars is None and not _NAME.match(name)):
            raise _wrong(f"has {piece.group()!r} where a parameter would be {{lr}}: letters, digits and _")
        if stars is None:
            names.append(name)
        expression += "[^/]*" if stars else "([^/]+)"
        end = piece.end()
    return names, expression + literal(part[end:])


def literal(text: str) -> str:
    """The expression for exactly this text."""
    return "".join(char if char.isalnum() or char in "_/" else f"\\x{{{ord(char):x}}}" for char in text)


def _compile(expression: str) -> Any:
    options = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False
    try:
        compiled = re2.compile(expression.encode(), options)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        said = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        raise _wrong(f"is none of RE2: {said}; it knows no lookaround and no backreferences") from None
    if compiled.programsize > _LARGEST_PROGRAM:
        raise _wrong("is too large: less is repeated in a smaller one")
    return compiled


def _check_names(names: Iterable[str]) -> None:
    found = list(names)
    if not found:
        raise _wrong("names no parameter; {lr} does, or (?P<lr>[^/]+) in an expression")
    if len(found) > MOST_AXES:
        raise _wrong(f"names {len(found)} parameters; at most {MOST_AXES}")
    if strange := [name for name in found if not _NAME.match(name)]:
        raise _wrong(f"names {strange[0]!r}; a name has up to 40 letters, digits and _")


def _wrong(message: str) -> Invalid:
    return Invalid.field("pattern", message)
