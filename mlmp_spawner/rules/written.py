"""What somebody wrote as YAML or JSON, such as a job or a course: read with every mistake named at once, by line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from mlmp_spawner.errors import Invalid
from mlmp_spawner.rules.mistakes import Mistake, shown
from mlmp_spawner.rules.yaml_lines import Place, YamlPath, read_yaml
from mlmp_spawner.units import format_size

DEEPEST = 50
MOST_MISTAKES = 20
"""How many are told."""


def read(
    source: str | Mapping[str, Any],
    what: str,
    check: Callable[[Mapping[str, Any]], Iterable[Mistake]],
    largest: int,
    too_large: str = "",
) -> Mapping[str, Any]:
    """The keys and values in YAML (or JSON) text, or in what JSON was read to.

    :param what: it is: "manifest". :param check: finds what is wrong with what can be kept as JSON.
    :param largest: bytes that it may have. :param too_large: a sentence for more.
    :raises Invalid: with every mistake, each with its line where it came as text.
    """
    places: Mapping[YamlPath, Place] = {}
    if isinstance(source, str):
        _check_size(len(source.encode("utf-8", "surrogatepass")), what, largest, too_large)
        document = read_yaml("", source)
        if document.problems:
            raise _invalid(what, [(place.line, Mistake((), message)) for place, message in document.problems])
        source, places = document.data, document.places
    if not isinstance(source, Mapping):
        raise Invalid.field(what, f"must be keys with their values, not {shown(source)}")
    found = list(_unwritable(source, what, largest, too_large)) or list(check(source))
    if found:
        raise _invalid(what, [(_line(places, mistake.path), mistake) for mistake in found])
    return source


def refusal(what: str, found: Iterable[Mistake]) -> Invalid:
    """Mistakes as an error, where there are no lines to name."""
    return _invalid(what, [(0, mistake) for mistake in found])


def _unwritable(data: Mapping[str, Any], what: str, largest: int, too_large: str) -> Iterator[Mistake]:
    """What can't be kept as JSON, or not at all."""
    try:
        size = len(json.dumps(data, ensure_ascii=False, allow_nan=False, default=str).encode())
    except UnicodeEncodeError:
        yield Mistake((), "it has half characters (surrogates)")
    except (ValueError, RecursionError):
        yield Mistake((), "it has a number that is none (NaN, Infinity), or is nested too deeply")
    else:
        _check_size(size, what, largest, too_large)
        yield from _with_zero(data, ())


def _with_zero(value: object, path: YamlPath) -> Iterator[Mistake]:
    if len(path) > DEEPEST:
        yield Mistake(path[:1], "is nested too deeply")
        return
    if isinstance(value, str) and "\x00" in value:
        yield Mistake(path, "must have no zero bytes")
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    for key, item in items:
        yield from _with_zero(key, path)
        yield from _with_zero(item, (*path, key))


def _check_size(size: int, what: str, largest: int, too_large: str) -> None:
    if size > largest:
        said = f"has {format_size(size)}; at most {format_size(largest)}" + (f". {too_large}" if too_large else "")
        raise Invalid.field(what, said)


def _line(places: Mapping[YamlPath, Place], path: YamlPath) -> int:
    """The line of what is at ``path``, or of the nearest thing around it; 0 where there are no lines."""
    around = next((path[:n] for n in range(len(path), -1, -1) if path[:n] in places), None)
    return places[around].line if around is not None else 0


def _invalid(what: str, found: Iterable[tuple[int, Mistake]]) -> Invalid:
    errors: list[dict[str, Any]] = []
    sentences: dict[str, None] = {}
    for line, mistake in sorted(found, key=lambda one: one[0]):
        field = _plain(".".join(str(part) for part in mistake.path))
        message = _plain(mistake.message)
        sentence = (f"line {line}: " if line else "") + (f"{field}: " if field else "") + message
        if sentence not in sentences:
            sentences[sentence] = None
            errors.append({"field": field or what, "message": message} | ({"line": line} if line else {}))
    more = len(errors) - MOST_MISTAKES
    told = "; ".join(list(sentences)[:MOST_MISTAKES]) + (f"; and {more} more" if more > 0 else "")
    return Invalid(f"The {what}: {told}", errors=errors[:MOST_MISTAKES])


def _plain(text: str) -> str:
    """On one line, and not longer than that."""
    text = text if len(text) <= 500 else text[:500] + "…"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
