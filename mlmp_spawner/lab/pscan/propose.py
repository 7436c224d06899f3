"""A template for paths that nobody described: ``lr=0.1/bs32/seed_3.png`` and its like give ``lr={lr}/bs{bs}/…``.

Each folder's name is cut into words, numbers and ``key=value``, or coarser where most have no such form in
common. What is always the same is literal, what varies is a parameter.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mlmp_spawner.lab.pscan.pattern import LONGEST, MOST_AXES

MOST_LOOKED_AT = 8_000
"""Files; where there are more, so many of them, by chance but the same ones each time."""
_COMMON = 0.95
"""Share of the names that have to have a form for it to be the form."""
_MOST_UNNAMED = 2
"""Parameters without a name in one folder's name; a date of six numbers wants to be one."""

_REPEATED = 1.1
"""Runs for each combination of parameters, on average, up to which the name of a run is no parameter."""

_CHUNKS = re.compile(r"([_,&;\s]+)")
_TOKENS = re.compile(
    r"(?P<n>[0-9]{4}-[0-9]{2}-[0-9]{2}|(?:(?<![A-Za-z0-9])[+-])?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<w>[A-Za-z]+)|(?P<s>.)",
    re.DOTALL,
)
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,9}\Z")
_VARYING = frozenset("nvwt")

Token = tuple[str, str]
"""``k``: a key and its ``=``; ``v``: its value; ``n``: a number; ``w``: a word; ``t``: any text; ``s``: what parts."""


@dataclass(frozen=True)
class Piece:
    """A piece of a template. ``values``: of each file; all the same where it is literal."""

    values: tuple[str, ...]
    name: str = ""
    named: bool = False
    varies: bool = False


def propose(files: Sequence[str]) -> str:
    """A template for most of these paths; ``{file}`` where they have nothing in common."""
    few = len(files) <= MOST_LOOKED_AT
    sample = files if few else random.Random(0).sample(files, MOST_LOOKED_AT)  # noqa: S311 -- no secret
    paths = [path.split("/") for path in sample if not set(path) & set("{}*") and path.isprintable()]
    if not paths:
        return "{file}"
    depth = Counter(map(len, paths)).most_common(1)[0][0]
    paths = [names for names in paths if len(names) == depth]
    parts: list[list[Piece]] = []
    for at in range(depth):
        kept, part = _part([names[at] for names in paths], last=at == depth - 1)
        paths = [paths[n] for n in kept]
        parts = [[_keep(piece, kept) for piece in earlier] for earlier in parts] + [part]
    text = _written(_named(_needed(parts)))
    return text if len(text) <= LONGEST and "{" in text else "/".join(["*"] * (depth - 1) + ["{file}"])


def _keep(piece: Piece, kept: Sequence[int]) -> Piece:
    return replace(piece, values=tuple(piece.values[n] for n in kept))


def _part(names: Sequence[str], *, last: bool) -> tuple[list[int], list[Piece]]:
    """Which of the names have the form of most, and its pieces."""
    if last:
        return _last_part(names)
    for cut in (_words, _chunks):
        kept, pieces = _common(names, cut)
        if len(kept) >= _COMMON * len(names) and _few_unnamed(pieces):
            return kept, pieces
    return _whole(names, "folder")


def _last_part(names: Sequence[str]) -> tuple[list[int], list[Piece]]:
    """Files have endings; several kinds of files that lie together are told by their whole names."""
    endings = [match.group() if (match := _ENDING.search(name)) else "" for name in names]
    stems = [name[: len(name) - len(end)] for name, end in zip(names, endings, strict=True)]
    kept, pieces = _common(stems, _words)
    uniform = len(kept) >= _COMMON * len(names) and _few_unnamed(pieces)
    words_vary = any(piece.varies and not piece.named for piece in pieces)
    if not uniform or (len(set(endings)) > 1 and (words_vary or not any(piece.varies for piece in pieces))):
        return _whole(names, "file")
    found = [endings[n] for n in kept]
    if len(set(found)) == 1:
        return kept, [*pieces, Piece(tuple(found))]
    if not all(found):
        return _whole(names, "file")
    return kept, [*pieces, Piece((".",) * len(found)), Piece(tuple(end[1:] for end in found), "ext", True, True)]


def _whole(names: Sequence[str], name: str) -> tuple[list[int], list[Piece]]:
    varies = len(set(names)) > 1
    return list(range(len(names))), [Piece(tuple(names), name, name == "file", varies)]


def _words(name: str) -> list[Token]:
    found: list[Token] = []
    for n, chunk in enumerate(_CHUNKS.split(name)):
        if n % 2:
            found.append(("s", chunk))
        elif "=" in chunk:
            key, value = chunk.split("=", 1)
            found += [("k", key + "="), ("v", value)]
        else:
            found += [(match.lastgroup or "s", match.group()) for match in _TOKENS.finditer(chunk)]
    return found


def _chunks(name: str) -> list[Token]:
    found: list[Token] = []
    for chunk in re.split("(_+)", name):
        if "=" in chunk:
            key, value = chunk.split("=", 1)
            found += [("k", key + "="), ("v", value)]
        elif chunk:
            found.append(("s" if chunk[0] == "_" else "t", chunk))
    return found


def _common(names: Sequence[str], cut: Callable[[str], list[Token]]) -> tuple[list[int], list[Piece]]:
    """The names of the commonest form, and the pieces of that."""
    tokens = {name: cut(name) for name in set(names)}
    forms = {
        name: tuple((kind, "" if kind in _VARYING else text) for kind, text in found) for name, found in tokens.items()
    }
    form, _ = Counter(forms[name] for name in names).most_common(1)[0]
    kept = [n for n, name in enumerate(names) if forms[name] == form]
    columns = list(zip(*([text for _, text in tokens[names[n]]] for n in kept), strict=True))
    varies = [len(set(values)) > 1 for values in columns]
    pieces: list[Piece] = []
    for at, values in enumerate(columns):
        if varies[at] and pieces and pieces[-1].varies:  # nothing parts them: resnet50
            joined = tuple(a + b for a, b in zip(pieces[-1].values, values, strict=True))
            pieces[-1] = replace(pieces[-1], values=joined)
            continue
        name = _name_before(form, columns, varies, at) if varies[at] else ""
        pieces.append(Piece(values, name, bool(name), varies[at]))
    return kept, pieces


def _name_before(
    form: Sequence[tuple[str, str]], columns: Sequence[Sequence[str]], varies: Sequence[bool], at: int
) -> str:
    """The key before a value, or the word before a number; empty where there is none."""
    if form[at][0] == "v":
        name, at = columns[at - 1][0].rstrip("="), at - 1
        while at >= 2 and columns[at - 1][0] == "_" and form[at - 2][0] == "w" and not varies[at - 2]:
            name, at = f"{columns[at - 2][0]}_{name}", at - 2
        return name.rsplit(".", 1)[-1]
    before = at - 1
    if before >= 1 and form[before][0] == "s" and len(set(columns[before])) == 1:
        before -= 1
    if form[at][0] in "nt" and before >= 0 and form[before][0] in "wt" and not varies[before]:
        return columns[before][0]
    return ""


def _few_unnamed(pieces: Sequence[Piece]) -> bool:
    return sum(piece.varies and not piece.named for piece in pieces) <= _MOST_UNNAMED


def _needed(parts: list[list[Piece]]) -> list[list[Piece]]:
    """Without what says nothing: a value told twice, and a name for the run that all else tells already."""
    varying = [(a, b) for a, part in enumerate(parts) for b, piece in enumerate(part) if piece.varies]
    told: set[tuple[str, ...]] = set()
    for a, b in varying:
        piece = parts[a][b]
        if piece.values in told:
            parts[a][b] = replace(piece, varies=False, name="*")
        told.add(piece.values)
    for a, b in varying:
        piece = parts[a][b]
        rest = [parts[c][d].values for c, d in varying if (c, d) != (a, b) and parts[c][d].varies]
        if piece.varies and not piece.named and rest:
            others = len(set(zip(*rest, strict=True)))
            if len(set(zip(*rest, piece.values, strict=True))) <= _REPEATED * others:
                parts[a][b] = replace(piece, varies=False, name="*")
    for a, b in [place for place in varying if parts[place[0]][place[1]].varies][MOST_AXES:]:
        parts[a][b] = replace(parts[a][b], varies=False, name="*")
    return parts


def _named(parts: list[list[Piece]]) -> list[list[Piece]]:
    """Each parameter with a name that no other one has."""
    taken: set[str] = set()
    for part in parts:
        for n, piece in enumerate(part):
            if piece.varies:
                stem = re.sub(r"\W+", "_", piece.name, flags=re.ASCII).strip("_")[:36] or "part"
                stem = f"p{stem}" if stem[0].isdigit() else stem
                name = next(name for k in range(1, 100) if (name := stem + (str(k) if k > 1 else "")) not in taken)
                taken.add(name)
                part[n] = replace(piece, name=name)
    return parts


def _written(parts: Sequence[Sequence[Piece]]) -> str:
    def said(piece: Piece) -> str:
        if piece.varies:
            return f"{{{piece.name}}}"
        return "*" if piece.name == "*" else piece.values[0]

    return "/".join("".join(map(said, part)) for part in parts)
